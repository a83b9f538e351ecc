//! What a request pays for limits.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::borrow::Cow;
use std::hint::black_box;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use http::HeaderName;
use tollgate::config::{
    ConcurrencyLimit, Diagnostics, LimitAlgorithm, LimitKey, LimitStore, OneOrMany, Period,
    RateLimit, Redis,
};
use tollgate::limits::{
    ConcurrencyLimits, Counters, Held, Holding, KeySource, Phase, RateLimits, Scope, Shared,
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

/// Who asks, one after the other and again from the front.
type Clients = (&'static str, Vec<u32>);

fn clients() -> [Clients; 4] {
    const MOST: u32 = 1_000_000;
    // In no order, and each as often as any other.
    let alike = |count: u32| {
        let mixed = (0..u64::from(count)).map(move |it| it * 7919 % u64::from(count));
        mixed.map(|it| it as u32).collect()
    };
    // The k-th as often as ln(1 + 1/k), as good as 1/k.
    let mut random = fastrand::Rng::with_seed(1);
    let skewed = || (random.f64() * f64::from(MOST).ln()).exp() as u32;
    [
        ("one client", vec![0]),
        ("100,000 clients", alike(100_000)),
        ("1,000,000 clients", alike(MOST)),
        (
            "1,000,000 clients by Zipf's law",
            std::iter::repeat_with(skewed).take(1 << 22).collect(),
        ),
    ]
}

fn limits(criterion: &mut Criterion) {
    let clients = clients();
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
        let limits = compile(limit, scope, &counters);
        for (name, clients) in &clients {
            let mut clients = clients.iter().cycle();
            // Requests bring the time of their arrival along. One client alone asks as often as it may.
            let mut now = Instant::now();
            let pause = Duration::from_nanos(if *name == "one client" { 1500 } else { 300 });
            group.bench_function(format!("{algorithm:?}, {name}"), |bencher| {
                bencher.iter(|| {
                    let number = clients.next().expect("they come again");
                    now += pause;
                    let client = Client(IpAddr::from(number.to_be_bytes()));
                    black_box(limits.decide(Phase::BeforeAuthentication, now, &client))
                });
            });
        }
    }
    group.finish();
}

/// What a decision on one of a million keys can't do without: a read that no cache answers, in as much memory as
/// their table takes.
fn one_read(criterion: &mut Criterion) {
    const LINES: u32 = 40 << 20 >> 6;
    // One after the other in no order (Sattolo's algorithm), each on a line of its own.
    let mut order: Vec<u32> = (0..LINES).collect();
    for last in (1..LINES as usize).rev() {
        order.swap(last, fastrand::usize(..last));
    }
    let mut next = vec![[0_u32; 16]; LINES as usize];
    for (line, successor) in order.into_iter().enumerate() {
        next[line][0] = successor;
    }
    let mut at = 0;
    criterion.bench_function("one read of 40 MiB", |bencher| {
        bencher.iter(|| at = next[black_box(at)][0] as usize);
    });
}

/// With tokens that a gateway has taken ahead of a server's count.
fn shared_limits(criterion: &mut Criterion) {
    let server = Server::start();
    let section = Redis {
        url: Some(format!("redis://127.0.0.1:{}", server.port).into()),
        ..Redis::default()
    };
    let mut diagnostics = Diagnostics::default();
    let shared = Shared::compile(&section.into(), Path::new("."), &mut diagnostics).unwrap();
    let counters = Counters {
        has_store: true,
        shared: Some(Arc::new(shared)),
        ..Counters::local(1 << 10)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let work = counters
        .shared
        .as_ref()
        .unwrap()
        .work(counters.local.clone());
    runtime.spawn(work.unwrap());
    // Answers are waited for with its clock.
    let _context = runtime.enter();
    let mut group = criterion.benchmark_group("shared limit");
    for (algorithm, name) in [
        (LimitAlgorithm::FixedWindow, "FixedWindow"),
        (LimitAlgorithm::SlidingWindow, "SlidingWindow"),
        (LimitAlgorithm::TokenBucket, "TokenBucket"),
    ] {
        // As many as no processor asks for.
        let limit = RateLimit {
            algorithm: algorithm.into(),
            store: LimitStore::Redis.into(),
            ..RateLimit::new(1_000_000, Period::millis(100))
        };
        let limits = compile(limit, SCOPE, &counters);
        let client = Client(IpAddr::from([192, 0, 2, 1]));
        group.bench_function(format!("{name}, one client"), |bencher| {
            bencher.iter(|| {
                let phase = Phase::BeforeAuthentication;
                let mut decision = pin!(limits.decide_shared(phase, Instant::now(), &client));
                // At once from a lease, or after an answer.
                let decided = decision.as_mut().now_or_never();
                black_box(decided.unwrap_or_else(|| runtime.block_on(decision)))
            });
        });
    }
    group.finish();
}

fn compile(limit: RateLimit, scope: Scope<'_>, counters: &Counters) -> RateLimits {
    let limits = OneOrMany(vec![limit]);
    let mut found = Diagnostics::default();
    RateLimits::compile(&limits, scope, counters, &mut found).unwrap_or_else(|| panic!("{found:?}"))
}

/// A server that ends with the benchmark.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed by `make micro-bench`");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::yield_now();
        }
        Self { process, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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
    for (name, clients) in clients() {
        let mut clients = clients.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let number = clients.next().expect("they come again");
                let client = Client(IpAddr::from(number.to_be_bytes()));
                let mut held = Held::default();
                black_box(limits.enter(Holding::All, &client, &mut held));
                black_box(held)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_read, limits, shared_limits, concurrency);
criterion_main!(benches);
