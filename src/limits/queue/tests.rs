//! Requests that wait, on a clock that only goes on when all of them do.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderName;
use proptest::prelude::*;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::algorithm::Rule;
use super::super::limiter::{Counters, Scope};
use super::super::store::Store;
use super::*;
use crate::config::{
    Diagnostics, LimitAlgorithm, LimitAmount, LimitKey, LimitQueue, OneOrMany, Period,
};

const FOR_EVER: Duration = Duration::MAX;

#[derive(Debug, Clone, Copy)]
struct Client(u8);

impl KeySource for Client {
    fn client_ip(&self) -> IpAddr {
        IpAddr::from([192, 0, 2, self.0])
    }
    fn header(&self, _: &HeaderName) -> Option<&[u8]> {
        None
    }
    fn claim(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
    fn consumer(&self) -> Option<(&str, &str)> {
        None
    }
    fn route(&self) -> u64 {
        0
    }
}

fn limit(limit: u64, window: u64, queue: Option<(u64, u64)>) -> config::RateLimit {
    let queue = queue.map(|(max_wait, max_waiting)| {
        let queue = LimitQueue {
            max_wait: Period::millis(max_wait).into(),
            max_waiting: max_waiting.into(),
        };
        queue.into()
    });
    config::RateLimit {
        algorithm: LimitAlgorithm::FixedWindow.into(),
        queue,
        ..config::RateLimit::new(limit, Period::millis(window))
    }
}

fn by_everyone(limit: config::RateLimit) -> config::RateLimit {
    config::RateLimit {
        by: OneOrMany(vec![LimitKey::Everyone.into()]),
        ..limit
    }
}

fn compile(limits: Vec<config::RateLimit>, store: &Arc<Store>) -> Arc<RateLimits> {
    let scope = Scope {
        identity: "top",
        name: "orders",
        has_identity: true,
        decisions: None,
    };
    let mut diagnostics = Diagnostics::default();
    let counters = Counters {
        local: store.clone(),
        shared: None,
        has_store: false,
        has_top_keys: false,
    };
    let limits = RateLimits::compile(&OneOrMany(limits), scope, &counters, &mut diagnostics);
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    limits.unwrap().into()
}

fn store() -> Arc<Store> {
    Arc::new(Store::new(1000))
}

/// Whether a request that may wait passes; `None` if its client is gone.
async fn passes(limits: &RateLimits, client: Client, is_gone: impl Fn() -> bool) -> Option<bool> {
    match limits.decide_all(Instant::now().into_std(), &client) {
        Verdict::Admit(_) => Some(true),
        Verdict::Refuse(_) | Verdict::Unavailable(_) => Some(false),
        Verdict::Wait(at) => {
            let waited = limits.wait(None, at, &client, FOR_EVER, is_gone).await;
            waited.admitted.map(|admitted| admitted.is_ok())
        }
    }
}

fn stays() -> bool {
    false
}

#[tokio::test(start_paused = true)]
async fn those_above_the_limit_pass_in_the_next_windows() {
    let limits = compile(vec![limit(2, 1000, Some((2500, 9)))], &store());
    let began = Instant::now();
    let requests = (0..8).map(|_| async {
        let passes = passes(&limits, Client(1), stays).await;
        let seconds = began.elapsed().as_millis() / 1000;
        (passes.unwrap(), seconds)
    });
    let seen = futures_util::future::join_all(requests).await;
    // The last two would have to wait for three seconds, and are told at once.
    let expected = [
        (true, 0),
        (true, 0),
        (true, 1),
        (true, 1),
        (true, 2),
        (true, 2),
        (false, 0),
        (false, 0),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_is_told_when_there_is_room_behind_those_who_wait() {
    let limits = compile(vec![limit(1, 10_000, Some((60_000, 2)))], &store());
    assert_eq!(passes(&limits, Client(1), stays).await, Some(true));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let limits = limits.clone();
        waiting.spawn(async move { passes(&limits, Client(1), stays).await });
        tokio::task::yield_now().await;
    }
    let now = Instant::now().into_std();
    let Verdict::Wait(at) = limits.decide_all(now, &Client(1)) else {
        unreachable!("others wait")
    };
    let waited = limits.wait(None, at, &Client(1), FOR_EVER, stays).await;
    assert_eq!(waited.time, None);
    let Some(Err(Denial::Refused(refusal))) = waited.admitted else {
        unreachable!("it is refused: {waited:?}")
    };
    let retry_after = refusal.retry_after.unwrap();
    assert!((30..=31).contains(&retry_after), "{refusal:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_no_longer_than_its_client() {
    let limits = compile(vec![limit(1, 10_000, Some((60_000, 9)))], &store());
    assert_eq!(passes(&limits, Client(1), stays).await, Some(true));
    let began = Instant::now();
    let now = began.into_std();
    let Verdict::Wait(at) = limits.decide_all(now, &Client(1)) else {
        unreachable!("one was admitted")
    };
    let longest = Duration::from_secs(9);
    let waited = limits.wait(None, at, &Client(1), longest, stays).await;
    assert!(matches!(waited.admitted, Some(Err(_))));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_other_limits_while_a_request_waits() {
    let list = vec![
        limit(2, 60_000, None),
        by_everyone(limit(1, 1000, Some((10_000, 9)))),
    ];
    let limits = compile(list, &store());
    assert_eq!(passes(&limits, Client(1), stays).await, Some(true));
    let waiting = tokio::spawn({
        let limits = limits.clone();
        async move { passes(&limits, Client(1), stays).await }
    });
    tokio::task::yield_now().await;
    // The address has one more left until the other one is served.
    let now = Instant::now().into_std();
    let verdict = limits.decide_all(now, &Client(1));
    assert!(matches!(verdict, Verdict::Wait(_)), "{verdict:?}");
    assert_eq!(passes(&limits, Client(1), stays).await, Some(false));
    assert_eq!(waiting.await.unwrap(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_one_limit_whom_another_refuses() {
    let list = vec![
        by_everyone(limit(1, 1000, Some((10_000, 9)))),
        limit(1, 60_000, None),
    ];
    let limits = compile(list, &store());
    let now = Instant::now().into_std();
    assert!(matches!(
        limits.decide_all(now, &Client(1)),
        Verdict::Admit(_)
    ));
    assert!(matches!(
        limits.decide_all(now, &Client(1)),
        Verdict::Refuse(_)
    ));
    assert!(matches!(
        limits.decide_all(now, &Client(2)),
        Verdict::Wait(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_one_limit_after_the_other() {
    let list = vec![
        limit(1, 1000, Some((10_000, 9))),
        by_everyone(limit(1, 3000, Some((10_000, 9)))),
    ];
    let limits = compile(list, &store());
    let began = Instant::now();
    for seconds in [0, 3, 6] {
        assert_eq!(passes(&limits, Client(1), stays).await, Some(true));
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_lets_nobody_pass_who_came_later() {
    let store = store();
    let list = || vec![limit(1, 1000, Some((10_000, 9)))];
    let before = compile(list(), &store);
    assert_eq!(passes(&before, Client(1), stays).await, Some(true));
    let waiting = tokio::spawn({
        let before = before.clone();
        async move { passes(&before, Client(1), stays).await }
    });
    tokio::task::yield_now().await;
    let after = compile(list(), &store);
    // The one who waits is late for the window, and the one who comes in time has to wait for it.
    let later = (Instant::now() + Duration::from_secs(1)).into_std();
    let verdict = after.decide_all(later, &Client(1));
    assert!(matches!(verdict, Verdict::Wait(_)), "{verdict:?}");
    let verdict = after.decide_all(later, &Client(2));
    assert!(matches!(verdict, Verdict::Admit(_)), "{verdict:?}");
    assert_eq!(waiting.await.unwrap(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_takes_nothing_and_holds_up_nobody() {
    let limits = compile(vec![limit(1, 1000, Some((10_000, 9)))], &store());
    assert_eq!(passes(&limits, Client(1), stays).await, Some(true));
    let is_gone = Arc::new(AtomicBool::new(false));
    let leaves = tokio::spawn({
        let (limits, is_gone) = (limits.clone(), is_gone.clone());
        async move { passes(&limits, Client(1), || is_gone.load(Ordering::Relaxed)).await }
    });
    let stays = tokio::spawn({
        let limits = limits.clone();
        async move { passes(&limits, Client(1), stays).await }
    });
    let began = Instant::now();
    sleep(Duration::from_millis(400)).await;
    is_gone.store(true, Ordering::Relaxed);
    assert_eq!(leaves.await.unwrap(), None);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(stays.await.unwrap(), Some(true));
    assert_eq!(began.elapsed().as_secs(), 1);
}

/// What is random about a request.
#[derive(Debug, Clone)]
struct Request {
    /// After the one before it.
    pause: u64,
    client: u8,
    gives_up_after: Option<u64>,
}

/// What became of one.
#[derive(Debug)]
struct End {
    number: usize,
    client: u8,
    came: Instant,
    left: Instant,
    /// `None` if it gave up.
    passes: Option<bool>,
}

fn any_limit() -> impl Strategy<Value = config::RateLimit> {
    let algorithm = prop::sample::select(vec![
        LimitAlgorithm::FixedWindow,
        LimitAlgorithm::SlidingWindow,
        LimitAlgorithm::TokenBucket,
    ]);
    let queue = (1..2000u64, 1..30u64);
    (algorithm, 1..6u64, 100..1000u64, 1..6u64, queue).prop_map(
        |(algorithm, most, window, burst, queue)| config::RateLimit {
            algorithm: algorithm.into(),
            burst: (algorithm == LimitAlgorithm::TokenBucket)
                .then(|| LimitAmount::from(burst).into()),
            ..limit(most, window, Some(queue))
        },
    )
}

fn any_request() -> impl Strategy<Value = Request> {
    let patience = prop::option::weighted(0.2, 1..500u64);
    (1..80u64, 0..3u8, patience).prop_map(|(pause, client, gives_up_after)| Request {
        pause,
        client,
        gives_up_after,
    })
}

/// In the order in which they end.
async fn ends(limits: &Arc<RateLimits>, requests: &[Request]) -> Vec<End> {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let mut came = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, request) in requests.iter().cloned().enumerate() {
        came += Duration::from_millis(request.pause);
        let (limits, ends) = (limits.clone(), ends.clone());
        tasks.spawn(async move {
            sleep_until(came).await;
            let patience = request.gives_up_after.map_or(86_400_000, |it| it);
            let passes = passes(&limits, Client(request.client), stays);
            let passes = timeout(Duration::from_millis(patience), passes).await;
            ends.lock().unwrap().push(End {
                number,
                client: request.client,
                came,
                left: Instant::now(),
                passes: passes.ok().flatten(),
            });
        });
    }
    tasks.join_all().await;
    Arc::into_inner(ends).unwrap().into_inner().unwrap()
}

/// Whether the limit itself would admit requests at these times.
fn admits_all(rule: &Rule, mut times: impl Iterator<Item = u64>) -> bool {
    let mut state = 0;
    times.all(|time| {
        let decided = rule.decide(state, time, 1);
        decided.map(|admitted| state = admitted.state).is_ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn all_pass_in_their_order_within_the_limit_and_in_time_or_are_refused_at_once(
        limit in any_limit(),
        requests in prop::collection::vec(any_request(), 1..60),
    ) {
        let store = store();
        let longest = limit.queue.as_ref().unwrap().max_wait.0;
        let limits = compile(vec![limit], &store);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let ends = runtime.block_on(ends(&limits, &requests));
        let limit = &limits.limits[0];
        for client in 0..3 {
            let of_client = || ends.iter().filter(|end| end.client == client);
            let passed = || of_client().filter(|end| end.passes == Some(true));
            prop_assert!(passed().map(|end| end.number).is_sorted(), "{ends:?}");
            let times = passed().map(|end| store.clock(end.left.into_std()));
            prop_assert!(admits_all(&limit.rule, times), "{ends:?}");
            for end in of_client() {
                let waited = end.left - end.came;
                prop_assert!(waited <= longest, "{end:?}");
                prop_assert!(end.passes != Some(false) || waited.is_zero(), "{end:?}");
            }
            let key = limit.key(&limits.store, &Client(client));
            prop_assert!(!limit.queue.as_ref().unwrap().has_line(key));
        }
    }
}
