//! Runs every example of README.md and docs/: each `yaml` block is a configuration that must be good,
//! and the commands of the `console` blocks behind it must print what is shown (`…` for anything).
//!
//! Commands run beside the configuration, as `tollgate.yaml`, with a gateway serving it and a backend
//! that answers with what it was asked. It is an identity provider, too; a token of its is in `$TOKEN`.
//! Ports that the examples name stand for those that are given.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use serde_json::json;
use support::{Authority, Database, Gateway, Pebble, Redis, Seen, Signer, Upstream, free_port};

#[derive(Debug)]
enum Block {
    Yaml(String),
    Console(String),
}

/// The blocks of a page, with the number of their first line.
fn blocks(text: &str) -> Vec<(usize, Block)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let kind = match line.strip_prefix("```") {
            Some(kind @ ("yaml" | "console")) => kind,
            // Other blocks are skipped as a whole, whatever they hold.
            Some(_) => "",
            None => continue,
        };
        let body: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| !line.starts_with("```"))
            .collect();
        let body = body.join("\n") + "\n";
        match kind {
            "yaml" => found.push((number + 1, Block::Yaml(body))),
            "console" => found.push((number + 1, Block::Console(body))),
            _ => {}
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    pages
}

/// What the backend was asked, and the fields that an application would look at.
fn answer(seen: &Seen, signer: &Signer) -> Response<Bytes> {
    let issuer = format!("http://{}", seen.header("host").unwrap_or_default());
    let document = match &*seen.target {
        "/.well-known/openid-configuration" => {
            json!({"issuer": issuer, "jwks_uri": format!("{issuer}/jwks")})
        }
        "/jwks" => signer.set(),
        _ => return Response::new(fields(seen).into()),
    };
    Response::new(document.to_string().into())
}

fn fields(seen: &Seen) -> String {
    let mut text = format!("{} {}\n", seen.method, seen.target);
    let mut fields: Vec<String> = seen
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .filter(|field| field.starts_with("x-") && !field.starts_with("x-request-id"))
        .filter(|field| {
            !field.starts_with("x-forwarded") && !field.starts_with("x-request-deadline")
        })
        .collect();
    fields.sort();
    text.extend(fields);
    text
}

/// Commands and the output that is shown for each.
fn commands(console: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in console.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push((command.to_owned(), Vec::new()));
        } else if let Some((command, output)) = found.last_mut() {
            if command.ends_with('\\') && output.is_empty() {
                command.truncate(command.len() - 1);
                command.push_str(line.trim());
            } else {
                output.push(line.to_owned());
            }
        }
    }
    found
}

