//! What is kept of requests, and how much memory that takes.

use std::time::UNIX_EPOCH;

use http::{HeaderMap, Method, Version};
use proptest::prelude::*;

use super::*;
use crate::telemetry::tracing::{SpanId, TraceId};

const MS: Duration = Duration::from_millis(1);

struct Told<'t> {
    id: &'t str,
    path: &'t str,
    host: &'t [u8],
    status: u16,
}

impl Default for Told<'_> {
    fn default() -> Self {
        Self {
            id: "1",
            path: "/",
            host: b"shop.example",
            status: 503,
        }
    }
}

/// Keeps a request if it is worth it.
fn tell(recent: &RecentRequests, told: &Told<'_>, took: Duration, ended: Instant) {
    let kind = RecentKind::of(told.status, Flags::default(), told.status >= 500);
    let Some(keep) = recent.choose(kind, took, ended) else {
        return;
    };
    let record = Record {
        time: UNIX_EPOCH,
        id: told.id,
        trace: Some((TraceId::random(), SpanId::random())),
        client: None,
        method: &Method::GET,
        host: Some(told.host),
        path: told.path,
        query: Some("token=secret"),
        version: Version::HTTP_11,
        route: Some("/{id}"),
        service: Some("a"),
        endpoint: None,
        consumer: None,
        client_certificate: None,
        limit: None,
        cache: None,
        status: told.status,
        grpc_status: None,
        request_bytes: 0,
        response_bytes: 0,
        total: took,
        queued: None,
        pipeline: Some(MS),
        connected: None,
        first_byte: None,
        attempts: 2,
        flags: Flags::of(&[Flag::Retried]),
        headers: &HeaderMap::new(),
    };
    recent.keep(keep, &record, Some(IpAddr::from([192, 0, 2, 7])));
}

fn ids(requests: &[RecentRequest]) -> Vec<&str> {
    requests.iter().map(|it| &*it.id).collect()
}

/// Bytes of memory that the rings of this thread take.
fn size(recent: &RecentRequests) -> usize {
    let mine = recent.mine();
    let rings = [&mine.failures, &mine.refusals];
    rings.map(|ring| ring.lock().unwrap().size()).iter().sum()
}

#[test]
fn nobody_waits_for_a_place_that_is_being_read() {
    let recent = RecentRequests::default();
    let now = Instant::now();
    let mine = recent.mine();
    let reading = (mine.failures.lock(), mine.slowest.being_read());
    tell(&recent, &Told::default(), MS, now);
    drop(reading);
    assert_eq!(ids(&recent.last(RecentKind::Failure, 9)), ["1"]);
    assert_eq!(ids(&recent.slowest(9, now)), ["1"]);
}

#[test]
fn a_flood_of_refusals_takes_no_more_memory_and_pushes_no_failure_out() {
    let recent = RecentRequests::default();
    let now = Instant::now();
    tell(&recent, &Told::default(), MS, now);
    let long = "/ü".repeat(4000);
    let host = [0xff; 4000];
    let refusals = |count: usize| {
        for number in 0..count {
            let told = Told {
                id: &number.to_string(),
                path: &long,
                host: &host,
                status: 429,
            };
            tell(&recent, &told, MS, now);
        }
    };
    refusals(2 * ring::SLOTS);
    let before = size(&recent);
    refusals(20_000);
    assert_eq!(size(&recent), before);
    assert!(before < 256 * 1024, "{before}");
    assert_eq!(ids(&recent.last(RecentKind::Failure, 10)), ["1"]);
    let refused = recent.last(RecentKind::Refusal, 1000);
    assert_eq!(refused.len(), ring::SLOTS);
    assert_eq!(refused[0].id, "19999");
    assert!(refused[0].path.len() <= 260, "{}", refused[0].path);
}

#[test]
fn the_last_comes_first_whichever_thread_saw_it() {
    let recent = RecentRequests::default();
    let now = Instant::now();
    for id in ["1", "2", "3", "4"] {
        let ended = now + MS * id.parse::<u32>().unwrap();
        let told = Told {
            id,
            ..Told::default()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| tell(&recent, &told, MS, ended));
        });
    }
    let last = recent.last(RecentKind::Failure, 3);
    assert_eq!(ids(&last), ["4", "3", "2"]);
    let one = &last[0];
    assert_eq!(
        (&*one.time, &*one.method, &*one.path),
        ("1970-01-01T00:00:00.000Z", "GET", "/")
    );
    assert_eq!(one.client.as_deref(), Some("192.0.2.7"));
    assert_eq!(one.host.as_deref(), Some("shop.example"));
    assert_eq!((&one.endpoint, one.status, one.attempts), (&None, 503, 2));
    assert_eq!((&*one.flags[0], one.total_us), ("retried", 1000));
    assert_eq!((one.pipeline_us, one.connected_us), (Some(1000), None));
    assert_eq!(one.trace_id.as_ref().map(String::len), Some(32));
}

#[test]
fn what_is_turned_away_is_no_failure_whatever_it_is_answered() {
    let limited = Flags::of(&[Flag::RateLimited]);
    let none = Flags::default();
    for (status, flags, is_failure, kind) in [
        (429, none, false, Some(RecentKind::Refusal)),
        (503, limited, true, Some(RecentKind::Refusal)),
        (503, none, true, Some(RecentKind::Failure)),
        (200, none, true, Some(RecentKind::Failure)),
        (404, none, false, None),
        (200, Flags::of(&[Flag::Retried]), false, None),
    ] {
        assert_eq!(RecentKind::of(status, flags, is_failure), kind, "{status}");
    }
}

#[test]
fn what_was_slow_makes_room_after_five_minutes() {
    let recent = RecentRequests::default();
    let at = |seconds: u64| recent.begun + Duration::from_secs(seconds);
    let tell = |id: &str, took: u32, seconds: u64| {
        let told = Told {
            id,
            status: 200,
            ..Told::default()
        };
        tell(&recent, &told, took * MS, at(seconds));
    };
    tell("long ago", 900, 10);
    tell("middling", 50, 200);
    for _ in 0..1000 {
        tell("fast", 1, 299);
    }
    tell("late", 70, 301);
    let shown = |seconds| {
        let slowest = recent.slowest(3, at(seconds));
        ids(&slowest).join(", ")
    };
    assert_eq!(shown(309), "long ago, late, middling");
    assert_eq!(shown(311), "late, middling, fast");
    assert_eq!(shown(602), "");
    assert!(recent.last(RecentKind::Failure, 9).is_empty());
}

proptest! {
    #[test]
    fn the_slowest_are_those_of_all(
        requests in prop::collection::vec((1_u32..1000, 0_u64..20), 1..400)
    ) {
        let recent = RecentRequests::default();
        let mut seconds = 0;
        for (took, pause) in &requests {
            seconds += pause / 10;
            let told = Told { status: 200, ..Told::default() };
            tell(&recent, &told, *took * MS, recent.begun + Duration::from_secs(seconds));
        }
        prop_assume!(seconds < 300);
        let mut expected: Vec<u64> = requests.iter().map(|(took, _)| u64::from(*took) * 1000).collect();
        expected.sort_unstable_by(|one, other| other.cmp(one));
        expected.truncate(slowest::SLOTS);
        let now = recent.begun + Duration::from_secs(seconds);
        let slowest = recent.slowest(slowest::SLOTS, now);
        let found: Vec<u64> = slowest.iter().map(|it| it.total_us).collect();
        prop_assert_eq!(found, expected);
    }
}
