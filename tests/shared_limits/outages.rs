//! The store is gone for a while, in every way, and comes back.

use std::time::Duration;

use serde_json::json;

use crate::fleet::{Fleet, GATEWAYS, at, config, limit, said, until};
use crate::load::{Load, counts};
use crate::support::{Gateway, Redis, Relay};

#[derive(Debug, Clone, Copy)]
enum Outage {
    /// It is ended, and started again without what it knew.
    Killed,
    /// It is stopped, and the system takes connections for it.
    Paused,
    /// Nothing passes on connections old and new.
    Hanging,
    /// What it is told is done, and nobody hears of it.
    Mute,
    /// Connections are reset.
    Cut,
    /// Answers come a little too late.
    Slow,
}

impl Outage {
    fn begin(self, server: &mut Redis, relay: &Relay) {
        match self {
            Self::Killed => server.kill(),
            Self::Paused => server.pause(),
            Self::Hanging => relay.hang(),
            Self::Mute => relay.hold_answers(),
            Self::Cut => relay.cut(),
            Self::Slow => relay.delay(Duration::from_millis(600)),
        }
    }

    async fn end(self, server: &mut Redis, relay: &Relay) {
        match self {
            Self::Killed => server.restart().await,
            Self::Paused => server.resume(),
            Self::Hanging | Self::Mute | Self::Cut => relay.mend(),
            Self::Slow => relay.delay(Duration::ZERO),
        }
    }
}

fn routes() -> Vec<(&'static str, String)> {
    let limit = |rest| limit(31, "1d", &format!("algorithm: fixed_window, {rest}"));
    vec![
        ("/strict", limit("mode: strict")),
        ("/fast", limit("on_store_failure: local")),
        ("/allow", limit("on_store_failure: allow")),
        ("/deny", limit("on_store_failure: deny, mode: strict")),
    ]
}

async fn fleet(to: std::net::SocketAddr) -> Fleet {
    let routes = routes();
    let routes: Vec<(&str, &str)> = routes
        .iter()
        .map(|(path, limit)| (*path, &**limit))
        .collect();
    Fleet::begin(&config(&at(to), &routes)).await
}

/// A question or two for each gateway, whatever the answer.
async fn touch(fleet: &Fleet, path: &str) {
    for gateway in &fleet.0 {
        gateway.get(path).header("x-key", "touch").send().await;
    }
}

/// Until the store answers again, limits are decided as they say, and it is not asked once.
async fn decide_without_it(fleet: &Fleet) {
    let questions = "tollgate_rate_limit_store_questions_total";
    let before = fleet.sum(questions).await;
    for path in ["/strict", "/fast"] {
        let load = Load::start(&fleet.0, path, &["out".to_owned()]);
        load.until_refused(100).await;
        // Each has a third, rounded up.
        assert_eq!(load.end().await.total(), 33, "{path}");
    }
    let load = Load::start(&fleet.0, "/allow", &["out".to_owned()]);
    load.until_answered(200).await;
    assert_eq!((load.refused(), load.unavailable()), (0, 0));
    load.end().await;
    let load = Load::start(&fleet.0, "/deny", &["out".to_owned()]);
    load.until_answered(200).await;
    assert_eq!((load.admitted(), load.refused()), (0, 0));
    load.end().await;
    assert_eq!(fleet.sum(questions).await, before);
    for gateway in &fleet.0 {
        refuses_for_want_of_the_store(gateway).await;
    }
}

async fn refuses_for_want_of_the_store(gateway: &Gateway) {
    let answer = gateway
        .get("/deny")
        .header("x-request-id", "denied")
        .send()
        .await;
    let answer = answer
        .assert_status(503)
        .assert_header("retry-after", "1")
        .assert_header("content-type", "application/problem+json")
        .assert_header("proxy-status", "tollgate; error=http_request_denied")
        .assert_no_header("ratelimit");
    let kind = "urn:tollgate:problem:rate-limit-store-unavailable";
    assert_eq!(answer.json()["type"], kind);
    let id = answer.json()["instance"].clone();
    until("it is logged", async || {
        let log = gateway.log(1).await;
        let line = log.iter().find(|line| line["id"] == id);
        line.is_some_and(|line| {
            assert_eq!(line["flags"], json!(["rate_limit_store_unavailable"]));
            assert_eq!(line["limit"], "/deny");
            true
        })
    })
    .await;
    assert_eq!(gateway.status().await["limit_store"], "down");
}

