//! Reloading the configuration while requests come.

use std::time::{Duration, Instant};

use crate::support::{Answer, Gateway, Request, Upstream};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Response};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// Not watched, so that each test says itself when it reloads.
const SERVER: &str = "server: { listen: $LISTEN, threads: 2, watch_files: false }\nadmin: { listen: $ADMIN, token: \"${TOKEN:-}\" }\n";

async fn gateway(rest: &str) -> Gateway {
    Gateway::start(&format!("{SERVER}{rest}")).await
}

async fn body(gateway: &Gateway, path: &str) -> String {
    gateway.get(path).send().await.assert_status(200).text()
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const ANSWERS: &str = "services: { a: { routes: [{ path: /a, respond: { body: one } }] } }\n";

#[tokio::test]
async fn reload_says_what_changed_route_by_route() {
    let gateway = gateway(
        "services:\n  a:\n    routes:\n      - { path: /a, respond: { body: one } }\n      - { path: /b, respond: { body: b } }\n",
    )
    .await;
    gateway.edit("body: one", "body: two");
    gateway.edit("path: /b", "path: /c");
    let expected = "+ /c of a\n- /b of a\n~ /a of a\n    respond: { body: one } → { body: two }\n";
    let (code, printed, said) = gateway.command(&["diff"]).await;
    assert_eq!(
        (code, printed),
        (
            0,
            format!("{expected}in force: configuration 1 (3 routes, 0 settings)\n")
        ),
        "{said}"
    );
    assert_eq!(body(&gateway, "/a").await, "one");
    let (code, printed, said) = gateway.command(&["reload"]).await;
    assert_eq!(
        (code, printed),
        (
            0,
            format!("{expected}reloaded: configuration 2 (3 routes, 0 settings)\n")
        ),
        "{said}"
    );
    assert_eq!(body(&gateway, "/a").await, "two");
    gateway.get("/b").send().await.assert_status(404);
    gateway.get("/c").send().await.assert_status(200);
}

#[tokio::test]
async fn two_files_are_compared_without_a_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let config = |body: &str| {
        format!("services: {{ a: {{ routes: [{{ path: /a, respond: {{ body: {body} }} }}] }} }}\n")
    };
    std::fs::write(folder.path().join("old.yaml"), config("one")).unwrap();
    std::fs::write(folder.path().join("new.yaml"), config("two")).unwrap();
    let output = crate::support::run(
        &["diff", "--against", "old.yaml", "-c", "new.yaml"],
        folder.path(),
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        printed,
        "~ /a of a\n    respond: { body: one } → { body: two }\ncompared: 1 route, 0 settings\n"
    );
}

