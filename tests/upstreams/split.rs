//! Requests shared out among services, and copied to others.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::support::{Gateway, Upstream};
use bytes::Bytes;
use hyper::Response;
use serde_json::json;

async fn saying(name: &'static str) -> Upstream {
    Upstream::answering(move |_| Response::new(Bytes::from_static(name.as_bytes()))).await
}

fn config(one: &Upstream, two: &Upstream, route: &str) -> String {
    format!(
        "services:
  one: {{ base_url: \"http://{}\", routes: [{{ prefix: /a, {route} }}] }}
  two: {{ base_url: \"http://{}/base\", routes: [/two] }}",
        one.address, two.address
    )
}

#[tokio::test]
async fn each_service_gets_its_share() {
    let (one, two) = (saying("one").await, saying("two").await);
    let split = "split: [{ service: one, weight: 80 }, { service: two, weight: 20 }]";
    let gateway = Gateway::start(&config(&one, &two, split)).await;
    let mut kept = gateway.connect().await;
    for _ in 0..500 {
        kept.get("/a").await.assert_status(200);
    }
    // Five deviations of a fifth of 500.
    assert!(
        (55..=145).contains(&two.seen().len()),
        "{}",
        two.seen().len()
    );
    assert_eq!(two.last().target, "/base/a");
    let log = gateway.log(500).await;
    let services: HashSet<_> = log
        .iter()
        .map(|it| it["service"].as_str().unwrap())
        .collect();
    assert_eq!(services, HashSet::from(["one", "two"]));
}

#[tokio::test]
async fn whoever_is_in_stays_in() {
    let (one, two) = (saying("one").await, saying("two").await);
    let split = "split: [{ service: one, weight: 50 }, { service: two, weight: 50 }], split_by: \"cookie:user\"";
    let gateway = Gateway::start(&config(&one, &two, split)).await;
    let ask = async |user: usize| {
        let request = gateway.get("/a").header("cookie", &format!("user={user}"));
        request.send().await.assert_status(200).text()
    };
    let mut first = Vec::new();
    for user in 0..40 {
        first.push(ask(user).await);
        assert_eq!(ask(user).await, first[user]);
    }
    assert!(first.contains(&"one".to_owned()) && first.contains(&"two".to_owned()));
    gateway.edit("weight: 50 }]", "weight: 200 }]");
    while !gateway.process_log().contains("reloaded") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut moved = 0;
    for (user, before) in first.iter().enumerate() {
        let now = ask(user).await;
        moved += usize::from(now != *before);
        assert!(now == *before || now == "two");
    }
    assert!(moved > 0);
}

async fn until_seen(upstream: &Upstream, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while upstream.seen().len() < count {
        assert!(
            Instant::now() < deadline,
            "{} of {count}",
            upstream.seen().len()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_copy_is_the_same_request() {
    let (one, two) = (saying("one").await, saying("two").await);
    let gateway = Gateway::start(&config(&one, &two, "mirror: { service: two }")).await;
    let body = Bytes::from(vec![b'x'; 40_000]);
    let request = gateway
        .post("/a/b?c=d")
        .header("x-mine", "1")
        .body(body.clone());
    assert_eq!(request.send().await.assert_status(200).text(), "one");
    gateway.get("/a").send().await.assert_status(200);
    until_seen(&two, 2).await;
    let seen = two.seen();
    let copy = seen.iter().find(|it| it.method == "POST").unwrap();
    assert_eq!(copy.target, "/base/a/b?c=d");
    assert_eq!(copy.body, body);
    assert_eq!(copy.header("x-mine"), Some("1"));
    assert_eq!(copy.header("x-tollgate-mirror"), Some("1"));
    assert_eq!(copy.header("host"), Some(&*two.address.to_string()));
    let original = one.seen();
    let original = original.iter().find(|it| it.method == "POST").unwrap();
    assert_eq!(original.header("x-tollgate-mirror"), None);
    assert_eq!(original.header("x-request-id"), copy.header("x-request-id"));
    let log = gateway.log(2).await;
    assert!(log.iter().all(|line| line["flags"] == json!(["mirrored"])));
    assert!(log.iter().all(|line| line["service"] == "one"));
}

#[tokio::test]
async fn nobody_waits_for_a_copy_or_notices_that_it_failed() {
    let one = saying("one").await;
    for two in [
        Upstream::raw(|stream| async move {
            let _open = stream;
            tokio::time::sleep(Duration::from_secs(60)).await;
        })
        .await,
        Upstream::raw(|_| async {}).await,
    ] {
        let config = config(&one, &two, "mirror: { service: two }");
        let gateway = Gateway::start(&config).await;
        let mut kept = gateway.connect().await;
        for _ in 0..200 {
            let answer = kept.get("/a").await.assert_status(200);
            assert_eq!(answer.text(), "one");
        }
        // What is never answered piles up no further than the service bears.
        assert!(two.connections() >= 20);
    }
}

#[tokio::test]
async fn a_share_of_the_requests_is_copied_and_large_bodies_are_not() {
    let (one, two) = (saying("one").await, saying("two").await);
    let mirror = "mirror: { service: two, share: 20% }";
    let gateway = Gateway::start(&config(&one, &two, mirror)).await;
    let mut kept = gateway.connect().await;
    for _ in 0..500 {
        kept.get("/a").await.assert_status(200);
    }
    let is_copied = |line: &&serde_json::Value| line["flags"] == json!(["mirrored"]);
    let copied = gateway.log(500).await.iter().filter(is_copied).count();
    assert!((55..=145).contains(&copied), "{copied}");
    until_seen(&two, copied).await;
    let gateway = Gateway::start(&config(&one, &two, "mirror: { service: two }")).await;
    let large = Bytes::from(vec![b'x'; 200_000]);
    gateway
        .post("/a")
        .body(large)
        .send()
        .await
        .assert_status(200);
    gateway.get("/a?last").send().await.assert_status(200);
    until_seen(&two, copied + 1).await;
    assert_eq!(two.seen().len(), copied + 1);
    assert!(two.last().target.ends_with("?last"));
}

#[tokio::test]
async fn explain_shows_who_gets_what() {
    let (one, two) = (saying("one").await, saying("two").await);
    let route = "split: [{ service: one, weight: 3 }, { service: two }], mirror: { service: two, share: 5% }";
    let gateway = Gateway::start(&config(&one, &two, route)).await;
    let config = gateway.config_path();
    let arguments = ["explain", "/a/x", "-c", config.to_str().unwrap()];
    let text = crate::support::run(&arguments, std::path::Path::new("."));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("service   one 75.0%, two 25.0%"), "{text}");
    assert!(text.contains("mirror    two, 5%"), "{text}");
    assert!(
        text.contains(&format!("or http://{}/base/a/x", two.address)),
        "{text}"
    );
}
