//! Certificates that say who has them, and those that must not.

mod connection;
mod required_names;
mod trust;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, Uri};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, DnValue, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, SanType, date_time_ymd, string::Ia5String,
};
use serde_json::{Value, json};

use super::*;
use crate::auth::consumer::Consumers;
use crate::auth::jwt::KeySets;
use crate::auth::surroundings::Surroundings;
use crate::auth::work::Workbenches;
use crate::config::{Diagnostics, Source, parse};

/// 2 January 2025.
const NOW: u64 = 1_735_776_000;
const DAY: u64 = 86_400;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2025, 1, 11);
    params
}

fn authority(name: &str) -> Authority {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn below(authority: &Authority, name: &str, change: impl Fn(&mut CertificateParams)) -> Authority {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), authority).unwrap()
}

/// A certificate as it stands in a header.
fn shown(authority: &Authority, change: impl Fn(&mut CertificateParams)) -> String {
    let mut params = params("device-7");
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    item(params.signed_by(&key, authority).unwrap().der())
}

fn item(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

fn alternatives(params: &mut CertificateParams, names: &[&str]) {
    for name in names {
        let text = Ia5String::try_from(*name).unwrap();
        let name = match name {
            name if name.contains("://") => SanType::URI(text),
            name if name.contains('@') => SanType::Rfc822Name(text),
            _ => SanType::DnsName(text),
        };
        params.subject_alt_names.push(name);
    }
}

fn compile(section: &str, base: &Path) -> Arc<Certificates> {
    let text = format!("auth_providers: {{ m: {{ client_certificate: {section} }} }}");
    let loaded = parse(Source::new("t.yaml", text), &|_| None);
    assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics);
    let section = loaded.config.auth_providers["m"]
        .client_certificate
        .as_ref();
    let surroundings = Surroundings {
        consumers: &Consumers::default(),
        key_sets: &KeySets::default(),
        workbenches: &Workbenches::default(),
        base,
        deciders: 0,
    };
    let (members, mut diagnostics) = (surroundings.consumers.of("m"), Diagnostics::default());
    let section = section.unwrap();
    let compiled = Certificates::compile("m", section, members, surroundings, &mut diagnostics);
    Arc::new(compiled.unwrap_or_else(|| panic!("{diagnostics:?}")))
}

fn certificates(section: &str) -> Arc<Certificates> {
    compile(section, Path::new("."))
}

/// Certificates that one of these must vouch for.
fn vouched_for_by(authorities: &[&Authority]) -> Arc<Certificates> {
    let directory = tempfile::tempdir().unwrap();
    let pem: String = authorities.iter().map(|it| it.pem()).collect();
    std::fs::write(directory.path().join("ca.pem"), pem).unwrap();
    compile("{ ca: ca.pem }", directory.path())
}

fn headers(certificate: &[&str], chain: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let lines = certificate.iter().map(|it| (CLIENT_CERT, it));
    for (name, line) in lines.chain(chain.iter().map(|it| (CLIENT_CERT_CHAIN, it))) {
        headers.append(name, HeaderValue::from_str(line).unwrap());
    }
    headers
}

fn credentials(headers: &HeaderMap, now: u64) -> Credentials<'_> {
    static TARGET: std::sync::LazyLock<Uri> = std::sync::LazyLock::new(Uri::default);
    Credentials {
        method: &Method::GET,
        uri: &TARGET,
        headers,
        certificates: &[],
        is_encrypted: false,
        is_from_trusted_proxy: true,
        now,
    }
}

fn ask(
    certificates: &Arc<Certificates>,
    certificate: &str,
    chain: &[&str],
) -> Result<Arc<Identity>, Refusal> {
    let headers = headers(&[certificate], chain);
    certificates
        .authenticate(credentials(&headers, NOW))
        .settle()
}

#[test]
fn a_certificate_says_who_has_it() {
    let authority = authority("authority");
    let certificate = shown(&authority, |params| {
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, "Example, Inc");
        name.push(
            DnType::CountryName,
            DnValue::PrintableString("DE".try_into().unwrap()),
        );
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0xbc]));
        alternatives(
            params,
            &[
                "a.example.com",
                "b.example.com",
                "spiffe://example.com/shop",
                "me@example.com",
            ],
        );
    });
    let digest = STANDARD.decode(certificate.trim_matches(':')).unwrap();
    let digest = names::hexadecimal(&openssl::sha::sha256(&digest));
    let subject = "C=DE,O=Example\\, Inc,CN=device-7";
    for (is, expected) in [
        ("subject", subject),
        ("common_name", "device-7"),
        ("san_dns", "a.example.com"),
        ("san_uri", "spiffe://example.com/shop"),
        ("san_email", "me@example.com"),
        ("fingerprint", &digest),
    ] {
        let certificates = certificates(&format!(
            "{{ subject_is: {is}, forward_claims: {{ sub: X-Who, san.dns: X-Names, subject: X-Subject }} }}"
        ));
        let identity = ask(&certificates, &certificate, &[]).unwrap();
        assert_eq!(identity.subject(), Some(expected));
        for (claim, value) in [
            ("subject", json!(subject)),
            ("issuer", json!("CN=authority")),
            ("serial", json!("0abc")),
            ("fingerprint", json!(digest)),
            ("common_name", json!("device-7")),
            ("san.dns", json!(["a.example.com", "b.example.com"])),
            ("san.uri", json!(["spiffe://example.com/shop"])),
            ("san.email", json!(["me@example.com"])),
        ] {
            assert_eq!(identity.claim(claim), Some(&value), "{claim}");
        }
        let fields = identity.forward.iter();
        let fields: Vec<_> = fields.map(|(_, value)| value.to_str().unwrap()).collect();
        assert_eq!(fields, [expected, "a.example.com,b.example.com", subject]);
    }
}

