//! Upgrades: no request on an encrypted connection is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use tokio::sync::Notify;

use super::gateway;
use super::http2::{ask, connect, get};
use super::support::{Authority, Client, Upstream, dial};

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_end_and_new_ones_are_served_by_the_successor() {
    let authority = Authority::new();
    let (arrived, may_end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counted, awaited) = (arrived.clone(), may_end.clone());
    let upstream = Upstream::serving(move |request: hyper::Request<hyper::body::Incoming>| {
        let (counted, awaited) = (counted.clone(), awaited.clone());
        async move {
            if request.uri().path() == "/slow" {
                counted.fetch_add(1, Ordering::SeqCst);
                awaited.notified().await;
            }
            Response::new(Full::new(Bytes::from_static(b"hello")).boxed())
        }
    })
    .await;
    let mut gateway = gateway(&authority, &upstream, "").await;
    let config = Arc::new(authority.client(&["http/1.1"]));
    let stream = dial(gateway.address, "a.example", &config).await.unwrap();
    let mut first = Client::over(stream, "a.example").await;
    let first = tokio::spawn(async move { first.get("/slow").await.status.as_u16() });
    let sender = connect(gateway.address, &authority, "a.example").await;
    let slow = tokio::spawn(ask(sender.clone(), get("https://a.example/slow")));
    while arrived.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gateway.upgrade().await;
    // The old process lets go of this connection as soon as nothing is under way on it.
    let mut idle = sender;
    may_end.notify_one();
    may_end.notify_one();
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(slow.await.unwrap().0, 200);
    assert!(gateway.wait().await.success());
    assert!(idle.ready().await.is_err() || idle.is_closed());
    let sender = connect(gateway.address, &authority, "a.example").await;
    assert_eq!(ask(sender, get("https://a.example/")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_processes_change() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let mut gateway = gateway(&authority, &upstream, "").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let config = Arc::new(authority.client(&["http/1.1"]));
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (config, address) = (config.clone(), gateway.address);
        let (is_over, count) = (is_over.clone(), count.clone());
        clients.push(tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                let stream = dial(address, "a.example", &config).await.unwrap();
                let mut client = Client::over(stream, "a.example").await;
                client.get("/").await.assert_status(200);
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for _ in 0..2 {
        gateway.upgrade().await;
        let so_far = count.load(Ordering::Relaxed);
        while count.load(Ordering::Relaxed) < so_far + 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}
