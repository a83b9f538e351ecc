//! Who the gateway is to the store, and what it may do there.

use tempfile::TempDir;

use crate::fleet::{at, config, limit, metric, said, until, until_up};
use crate::load::counts;
use crate::support::{Authority, Gateway, Redis, Setup};

/// All that a gateway needs, as the documentation has it.
const RIGHTS: &str = "~tollgate:* resetchannels -@all +evalsha +eval +time +get +set +zadd \
                      +zremrangebyscore +zcard +expire";
const LOGIN: &str = ", username: gateway, password: \"${PASSWORD}\"";

async fn start(redis: &str, directory: TempDir, password: &str) -> Gateway {
    let limit = limit(3, "1d", "algorithm: fixed_window, mode: strict");
    let config = config(redis, &[("/a", &limit)]);
    Gateway::start_in(directory, &config, &[("PASSWORD", password)]).await
}

async fn admits(gateway: &Gateway) -> usize {
    let mut admitted = 0;
    for _ in 0..5 {
        admitted += usize::from(gateway.get("/a").send().await.status == 200);
    }
    admitted
}

/// The store can't be used, and the log says why.
async fn is_shut_out(gateway: &Gateway, why: &str) {
    until("it is told why", async || {
        said(gateway, "the store of shared limits does not answer") == 1
    })
    .await;
    assert_eq!(said(gateway, why), 1, "{why}");
    assert_eq!(metric(gateway, "tollgate_rate_limit_store_up").await, 0);
    assert!(!gateway.process_log().contains("secret"));
}

#[tokio::test]
async fn a_user_needs_no_more_rights_than_the_documentation_says() {
    let page = include_str!("../../docs/shared-limits.md");
    let rights = RIGHTS.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        page.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains(&rights)
    );
    let setup = Setup::new().password("admin");
    let server = setup
        .clone()
        .user("gateway", "secret", RIGHTS)
        .start()
        .await;
    let gateway = start(
        &format!("{}{LOGIN}", at(server.address)),
        tempfile::tempdir().unwrap(),
        "secret",
    )
    .await;
    until_up(&gateway, true).await;
    assert_eq!(admits(&gateway).await, 3);
    assert_eq!(counts(&server).await, [3]);
    // Each of them is needed.
    for right in RIGHTS.split_whitespace().filter(|it| it.starts_with('+')) {
        let without = RIGHTS.split_whitespace().filter(|it| *it != right);
        let without: Vec<_> = without.collect();
        let server = setup
            .clone()
            .user("gateway", "secret", &without.join(" "))
            .start()
            .await;
        let redis = format!("{}{LOGIN}", at(server.address));
        let gateway = start(&redis, tempfile::tempdir().unwrap(), "secret").await;
        let what = match right {
            "+evalsha" | "+eval" => "no permissions",
            // As it says what is asked of it within a script.
            _ => "can't run this command",
        };
        is_shut_out(&gateway, what).await;
    }
}

/// A cluster is asked who keeps what, and a server that sentinels name whether it is the master.
#[tokio::test]
async fn clusters_sentinels_and_databases_need_one_right_more() {
    let user = |more: &str| {
        let rights = format!("{RIGHTS} {more}");
        Setup::new()
            .password("admin")
            .user("gateway", "secret", &rights)
    };
    let rest = ", connect_timeout: 2s, command_timeout: 1s, username: gateway, password: secret";
    let cluster = user("+cluster|slots").start_cluster().await;
    let first = cluster.nodes[0].address;
    let set = user("+role").start_sentinel().await;
    let (sentinel, name) = (set.addresses()[0], crate::support::Sentinel::NAME);
    let server = user("+select").start().await;
    for redis in [
        format!("cluster: [\"redis://{first}\"]{rest}"),
        format!("sentinel: {{ urls: [\"redis://{sentinel}\"], master: {name} }}{rest}"),
        format!("url: \"redis://{}/2\"{rest}", server.address),
    ] {
        let gateway = start(&redis, tempfile::tempdir().unwrap(), "").await;
        until_up(&gateway, true).await;
        assert_eq!(admits(&gateway).await, 3, "{redis}");
    }
}

