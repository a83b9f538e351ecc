//! The dashboard in a real browser: the gateway with traffic, and Playwright with the `*.spec.js` beside this file,
//! which `make test` has installed below `target/dashboard`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Response, StatusCode};
use support::{Gateway, Seen, Upstream};
use tokio::task::JoinHandle;

const TOKEN: &str = "0123456789abcdef";
/// What a client sends that would take a page over that holds it for markup.
const HOSTILE: &str = r#"<img src=x onerror="window.isTaken=1">"#;
/// What clients ask for, again and again.
const PATHS: [&str; 12] = [
    "/orders/7",
    "/catalogue/shoes",
    "/account",
    "/orders/8",
    "/payments/12",
    "/catalogue/hats",
    "/login",
    "/orders/9",
    "/staff",
    "/catalogue/shoes",
    "/account",
    "/payments/'%22%3E%3Cimg%20src=x%20onerror=window.isTaken=1%3E",
];

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// A shop whose last service fails one request of eight.
struct Shop {
    gateway: Gateway,
    _backends: [Upstream; 4],
    clients: JoinHandle<()>,
}

async fn good() -> Upstream {
    Upstream::answering(|_| Response::new(Bytes::from_static(b"good"))).await
}

async fn failing() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::answering(move |_: &Seen| {
        let mut response = Response::new(Bytes::from_static(b"paid"));
        if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(8) {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        response
    })
    .await
}

impl Shop {
    async fn open() -> Self {
        let backends = [good().await, good().await, good().await, failing().await];
        let [first, second, third, fourth] = &backends;
        let gateway = Gateway::start(&format!(
            "server: {{ listen: $LISTEN, threads: 2 }}\nadmin: {{ listen: $ADMIN, token: \"{TOKEN}\" }}\nlog: {{ access: off }}\n\
             auth_providers: {{ staff: {{ api_key: {{ from: [\"header:X-Api-Key\"], keys: {{ acme: \"sha256:1530d575da5543b2bfc4091bef54e1c274b6e57664b575d6a9860b295b3e101a\" }} }} }} }}\n\
             services:\n  \
               shop:\n    \
                 targets: [\"http://{}\", \"http://{}\"]\n    \
                 routes:\n      \
                   - {{ path: \"/orders/{{id}}\", rate_limit: {{ limit: 1000000, window: 1h, by: \"header:X-Tenant\" }} }}\n      \
                   - {{ prefix: /catalogue, cache: {{ ttl: 1m }} }}\n  \
               accounts:\n    \
                 base_url: \"http://{}\"\n    \
                 routes:\n      \
                   - /account\n      \
                   - {{ path: /login, rate_limit: {{ limit: 5, window: 1h }} }}\n      \
                   - {{ path: /staff, auth: staff }}\n  \
               payments:\n    \
                 base_url: \"http://{}\"\n    \
                 routes: [{{ prefix: /payments }}]\n",
            first.address, second.address, third.address, fourth.address
        ))
        .await;
        let to = gateway.address;
        let clients = tokio::spawn(async move {
            let mut client = support::Client::connect(to, None).await;
            let mut fields = hyper::HeaderMap::new();
            fields.insert("x-tenant", HOSTILE.parse().unwrap());
            for path in PATHS.into_iter().cycle() {
                match client.try_get_with(path, &fields).await {
                    Some(answer) if answer.header("connection") != Some("close") => {}
                    _ => client = support::Client::connect(to, None).await,
                }
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        });
        Self {
            gateway,
            _backends: backends,
            clients,
        }
    }

    /// Runs a script of `target/dashboard/node_modules` or of this folder, with arguments.
    async fn visit(&self, script: &Path, arguments: &[&str]) {
        let installed = root().join("target/dashboard");
        assert!(
            installed.join("installed").exists(),
            "Playwright is there: `make test` fetches it"
        );
        let mut node = Command::new("node");
        node.arg(root().join(script))
            .args(arguments)
            .current_dir(root())
            .env("NODE_PATH", installed.join("node_modules"))
            .env("DASHBOARD", format!("http://{}", self.gateway.admin))
            .env("DASHBOARD_OUTPUT", installed.join("results"))
            .env("DASHBOARD_TOKEN", TOKEN)
            .env("HOSTILE", HOSTILE);
        let run = tokio::task::spawn_blocking(move || node.output().unwrap());
        let output = run.await.unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.clients.abort();
    }
}

#[tokio::test]
async fn the_dashboard_shows_what_is_and_does_what_is_asked() {
    let playwright = Path::new("target/dashboard/node_modules/@playwright/test/cli.js");
    let configured = ["test", "--config", "tests/dashboard/playwright.config.js"];
    Shop::open().await.visit(playwright, &configured).await;
}

/// `make screenshots`: as long as the charts are wide.
#[tokio::test]
#[ignore = "takes five minutes and writes to docs/images"]
async fn pictures_of_the_dashboard_are_taken() {
    let shop = Shop::open().await;
    tokio::time::sleep(Duration::from_secs(290)).await;
    let script = Path::new("tests/dashboard/screenshots.js");
    shop.visit(script, &[]).await;
    for theme in ["light", "dark"] {
        let picture = root().join(format!("docs/images/dashboard-{theme}.png"));
        let length = std::fs::metadata(picture).unwrap().len();
        assert!(length < 300_000, "{theme}: {length} bytes");
    }
}

#[test]
fn the_packages_that_drive_the_browser_are_exact_and_name_no_place() {
    let read =
        |name: &str| std::fs::read_to_string(root().join("tests/dashboard").join(name)).unwrap();
    let package: serde_json::Value = serde_json::from_str(&read("package.json")).unwrap();
    for (name, version) in package["devDependencies"].as_object().unwrap() {
        assert!(
            version
                .as_str()
                .unwrap()
                .starts_with(|it: char| it.is_ascii_digit()),
            "{name}"
        );
    }
    assert!(!read("package-lock.json").contains("\"resolved\""));
    assert!(!Path::new("tests/dashboard/node_modules").exists());
}
