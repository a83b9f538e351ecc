//! Answers that go before their time: by URL, prefix and tag, hard and soft.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::json;

use crate::support::{Answer, Gateway, Request, Upstream};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Each answer is another one; `/tagged/…` has tags.
async fn backend() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::answering(move |seen| {
        let mut response = Response::builder()
            .header("cache-control", "max-age=600, stale-if-error=600")
            .header("vary", "accept");
        if seen.target.starts_with("/tagged/key") {
            response = response.header("surrogate-key", "one two");
        } else if seen.target.starts_with("/tagged/tag") {
            response = response.header("cache-tag", "two, three");
        }
        let number = count.fetch_add(1, Ordering::Relaxed);
        response.body(Bytes::from(number.to_string())).unwrap()
    })
    .await
}

async fn gateway(upstream: &Upstream) -> Gateway {
    let config = format!(
        "server: {{ listen: $LISTEN }}
admin: {{ listen: $ADMIN, token: {TOKEN} }}
services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], outlier_detection: off, retry: off, cache: {{}} }} }}",
        upstream.address
    );
    Gateway::start_in(tempfile::tempdir().unwrap(), &config, &[]).await
}

async fn get(gateway: &Gateway, host: &str, path: &str, accept: &str) -> String {
    let request = gateway
        .get(path)
        .header("host", host)
        .header("accept", accept);
    request.send().await.assert_status(200).text()
}

/// All that is kept: the hosts, paths and variants of the test.
async fn all(gateway: &Gateway) -> Vec<String> {
    let mut answers = Vec::new();
    for host in ["one.example", "two.example"] {
        for path in ["/a", "/a?x=1", "/a/b", "/tagged/key", "/tagged/tag"] {
            for accept in ["a", "b"] {
                answers.push(get(gateway, host, path, accept).await);
            }
        }
    }
    answers
}

async fn send(gateway: &Gateway, body: String) -> Answer {
    let request = Request::new(gateway.admin, Method::POST, "/purge");
    let request = request.header("authorization", &format!("Bearer {TOKEN}"));
    request.body(body).send().await
}

#[tokio::test]
async fn a_purge_meets_what_it_names_and_nothing_else() {
    let upstream = backend().await;
    let gateway = gateway(&upstream).await;
    let mut before = all(&gateway).await;
    for (target, expected) in [
        (json!({"url": "http://one.example/a"}), vec![0, 1]),
        (json!({"url": "https://ONE.example:443/a?x=1"}), vec![2, 3]),
        (json!({"url": "/a"}), vec![0, 1, 10, 11]),
        (json!({"url": "http://one.example/"}), vec![]),
        (
            json!({"prefix": "http://two.example/a"}),
            vec![10, 11, 12, 13, 14, 15],
        ),
        (json!({"prefix": "/a/"}), vec![4, 5, 14, 15]),
        (json!({"tag": "one"}), vec![6, 7, 16, 17]),
        (json!({"tag": "two"}), vec![6, 7, 8, 9, 16, 17, 18, 19]),
        (json!({"tag": "none"}), vec![]),
        (json!("all"), (0..20).collect()),
    ] {
        let answer = send(&gateway, json!({"target": target}).to_string())
            .await
            .assert_status(200);
        assert_eq!(answer.json()["objects"], expected.len(), "{target}");
        let after = all(&gateway).await;
        let changed: Vec<usize> = (0..20).filter(|at| before[*at] != after[*at]).collect();
        assert_eq!(changed, expected, "{target}");
        before = after;
    }
}

#[tokio::test]
async fn a_soft_purge_leaves_an_answer_for_when_the_backend_fails() {
    let upstream = backend().await;
    let gateway = gateway(&upstream).await;
    let first = get(&gateway, "h", "/a", "a").await;
    let soft = json!({"target": {"url": "http://h/a"}, "soft": true}).to_string();
    send(&gateway, soft.clone()).await.assert_status(200);
    let second = get(&gateway, "h", "/a", "a").await;
    assert_ne!(first, second);
    assert_eq!(
        get(&gateway, "h", "/a", "a").await,
        second,
        "it is fresh again"
    );
    send(&gateway, soft).await.assert_status(200);
    drop(upstream);
    assert_eq!(get(&gateway, "h", "/a", "a").await, second);
    send(&gateway, json!({"target": "all"}).to_string())
        .await
        .assert_status(200);
    let request = gateway.get("/a").header("host", "h").header("accept", "a");
    request.send().await.assert_status(502);
}

#[tokio::test]
async fn only_whoever_has_the_token_purges() {
    let upstream = backend().await;
    let gateway = gateway(&upstream).await;
    let first = get(&gateway, "h", "/a", "a").await;
    let post = || Request::new(gateway.admin, Method::POST, "/purge").body("{\"target\": \"all\"}");
    post().send().await.assert_status(401);
    post()
        .header("authorization", "Bearer x")
        .send()
        .await
        .assert_status(401);
    let request = Request::new(gateway.admin, Method::GET, "/purge");
    request
        .send()
        .await
        .assert_status(405)
        .assert_header("allow", "POST");
    for wrong in [
        "",
        "{}",
        "{\"target\": {\"url\": \"h\"}}",
        "{\"target\": {\"tag\": \"\"}}",
        "{\"target\": \"ALL\"}",
    ] {
        send(&gateway, wrong.to_owned()).await.assert_status(400);
    }
    assert_eq!(get(&gateway, "h", "/a", "a").await, first);
}

#[tokio::test]
async fn the_command_purges_too() {
    let upstream = backend().await;
    let gateway = gateway(&upstream).await;
    let first = get(&gateway, "h", "/tagged/key", "a").await;
    let (code, said, _) = gateway.command(&["purge", "--tag", "one", "--soft"]).await;
    assert_eq!((code, &*said), (0, "expired: 1 answer\n"));
    let second = get(&gateway, "h", "/tagged/key", "a").await;
    assert_ne!(second, first);
    let (code, said, _) = gateway.command(&["purge", "http://h/tagged/key"]).await;
    assert_eq!((code, &*said), (0, "purged: 1 answer\n"));
    let (code, said, _) = gateway.command(&["purge", "--all"]).await;
    assert_eq!((code, &*said), (0, "purged: 0 answers\n"));
    let (code, _, said) = gateway.command(&["purge", "nonsense"]).await;
    assert_eq!(code, 1);
    assert!(said.contains("send { \"target\""), "{said}");
    let (code, _, _) = gateway.command(&["purge"]).await;
    assert_eq!(code, 2);
}
