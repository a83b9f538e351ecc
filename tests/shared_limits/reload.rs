//! The configuration or the program changes under a fleet.

use crate::fleet::{Fleet, GATEWAYS, at, config, limit, metric, said, until, until_up};
use crate::load::{Load, counts};
use crate::support::{Gateway, Redis, Relay};

fn strict(each: usize) -> String {
    limit(each, "1d", "algorithm: fixed_window, mode: strict")
}

async fn reload(gateway: &Gateway, from: &str, to: &str) {
    gateway.edit(from, to);
    let (code, printed, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{printed}{said}");
}

async fn admits(gateway: &Gateway) -> usize {
    let mut admitted = 0;
    for _ in 0..12 {
        admitted += usize::from(gateway.get("/a").send().await.status == 200);
    }
    admitted
}

/// Waits until nobody has a connection to a server.
async fn until_left(server: &Redis) {
    until("nobody asks it any more", async || {
        let clients = server.command(&["CLIENT", "LIST"]).await;
        !clients.contains("cmd=eval")
    })
    .await;
}

#[tokio::test]
async fn a_store_whose_settings_are_the_same_is_not_connected_to_again() {
    let server = Redis::start().await;
    let relay = Relay::to(server.address).await;
    let gateway = Gateway::start(&config(&at(relay.address), &[("/a", &strict(5))])).await;
    until_up(&gateway, true).await;
    assert_eq!(admits(&gateway).await, 5);
    let (code, ..) = gateway.command(&["diff"]).await;
    assert_eq!(code, 0);
    reload(&gateway, "body: ok", "body: other").await;
    assert_eq!(admits(&gateway).await, 0);
    // Another limit has a count of its own, and the one before is there when it comes back.
    reload(&gateway, "limit: 5", "limit: 7").await;
    assert_eq!(admits(&gateway).await, 7);
    reload(&gateway, "limit: 7", "limit: 5").await;
    assert_eq!(admits(&gateway).await, 0);
    assert_eq!(relay.connections(), 1);
    let mut counts = counts(&server).await;
    counts.sort_unstable();
    assert_eq!(counts, [5, 7]);
}

#[tokio::test]
async fn another_store_is_used_and_the_one_before_is_left() {
    let (one, other) = (Redis::start().await, Redis::start().await);
    let fleet = Fleet::start(&config(&at(one.address), &[("/a", &strict(5))])).await;
    assert_eq!(admits(&fleet.0[0]).await, 5);
    let (from, to) = (one.address.to_string(), other.address.to_string());
    for gateway in &fleet.0 {
        reload(gateway, &from, &to).await;
    }
    fleet.until_known(GATEWAYS).await;
    until_left(&one).await;
    assert_eq!(admits(&fleet.0[1]).await, 5);
    assert_eq!(
        (counts(&one).await, counts(&other).await),
        (vec![5], vec![5])
    );
    // Without one, each counts for itself.
    let gateway = &fleet.0[0];
    gateway.edit(&at(other.address), "url: \"redis://127.0.0.1:1\"");
    gateway.edit(
        "store: redis, algorithm: fixed_window, mode: strict",
        "store: local",
    );
    reload(gateway, "redis: { url: \"redis://127.0.0.1:1\" }", "").await;
    assert_eq!(admits(gateway).await, 5);
    let metrics = gateway.admin("/metrics").await.text();
    assert!(
        !metrics.contains("tollgate_rate_limit_store_up"),
        "{metrics}"
    );
    Fleet(fleet.0.into_iter().skip(1).collect())
        .until_known(GATEWAYS - 1)
        .await;
}

/// A request never waits for the store that is new: it is decided without it until it answers.
#[tokio::test]
async fn a_store_that_is_not_there_can_be_changed_to() {
    let server = Redis::start().await;
    let gateway = Gateway::start(&config(&at(server.address), &[("/a", &strict(5))])).await;
    until_up(&gateway, true).await;
    assert_eq!(admits(&gateway).await, 5);
    reload(&gateway, &server.address.to_string(), "127.0.0.1:1").await;
    until_up(&gateway, false).await;
    assert_eq!(admits(&gateway).await, 5);
    until("it is told", async || {
        said(&gateway, "store=127.0.0.1:1 ") == 1
    })
    .await;
    until_left(&server).await;
    // Nothing is heard of it any more once it is not in the configuration.
    reload(&gateway, "127.0.0.1:1\"", &format!("{}\"", server.address)).await;
    until_up(&gateway, true).await;
    assert_eq!(admits(&gateway).await, 0);
    assert_eq!(said(&gateway, "store=127.0.0.1:1 "), 1);
}

#[tokio::test]
async fn counts_hold_on_over_an_upgrade() {
    let server = Redis::start().await;
    let fast = limit(600, "1d", "algorithm: fixed_window");
    let routes = [("/a", &*strict(5)), ("/fast", &*fast)];
    let mut fleet = Fleet::start(&config(&at(server.address), &routes)).await;
    assert_eq!(admits(&fleet.0[0]).await, 5);
    let load = Load::start(&fleet.0, "/fast", &["key".to_owned()]);
    load.until("a half is admitted", |it| it.admitted() >= 300)
        .await;
    let before = load.end().await.total();
    for gateway in &mut fleet.0 {
        gateway.upgrade().await;
    }
    for gateway in &fleet.0 {
        assert!(gateway.left_behind().await.is_empty());
        until_up(gateway, true).await;
        assert_eq!(admits(gateway).await, 0);
    }
    fleet.until_known(GATEWAYS).await;
    let load = Load::start(&fleet.0, "/fast", &["key".to_owned()]);
    load.until_refused(100).await;
    // Each old process and each new one has a credit, and an old one may have had a lease.
    let admitted = before + load.end().await.total();
    let (credits, leases) = (2 * GATEWAYS * 2, 600 / 4);
    assert!(admitted <= 600 + credits, "{admitted}");
    assert!(admitted >= 600 - leases, "{admitted}");
    assert_eq!(
        metric(&fleet.0[0], "tollgate_rate_limit_store_failures_total").await,
        0
    );
}
