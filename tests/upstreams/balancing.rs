//! How backends share the requests.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::{Gateway, Upstream, service_of};
use bytes::Bytes;
use hyper::Response;

/// Backends that answer with their number.
async fn numbered(count: usize) -> Vec<Upstream> {
    let mut backends = Vec::new();
    for number in 0..count {
        let name = Bytes::from(number.to_string());
        backends.push(Upstream::answering(move |_| Response::new(name.clone())).await);
    }
    backends
}

#[tokio::test]
async fn the_same_key_finds_the_same_backend() {
    let backends = numbered(4).await;
    for (by, name, value) in [
        ("header:X-Tenant", "x-tenant", "tenant-"),
        ("cookie:sid", "cookie", "a=b; sid="),
    ] {
        let rest = format!("load_balancing: {{ hash: \"{by}\" }}");
        let gateway = Gateway::start(&service_of(&backends, &rest)).await;
        let mut all = HashSet::new();
        for key in 0..30 {
            let mut found = HashSet::new();
            for _ in 0..3 {
                let request = gateway.get("/a").header(name, &format!("{value}{key}"));
                found.insert(request.send().await.assert_status(200).text());
            }
            assert_eq!(found.len(), 1, "{by} {key}");
            all.extend(found);
        }
        assert_eq!(all.len(), 4);
    }
}

#[tokio::test]
async fn paths_and_addresses_are_keys_too() {
    let backends = numbered(4).await;
    let gateway = Gateway::start(&service_of(&backends, "load_balancing: { hash: path }")).await;
    let mut all = HashSet::new();
    for key in 0..30 {
        let path = format!("/a/{key}");
        let first = gateway.get(&path).send().await.text();
        assert_eq!(gateway.get(&format!("{path}?q")).send().await.text(), first);
        all.insert(first);
    }
    assert_eq!(all.len(), 4);
    let gateway = Gateway::start(&service_of(
        &backends,
        "load_balancing: { hash: client_ip }",
    ))
    .await;
    let first = gateway.get("/a").send().await.text();
    for _ in 0..10 {
        assert_eq!(gateway.get("/a").send().await.text(), first);
    }
}

#[tokio::test]
async fn a_key_moves_only_while_its_backend_is_away() {
    let mut backends = numbered(4).await;
    let rest = "load_balancing: { hash: \"header:X-Tenant\" }";
    let gateway = Gateway::start(&service_of(&backends, rest)).await;
    let mut homes = Vec::new();
    for key in 0..20 {
        let request = gateway.get("/a").header("x-tenant", &key.to_string());
        homes.push(request.send().await.assert_status(200).text());
    }
    let gone = backends.remove(2);
    drop(gone);
    for (key, home) in homes.iter().enumerate() {
        let request = gateway.get("/a").header("x-tenant", &key.to_string());
        let found = request.send().await.assert_status(200).text();
        assert_eq!(found == *home, home != "2", "{key}: {home} {found}");
    }
}

#[tokio::test]
async fn a_backend_that_hangs_gets_no_more_than_others_spare() {
    let backends = numbered(2).await;
    let stuck = Upstream::raw(|stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let mut all = backends;
    all.push(stuck);
    // The default law is by requests under way.
    let gateway = Gateway::start(&service_of(&all, "outlier_detection: off")).await;
    let waiting: Vec<_> = (0..4)
        .map(|_| tokio::spawn(gateway.get("/a").send()))
        .collect();
    while all[2].connections() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut kept = gateway.connect().await;
    // Each next request has another backend with less to do, if it draws one of those.
    let answer = kept.get("/a").await.assert_status(200);
    assert!(["0", "1"].contains(&&*answer.text()));
    for task in waiting {
        task.abort();
    }
}

#[tokio::test]
async fn every_law_serves() {
    let backends = numbered(3).await;
    for law in ["round_robin", "least_requests", "peak_ewma", "random"] {
        let gateway =
            Gateway::start(&service_of(&backends, &format!("load_balancing: {law}"))).await;
        let mut seen = HashSet::new();
        for _ in 0..60 {
            seen.insert(gateway.get("/a").send().await.assert_status(200).text());
        }
        assert_eq!(seen.len(), 3, "{law}");
    }
}
