//! A master that sentinels know, and that another server replaces.

use crate::fleet::{Fleet, GATEWAYS, config, limit, said, until, until_up};
use crate::load::{Load, counts};
use crate::support::{Authority, Gateway, Sentinel, Setup};

const LIMIT: usize = 600;

fn at(set: &Sentinel, scheme: &str, rest: &str) -> String {
    let urls = set.addresses();
    let urls = urls.iter().map(|it| format!("\"{scheme}://{it}\""));
    let urls = urls.collect::<Vec<_>>().join(", ");
    format!(
        "sentinel: {{ urls: [{urls}], master: {} }}, connect_timeout: 2s, command_timeout: 1s{rest}",
        Sentinel::NAME
    )
}

fn strict() -> String {
    limit(LIMIT, "1d", "algorithm: fixed_window, mode: strict")
}

#[tokio::test]
async fn a_limit_goes_on_at_the_server_that_becomes_the_master() {
    let mut set = Setup::new().start_sentinel().await;
    let fleet = Fleet::start(&config(&at(&set, "redis", ""), &[("/a", &strict())])).await;
    let first = set.master().address;
    let load = Load::start(&fleet.0, "/a", &["key".to_owned()]);
    load.until("a third is admitted", |it| it.admitted() >= LIMIT / 3)
        .await;
    set.fail_over().await;
    assert_ne!(set.master().address, first);
    // All have noticed that the master is another one, or are about to.
    until("all ask the new master", async || {
        let clients = set.master().command(&["CLIENT", "LIST"]).await;
        clients.matches("cmd=eval").count() >= GATEWAYS
    })
    .await;
    fleet.until_up(true).await;
    load.until("all is admitted", |it| it.admitted() >= LIMIT)
        .await;
    load.until_refused(50).await;
    // Meanwhile each admitted its part at most, and the new master was told.
    let admitted = load.end().await.total();
    assert!(admitted <= 2 * LIMIT, "{admitted}");
    assert_eq!(counts(set.master()).await.len(), 1);
    let load = Load::start(&fleet.0, "/a", &["other".to_owned()]);
    load.until_refused(50).await;
    assert_eq!(load.end().await.total(), LIMIT);
}

#[tokio::test]
async fn while_there_is_no_master_each_gateway_has_its_part() {
    let mut set = Setup::new().start_sentinel().await;
    let fleet = Fleet::start(&config(&at(&set, "redis", ""), &[("/a", &strict())])).await;
    for server in &mut set.servers {
        server.kill();
    }
    fleet.until_up(false).await;
    let load = Load::start(&fleet.0, "/a", &["key".to_owned()]);
    load.until_refused(50).await;
    assert_eq!(load.end().await.total(), LIMIT);
    for server in &mut set.servers {
        server.restart().await;
    }
    fleet.until_up(true).await;
    until("the store is told", async || {
        counts(set.master()).await == [LIMIT as u64]
    })
    .await;
    for gateway in &fleet.0 {
        assert_eq!(said(gateway, "does not answer"), 1);
        assert_eq!(said(gateway, "counted by the store again"), 1);
    }
}

/// One of them is gone, and another one hangs.
#[tokio::test]
async fn one_sentinel_is_enough_to_find_the_master() {
    let authority = Authority::new();
    let setup = Setup::new()
        .password("secret")
        .sentinel_password("other")
        .tls(&authority);
    let mut set = setup.start_sentinel().await;
    set.sentinels[0].kill();
    set.sentinels[1].pause();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    let login = ", password: secret, tls: { ca: ca.pem }";
    let redis = at(&set, "rediss", login).replace("master: main", "master: main, password: other");
    let config = config(&redis, &[("/a", &strict())]);
    let gateway = Gateway::start_in(directory, &config, &[]).await;
    until_up(&gateway, true).await;
    gateway.get("/a").send().await.assert_status(200);
    assert_eq!(counts(set.master()).await, [1]);
    set.sentinels[1].resume();
}
