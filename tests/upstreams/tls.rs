//! Backends behind TLS: verified, unless told otherwise.

use crate::support::{Authority, Gateway, Upstream, write_pair};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use openssl::hash::MessageDigest;
use rcgen::KeyPair;
use tempfile::TempDir;

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
    start(directory, upstream, tls).await
}

async fn start(directory: TempDir, upstream: &Upstream, tls: &str) -> Gateway {
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
    upstream.assert_connections(1, &gateway);
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

/// A backend that takes only clients that `clients` has signed certificates for, and says who comes; by HTTP/2
/// if it is asked for.
async fn verifying(servers: &Authority, clients: &Authority) -> Upstream {
    let secure = servers.certify_verifying("localhost", clients);
    Upstream::raw(move |stream| {
        let secure = secure.clone();
        async move {
            let Some(stream) = secure.accept(stream).await else {
                return;
            };
            let shown = stream.ssl().peer_certificate().unwrap();
            let serial = shown.digest(MessageDigest::sha256()).unwrap();
            let name = shown.subject_name().entries().next().unwrap();
            let name = name.data().to_string().unwrap();
            let said = format!("{name} {}", hex(&serial));
            let answer = move |_| {
                let said = Bytes::from(said.clone());
                async { Response::new(Full::new(said).boxed()) }
            };
            match stream.ssl().selected_alpn_protocol() {
                Some(b"h2") => crate::support::converse_by_http2(stream, answer).await,
                _ => crate::support::converse(stream, answer).await,
            }
        }
    })
    .await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_backend_that_asks_for_a_certificate_is_shown_ours() {
    let (servers, clients) = (Authority::new(), Authority::called("clients"));
    let upstream = verifying(&servers, &clients).await;
    let files = |name: &str| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), servers.pem()).unwrap();
        clients.write(directory.path(), name, &["gateway"]);
        directory
    };
    let check = "health_check: { protocol: http, interval: 200ms, unhealthy_after: 1 }";
    let tls = "tls: { ca: ca.pem, client_cert: g.pem, client_key: g.key }";
    let gateway = start(files("g"), &upstream, &format!("{tls}, {check},")).await;
    for _ in 0..3 {
        let said = gateway.get("/a").send().await.assert_status(200).text();
        assert!(said.starts_with("gateway "), "{said}");
    }
    // Checks show it as well: who has none is found to be down meanwhile.
    let nobody = start(
        files("g"),
        &upstream,
        &format!("tls: {{ ca: ca.pem }}, {check},"),
    )
    .await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !nobody.process_log().contains("endpoint down") {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            nobody.process_log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let log = gateway.process_log();
    assert!(!log.contains("endpoint down"), "{log}");
    gateway.get("/a").send().await.assert_status(200);
}

