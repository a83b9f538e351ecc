//! Answers that are not fresh any more: invalidated, refused by clients, given all the same (RFC 5861).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::json;

use crate::backend::{ask, backend, gateway, is_kept, results, until};
use crate::support::{Gateway, Upstream};

/// RFC 9111 §4.4.
#[tokio::test]
async fn what_an_unsafe_request_changed_is_fetched_again() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    let mut expected = gateway.get("/a?x=1").send().await.text();
    for method in ["POST", "PUT", "DELETE", "PATCH", "X-CHANGE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let change = |path: &str| gateway.request(method.clone(), path).send();
        change("/b").await;
        assert_eq!(
            gateway.get("/a?x=1").send().await.text(),
            expected,
            "{method} elsewhere"
        );
        gateway
            .request(method.clone(), "/a?x=1")
            .header("x-status", "500")
            .send()
            .await;
        assert_eq!(
            gateway.get("/a?x=1").send().await.text(),
            expected,
            "{method} that failed"
        );
        change("/a?x=1").await;
        let fresh = gateway.get("/a?x=1").send().await.text();
        assert_ne!(fresh, expected, "{method}");
        expected = fresh;
    }
    for (name, value, is_changed) in [
        ("Location", "/a?x=1", true),
        ("Content-Location", "/a?x=1", true),
        ("Location", "http://elsewhere.example/a?x=1", false),
    ] {
        let answer = format!("{name}={value}");
        gateway
            .post("/new")
            .header("x-answer", &answer)
            .header("x-status", "201")
            .send()
            .await;
        let fresh = gateway.get("/a?x=1").send().await.text();
        assert_eq!(fresh != expected, is_changed, "{answer}");
        expected = fresh;
    }
}

/// RFC 9111 §5.2.1: clients' directives, as configured.
#[tokio::test]
async fn clients_make_backends_work_only_where_they_may() {
    let upstream = backend().await;
    let ignoring = gateway(&upstream, "{}").await;
    let obeying = gateway(&upstream, "{ request_directives: obey }").await;
    for (gateway, does_obey) in [(&ignoring, false), (&obeying, true)] {
        let answer = "Cache-Control=max-age=60|Age=10";
        for (directives, is_fresh_wanted) in [
            ("no-cache", true),
            ("max-age=5", true),
            ("max-age=50", false),
            ("min-fresh=55", true),
            ("min-fresh=10", false),
            ("no-store", true),
        ] {
            let kept = ask(gateway, "/a", answer).await;
            let request = gateway
                .get("/a")
                .header("x-answer", answer)
                .header("cache-control", directives);
            let got = request.send().await;
            assert_eq!(
                got.body != kept.body,
                does_obey && is_fresh_wanted,
                "{directives}"
            );
        }
        let request = gateway
            .get("/a")
            .header("x-answer", answer)
            .header("pragma", "no-cache");
        let kept = ask(gateway, "/a", answer).await;
        assert_eq!(request.send().await.body != kept.body, does_obey, "pragma");
        let only = |path: &str| {
            gateway
                .get(path)
                .header("cache-control", "only-if-cached")
                .send()
        };
        only("/a").await.assert_status(200);
        let refused = only("/none").await.assert_status(504);
        assert_eq!(refused.json()["type"], "urn:tollgate:problem:not-cached");
        // It keeps nobody from fetching it.
        gateway.get("/none").send().await.assert_status(200);
        only("/none").await.assert_status(200);
    }
    let stale = "Cache-Control=max-age=60, stale-if-error=100|Age=90";
    let kept = ask(&obeying, "/stale", stale).await;
    let with = |directives: &str| {
        obeying
            .get("/stale")
            .header("x-answer", stale)
            .header("cache-control", directives)
            .send()
    };
    assert_eq!(with("max-stale=60").await.body, kept.body);
    assert_eq!(with("max-stale").await.body, kept.body);
    assert_ne!(with("max-stale=10").await.body, kept.body);
}

/// RFC 5861 §3.
#[tokio::test]
async fn a_stale_answer_is_given_while_a_fresh_one_is_fetched() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{ stale_while_revalidate: 1h }").await;
    let stale = "Cache-Control=max-age=60|Age=100";
    let first = ask(&gateway, "/a", stale).await;
    let second = ask(&gateway, "/a", stale).await;
    assert_eq!(second.body, first.body);
    let status = second.header("cache-status").unwrap();
    assert!(status.starts_with("tollgate; hit; ttl=-4"), "{status}");
    until(async || upstream.seen().len() == 2).await;
    let background = upstream.last();
    assert_eq!(background.header("x-answer"), Some(stale));
    assert_eq!(background.headers("x-forwarded-for"), Vec::<&str>::new());
    until(async || ask(&gateway, "/a", stale).await.body != first.body).await;
    let results = results(&gateway, 2).await;
    assert!(results.contains(&"stale".to_owned()), "{results:?}");
    // What may never be stale is fetched at once.
    let strict = "Cache-Control=max-age=60, must-revalidate|Age=100";
    assert!(!is_kept(&gateway, "/b", strict).await);
}

