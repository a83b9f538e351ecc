//! Certificates that clients must show: who comes in by them, where, and what becomes of that.

mod hosts;
mod identity;
mod trust;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};

use super::support::{Authority, Client, Gateway, Upstream, dial, write_pair};
use super::{s_client, until};

/// What the gateway's listener shows, who vouches for clients, and whom nobody knows.
pub(super) struct World {
    pub(super) servers: Authority,
    pub(super) clients: Authority,
    pub(super) strangers: Authority,
    pub(super) upstream: Upstream,
}

impl World {
    pub(super) async fn new() -> Self {
        Self {
            servers: Authority::new(),
            clients: Authority::called("clients"),
            strangers: Authority::called("strangers"),
            upstream: Upstream::echo().await,
        }
    }

    /// A gateway with this about clients, in a folder with a list that revokes `revoked` only.
    pub(super) async fn gateway(&self, section: &str) -> Gateway {
        self.gateway_with(section, "", "").await
    }

    /// The same with more in its `server` section and its service.
    pub(super) async fn gateway_with(&self, section: &str, server: &str, service: &str) -> Gateway {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path();
        self.servers.write(folder, "a", &["a.example", "127.0.0.1"]);
        self.servers.write(folder, "b", &["*.b.example"]);
        std::fs::write(folder.join("ca.pem"), self.servers.pem()).unwrap();
        replace(folder, "clients.pem", self.clients.pem());
        self.write_client(folder, "device", |_| {});
        self.write_client(folder, "revoked", |_| {});
        self.write_client(folder, "expired", |it| {
            it.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).into();
        });
        self.write_client(folder, "server", |it| {
            it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        write_pair(folder, "stranger", &self.strangers.sign("stranger"));
        self.revoke(folder, &["revoked"], in_days(30));
        let config = format!(
            "server:
  threads: 2
  listen:
    address: $LISTEN
    tls:
      certificates: [{{ cert: a.pem, key: a.key }}, {{ cert: b.pem, key: b.key }}]
      client_certificates: {section}
  {server}
admin: {{ listen: $ADMIN }}
auth_providers:
  devices: {{ client_certificate: {{ subject_is: common_name, forward_claims: {{ sub: X-Device }} }} }}
services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}, {{ prefix: /who, auth: devices }}], {service} }} }}
",
            self.upstream.address
        );
        Gateway::start_in(directory, &config, &[]).await
    }

    /// Writes a client's certificate, and its key.
    fn write_client(&self, folder: &Path, name: &str, edit: impl FnOnce(&mut CertificateParams)) {
        let pair = self
            .clients
            .sign_with(&[name], &KeyPair::generate().unwrap(), edit);
        write_pair(folder, name, &pair);
    }

    /// Writes a list that revokes these clients' certificates.
    pub(super) fn revoke(&self, folder: &Path, names: &[&str], until: SystemTime) {
        let read =
            |name: &&str| std::fs::read_to_string(folder.join(format!("{name}.pem"))).unwrap();
        let certificates: Vec<String> = names.iter().map(read).collect();
        let certificates: Vec<&str> = certificates.iter().map(String::as_str).collect();
        replace(
            folder,
            "crl.pem",
            &self.clients.revoke(&certificates, until),
        );
    }

    /// A connection of a client that shows the certificate of this name, if one is named, for this host.
    pub(super) async fn connect(
        &self,
        gateway: &Gateway,
        certificate: Option<&str>,
        host: &str,
    ) -> std::io::Result<Client> {
        let protocols = ["http/1.1"];
        let config = match certificate {
            Some(name) => self.servers.client_with(&protocols, &pair(gateway, name)),
            None => self.servers.client(&protocols),
        };
        let stream = dial(gateway.address, host, &Arc::new(config)).await?;
        Ok(Client::over(stream, host).await)
    }
}

/// The certificate of a client, and its key.
pub(super) fn pair(gateway: &Gateway, name: &str) -> (String, String) {
    let read = |kind| {
        let path = gateway.directory.path().join(format!("{name}.{kind}"));
        std::fs::read_to_string(path).unwrap()
    };
    (read("pem"), read("key"))
}

/// Writes a file at once, as programs that renew it do.
pub(super) fn replace(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
}

pub(super) fn in_days(days: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(days * 86_400)
}

/// What `openssl s_client` says that asks `a.example` for `/who` by the certificate of this name.
async fn talk(gateway: &Gateway, certificate: Option<&str>, more: &[&str]) -> String {
    let request = "GET /who HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let folder = gateway.directory.path();
    let files = certificate.map(|name| {
        ["pem", "key"].map(|kind| folder.join(format!("{name}.{kind}")).display().to_string())
    });
    let mut arguments = vec!["-ign_eof", "-servername", "a.example"];
    if let Some([cert, key]) = &files {
        arguments.extend(["-cert", cert, "-key", key]);
    }
    arguments.extend(more);
    s_client(gateway.address, &arguments, request).await
}