#[tokio::test]
async fn a_broken_configuration_changes_nothing_and_says_every_reason() {
    let gateway = gateway(ANSWERS).await;
    gateway.edit("body: one }", "body: two, statsu: 3 }");
    gateway.edit("path: /a", "pth: /a");
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 78);
    for reason in [
        "unknown key `statsu`",
        "unknown key `pth`",
        "stays in force",
    ] {
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(gateway.process_log().contains(reason), "{reason}");
    }
    assert_eq!(body(&gateway, "/a").await, "one");
    let status = gateway.status().await;
    assert_eq!(status["generation"], 1);
    assert_eq!(status["last_reload"]["outcome"], "refused");
    let findings = status["last_reload"]["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(
        findings[0]["place"]
            .as_str()
            .unwrap()
            .starts_with("gateway.yaml:3:")
    );
    let metrics = gateway.admin("/metrics").await.text();
    for line in [
        "tollgate_config_last_reload_successful 0",
        "tollgate_config_reloads_total{outcome=\"refused\"} 1",
        "tollgate_config_generation 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    gateway.edit("pth: /a", "path: /a");
    gateway.edit(", statsu: 3", "");
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    assert_eq!(body(&gateway, "/a").await, "two");
    let metrics = gateway.admin("/metrics").await.text();
    assert!(
        metrics.contains("tollgate_config_last_reload_successful 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_file_that_is_empty_or_gone_takes_no_route_away() {
    let gateway = gateway(ANSWERS).await;
    std::fs::write(gateway.config_path(), "").unwrap();
    let (code, _, said) = gateway
        .command(&["reload", "--admin", &gateway.admin.to_string()])
        .await;
    assert_eq!(code, 78);
    assert!(said.contains("the file is empty"), "{said}");
    std::fs::remove_file(gateway.config_path()).unwrap();
    gateway.signal("HUP");
    until(async || gateway.status().await["reloads"] == 2).await;
    let status = gateway.status().await;
    let message = status["last_reload"]["findings"][0]["message"]
        .as_str()
        .unwrap();
    assert!(message.contains("gateway.yaml can't be read"), "{message}");
    assert_eq!(body(&gateway, "/a").await, "one");
}

#[tokio::test]
async fn counts_survive_unless_their_own_limit_changed() {
    let gateway = gateway(
        "rate_limit: { limit: 5, window: 1h }\nservices: { a: { routes: [{ path: /a, respond: { body: one } }] } }\n",
    )
    .await;
    let remaining = async || {
        let answer = gateway.get("/a").send().await;
        let field = answer.header("ratelimit").unwrap().to_owned();
        field.split(';').nth(1).unwrap().to_owned()
    };
    assert_eq!(remaining().await, "r=4");
    for round in 0..3 {
        gateway.edit("services:", "# a comment moves every line\nservices:");
        gateway.edit("body: one", "body: one.");
        assert_eq!(gateway.command(&["reload"]).await.0, 0);
        assert_eq!(remaining().await, format!("r={}", 3 - round));
    }
    gateway.edit("limit: 5,", "limit: 50,");
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    assert_eq!(remaining().await, "r=49");
}

#[tokio::test]
async fn a_request_in_flight_keeps_its_configuration_and_the_turn_goes_on() {
    let (release, released) = tokio::sync::watch::channel(false);
    let slow = Upstream::serving(move |_| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|is_released| *is_released).await;
            Response::new(Full::new(Bytes::from_static(b"slow")).boxed())
        }
    })
    .await;
    let (first, second) = (Upstream::echo().await, Upstream::echo().await);
    let gateway = gateway(&format!(
        "services:\n  slow: {{ base_url: \"http://{}\", routes: [/slow] }}\n  pair: {{ targets: [\"http://{}\", \"http://{}\"], routes: [/pair] }}\n",
        slow.address, first.address, second.address
    ))
    .await;
    let waiting = tokio::spawn(gateway.get("/slow").send());
    until(async || slow.connections() == 1).await;
    gateway.get("/pair").send().await.assert_status(200);
    gateway.edit("routes: [/slow]", "routes: [/other]");
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    gateway.get("/slow").send().await.assert_status(404);
    // One went to the first: the reload does not start over with it.
    gateway.get("/pair").send().await.assert_status(200);
    assert_eq!((first.seen().len(), second.seen().len()), (1, 1));
    // The connection to a backend whose section is the same is used on.
    for _ in 0..6 {
        gateway.get("/pair").send().await.assert_status(200);
    }
    assert_eq!((first.seen().len(), second.seen().len()), (4, 4));
    first.assert_connections(1, &gateway);
    release.send(true).unwrap();
    let answer = waiting.await.unwrap().assert_status(200);
    assert_eq!(answer.text(), "slow");
}

#[tokio::test]
async fn what_only_a_new_process_can_change_is_said_each_time() {
    let gateway = gateway(ANSWERS).await;
    gateway.edit("threads: 2", "threads: 1");
    gateway.edit("body: one", "body: two");
    for _ in 0..2 {
        let (code, printed, _) = gateway.command(&["reload"]).await;
        assert_eq!(code, 0);
        let line = "! server.threads changes only with `tollgate upgrade`";
        assert!(printed.contains(line), "{printed}");
    }
    assert_eq!(body(&gateway, "/a").await, "two");
    assert_eq!(
        gateway.status().await["needs_upgrade"],
        json!(["server.threads"])
    );
    assert!(
        gateway
            .process_log()
            .contains("only with `tollgate upgrade`: server.threads")
    );
    gateway.edit("threads: 1", "threads: 2");
    gateway.signal("HUP");
    until(async || gateway.status().await["needs_upgrade"] == json!([])).await;
}

async fn post(gateway: &Gateway, token: Option<&str>) -> Answer {
    let request = Request::new(gateway.admin, Method::POST, "/reload");
    match token {
        Some(token) => request.header("authorization", &format!("Bearer {token}")),
        None => request,
    }
    .send()
    .await
}

#[tokio::test]
async fn the_address_for_operators_reloads_for_those_who_know_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("{SERVER}{ANSWERS}");
    let gateway = Gateway::start_in(folder, &config, &[("TOKEN", "open sesame")]).await;
    post(&gateway, None)
        .await
        .assert_status(401)
        .assert_header("www-authenticate", "Bearer");
    post(&gateway, Some("open sesamE")).await.assert_status(401);
    post(&gateway, Some("open")).await.assert_status(401);
    gateway.edit("body: one", "body: two");
    let answer = post(&gateway, Some("open sesame"))
        .await
        .assert_status(200)
        .json();
    assert_eq!(answer["outcome"], "applied");
    assert_eq!(answer["changes"]["changed"][0]["route"], "/a");
    assert_eq!(body(&gateway, "/a").await, "two");
    gateway.edit("path: /a", "pth: /a");
    let answer = post(&gateway, Some("open sesame"))
        .await
        .assert_status(422)
        .json();
    assert_eq!(answer["findings"][0]["message"], "unknown key `pth`");
    let get = Request::new(gateway.admin, Method::GET, "/reload")
        .send()
        .await;
    get.assert_status(405).assert_header("allow", "POST");
}

