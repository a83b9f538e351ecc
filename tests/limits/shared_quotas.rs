//! What requests cost, and quotas of the calendar, of limits that two gateways keep on a real Redis server.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{Answer, Gateway, Redis, Upstream};
use bytes::Bytes;
use hyper::Response;

/// No test takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers `/…?NUMBER` with so many bytes, and with so much in `X-Cost`.
async fn upstream() -> Upstream {
    Upstream::answering(|seen| {
        let (_, number) = seen.target.split_once('?').unwrap();
        let mut answer = Response::new(Bytes::from(vec![b'x'; number.parse().unwrap()]));
        answer
            .headers_mut()
            .insert("x-cost", number.parse().unwrap());
        answer
    })
    .await
}

/// A gateway whose only limit is this one, on `/a`.
async fn gateway(redis: &Redis, upstream: &Upstream, limit: &str) -> Gateway {
    Gateway::start(&format!(
        r#"
redis: {{ url: "redis://{}", command_timeout: 5s }}
services:
  a:
    base_url: http://{}
    rate_limit: {{ by: everyone, store: redis, {limit} }}
    routes: [/a, {{ path: /dear, rate_limit_cost: 20 }}]
"#,
        redis.address, upstream.address
    ))
    .await
}

/// What is left, as the client is told.
fn left(answer: &Answer) -> u64 {
    let state = answer.header("ratelimit").unwrap();
    let left = state.split(";r=").nth(1).unwrap();
    left.split(';').next().unwrap().parse().unwrap()
}

/// Sends requests that cost nothing until one is answered as expected: the store is told of costs beside
/// requests.
async fn until(gateway: &Gateway, what: &str, is_expected: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = gateway.get("/a?0").send().await;
        if is_expected(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "never {what}: {answer:?}");
    }
}

#[tokio::test]
async fn a_request_costs_all_gateways_what_it_is_worth() {
    let upstream = upstream().await;
    for mode in ["strict", "fast"] {
        let redis = Redis::start().await;
        let limit =
            format!("limit: 100, window: 1h, algorithm: fixed_window, cost: 10, mode: {mode}");
        let first = gateway(&redis, &upstream, &limit).await;
        let second = gateway(&redis, &upstream, &limit).await;
        let mut spent = 0;
        for _ in 0..10 {
            for (gateway, path, cost) in [(&first, "/a?0", 10), (&second, "/dear?0", 20)] {
                if gateway.get(path).send().await.status == 200 {
                    spent += cost;
                }
            }
        }
        // What is taken ahead for one gateway may be missing for the other's last request.
        match mode {
            "strict" => assert_eq!(spent, 100),
            _ => assert!((70..=100).contains(&spent), "{spent}"),
        }
    }
}

#[tokio::test]
async fn what_answers_cost_is_told_to_the_store() {
    let upstream = upstream().await;
    for (limit, cost) in [
        ("limit: 1000", "\"response_header:X-Cost\""),
        ("limit: 1000B", "response_bytes"),
    ] {
        let redis = Redis::start().await;
        let limit = format!("{limit}, window: 1h, algorithm: fixed_window, cost: {cost}");
        let first = gateway(&redis, &upstream, &limit).await;
        let second = gateway(&redis, &upstream, &limit).await;
        let answer = first.get("/a?400").send().await.assert_status(200);
        assert_eq!(left(&answer), 1000, "as it was before");
        until(&second, "told", |answer| left(answer) == 600).await;
        // What it costs its route says nothing to the limit: the answer knows better.
        second.get("/dear?500").send().await.assert_status(200);
        until(&first, "told", |answer| left(answer) == 100).await;
        // Anything left is enough; what is too much is a debt.
        first.get("/a?5000").send().await.assert_status(200);
        let refused = until(&second, "refused", |answer| answer.status == 429).await;
        assert_eq!(left(&refused), 0);
        first.get("/a?0").send().await.assert_status(429);
    }
}

