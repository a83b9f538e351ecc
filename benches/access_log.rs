//! What a request pays for its line, and how many lines a second reach a file.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use tollgate::config::{AccessLog as Section, AccessLogFormat, Diagnostics, LogOutput};
use tollgate::telemetry::{AccessLog, Flags, LineRules, Record, Weight};

const TEMPLATE: &str = "{time} {client} \"{method} {path}\" {status} {total_us} {endpoint} {id}";

fn formats() -> [(&'static str, AccessLogFormat); 4] {
    [
        ("json", AccessLogFormat::Json),
        ("logfmt", AccessLogFormat::Logfmt),
        ("combined", AccessLogFormat::Combined),
        (
            "template",
            AccessLogFormat::Template(TEMPLATE.to_owned().into()),
        ),
    ]
}

fn rules(format: AccessLogFormat, output: LogOutput) -> LineRules {
    let section = Section {
        format,
        output: output.into(),
        headers: vec!["User-Agent".to_owned().into()],
        ..Section::default()
    };
    LineRules::compile(&section, &mut Diagnostics::default()).unwrap()
}

fn headers() -> HeaderMap {
    let agent =
        HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101");
    HeaderMap::from_iter([(header::USER_AGENT, agent)])
}

fn record(headers: &HeaderMap) -> Record<'_> {
    Record {
        time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
        id: "019ac0de-7f3a-7bcd-8f01-23456789abcd",
        trace: None,
        client: Some("192.0.2.77"),
        method: &Method::GET,
        host: Some(b"shop.example.com"),
        path: "/api/v1/orders/4711",
        query: None,
        version: Version::HTTP_11,
        route: Some("/api/v1/orders/{id}"),
        service: Some("orders"),
        endpoint: Some("http://10.0.0.7:9001"),
        consumer: None,
        client_certificate: None,
        limit: None,
        cache: None,
        status: 200,
        grpc_status: None,
        request_bytes: 0,
        response_bytes: 1234,
        total: Duration::from_micros(812),
        queued: None,
        pipeline: Some(Duration::from_micros(21)),
        connected: Some(Duration::from_micros(24)),
        first_byte: Some(Duration::from_micros(790)),
        attempts: 1,
        flags: Flags::default(),
        headers,
    }
}

fn format(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("format a line");
    let headers = headers();
    for (name, format) in formats() {
        let rules = rules(format, LogOutput::Stdout);
        let mut out = Vec::with_capacity(4096);
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                rules.write(black_box(&record(&headers)), Weight::ONE, &mut out);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

/// As a worker does, while the writer takes the lines away.
fn hand_over(criterion: &mut Criterion) {
    /// Fewer than a buffer holds, so that none is dropped.
    const AT_ONCE: u64 = 5_000;
    let mut group = criterion.benchmark_group("format a line and hand it over");
    let headers = headers();
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in formats() {
        let path = folder.path().join(name);
        let rules = rules(format, LogOutput::File(path.clone()));
        let log = AccessLog::default();
        log.follow(Some(rules.destination())).unwrap();
        let mut line = Vec::new();
        rules.write(&record(&headers), Weight::ONE, &mut line);
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                let mut left = rounds;
                while left > 0 {
                    let lines = left.min(AT_ONCE);
                    let start = Instant::now();
                    for _ in 0..lines {
                        log.write(&rules, Weight::ONE, black_box(&record(&headers)));
                    }
                    took += start.elapsed();
                    while file.metadata().unwrap().len() < lines * line.len() as u64 {
                        std::thread::yield_now();
                    }
                    file.set_len(0).unwrap();
                    left -= lines;
                }
                took
            });
        });
        assert_eq!(log.dropped(), 0);
    }
    group.finish();
}

/// From the first line to the last one in the file. One that would be dropped, for it comes faster than lines
/// are written, is written once more.
fn reach_a_file(criterion: &mut Criterion) {
    const LINES: u64 = 100_000;
    let mut group = criterion.benchmark_group("100,000 lines reach a file");
    group.sample_size(20);
    let headers = headers();
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in formats() {
        let path = folder.path().join(name);
        let rules = rules(format, LogOutput::File(path.clone()));
        group.throughput(Throughput::Elements(LINES));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| write_all(&rules, &path, &headers, LINES))
                    .sum()
            });
        });
    }
    group.finish();
}

fn write_all(rules: &LineRules, path: &Path, headers: &HeaderMap, lines: u64) -> Duration {
    let log = AccessLog::default();
    log.follow(Some(rules.destination())).unwrap();
    let start = Instant::now();
    for _ in 0..lines {
        let mut dropped = log.dropped();
        log.write(rules, Weight::ONE, &record(headers));
        while log.dropped() > dropped {
            dropped = log.dropped();
            std::thread::yield_now();
            log.write(rules, Weight::ONE, &record(headers));
        }
    }
    log.close();
    let took = start.elapsed();
    let written = std::fs::read(path).unwrap();
    let written = written.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(written as u64, lines);
    std::fs::remove_file(path).unwrap();
    took
}

criterion_group!(benches, format, hand_over, reach_a_file);
criterion_main!(benches);
