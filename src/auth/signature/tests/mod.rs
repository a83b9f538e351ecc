//! Signed requests that must pass, and what is wrong with others. Bases are written out here, as the RFC
//! says, and not made by what is tested.

mod attacks;
mod bodies;
mod vectors;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use super::{Content, Credentials, Refusal, SignedRequests, Verdict};
use crate::auth::{Consumers, Identity};
use crate::config::{self, Diagnostics, Source};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";
const COVERED: &str = "\"@method\" \"@authority\" \"@path\" \"@query\"";

fn provider(section: &str) -> SignedRequests {
    let text = format!("auth_providers: {{ p: {{ signature: {{ {section} }} }} }}");
    let loaded = config::parse(Source::new("t.yaml", text), &|_| None);
    assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics);
    let section = loaded.config.auth_providers["p"]
        .signature
        .as_ref()
        .unwrap();
    let members = Consumers::default().of("p");
    let mut diagnostics = Diagnostics::default();
    let provider = SignedRequests::compile("p", section, members, &mut diagnostics);
    provider.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

fn with(more: &str) -> SignedRequests {
    provider(&format!("keys: {{ acme: {SECRET}, other: {OTHER} }}{more}"))
}

#[derive(Debug, Clone)]
struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    now: u64,
}

impl Request {
    fn new() -> Self {
        let request = Self {
            method: Method::POST,
            uri: Uri::from_static("/orders?id=7&x=1"),
            headers: HeaderMap::new(),
            now: NOW,
        };
        request
            .with("host", "api.example.com")
            .with("x-tenant", "blue")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.insert(name, value);
        self
    }

