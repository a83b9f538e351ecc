//! What testssl.sh finds.

use std::process::Command;
use std::time::{Duration, SystemTime};

use rcgen::{
    CrlDistributionPoint, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SerialNumber,
};

use super::support::{Authority, Gateway, Upstream, write_pair};
use super::{gateway_with, until};

/// What it says of one thing, and how bad it finds that.
type Finding = (String, String, String);

/// Has it look at some of all that it knows.
async fn findings(gateway: &Gateway, name: &str, checks: &[&str]) -> Vec<Finding> {
    let file = gateway.directory.path().join(name);
    let mut command = Command::new("testssl");
    // The name leads nowhere else, and nobody is asked where.
    command
        .args([
            "--quiet",
            "--warnings",
            "off",
            "--color",
            "0",
            "--nodns",
            "none",
        ])
        .args(["--ip", "127.0.0.1", "--add-ca", "ca.pem", "--jsonfile"])
        .arg(&file)
        .args(checks)
        .arg(format!("localhost:{}", gateway.address.port()))
        .current_dir(gateway.directory.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let report = std::fs::read(&file).unwrap_or_else(|error| panic!("{error}: {said}"));
    let report: Vec<serde_json::Value> = serde_json::from_slice(&report).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    report
        .iter()
        .map(|it| (text(&it["id"]), text(&it["severity"]), text(&it["finding"])))
        .collect()
}

/// A certificate as public authorities sign them.
fn certify(authority: &Authority, gateway: &Gateway) {
    let pair = authority.sign_with(&["localhost"], &KeyPair::generate().unwrap(), |it| {
        let now = SystemTime::now();
        it.not_before = (now - Duration::from_secs(86_400)).into();
        it.not_after = (now + Duration::from_secs(80 * 86_400)).into();
        it.serial_number = Some(SerialNumber::from(vec![0x5a; 16]));
        it.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        it.crl_distribution_points = vec![CrlDistributionPoint {
            uris: vec!["http://authority.example/list.crl".to_owned()],
        }];
    });
    write_pair(gateway.directory.path(), "a", &pair);
}

#[tokio::test(flavor = "multi_thread")]
async fn testssl_finds_nothing_that_is_worse_than_low() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway_with(&authority, &upstream, "", "security_headers: web").await;
    certify(&authority, &gateway);
    until(
        async || {
            gateway
                .process_log()
                .contains("certificate in force: file=a.pem names=localhost ")
        },
        "the certificate is not taken",
    )
    .await;
    let offered = ["-p", "-P", "-S", "-s", "-f", "-h"];
    let (offered, weak) = tokio::join!(
        findings(&gateway, "offered.json", &offered),
        findings(&gateway, "weak.json", &["-U"]),
    );
    let all = [&offered[..], &weak].concat();
    // A warning is what it could not find out, as it may be when there is much else to do.
    let bad = all
        .iter()
        .filter(|(_, severity, _)| !["OK", "INFO", "LOW", "WARN"].contains(&&**severity));
    let bad: Vec<_> = bad.collect();
    assert!(bad.is_empty(), "{bad:#?}");
    // It has looked.
    for (about, expected) in [
        ("TLS1_3", "OK"),
        ("TLS1_1", "INFO"),
        ("cipher_order", "OK"),
        ("cert_chain_of_trust", "OK"),
        ("HSTS_time", "OK"),
        ("heartbleed", "OK"),
        ("BREACH", "OK"),
        ("LUCKY13", "OK"),
    ] {
        let found = all.iter().find(|(id, ..)| id == about);
        let (_, severity, _) = found.unwrap_or_else(|| panic!("nothing of {about}: {all:#?}"));
        assert_eq!(severity, expected, "{found:?}");
    }
}
