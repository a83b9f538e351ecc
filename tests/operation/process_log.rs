//! How much the process says about itself, and that it can be changed.

use std::time::{Duration, Instant};

use crate::support::{Answer, Gateway, Request, Upstream, service_of};
use hyper::Method;
use serde_json::json;

const TOKEN: &str = "0123456789abcdef";

async fn start(variables: &[(&str, &str)], services: &str) -> Gateway {
    let config = format!(
        "server: {{ listen: $LISTEN, threads: 2 }}\n\
         admin: {{ listen: $ADMIN, token: \"{TOKEN}\" }}\n{services}\n"
    );
    Gateway::start_in(tempfile::tempdir().unwrap(), &config, variables).await
}

async fn set_level(gateway: &Gateway, query: &str) -> Answer {
    let path = format!("/log-level?{query}");
    let request = Request::new(gateway.admin, Method::PUT, &path);
    let request = request.header("authorization", &format!("Bearer {TOKEN}"));
    request.send().await
}

#[tokio::test]
async fn the_level_of_the_process_log_changes_what_it_says() {
    let upstream = Upstream::echo().await;
    let gateway = start(&[], &service_of([&upstream], "")).await;
    let level = async || gateway.admin("/log-level").await.json()["level"].clone();
    let reloads = async || {
        assert_eq!(gateway.command(&["reload"]).await.0, 0);
        gateway.process_log().matches("reloaded:").count()
    };
    assert_eq!(level().await, "info");
    assert_eq!(reloads().await, 1);
    let answer = set_level(&gateway, "level=error").await.assert_status(200);
    assert_eq!(answer.json(), json!({"level": "error"}));
    assert_eq!(reloads().await, 1);
    assert!(!gateway.process_log().contains("DEBUG"));
    set_level(&gateway, "level=debug").await.assert_status(200);
    assert_eq!(level().await, "debug");
    assert_eq!(reloads().await, 2);
    gateway.get("/a").send().await.assert_status(200);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !gateway.process_log().contains("DEBUG") {
        assert!(Instant::now() < deadline, "nothing is said");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for line in ["from=info to=error", "from=error to=debug"] {
        assert!(gateway.process_log().contains(line), "{line}");
    }

    for (query, said) in [
        ("level=loud", "`error`, `warn`, `info` or `debug`"),
        ("", "`level` is missing"),
    ] {
        let answer = set_level(&gateway, query).await.assert_status(400);
        assert!(answer.text().contains(said), "{}", answer.text());
    }
    let unasked = Request::new(gateway.admin, Method::PUT, "/log-level?level=info");
    unasked.send().await.assert_status(401);
    assert_eq!(level().await, "debug");
}

#[tokio::test]
async fn modules_that_the_environment_names_keep_their_level() {
    let gateway = start(&[("RUST_LOG", "warn,tollgate::server=info")], "").await;
    assert_eq!(gateway.admin("/log-level").await.json()["level"], "warn");
    set_level(&gateway, "level=error").await.assert_status(200);
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    assert!(gateway.process_log().contains("reloaded:"));
}
