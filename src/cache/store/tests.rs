use std::sync::Barrier;
use std::time::Duration;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use proptest::prelude::*;

use super::super::purge::{Purge, Target};
use super::*;

fn key(location: &str, generation: u64) -> CacheKey {
    let ticket = Ticket::new(location.to_owned(), generation, 1 << 20);
    let mut key = CacheKey::new(location.to_owned(), String::new());
    key.extensions.insert(ticket);
    key
}

fn meta() -> CacheMeta {
    let now = SystemTime::now();
    let header = ResponseHeader::build(200, None).unwrap();
    CacheMeta::new(now + Duration::from_secs(60), now, 0, 60, header)
}

fn keep(store: &Store, key: &CacheKey, size: usize) {
    let fill = store.begin(key, &meta()).unwrap();
    assert!(store.write(&fill, &Bytes::from(vec![0; size])));
    assert!(fill.end());
    store.complete(&fill);
}

#[test]
fn no_answer_outlives_a_purge_that_came_after_its_request() {
    let store = Store::new(1 << 20);
    let url = || Target::Url("h/a".to_owned());
    for round in 0..500 {
        let key = key("h/a", store.generation());
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                keep(&store, &key, 10);
            });
            barrier.wait();
            let purge = Purge {
                target: url(),
                soft: false,
            };
            store.purge(&purge, SystemTime::now());
        });
        assert!(store.find(&key).is_none(), "round {round}");
    }
    assert_eq!((store.usage().bytes, store.usage().objects), (0, 0));
}

#[test]
fn nothing_is_left_of_the_way_of_an_answer_that_has_come_and_gone() {
    let store = Store::new(1 << 20);
    let key = key("h/a", store.generation());
    let fill = store.begin(&key, &meta()).unwrap();
    assert!(store.write(&fill, &Bytes::from(vec![0; 10])));
    assert!(fill.end());
    store.complete(&fill);
    let left = Arc::downgrade(&fill);
    drop((fill, key));
    assert!(left.upgrade().is_none());
}

#[test]
fn a_304_makes_nothing_fresh_that_was_purged_meanwhile() {
    let store = Store::new(1 << 20);
    let key = key("h/a", store.generation());
    keep(&store, &key, 10);
    let Some(Found::Object(object)) = store.find(&key) else {
        panic!("it is kept")
    };
    let update = object.meta();
    assert!(store.update(&key, &update));
    let purge = Purge {
        target: Target::All,
        soft: true,
    };
    assert_eq!(store.purge(&purge, SystemTime::now()).0.objects, 1);
    assert!(!store.has_fresh(&key, SystemTime::now()));
    assert!(!store.update(&key, &update));
    assert!(!store.has_fresh(&key, SystemTime::now()));
}

proptest! {
    #[test]
    fn the_bound_holds_whatever_is_kept_and_all_of_it_can_go(
        kept in proptest::collection::vec((0..50u8, 0..20_000usize), 0..100),
    ) {
        let store = Store::new(100_000);
        for (name, size) in kept {
            keep(&store, &key(&format!("h/{name}"), store.generation()), size);
            prop_assert!(store.usage().bytes <= 100_000);
        }
        let purge = Purge { target: Target::All, soft: false };
        store.purge(&purge, SystemTime::now());
        prop_assert_eq!((store.usage().bytes, store.usage().objects), (0, 0));
    }
}
