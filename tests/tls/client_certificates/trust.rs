//! Changes of who is trusted: sessions begin anew, and open connections do not outlive the trust they were made by.

use std::time::{Duration, SystemTime};

use super::super::support::{Gateway, write_pair};
use super::super::until;
use super::{World, in_days, pair, refused, replace, talk};

/// Begins a session of a version, by the certificate of this name, and keeps it in a file of the version's name.
async fn begin(gateway: &Gateway, certificate: &str, version: &str) {
    let file = gateway.directory.path().join(version);
    let more = [version, "-sess_out", file.to_str().unwrap()];
    let said = talk(gateway, Some(certificate), &more).await;
    assert!(said.contains("New, TLSv1."), "{said}");
    assert!(said.contains("HTTP/1.1 200"), "{said}");
}

/// What is said when the session in the file of this version is offered, without a certificate.
async fn offer(gateway: &Gateway, version: &str) -> String {
    let file = gateway.directory.path().join(version);
    talk(
        gateway,
        None,
        &[version, "-sess_in", file.to_str().unwrap()],
    )
    .await
}

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

#[tokio::test]
async fn a_session_that_is_taken_up_has_the_identity_of_its_certificate() {
    let world = World::new().await;
    let gateway = world.gateway("{ ca: clients.pem, crl: crl.pem }").await;
    for version in VERSIONS {
        begin(&gateway, "device", version).await;
        let before = world.upstream.seen().len();
        let said = offer(&gateway, version).await;
        assert!(said.contains("Reused, TLSv1."), "{said}");
        assert!(said.contains("HTTP/1.1 200"), "{said}");
        assert_eq!(world.upstream.seen().len(), before + 1);
        assert_eq!(world.upstream.last().headers("x-device"), ["device"]);
    }
}

#[tokio::test]
async fn no_session_is_taken_up_after_a_change_of_trust() {
    let world = World::new().await;
    let section = "{ ca: clients.pem, crl: crl.pem }";
    let optional = "{ ca: clients.pem, crl: crl.pem, mode: optional }";
    let gateway = world.gateway(section).await;
    let folder = gateway.directory.path();
    for change in ["another list", "another authority", "another mode", "none"] {
        for version in VERSIONS {
            begin(&gateway, "device", version).await;
            let said = offer(&gateway, version).await;
            assert!(said.contains("Reused, TLSv1."), "before {change}: {said}");
        }
        match change {
            "another list" => world.revoke(folder, &["revoked", "server"], in_days(30)),
            "another authority" => {
                let lists = std::fs::read_to_string(folder.join("crl.pem")).unwrap();
                let more = world.strangers.revoke(&[], in_days(30));
                replace(folder, "crl.pem", &format!("{lists}{more}"));
                let both = format!("{}{}", world.clients.pem(), world.strangers.pem());
                replace(folder, "clients.pem", &both);
            }
            "another mode" => gateway.edit(section, optional),
            _ => gateway.edit(&format!("client_certificates: {optional}"), ""),
        }
        let (code, _, said) = gateway.command(&["reload"]).await;
        assert_eq!(code, 0, "{change}: {said}");
        for version in VERSIONS {
            let said = offer(&gateway, version).await;
            assert!(!said.contains("Reused, TLSv1."), "after {change}: {said}");
            assert!(!said.contains("HTTP/1.1 200"), "after {change}: {said}");
        }
    }
}

#[tokio::test]
async fn a_session_is_not_taken_up_once_its_certificate_has_expired() {
    let world = World::new().await;
    let gateway = world.gateway("{ ca: clients.pem }").await;
    let soon = SystemTime::now() + Duration::from_secs(4);
    world.write_client(gateway.directory.path(), "brief", |it| {
        it.not_after = soon.into();
    });
    for version in VERSIONS {
        begin(&gateway, "brief", version).await;
    }
    until(
        async || SystemTime::now() > soon + Duration::from_secs(1),
        "time passes",
    )
    .await;
    for version in VERSIONS {
        let said = offer(&gateway, version).await;
        assert!(!said.contains("HTTP/1.1 "), "{said}");
    }
    refused(&gateway, "certificate_expired", 2).await;
}

#[tokio::test]
async fn who_is_revoked_is_cut_off_and_others_do_not_notice() {
    let world = World::new().await;
    let gateway = world.gateway("{ ca: clients.pem, crl: crl.pem }").await;
    let connect = async |name| {
        world
            .connect(&gateway, Some(name), "a.example")
            .await
            .unwrap()
    };
    let (mut device, mut server) = (connect("device").await, connect("device").await);
    write_pair(gateway.directory.path(), "other", &{
        let (pem, key) = world.clients.sign("other");
        (pem, key)
    });
    let mut other = connect("other").await;
    for client in [&mut device, &mut server, &mut other] {
        client.get("/").await.assert_status(200);
    }
    world.revoke(gateway.directory.path(), &["other"], in_days(30));
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    let answer = other.get("/").await.assert_status(421);
    answer.assert_header("connection", "close");
    assert!(!other.is_open().await);
    for _ in 0..3 {
        device.get("/who").await.assert_status(200);
        server.get("/").await.assert_status(200);
    }
    // Where nobody vouches for anybody any more, nobody is somebody.
    gateway.edit("client_certificates: { ca: clients.pem, crl: crl.pem }", "");
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    device.get("/").await.assert_status(421);
    // And where somebody must be, nobody stays.
    let mut nobody = world.connect(&gateway, None, "a.example").await.unwrap();
    nobody.get("/").await.assert_status(200);
    gateway.edit(
        "tls:\n",
        "tls:\n      client_certificates: { ca: clients.pem }\n",
    );
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    nobody.get("/").await.assert_status(421);
}

#[tokio::test]
async fn a_bad_file_leaves_the_trust_as_it_is() {
    let world = World::new().await;
    let gateway = world.gateway("{ ca: clients.pem, crl: crl.pem }").await;
    let folder = gateway.directory.path();
    let (server, _) = pair(&gateway, "a");
    let stranger = world.strangers.revoke(&[], in_days(1));
    for (file, text, reason) in [
        (
            "crl.pem",
            "",
            "`crl.pem` holds no list of revoked certificates",
        ),
        (
            "crl.pem",
            &*stranger,
            "the list in `crl.pem` is by `strangers`",
        ),
        ("clients.pem", "", "`clients.pem` holds no certificate"),
        (
            "clients.pem",
            &*server,
            "`a.example` in `clients.pem` is no authority",
        ),
    ] {
        let good = std::fs::read_to_string(folder.join(file)).unwrap();
        replace(folder, file, text);
        until(async || gateway.process_log().contains(reason), reason).await;
        let said = talk(&gateway, Some("device"), &[]).await;
        assert!(said.contains("HTTP/1.1 200"), "{reason}: {said}");
        let said = talk(&gateway, Some("revoked"), &[]).await;
        assert!(
            said.contains("alert certificate revoked"),
            "{reason}: {said}"
        );
        replace(folder, file, &good);
        until(
            async || gateway.status().await["last_reload"]["outcome"] == "applied",
            "the good file is not taken",
        )
        .await;
    }
}
