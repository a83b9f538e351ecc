//! Load that checks every byte while the configuration is reloaded every 200 ms, good and bad in
//! turn, and the program is upgraded every few seconds.
//!
//! `SOAK_SECONDS` is how long it takes. With `SOAK_STRICT` two more things must hold, for which a
//! machine has to be quiet and the time long: the slowest answers stay within three times of what they
//! are when nothing changes, and memory does not grow.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and reports"
)]

mod change;
mod clients;
#[path = "../support/mod.rs"]
mod support;
mod tally;
mod wrk;

use std::time::{Duration, Instant};

use change::{Change, config, taken};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use support::{Gateway, Upstream};
use tally::Tally;
use tokio::task::JoinSet;

const WRK_CONNECTIONS: u32 = 8;
/// Descriptors that a process opens only when it first needs them. What is lost with each upgrade or
/// reload comes to more.
const LATE_DESCRIPTORS: usize = 2;

async fn answer(request: Request<Incoming>) -> Response<support::Body> {
    let (parts, body) = request.into_parts();
    let mut numbers = parts.uri.path().split('/').skip(2);
    let mut number = || numbers.next().and_then(|it| it.parse::<u64>().ok());
    let body = match (number(), number()) {
        (Some(seed), Some(size)) => clients::pattern(seed, size as usize),
        _ => body
            .collect()
            .await
            .map(|it| it.to_bytes())
            .unwrap_or_default(),
    };
    Response::new(Full::new(body).boxed())
}

async fn echoes() -> Upstream {
    Upstream::raw(|stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_binary() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

fn whole_seconds(total: u64, tenths: u64) -> Duration {
    Duration::from_secs((total * tenths / 10).max(2))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_fails_while_everything_changes() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(20, |it| it.parse().unwrap());
    let (backend, echo) = (Upstream::serving(answer).await, echoes().await);
    let backends = format!(
        "  bytes: {{ base_url: \"http://{}\", routes: [{{ prefix: /bytes }}, /echo] }}\n  \
           socket: {{ base_url: \"http://{}\", routes: [/socket] }}\n",
        backend.address, echo.address
    );
    let gateway = Gateway::start(&config("$LISTEN", "$ADMIN", &backends, 1)).await;
    let (to, first_pid) = (gateway.address, gateway.pid());
    let at_first = taken(first_pid);
    let tally = Tally::new();
    let mut load = JoinSet::new();
    for seed in 0..2 {
        load.spawn(clients::kept(
            to,
            seed,
            Duration::from_millis(2),
            tally.clone(),
        ));
        load.spawn(clients::one_shot(
            to,
            10 + seed,
            Duration::from_millis(2),
            tally.clone(),
        ));
        load.spawn(clients::websocket(to, 20 + seed, tally.clone()));
        // Between two requests of these, a process may have gone.
        load.spawn(clients::kept(
            to,
            30 + seed,
            Duration::from_millis(450),
            tally.clone(),
        ));
    }
    let quiet = wrk::run(to, WRK_CONNECTIONS, whole_seconds(seconds, 3)).await;

    let change = Change::new(gateway, backends, tally.clone());
    let under_change = tokio::spawn(wrk::run(to, WRK_CONNECTIONS, whole_seconds(seconds, 7)));
    let end = Instant::now() + whole_seconds(seconds, 7);
    let reloads = tokio::spawn(change.clone().reload());
    // First one process with many configurations, …
    let mut resident = Vec::new();
    let upgrades_begin = Instant::now() + whole_seconds(seconds, 2);
    while Instant::now() < upgrades_begin {
        change.limits(200 + resident.len() as u8).await;
        resident.push(taken(first_pid).kibibytes);
    }
    // … then many processes.
    let upgrades = tokio::spawn(change.clone().upgrade());
    tokio::time::sleep_until(end.into()).await;
    tally.end();
    let processes = upgrades.await.unwrap();
    reloads.await.unwrap();
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    let under_change = under_change.await.unwrap();
    for measured in [&quiet, &under_change] {
        tally.answered_many("wrk", measured.requests);
        for complaint in &measured.complaints {
            tally.failed("wrk", complaint);
        }
    }
    // Connections that are kept to the backends go with them.
    drop((backend, echo));
    let gateway = change.gateway.lock().await;
    let enough = at_first.descriptors + LATE_DESCRIPTORS;
    let at_last = settled(gateway.serving(), enough).await;
    let left = gateway.left_behind().await;

    tally.print();
    let ratio = under_change.p99 / quiet.p99;
    println!(
        "p99          {:.2} ms while nothing changes, {:.2} ms while everything does ({ratio:.1} ×)",
        quiet.p99, under_change.p99
    );
    println!("memory       one process, KiB after each client's limit: {resident:?}");
    let each: Vec<_> = processes.iter().map(|it| it.kibibytes).collect();
    println!("             each process as it left: {each:?}");
    println!(
        "descriptors  {} at first, {} at last",
        at_first.descriptors, at_last
    );
    if std::env::var_os("SOAK_STRICT").is_some() {
        assert!(
            ratio <= 3.0,
            "slow answers become slower while something changes"
        );
        // The first half is when a process takes what it needs.
        assert_steady(&resident[resident.len() / 2..]);
        assert_steady(&each[1..]);
    }
    assert_eq!(tally.failures(), 0);
    assert!(left.is_empty(), "processes that did not leave: {left:?}");
    assert!(at_last <= enough, "descriptors are kept");
}

/// What is there at last is not much more than what there was at first, which varies by a tenth.
fn assert_steady(kibibytes: &[u64]) {
    let third = kibibytes.len().div_ceil(3);
    let mean = |some: &[u64]| some.iter().sum::<u64>() / some.len() as u64;
    let (first, last) = (
        mean(&kibibytes[..third]),
        mean(&kibibytes[kibibytes.len() - third..]),
    );
    assert!(
        last * 100 <= first * 115,
        "memory grows: {first} KiB, {last} KiB"
    );
}

/// The descriptors of a process that has nothing to do, once there are no more than `enough`.
async fn settled(pid: u32, enough: usize) -> usize {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let count = taken(pid).descriptors;
        if count <= enough || Instant::now() > deadline {
            return count;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
