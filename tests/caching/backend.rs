//! A backend that answers as it is told, and a gateway that keeps its answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Response;

use crate::support::{Answer, Gateway, Upstream};

/// Answers as the fields of a request say: `x-answer: Name=value|Name=value`, with `x-status`, and a body
/// that is another one each time. A conditional request for the entity tag it names gets 304.
pub async fn backend() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::answering(move |seen| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let fields = seen
            .header("x-answer")
            .unwrap_or("Cache-Control=max-age=60");
        let status = seen
            .header("x-status")
            .map_or(200, |it| it.parse().unwrap());
        let mut response = Response::builder().status(status);
        for field in fields.split('|').filter(|it| !it.is_empty()) {
            let (name, value) = field.split_once('=').unwrap();
            response = response.header(name, value);
        }
        let tag = fields.split('|').find_map(|it| it.strip_prefix("ETag="));
        if tag.is_some() && seen.header("if-none-match") == tag {
            return response.status(304).body(Bytes::new()).unwrap();
        }
        response
            .body(Bytes::from(format!("{number} {}", seen.method)))
            .unwrap()
    })
    .await
}

/// A gateway in front of it that keeps answers as `cache` says.
pub async fn gateway(upstream: &Upstream, cache: &str) -> Gateway {
    Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], cache: {cache} }} }}",
        upstream.address
    ))
    .await
}

/// What the backend answers `path` with, asked through the gateway.
pub async fn ask(gateway: &Gateway, path: &str, answer: &str) -> Answer {
    gateway.get(path).header("x-answer", answer).send().await
}

/// Whether the second of two same requests is answered with what the first one was.
pub async fn is_kept(gateway: &Gateway, path: &str, answer: &str) -> bool {
    let first = ask(gateway, path, answer).await;
    first.body == ask(gateway, path, answer).await.body
}

/// What the log says of so many requests, in no order: they may be on different threads.
pub async fn results(gateway: &Gateway, count: usize) -> Vec<String> {
    let log = gateway.log(count).await;
    let word = |line: &serde_json::Value| line["cache"].as_str().unwrap_or("-").to_owned();
    let mut words: Vec<String> = log.iter().map(word).collect();
    words.sort_unstable();
    words
}

pub async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
