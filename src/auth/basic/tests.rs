//! What is asked of the users of a provider, hash by hash.

use std::cell::{Cell, RefCell};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, Uri};
use proptest::prelude::*;

use super::super::consumer::Consumers;
use super::super::jwt::KeySets;
use super::super::work::Workbenches;
use super::*;
use crate::config::Source;

const NOW: u64 = 1_800_000_000;
/// Of `wonderland`.
const HASH: &str = "$2y$08$LJ14hDHLp6ep4a5AK4tCqup7k7R7dB37hVzlkO/VtIgcMA2.LJs9u";

fn users(names: &[&str], more: &str) -> Arc<Users> {
    let lines: String = names
        .iter()
        .map(|name| format!("        {name}:{HASH}\n"))
        .collect();
    let text =
        format!("auth_providers:\n  staff:\n    basic:\n      {more}\n      users: |\n{lines}");
    let loaded = config::parse(Source::new("t.yaml", text), &|_| None);
    let mut diagnostics = loaded.diagnostics;
    let surroundings = Surroundings {
        consumers: &Consumers::default(),
        key_sets: &KeySets::default(),
        workbenches: &Workbenches::default(),
        base: Path::new("."),
        deciders: 0,
    };
    let section = loaded.config.auth_providers["staff"].basic.as_ref();
    let users = Users::compile(
        "staff",
        section.unwrap(),
        Members::default(),
        surroundings,
        &mut diagnostics,
    );
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    Arc::new(users.unwrap())
}

fn headers(name: &str, password: &str) -> HeaderMap {
    let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
    HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
}

fn present(users: &Arc<Users>, headers: &HeaderMap, now: u64) -> Verdict {
    users.authenticate(Credentials {
        method: &Method::GET,
        uri: &Uri::from_static("/"),
        headers,
        certificates: &[],
        is_encrypted: false,
        is_from_trusted_proxy: false,
        now,
    })
}

fn costs(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Costly(_))
}

#[test]
fn a_right_password_is_hashed_once_and_then_remembered() {
    let users = users(&["alice"], "cache: 5m");
    let alice = headers("alice", "wonderland");
    let first = present(&users, &alice, NOW);
    assert!(costs(&first));
    let first = first.settle().unwrap();
    assert_eq!(first.subject(), Some("alice"));
    for now in [NOW, NOW + 299, NOW - 60] {
        let Verdict::Known(again) = present(&users, &alice, now) else {
            panic!("it is known at {now}");
        };
        assert!(Arc::ptr_eq(&again, &first));
    }
    // Neither time nor a clock that is set back makes it last.
    for now in [NOW + 300, NOW - 61] {
        assert!(costs(&present(&users, &alice, now)), "{now}");
    }
    // What is remembered is the pair, not the name and not the password.
    for other in [headers("alice", "wonderlan"), headers("bob", "wonderland")] {
        assert!(costs(&present(&users, &other, NOW)));
    }
}

#[test]
fn a_wrong_password_and_an_unknown_name_are_the_same() {
    let users = users(&["alice"], "");
    for bad in [headers("alice", "rabbit"), headers("mallory", "wonderland")] {
        let first = present(&users, &bad, NOW);
        assert!(costs(&first));
        assert_eq!(first.settle().unwrap_err(), Refusal::UnknownCredential);
        // They are remembered, but not for long.
        let again = present(&users, &bad, NOW + 9);
        assert!(matches!(
            again,
            Verdict::Refused(Refusal::UnknownCredential)
        ));
        assert!(costs(&present(&users, &bad, NOW + 10)));
    }
}

#[test]
fn without_a_memory_each_password_is_hashed_and_bad_ones_are_refused_all_the_same() {
    let users = users(&["alice"], "cache: off");
    let alice = headers("alice", "wonderland");
    for _ in 0..2 {
        let verdict = present(&users, &alice, NOW);
        assert!(costs(&verdict));
        assert!(verdict.settle().is_ok());
    }
    let bad = headers("alice", "rabbit");
    assert!(present(&users, &bad, NOW).settle().is_err());
    assert!(!costs(&present(&users, &bad, NOW)));
}