/// RFC 5861 §4.
#[tokio::test]
async fn a_stale_answer_is_given_when_the_backend_fails() {
    let is_down = Arc::new(AtomicUsize::new(0));
    let down = is_down.clone();
    let upstream = Upstream::answering(move |_| {
        let status = if down.load(Ordering::Relaxed) == 1 {
            503
        } else {
            200
        };
        let response = Response::builder()
            .status(status)
            .header("cache-control", "max-age=60")
            .header("age", "100");
        response.body(Bytes::from_static(b"good")).unwrap()
    })
    .await;
    let rest =
        "retry: { attempts: 2, on: [503], backoff: 1ms, budget: 100% }, fallback: { status: 418 }";
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], cache: {{ stale_if_error: 1h }}, outlier_detection: off, {rest} }} }}",
        upstream.address
    ))
    .await;
    gateway.get("/a").send().await.assert_status(200);
    is_down.store(1, Ordering::Relaxed);
    let stale = gateway.get("/a").send().await.assert_status(200);
    assert_eq!(stale.text(), "good");
    assert_eq!(upstream.seen().len(), 3, "it is asked twice before");
    gateway.get("/b").send().await.assert_status(418);
    drop(upstream);
    assert_eq!(
        gateway.get("/a").send().await.assert_status(200).text(),
        "good"
    );
    let log = gateway.log(4).await;
    let stale: Vec<_> = log.iter().filter(|line| line["cache"] == "stale").collect();
    assert_eq!(stale.len(), 2, "{log:?}");
    let of = |why: &str| {
        stale
            .iter()
            .find(|line| line["cache_reason"] == why)
            .unwrap()
    };
    assert_eq!(of("status")["flags"], json!(["retried"]));
    assert_eq!(of("error")["flags"], json!(["upstream_connect_failed"]));
}

/// A backend whose answers are stale from the start, and that answers with 503 while it is switched so.
async fn failing_at_will() -> (Upstream, Arc<AtomicBool>) {
    let is_down = Arc::new(AtomicBool::new(false));
    let down = is_down.clone();
    let upstream = Upstream::answering(move |seen| {
        let is_down = down.load(Ordering::Relaxed);
        if is_down {
            let response = Response::builder().status(503);
            return response.body(Bytes::from_static(b"bad")).unwrap();
        }
        let control = match seen.target.as_str() {
            "/strict" => "max-age=60, must-revalidate",
            _ => "max-age=60",
        };
        let response = Response::builder()
            .header("age", "100")
            .header("cache-control", control);
        response.body(Bytes::from_static(b"good")).unwrap()
    })
    .await;
    (upstream, is_down)
}

async fn falling_back(upstream: &Upstream, cache: &str, rest: &str) -> Gateway {
    Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], cache: {cache}, retry: off,
        outlier_detection: off, {rest} }} }}",
        upstream.address
    ))
    .await
}

#[tokio::test]
async fn a_kept_answer_is_the_fallback_whatever_goes_wrong() {
    let (upstream, is_down) = failing_at_will().await;
    let rest = "circuit_breaker: { minimum_requests: 6, failure_rate: 60% },
        fallback: { stale_cache: true }";
    let gateway = falling_back(&upstream, "{}", rest).await;
    let ask = async |path: &str| gateway.get(path).send().await;
    for path in ["/a", "/strict"] {
        let first = ask(path).await.assert_status(200);
        first.assert_no_header("proxy-status");
    }
    is_down.store(true, Ordering::Relaxed);
    let stale = async |why: &str| {
        let answer = ask("/a").await.assert_status(200);
        assert_eq!(answer.text(), "good");
        let expected = format!("tollgate; {why}; details=\"fallback\"");
        answer.assert_header("proxy-status", &expected);
    };
    stale("received-status=503").await;
    // The backend has forbidden it, or nothing is kept: the failure is passed on.
    assert_eq!(ask("/strict").await.assert_status(503).text(), "bad");
    let unseen = ask("/unseen").await.assert_status(503);
    assert_eq!(unseen.assert_no_header("proxy-status").text(), "bad");
    drop(upstream);
    stale("error=connection_refused").await;
    stale("error=destination_unavailable").await;
    let log = gateway.log(7).await;
    let mut flags: Vec<_> = log
        .iter()
        .filter(|line| line["cache"] == "stale")
        .map(|line| line["flags"].clone())
        .collect();
    // The first one to find nobody there may have begun on a kept connection that is gone.
    if flags.get(1) == Some(&json!(["upstream_connect_failed", "retried", "fallback"])) {
        flags[1] = json!(["upstream_connect_failed", "fallback"]);
    }
    assert_eq!(
        flags,
        [
            json!(["fallback"]),
            json!(["upstream_connect_failed", "fallback"]),
            json!(["circuit_open", "fallback"]),
        ]
    );
}

#[tokio::test]
async fn a_kept_answer_is_the_fallback_for_what_the_rule_says() {
    let (upstream, is_down) = failing_at_will().await;
    let rest = "fallback: { stale_cache: true, on: [connect_failure] }";
    let gateway = falling_back(&upstream, "{}", rest).await;
    let ask = async || gateway.get("/a").send().await;
    ask().await.assert_status(200);
    is_down.store(true, Ordering::Relaxed);
    assert_eq!(ask().await.assert_status(503).text(), "bad");
    drop(upstream);
    assert_eq!(ask().await.assert_status(200).text(), "good");
}

#[tokio::test]
async fn a_kept_answer_is_the_fallback_as_long_as_is_written() {
    let (upstream, is_down) = failing_at_will().await;
    let rest = "fallback: { stale_cache: true }";
    let gateway = falling_back(&upstream, "{}", rest).await;
    let short = falling_back(&upstream, "{ stale_if_error: 30s }", rest).await;
    for gateway in [&gateway, &short] {
        gateway.get("/a").send().await.assert_status(200);
    }
    is_down.store(true, Ordering::Relaxed);
    gateway.get("/a").send().await.assert_status(200);
    short.get("/a").send().await.assert_status(503);
}
