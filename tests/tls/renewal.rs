//! Certificates that are renewed while they are in use, and those that should be.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;

use super::support::{Authority, Client, Gateway, Upstream, dial, write_pair};
use super::{gateway, until};

/// The certificate that is shown for a name.
async fn shown(gateway: &Gateway, authority: &Authority, name: &str) -> Vec<u8> {
    let config = Arc::new(authority.client(&[]));
    let stream = dial(gateway.address, name, &config).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_under_load_without_a_failed_request() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let config = Arc::new(authority.client(&["http/1.1"]));
    let (is_over, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients = (0..4).map(|_| {
        let (config, address) = (config.clone(), gateway.address);
        let (is_over, count) = (is_over.clone(), count.clone());
        tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                let stream = dial(address, "a.example", &config).await.unwrap();
                let mut client = Client::over(stream, "a.example").await;
                for _ in 0..3 {
                    client.get("/").await.assert_status(200);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    // One connection lives through it all.
    let stream = dial(gateway.address, "a.example", &config).await.unwrap();
    let mut old = Client::over(stream, "a.example").await;
    let mut seen = HashSet::new();
    seen.insert(shown(&gateway, &authority, "a.example").await);
    for _ in 0..2 {
        authority.write(gateway.directory.path(), "a", &["a.example"]);
        until(
            async || seen.insert(shown(&gateway, &authority, "a.example").await),
            "the new certificate is not shown",
        )
        .await;
        old.get("/").await.assert_status(200);
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(count.load(Ordering::Relaxed) > 20);
    let said = "certificate in force: file=a.pem names=a.example expires=";
    until(async || gateway.process_log().contains(said), said).await;
}

#[tokio::test]
async fn a_bad_new_file_leaves_the_old_certificate_in_force() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let before = shown(&gateway, &authority, "a.example").await;
    let good = std::fs::read(gateway.directory.path().join("a.key")).unwrap();
    let stranger = KeyPair::generate().unwrap().serialize_pem();
    for (bad, reason) in [
        (
            &stranger[..],
            "the key in `a.key` is not that of the certificate",
        ),
        ("", "`a.key` holds no private key"),
    ] {
        std::fs::write(gateway.directory.path().join("a.key"), bad).unwrap();
        until(
            async || gateway.process_log().contains(reason),
            "it is not said what is wrong",
        )
        .await;
        assert_eq!(shown(&gateway, &authority, "a.example").await, before);
    }
    assert_eq!(gateway.status().await["last_reload"]["outcome"], "refused");
    std::fs::write(gateway.directory.path().join("a.key"), good).unwrap();
    until(
        async || gateway.status().await["last_reload"]["outcome"] == "applied",
        "the good file is not taken",
    )
    .await;
    let log = gateway.process_log();
    assert!(log.contains("gateway.yaml:6:"), "the place: {log}");
}

#[tokio::test]
async fn it_is_told_when_certificates_expire() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let expiring = |days: i64| {
        let end = SystemTime::now() + Duration::from_secs(days as u64 * 86_400 + 3600);
        authority.sign_with(&["a.example"], &KeyPair::generate().unwrap(), |it| {
            it.not_after = end.into();
        })
    };
    for (days, said) in [(20, "days_left=20"), (5, "days_left=5")] {
        write_pair(gateway.directory.path(), "a", &expiring(days));
        until(
            async || gateway.process_log().contains(said),
            "it is not said that the certificate expires",
        )
        .await;
    }
    let expired = authority.sign_with(&["a.example"], &KeyPair::generate().unwrap(), |it| {
        it.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).into();
    });
    write_pair(gateway.directory.path(), "a", &expired);
    until(
        async || {
            gateway
                .process_log()
                .contains("certificate has expired, clients refuse it: file=a.pem")
        },
        "it is not said that the certificate has expired",
    )
    .await;
    let log = gateway.process_log();
    assert!(
        log.contains("the certificate in `a.pem` expired on Nov 14 22:13:20 2023 GMT"),
        "{log}"
    );
    let status = gateway.status().await;
    let first = &status["certificates"][0];
    assert_eq!(first["file"], "a.pem", "{status}");
    assert_eq!(first["names"][0], "a.example", "{status}");
    assert_eq!(first["expires"], "2023-11-14T22:13:20Z", "{status}");
    assert_eq!(status["certificates"][1]["file"], "b.pem", "{status}");
    let metrics = gateway.admin("/metrics").await.text();
    let line = "tollgate_tls_certificate_expiry_seconds{certificate=\"a.pem\"} 1700000000";
    assert!(metrics.contains(line), "{metrics}");
}
