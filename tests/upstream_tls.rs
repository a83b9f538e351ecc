//! Backends behind TLS: verified, unless told otherwise.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

mod support;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use support::{Authority, Gateway, Upstream};

/// A backend with a certificate for `name`, and the authority that signed it as PEM.
async fn backend(name: &str) -> (Upstream, String) {
    let authority = Authority::new();
    let secure = authority.certify(name);
    let upstream = Upstream::serving_securely(secure, |_| async {
        Response::new(Full::new(Bytes::from_static(b"secure")).boxed())
    })
    .await;
    (upstream, authority.pem().to_owned())
}

async fn gateway(upstream: &Upstream, ca: &str, tls: &str) -> Gateway {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), ca).unwrap();
    let config = format!(
        "services: {{ a: {{ base_url: \"https://localhost:{}\", {tls} routes: [/a] }} }}\n",
        upstream.address.port()
    );
    Gateway::start_in(directory, &config, &[]).await
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_accepted() {
    let (upstream, ca) = backend("localhost").await;
    let gateway = gateway(&upstream, &ca, "tls: { ca: ca.pem },").await;
    let mut client = gateway.connect().await;
    for _ in 0..5 {
        assert_eq!(client.get("/a").await.assert_status(200).text(), "secure");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_certificate_of_nobody_known_is_refused() {
    let (upstream, ca) = backend("localhost").await;
    let gateway = gateway(&upstream, &ca, "").await;
    let answer = gateway.get("/a").send().await.assert_status(502);
    assert_eq!(
        answer.header("proxy-status"),
        Some("tollgate; error=tls_certificate_error")
    );
    assert_eq!(
        gateway.log(1).await[0]["flags"],
        serde_json::json!(["upstream_tls_failed"])
    );
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let (upstream, ca) = backend("other.example").await;
    let strict = gateway(&upstream, &ca, "tls: { ca: ca.pem },").await;
    strict.get("/a").send().await.assert_status(502);
    let named = gateway(
        &upstream,
        &ca,
        "tls: { ca: ca.pem, server_name: other.example },",
    )
    .await;
    named.get("/a").send().await.assert_status(200);
    let careless = gateway(&upstream, &ca, "tls: { verify: false },").await;
    careless.get("/a").send().await.assert_status(200);
}

#[tokio::test]
async fn checks_verify_certificates_as_requests_do() {
    let (upstream, ca) = backend("localhost").await;
    for protocol in ["tcp", "http"] {
        let check = format!("health_check: {{ protocol: {protocol}, interval: 200ms }},");
        let trusting = gateway(&upstream, &ca, &format!("tls: {{ ca: ca.pem }}, {check}")).await;
        let strict = gateway(&upstream, &ca, &check).await;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !strict.process_log().contains("endpoint down") {
            assert!(
                std::time::Instant::now() < deadline,
                "{}",
                strict.process_log()
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let log = trusting.process_log();
        assert!(!log.contains("endpoint down"), "{log}");
        trusting.get("/a").send().await.assert_status(200);
    }
}

#[tokio::test]
async fn who_decides_about_requests_is_verified_as_backends_are() {
    let (decides, ca) = backend("localhost").await;
    let upstream = Upstream::echo().await;
    for (tls, status) in [("ca: ca.pem", 200), ("", 503)] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), &ca).unwrap();
        let config = format!(
            "auth_providers: {{ outside: {{ forward: {{ url: \"https://localhost:{}/auth\", {tls} }} }} }}
services: {{ a: {{ base_url: \"http://{}\", auth: outside, routes: [/a] }} }}
",
            decides.address.port(),
            upstream.address
        );
        let gateway = Gateway::start_in(directory, &config, &[]).await;
        gateway.get("/a").send().await.assert_status(status);
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_connection_too_late() {
    let silent = Upstream::raw(|stream| async move {
        let _open = stream;
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    })
    .await;
    let gateway = gateway(&silent, "", "timeouts: { connect: 200ms },").await;
    let answer = gateway.get("/a").send().await.assert_status(504);
    answer.assert_header("proxy-status", "tollgate; error=connection_timeout");
}
