//! Names and passwords, driven from outside.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{Answer, Gateway, Upstream};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

/// Whose password is `wonderland`, by `htpasswd -B -C 12`.
const ALICE: &str = "alice:$2y$12$WXMxu8mJjxXocGVbeQIPiO04Suz7DEk8RH8kwt/ZbT18NGudaWkQq";
/// Whose password is `geheim£`, by the reference implementation of Argon2.
const BOB: &str = "bob:$argon2id$v=19$m=8192,t=1,p=1$c2l4dGVlbi1vZi1zYWx0LQ$RvqUChIUGbDPavthPz9SA9WrOy9rkSPKMYH2aNTfM3g";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Not watched, so that each test says itself when it reloads; and a busy machine sheds nothing.
const SERVER: &str = "server: { listen: $LISTEN, threads: 2, watch_files: false, overload: off }\nadmin: { listen: $ADMIN }\n";

async fn gateway(upstream: &Upstream) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let users = format!("# the staff\n{ALICE}\n{BOB}\n");
    std::fs::write(folder.path().join("htpasswd"), users).unwrap();
    let config = format!(
        r#"{SERVER}
auth_providers:
  staff:
    basic: {{ users: {{ file: htpasswd }}, realm: Back office, forward_name: X-User }}
  guests:
    basic:
      hide_credentials: true
      users: |
        alice:$2y$08$eq4OHn5Z3NjXh/kEu85YZuOxzO9GXf2YBS9dg8kbxuEMPXs.mOi4K
        carol:$2y$08$LJ14hDHLp6ep4a5AK4tCqup7k7R7dB37hVzlkO/VtIgcMA2.LJs9u
  tokens:
    jwt: {{ algorithms: HS256, keys: {{ secret: "{SECRET}" }} }}
consumers:
  alice_of_staff: {{ credentials: {{ staff: alice }}, groups: office }}
  alice_of_guests: {{ credentials: {{ guests: alice }} }}
services:
  a:
    base_url: http://{}
    routes:
      - {{ path: /a, auth: staff }}
      - {{ path: /hidden, auth: guests }}
      - {{ path: /both, auth: {{ any_of: [staff, guests], anonymous: true }} }}
      - {{ path: /mixed, auth: {{ any_of: [tokens, staff] }} }}
      - /open
"#,
        upstream.address
    );
    Gateway::start_in(folder, &config, &[]).await
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

async fn present(gateway: &Gateway, path: &str, pair: &str) -> Answer {
    let request = gateway.get(path).header("authorization", &basic(pair));
    request.send().await
}

#[tokio::test]
async fn a_right_password_opens_and_tells_the_backend_who_it_is() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    // Twice, so that the second comes from the memory of verified passwords.
    for _ in 0..2 {
        let request = gateway
            .get("/a")
            .header("authorization", &basic("alice:wonderland"))
            .header("x-user", "mallory")
            .header("x_user", "mallory")
            .header("x-consumer", "mallory");
        request.send().await.assert_status(200);
        let seen = upstream.last();
        assert_eq!(seen.headers("x-user"), ["alice"]);
        assert_eq!(seen.headers("x-consumer"), ["alice_of_staff"]);
        assert_eq!(seen.headers("x-consumer-groups"), ["office"]);
        assert_eq!(seen.header("x_user"), None);
        assert_eq!(
            seen.header("authorization"),
            Some(&*basic("alice:wonderland"))
        );
    }
    present(&gateway, "/a", "bob:geheim£")
        .await
        .assert_status(200);
    assert_eq!(upstream.last().headers("x-user"), ["bob"]);
    assert_eq!(upstream.last().header("x-consumer"), None);
    present(&gateway, "/hidden", "carol:wonderland")
        .await
        .assert_status(200);
    assert_eq!(upstream.last().header("authorization"), None);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_are_told_the_same() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let mut told = Vec::new();
    for pair in [
        "alice:wonderlane",
        "alice:",
        "Alice:wonderland",
        "mallory:wonderland",
        ":",
    ] {
        // Each as it is found out, and as it is remembered.
        for _ in 0..2 {
            let answer = present(&gateway, "/a", pair).await.assert_status(401);
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Basic realm=\"Back office\", charset=\"UTF-8\"")
            );
            let mut problem = answer.json();
            problem["instance"].take();
            told.push(problem);
        }
    }
    assert!(told.iter().all(|it| *it == told[0]), "{told:?}");
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn every_malformed_credential_is_401() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let good = basic("alice:wonderland");
    for value in [
        "Basic",
        "Basic ",
        "Basic YWxpY2U6d29uZGVybGFuZA",
        "Basic YWxpY2U6d29uZGVybGFuZB==",
        "Basic alice:wonderland",
        &good.replace("Basic ", ""),
        &good.replace("Basic", "Bearer"),
        &format!("{good}, {good}"),
        &format!("{good} x"),
        &basic("alice"),
        &basic("alice:wonder\0land"),
        &basic("alice:wonderland\n"),
        &basic(&format!("alice:{}", "x".repeat(2000))),
        &format!("Basic {}", STANDARD.encode(b"alice:\xff")),
        "Basic \u{e9}",
    ] {
        let request = gateway.get("/a").header("authorization", value);
        let answer = request.send().await;
        assert_eq!(answer.status, 401, "{value}: {answer:?}");
        assert!(answer.header("www-authenticate").is_some(), "{value}");
    }
    let request = gateway.get("/a").header("authorization", &good);
    let twice = request.header("authorization", &good);
    twice.send().await.assert_status(401);
    gateway.get("/a").send().await.assert_status(401);
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test]
async fn who_is_taken_out_of_the_file_is_out_at_once_although_remembered() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let status = async |pair: &str| present(&gateway, "/a", pair).await.status.as_u16();
    let (alice, bob) = ("alice:wonderland", "bob:geheim£");
    assert_eq!((status(alice).await, status(bob).await), (200, 200));
    assert_eq!(status("bob:wonderland").await, 401);
    // Bob has another password, which was refused a moment ago.
    let file = gateway.directory.path().join("htpasswd");
    std::fs::write(file, ALICE.replace("alice", "bob")).unwrap();
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    assert_eq!((status(alice).await, status(bob).await), (401, 401));
    assert_eq!(status("bob:wonderland").await, 200);
}

