use super::super::key_source::Place;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const UPKEEP: Upkeep = Upkeep {
    refresh: Duration::from_secs(600),
    max_stale: Duration::from_secs(3600),
    timeout: Duration::from_secs(5),
};

fn set(now: Instant) -> Arc<KeySet> {
    let source = Source {
        place: Place::Issuer("https://id.example.com".to_owned()),
        authorities: None,
    };
    Arc::new(KeySet::new(source, UPKEEP, Arc::default(), now))
}

#[test]
fn it_is_fetched_at_once_and_again_before_its_time() {
    let now = Instant::now();
    let set = set(now);
    let attempt = set.begin(now).unwrap();
    assert!(set.begin(now).is_none(), "it is under way");
    assert_eq!(attempt.fetched("a", None, now, 0.0), Change::Replaced);
    assert!(set.begin(now + 479 * SECOND).is_none());
    let attempt = set.begin(now + 480 * SECOND).unwrap();
    let now = now + 480 * SECOND;
    assert_eq!(attempt.fetched("a", None, now, 1.0), Change::None);
    assert!(set.begin(now + 539 * SECOND).is_none());
    assert!(set.begin(now + 541 * SECOND).is_some());
}

#[test]
fn its_provider_may_want_it_fetched_more_often_but_not_all_the_time() {
    let now = Instant::now();
    for (fresh_for, next) in [(100, 80), (0, 24), (100_000, 480)] {
        let set = set(now);
        let attempt = set.begin(now).unwrap();
        attempt.fetched("a", Some(fresh_for * SECOND), now, 0.0);
        assert!(
            set.begin(now + (next - 1) * SECOND).is_none(),
            "{fresh_for}"
        );
        assert!(set.begin(now + next * SECOND).is_some(), "{fresh_for}");
    }
}

#[test]
fn the_last_good_one_is_kept_for_as_long_as_it_may_be() {
    let now = Instant::now();
    let set = set(now);
    set.begin(now).unwrap().fetched("a", None, now, 0.0);
    let mut at = now + 480 * SECOND;
    let mut changes = Vec::new();
    while at <= now + UPKEEP.max_stale {
        changes.extend(set.begin(at).map(|attempt| attempt.failed(at, 1.0)));
        assert!(set.is_known(), "{:?}", at - now);
        at += SECOND;
    }
    // Once a second at first, and once a minute at last.
    assert!((45..70).contains(&changes.len()), "{}", changes.len());
    assert_eq!(changes[0], Change::Failed);
    assert!(changes[1..].iter().all(|it| *it == Change::None));
    let generation = set.generation();
    let attempt = set.begin(at + 60 * SECOND).unwrap();
    assert!(!set.is_known());
    assert_ne!(set.generation(), generation);
    assert_eq!(attempt.fetched("a", None, at, 0.0), Change::Replaced);
}

#[test]
fn only_another_set_is_a_new_generation() {
    let now = Instant::now();
    let set = set(now);
    let begin = |hours: u32| set.begin(now + 3600 * hours * SECOND / 2).unwrap();
    begin(0).fetched("a", None, now, 0.0);
    let generation = set.generation();
    begin(1).failed(now, 0.0);
    let again = begin(1).fetched("a", None, now, 0.0);
    assert_eq!(again, Change::Recovered);
    assert_eq!(set.generation(), generation);
    let other = begin(1).fetched("b", None, now, 0.0);
    assert_eq!(other, Change::Replaced);
    assert_ne!(set.generation(), generation);
}

#[test]
fn unknown_keys_have_it_fetched_twice_and_then_not_for_a_while() {
    let now = Instant::now();
    let set = set(now);
    let attempt = set.begin(now).unwrap();
    assert!(set.ask(now).is_some(), "it is on its way");
    attempt.fetched("a", None, now, 0.0);
    for (second, end) in [(1, "fetched"), (2, "failed")] {
        let now = now + second * SECOND;
        // However many ask, it is one.
        assert!((0..1000).all(|_| set.ask(now).is_some()));
        let attempt = set.begin(now).unwrap();
        assert!((0..1000).all(|_| set.ask(now).is_some() && set.begin(now).is_none()));
        match end {
            "fetched" => attempt.fetched("a", None, now, 0.0),
            _ => attempt.failed(now, 1.0),
        };
    }
    assert!(set.ask(now + 3 * SECOND).is_none());
    set.begin(now + 3 * SECOND)
        .unwrap()
        .fetched("a", None, now, 0.0);
    assert!(set.ask(now + 30 * SECOND).is_none());
    assert!(set.begin(now + 30 * SECOND).is_none());
    assert!(set.ask(now + 31 * SECOND).is_some());
    assert!(set.begin(now + 31 * SECOND).is_some());
}

#[tokio::test]
async fn what_began_before_the_look_and_ended_after_it_may_be_older_than_the_key() {
    let now = Instant::now();
    let set = set(now);
    let attempt = set.begin(now).unwrap();
    attempt.fetched("a", None, now + 2 * SECOND, 0.0);
    let awaited = set.ask(now + SECOND).unwrap();
    let arrival = tokio::time::timeout(PATIENCE / 2, awaited.come()).await;
    assert_eq!(arrival, Ok(Arrival::Older));
    // Whoever has looked again since has it fetched.
    assert!(set.ask(now + 3 * SECOND).is_some());
    assert!(set.begin(now + 3 * SECOND).is_some());
}

#[tokio::test]
async fn who_looked_before_it_was_fetched_looks_again_and_has_it_not_fetched() {
    let now = Instant::now();
    let set = set(now);
    let attempt = set.begin(now).unwrap();
    attempt.fetched("a", None, now + SECOND, 0.0);
    let awaited = set.ask(now).unwrap();
    assert!(set.begin(now + SECOND).is_none());
    let arrival = tokio::time::timeout(PATIENCE / 2, awaited.come()).await;
    assert_eq!(arrival, Ok(Arrival::Over));
    assert!(set.ask(now + 2 * SECOND).is_some());
    assert!(set.begin(now + 2 * SECOND).is_some());
}

#[test]
fn an_attempt_that_is_never_ended_has_failed() {
    let now = Instant::now();
    let set = set(now);
    let panicking = set.begin(now).unwrap();
    let panicked = std::thread::spawn(move || {
        let _attempt = panicking;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    let attempt = set.begin(Instant::now() + 2 * SECOND).unwrap();
    assert_eq!(attempt.fetched("a", None, now, 0.0), Change::Replaced);
}

#[tokio::test]
async fn who_waits_goes_on_when_it_has_ended_however_it_ended() {
    let now = Instant::now();
    let set = set(now);
    for end in ["fetched", "failed", "dropped"] {
        let attempt = set.begin(Instant::now() + 1000 * SECOND).unwrap();
        let awaited = set.ask(Instant::now()).unwrap();
        let mut at_rest = std::pin::pin!(set.rest());
        let is_under_way = futures_util::poll!(&mut at_rest).is_pending();
        assert!(is_under_way, "{end}");
        match end {
            "fetched" => drop(attempt.fetched("a", None, now, 0.0)),
            "failed" => drop(attempt.failed(now, 0.0)),
            _ => drop(attempt),
        }
        tokio::time::timeout(PATIENCE / 2, async {
            assert_eq!(awaited.come().await, Arrival::Older);
            at_rest.await;
        })
        .await
        .unwrap();
    }
}
