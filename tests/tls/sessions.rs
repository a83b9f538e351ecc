//! Sessions that are taken up again, which spares the gateway a signature.

use super::support::{Authority, Gateway, Upstream};
use super::{gateway, s_client};

/// Begins a session of a version and keeps it in a file of its name.
async fn begin(gateway: &Gateway, version: &str) {
    let file = gateway.directory.path().join(version);
    let said = talk(gateway, &[version, "-sess_out", file.to_str().unwrap()]).await;
    assert!(said.contains("New, TLSv1."), "{said}");
}

/// Whether the session in the file of this version is taken up.
async fn is_resumed(gateway: &Gateway, version: &str) -> bool {
    let file = gateway.directory.path().join(version);
    let said = talk(gateway, &[version, "-sess_in", file.to_str().unwrap()]).await;
    assert!(said.contains("HTTP/1.1 200"), "{said}");
    let is_resumed = said.contains("Reused, TLSv1.");
    assert_eq!(is_resumed, !said.contains("New, TLSv1."), "{said}");
    is_resumed
}

async fn talk(gateway: &Gateway, arguments: &[&str]) -> String {
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let arguments = [arguments, &["-ign_eof", "-servername", "a.example"]].concat();
    s_client(gateway.address, &arguments, request).await
}

#[tokio::test]
async fn a_session_is_taken_up_whatever_happens_to_the_gateway_meanwhile() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let mut gateway = gateway(&authority, &upstream, "").await;
    for version in ["-tls1_2", "-tls1_3"] {
        begin(&gateway, version).await;
        assert!(is_resumed(&gateway, version).await, "{version}");
    }
    gateway.edit("threads: 2", "limits: { body: 1MiB }\n  threads: 2");
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(
            is_resumed(&gateway, version).await,
            "{version} after a reload"
        );
    }
    gateway.upgrade().await;
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(
            is_resumed(&gateway, version).await,
            "{version} after an upgrade"
        );
    }
}

#[tokio::test]
async fn another_gateway_or_another_name_begins_anew() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let (first, second) = (
        gateway(&authority, &upstream, "").await,
        gateway(&authority, &upstream, "").await,
    );
    begin(&first, "-tls1_3").await;
    let file = first.directory.path().join("-tls1_3");
    std::fs::copy(&file, second.directory.path().join("-tls1_3")).unwrap();
    assert!(!is_resumed(&second, "-tls1_3").await);
    let arguments = [
        "-sess_in",
        file.to_str().unwrap(),
        "-servername",
        "x.b.example",
    ];
    let said = s_client(first.address, &arguments, "").await;
    assert!(said.contains("New, TLSv1.3"), "{said}");
}

#[tokio::test]
async fn sessions_can_be_switched_off() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "session_tickets: false").await;
    for version in ["-tls1_2", "-tls1_3"] {
        let file = gateway.directory.path().join(version);
        let said = talk(&gateway, &[version, "-sess_out", file.to_str().unwrap()]).await;
        assert!(said.contains("New, TLSv1."), "{said}");
        // In TLS 1.3 there is nothing to keep without a ticket.
        assert!(
            !file.exists() || !is_resumed(&gateway, version).await,
            "{version}"
        );
    }
}
