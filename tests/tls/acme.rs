//! Certificates that the gateway gets by itself, from Pebble.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::support::{Authority, Client, Gateway, Pebble, Upstream, dial};
use super::until;

const DAY: Duration = Duration::from_secs(86_400);

/// A gateway with certificates for `names`, and more in its `acme` section; what it knows is in `storage`.
async fn gateway(
    (pebble, upstream): (&Pebble, &Upstream),
    names: &str,
    storage: &Path,
    acme: &str,
) -> Gateway {
    let directory = tempfile::tempdir().unwrap();
    pebble.write_own(directory.path());
    let config = format!(
        "server:
  threads: 1
  listen:
    - $LISTEN
    - {{ address: {clear}, redirect_https: {port} }}
    - {{ address: {tls}, tls: {{ acme: {names} }} }}
admin: {{ listen: $ADMIN }}
acme: {{ directory: \"{directory}\", ca: ca.pem, accept_terms: true, contact: ops@example.com,
         storage: {storage}, {acme} }}
services: {{ a: {{ base_url: \"http://{upstream}\", routes: [{{ prefix: / }}] }} }}
",
        clear = pebble.clear,
        port = pebble.tls.port(),
        tls = pebble.tls,
        directory = pebble.directory,
        storage = storage.display(),
        upstream = upstream.address,
    );
    Gateway::start_in(directory, &config, &[]).await
}

/// The certificate that is shown for a name, if its client trusts it.
async fn shown(pebble: &Pebble, name: &str) -> Option<Vec<u8>> {
    let config = Arc::new(Authority::client_of(&pebble.root(), &["http/1.1"]));
    let stream = dial(pebble.tls, name, &config).await.ok()?;
    let shown = stream.get_ref().1.peer_certificates()?[0].to_vec();
    let mut client = Client::over(stream, name).await;
    client.get("/").await.assert_status(200);
    Some(shown)
}

/// What operators are told of the first certificate.
async fn told(gateway: &Gateway) -> Value {
    gateway.admin("/certificates").await.json()[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_got_by_a_handshake_and_kept() {
    let (pebble, upstream) = (Pebble::start().await, Upstream::echo().await);
    for name in ["shop.example", "www.shop.example", "api.example"] {
        pebble.names.set(name, &["127.0.0.1"]);
    }
    let storage = tempfile::tempdir().unwrap();
    let names = "[[shop.example, www.shop.example], api.example]";
    let around = (&pebble, &upstream);
    let first = gateway(around, names, storage.path(), "challenge: tls_alpn").await;
    for name in ["shop.example", "www.shop.example", "api.example"] {
        let what = format!("{name} has no certificate");
        until(async || shown(&pebble, name).await.is_some(), &what).await;
    }
    let one = shown(&pebble, "shop.example").await;
    assert_eq!(one, shown(&pebble, "www.shop.example").await);
    assert_ne!(one, shown(&pebble, "api.example").await);
    until(
        async || told(&first).await["acme"]["is_there"] == true,
        "it is not told of",
    )
    .await;
    assert_eq!(told(&first).await["acme"]["failures"], 0);
    assert_eq!(pebble.issued(), 2);
    let log = first.process_log();
    for line in [
        "account with the authority made: ",
        "certificate awaited, clients trust none before: ",
        "certificate issued: names=shop.example,www.shop.example",
        "certificate in force: ",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    let metrics = first.metrics().await;
    assert_eq!(
        metrics.sum("tollgate_acme_orders_total", &[("result", "issued")]),
        2.0
    );
    // Nobody else can read the keys, and no proof is left.
    let folder = storage.path().join(pebble.folder());
    for entry in fs::read_dir(folder.join("certificates")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o077, 0, "{entry:?}");
    }
    assert_eq!(fs::read_dir(folder.join("proofs")).unwrap().count(), 0);
    drop(first);
    // The next process shows it from its first connection on, and asks for nothing.
    let second = gateway(around, names, storage.path(), "challenge: tls_alpn").await;
    assert_eq!(shown(&pebble, "shop.example").await, one);
    assert_eq!(pebble.issued(), 2);
    assert!(
        !second
            .process_log()
            .contains("account with the authority made")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_got_by_a_request_in_clear_where_all_others_are_redirected() {
    let (pebble, upstream) = (Pebble::start().await, Upstream::echo().await);
    pebble.names.set("shop.example", &["127.0.0.1"]);
    let storage = tempfile::tempdir().unwrap();
    let around = (&pebble, &upstream);
    let gateway = gateway(around, "shop.example", storage.path(), "challenge: http").await;
    until(
        async || shown(&pebble, "shop.example").await.is_some(),
        "there is no certificate",
    )
    .await;
    assert!(
        pebble.log().contains("validate w/ HTTP"),
        "{}",
        pebble.log()
    );
    // A token that nobody posted is like any other path.
    let answer = gateway.get("/.well-known/acme-challenge/none").send().await;
    answer.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_authority_finds_wrong_is_told_and_nothing_else_stops() {
    let (pebble, upstream) = (Pebble::start().await, Upstream::echo().await);
    let storage = tempfile::tempdir().unwrap();
    let around = (&pebble, &upstream);
    // The name leads nowhere.
    let gateway = gateway(around, "lost.example", storage.path(), "").await;
    until(
        async || told(&gateway).await["acme"]["failures"] == 1,
        "the failure is not told",
    )
    .await;
    let told = told(&gateway).await;
    assert_eq!(told["acme"]["is_there"], false);
    let error = told["acme"]["error"].as_str().unwrap();
    assert!(error.contains("lost.example"), "{error}");
    let log = gateway.process_log();
    assert!(
        log.contains("certificate not issued: names=lost.example attempt=1"),
        "{log}"
    );
    let (code, status, _) = gateway.command(&["status"]).await;
    assert_eq!(code, 0);
    assert!(status.contains("lost.example is not issued: "), "{status}");
    gateway.get("/").send().await.assert_status(200);
    // A reload, or another process, does not make it ask again before its time.
    let due = told["acme"]["due"].as_str().unwrap();
    let due: jiff::Timestamp = due.parse().unwrap();
    assert!(due > jiff::Timestamp::now());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_another_way_is_tried() {
    let (pebble, upstream) = (Pebble::start().await, Upstream::echo().await);
    pebble.names.set("shop.example", &["127.0.0.1"]);
    let storage = tempfile::tempdir().unwrap();
    let certificates = storage.path().join(pebble.folder()).join("certificates");
    fs::create_dir_all(&certificates).unwrap();
    fs::write(certificates.join("shop.example.json"), r#"{"failures": 1}"#).unwrap();
    let around = (&pebble, &upstream);
    let _gateway = gateway(around, "shop.example", storage.path(), "").await;
    until(
        async || shown(&pebble, "shop.example").await.is_some(),
        "there is no certificate",
    )
    .await;
    assert!(
        pebble.log().contains("validate w/ HTTP"),
        "{}",
        pebble.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_before_it_ends() {
    let (pebble, upstream) = (Pebble::start().await, Upstream::echo().await);
    pebble.names.set("shop.example", &["127.0.0.1"]);
    let storage = tempfile::tempdir().unwrap();
    let certificates = storage.path().join(pebble.folder()).join("certificates");
    fs::create_dir_all(&certificates).unwrap();
    let old = Authority::new();
    let now = SystemTime::now();
    let (certificate, key) =
        old.sign_with(&["shop.example"], &KeyPair::generate().unwrap(), |it| {
            it.not_before = (now - 80 * DAY).into();
            it.not_after = (now + 10 * DAY).into();
        });
    fs::write(certificates.join("shop.example.pem"), key + &certificate).unwrap();
    let around = (&pebble, &upstream);
    let gateway = gateway(around, "shop.example", storage.path(), "").await;
    // Until the new one is there clients get the old one, and connections live through the change.
    let config = Arc::new(old.client(&["http/1.1"]));
    let stream = dial(pebble.tls, "shop.example", &config).await.unwrap();
    let first = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], first);
    let mut client = Client::over(stream, "shop.example").await;
    until(
        async || shown(&pebble, "shop.example").await.is_some(),
        "it is not renewed",
    )
    .await;
    client.get("/").await.assert_status(200);
    assert!(gateway.process_log().contains("certificate issued: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_gateways_with_one_folder_one_asks() {
    let (pebble, upstream) = (Pebble::start().await, Upstream::echo().await);
    pebble.names.set("shop.example", &["127.0.0.1"]);
    let storage = tempfile::tempdir().unwrap();
    let around = (&pebble, &upstream);
    let first = gateway(around, "shop.example", storage.path(), "challenge: http").await;
    let file = first.directory.path().join("gateway.yaml");
    let text = fs::read_to_string(file).unwrap();
    // The other one listens elsewhere: what it is asked for is answered by the first.
    let mut lines: Vec<&str> = text.lines().collect();
    lines.retain(|line| !line.contains("redirect_https"));
    let text = lines
        .join("\n")
        .replace(&pebble.tls.to_string(), "127.0.0.2:0");
    let text = text.replace(&first.address.to_string(), "$LISTEN");
    let text = text.replace(&first.admin.to_string(), "$ADMIN");
    let port = super::support::free_port().port();
    let text = text.replace("127.0.0.2:0", &format!("127.0.0.2:{port}"));
    let directory = tempfile::tempdir().unwrap();
    pebble.write_own(directory.path());
    let second = Gateway::start_in(directory, &text, &[]).await;
    for gateway in [&first, &second] {
        until(
            async || told(gateway).await["acme"]["is_there"] == true,
            "one of them has no certificate",
        )
        .await;
    }
    assert_eq!(pebble.issued(), 1, "{}", pebble.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_may_belong_to_one_that_was_made_elsewhere() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let more = format!(
        r#", "externalAccountBindingRequired": true, "externalAccountMACKeys": {{ "kid-1": "{key}" }}"#
    );
    let (pebble, upstream) = (Pebble::start_with(&more).await, Upstream::echo().await);
    pebble.names.set("shop.example", &["127.0.0.1"]);
    let storage = tempfile::tempdir().unwrap();
    let account = format!("external_account: {{ key_id: kid-1, hmac_key: \"{key}\" }}");
    let around = (&pebble, &upstream);
    let _gateway = gateway(around, "shop.example", storage.path(), &account).await;
    until(
        async || shown(&pebble, "shop.example").await.is_some(),
        "there is no certificate",
    )
    .await;
}