/// Whether a line is as shown; `…` stands for anything.
fn is_as_shown(line: &str, shown: &str) -> bool {
    let mut rest = line;
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else {
        return false;
    };
    rest = after;
    let parts: Vec<&str> = parts.collect();
    if parts.is_empty() {
        return rest.is_empty();
    }
    for (index, part) in parts.iter().enumerate() {
        if index + 1 == parts.len() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Every shown line must come, in this order; a line that is only `…` stands for any number of lines.
fn compare(output: &str, shown: &[String]) -> bool {
    let lines: Vec<&str> = output
        .lines()
        .map(|line| line.trim_end_matches('\r'))
        .collect();
    let mut at = 0;
    let mut is_gap = false;
    for expected in shown {
        if expected == "…" {
            is_gap = true;
            continue;
        }
        let rest = &lines[at.min(lines.len())..];
        let found = if is_gap {
            rest.iter().position(|line| is_as_shown(line, expected))
        } else {
            rest.first()
                .is_some_and(|line| is_as_shown(line, expected))
                .then_some(0)
        };
        let Some(found) = found else { return false };
        at += found + 1;
        is_gap = false;
    }
    is_gap || at >= lines.len()
}

struct Stage {
    gateway: Gateway,
    upstreams: [Upstream; 2],
    /// What stands for `https://127.0.0.1:9443`: takes only clients with certificates.
    _verifying: Upstream,
    _redis: Redis,
    /// The authority that the gateway gets certificates from, if it does.
    _pebble: Option<Pebble>,
    /// By whoever is at `127.0.0.1:9002`.
    token: String,
    /// What stands for port 8443.
    secure: SocketAddr,
}

const VARIABLES: [(&str, &str); 3] = [
    ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
    ("ADMIN_TOKEN", "fedcba9876543210fedcba9876543210"),
    ("ACME_SECRET", "00112233445566778899aabbccddeeff"),
];

async fn stage(config: &str) -> Stage {
    let signer = Arc::new(Signer::default());
    signer.publish(&["a"]);
    let answer = |signer: Arc<Signer>| move |seen: &Seen| answer(seen, &signer);
    let upstreams = [
        Upstream::answering(answer(signer.clone())).await,
        Upstream::answering(answer(signer.clone())).await,
    ];
    let issuer = format!("http://{}", upstreams[1].address);
    let token = signer.token("a", &issuer, &json!({"aud": "shop"}));
    let redis = Redis::start().await;
    let directory = tempfile::tempdir().unwrap();
    let countries = Database::of(&[("192.0.2.0/24", "DE"), ("198.51.100.0/24", "KP")]);
    std::fs::write(directory.path().join("GeoLite2-Country.mmdb"), countries).unwrap();
    let authority = Authority::new();
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    authority.write(directory.path(), "shop", &["shop.example.com"]);
    authority.write(directory.path(), "api", &["*.api.example.com"]);
    let clients = Authority::called("clients");
    std::fs::write(directory.path().join("clients.pem"), clients.pem()).unwrap();
    for name in ["device-7", "lost", "gateway"] {
        clients.write(directory.path(), name, &[name]);
    }
    let lost = std::fs::read_to_string(directory.path().join("lost.pem")).unwrap();
    let in_a_month = SystemTime::now() + Duration::from_secs(30 * 86_400);
    let revoked = clients.revoke(&[&lost], in_a_month);
    std::fs::write(directory.path().join("clients.crl"), revoked).unwrap();
    let verifying = authority.certify_verifying("orders.internal", &clients);
    let verifying = Upstream::serving_securely(verifying, |request| async move {
        let said = format!("{} {}\n", request.method(), request.uri());
        Response::new(Full::new(Bytes::from(said)).boxed())
    })
    .await;
    let pebble = match config.contains("acme:") {
        true => Some(Pebble::start().await),
        false => None,
    };
    let secure = pebble.as_ref().map_or_else(free_port, |it| it.tls);
    let mut config = config
        .replace("127.0.0.1:9001", &upstreams[0].address.to_string())
        .replace("127.0.0.1:9002", &upstreams[1].address.to_string())
        .replace("127.0.0.1:9443", &verifying.address.to_string())
        .replace("127.0.0.1:6379", &redis.address.to_string())
        .replace("0.0.0.0:8080", "$LISTEN")
        .replace("127.0.0.1:8080", "$LISTEN")
        .replace("127.0.0.1:9900", "$ADMIN")
        .replace("/var/lib/GeoIP/", "")
        .replace("0.0.0.0:8443", &secure.to_string())
        .replace("/etc/tollgate/tls/", "");
    if let Some(pebble) = &pebble {
        for name in ["shop.example.com", "api.example.com", "eu.api.example.com"] {
            pebble.names.set(name, &["127.0.0.1"]);
        }
        pebble.write_own(directory.path());
        let more = format!(
            "directory: \"{}\"\n  ca: ca.pem\n  storage: acme",
            pebble.directory
        );
        config = config.replace(
            "accept_terms: true",
            &format!("accept_terms: true\n  {more}"),
        );
    }
    if !config.contains("$LISTEN") {
        assert!(
            !config.contains("server:"),
            "a `server` section without `listen`: {config}"
        );
        config = format!("server: {{ listen: $LISTEN }}\n{config}");
    }
    if !config.contains("admin:") {
        config = format!("admin: {{ listen: $ADMIN }}\n{config}");
    }
    let gateway = Gateway::start_in(directory, &config, &VARIABLES).await;
    let awaited = "\"is_there\": false";
    while pebble.is_some()
        && gateway
            .admin("/certificates")
            .await
            .text()
            .contains(awaited)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // One file by two names, so that examples can change it.
    let name = gateway.directory.path().join("tollgate.yaml");
    std::fs::rename(gateway.config_path(), &name).unwrap();
    std::os::unix::fs::symlink(name, gateway.config_path()).unwrap();
    Stage {
        gateway,
        upstreams,
        _verifying: verifying,
        _redis: redis,
        _pebble: pebble,
        token,
        secure,
    }
}

fn execute(command: &str, stage: &Stage) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let command = command
        .replace("127.0.0.1:8080", &stage.gateway.address.to_string())
        .replace("localhost:8080", &stage.gateway.address.to_string())
        .replace("127.0.0.1:9900", &stage.gateway.admin.to_string())
        .replace(":8443", &format!(":{}", stage.secure.port()))
        .replace("curl ", "curl --silent --show-error --max-time 20 ");
    let backends = ["127.0.0.1:9001", "127.0.0.1:9002"].into_iter();
    let backends = backends.zip(stage.upstreams.iter().map(|it| it.address.to_string()));
    let mut command = command;
    // Others may write configurations of their own.
    if command.starts_with("tollgate ") {
        for (shown, address) in backends.clone() {
            command = command.replace(shown, &address);
        }
    }
    let output = Command::new("sh")
        .args(["-c", &command])
        .current_dir(stage.gateway.directory.path())
        .env("PATH", path)
        .env("NO_COLOR", "1")
        .envs(VARIABLES)
        .env("TOKEN", &stage.token)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    backends.fold(said, |said, (shown, address)| said.replace(&address, shown))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_does_what_it_shows() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        let mut current: Option<Stage> = None;
        for (line, block) in blocks(&text) {
            match block {
                Block::Yaml(config) => current = Some(stage(&config).await),
                Block::Console(console) => {
                    let stage = current
                        .as_mut()
                        .unwrap_or_else(|| panic!("{name}:{line}: no configuration before it"));
                    for (command, shown) in commands(&console) {
                        count += 1;
                        let output = execute(&command, stage);
                        if command.contains("upgrade") {
                            stage.gateway.adopt().await;
                        }
                        if !compare(&output, &shown) {
                            wrong.push(format!(
                                "{name}:{line}: $ {command}\n--- shown:\n{}\n--- is:\n{output}",
                                shown.join("\n")
                            ));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(count >= 30, "only {count} examples");
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                let folder = page.parent().unwrap_or(root);
                assert!(folder.join(file).exists(), "{}: {link}", page.display());
            }
        }
    }
}

#[test]
fn every_configuration_in_conf_is_good() {
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // For others than the gateway.
            continue;
        }
        let mut command = support::binary();
        let output = command
            .args(["check", "-c"])
            .arg(&path)
            .envs(VARIABLES)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{}: {said}",
            path.display()
        );
    }
}

