use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, Uri};
use openssl::x509::X509Name;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, DnValue, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, SanType, date_time_ymd, string::Ia5String,
};
use serde_json::{Value, json};

use super::distinguished_name::DistinguishedName;
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
fn a_certificate_is_valid_from_its_first_to_its_last_second() {
    let authority = authority("authority");
    let shown = shown(&authority, |_| {});
    let (first, last) = (NOW - DAY, NOW + 9 * DAY);
    for certificates in [certificates("{}"), vouched_for_by(&[&authority])] {
        let headers = headers(&[&shown], &[]);
        let refusal = |now| {
            certificates
                .authenticate(credentials(&headers, now))
                .settle()
                .err()
        };
        assert_eq!(refusal(first - 1), Some(Refusal::NotYetValid));
        assert_eq!(refusal(first), None);
        assert_eq!(refusal(last), None);
        assert_eq!(refusal(last + 1), Some(Refusal::Expired));
        // A clock that is set back revives nothing.
        assert_eq!(refusal(last), Some(Refusal::Expired));
    }
}

#[test]
fn somebody_who_is_trusted_must_vouch_for_it() {
    let (ours, theirs) = (authority("authority"), authority("authority"));
    let certificates = vouched_for_by(&[&ours]);
    assert!(ask(&certificates, &shown(&ours, |_| {}), &[]).is_ok());
    let forged = shown(&theirs, |_| {});
    let untrusted = Err(Refusal::UntrustedCertificate);
    let ask = |certificate: &str, chain: &[&str]| {
        ask(&certificates, certificate, chain).map(|it| it.subject().map(str::to_owned))
    };
    assert_eq!(ask(&forged, &[]), untrusted);
    // Who vouches for itself is nobody.
    assert_eq!(ask(&forged, &[&item(theirs.der())]), untrusted);
    assert_eq!(ask(&item(theirs.der()), &[]), untrusted);
    let for_servers = shown(&ours, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert_eq!(ask(&for_servers, &[]), untrusted);
    let for_clients = shown(&ours, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert!(ask(&for_clients, &[]).is_ok());
}

#[test]
fn others_may_vouch_for_it_in_between_while_they_are_valid() {
    let root = authority("root");
    let certificates = vouched_for_by(&[&root]);
    let middle = below(&root, "middle", |_| {});
    let lower = below(&middle, "lower", |_| {});
    let certificate = shown(&lower, |_| {});
    let (middle, lower) = (item(middle.der()), item(lower.der()));
    assert!(
        ask(
            &certificates,
            &certificate,
            &[&format!("{lower}, {middle}")]
        )
        .is_ok()
    );
    assert!(ask(&certificates, &certificate, &[&lower, &middle]).is_ok());
    assert!(ask(&certificates, &certificate, &[&middle, &lower]).is_ok());
    for chain in [&[][..], &[&*lower], &[&*middle]] {
        let refusal = ask(&certificates, &certificate, chain).unwrap_err();
        assert_eq!(refusal, Refusal::UntrustedCertificate);
    }
    let late = below(&root, "late", |params| {
        params.not_after = date_time_ymd(2025, 1, 2);
        params.not_before = date_time_ymd(2025, 1, 1);
    });
    let certificate = shown(&late, |_| {});
    let headers = headers(&[&certificate], &[&item(late.der())]);
    let refusal = |now| {
        certificates
            .authenticate(credentials(&headers, now))
            .settle()
            .err()
    };
    assert_eq!(refusal(NOW), None);
    assert_eq!(refusal(NOW + 1), Some(Refusal::Expired));
    // One below the root may be trusted in its place.
    let trusting = vouched_for_by(&[&late]);
    assert!(ask(&trusting, &certificate, &[]).is_ok());
    assert!(!trusting.has_same_authorities(&certificates));
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
fn each_list_must_have_one_of_the_names() {
    let authority = authority("authority");
    let certificate = shown(&authority, |params| {
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example");
        alternatives(
            params,
            &[
                "a.Example.com",
                "spiffe://example.com/shop/a",
                "me@example.com",
            ],
        );
    });
    let der = STANDARD.decode(certificate.trim_matches(':')).unwrap();
    let digest = names::hexadecimal(&openssl::sha::sha256(&der));
    let upper = digest.to_uppercase();
    let pairs = upper.as_bytes().chunks(2);
    let pairs: Vec<_> = pairs.map(|it| std::str::from_utf8(it).unwrap()).collect();
    let with_colons = pairs.join(":");
    for (section, is_let_in) in [
        (json!({"subjects": "O=Example,CN=device-7"}), true),
        (
            json!({"subjects": ["CN=other", "O=Example,CN=device-7"]}),
            true,
        ),
        (json!({"subjects": "CN=device-7,O=Example"}), false),
        (json!({"subjects": "CN=device-7"}), false),
        (json!({"common_names": "device-7"}), true),
        (json!({"common_names": "device"}), false),
        (json!({"sans": "A.example.COM"}), true),
        (json!({"sans": "*.example.com"}), true),
        (json!({"sans": "*.com"}), false),
        (json!({"sans": "example.com"}), false),
        (json!({"sans": "xample.com"}), false),
        (json!({"sans": "me@example.com"}), true),
        (json!({"sans": "Me@example.com"}), false),
        (json!({"sans": "spiffe://example.com/shop/a"}), true),
        (json!({"sans": "spiffe://example.com/shop/*"}), true),
        (json!({"sans": "spiffe://example.com/*"}), true),
        (json!({"sans": "spiffe://example.com/shop"}), false),
        (json!({"sans": "spiffe://example.com/sho/*"}), false),
        (json!({"fingerprints": digest}), true),
        (json!({"fingerprints": with_colons}), true),
        (json!({"fingerprints": "00".repeat(32)}), false),
        (
            json!({"common_names": "device-7", "sans": "*.example.com"}),
            true,
        ),
        (
            json!({"common_names": "device-7", "sans": "b.example.com"}),
            false,
        ),
    ] {
        let certificates = certificates(&section.to_string());
        let found = ask(&certificates, &certificate, &[]).map(|_| ()).err();
        let expected = (!is_let_in).then_some(Refusal::WrongCertificate);
        assert_eq!(found, expected, "{section}");
    }
}

#[test]
fn no_name_leads_out_of_a_wildcard() {
    let authority = authority("authority");
    let certificates = certificates(
        "{ sans: [\"*.example.com\", \"spiffe://example.com/shop/*\"], subject_is: common_name }",
    );
    for (name, is_let_in) in [
        ("a.example.com", true),
        ("a.b.example.com", false),
        ("*.example.com", false),
        (".example.com", false),
        ("example.com", false),
        ("aexample.com", false),
        ("spiffe://example.com/shop/a/b", true),
        ("spiffe://example.com/shop/", false),
        ("spiffe://example.com/shop/../bank", false),
        ("spiffe://example.com/shop/./a", false),
        ("spiffe://example.com/shop//a", false),
        ("spiffe://example.com/shop/%2e%2e/bank", false),
        ("spiffe://example.com/shop/a?b", false),
        ("spiffe://example.com/shopping/a", false),
        ("spiffe://example.com.evil/shop/a", false),
    ] {
        let certificate = shown(&authority, |params| alternatives(params, &[name]));
        let found = ask(&certificates, &certificate, &[]).is_ok();
        assert_eq!(found, is_let_in, "{name}");
    }
}

#[test]
fn distinguished_names_are_told_from_each_other() {
    let authority = authority("authority");
    let subject = |change: &dyn Fn(&mut rcgen::DistinguishedName)| {
        let certificate = shown(&authority, |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            change(&mut params.distinguished_name);
        });
        ask(&certificates("{}"), &certificate, &[]).map(|it| it.subject().unwrap().to_owned())
    };
    let common_name = |text: &'static str| subject(&|name| name.push(DnType::CommonName, text));
    for (text, expected) in [
        ("a,O=b", "CN=a\\,O\\=b"),
        ("a+b;c<d>e\"f\\g", "CN=a\\+b\\;c\\<d\\>e\\\"f\\\\g"),
        ("#a#", "CN=\\#a#"),
        (" a b ", "CN=\\ a b\\ "),
        (" ", "CN=\\ "),
        ("Ärger", "CN=Ärger"),
        ("a\nb", "CN=a\\0Ab"),
        ("admin\0x", "CN=admin\\00x"),
    ] {
        let expected = expected.replace("\\=", "=");
        assert_eq!(common_name(text), Ok(expected), "{text}");
    }
    let custom = DnType::CustomDnType(vec![1, 2, 3, 4]);
    assert_eq!(
        subject(&|name| {
            name.push(custom.clone(), "a");
            let wide = rcgen::string::BmpString::try_from("a").unwrap();
            name.push(DnType::CommonName, DnValue::BmpString(wide));
        }),
        Ok("CN=#1E020061,1.2.3.4=a".to_owned())
    );
}

#[test]
fn attributes_of_one_part_are_no_parts_of_their_own() {
    let attribute = |kind: u8, text: &[u8]| {
        let value = [&[0x0c, text.len() as u8], text].concat();
        let object = [0x06, 3, 0x55, 4, kind];
        tagged(0x30, &[&object[..], &value].concat())
    };
    let (name, unit) = (attribute(3, b"a"), attribute(11, b"b"));
    let joined = tagged(0x30, &tagged(0x31, &[&name[..], &unit].concat()));
    let apart = [tagged(0x31, &name), tagged(0x31, &unit)].concat();
    let apart = tagged(0x30, &apart);
    let text = |der: &[u8]| {
        let name = X509Name::from_der(der).unwrap();
        let name = DistinguishedName::of(&name).unwrap();
        (name.text, name.common_name)
    };
    let common_name = Some("a".to_owned());
    assert_eq!(text(&joined), ("CN=a+OU=b".to_owned(), common_name.clone()));
    assert_eq!(text(&apart), ("OU=b,CN=a".to_owned(), common_name));
}

fn tagged(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, content.len() as u8], content].concat()
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

/// What a provider says of a client that shows these certificates for its connection, over a proxy or not.
fn ask_shown(
    certificates: &Arc<Certificates>,
    shown: &[u8],
    headers: &HeaderMap,
    is_from_trusted_proxy: bool,
) -> Result<Arc<Identity>, Refusal> {
    let credentials = Credentials {
        certificates: shown,
        is_from_trusted_proxy,
        ..credentials(headers, NOW)
    };
    certificates.authenticate(credentials).settle()
}

fn der(authority: &Authority, name: &str) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    params(name)
        .signed_by(&key, authority)
        .unwrap()
        .der()
        .to_vec()
}