async fn failures(gateway: &Gateway, reason: &str) -> u64 {
    let metrics = gateway.admin("/metrics").await.text();
    let line = format!("tollgate_tls_handshake_failures_total{{reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|it| it.strip_prefix(&line));
    line.unwrap_or_else(|| panic!("no {reason}: {metrics}"))
        .parse()
        .unwrap()
}

/// Waits until so many clients were refused for a reason: who is told so may know before it is counted.
async fn refused(gateway: &Gateway, reason: &str, count: u64) {
    until(async || failures(gateway, reason).await == count, reason).await;
}

#[tokio::test]
async fn only_clients_with_a_good_certificate_come_in_and_others_are_told_why() {
    let world = World::new().await;
    let gateway = world.gateway("{ ca: clients.pem, crl: crl.pem }").await;
    for version in ["-tls1_2", "-tls1_3"] {
        let said = talk(&gateway, Some("device"), &[version]).await;
        assert!(said.contains("HTTP/1.1 200 OK"), "{version}: {said}");
        assert_eq!(world.upstream.last().header("x-device").unwrap(), "device");
    }
    let asked = world.upstream.seen().len();
    for (certificate, reason, alert) in [
        (None, "certificate_missing", "certificate required"),
        (
            Some("revoked"),
            "certificate_revoked",
            "certificate revoked",
        ),
        (
            Some("expired"),
            "certificate_expired",
            "certificate expired",
        ),
        (Some("stranger"), "certificate_unknown_issuer", "unknown ca"),
        (
            Some("server"),
            "certificate_invalid",
            "unsupported certificate",
        ),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let said = talk(&gateway, certificate, &[version]).await;
            let alert = format!("alert {alert}:");
            assert!(said.contains(&alert), "{certificate:?} {version}: {said}");
            assert!(!said.contains("HTTP/1.1 "), "{said}");
        }
        refused(&gateway, reason, 2).await;
        let said =
            format!("client certificate refused: client=127.0.0.1 reason={reason} unsaid=0: ");
        let is_said = async || gateway.process_log().matches(&said).count() == 2;
        until(is_said, &said).await;
    }
    assert_eq!(world.upstream.seen().len(), asked, "nobody else came in");
    // There were ten lines, and more come only slowly.
    for _ in 0..50 {
        if let Ok(mut nobody) = world.connect(&gateway, None, "a.example").await {
            assert!(nobody.try_get("/").await.is_none());
        }
    }
    refused(&gateway, "certificate_missing", 52).await;
    let lines = gateway.process_log().matches("certificate refused").count();
    assert!(lines < 60, "{}", gateway.process_log());
}

#[tokio::test]
async fn who_shows_none_comes_in_as_nobody_where_that_is_optional() {
    let world = World::new().await;
    let gateway = world
        .gateway("{ ca: clients.pem, mode: optional, crl: crl.pem }")
        .await;
    let mut nobody = world.connect(&gateway, None, "a.example").await.unwrap();
    nobody.get("/").await.assert_status(200);
    nobody.get("/who").await.assert_status(401);
    let mut device = world
        .connect(&gateway, Some("device"), "a.example")
        .await
        .unwrap();
    device.get("/who").await.assert_status(200);
    // A bad one is worse than none.
    let said = talk(&gateway, Some("revoked"), &[]).await;
    assert!(said.contains("alert certificate revoked"), "{said}");
    let lines = gateway.log(3).await;
    assert!(lines[0].get("client_certificate").is_none(), "{lines:?}");
    let fingerprint = lines[2]["client_certificate"].as_str().unwrap();
    assert_eq!(fingerprint.len(), 64, "{fingerprint}");
}

#[tokio::test]
async fn a_list_that_is_no_longer_true_lets_nobody_in() {
    let world = World::new().await;
    let gateway = world.gateway("{ ca: clients.pem, crl: crl.pem }").await;
    assert!(talk(&gateway, Some("device"), &[]).await.contains("200 OK"));
    let folder = gateway.directory.path();
    world.revoke(
        folder,
        &["revoked"],
        SystemTime::now() - Duration::from_secs(60),
    );
    let said = "revocation list is no longer true, clients of its authority are refused: file=crl.pem issuer=clients";
    until(async || gateway.process_log().contains(said), said).await;
    let said = talk(&gateway, Some("device"), &[]).await;
    assert!(said.contains("alert unknown ca"), "{said}");
    refused(&gateway, "certificate_unknown_status", 1).await;
    let warned = "the list of `clients` in `crl.pem` is no longer true";
    assert!(gateway.process_log().contains(warned));
    world.revoke(folder, &["revoked"], in_days(1));
    until(
        async || talk(&gateway, Some("device"), &[]).await.contains("200 OK"),
        "the new list is not taken",
    )
    .await;
}

#[tokio::test]
async fn it_is_shown_who_vouches_for_clients_and_until_when() {
    let world = World::new().await;
    let gateway = world.gateway("{ ca: clients.pem, crl: crl.pem }").await;
    let shown = gateway.admin("/certificates").await.assert_status(200);
    let shown: serde_json::Value = shown.json();
    let of = |kind: &str| {
        let all = shown.as_array().unwrap();
        all.iter().find(|it| it["kind"] == kind).unwrap().clone()
    };
    assert_eq!(of("client_authority")["file"], "clients.pem", "{shown}");
    assert_eq!(of("client_authority")["names"][0], "clients", "{shown}");
    assert_eq!(of("revocation_list")["file"], "crl.pem", "{shown}");
    assert_eq!(of("revocation_list")["days_left"], 29, "{shown}");
    assert_eq!(of("server")["file"], "a.pem", "{shown}");
    let metrics = gateway.admin("/metrics").await.text();
    for line in [
        "tollgate_tls_client_authority_expiry_seconds{authority=\"clients.pem\"} ",
        "tollgate_tls_revocation_list_expiry_seconds{list=\"crl.pem\"} ",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}
