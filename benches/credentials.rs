//! What a request pays for its credential: a token that is remembered, one that is verified, by each kind
//! of key, bad ones of which no two are the same, an API key, passwords that are remembered, good and bad, and
//! a client certificate.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use serde_json::json;
use tollgate::auth::{
    CLIENT_CERT, Consumers, Credentials, KeySets, Provider, Surroundings, Workbenches, hash_key,
};
use tollgate::config::{Diagnostics, Source, parse};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn provider(section: &str) -> Provider {
    provider_in(section, Path::new("."))
}

/// A provider whose files are in a folder.
fn provider_in(section: &str, base: &Path) -> Provider {
    let text = format!("auth_providers: {{ m: {section} }}");
    let loaded = parse(Source::new("bench.yaml", text), &|_| None);
    let (name, section) = loaded.config.auth_providers.first().unwrap();
    let surroundings = Surroundings {
        consumers: &Consumers::default(),
        key_sets: &KeySets::default(),
        workbenches: &Workbenches::default(),
        base,
        deciders: 0,
    };
    Provider::compile(name, section, surroundings, &mut Diagnostics::default()).unwrap()
}

fn with(name: HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
}

fn bearer(subject: u64, algorithm: Algorithm, key: &EncodingKey) -> HeaderMap {
    let claims = json!({"sub": subject.to_string(), "exp": NOW + 600, "scope": "a b"});
    let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, key).unwrap();
    with(header::AUTHORIZATION, &format!("Bearer {token}"))
}

fn is_known(provider: &Provider, headers: &HeaderMap) -> bool {
    let credentials = Credentials {
        method: &Method::GET,
        uri: &Uri::from_static("/"),
        headers,
        certificates: &[],
        is_encrypted: false,
        is_from_trusted_proxy: true,
        now: NOW,
    };
    provider.authenticate(credentials).settle().is_ok()
}

/// A benchmark of requests one after the other, over and over.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    provider: &Provider,
    requests: &[HeaderMap],
    expected: bool,
) {
    let mut next = requests.iter().cycle();
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            let is_known = is_known(provider, black_box(next.next().unwrap()));
            assert_eq!(is_known, expected);
        });
    });
}

fn shared_secret(criterion: &mut Criterion) {
    let section = |cache: usize| {
        format!(
            "{{ jwt: {{ algorithms: HS256, keys: {{ secret: {SECRET} }}, cache_tokens: {cache} }} }}"
        )
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let good: Vec<_> = (0..1000)
        .map(|it| bearer(it, Algorithm::HS256, &key))
        .collect();
    measure(
        criterion,
        "token, remembered",
        &provider(&section(16_384)),
        &good,
        true,
    );
    measure(
        criterion,
        "token, HS256",
        &provider(&section(0)),
        &good,
        true,
    );
    let other = EncodingKey::from_secret(b"another secret of 32 bytes, truly");
    let bad: Vec<_> = (0..100_000)
        .map(|it| bearer(it, Algorithm::HS256, &other))
        .collect();
    let provider = provider(&section(16_384));
    measure(
        criterion,
        "token, HS256, bad, each another",
        &provider,
        &bad,
        false,
    );
}

fn public_keys(criterion: &mut Criterion) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let keys: [(Algorithm, PKey<Private>); 3] = [
        (
            Algorithm::RS256,
            PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
        ),
        (
            Algorithm::ES256,
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap(),
        ),
        (Algorithm::EdDSA, PKey::generate_ed25519().unwrap()),
    ];
    for (algorithm, key) in keys {
        let private = key.private_key_to_pem_pkcs8().unwrap();
        let public = String::from_utf8(key.public_key_to_pem().unwrap()).unwrap();
        let encoding = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(&private),
            Algorithm::ES256 => EncodingKey::from_ec_pem(&private),
            _ => EncodingKey::from_ed_pem(&private),
        };
        let encoding = encoding.unwrap();
        let provider = provider(&format!(
            "{{ jwt: {{ algorithms: {algorithm:?}, keys: {{ public_key: {} }}, cache_tokens: 0 }} }}",
            json!(public)
        ));
        let good: Vec<_> = (0..200)
            .map(|it| bearer(it, algorithm, &encoding))
            .collect();
        measure(
            criterion,
            &format!("token, {algorithm:?}"),
            &provider,
            &good,
            true,
        );
    }
}

fn api_keys(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..1000).map(|it| format!("{it:064x}")).collect();
    let digests: serde_json::Map<_, _> = keys
        .iter()
        .enumerate()
        .map(|(number, key)| (number.to_string(), json!(hash_key(key).unwrap())))
        .collect();
    let digests = serde_json::Value::Object(digests);
    let provider = provider(&format!("{{ api_key: {{ keys: {digests} }} }}"));
    let name = HeaderName::from_static("x-api-key");
    let good: Vec<_> = keys.iter().map(|key| with(name.clone(), key)).collect();
    measure(criterion, "API key", &provider, &good, true);
}

fn passwords(criterion: &mut Criterion) {
    let hash = "$2y$08$LJ14hDHLp6ep4a5AK4tCqup7k7R7dB37hVzlkO/VtIgcMA2.LJs9u";
    let provider = provider(&format!("{{ basic: {{ users: \"alice:{hash}\" }} }}"));
    let show = |pair: &str| {
        let value = format!("Basic {}", STANDARD.encode(pair));
        [with(header::AUTHORIZATION, &value)]
    };
    let (good, bad) = (show("alice:wonderland"), show("alice:rabbit"));
    measure(criterion, "password, remembered", &provider, &good, true);
    measure(
        criterion,
        "password, bad, remembered",
        &provider,
        &bad,
        false,
    );
}

fn client_certificates(criterion: &mut Criterion) {
    let mut params = rcgen::CertificateParams::default();
    let name = &mut params.distinguished_name;
    name.push(rcgen::DnType::CommonName, "authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority =
        rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let shown = |number: usize| {
        let names = vec![format!("device-{number}.example.com")];
        let params = rcgen::CertificateParams::new(names).unwrap();
        let der = params.signed_by(&key, &authority).unwrap();
        let encoded = STANDARD.encode(der.der());
        with(CLIENT_CERT, &format!(":{encoded}:"))
    };
    // More than are remembered, so that one that comes again is new.
    let all: Vec<_> = (0..20_000).map(shown).collect();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    for (name, section, requests) in [
        ("certificate, remembered", "ca: ca.pem,", &all[..100]),
        ("certificate, read", "", &all[..]),
        ("certificate, verified", "ca: ca.pem,", &all[..]),
    ] {
        let section = format!("{{ client_certificate: {{ {section} subject_is: san_dns }} }}");
        let provider = provider_in(&section, directory.path());
        measure(criterion, name, &provider, requests, true);
    }
}

criterion_group!(
    benches,
    shared_secret,
    public_keys,
    api_keys,
    passwords,
    client_certificates
);
criterion_main!(benches);