/// Ends a verification with a hash function that says what it is told to, and counts its calls.
fn confirm(
    users: &Users,
    pair: &str,
    says: Result<bool, Refusal>,
    calls: &Cell<usize>,
) -> Result<Arc<Identity>, Refusal> {
    let pair = Pair::read(pair).unwrap();
    users.confirm(pair, &users.digest(pair), NOW, |_, _| {
        calls.set(calls.get() + 1);
        says
    })
}

#[test]
fn requests_that_wait_for_the_same_password_have_it_hashed_once() {
    let users = users(&["alice"], "");
    for (pair, says) in [("alice:wonderland", true), ("alice:rabbit", false)] {
        let calls = Cell::new(0);
        for _ in 0..5 {
            // Each was told that it must be hashed, since none was done.
            let found = confirm(&users, pair, Ok(says), &calls);
            assert_eq!(found.is_ok(), says);
        }
        assert_eq!(calls.get(), 1, "{pair}");
    }
}

#[test]
fn an_unknown_name_is_hashed_as_somebody_and_is_nobody() {
    let names: Vec<String> = (0..8).map(|it| format!("user{it}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let users = users(&names, "");
    let hashed: RefCell<Vec<*const PasswordHash>> = RefCell::default();
    let mut stand_ins = std::collections::HashSet::new();
    for number in 0..200 {
        let find = |password: &str| {
            let text = format!("nobody{number}:{password}");
            let pair = Pair::read(&text).unwrap();
            // Whatever the hash says: it is not the name's.
            let found = users.confirm(pair, &users.digest(pair), NOW, |hash, _| {
                hashed.borrow_mut().push(hash);
                Ok(true)
            });
            assert_eq!(found.unwrap_err(), Refusal::UnknownCredential);
            hashed.borrow_mut().pop().unwrap()
        };
        let first = find("a");
        assert_eq!(first, find("b"), "a name has the same time always");
        stand_ins.insert(first);
    }
    assert_eq!(stand_ins.len(), names.len(), "all stand in");
}

#[test]
fn what_could_not_be_verified_is_not_remembered_as_bad() {
    let users = users(&["alice"], "");
    let calls = Cell::new(0);
    let busy = confirm(&users, "alice:wonderland", Err(Refusal::Busy), &calls);
    assert_eq!(busy.unwrap_err(), Refusal::Busy);
    assert!(confirm(&users, "alice:wonderland", Ok(true), &calls).is_ok());
    assert_eq!(calls.get(), 2);
}

#[test]
fn without_users_nobody_is_known() {
    let users = users(&[], "");
    let verdict = present(&users, &headers("", ""), NOW);
    assert_eq!(verdict.settle().unwrap_err(), Refusal::UnknownCredential);
}

#[test]
fn two_users_with_one_password_are_two() {
    let users = users(&["alice", "bob"], "");
    for name in ["alice", "bob"] {
        let verdict = present(&users, &headers(name, "wonderland"), NOW);
        assert_eq!(verdict.settle().unwrap().subject(), Some(name));
    }
}

proptest! {
    // Each case may hash a password.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_but_a_right_pair_is_let_in(
        scheme in "(Basic|basic|Bearer|Basic,|)",
        name in "(alice|Alice|alic|\\PC{0,6})",
        password in "(wonderland|wonderlan|\\PC{0,6})",
        colon in "(:|::|)",
    ) {
        let users = users(&["alice"], "");
        let value = format!("{scheme} {}", STANDARD.encode(format!("{name}{colon}{password}")));
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        let is_right = scheme.eq_ignore_ascii_case("basic")
            && (name.as_str(), colon.as_str(), password.as_str()) == ("alice", ":", "wonderland");
        prop_assert_eq!(present(&users, &headers, NOW).settle().is_ok(), is_right);
    }

    #[test]
    fn a_changed_credential_is_refused(position in 0..28_usize, flip in 1..=255_u8) {
        let users = users(&["alice"], "");
        let good = headers("alice", "wonderland");
        let mut bytes = good[header::AUTHORIZATION].as_bytes().to_vec();
        // Not the scheme, whose case means nothing.
        bytes[6 + position % 24] ^= flip;
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
            prop_assert!(present(&users, &headers, NOW).settle().is_err());
        }
    }
}
