//! What counting costs a request, and reading all of it an operator.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::config::{self, Diagnostics};
use tollgate::telemetry::{
    Exposed, Exposition, Flags, Format, Measured, Meters, Phase, SeriesBounds, ServiceEvent,
};

const THREADS: usize = 8;

fn meters() -> Meters {
    let section = config::Metrics {
        max_routes: 100_000.into(),
        ..config::Metrics::default()
    };
    let bounds = SeriesBounds::compile(&section, &mut Diagnostics::default());
    Meters::default().within(bounds)
}

fn measured(number: u64) -> Measured {
    Measured {
        status: 200,
        grpc: None,
        took: Some(Duration::from_micros(number % 100_000)),
        request_bytes: 10,
        response_bytes: 1000,
    }
}

/// All that is counted of a request that a backend answers on a connection from the pool.
fn count(criterion: &mut Criterion) {
    let meters = meters();
    let route = meters.route("orders", "/orders");
    let service = meters.service("orders");
    let endpoint = meters.endpoint("orders", "http://127.0.0.1:9001");
    let mut number = 0_u64;
    criterion.bench_function("count a request", |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(7919);
            let took = Duration::from_micros(number % 10_000);
            route.begin();
            service.count(ServiceEvent::Reused);
            service.observe(Phase::FirstByte, took);
            endpoint.count(200);
            route.count(black_box(&measured(number)));
            meters.flags(Flags::default());
            service.observe(Phase::Pipeline, took);
            route.end();
        });
    });
}

/// Ten thousand routes that eight threads have counted for.
fn scrape(criterion: &mut Criterion) {
    let meters = meters();
    let routes: Vec<_> = (0..10_000)
        .map(|number| meters.route("orders", &format!("/orders/{number}/items/{{id}}")))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for (number, route) in routes.iter().enumerate() {
                    route.count(&measured(number as u64));
                }
            });
        }
    });
    let mut length = 0;
    let mut group = criterion.benchmark_group("scrape 10,000 routes");
    for format in [Format::Text, Format::OpenMetrics] {
        group.bench_function(format!("{format:?}"), |bencher| {
            bencher.iter(|| {
                let mut page = Exposition::new(format, length);
                meters.expose(&mut page);
                let text = page.finish();
                length = text.len();
                text
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = count, scrape
}
criterion_main!(benches);