#[tokio::test]
async fn what_answers_cost_is_counted_here_while_the_store_is_silent() {
    let upstream = upstream().await;
    let mut redis = Redis::start().await;
    let limit =
        "limit: 1000, window: 1h, algorithm: fixed_window, cost: \"response_header:X-Cost\"";
    let gateway = gateway(&redis, &upstream, limit).await;
    gateway.get("/a?400").send().await.assert_status(200);
    until(&gateway, "told", |answer| left(answer) == 600).await;
    redis.kill();
    let deadline = Instant::now() + PATIENCE;
    // Until it has noticed, it owes the store what it can't say.
    while gateway.get("/a?1000").send().await.status != 429 {
        assert!(Instant::now() < deadline, "never refused");
    }
    redis.restart().await;
    while !gateway.process_log().contains("by the store again") {
        assert!(Instant::now() < deadline, "never back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The store has forgotten the rest, but is told what it missed.
    until(&gateway, "refused", |answer| answer.status == 429).await;
}

/// A zone where it is about noon, and the seconds to its midnight.
fn noon() -> (String, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let ahead = 12 - now / 3600 % 24;
    // In these names, what is east of Greenwich is behind it.
    let name = match ahead {
        0.. => format!("Etc/GMT-{ahead}"),
        _ => format!("Etc/GMT+{}", -ahead),
    };
    let rest = 86_400 - (now + ahead * 3600).rem_euclid(86_400);
    (name, u64::try_from(rest).unwrap())
}

#[tokio::test]
async fn two_gateways_share_the_quota_of_a_day() {
    let upstream = upstream().await;
    let (zone, rest) = noon();
    for (mode, limit, promised) in [("strict", 40, 40..=40), ("fast", 100, 75..=102)] {
        let redis = Redis::start().await;
        let limit = format!("limit: {limit}, window: day, time_zone: {zone}, mode: {mode}");
        let first = gateway(&redis, &upstream, &limit).await;
        let second = gateway(&redis, &upstream, &limit).await;
        let mut admitted = 0;
        let mut refused = Vec::new();
        while refused.len() < 4 {
            for gateway in [&first, &second] {
                let answer = gateway.get("/a?0").send().await;
                let state = answer.header("ratelimit").unwrap();
                let reset: u64 = state.split(";t=").nth(1).unwrap().parse().unwrap();
                assert!(reset <= rest + 1, "{state}");
                match answer.status.as_u16() {
                    200 => admitted += 1,
                    _ => refused.push(answer.assert_status(429)),
                }
            }
            assert!(admitted <= *promised.end(), "{mode}: {admitted}");
        }
        assert!(promised.contains(&admitted), "{mode}: {admitted}");
        for answer in refused {
            let retry: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            // As many seconds as the test has taken.
            let expected = rest - PATIENCE.as_secs()..=rest + 1;
            assert!(expected.contains(&retry), "{retry}, not {rest}");
        }
    }
}

#[tokio::test]
async fn the_day_of_a_shared_quota_is_the_consumers() {
    let upstream = upstream().await;
    let redis = Redis::start().await;
    let (zone, rest) = noon();
    let digest = openssl::sha::sha256(b"key-acme");
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let config = format!(
        r#"
redis: {{ url: "redis://{}", command_timeout: 5s }}
auth_providers: {{ keys: {{ api_key: {{ keys: {{ acme-1: "sha256:{hex}" }} }} }} }}
consumers: {{ acme: {{ credentials: {{ keys: acme-1 }}, time_zone: {zone} }} }}
services:
  a:
    base_url: http://{}
    auth: keys
    rate_limit: {{ limit: 2, window: day, time_zone: Pacific/Kiritimati, by: consumer, store: redis, mode: strict }}
    routes: [/a]
"#,
        redis.address, upstream.address
    );
    let (first, second) = (Gateway::start(&config).await, Gateway::start(&config).await);
    let get = |gateway: &Gateway| gateway.get("/a?0").header("x-api-key", "key-acme").send();
    assert_eq!(left(&get(&first).await.assert_status(200)), 1);
    assert_eq!(left(&get(&second).await.assert_status(200)), 0);
    let refused = get(&first).await.assert_status(429);
    let retry: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    let expected = rest - PATIENCE.as_secs()..=rest + 1;
    assert!(expected.contains(&retry), "{retry}, not {rest}");
}
