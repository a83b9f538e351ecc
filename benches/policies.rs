//! What a request pays for limits.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::borrow::Cow;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderName;
use tollgate::config::{
    ConcurrencyLimit, Diagnostics, LimitAlgorithm, LimitKey, OneOrMany, Period, RateLimit,
};
use tollgate::limits::{
    ConcurrencyLimits, Counters, Held, Holding, KeySource, Phase, RateLimits, Scope,
};
use tollgate::telemetry::LimitDecisions;

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
    fn consumer(&self) -> Option<(&str, &str)> {
        None
    }
    fn route(&self) -> u64 {
        0
    }
}

const SCOPE: Scope<'_> = Scope {
    identity: "bench",
    name: "bench",
    has_identity: false,
    decisions: None,
};
const CLIENTS: [(&str, u32); 2] = [("one client", 1), ("100,000 clients", 100_000)];

fn limits(criterion: &mut Criterion) {
    let decisions = LimitDecisions::default();
    let mut group = criterion.benchmark_group("rate limit");
    for algorithm in [
        LimitAlgorithm::FixedWindow,
        LimitAlgorithm::SlidingWindow,
        LimitAlgorithm::TokenBucket,
    ] {
        let limit = RateLimit {
            algorithm: algorithm.into(),
            ..RateLimit::new(1_000_000, Period::seconds(1))
        };
        let scope = Scope {
            decisions: Some(&decisions),
            ..SCOPE
        };
        let counters = Counters::local(1 << 20);
        let limits = RateLimits::compile(
            &OneOrMany(vec![limit]),
            scope,
            &counters,
            &mut Diagnostics::default(),
        )
        .unwrap();
        for (name, clients) in CLIENTS {
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

/// From a request's begin to its end.
fn concurrency(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("concurrency limit");
    let limit = ConcurrencyLimit {
        limit: 100.into(),
        by: OneOrMany(vec![LimitKey::ClientIp.into()]),
        ipv6_prefix: 64.into(),
        enforce: true,
    };
    let limits = ConcurrencyLimits::compile(
        &OneOrMany(vec![limit]),
        SCOPE,
        &Arc::default(),
        &mut Diagnostics::default(),
    )
    .unwrap();
    for (name, clients) in CLIENTS {
        let mut number = 0_u32;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number = number.wrapping_add(7919);
                let client = Client(IpAddr::from((number % clients).to_be_bytes()));
                let mut held = Held::default();
                black_box(limits.enter(Holding::All, &client, &mut held));
                black_box(held)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, limits, concurrency);
criterion_main!(benches);
