//! The command line.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

fn said(arguments: &[&str], directory: &Path) -> String {
    let output = crate::support::run(arguments, directory);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_started_configuration_is_good_and_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    said(&["init"], directory.path());
    assert!(said(&["check"], directory.path()).contains("tollgate.yaml: ok"));
    let again = crate::support::run(&["init"], directory.path());
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("left as it is"));
    assert_eq!(
        said(&["init", "-"], directory.path()),
        std::fs::read_to_string(directory.path().join("tollgate.yaml")).unwrap()
    );
}

#[test]
fn without_a_file_it_says_how_to_get_one() {
    let directory = tempfile::tempdir().unwrap();
    let output = crate::support::run(&["run"], directory.path());
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("tollgate init") && said.contains("run -c FILE"),
        "{said}"
    );
    let missing = crate::support::run(&["check", "-c", "nowhere.yaml"], directory.path());
    assert_eq!(missing.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nowhere.yaml can't be read"));
}

#[test]
fn a_bad_configuration_is_never_served() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("t.yaml"),
        "services: { a: { routes: [/a] } }\n",
    )
    .unwrap();
    let output = crate::support::run(&["run", "-c", "t.yaml"], directory.path());
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no backend"));
}

const EXPLAINED: &str = r#"
rate_limit: { limit: 600, window: 1m }
auth_providers:
  main: { jwt: { algorithms: [HS256], keys: { secret: "${SECRET:-0123456789abcdef0123456789abcdef}" } } }
services:
  orders:
    base_url: http://127.0.0.1:9001/base
    auth: main
    routes:
      - path: /orders/{id}
        methods: [GET]
        rewrite: /v2/{id}
      - path: /orders/{id}
        methods: [POST]
        rate_limit:
          limit: 5
          window: 1s      # a burst of writes
      - prefix: /orders
        auth: off
"#;

#[test]
fn explain_tells_the_route_the_misses_and_the_lines() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("t.yaml"), EXPLAINED).unwrap();
    let get = said(
        &["explain", "-c", "t.yaml", "http://shop/orders/7?x=1"],
        directory.path(),
    );
    for expected in [
        "route     /orders/{id}  t.yaml:10:9",
        "upstream  http://127.0.0.1:9001/base/v2/7?x=1",
        "limit: 600, window: 1m",
        "top level  t.yaml:2:13",
        "service  t.yaml:8:11",
        "t.yaml:13:9\n    the method is another",
        "/orders of orders",
        "another route goes before it",
    ] {
        assert!(get.contains(expected), "{expected}: {get}");
    }
    let post = said(
        &["explain", "-c", "t.yaml", "-X", "POST", "/orders/7"],
        directory.path(),
    );
    assert!(
        post.contains("limit: 5 · window: 1s") && post.contains("route  t.yaml:15:9"),
        "{post}"
    );
    let list = said(&["explain", "-c", "t.yaml", "/orders"], directory.path());
    assert!(list.contains("auth        off"), "{list}");
    let none = said(&["explain", "-c", "t.yaml", "/order"], directory.path());
    assert!(
        none.contains("404") && none.contains("the path is another"),
        "{none}"
    );
    let deleted = said(
        &["explain", "-c", "t.yaml", "/a/../orders/%37"],
        directory.path(),
    );
    assert!(deleted.contains("/orders/7 (made canonical)"), "{deleted}");
}

/// Runs the program to its end with something on its standard input.
fn run_with(input: &[u8], arguments: &[&str]) -> Output {
    let mut child = crate::support::binary()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_new_key_is_never_the_same_and_has_the_digest_that_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let made = || said(&["hash-key"], directory.path());
    let printed = made();
    let (key, digest) = printed
        .strip_prefix("key:    ")
        .and_then(|rest| rest.split_once("\ndigest: "))
        .unwrap_or_else(|| panic!("{printed}"));
    assert!(key.starts_with("tg_") && key.len() == 46, "{key}");
    assert_ne!(printed, made());
    for end in ["", "\n", "\r\n"] {
        let output = run_with(format!("{key}{end}").as_bytes(), &["hash-key", "--stdin"]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), digest);
    }
    // What `sha256sum` says.
    let output = run_with(b"abc\n", &["hash-key", "--stdin"]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"
    );
}

