//! How long it takes to find a route among 10, 1,000 and 100,000: nearly the same.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use tollgate::config::{Diagnostics, Span};
use tollgate::routing::{Conditions, Entry, Pattern, Request, RouteTable};

/// Routes as services have them: exact paths, templates and prefixes, spread over many services.
fn table(count: u32) -> RouteTable {
    let entries = (0..count)
        .map(|number| {
            let service = number / 10;
            let pattern = match number % 10 {
                0..4 => Pattern::path(&format!("/api/s{service}/items{number}")),
                4..9 => Pattern::path(&format!(
                    "/api/s{service}/items{number}/{{id}}/parts/{{part}}"
                )),
                _ => Pattern::prefix(&format!("/files/s{service}")),
            };
            Entry {
                hosts: Vec::new(),
                pattern: pattern.unwrap(),
                conditions: Conditions {
                    methods: [Method::GET].into(),
                    ..Conditions::default()
                },
                span: Span::default(),
                value: number,
            }
        })
        .collect();
    let mut diagnostics = Diagnostics::default();
    let table = RouteTable::build(entries, &mut diagnostics);
    assert!(!diagnostics.has_errors());
    table
}

fn find(criterion: &mut Criterion) {
    let headers = HeaderMap::new();
    for (kind, offset) in [("exact", 0), ("template", 5), ("prefix", 9)] {
        let mut group = criterion.benchmark_group(
            format!("find an {kind} route")
                .replace("an t", "a t")
                .replace("an p", "a p"),
        );
        for count in [10, 1_000, 100_000] {
            let table = table(count);
            // A different route each time, so that caches hold what they would.
            let paths: Vec<String> = (0..count / 10)
                .map(|service| (service * 7919) % (count / 10))
                .map(|service| match kind {
                    "exact" => format!("/api/s{service}/items{}", service * 10 + offset),
                    "template" => {
                        format!("/api/s{service}/items{}/42/parts/7", service * 10 + offset)
                    }
                    _ => format!("/files/s{service}/a/b/c"),
                })
                .take(1000)
                .collect();
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                let mut next = paths.iter().cycle();
                bencher.iter(|| {
                    let request = Request {
                        host: Some("shop.example.com"),
                        path: next.next().unwrap(),
                        query: None,
                        method: &Method::GET,
                        headers: &headers,
                    };
                    black_box(table.find(black_box(&request)))
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, find);
criterion_main!(benches);
