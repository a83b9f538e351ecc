//! How much a fleet admits while nothing breaks.

use std::time::Duration;

use crate::fleet::{Fleet, GATEWAYS, at, config, limit, until};
use crate::load::{Load, Outcome};
use crate::support::{Gateway, Redis};

/// Each with what a fast limit of it may admit beyond, in credits of a gateway.
const ALGORITHMS: [(&str, usize); 3] = [
    ("fixed_window", 1),
    ("sliding_window", 3),
    ("token_bucket", 3),
];

/// What a gateway may spend of a key before the store has said anything.
fn credit(limit: usize) -> usize {
    (limit / (100 * GATEWAYS)).max(1)
}

async fn start(server: &Redis, each: usize, window: &str, algorithm: &str, mode: &str) -> Fleet {
    let limit = limit(
        each,
        window,
        &format!("algorithm: {algorithm}, mode: {mode}"),
    );
    Fleet::start(&config(&at(server.address), &[("/a", &limit)])).await
}

/// Asks for these keys until nothing is left of any.
async fn exhaust(gateways: &[Gateway], keys: &[String], each: usize) -> Outcome {
    let load = Load::start(gateways, "/a", keys);
    load.until("all of the limit is admitted", |it| it.fewest() >= each)
        .await;
    load.until_refused(10).await;
    load.end().await
}

fn keys(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}{number}")).collect()
}

#[tokio::test]
async fn a_strict_limit_admits_exactly_what_it_says() {
    for (algorithm, _) in ALGORITHMS {
        let server = Redis::start().await;
        let fleet = start(&server, 60, "1d", algorithm, "strict").await;
        let outcome = exhaust(&fleet.0, &keys("hot", 1), 60).await;
        assert_eq!(outcome.admitted, [60], "{algorithm}");
        let outcome = exhaust(&fleet.0, &keys("many", 30), 60).await;
        assert_eq!(outcome.admitted, [60; 30], "{algorithm}");
    }
}

#[tokio::test]
async fn a_fast_limit_admits_a_little_more_and_never_less() {
    for (algorithm, credits) in ALGORITHMS {
        let server = Redis::start().await;
        for (each, count) in [(2000, 1), (40, 30)] {
            let fleet = start(&server, each, "1d", algorithm, "fast").await;
            let outcome = exhaust(&fleet.0, &keys("key", count), each).await;
            let most = each + credits * GATEWAYS * credit(each);
            let is_right = |admitted: &usize| (each..=most).contains(admitted);
            let admitted = &outcome.admitted;
            assert!(
                admitted.iter().all(is_right),
                "{algorithm}: {admitted:?} of {each}"
            );
        }
    }
}

/// The worst that can happen: others come when one has spent it all.
#[tokio::test]
async fn gateways_that_come_late_spend_their_credit_and_no_more() {
    // In a long window there is none. In a day one of the 2,000 may come back meanwhile.
    let long = ALGORITHMS.map(|(algorithm, _)| (algorithm, "1d", 0..=1));
    let credit = (GATEWAYS - 1) * credit(2000);
    let short = [("fixed_window", "10m", credit..=credit)];
    for (algorithm, window, credits) in long.into_iter().chain(short) {
        let server = Redis::start().await;
        let fleet = start(&server, 2000, window, algorithm, "fast").await;
        let (first, late) = fleet.0.split_at(1);
        let all = exhaust(first, &keys("key", 1), 2000).await.total();
        assert_eq!(all, 2000, "{algorithm}");
        let load = Load::start(late, "/a", &keys("key", 1));
        load.until_refused(300).await;
        let admitted = load.end().await.total();
        assert!(
            credits.contains(&admitted),
            "{algorithm} in {window}: {admitted}"
        );
    }
}

#[tokio::test]
async fn each_fixed_window_has_its_own_count_whoever_asks_at_its_end() {
    let window = Duration::from_secs(5);
    for (mode, credits) in [("strict", 0), ("fast", 1)] {
        let server = Redis::start().await;
        let fleet = start(&server, 60, "5s", "fixed_window", mode).await;
        let load = Load::start(&fleet.0, "/a", &keys("key", 1));
        load.until("three windows are full", |it| it.admitted() >= 3 * 60)
            .await;
        load.until_refused(50).await;
        let outcome = load.end().await;
        let windows = outcome.windows(window) as usize + 1;
        let (admitted, each) = (outcome.total(), 60 + credits * GATEWAYS * credit(60));
        assert!(
            admitted <= windows * each,
            "{mode}: {admitted} in {windows}"
        );
        // Each window but the last is over, and was full.
        assert!(
            admitted >= (windows - 1) * 60,
            "{mode}: {admitted} in {windows}"
        );
    }
}

/// At whichever time of a window it begins, no more comes back than the time gives back.
#[tokio::test]
async fn a_limit_holds_at_every_phase_of_its_window() {
    let window = Duration::from_secs(4);
    for (algorithm, credits) in [("sliding_window", 3), ("token_bucket", 3)] {
        for (mode, credits) in [("strict", 0), ("fast", credits)] {
            let server = Redis::start().await;
            let fleet = start(&server, 200, "4s", algorithm, mode).await;
            for quarter in 0..4u32 {
                let phase = window * quarter / 4;
                until("the phase comes", async || {
                    let time = time(&server).await;
                    let now = Duration::from_micros((time.as_micros() % window.as_micros()) as u64);
                    now >= phase && now < phase + window / 8
                })
                .await;
                let outcome = exhaust(&fleet.0, &keys(&format!("at{quarter}"), 1), 200).await;
                let most = 200.0 * (1.0 + outcome.windows(window));
                let most = most as usize + credits * GATEWAYS * credit(200);
                let admitted = outcome.total();
                assert!(
                    (200..=most).contains(&admitted),
                    "{algorithm} {mode} at {phase:?}: {admitted} of {most} in {:?}",
                    outcome.lasted
                );
            }
        }
    }
}

/// The server's own clock, which rules the windows.
async fn time(server: &Redis) -> Duration {
    let text = server.command(&["TIME"]).await;
    let (seconds, micros) = text.split_once('\n').unwrap();
    Duration::from_secs(seconds.parse().unwrap()) + Duration::from_micros(micros.parse().unwrap())
}