#[tokio::test]
async fn who_decides_about_requests_is_shown_our_certificate() {
    let (servers, clients) = (Authority::new(), Authority::called("clients"));
    let decides = verifying(&servers, &clients).await;
    let upstream = Upstream::echo().await;
    for (identity, status) in [(", client_cert: g.pem, client_key: g.key", 200), ("", 503)] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), servers.pem()).unwrap();
        clients.write(directory.path(), "g", &["gateway"]);
        let config = format!(
            "auth_providers: {{ outside: {{ forward: {{ url: \"https://localhost:{}/auth\", ca: ca.pem{identity} }} }} }}
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
async fn no_connection_outlives_the_trust_that_it_was_made_by() {
    change_the_trust("").await;
}

#[tokio::test]
async fn nor_does_one_of_http_2() {
    change_the_trust("protocol: http2,").await;
}

/// Each change must lead to a new connection, or none: one that is kept was made by what counted before.
async fn change_the_trust(protocol: &str) {
    let (servers, clients) = (Authority::new(), Authority::called("clients"));
    let upstream = verifying(&servers, &clients).await;
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_owned();
    std::fs::write(folder.join("ca.pem"), servers.pem()).unwrap();
    // Two certificates that have the same serial number, which is all that the pool's own key knows of them.
    let one_number = |name: &str| {
        clients.sign_with(&[name], &KeyPair::generate().unwrap(), |it| {
            it.serial_number = Some(7_u64.into());
        })
    };
    write_pair(&folder, "g", &one_number("first"));
    write_pair(&folder, "h", &one_number("second"));
    let tls = "tls: { ca: ca.pem, client_cert: g.pem, client_key: g.key }";
    let gateway = start(directory, &upstream, &format!("{tls}, {protocol}")).await;
    // One connection, so that a request begins once the one before has left its connection to the pool.
    let mut client = gateway.connect().await;
    let mut ask = async || client.get("/a").await;
    let reload = async || {
        let (code, _, said) = gateway.command(&["reload"]).await;
        assert_eq!(code, 0, "{said}");
    };
    for _ in 0..4 {
        let said = ask().await.assert_status(200).text();
        assert!(said.starts_with("first "), "{said}");
    }
    upstream.assert_connections(1, &gateway);
    let first = ask().await.text();

    // Another certificate of the same name, in the same files.
    write_pair(&folder, "g", &one_number("first"));
    reload().await;
    let renewed = ask().await.assert_status(200).text();
    assert!(
        renewed.starts_with("first ") && renewed != first,
        "{renewed}"
    );
    upstream.assert_connections(2, &gateway);

    // Another one by configuration, with the same serial number.
    gateway.edit("g.pem, client_key: g.key", "h.pem, client_key: h.key");
    reload().await;
    let said = ask().await.assert_status(200).text();
    assert!(said.starts_with("second "), "{said}");
    upstream.assert_connections(3, &gateway);

    // An authority that has not signed the backend's certificate.
    std::fs::write(folder.join("ca.pem"), clients.pem()).unwrap();
    reload().await;
    ask().await.assert_status(502);
    std::fs::write(folder.join("ca.pem"), servers.pem()).unwrap();
    reload().await;
    ask().await.assert_status(200);

    // Another name than the backend has.
    gateway.edit("ca: ca.pem", "ca: ca.pem, server_name: other.example");
    reload().await;
    ask().await.assert_status(502);

    // Unverified, as long as that is asked for.
    gateway.edit(
        "server_name: other.example",
        "server_name: other.example, verify: false",
    );
    reload().await;
    ask().await.assert_status(200);
    gateway.edit(", verify: false", "");
    reload().await;
    ask().await.assert_status(502);
    gateway.edit(", server_name: other.example", "");
    reload().await;
    ask().await.assert_status(200);

    // No certificate of ours any more: the backend asks for one.
    gateway.edit(", client_cert: h.pem, client_key: h.key", "");
    reload().await;
    ask().await.assert_status(502);
}

#[tokio::test]
async fn our_certificate_is_read_again_when_its_file_changes_unless_that_is_bad() {
    let (servers, clients) = (Authority::new(), Authority::called("clients"));
    let upstream = verifying(&servers, &clients).await;
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_owned();
    std::fs::write(folder.join("ca.pem"), servers.pem()).unwrap();
    clients.write(&folder, "g", &["first"]);
    let tls = "tls: { ca: ca.pem, client_cert: g.pem, client_key: g.key },";
    let gateway = start(directory, &upstream, tls).await;
    let until = async |what: &str, is_so: &dyn Fn(&str) -> bool| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !is_so(&gateway.get("/a").send().await.assert_status(200).text()) {
            assert!(std::time::Instant::now() < deadline, "{what}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    until("the certificate is not shown", &|said| {
        said.starts_with("first ")
    })
    .await;
    let good = std::fs::read(folder.join("g.key")).unwrap();
    let stranger = KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(folder.join("g.key"), stranger).unwrap();
    let reason = "the key in `g.key` is not that of the certificate";
    until("it is not said what is wrong", &|said| {
        assert!(said.starts_with("first "), "{said}");
        gateway.process_log().contains(reason)
    })
    .await;
    std::fs::write(folder.join("g.key"), good).unwrap();
    clients.write(&folder, "g", &["second"]);
    until("the new one is not shown", &|said| {
        said.starts_with("second ")
    })
    .await;
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
