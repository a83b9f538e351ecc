//! A thousand gateways that share a limit for ten million keys, against one exact counter.
//!
//! `make fleet` runs it and keeps what it prints. Without `--bench`, as among the tests, it is a small fleet.
#![allow(missing_docs, clippy::print_stdout, reason = "a benchmark")]

use std::time::{Duration, Instant};

use tollgate::config::{LimitAlgorithm, LimitMode};
use tollgate::limits::simulation::{FIRST, Outcome, Scenario};

const ALGORITHMS: [(LimitAlgorithm, &str); 3] = [
    (LimitAlgorithm::FixedWindow, "fixed window"),
    (LimitAlgorithm::SlidingWindow, "sliding window"),
    (LimitAlgorithm::TokenBucket, "token bucket"),
];
/// One that a request on credit at each gateway doubles, and one that it is little to.
const LIMITS: [u64; 2] = [1_000, 20_000];
/// Gateways that are few.
const FEW: usize = 10;
/// What a Redis server takes for a key, its name and its place: `used_memory` of Redis 7.0 with a million of
/// them, divided; 177 to 209 by algorithm.
const BYTES_OF_KEY: usize = 200;

fn main() {
    let is_full = std::env::args().any(|argument| argument == "--bench");
    let begun = Instant::now();
    println!("# Results of `make fleet`\n");
    let fleets = if is_full {
        [fleet(), few_gateways()]
    } else {
        [small(fleet()), small(few_gateways())]
    };
    for size in fleets {
        let scenarios = scenarios(&size);
        let run = |scenario: Scenario| (scenario.clone(), scenario.run());
        let runs: Vec<(Scenario, Outcome)> = scenarios.into_iter().map(run).collect();
        describe(&size);
        print_admitted(&runs);
        print_store(&runs);
        print_memory(&runs);
    }
    println!("Simulated in {} s on one core.", begun.elapsed().as_secs());
}

fn fleet() -> Scenario {
    Scenario {
        algorithm: LimitAlgorithm::SlidingWindow,
        mode: LimitMode::Fast,
        limit: 0,
        window: Duration::from_secs(10),
        burst: 0,
        gateways: 1_000,
        leases: 16_384,
        keys: 10_000_000,
        watched: 1_000,
        requests: 6_000_000,
        rate: 200_000,
        delay: 100..400,
        seed: 1,
    }
}

/// The same traffic where leases are at home.
fn few_gateways() -> Scenario {
    Scenario {
        gateways: FEW,
        leases: 262_144,
        ..fleet()
    }
}

/// As long, with a hundredth of the rest.
fn small(size: Scenario) -> Scenario {
    Scenario {
        gateways: size.gateways.div_ceil(50),
        leases: size.leases / 16,
        keys: size.keys / 100,
        requests: size.requests / 100,
        rate: size.rate / 100,
        ..size
    }
}

fn scenarios(size: &Scenario) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for (algorithm, _) in ALGORITHMS {
        for (mode, limits) in [
            (LimitMode::Fast, &LIMITS[..]),
            (LimitMode::Strict, &LIMITS[..1]),
        ] {
            scenarios.extend(limits.iter().map(|limit| Scenario {
                algorithm,
                mode,
                limit: *limit,
                burst: limit / 2,
                ..size.clone()
            }));
        }
    }
    // A strict limit does not depend on how many decide.
    scenarios.retain(|it| it.mode == LimitMode::Fast || it.gateways > FEW);
    scenarios
}

fn describe(size: &Scenario) {
    println!("## {} gateways, {} keys\n", size.gateways, size.keys);
    println!(
        "The k-th key comes about 1/k as often as the first (Zipf). {} requests, {} in a second, each at any gateway. \
         A window is {} s, a bucket holds half of the limit, an answer takes {} to {} µs.\n",
        size.requests,
        size.rate,
        size.window.as_secs(),
        2 * size.delay.start,
        2 * size.delay.end,
    );
}

fn print_admitted(runs: &[(Scenario, Outcome)]) {
    println!("### Admitted\n");
    println!(
        "*Exact* is one counter that all requests come to at once. *Over* and *under* add up what each key had more \
         and less than that, as a share of it; then the key with the most. The last column is the most that one of \
         the first {} keys had in a window, and what is promised.\n",
        runs.first().map_or(0, |(scenario, _)| scenario.watched),
    );
    println!("| | limit | exact | fleet | over | the most | under | the most | in a window |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (scenario, outcome) in runs {
        let share = |part: u64| percent(part, outcome.exact);
        let most = |(difference, exact): (u64, u64)| format!("{difference} of {exact}");
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} ≤ {} |",
            name(scenario),
            scenario.limit,
            outcome.exact,
            outcome.admitted,
            share(outcome.over),
            most(outcome.most_over),
            share(outcome.under),
            most(outcome.most_under),
            outcome.most,
            outcome.promised,
        );
    }
}

fn print_store(runs: &[(Scenario, Outcome)]) {
    println!("\n### Asked of the store\n");
    println!("| | limit | questions/s | per request | the first {FIRST} keys |");
    println!("|---|--:|--:|--:|--:|");
    for (scenario, outcome) in runs {
        let (questions, requests) = outcome.questions_of_first;
        println!(
            "| {} | {} | {:.0} | {:.2} | {:.2} |",
            name(scenario),
            scenario.limit,
            outcome.questions as f64 / outcome.elapsed.as_secs_f64(),
            outcome.questions as f64 / scenario.requests as f64,
            questions as f64 / requests as f64,
        );
    }
}

fn print_memory(runs: &[(Scenario, Outcome)]) {
    let most = |of: fn(&Outcome) -> usize| runs.iter().map(|(_, it)| of(it)).max().unwrap_or(0);
    let keys = runs.iter().map(|(_, it)| it.keys).max().unwrap_or(0);
    let leases = runs.first().map_or(0, |(scenario, _)| scenario.leases);
    let stored = most(|it| it.stored);
    println!("\n### Memory\n");
    println!(
        "- A gateway: {} KiB for `leases: {leases}`, whatever comes. It knew {} keys at a time; its desk had {} \
         questions and leases to remember.",
        most(|it| it.lease_bytes) / 1024,
        most(|it| it.leased),
        most(|it| it.pending),
    );
    println!(
        "- The store: {} MiB for {stored} keys at a time, at {BYTES_OF_KEY} bytes, of {keys} that came.\n",
        (stored * BYTES_OF_KEY) >> 20,
    );
}

fn name(scenario: &Scenario) -> String {
    let algorithm = ALGORITHMS.iter().find(|(it, _)| *it == scenario.algorithm);
    let mode = match scenario.mode {
        LimitMode::Fast => "",
        LimitMode::Strict => ", strict",
    };
    format!("{}{mode}", algorithm.map_or("", |(_, name)| name))
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.3} %", 100.0 * part as f64 / whole as f64)
}
