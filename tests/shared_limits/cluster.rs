//! A cluster, of which each server keeps some of the keys.

use crate::fleet::{Fleet, GATEWAYS, config, limit, metric, said, until};
use crate::load::{Load, counts};
use crate::support::{Cluster, Setup};

const LIMIT: usize = 20;
const QUESTIONS: &str = "tollgate_rate_limit_store_questions_total";

fn at(cluster: &Cluster) -> String {
    let urls = cluster
        .nodes
        .iter()
        .map(|it| format!("\"redis://{}\"", it.address));
    let urls = urls.collect::<Vec<_>>().join(", ");
    format!("cluster: [{urls}], connect_timeout: 2s, command_timeout: 1s")
}

fn routes() -> [(&'static str, String); 3] {
    let limit = |rest: &str| limit(LIMIT, "1d", &format!("algorithm: fixed_window, {rest}"));
    [
        ("/strict", limit("mode: strict")),
        ("/fast", limit("mode: fast")),
        ("/deny", limit("mode: strict, on_store_failure: deny")),
    ]
}

async fn start(cluster: &Cluster) -> Fleet {
    let routes = routes();
    let routes = routes.each_ref().map(|(path, limit)| (*path, &**limit));
    Fleet::start(&config(&at(cluster), &routes)).await
}

fn keys(name: &str) -> Vec<String> {
    (0..30).map(|number| format!("{name}{number}")).collect()
}

/// What each server has counted.
async fn all_counts(cluster: &Cluster) -> Vec<Vec<u64>> {
    let mut all = Vec::new();
    for node in &cluster.nodes {
        all.push(counts(node).await);
    }
    all
}

#[tokio::test]
async fn keys_are_counted_wherever_they_are_kept() {
    let cluster = Setup::new().password("secret").start_cluster().await;
    let redis = format!("{}, password: secret", at(&cluster));
    let routes = routes();
    let routes = routes.each_ref().map(|(path, limit)| (*path, &**limit));
    let fleet = Fleet::start(&config(&redis, &routes)).await;
    for (path, credit) in [("/strict", 0), ("/fast", GATEWAYS)] {
        let load = Load::start(&fleet.0, path, &keys("key"));
        load.until("all is admitted", |it| it.fewest() >= LIMIT)
            .await;
        load.until_refused(5).await;
        let admitted = load.end().await.admitted;
        let most = LIMIT + credit;
        assert!(
            admitted.iter().all(|it| *it <= most),
            "{path}: {admitted:?}"
        );
    }
    let all = all_counts(&cluster).await;
    assert!(all.iter().all(|counts| counts.len() > 5), "{all:?}");
    assert_eq!(
        fleet.sum("tollgate_rate_limit_store_failures_total").await,
        0
    );
}

/// Limits by the same are kept in one place, others in several, and are asked there in turn.
#[tokio::test]
async fn what_one_server_refuses_the_others_get_back() {
    let cluster = Setup::new().start_cluster().await;
    let by = |limit: u64, by: &str| {
        format!(
            "{{ limit: {limit}, window: 1d, algorithm: fixed_window, by: \"header:{by}\", store: redis, mode: strict }}"
        )
    };
    let limits = [by(1000, "X-All"), by(500, "X-Key"), by(5, "X-Key")].join(", ");
    let fleet = Fleet::start(&config(&at(&cluster), &[("/a", &format!("[{limits}]"))])).await;
    let load = Load::start(&fleet.0, "/a", &keys("key"));
    load.until("all is admitted", |it| it.fewest() >= 5).await;
    load.until_refused(5).await;
    assert_eq!(load.end().await.admitted, [5; 30]);
    until("refused requests are counted nowhere", async || {
        let mut counts = all_counts(&cluster).await.concat();
        counts.sort_unstable();
        counts == [&[5; 60][..], &[150]].concat()
    })
    .await;
}

#[tokio::test]
async fn a_slot_that_moves_keeps_its_counts() {
    let cluster = Setup::new().start_cluster().await;
    let fleet = start(&cluster).await;
    let load = Load::start(&fleet.0, "/strict", &keys("key"));
    load.until("some are admitted", |it| it.admitted() >= 60)
        .await;
    // A few slots that keys are in.
    for node in [0, 1, 2] {
        let known = cluster.nodes[node].command(&["KEYS", "tollgate:*"]).await;
        let held = known.lines().find(|key| key.len() > 40).unwrap();
        let slot = cluster.slot_of(held).await;
        cluster.move_slot(slot, (node + 1) % 3).await;
    }
    load.until("all is admitted", |it| it.fewest() >= LIMIT)
        .await;
    load.until_refused(5).await;
    let admitted = load.end().await.admitted;
    assert_eq!(admitted, [LIMIT; 30]);
    assert_eq!(fleet.sum("tollgate_rate_limit_store_alone_total").await, 0);
}

#[tokio::test]
async fn a_server_that_is_gone_takes_only_its_keys_with_it() {
    let setup = Setup::new().directive("cluster-require-full-coverage no");
    let mut cluster = setup.start_cluster().await;
    let fleet = start(&cluster).await;
    let address = cluster.nodes[1].address.to_string();
    cluster.nodes[1].kill();
    fleet.until_up(false).await;
    for gateway in &fleet.0 {
        assert_eq!(gateway.status().await["limit_store"], "partial");
        until("it is told", async || {
            said(gateway, &format!("server={address}")) == 1
        })
        .await;
    }
    // Its keys are refused without a question, and no others are.
    let load = Load::start(&fleet.0, "/deny", &keys("key"));
    load.until_answered(2000).await;
    let unavailable = load.unavailable();
    let questions = fleet.sum(QUESTIONS).await;
    load.until("keys of the lost server are refused", |it| {
        it.unavailable() >= unavailable + 300
    })
    .await;
    let failures = fleet.sum("tollgate_rate_limit_store_failures_total").await;
    let asked = fleet.sum(QUESTIONS).await - questions;
    let outcome = load.end().await;
    assert!(asked > 0, "the other servers are asked");
    assert_eq!(failures, 0, "none had to wait for the lost one");
    let is_lost = outcome.admitted.iter().map(|count| *count == 0);
    let is_lost: Vec<bool> = is_lost.collect();
    let lost = is_lost.iter().filter(|it| **it).count();
    assert!((5..20).contains(&lost), "{:?}", outcome.admitted);
    let is_whole = |count: &usize| [0, LIMIT].contains(count);
    assert!(
        outcome.admitted.iter().all(is_whole),
        "{:?}",
        outcome.admitted
    );
    // By the part of each gateway they are admitted, and told when it is back.
    let part = LIMIT.div_ceil(GATEWAYS) * GATEWAYS;
    for (path, credit) in [("/strict", 0), ("/fast", GATEWAYS)] {
        let load = Load::start(&fleet.0, path, &keys("key"));
        load.until("all is admitted", |it| it.fewest() >= LIMIT)
            .await;
        load.until_refused(5).await;
        let admitted = load.end().await.admitted;
        for (admitted, is_lost) in admitted.iter().zip(&is_lost) {
            let expected = match is_lost {
                true => part..=part,
                false => LIMIT..=LIMIT + credit,
            };
            assert!(expected.contains(admitted), "{path}: {admitted}");
        }
    }
    cluster.recover(1).await;
    fleet.until_up(true).await;
    until("it is told what was admitted", async || {
        counts(&cluster.nodes[1]).await == vec![part as u64; 2 * lost]
    })
    .await;
    for gateway in &fleet.0 {
        assert_eq!(
            said(gateway, "a server of shared limits does not answer"),
            1
        );
        assert_eq!(said(gateway, "a server of shared limits answers again"), 1);
        assert_eq!(
            said(gateway, "the store of shared limits does not answer"),
            0
        );
        assert!(metric(gateway, QUESTIONS).await > 0);
    }
}

/// As clusters are by default, one that lacks a part answers nothing.
#[tokio::test]
async fn a_cluster_that_is_down_is_a_store_that_is_gone() {
    let mut cluster = Setup::new().start_cluster().await;
    let fleet = start(&cluster).await;
    cluster.lose(0).await;
    for gateway in &fleet.0 {
        until("all of it is gone", async || {
            gateway.status().await["limit_store"] == "down"
        })
        .await;
    }
    let load = Load::start(&fleet.0, "/strict", &["key".to_owned()]);
    load.until_refused(100).await;
    let part = LIMIT.div_ceil(GATEWAYS) * GATEWAYS;
    assert_eq!(load.end().await.total(), part);
    cluster.recover(0).await;
    fleet.until_up(true).await;
    until("it is told what was admitted", async || {
        all_counts(&cluster).await.concat() == [part as u64]
    })
    .await;
}
