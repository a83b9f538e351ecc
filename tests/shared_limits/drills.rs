//! What breaks while a fleet is under load.

use std::net::SocketAddr;

use crate::fleet::{Fleet, GATEWAYS, at, config, limit, said};
use crate::load::{CLIENTS, Load};
use crate::support::{Redis, Setup};

const LIMIT: usize = 600;
/// A gateway's credit of that limit.
const CREDIT: usize = LIMIT / (100 * GATEWAYS);

/// Under `/fast` and `/strict`.
async fn start(address: SocketAddr) -> Fleet {
    let limit = |mode| {
        limit(
            LIMIT,
            "1d",
            &format!("algorithm: fixed_window, mode: {mode}"),
        )
    };
    let (fast, strict) = (limit("fast"), limit("strict"));
    let routes = [("/fast", &*fast), ("/strict", &*strict)];
    Fleet::start(&config(&at(address), &routes)).await
}

fn key() -> Vec<String> {
    vec!["key".to_owned()]
}

#[tokio::test]
async fn a_gateway_that_is_killed_takes_no_more_than_its_lease_with_it() {
    let server = Redis::start().await;
    for (path, credit) in [("/strict", 0), ("/fast", CREDIT)] {
        let fleet = start(server.address).await;
        let key = [format!("{path}-key")];
        let load = Load::start(&fleet.0, path, &key);
        load.until("a quarter is admitted", |it| it.admitted() >= LIMIT / 4)
            .await;
        fleet.0[0].signal("KILL");
        let refused = load.refused();
        load.until("the rest is admitted", |it| it.refused() >= refused + 300)
            .await;
        let admitted = load.end().await.total();
        // Its clients did not hear of their last requests. A lease is at most half of a gateway's part of
        // what is left, on top of less than half of the lease before.
        let lease = if credit > 0 {
            LIMIT / (2 * GATEWAYS) * 3 / 2
        } else {
            0
        };
        let least = LIMIT - CLIENTS - lease;
        let most = LIMIT + GATEWAYS * credit;
        assert!((least..=most).contains(&admitted), "{path}: {admitted}");
        // The others know after a few seconds that there is one less.
        let survivors = Fleet(fleet.0.into_iter().skip(1).collect());
        survivors.until_known(GATEWAYS - 1).await;
    }
}

/// Without its memory a store counts anew, but what was admitted meanwhile; nobody is turned away by an
/// error.
#[tokio::test]
async fn a_store_that_is_killed_under_load_costs_at_most_the_limit_again() {
    for (setup, is_persistent) in [(Setup::new(), false), (Setup::new().persistent(), true)] {
        let mut server = setup.start().await;
        let fleet = start(server.address).await;
        for (path, credit) in [("/strict", 0), ("/fast", CREDIT)] {
            let load = Load::start(&fleet.0, path, &key());
            load.until("a half is admitted", |it| it.admitted() >= LIMIT / 2)
                .await;
            server.kill();
            fleet.until_up(false).await;
            load.until_answered(300).await;
            let alone = load.admitted();
            server.restart().await;
            fleet.until_up(true).await;
            fleet.until_known(GATEWAYS).await;
            load.until("all is admitted", |it| it.admitted() >= LIMIT)
                .await;
            load.until_refused(100).await;
            let admitted = load.end().await.total();
            let credits = 2 * GATEWAYS * credit;
            assert!(alone <= 2 * LIMIT + credits, "{path}: {alone}");
            let most = if is_persistent { 2 * LIMIT } else { 3 * LIMIT };
            assert!(admitted <= most + credits, "{path}: {admitted}");
        }
        for gateway in &fleet.0 {
            assert_eq!(said(gateway, "does not answer"), 2);
            assert_eq!(said(gateway, "counted by the store again"), 2);
        }
    }
}

/// Scripts are gone, too.
#[tokio::test]
async fn a_store_that_is_flushed_under_load_counts_anew() {
    let server = Redis::start().await;
    let fleet = start(server.address).await;
    let load = Load::start(&fleet.0, "/strict", &key());
    load.until("all is admitted", |it| it.admitted() >= LIMIT)
        .await;
    load.until_refused(50).await;
    assert_eq!(load.admitted(), LIMIT);
    server.flush().await;
    load.until("as much is admitted again", |it| it.admitted() >= 2 * LIMIT)
        .await;
    load.until_refused(50).await;
    assert_eq!(load.end().await.total(), 2 * LIMIT);
    // A fast limit is closed as long as the store had said.
    let load = Load::start(&fleet.0, "/fast", &key());
    load.until("all is admitted", |it| it.admitted() >= LIMIT)
        .await;
    load.until_refused(50).await;
    server.flush().await;
    load.until_refused(50).await;
    assert!(load.end().await.total() <= LIMIT + GATEWAYS * CREDIT);
    let load = Load::start(&fleet.0, "/fast", &["other".to_owned()]);
    load.until("all is admitted", |it| it.admitted() >= LIMIT)
        .await;
    load.until_refused(50).await;
    assert!(load.end().await.total() <= LIMIT + GATEWAYS * CREDIT);
    assert_eq!(
        fleet.sum("tollgate_rate_limit_store_failures_total").await,
        0
    );
}