#[tokio::test]
async fn a_file_that_went_bad_changes_nothing() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let file = gateway.directory.path().join("htpasswd");
    std::fs::write(file, format!("{ALICE}\nbob:geheim\n")).unwrap();
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 78);
    assert!(
        said.contains("line 2 of `htpasswd`: the password of `bob` is not hashed"),
        "{said}"
    );
    assert!(!said.contains("geheim") && !gateway.process_log().contains("geheim"));
    present(&gateway, "/a", "bob:geheim£")
        .await
        .assert_status(200);
}

#[tokio::test]
async fn a_pair_that_one_provider_does_not_know_may_be_the_next_ones() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let long = format!("alice:{}", "x".repeat(72));
    for (pair, consumer) in [
        ("alice:wonderland", Some("alice_of_staff")),
        (&long, Some("alice_of_guests")),
        ("carol:wonderland", None),
    ] {
        present(&gateway, "/both", pair).await.assert_status(200);
        assert_eq!(upstream.last().header("x-consumer"), consumer, "{pair}");
    }
    // What none of them knows is not as if nothing had been shown.
    gateway.get("/both").send().await.assert_status(200);
    let longer = format!("{long}x");
    for bad in ["alice:rabbit", "mallory:wonderland", &longer] {
        present(&gateway, "/both", bad).await.assert_status(401);
    }
}

#[tokio::test]
async fn tokens_and_passwords_open_the_same_route() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let token = |secret: &str| {
        let claims = json!({"exp": 4_000_000_000_u64, "sub": "alice"});
        let key = EncodingKey::from_secret(secret.as_bytes());
        format!(
            "Bearer {}",
            encode(&Header::default(), &claims, &key).unwrap()
        )
    };
    for (value, status) in [
        (token(SECRET), 200),
        (basic("alice:wonderland"), 200),
        (token("another secret of thirty-two byte"), 401),
        (basic("alice:rabbit"), 401),
    ] {
        let request = gateway.get("/mixed").header("authorization", &value);
        request.send().await.assert_status(status);
    }
    let none = gateway.get("/mixed").send().await.assert_status(401);
    let challenges: Vec<_> = none.headers.get_all("www-authenticate").iter().collect();
    assert_eq!(
        challenges,
        [
            "Bearer realm=\"tollgate\"",
            "Basic realm=\"Back office\", charset=\"UTF-8\""
        ]
    );
}

/// More passwords than can be hashed, none of them twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_passwords_is_turned_away_and_delays_nobody_else() {
    let upstream = Upstream::echo().await;
    let gateway = Arc::new(gateway(&upstream).await);
    present(&gateway, "/a", "alice:wonderland")
        .await
        .assert_status(200);
    let is_over = Arc::new(AtomicBool::new(false));
    let number = Arc::new(AtomicUsize::new(0));
    let answers: Arc<Mutex<Vec<Answer>>> = Arc::default();
    let processors = std::thread::available_parallelism().unwrap().get();
    let flood: Vec<_> = (0..16 * processors)
        .map(|_| {
            let (gateway, is_over) = (gateway.clone(), is_over.clone());
            let (number, answers) = (number.clone(), answers.clone());
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let number = number.fetch_add(1, Ordering::Relaxed);
                    let answer = present(&gateway, "/a", &format!("alice:{number}")).await;
                    answers.lock().unwrap().push(answer);
                }
            })
        })
        .collect();
    let saw = |status: u16| {
        let answers = answers.lock().unwrap();
        answers.iter().any(|it| it.status == status)
    };
    let mut rounds = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while rounds < 100 || !saw(401) || !saw(503) {
        assert!(Instant::now() < deadline, "the flood is no flood");
        gateway.get("/open").send().await.assert_status(200);
        // Who is remembered needs no turn.
        present(&gateway, "/a", "alice:wonderland")
            .await
            .assert_status(200);
        rounds += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in flood {
        client.await.unwrap();
    }
    for answer in answers.lock().unwrap().iter() {
        match answer.status.as_u16() {
            401 => {}
            503 => {
                assert_eq!(answer.header("retry-after"), Some("5"));
                assert_eq!(answer.header("www-authenticate"), None);
            }
            _ => panic!("{answer:?}"),
        }
    }
}