/// What was admitted meanwhile is counted, and all is as before.
async fn is_told(fleet: &Fleet, server: &Redis) {
    until("the store is told", async || {
        // Of two limits; and what is not the end is the same for both.
        let counts = counts(server).await;
        counts.iter().filter(|count| **count == 33).count() == 2
    })
    .await;
    // A fast limit gives each gateway a credit of one.
    for (path, credit) in [("/strict", 0), ("/fast", GATEWAYS)] {
        let load = Load::start(&fleet.0, path, &["out".to_owned()]);
        load.until_refused(50).await;
        assert!(load.end().await.total() <= credit, "{path}");
        let load = Load::start(&fleet.0, path, &["after".to_owned()]);
        load.until("it is admitted", |it| it.admitted() >= 31).await;
        load.until_refused(50).await;
        let admitted = load.end().await.total();
        assert!(admitted <= 31 + credit, "{path}: {admitted}");
    }
    for gateway in &fleet.0 {
        assert_eq!(said(gateway, "counted by the store: "), 1);
        assert_eq!(said(gateway, "store of shared limits does not answer"), 1);
        assert_eq!(said(gateway, "counted by the store again: "), 1);
        assert_eq!(said(gateway, "a server of shared limits"), 0);
        assert!(gateway.status().await.get("limit_store").is_none());
    }
}

async fn goes_and_comes_back(outage: Outage) {
    let mut server = Redis::start().await;
    let relay = Relay::to(server.address).await;
    let fleet = fleet(relay.address).await;
    fleet.until_known(GATEWAYS).await;
    for path in ["/strict", "/fast", "/allow", "/deny"] {
        touch(&fleet, path).await;
    }
    outage.begin(&mut server, &relay);
    // Requests find out, or the next greetings.
    touch(&fleet, "/strict").await;
    fleet.until_up(false).await;
    decide_without_it(&fleet).await;
    outage.end(&mut server, &relay).await;
    fleet.until_up(true).await;
    fleet.until_known(GATEWAYS).await;
    is_told(&fleet, &server).await;
}

#[tokio::test]
async fn a_store_that_is_ended_and_started_again() {
    goes_and_comes_back(Outage::Killed).await;
}

#[tokio::test]
async fn a_store_that_is_stopped() {
    goes_and_comes_back(Outage::Paused).await;
}

#[tokio::test]
async fn a_store_that_nothing_reaches() {
    goes_and_comes_back(Outage::Hanging).await;
}

#[tokio::test]
async fn a_store_of_which_nothing_is_heard() {
    goes_and_comes_back(Outage::Mute).await;
}

#[tokio::test]
async fn a_store_whose_connections_are_reset() {
    goes_and_comes_back(Outage::Cut).await;
}

#[tokio::test]
async fn a_store_that_is_too_slow() {
    goes_and_comes_back(Outage::Slow).await;
}

/// Just within the time that it has, each request waits, and all is counted.
#[tokio::test]
async fn a_store_that_is_slow_but_not_too_slow_is_asked() {
    let server = Redis::start().await;
    let relay = Relay::to(server.address).await;
    relay.delay(Duration::from_millis(150));
    let fleet = fleet(relay.address).await;
    fleet.until_known(GATEWAYS).await;
    for (path, credit) in [("/strict", 0), ("/fast", GATEWAYS)] {
        let load = Load::start(&fleet.0, path, &["key".to_owned()]);
        load.until("it is admitted", |it| it.admitted() >= 31).await;
        load.until_refused(50).await;
        let admitted = load.end().await.total();
        assert!(admitted <= 31 + credit, "{path}: {admitted}");
    }
    for name in ["failures", "alone"] {
        let name = format!("tollgate_rate_limit_store_{name}_total");
        assert_eq!(fleet.sum(&name).await, 0, "{name}");
    }
}

/// It is not waited for when a gateway starts, and used when it comes.
#[tokio::test]
async fn a_store_that_is_not_there_yet() {
    let mut server = Redis::start().await;
    server.kill();
    let fleet = fleet(server.address).await;
    for gateway in &fleet.0 {
        gateway.admin("/readyz").await.assert_status(200);
        refuses_for_want_of_the_store(gateway).await;
        for path in ["/strict", "/fast", "/allow"] {
            let answer = gateway.get(path).header("x-key", "early").send().await;
            answer.assert_status(200);
        }
        assert_eq!(said(gateway, "Connection refused"), 1);
    }
    server.restart().await;
    fleet.until_known(GATEWAYS).await;
    until("the store is told", async || {
        let mut counts = counts(&server).await;
        counts.sort_unstable();
        counts == [3, 3]
    })
    .await;
    let load = Load::start(&fleet.0, "/strict", &["key".to_owned()]);
    load.until_refused(50).await;
    assert_eq!(load.end().await.total(), 31);
}
