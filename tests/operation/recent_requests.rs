//! Requests that went badly, as operators see them afterwards.

use std::time::{Duration, Instant};

use crate::support::{Gateway, Upstream, free_port};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use serde_json::{Value, json};

/// Answers with the status that the path ends with, after as many milliseconds as `x-wait` says.
async fn backend() -> Upstream {
    Upstream::serving(|request: hyper::Request<_>| async move {
        let wait = request.headers().get("x-wait");
        let wait = wait.map_or(0, |it| it.to_str().unwrap().parse().unwrap());
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let status = request.uri().path().rsplit('/').next().unwrap();
        let body = Full::new(Bytes::from_static(b"answer")).boxed();
        Response::builder().status(status).body(body).unwrap()
    })
    .await
}

/// What is shown, as soon as it is so many: requests are noted when they are over, which is after their answer.
async fn shown(gateway: &Gateway, path: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let shown = gateway.admin(path).await.assert_status(200).json();
        let shown = shown.as_array().unwrap().clone();
        if shown.len() >= count {
            return shown;
        }
        assert!(Instant::now() < deadline, "{path}: {shown:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn field<'s>(shown: &'s [Value], name: &str) -> Vec<&'s Value> {
    shown.iter().map(|it| &it[name]).collect()
}

#[tokio::test]
async fn what_failed_is_shown_with_its_reason_and_what_was_turned_away_apart_from_it() {
    let upstream = backend().await;
    let gateway = Gateway::start(&format!(
        "tracing: {{ otlp: \"http://{closed}\", sample: 0% }}\n\
         services:\n  \
           a: {{ base_url: \"http://{}\", retry: off, routes: [{{ prefix: /a }}, \
              {{ prefix: /limited, rate_limit: {{ limit: 1, window: 1h, refusal: {{ status: 503 }} }} }}] }}\n  \
           b: {{ base_url: \"http://{closed}\", retry: off, routes: [/b] }}",
        upstream.address,
        closed = free_port(),
    ))
    .await;
    gateway.get("/a/200").send().await.assert_status(200);
    gateway.get("/a/404").send().await.assert_status(404);
    gateway
        .get("/a/500?token=secret")
        .send()
        .await
        .assert_status(500);
    shown(&gateway, "/errors", 1).await;
    gateway.post("/b").send().await.assert_status(502);
    let failures = shown(&gateway, "/errors", 2).await;
    assert_eq!(failures.len(), 2);
    assert_eq!(field(&failures, "path"), ["/b", "/a/500"]);
    let [refused, answered] = &failures[..] else {
        unreachable!("there are two")
    };
    assert_eq!(refused["flags"], json!(["upstream_connect_failed"]));
    assert_eq!(
        (&refused["method"], &refused["route"], &refused["service"]),
        (&json!("POST"), &json!("/b"), &json!("b"))
    );
    assert_eq!(
        (&refused["status"], &refused["attempts"]),
        (&json!(502), &json!(1))
    );
    assert_eq!(answered["flags"], json!([]));
    assert_eq!(answered["endpoint"], format!("http://{}", upstream.address));
    assert_eq!(answered["client"], "127.0.0.1");
    // The same as in the log.
    let log = gateway.log(4).await;
    for name in [
        "id",
        "time",
        "trace_id",
        "host",
        "total_us",
        "first_byte_us",
    ] {
        assert_eq!(answered[name], log[2][name], "{name}");
    }
    let all = gateway.admin("/errors").await.text();
    assert!(!all.contains("secret"), "{all}");

    gateway.get("/limited/200").send().await.assert_status(200);
    gateway.get("/limited/200").send().await.assert_status(503);
    gateway.get("/a/401").send().await.assert_status(401);
    let refusals = shown(&gateway, "/errors?kind=refusal", 2).await;
    let mut statuses = field(&refusals, "status");
    statuses.sort_by_key(|it| it.as_u64());
    assert_eq!(statuses, [401, 503]);
    let one = shown(&gateway, "/errors?kind=failure&count=1", 1).await;
    assert_eq!(one.len(), 1);
    for (path, said) in [
        ("/errors?kind=error", "`failure` or `refusal`"),
        ("/errors?count=many", "`count=many` is no number"),
        ("/slow?kind=failure", "`kind` is nothing to ask for"),
    ] {
        let answer = gateway.admin(path).await.assert_status(400);
        assert!(answer.text().contains(said), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_flood_of_refusals_pushes_no_failure_out() {
    let upstream = backend().await;
    let gateway = Gateway::start(&format!(
        "log: {{ access: off }}\n\
         services: {{ a: {{ base_url: \"http://{}\", retry: off, routes: [{{ prefix: /a }}, \
             {{ prefix: /limited, rate_limit: {{ limit: 1, window: 1h }} }}] }} }}",
        upstream.address
    ))
    .await;
    gateway.get("/a/500").send().await.assert_status(500);
    let mut client = gateway.connect().await;
    let path = format!("/limited/{}/200", "x".repeat(2000));
    client.get(&path).await.assert_status(200);
    for _ in 0..3000 {
        client.get(&path).await.assert_status(429);
    }
    let failures = shown(&gateway, "/errors", 1).await;
    assert_eq!(field(&failures, "path"), ["/a/500"]);
    let refusals = shown(&gateway, "/errors?kind=refusal&count=100000", 100).await;
    assert!(refusals.len() < 1000, "{}", refusals.len());
    let path = refusals[0]["path"].as_str().unwrap();
    assert!(path.len() <= 256, "{path}");
}

#[tokio::test]
async fn clients_are_told_of_as_the_log_tells_of_them() {
    let upstream = backend().await;
    let services = format!(
        "services: {{ a: {{ base_url: \"http://{}\", retry: off, routes: [{{ prefix: /a }}] }} }}",
        upstream.address
    );
    for (log, client) in [
        ("access: { client: full }", "127.0.0.7"),
        ("access: { client: truncated }", "127.0.0.0"),
        // Who logs nothing is not told more than that.
        ("access: off", "127.0.0.0"),
    ] {
        let gateway = Gateway::start(&format!("log: {{ {log} }}\n{services}")).await;
        gateway.get("/a/500").from("127.0.0.7").send().await;
        let failures = shown(&gateway, "/errors", 1).await;
        assert_eq!(field(&failures, "client"), [client], "{log}");
    }
}

#[tokio::test]
async fn the_slowest_requests_come_first() {
    let upstream = backend().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: /a }}] }} }}",
        upstream.address
    ))
    .await;
    for wait in ["300", "900", "0", "600", "0"] {
        let request = gateway.get(&format!("/a/{wait}/200"));
        request
            .header("x-wait", wait)
            .send()
            .await
            .assert_status(200);
    }
    shown(&gateway, "/slow", 5).await;
    let slowest = shown(&gateway, "/slow?count=3", 3).await;
    assert_eq!(
        field(&slowest, "path"),
        ["/a/900/200", "/a/600/200", "/a/300/200"]
    );
    let one = &slowest[0];
    let micros = |name: &str| one[name].as_u64().unwrap();
    assert!(micros("first_byte_us") >= 900_000 && micros("total_us") >= micros("first_byte_us"));
    assert!(micros("pipeline_us") <= micros("connected_us"));
    assert!(micros("connected_us") < micros("first_byte_us"));
}