/// What the server refuses now it may allow later, without the gateway being told.
#[tokio::test]
async fn a_wrong_password_and_rights_that_lack_are_corrected_at_the_server() {
    let setup = Setup::new()
        .password("admin")
        .user("gateway", "secret", RIGHTS);
    let server = setup.start().await;
    let redis = format!("{}{LOGIN}", at(server.address));
    let gateway = start(&redis, tempfile::tempdir().unwrap(), "other-secret").await;
    is_shut_out(&gateway, "WRONGPASS").await;
    // By its own count, for it knows of no other gateway.
    assert_eq!(admits(&gateway).await, 3);
    let set = ["ACL", "SETUSER", "gateway"];
    server
        .command(&[&set[..], &[">other-secret"]].concat())
        .await;
    until_up(&gateway, true).await;
    until("the store is told", async || counts(&server).await == [3]).await;
    server.command(&[&set[..], &["-get"]].concat()).await;
    is_shut_out_again(&gateway).await;
    server.command(&[&set[..], &["+get"]].concat()).await;
    until_up(&gateway, true).await;
    assert_eq!(admits(&gateway).await, 0);
}

async fn is_shut_out_again(gateway: &Gateway) {
    until("it is told why", async || {
        gateway.get("/a").send().await;
        said(gateway, "can't run this command") == 1
    })
    .await;
    until_up(gateway, false).await;
}

#[tokio::test]
async fn only_a_server_with_the_right_certificate_is_believed_and_asks_for_ours() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Setup::new().mutual_tls(&authority).start().await;
    let redis = at(server.address).replace("redis://", "rediss://");
    let directory = |ca: &Authority| {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.sign("gateway");
        for (name, text) in [
            ("ca.pem", ca.pem()),
            ("cert.pem", &certificate),
            ("key.pem", &key),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    };
    let tls = ", tls: { ca: ca.pem, client_cert: cert.pem, client_key: key.pem }";
    let gateway = start(&format!("{redis}{tls}"), directory(&authority), "").await;
    until_up(&gateway, true).await;
    assert_eq!(admits(&gateway).await, 3);
    assert_eq!(counts(&server).await, [3]);

    let gateway = start(&format!("{redis}{tls}"), directory(&other), "").await;
    is_shut_out(&gateway, "invalid peer certificate").await;
    // A file that is replaced is read again.
    std::fs::write(gateway.directory.path().join("ca.pem"), authority.pem()).unwrap();
    until_up(&gateway, true).await;
    assert_eq!(admits(&gateway).await, 0);

    let nameless = ", tls: { ca: ca.pem }";
    let gateway = start(&format!("{redis}{nameless}"), directory(&authority), "").await;
    is_shut_out(&gateway, "CertificateRequired").await;
}

#[tokio::test]
async fn fleets_with_another_prefix_or_database_count_apart() {
    let server = Redis::start().await;
    let plain = at(server.address);
    let address = server.address.to_string();
    let variants = [
        plain.clone(),
        format!("{plain}, key_prefix: other"),
        plain.replace(&address, &format!("{address}/3")),
    ];
    for redis in &variants {
        let gateway = start(redis, tempfile::tempdir().unwrap(), "").await;
        until_up(&gateway, true).await;
        assert_eq!(
            metric(&gateway, "tollgate_rate_limit_gateways").await,
            1,
            "{redis}"
        );
        assert_eq!(admits(&gateway).await, 3, "{redis}");
    }
    let keys = server.command(&["KEYS", "*"]).await;
    assert!(keys.lines().any(|key| key.starts_with("other:")), "{keys}");
    assert!(
        keys.lines()
            .all(|key| key.starts_with("other:{") || key.starts_with("tollgate:{")),
        "{keys}"
    );
    let keyspace = server.info("keyspace", "db3").await;
    assert!(keyspace.starts_with("keys="), "{keyspace}");
    // One more of the first fleet finds its counts.
    let gateway = start(&variants[0], tempfile::tempdir().unwrap(), "").await;
    until_up(&gateway, true).await;
    assert_eq!(admits(&gateway).await, 0);
}
