//! What a request pays for a rate limit and for a token, remembered or not.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::borrow::Cow;
use std::hint::black_box;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tollgate::auth::{KeySets, Provider};
use tollgate::config::{
    Diagnostics, LimitAlgorithm, LimitKey, OneOrMany, Period, RateLimit, Source, parse,
};
use tollgate::limits::{KeySource, Phase, RateLimits, Scope, Store};

struct Client(IpAddr);

impl KeySource for Client {
    fn client_ip(&self) -> IpAddr {
        self.0
    }
    fn header(&self, _name: &HeaderName) -> Option<&[u8]> {
        None
    }
    fn claim(&self, _name: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
    fn route(&self) -> u32 {
        0
    }
}

fn limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rate limit");
    for algorithm in [
        LimitAlgorithm::FixedWindow,
        LimitAlgorithm::SlidingWindow,
        LimitAlgorithm::TokenBucket,
    ] {
        let limit = RateLimit {
            limit: 1_000_000.into(),
            window: Period::seconds(1).into(),
            by: OneOrMany(vec![LimitKey::ClientIp.into()]),
            ipv6_prefix: 64.into(),
            algorithm: algorithm.into(),
            burst: None,
        };
        let scope = Scope {
            identity: "bench",
            name: "bench",
            has_claims: false,
        };
        let store = Arc::new(Store::new(1 << 20));
        let limits = RateLimits::compile(
            &OneOrMany(vec![limit]),
            scope,
            &store,
            &mut Diagnostics::default(),
        )
        .unwrap();
        for (name, clients) in [("one client", 1), ("100,000 clients", 100_000_u32)] {
            let mut number = 0_u32;
            group.bench_function(format!("{algorithm:?}, {name}"), |bencher| {
                bencher.iter(|| {
                    number = number.wrapping_add(7919);
                    let client = Client(IpAddr::from((number % clients).to_be_bytes()));
                    black_box(limits.decide(Phase::BeforeAuthentication, Instant::now(), &client))
                });
            });
        }
    }
    group.finish();
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn provider(cache: usize) -> Provider {
    let text = format!(
        "auth_providers: {{ m: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: {SECRET} }}, cache_tokens: {cache} }} }} }}"
    );
    let loaded = parse(Source::new("bench.yaml", text), &|_| None);
    Provider::compile(
        "m",
        &loaded.config.auth_providers["m"],
        &KeySets::default(),
        Path::new("."),
        &mut Diagnostics::default(),
    )
    .unwrap()
}

fn headers(subject: u64, secret: &str) -> HeaderMap {
    let claims = json!({"sub": subject, "exp": 4_000_000_000_u64});
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

fn tokens(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token");
    let now = 1_800_000_000;
    for (name, cache, count, secret) in [
        ("remembered", 16_384, 1000, SECRET),
        ("verified, HS256", 0, 1000, SECRET),
        (
            "bad signature, each another",
            16_384,
            20_000,
            "another secret of 32 bytes, truly",
        ),
    ] {
        let provider = provider(cache);
        let requests: Vec<HeaderMap> = (0..count).map(|subject| headers(subject, secret)).collect();
        let mut next = requests.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                black_box(
                    provider
                        .authenticate(next.next().unwrap(), None, now)
                        .is_ok(),
                )
            });
        });
    }
    group.finish();
}

criterion_group!(benches, limits, tokens);
criterion_main!(benches);