#[test]
fn who_has_not_the_name_that_is_asked_for_is_nobody() {
    let authority = authority("authority");
    let certificate = shown(&authority, |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    for is in ["subject", "common_name", "san_dns", "san_uri", "san_email"] {
        let certificates = certificates(&format!("{{ subject_is: {is} }}"));
        let refusal = ask(&certificates, &certificate, &[]).unwrap_err();
        assert_eq!(refusal, Refusal::WrongCertificate, "{is}");
    }
}

#[test]
fn only_a_trusted_proxy_is_believed() {
    let authority = authority("authority");
    let certificates = certificates("{}");
    let shown = shown(&authority, |_| {});
    let refusal = |headers: &HeaderMap, is_from_trusted_proxy| {
        let credentials = Credentials {
            certificates: &[],
            is_encrypted: false,
            is_from_trusted_proxy,
            ..credentials(headers, NOW)
        };
        certificates.authenticate(credentials).settle().err()
    };
    let once = headers(&[&shown], &[]);
    assert_eq!(refusal(&once, true), None);
    assert_eq!(refusal(&once, false), Some(Refusal::Missing));
    assert_eq!(
        refusal(&headers(&[], &[&shown]), true),
        Some(Refusal::Missing)
    );
    let twice = headers(&[&shown, &shown], &[]);
    assert_eq!(refusal(&twice, true), Some(Refusal::SeveralCredentials));
}

#[test]
fn what_is_no_certificate_is_refused() {
    let authority = authority("authority");
    let shown = shown(&authority, |_| {});
    let encoded = shown.trim_matches(':');
    let der = STANDARD.decode(encoded).unwrap();
    let longer = item(&[&der[..], b"\0"].concat());
    let shorter = item(&der[..der.len() - 1]);
    let trusting = certificates("{}");
    let strict = vouched_for_by(&[&authority]);
    for certificates in [&trusting, &strict] {
        assert!(ask(certificates, &shown, &[]).is_ok());
        for malformed in [
            "",
            ":",
            "::",
            encoded,
            &format!(":{encoded}"),
            &format!("{encoded}:"),
            &format!("{shown};a=1"),
            &format!("{shown},{shown}"),
            &format!(": {encoded}:"),
            &format!("\"{encoded}\""),
            &shown.replace('=', ""),
            &longer,
            &shorter,
            ":AAAA:",
            "-----BEGIN CERTIFICATE-----",
        ] {
            // Without padding it may be as it was.
            if malformed == shown {
                continue;
            }
            let refusal = ask(certificates, malformed, &[]).unwrap_err();
            assert_eq!(refusal, Refusal::MalformedCredential, "{malformed}");
        }
    }
    for chain in [
        "",
        ":AAAA:",
        &format!("{shown},"),
        &[&*shown; 10].join(", "),
    ] {
        let refusal = ask(&strict, &shown, &[chain]).unwrap_err();
        assert_eq!(refusal, Refusal::MalformedCredential, "{chain}");
    }
}

#[test]
fn what_was_verified_is_remembered_and_so_is_what_nobody_vouches_for() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let certificates = vouched_for_by(&[&ours]);
    for (authority, is_good) in [(&ours, true), (&theirs, false)] {
        let headers = headers(&[&shown(authority, |_| {})], &[]);
        let ask = || certificates.authenticate(credentials(&headers, NOW));
        let first = ask();
        assert!(matches!(first, Verdict::Costly(_)));
        assert_eq!(first.settle().is_ok(), is_good);
        let second = ask();
        assert!(!matches!(second, Verdict::Costly(_)));
        assert_eq!(second.settle().is_ok(), is_good);
    }
}

#[test]
fn claims_can_be_asked_for_of_certificates_without_any() {
    let authority = authority("authority");
    let identity = ask(&certificates("{}"), &shown(&authority, |_| {}), &[]).unwrap();
    assert_eq!(
        identity.claim("san"),
        Some(&Value::Object(Default::default()))
    );
    assert_eq!(identity.claim("san.dns"), None);
}

proptest! {
    #[test]
    fn nothing_but_a_certificate_is_let_in(value in "[ -~]{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let certificates = certificates("{}");
        for value in [value, item(&bytes)] {
            prop_assert!(ask(&certificates, &value, &[&value]).is_err());
        }
    }

    #[test]
    fn a_changed_certificate_is_not_vouched_for(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        static GOOD: std::sync::LazyLock<(Arc<Certificates>, Vec<u8>)> = std::sync::LazyLock::new(|| {
            let authority = authority("authority");
            let shown = shown(&authority, |params| alternatives(params, &["a.example.com"]));
            let der = STANDARD.decode(shown.trim_matches(':')).unwrap();
            (vouched_for_by(&[&authority]), der)
        });
        let (certificates, der) = &*GOOD;
        prop_assert!(ask(certificates, &item(der), &[]).is_ok());
        let mut changed = der.clone();
        changed[at.index(der.len())] ^= 1u8 << bit;
        prop_assert!(ask(certificates, &item(&changed), &[]).is_err());
    }
}
