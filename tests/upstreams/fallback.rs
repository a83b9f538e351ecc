//! What clients get when a service can't answer.

use crate::support::{Gateway, Upstream, free_port};
use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::json;

async fn answering(status: u16, body: &'static str) -> Upstream {
    Upstream::answering(move |_| {
        let response = Response::builder().status(status);
        response.body(Bytes::from_static(body.as_bytes())).unwrap()
    })
    .await
}

/// A service with this target and fallback, beside one called `spare`.
fn config(target: &str, fallback: &str, spare: &Upstream) -> String {
    format!(
        "services:
  main: {{ base_url: \"{target}\", routes: [{{ prefix: /a }}], outlier_detection: off,
    timeouts: {{ first_byte: 300ms }}, fallback: {{ {fallback} }} }}
  spare: {{ base_url: \"http://{}\", routes: [/spare] }}",
        spare.address
    )
}

const ANSWER: &str =
    "status: 200, headers: { Content-Type: application/json }, body: '{\"orders\":[]}'";

#[tokio::test]
async fn a_fixed_answer_takes_the_place_of_every_failure() {
    let spare = answering(200, "spare").await;
    let unavailable = answering(503, "not now").await;
    let silent = Upstream::raw(|stream| async move {
        let _open = stream;
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    })
    .await;
    let rude = Upstream::raw(|_| async {}).await;
    let url = |upstream: &Upstream| format!("http://{}", upstream.address);
    for (target, status, flags) in [
        (
            format!("http://{}", free_port()),
            "error=connection_refused",
            json!(["upstream_connect_failed", "fallback"]),
        ),
        (
            "http://nowhere.invalid".to_owned(),
            "error=destination_ip_unroutable",
            json!(["no_endpoint", "fallback"]),
        ),
        (
            url(&unavailable),
            "received-status=503",
            json!(["fallback"]),
        ),
        (
            url(&silent),
            "error=http_response_timeout",
            json!(["upstream_timeout", "fallback"]),
        ),
        (
            url(&rude),
            "error=connection_terminated",
            json!(["upstream_reset", "fallback"]),
        ),
    ] {
        let config = config(&target, ANSWER, &spare).replace("outlier", "retry: off, outlier");
        let gateway = Gateway::start(&config).await;
        for method in [Method::GET, Method::POST] {
            let answer = gateway
                .request(method, "/a")
                .send()
                .await
                .assert_status(200);
            assert_eq!(answer.text(), "{\"orders\":[]}");
            let answer = answer.assert_header("content-type", "application/json");
            let expected = format!("tollgate; {status}; details=\"fallback\"");
            answer.assert_header("proxy-status", &expected);
        }
        let line = &gateway.log(2).await[0];
        let mut found: Vec<_> = line["flags"].as_array().unwrap().clone();
        found.sort_by_key(|flag| flag == "fallback");
        assert_eq!(json!(found), flags, "{target}");
        assert_eq!(line["status"], 200);
    }
}

#[tokio::test]
async fn an_open_circuit_and_a_full_service_fall_back_too() {
    let (spare, failing) = (answering(200, "spare").await, answering(503, "no").await);
    let target = format!("http://{}", failing.address);
    let fallback = "on: [circuit_open], service: spare";
    let config = config(&target, fallback, &spare).replace(
        "outlier",
        "retry: off, circuit_breaker: { minimum_requests: 3 }, outlier",
    );
    let gateway = Gateway::start(&config).await;
    for _ in 0..3 {
        gateway.get("/a").send().await.assert_status(503);
    }
    // Nothing was sent, so it is safe whatever the method.
    let answer = gateway.post("/a").send().await.assert_status(200);
    assert_eq!(answer.text(), "spare");
    let expected = "tollgate; error=destination_unavailable; details=\"fallback\"";
    answer.assert_header("proxy-status", expected);
    let log = gateway.log(4).await;
    let line = log.iter().find(|line| line["status"] == 200).unwrap();
    assert_eq!(line["flags"], json!(["circuit_open", "fallback"]));
    assert_eq!(line["service"], "spare");
    assert_eq!(line["endpoint"], format!("http://{}", spare.address));
}

#[tokio::test]
async fn another_service_gets_the_whole_request() {
    let (spare, failing) = (answering(200, "spare").await, answering(503, "no").await);
    let target = format!("http://{}", failing.address);
    let gateway = Gateway::start(&config(&target, "service: spare", &spare)).await;
    let body = Bytes::from(vec![b'x'; 30_000]);
    let request = gateway.request(Method::PUT, "/a/b?c").body(body.clone());
    assert_eq!(request.send().await.assert_status(200).text(), "spare");
    let seen = spare.last();
    assert_eq!((seen.method.as_str(), &*seen.target), ("PUT", "/a/b?c"));
    assert_eq!(seen.body, body);
    assert_eq!(seen.header("host"), Some(&*spare.address.to_string()));
    // The retries came first.
    assert_eq!(failing.seen().len(), 3);
    // What may have had an effect is not done twice.
    gateway.post("/a").send().await.assert_status(503);
    assert_eq!(spare.seen().len(), 1);
}

#[tokio::test]
async fn a_fallback_that_fails_is_no_loop() {
    let (spare, failing) = (answering(503, "spare").await, answering(502, "no").await);
    let target = format!("http://{}", failing.address);
    let gateway = Gateway::start(&config(&target, "service: spare", &spare)).await;
    let answer = gateway.get("/a").send().await.assert_status(503);
    assert_eq!(answer.text(), "spare");
    assert_eq!((failing.seen().len(), spare.seen().len()), (3, 3));
}

#[tokio::test]
async fn only_what_is_named_falls_back() {
    let (spare, failing) = (answering(200, "spare").await, answering(500, "no").await);
    let target = format!("http://{}", failing.address);
    let gateway = Gateway::start(&config(&target, "body: rest", &spare)).await;
    let answer = gateway.get("/a").send().await.assert_status(500);
    assert_eq!(answer.text(), "no");
    assert_eq!(answer.header("proxy-status"), None);
    let gateway = Gateway::start(&config(&target, "on: [500], body: rest", &spare)).await;
    let answer = gateway.get("/a").send().await.assert_status(503);
    assert_eq!(answer.text(), "rest");
    // The client's own mistakes stay its own.
    gateway.get("/nowhere").send().await.assert_status(404);
}