#[test]
fn what_is_shown_is_compared() {
    let shown = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(compare("a\nb\nc\n", &shown(&["a", "…", "c"])));
    assert!(compare("a 12 b\n", &shown(&["a … b"])));
    assert!(!compare("a\nb\n", &shown(&["a"])));
    assert!(!compare("a\n", &shown(&["a", "b"])));
    assert!(!compare("ab\n", &shown(&["…a"])));
}

/// Every row of the tables of attacks names a test in its last column, and the page names none that
/// does not exist.
#[test]
fn every_attack_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in ["src", "tests"] {
        read_sources(&root.join(folder), &mut sources);
    }
    let is_test = |name: &str| sources.iter().any(|text| has_test(text, name));
    assert!(is_test("every_attack_has_its_test") && !is_test("has_test"));
    let page = std::fs::read_to_string(root.join("docs/attacks.md")).unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| attack |");
    let rows: Vec<&str> = page.lines().filter(is_row).collect();
    assert!(rows.len() >= 40, "only {} attacks", rows.len());
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        assert!(tests.contains('`'), "no test: {row}");
    }
    for name in sentences(&page) {
        assert!(is_test(name), "there is no test `{name}`");
    }
}

/// So does every row of the table of RFC 9111.
#[test]
fn every_section_about_caches_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in ["src", "tests"] {
        read_sources(&root.join(folder), &mut sources);
    }
    let page = std::fs::read_to_string(root.join("docs/caching.md")).unwrap();
    let (_, table) = page.split_once("| section | what | test |").unwrap();
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .collect();
    assert!(rows.len() >= 15, "only {} sections", rows.len());
    for row in rows {
        let mut names = sentences(row).peekable();
        assert!(names.peek().is_some(), "no test: {row}");
        for name in names {
            let is_test = sources.iter().any(|text| has_test(text, name));
            assert!(is_test, "there is no test `{name}`");
        }
    }
}

/// The names of tests that a text has, which are sentences.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter(|word| word.matches('_').count() >= 3)
}

/// Whether a function of this name follows the attribute of tests.
fn has_test(text: &str, name: &str) -> bool {
    let Some(at) = text.find(&format!("fn {name}(")) else {
        return false;
    };
    let before = text[..at].trim_end_matches("async ").trim_end();
    let attribute = before.lines().last().unwrap_or_default().trim();
    attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test")
}

fn read_sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
}