#[test]
fn a_password_becomes_a_line_for_a_file_of_users() {
    let directory = tempfile::tempdir().unwrap();
    let output = run_with(b"wonderland\n", &["hash-key", "--password", "alice"]);
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(
        line.starts_with("alice:$argon2id$v=19$m=19456,t=2,p=1$"),
        "{line}"
    );
    std::fs::write(directory.path().join("htpasswd"), line).unwrap();
    std::fs::write(
        directory.path().join("t.yaml"),
        "auth_providers: { m: { basic: { users: { file: htpasswd } } } }\nservices: { a: { base_url: \"http://h\", auth: m, routes: [/a] } }\n",
    )
    .unwrap();
    said(&["check", "-c", "t.yaml"], directory.path());
}

#[test]
fn what_no_request_could_show_is_not_hashed() {
    for (input, arguments) in [
        (&b"two words\n"[..], &["hash-key", "--stdin"][..]),
        (b"", &["hash-key", "--stdin"]),
        (&[b'a'; 2000], &["hash-key", "--stdin"]),
        (b"\xff\n", &["hash-key", "--stdin"]),
        (b"", &["hash-key", "--password", "alice"]),
        (b"tab\tbed\n", &["hash-key", "--password", "alice"]),
        (b"wonderland\n", &["hash-key", "--password", "a:b"]),
        (b"wonderland\n", &["hash-key", "--password", ""]),
    ] {
        let output = run_with(input, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        assert!(output.stderr.starts_with(b"tollgate: "), "{output:?}");
    }
}

#[test]
fn schema_completions_manual_and_version_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    let schema: serde_json::Value =
        serde_json::from_str(&said(&["schema"], directory.path())).unwrap();
    assert!(schema["properties"]["services"].is_object());
    let limits = &schema["$defs"]["ServerLimits"]["properties"];
    assert_eq!(limits["headers"]["default"], 100);
    assert!(limits["requests"].get("default").is_none());
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            said(&["completions", shell], directory.path()).contains("explain"),
            "{shell}"
        );
    }
    assert!(said(&["man"], directory.path()).contains(".TH tollgate"));
    let version = format!("tollgate {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(said(&["version"], directory.path()), version);
}

#[test]
fn ten_thousand_routes_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = String::from("services:\n");
    for service in 0..100 {
        config.push_str(&format!(
            "  s{service}:\n    base_url: http://10.0.0.1:{}\n    routes:\n",
            1000 + service
        ));
        for route in 0..100 {
            config.push_str(&format!("      - {{ path: \"/s{service}/r{route}/{{id}}\", methods: [GET], rate_limit: {{ limit: 5, window: 1m }} }}\n"));
        }
    }
    std::fs::write(directory.path().join("t.yaml"), config).unwrap();
    let said = said(&["check", "-c", "t.yaml"], directory.path());
    assert!(said.contains("ok (100 services, 10000 routes)"), "{said}");
}

#[tokio::test]
async fn the_status_is_told_in_words() {
    let refused = crate::support::Upstream::answering(|_| {
        hyper::Response::builder()
            .status(503)
            .body(bytes::Bytes::new())
            .unwrap()
    });
    let refused = refused.await;
    let gateway = crate::support::Gateway::start(&format!(
        "services: {{ orders: {{ base_url: \"http://{}\", routes: [/orders], retry: off,
          outlier_detection: off, circuit_breaker: {{ minimum_requests: 2 }} }} }}",
        refused.address
    ))
    .await;
    let status = async |arguments: &[&str]| {
        let (code, said, error) = gateway.command(arguments).await;
        assert_eq!(code, 0, "{error}");
        said
    };
    let said = status(&["status"]).await;
    let pid = gateway.pid();
    assert!(said.starts_with("Tollgate "), "{said}");
    assert!(
        said.contains(&format!("process {pid}: serving\n")),
        "{said}"
    );
    assert!(said.contains("number 1 since"), "{said}");
    assert!(
        !said.contains("impaired") && !said.contains("last reload"),
        "{said}"
    );
    for _ in 0..2 {
        gateway.get("/orders").send().await.assert_status(503);
    }
    gateway.edit("routes: [/orders]", "routes: [orders]");
    assert_eq!(gateway.command(&["reload"]).await.0, 78);
    let said = status(&["status"]).await;
    for expected in [
        "impaired       orders: circuit open\n",
        " refused by signal\n",
        "gateway.yaml:",
        "number 1 since",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&status(&["status", "--json"]).await).unwrap();
    assert_eq!(json["impaired"][0]["circuit"], "open");
    assert_eq!(json["last_reload"]["outcome"], "refused");
}
