//! Whether traffic should come, where that depends on others: `admin.ready_when`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Gateway, Redis, Upstream};
use bytes::Bytes;
use hyper::Response;

/// The key of RFC 8037, appendix A.2.
const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Answers everything with this body, and a status that can be changed.
async fn backend(body: &'static str, status: u16) -> (Upstream, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let its = status.clone();
    let backend = Upstream::answering(move |_| {
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = its.load(Ordering::Relaxed).try_into().unwrap();
        response
    })
    .await;
    (backend, status)
}

/// Waits until `/readyz` answers so.
async fn until(gateway: &Gateway, status: u16, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = gateway.admin("/readyz").await;
        let seen = (answer.status.as_u16(), answer.text());
        if seen == (status, format!("{text}\n")) {
            return;
        }
        assert!(Instant::now() < deadline, "{seen:?}, not {status} {text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn config(ready_when: &str, rest: &str) -> String {
    format!(
        "server: {{ listen: $LISTEN }}\nadmin: {{ listen: $ADMIN, ready_when: {{ {ready_when} }} }}\n{rest}\n"
    )
}

#[tokio::test]
async fn a_service_without_a_healthy_endpoint_keeps_traffic_away() {
    let (vital, status) = backend("", 503).await;
    let (other, _) = backend("", 503).await;
    let service = |name: &str, at: &Upstream| {
        format!(
            "{name}: {{ base_url: \"http://{}\", routes: [/{name}], health_check: {{ path: /, interval: 300ms, timeout: 300ms }} }}",
            at.address
        )
    };
    let services = format!(
        "services: {{ {}, {} }}",
        service("vital", &vital),
        service("other", &other)
    );
    let gateway = Gateway::start(&config("services: [vital]", &services)).await;
    until(&gateway, 503, "service vital has no healthy endpoint").await;
    status.store(200, Ordering::Relaxed);
    until(&gateway, 200, "ready").await;
    // A change of the configuration counts at once.
    gateway.edit("services: [vital]", "services: [vital, other]");
    gateway.signal("HUP");
    until(&gateway, 503, "service other has no healthy endpoint").await;
}

#[tokio::test]
async fn keys_that_have_not_been_fetched_keep_traffic_away() {
    let (keys, status) = backend(KEYS, 500).await;
    let provider = format!(
        "auth_providers: {{ main: {{ jwt: {{ algorithms: [EdDSA], keys: {{ jwks_url: \"http://{}/\", refresh: 1s }} }} }} }}\nauth: main\nservices: {{ a: {{ routes: [{{ path: /a, respond: {{ body: a }} }}] }} }}",
        keys.address
    );
    let gateway = Gateway::start(&config("key_sets: true", &provider)).await;
    until(
        &gateway,
        503,
        "the keys of provider main have not been fetched",
    )
    .await;
    status.store(200, Ordering::Relaxed);
    until(&gateway, 200, "ready").await;
    // Those that are there are good enough.
    status.store(500, Ordering::Relaxed);
    until(&gateway, 200, "ready").await;
}

#[tokio::test]
async fn a_store_that_is_down_keeps_traffic_away() {
    let mut redis = Redis::start().await;
    let limits = format!(
        "redis: {{ url: \"redis://{}\" }}\nservices: {{ a: {{ routes: [{{ path: /a, respond: {{ body: a }}, rate_limit: {{ limit: 5, window: 1m, store: redis }} }}] }} }}",
        redis.address
    );
    let gateway = Gateway::start(&config("redis: true", &limits)).await;
    until(&gateway, 200, "ready").await;
    redis.kill();
    gateway.get("/a").send().await;
    until(&gateway, 503, "the store of shared limits is not up").await;
    redis.restart().await;
    until(&gateway, 200, "ready").await;
}
