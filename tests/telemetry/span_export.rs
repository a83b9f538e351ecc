//! Spans on their way to a collector: over either protocol, to one that is gone or hangs, and at the end.

use std::time::{Duration, Instant};

use crate::collector::{Collector, Span, the, traced};
use crate::support::{Authority, Fault, Gateway, Upstream, free_port, service_of};

/// A counter of traces.
async fn counted(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.admin("/metrics").await.assert_status(200).text();
    let sample = format!("tollgate_traces_{name}_total ");
    let value = text.lines().find_map(|line| line.strip_prefix(&sample));
    value.unwrap().parse().unwrap()
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_collector_is_talked_to_over_grpc_with_what_it_wants_to_know() {
    let (upstream, collector) = (Upstream::echo().await, Collector::grpc().await);
    let config = format!(
        "tracing: {{ otlp: {{ endpoint: \"http://{}\", protocol: grpc, interval: 20ms, headers: {{ X-Token: \"${{TOKEN}}\" }} }}, sample: 100% }}\n{}",
        collector.address,
        service_of([&upstream], "")
    );
    let directory = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_in(directory, &config, &[("TOKEN", "t0ken")]).await;
    gateway.get("/a").send().await.assert_status(200);
    let spans = collector.requests(1).await;
    assert_eq!(the(&spans, Span::is_server).name, "GET /a");
    assert_eq!(collector.fields()["x-token"], "t0ken");
    until(async || counted(&gateway, "exported").await == 1).await;
    assert_eq!(counted(&gateway, "dropped").await, 0);
}

#[tokio::test]
async fn a_collector_is_trusted_by_its_authority_alone() {
    let (upstream, authority) = (Upstream::echo().await, Authority::new());
    let over_http = Collector::https(&authority).await;
    let over_grpc = Collector::grpc_at("127.0.0.1:0".parse().unwrap(), Some(&authority)).await;
    for (collector, protocol) in [(&over_http, "http"), (&over_grpc, "grpc")] {
        let config = |ca: &str| {
            format!(
                "tracing: {{ otlp: {{ endpoint: \"https://{}\", protocol: {protocol}, interval: 20ms, timeout: 5s{ca} }}, sample: 100% }}\n{}",
                collector.address,
                service_of([&upstream], "")
            )
        };
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        let gateway = Gateway::start_in(directory, &config(", ca: ca.pem"), &[]).await;
        gateway.get("/a").send().await.assert_status(200);
        collector.requests(1).await;
        let stranger = Gateway::start(&config("")).await;
        stranger.get("/a").send().await.assert_status(200);
        until(async || counted(&stranger, "dropped").await == 1).await;
        let said = stranger.process_log().to_lowercase();
        assert!(
            said.contains("certificate") || said.contains("cert"),
            "{said}"
        );
        let count = collector.spans().iter().filter(|it| it.is_server()).count();
        assert_eq!(count, 1, "{protocol}");
    }
}

#[tokio::test]
async fn another_collector_is_used_from_a_reload_on() {
    let upstream = Upstream::echo().await;
    let (before, after) = (Collector::http().await, Collector::grpc().await);
    let config = format!(
        "{}{}",
        traced(&before, "sample: 100%"),
        service_of([&upstream], "")
    );
    let gateway = Gateway::start(&config).await;
    gateway.get("/a").send().await.assert_status(200);
    before.requests(1).await;
    let generation = async || gateway.status().await["generation"].as_u64();
    let at_first = generation().await;
    gateway.edit(
        &format!("endpoint: \"http://{}\"", before.address),
        &format!("endpoint: \"http://{}\", protocol: grpc", after.address),
    );
    until(async || generation().await != at_first).await;
    gateway.get("/a").send().await.assert_status(200);
    after.requests(1).await;
    assert_eq!(before.requests(1).await.len(), 3);
    assert!(upstream.last().header("traceparent").is_some());
    // And none from the next one on, which says nothing of traces.
    let at_first = generation().await;
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    let tracing = text.lines().find(|it| it.starts_with("tracing:")).unwrap();
    gateway.edit(tracing, "tracing: off");
    until(async || generation().await != at_first).await;
    gateway.get("/a").send().await.assert_status(200);
    assert_eq!(upstream.last().header("traceparent"), None);
}

#[tokio::test]
async fn a_collector_that_is_gone_costs_spans_and_nothing_else() {
    let upstream = Upstream::echo().await;
    let address = free_port();
    let config = format!(
        "tracing: {{ otlp: {{ endpoint: \"http://{address}\", protocol: grpc, interval: 20ms, timeout: 1s }}, sample: 100% }}\n{}",
        service_of([&upstream], "")
    );
    let gateway = Gateway::start(&config).await;
    for expected in 1..=3 {
        gateway.get("/a").send().await.assert_status(200);
        until(async || counted(&gateway, "dropped").await == expected).await;
    }
    let said = |what: &str| gateway.process_log().matches(what).count();
    assert_eq!(said("spans can't be exported"), 1);
    assert!(said("Connection refused") > 0, "{}", gateway.process_log());
    let collector = Collector::grpc_at(address, None).await;
    until(async || {
        gateway.get("/a").send().await.assert_status(200);
        !collector.spans().is_empty()
    })
    .await;
    until(async || said("spans are exported again") == 1).await;
    assert_eq!(said("spans can't be exported"), 1);
}

#[tokio::test]
async fn a_collector_that_hangs_holds_up_neither_requests_nor_the_end() {
    let upstream = Upstream::echo().await;
    let hanging = Fault::Hangs.backend().await;
    for protocol in ["http", "grpc"] {
        let config = format!(
            "tracing: {{ otlp: {{ endpoint: \"http://{}\", protocol: {protocol}, interval: 20ms, timeout: 1m }}, sample: 100% }}\n{}",
            hanging.address,
            service_of([&upstream], "")
        );
        let mut gateway = Gateway::start(&config).await;
        let mut client = gateway.connect().await;
        // More than ever wait.
        for _ in 0..4096 + 1000 {
            client.get("/a").await.assert_status(200);
        }
        assert!(counted(&gateway, "dropped").await > 0);
        assert_eq!(counted(&gateway, "exported").await, 0);
        drop(client);
        gateway.signal("TERM");
        assert!(gateway.wait().await.success());
        let said = gateway.process_log();
        assert!(
            said.contains("the collector took too long at the end"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn what_waits_is_sent_before_the_process_ends_or_another_takes_over() {
    let (upstream, collector) = (Upstream::echo().await, Collector::http().await);
    let config = format!(
        "{}{}",
        traced(&collector, "sample: 100%").replace("interval: 20ms", "interval: 1m"),
        service_of([&upstream], "")
    );
    let mut gateway = Gateway::start(&config).await;
    gateway.get("/a").send().await.assert_status(200);
    assert!(collector.spans().is_empty());
    gateway.upgrade().await;
    collector.requests(1).await;
    gateway.get("/a").send().await.assert_status(200);
    crate::support::send_signal(gateway.serving(), "TERM");
    collector.requests(2).await;
}
