//! Client certificates that a proxy in front passes on, driven from outside. The test is that proxy.

use crate::support::{Answer, Gateway, Upstream};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority() -> Authority {
    let mut params = params("authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of the device of this number.
fn device(number: u8, authority: &Authority, change: impl Fn(&mut CertificateParams)) -> Vec<u8> {
    let mut params = params(&format!("device-{number}"));
    let uri = format!("spiffe://example.com/devices/{number}");
    let uri = Ia5String::try_from(uri).unwrap();
    params.subject_alt_names.push(SanType::URI(uri));
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, authority).unwrap().der().to_vec()
}

fn item(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

const BOUND: &str = "ca: ca.pem, sans: \"spiffe://example.com/devices/*\", subject_is: san_uri, forward_claims: { sub: X-Device, subject: X-Subject }";

fn configuration(proxies: &str, section: &str, upstream: &Upstream) -> String {
    format!(
        r#"
server: {{ listen: $LISTEN, trusted_proxies: [{proxies}] }}
admin: {{ listen: $ADMIN }}
auth_providers:
  devices:
    client_certificate: {{ {section} }}
consumers:
  meter: {{ credentials: {{ devices: "spiffe://example.com/devices/7" }} }}
services:
  a:
    base_url: http://{}
    auth: devices
    routes:
      - /a
      - {{ path: "/devices/{{number}}", auth: {{ provider: devices, require: {{ claims: {{ common_name: "device-7", san.uri: "spiffe://example.com/devices/7" }} }} }} }}
      - {{ path: /open, auth: off }}
"#,
        upstream.address
    )
}

async fn gateway(proxies: &str, authority: &Authority, upstream: &Upstream) -> Gateway {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    Gateway::start_in(directory, &configuration(proxies, BOUND, upstream), &[]).await
}

async fn show(gateway: &Gateway, path: &str, certificate: &str) -> Answer {
    gateway
        .get(path)
        .header("client-cert", certificate)
        .send()
        .await
}

#[tokio::test]
async fn a_certificate_says_who_comes() {
    let (ours, upstream) = (authority(), Upstream::echo().await);
    let gateway = gateway("127.0.0.1/32", &ours, &upstream).await;
    let seven = item(&device(7, &ours, |_| {}));
    // Twice, so that the second comes from the memory of verified ones.
    for _ in 0..2 {
        gateway
            .get("/a")
            .header("client-cert", &seven)
            .header("x-device", "mallory")
            .header("X_Device", "mallory")
            .send()
            .await
            .assert_status(200);
        let seen = upstream.last();
        assert_eq!(seen.headers("x-device"), ["spiffe://example.com/devices/7"]);
        assert_eq!(seen.headers("x-subject"), ["CN=device-7"]);
        assert_eq!(seen.headers("x-consumer"), ["meter"]);
        assert_eq!(seen.header("x_device"), None);
        // It is a trusted proxy's to say, and so the backend's to read.
        assert_eq!(seen.headers("client-cert"), [&*seven]);
    }
    show(&gateway, "/devices/7", &seven)
        .await
        .assert_status(200);
    let eight = item(&device(8, &ours, |_| {}));
    show(&gateway, "/devices/7", &eight)
        .await
        .assert_status(403);
    show(&gateway, "/a", &eight).await.assert_status(200);
    assert_eq!(upstream.last().header("x-consumer"), None);
}

#[tokio::test]
async fn nobody_but_a_trusted_proxy_is_believed() {
    let (ours, upstream) = (authority(), Upstream::echo().await);
    let gateway = gateway("192.0.2.1", &ours, &upstream).await;
    let seven = item(&device(7, &ours, |_| {}));
    show(&gateway, "/a", &seven)
        .await
        .assert_status(401)
        .assert_header("www-authenticate", "ClientCertificate realm=\"tollgate\"");
    assert_eq!(upstream.seen().len(), 0);
    // And no backend is made to believe it.
    for name in [
        "client-cert",
        "Client-Cert",
        "CLIENT_CERT",
        "client_cert",
        "Client_Cert-Chain",
        "client-cert-chain",
        "x-device",
    ] {
        gateway
            .get("/open")
            .header(name, &seven)
            .send()
            .await
            .assert_status(200);
        let seen = upstream.last();
        let left: Vec<_> = seen
            .headers
            .iter()
            .filter(|(_, value)| value.as_bytes() == seven.as_bytes())
            .collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

#[tokio::test]
async fn without_a_provider_of_certificates_they_are_a_trusted_proxys_too() {
    let upstream = Upstream::echo().await;
    for (proxies, expected) in [("127.0.0.1", Some(":AAAA:")), ("192.0.2.1", None)] {
        let gateway = Gateway::start(&format!(
            "server: {{ listen: $LISTEN, trusted_proxies: [{proxies}] }}\nadmin: {{ listen: $ADMIN }}\nservices: {{ a: {{ base_url: \"http://{}\", routes: [/a] }} }}\n",
            upstream.address
        ))
        .await;
        show(&gateway, "/a", ":AAAA:").await.assert_status(200);
        assert_eq!(upstream.last().header("client-cert"), expected);
    }
}

#[tokio::test]
async fn every_bad_certificate_is_401_and_says_why() {
    let (ours, theirs) = (authority(), authority());
    let upstream = Upstream::echo().await;
    let gateway = gateway("127.0.0.1", &ours, &upstream).await;
    let good = device(7, &ours, |_| {});
    let mut changed = good.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    for (certificate, reason) in [
        ("".to_owned(), "malformed"),
        (STANDARD.encode(&good), "malformed"),
        (item(&good[1..]), "malformed"),
        (item(&[&good[..], &good[..]].concat()), "malformed"),
        (format!("{}, {}", item(&good), item(&good)), "malformed"),
        (item(&changed), "nobody who is trusted"),
        (item(&device(7, &theirs, |_| {})), "nobody who is trusted"),
        (item(theirs.der()), "none of those that are let in"),
        (
            item(&device(7, &ours, |params| params.subject_alt_names.clear())),
            "none of those that are let in",
        ),
        (
            item(&device(7, &ours, |params| {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            })),
            "has expired",
        ),
        (
            item(&device(7, &ours, |params| {
                params.not_before = date_time_ymd(2999, 1, 1);
                params.not_after = date_time_ymd(3000, 1, 1);
            })),
            "not valid yet",
        ),
    ] {
        // Again when it is remembered.
        for _ in 0..2 {
            let refused = show(&gateway, "/a", &certificate).await;
            assert_eq!(refused.status, 401, "{reason}: {refused:?}");
            let detail = refused.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(reason), "{reason}: {detail}");
        }
    }
    let twice = gateway
        .get("/a")
        .header("client-cert", &item(&good))
        .header("client-cert", &item(&good))
        .send()
        .await;
    twice.assert_status(401);
    gateway.get("/a").send().await.assert_status(401);
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn a_chain_leads_to_who_is_trusted() {
    let (root, upstream) = (authority(), Upstream::echo().await);
    let mut middle = params("middle");
    middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let middle = CertifiedIssuer::signed_by(middle, KeyPair::generate().unwrap(), &root).unwrap();
    let gateway = gateway("127.0.0.1", &root, &upstream).await;
    let seven = item(&device(7, &middle, |_| {}));
    show(&gateway, "/a", &seven).await.assert_status(401);
    gateway
        .get("/a")
        .header("client-cert", &seven)
        .header("client-cert-chain", &item(middle.der()))
        .header("client-cert-chain", &item(root.der()))
        .send()
        .await
        .assert_status(200);
}

#[tokio::test]
async fn without_authorities_the_proxy_in_front_has_the_word() {
    let (theirs, upstream) = (authority(), Upstream::echo().await);
    let certificate = device(7, &theirs, |_| {});
    let digest: String = openssl::sha::sha256(&certificate)
        .iter()
        .map(|byte| format!("{byte:02X}:"))
        .collect();
    let digest = digest.trim_end_matches(':');
    let bound = format!("fingerprints: \"{digest}\"");
    for (section, other) in [("", 200), (&*bound, 401)] {
        let gateway = Gateway::start(&configuration("127.0.0.1", section, &upstream)).await;
        show(&gateway, "/a", &item(&certificate))
            .await
            .assert_status(200);
        let eight = item(&device(8, &theirs, |_| {}));
        show(&gateway, "/a", &eight).await.assert_status(other);
    }
}

#[tokio::test]
async fn an_authority_that_is_replaced_is_trusted_no_more() {
    let (first, second) = (authority(), authority());
    let upstream = Upstream::echo().await;
    let gateway = gateway("127.0.0.1", &first, &upstream).await;
    let (old, new) = (
        item(&device(7, &first, |_| {})),
        item(&device(7, &second, |_| {})),
    );
    show(&gateway, "/a", &old).await.assert_status(200);
    show(&gateway, "/a", &new).await.assert_status(401);
    std::fs::write(gateway.directory.path().join("ca.pem"), second.pem()).unwrap();
    gateway.signal("HUP");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while show(&gateway, "/a", &old).await.status != 401 {
        assert!(std::time::Instant::now() < deadline);
    }
    show(&gateway, "/a", &new).await.assert_status(200);
}

/// Who decides elsewhere is told of a certificate only what a trusted proxy says.
#[tokio::test]
async fn who_decides_elsewhere_is_not_made_to_believe_a_client() {
    let (decides, upstream) = (Upstream::echo().await, Upstream::echo().await);
    for (proxies, expected) in [("127.0.0.1", Some(":AAAA:")), ("192.0.2.1", None)] {
        let gateway = Gateway::start(&format!(
            "server: {{ listen: $LISTEN, trusted_proxies: [{proxies}] }}
admin: {{ listen: $ADMIN }}
auth_providers: {{ outside: {{ forward: {{ url: \"http://{}\", request_headers: [Client-Cert] }} }} }}
services: {{ a: {{ base_url: \"http://{}\", auth: outside, routes: [/a] }} }}
",
            decides.address, upstream.address
        ))
        .await;
        show(&gateway, "/a", ":AAAA:").await.assert_status(200);
        assert_eq!(decides.last().header("client-cert"), expected);
    }
}