#[tokio::test]
async fn without_a_token_nothing_is_changed_and_only_this_machine_reads() {
    let gateway = gateway(ANSWERS).await;
    let answer = post(&gateway, None).await.assert_status(403);
    assert!(answer.text().contains("admin.token"), "{answer:?}");
    post(&gateway, Some("")).await.assert_status(403);
    // A page that had its name lead here.
    let lured = Request::new(gateway.admin, Method::GET, "/status").header("host", "evil.example");
    lured.send().await.assert_status(403);
    let lured = Request::new(gateway.admin, Method::GET, "/healthz").header("host", "evil.example");
    lured.send().await.assert_status(200);
    assert_eq!(gateway.status().await["phase"], "serving");
}

#[tokio::test]
async fn changed_files_are_found_without_being_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let keys = |name: &str| {
        let key = base64::Engine::encode(
            &base64::engine::general_purpose::URL_SAFE_NO_PAD,
            secret(name),
        );
        json!({"keys": [{"kty": "oct", "kid": name, "alg": "HS256", "k": key}]}).to_string()
    };
    // As Kubernetes mounts a secret: a link through a link that is swapped.
    for name in ["one", "two"] {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::write(path(name).join("jwks.json"), keys(name)).unwrap();
    }
    std::os::unix::fs::symlink("one", path("data")).unwrap();
    std::os::unix::fs::symlink("data/jwks.json", path("jwks.json")).unwrap();
    let gateway = Gateway::start_in(
        folder,
        "auth_providers: { m: { jwt: { algorithms: [HS256], keys: { jwks: { file: jwks.json } } } } }\nservices: { a: { auth: m, routes: [{ path: /a, respond: { body: one } }] } }\n",
        &[],
    )
    .await;
    let status = async |name: &str| {
        let request = gateway
            .get("/a")
            .header("authorization", &format!("Bearer {}", token(name)));
        request.send().await.status.as_u16()
    };
    assert_eq!((status("one").await, status("two").await), (200, 401));
    let data = gateway.directory.path().join("data");
    let swap = gateway.directory.path().join("swap");
    std::os::unix::fs::symlink("two", &swap).unwrap();
    std::fs::rename(swap, data).unwrap();
    // The new key is accepted, and the old one no more although its token was remembered.
    until(async || status("two").await == 200).await;
    assert_eq!(status("one").await, 401);
    assert_eq!(gateway.status().await["last_reload"]["by"], "file_change");
    gateway.edit("body: one", "body: two");
    let authorization = format!("Bearer {}", token("two"));
    until(async || {
        let request = gateway.get("/a").header("authorization", &authorization);
        request.send().await.text() == "two"
    })
    .await;
    // A broken file is reported once, and mended without being told.
    gateway.edit("path: /a", "pth: /a");
    until(async || gateway.status().await["last_reload"]["outcome"] == "refused").await;
    let reloads = gateway.status().await["reloads"].clone();
    gateway.edit("pth: /a", "path: /a");
    until(async || gateway.status().await["last_reload"]["outcome"] == "applied").await;
    assert_eq!(
        gateway.status().await["reloads"],
        json!(reloads.as_u64().unwrap() + 1)
    );
}

fn secret(name: &str) -> String {
    format!("{name}-0123456789abcdef0123456789abcdef")
}

fn token(name: &str) -> String {
    let header = Header {
        kid: Some(name.to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let claims: Value = json!({"exp": 4_000_000_000_u64, "sub": "alice"});
    encode(
        &header,
        &claims,
        &EncodingKey::from_secret(secret(name).as_bytes()),
    )
    .unwrap()
}

#[tokio::test]
async fn requests_never_see_half_a_configuration() {
    // Two routes that always say the same: a request that saw one old and one new would differ.
    let gateway = gateway(
        "services: { a: { routes: [{ path: /a, respond: { body: v0 } }] }, b: { routes: [{ path: /b, respond: { body: v0 } }] } }\n",
    )
    .await;
    let address = gateway.address;
    let (done, is_done) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let is_done = is_done.clone();
            tokio::spawn(async move {
                let mut client = crate::support::Client::connect(address, None).await;
                let mut count = 0_u32;
                while !*is_done.borrow() {
                    let before = version(&client.get("/a").await.assert_status(200));
                    let after = version(&client.get("/b").await.assert_status(200));
                    assert!(after >= before, "{after} after {before}");
                    count += 1;
                }
                count
            })
        })
        .collect();
    for generation in 1..40 {
        gateway.edit(&format!("v{}", generation - 1), &format!("v{generation}"));
        let before = gateway.status().await["reloads"].as_u64();
        gateway.signal("HUP");
        until(async || gateway.status().await["reloads"].as_u64() > before).await;
    }
    done.send(true).unwrap();
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    assert_eq!(gateway.status().await["generation"], 40);
}

fn version(answer: &Answer) -> u32 {
    answer.text().trim_start_matches('v').parse().unwrap()
}
