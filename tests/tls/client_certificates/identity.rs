//! Who a client is by its certificate: for providers, for backends, and whatever else it says.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::http2::{ask, get};
use super::super::support::{Gateway, dial};
use super::{World, pair};

/// A certificate as it stands in a header.
fn item(gateway: &Gateway, name: &str) -> String {
    let (pem, _) = pair(gateway, name);
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    format!(":{}:", STANDARD.encode(der))
}

fn fields(certificate: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", "a.example".parse().unwrap());
    for name in [
        "client-cert",
        "client_cert",
        "client-cert-chain",
        "x-device",
    ] {
        headers.insert(name, certificate.parse().unwrap());
    }
    headers
}

#[tokio::test]
async fn what_a_client_says_of_its_certificate_counts_for_nothing() {
    let world = World::new().await;
    let gateway = world
        .gateway("{ ca: clients.pem, mode: optional, forward: true }")
        .await;
    let forged = fields(&item(&gateway, "device"));
    let mut nobody = world.connect(&gateway, None, "a.example").await.unwrap();
    nobody.get_with("/who", &forged).await.assert_status(401);
    nobody.get_with("/", &forged).await.assert_status(200);
    let seen = world.upstream.last();
    for name in [
        "client-cert",
        "client_cert",
        "client-cert-chain",
        "x-device",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let mut revoked = world
        .connect(&gateway, Some("revoked"), "a.example")
        .await
        .unwrap();
    revoked.get_with("/who", &forged).await.assert_status(200);
    let seen = world.upstream.last();
    assert_eq!(seen.headers("x-device"), ["revoked"]);
    assert_eq!(seen.headers("client-cert"), [item(&gateway, "revoked")]);
    assert_eq!(seen.header("client_cert"), None);
    assert_eq!(seen.header("client-cert-chain"), None);
}

#[tokio::test]
async fn backends_are_shown_certificates_only_if_that_is_asked_for() {
    let world = World::new().await;
    let gateway = world.gateway("{ ca: clients.pem }").await;
    let mut device = world
        .connect(&gateway, Some("device"), "a.example")
        .await
        .unwrap();
    device.get("/who").await.assert_status(200);
    assert_eq!(world.upstream.last().header("client-cert"), None);
}

#[tokio::test]
async fn each_request_of_http2_has_the_identity_of_its_connection() {
    let world = World::new().await;
    let gateway = world.gateway("{ ca: clients.pem, forward: true }").await;
    let config = world
        .servers
        .client_with(&["h2"], &pair(&gateway, "device"));
    let stream = dial(gateway.address, "a.example", &Arc::new(config))
        .await
        .unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        assert_eq!(
            ask(sender.clone(), get("https://a.example/who")).await.0,
            200
        );
        let seen = world.upstream.last();
        assert_eq!(seen.headers("x-device"), ["device"]);
        assert_eq!(seen.headers("client-cert"), [item(&gateway, "device")]);
    }
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_its_clients_and_not_for_itself() {
    let world = World::new().await;
    let gateway = world
        .gateway_with(
            "{ ca: clients.pem, forward: true }",
            "trusted_proxies: [127.0.0.1/32]",
            "",
        )
        .await;
    let mut proxy = world
        .connect(&gateway, Some("device"), "a.example")
        .await
        .unwrap();
    // The proxy is verified, and its client is nobody.
    proxy.get("/who").await.assert_status(401);
    proxy.get("/").await.assert_status(200);
    assert_eq!(world.upstream.last().header("client-cert"), None);
    let mut headers = HeaderMap::new();
    headers.insert("host", "a.example".parse().unwrap());
    let revoked = item(&gateway, "revoked");
    headers.insert("client-cert", revoked.parse().unwrap());
    proxy.get_with("/who", &headers).await.assert_status(200);
    let seen = world.upstream.last();
    assert_eq!(seen.headers("x-device"), ["revoked"]);
    assert_eq!(seen.headers("client-cert"), [revoked]);
}

#[tokio::test]
async fn kept_answers_are_those_of_the_certificate_that_backends_were_shown() {
    let world = World::new().await;
    let gateway = world
        .gateway_with(
            "{ ca: clients.pem, mode: optional, forward: true }",
            "",
            "cache: { ttl: 1m }",
        )
        .await;
    for certificate in [Some("device"), Some("revoked"), None] {
        let mut client = world
            .connect(&gateway, certificate, "a.example")
            .await
            .unwrap();
        let before = world.upstream.seen().len();
        for _ in 0..2 {
            client.get("/kept").await.assert_status(200);
        }
        let asked = world.upstream.seen().len() - before;
        assert_eq!(asked, 1, "{certificate:?} gets an answer of its own");
    }
}
