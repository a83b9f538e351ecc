//! Every broken configuration is refused with the place and the reason of every error, and exit code
//! 78: two hundred by example, and no text at all crashes the program.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use rcgen::KeyPair;
use support::{Authority, write_pair};

/// A configuration and what is said of it.
struct Case<'t> {
    config: &'t str,
    findings: BTreeSet<String>,
}

fn cases(text: &str) -> Vec<Case<'_>> {
    text.split("<<<\n")
        .skip(1)
        .map(|block| {
            let (config, findings) = block.split_once("\n>>>\n").unwrap();
            let findings = findings
                .lines()
                .filter(|line| !line.is_empty())
                .map(str::to_owned);
            Case {
                config,
                findings: findings.collect(),
            }
        })
        .collect()
}

/// `error LINE:COLUMN: MESSAGE` for each finding of a rendered report.
fn findings(report: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut lines = report.lines().peekable();
    while let Some(line) = lines.next() {
        for kind in ["error", "warning"] {
            let Some(message) = line
                .strip_prefix(kind)
                .and_then(|rest| rest.strip_prefix(": "))
            else {
                continue;
            };
            let place = lines
                .peek()
                .and_then(|next| next.trim().strip_prefix("--> t.yaml:"));
            found.insert(format!("{kind} {}: {message}", place.unwrap_or("nowhere")));
        }
    }
    found
}

/// The certificates that cases name: `a` and `b` are good, `again` is for the same name as `a`.
fn write_certificates(folder: &Path) {
    let authority = Authority::new();
    authority.write(folder, "a", &["a.example"]);
    authority.write(folder, "b", &["b.example"]);
    authority.write(folder, "again", &["b.example", "a.example"]);
    let expired = authority.sign_with(&["c.example"], &KeyPair::generate().unwrap(), |it| {
        it.not_after = (UNIX_EPOCH + Duration::from_secs(1_700_000_000)).into();
    });
    write_pair(folder, "expired", &expired);
    write_pair(
        folder,
        "nameless",
        &authority.sign_with(&[], &KeyPair::generate().unwrap(), |_| {}),
    );
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let stranger = Authority::called("stranger");
    let year_2030 = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
    write("ca.pem", authority.pem());
    write("strangers.pem", stranger.pem());
    write("strangers.crl", &stranger.revoke(&[], year_2030));
    write(
        "passed.crl",
        &authority.revoke(&[], UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
    );
    write(
        "damaged.crl",
        "-----BEGIN X509 CRL-----\n!\n-----END X509 CRL-----\n",
    );
    write("empty.pem", "");
    write(
        "damaged.pem",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    );
    write(
        "no.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let key = PKey::private_key_from_pem(&std::fs::read(folder.join("a.key")).unwrap()).unwrap();
    let encrypted = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"secret");
    std::fs::write(folder.join("encrypted.key"), encrypted.unwrap()).unwrap();
    let weak = Rsa::generate(1024).unwrap().private_key_to_pem().unwrap();
    std::fs::write(folder.join("weak.key"), weak).unwrap();
}

#[test]
fn every_broken_configuration_is_refused_with_its_reasons() {
    let cases = cases(include_str!("config_errors.txt"));
    assert!(cases.len() >= 200, "{} cases", cases.len());
    let directory = tempfile::tempdir().unwrap();
    write_certificates(directory.path());
    let mut wrong = Vec::new();
    for case in &cases {
        std::fs::write(
            directory.path().join("t.yaml"),
            format!("{}\n", case.config),
        )
        .unwrap();
        let output = support::binary()
            .args(["check", "-c", "t.yaml"])
            .current_dir(directory.path())
            .env("SECRET", "x".repeat(40))
            .output()
            .unwrap();
        let report = String::from_utf8(output.stderr).unwrap();
        let found = findings(&report);
        if output.status.code() != Some(78) || found != case.findings {
            wrong.push(format!(
                "{}\n{:?}, expected {:#?}\n{report}",
                case.config, output.status, case.findings
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n----\n")
    );
}

#[test]
fn a_report_shows_the_line_and_what_would_be_right() {
    let (code, _, report) = support::check(
        "services:\n  orders:\n    base_url: http://127.0.0.1:9001\n    routes:\n      - path: /a\n        rate_limt: { limit: 1, window: 1m }\n      - path: /a\n",
    );
    assert_eq!(code, 78);
    assert!(report.contains("t.yaml:6:9"), "{report}");
    assert!(
        report.contains("rate_limt: { limit: 1, window: 1m }"),
        "{report}"
    );
    assert!(report.contains("did you mean `rate_limit`?"), "{report}");
    assert!(
        report.contains("t.yaml:7:9") && report.contains("the other route"),
        "{report}"
    );
    assert!(report.contains("2 errors"), "{report}");
}

#[test]
fn what_is_legal_but_suspicious_is_a_warning() {
    let (code, said, report) = support::check(
        "auth_providers: { unused: { jwt: { algorithms: [HS256], keys: { secret: 0123456789abcdef0123456789abcdef } } } }\nservices:\n  a: { base_url: \"https://127.0.0.1:1\", tls: { verify: false }, routes: [/a] }\n  b: { base_url: \"http://127.0.0.1:1\" }\n",
    );
    assert_eq!(code, 0, "{report}");
    assert!(
        said.contains("t.yaml: ok (2 services, 1 route, 4 warnings)"),
        "{said}"
    );
    for expected in [
        "no route asks for `unused`",
        "plain text",
        "not verified",
        "no request reaches `b`",
    ] {
        assert!(report.contains(expected), "{expected}: {report}");
    }
}

#[test]
fn a_cost_that_no_limit_counts_is_a_warning() {
    let check = |limit: &str| {
        let config = format!(
            "{limit}\nservices:\n  a: {{ base_url: \"http://127.0.0.1:1\", routes: [{{ path: /a, rate_limit_cost: 5 }}] }}\n"
        );
        let (code, _, report) = support::check(&config);
        assert_eq!(code, 0, "{report}");
        report.contains("no limit here counts what a request is said to cost")
    };
    assert!(check(""));
    assert!(check(
        "rate_limit: { limit: 1MiB, window: 1m, cost: response_bytes }"
    ));
    assert!(!check("rate_limit: { limit: 5, window: 1m }"));
}

#[test]
fn a_disk_for_answers_where_none_is_kept_is_a_warning() {
    let check = |cache: &str| {
        let config = format!(
            "server: {{ cache: {{ disk: {{ path: kept, max_size: 1GiB }} }} }}\nservices:\n  a: {{ base_url: \"http://127.0.0.1:1\", {cache} routes: [/a] }}\n"
        );
        let (code, _, report) = support::check(&config);
        assert_eq!(code, 0, "{report}");
        report
            .matches("no route keeps answers, so that none is kept here")
            .count()
    };
    assert_eq!(check(""), 1);
    assert_eq!(check("cache: { ttl: 1s },"), 0);
}

#[test]
fn a_stale_answer_where_none_is_kept_is_a_warning() {
    let check = |cache: &str| {
        let config = format!(
            "services:\n  a: {{ base_url: \"http://127.0.0.1:1\", {cache} fallback: {{ stale_cache: true }}, routes: [/a, /b] }}\n"
        );
        let (code, _, report) = support::check(&config);
        assert_eq!(code, 0, "{report}");
        report
            .matches("the route `/a` keeps no answers, so there is no stale one")
            .count()
    };
    assert_eq!(check(""), 1);
    assert_eq!(check("cache: { ttl: 1s },"), 0);
}