    fn adding(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.append(name, value);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// With a signature over a base, whose last line is left out.
    fn signed(self, lines: &[&str], input: &str, secret: &str) -> Self {
        let mut base = lines.join("\n");
        if !base.is_empty() {
            base.push('\n');
        }
        base += &format!("\"@signature-params\": {input}");
        let signature = hmac(&base, secret);
        self.with("signature-input", &format!("s={input}"))
            .with("signature", &format!("s=:{signature}:"))
    }

    fn authenticate(&self, provider: &SignedRequests) -> Result<(Arc<Identity>, Content), Refusal> {
        let credentials = Credentials {
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
            certificates: &[],
            is_encrypted: false,
            is_from_trusted_proxy: false,
            now: self.now,
        };
        match provider.authenticate(credentials) {
            Verdict::Bound(identity, content) => Ok((identity, content)),
            Verdict::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refusal(&self, provider: &SignedRequests) -> Refusal {
        self.authenticate(provider).map(|_| "let in").unwrap_err()
    }

    /// The refusal of a body, if its credential is good.
    fn with_body(&self, provider: &SignedRequests, body: &[u8]) -> Result<(), Refusal> {
        let (_, mut content) = self.authenticate(provider)?;
        for part in body.chunks(5) {
            content.add(part)?;
        }
        content.end()
    }
}

fn hmac(base: &str, secret: &str) -> String {
    let key = PKey::hmac(secret.as_bytes()).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    STANDARD.encode(signer.sign_oneshot_to_vec(base.as_bytes()).unwrap())
}

const LINES: [&str; 4] = [
    "\"@method\": POST",
    "\"@authority\": api.example.com",
    "\"@path\": /orders",
    "\"@query\": ?id=7&x=1",
];

/// Parameters of a signature of the first key that is created now.
fn parameters() -> String {
    format!(";created={NOW};keyid=\"acme\"")
}

/// Signed as by default.
fn good() -> Request {
    let input = format!("({COVERED}){}", parameters());
    Request::new().signed(&LINES, &input, SECRET)
}

/// Signed with a field more.
fn with_field(name: &str, value: &str) -> Request {
    let input = format!("({COVERED} \"{name}\"){}", parameters());
    let line = format!("\"{name}\": {value}");
    let lines = [&LINES[..], &[&line]].concat();
    Request::new()
        .with(name, value)
        .signed(&lines, &input, SECRET)
}

/// Signed with these parameters.
fn with_parameters(parameters: &str) -> Request {
    Request::new().signed(&LINES, &format!("({COVERED}){parameters}"), SECRET)
}

#[test]
fn a_signed_request_comes_from_who_has_the_secret() {
    let (identity, content) = good().authenticate(&with("")).unwrap();
    assert_eq!(identity.subject(), Some("acme"));
    assert!(matches!(content, Content::Nothing));
    // In other words for the same.
    for same in [
        good().with("host", "API.example.COM"),
        good().with("host", "api.example.com:80"),
        good().with("x-more", "anything"),
        with_field("content-type", "text/plain"),
        with_parameters(&format!(
            "{};alg=\"hmac-sha256\";nonce=\"n\";tag=\"t\"",
            parameters()
        )),
    ] {
        assert!(same.authenticate(&with("")).is_ok(), "{same:?}");
    }
}

fn good_of_other() -> Request {
    let input = format!("({COVERED});created={NOW};keyid=\"other\"");
    Request::new().signed(&LINES, &input, OTHER)
}

#[test]
fn whatever_must_be_covered_is_asked_for() {
    let cover = |lines: &[&str], components: &str| {
        Request::new().signed(lines, &format!("({components}){}", parameters()), SECRET)
    };
    for (lines, components) in [
        (&LINES[..3], "\"@method\" \"@authority\" \"@path\""),
        (&LINES[1..], "\"@authority\" \"@path\" \"@query\""),
        (&[], ""),
    ] {
        let refusal = cover(lines, components).refusal(&with(""));
        assert_eq!(refusal, Refusal::NotCovered, "{components}");
    }
    // One parameter is not all of them.
    let lines = [&LINES[..3], &["\"@query-param\";name=\"id\": 7"]].concat();
    let components = "\"@method\" \"@authority\" \"@path\" \"@query-param\";name=\"id\"";
    assert_eq!(
        cover(&lines, components).refusal(&with("")),
        Refusal::NotCovered
    );
    // The whole of the target covers its parts.
    let lines = [
        LINES[0],
        "\"@target-uri\": http://api.example.com/orders?id=7&x=1",
    ];
    let whole = cover(&lines, "\"@method\" \"@target-uri\"");
    assert!(whole.authenticate(&with("")).is_ok());
    let lines = [LINES[0], LINES[1], "\"@request-target\": /orders?id=7&x=1"];
    let whole = cover(&lines, "\"@method\" \"@authority\" \"@request-target\"");
    assert!(whole.authenticate(&with("")).is_ok());
}

#[test]
fn fields_must_be_covered_where_requests_have_them() {
    let provider = || with(", components: [\"@method\", \"@path\", Content-Type]");
    assert!(good().authenticate(&provider()).is_ok());
    let added = good().with("content-type", "text/plain");
    assert_eq!(added.refusal(&provider()), Refusal::NotCovered);
    assert!(
        with_field("content-type", "a/b")
            .authenticate(&provider())
            .is_ok()
    );
    let removed = with_field("content-type", "a/b").without("content-type");
    assert_eq!(removed.refusal(&provider()), Refusal::BadSignature);
    let wrapped = |parameter: &str, value: &str| {
        let input = format!("({COVERED} \"content-type\"{parameter}){}", parameters());
        let line = format!("\"content-type\"{parameter}: {value}");
        let lines = [&LINES[..], &[&line]].concat();
        Request::new()
            .with("content-type", "a=1, b=2")
            .signed(&lines, &input, SECRET)
    };
    assert!(
        wrapped(";bs", ":YT0xLCBiPTI=:")
            .authenticate(&provider())
            .is_ok()
    );
    // A member is not the whole.
    assert_eq!(
        wrapped(";key=\"a\"", "1").refusal(&provider()),
        Refusal::NotCovered
    );
}

#[test]
fn a_signature_is_good_for_its_time() {
    let at = |request: &Request, now: u64| {
        let request = Request {
            now,
            ..request.clone()
        };
        request
            .authenticate(&with(", max_age: 60s, leeway: 5s"))
            .map(|_| ())
    };
    let lasting = good();
    assert_eq!(at(&lasting, NOW - 6), Err(Refusal::NotYetValid));
    assert_eq!(at(&lasting, NOW - 5), Ok(()));
    assert_eq!(at(&lasting, NOW + 65), Ok(()));
    assert_eq!(at(&lasting, NOW + 66), Err(Refusal::Expired));
    let short = with_parameters(&format!("{};expires={}", parameters(), NOW + 10));
    assert_eq!(at(&short, NOW + 14), Ok(()));
    assert_eq!(at(&short, NOW + 15), Err(Refusal::Expired));
    for (parameters, refusal) in [
        (";keyid=\"acme\"".to_owned(), Refusal::NoCreation),
        (";created=-1;keyid=\"acme\"".to_owned(), Refusal::Expired),
        (
            ";created=999999999999999;keyid=\"acme\"".to_owned(),
            Refusal::NotYetValid,
        ),
        (format!("{};expires=0", parameters()), Refusal::Expired),
        (
            format!("{};expires=-999999999999999", parameters()),
            Refusal::Expired,
        ),
    ] {
        assert_eq!(
            with_parameters(&parameters).refusal(&with("")),
            refusal,
            "{parameters}"
        );
    }
    // A clock that is set back revives nothing.
    let provider = with("");
    let later = Request {
        now: NOW + 66,
        ..good()
    };
    assert_eq!(later.refusal(&provider), Refusal::Expired);
    assert_eq!(good().refusal(&provider), Refusal::Expired);
}

#[test]
fn a_signature_is_used_once_unless_it_may_be_again() {
    let provider = with("");
    assert!(good().authenticate(&provider).is_ok());
    assert_eq!(good().refusal(&provider), Refusal::Replayed);
    let late = Request {
        now: NOW + 65,
        ..good()
    };
    assert_eq!(late.refusal(&provider), Refusal::Replayed);
    // A nonce makes it another one, and so does another key.
    let other = with_parameters(&format!("{};nonce=\"2\"", parameters()));
    assert!(
        Request {
            now: NOW + 65,
            ..other
        }
        .authenticate(&provider)
        .is_ok()
    );
    assert!(
        Request {
            now: NOW + 65,
            ..good_of_other()
        }
        .authenticate(&provider)
        .is_ok()
    );
    // What is wrong is not remembered.
    let provider = with("");
    let wrong = good().with("host", "elsewhere");
    assert_eq!(wrong.refusal(&provider), Refusal::BadSignature);
    assert!(good().authenticate(&provider).is_ok());
    let provider = with(", replay: allowed");
    assert!(good().authenticate(&provider).is_ok());
    assert!(good().authenticate(&provider).is_ok());
}

#[test]
fn a_successor_knows_what_was_used() {
    let at = |now| Request { now, ..good() };
    let before = with(", max_age: 1m");
    assert!(good().authenticate(&before).is_ok());
    // This one is still young enough for both, and that one for the successor alone.
    for (now, refusal) in [(NOW + 60, Refusal::Replayed), (NOW + 70, Refusal::Expired)] {
        assert_eq!(at(now).refusal(&before), refusal);
        let mut after = with(", max_age: 2m");
        after.succeed(&before);
        for now in [now, now + 30, NOW] {
            assert_eq!(at(now).refusal(&after), refusal);
        }
    }
}