#[test]
fn the_certificate_of_a_connection_says_who_has_it_unless_a_proxy_speaks_for_others() {
    let root = authority("root");
    let between = below(&root, "between", |_| {});
    let provider = vouched_for_by(&[&root]);
    let (own, proxies) = (der(&between, "device-7"), der(&root, "proxy"));
    let chain = [&own[..], between.der()].concat();
    let nothing = HeaderMap::new();
    let named = headers(&[&item(&proxies)], &[]);
    for _ in 0..2 {
        let identity = ask_shown(&provider, &chain, &named, false).unwrap();
        assert_eq!(identity.subject(), Some("CN=device-7"));
        let identity = ask_shown(&provider, &chain, &named, true).unwrap();
        assert_eq!(identity.subject(), Some("CN=proxy"));
    }
    for (shown, headers, is_from_trusted_proxy, refusal) in [
        (&[][..], &named, false, Refusal::Missing),
        (&chain, &nothing, true, Refusal::Missing),
        (&own, &nothing, false, Refusal::UntrustedCertificate),
        (
            &own[..own.len() - 1],
            &nothing,
            false,
            Refusal::MalformedCredential,
        ),
        (
            &[&own[..], b"x"].concat(),
            &nothing,
            false,
            Refusal::MalformedCredential,
        ),
    ] {
        let found = ask_shown(&provider, shown, headers, is_from_trusted_proxy);
        assert_eq!(found.err(), Some(refusal));
    }
}
