//! Keys that are fetched from their provider, whatever becomes of it, while requests come.

use std::time::{Duration, Instant};

use crate::support::{Answer, Gateway, KeyServer, Mood, Traffic, Upstream};
use bytes::Bytes;
use hyper::Response;
use serde_json::json;
use tokio::task::JoinSet;

const SERVER: &str = "server: { listen: $LISTEN, threads: 2, watch_files: false }
admin: { listen: $ADMIN }\n";

/// A gateway with the certificates of these providers' authorities as `NAME.pem`, a route `/NAME` for each,
/// and `/open` that asks nobody.
async fn gateway(upstream: &Upstream, providers: &[(&str, &KeyServer, String)]) -> Gateway {
    let directory = tempfile::tempdir().unwrap();
    let mut config = format!("{SERVER}auth_providers:\n");
    for (name, server, jwt) in providers {
        let file = directory.path().join(format!("{name}.pem"));
        std::fs::write(file, server.authority.pem()).unwrap();
        config += &format!("  {name}: {{ jwt: {{ {jwt} }} }}\n");
    }
    config += &format!(
        "services:\n  a:\n    base_url: http://{}\n    routes:\n      - /open\n",
        upstream.address
    );
    for (name, ..) in providers {
        config += &format!("      - {{ path: /{name}, auth: {name} }}\n");
    }
    Gateway::start_in(directory, &config, &[]).await
}

/// The tokens of `main`, whose keys are found by its issuer.
fn by_issuer(server: &KeyServer, keys: &str) -> String {
    let issuer = server.issuer();
    format!("issuer: \"{issuer}\", keys: {{ ca: main.pem, {keys} }}")
}

/// The tokens of a provider whose keys are at a certain address.
fn by_url(server: &KeyServer, keys: &str) -> String {
    format!("keys: {{ jwks_url: \"{}\", {keys} }}", server.url())
}

async fn present(gateway: &Gateway, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    gateway
        .get(path)
        .header("authorization", &bearer)
        .send()
        .await
}

#[track_caller]
fn assert_unavailable(answer: Answer) {
    let answer = answer.assert_status(503).assert_header("retry-after", "5");
    assert_eq!(
        answer.json()["type"],
        "urn:tollgate:problem:auth-unavailable"
    );
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How often the process has said so.
fn said(gateway: &Gateway, what: &str) -> usize {
    gateway.process_log().matches(what).count()
}

#[tokio::test]
async fn an_issuer_alone_is_enough() {
    let upstream = Upstream::echo().await;
    let server = KeyServer::start().await;
    let gateway = gateway(&upstream, &[("main", &server, by_issuer(&server, ""))]).await;
    for _ in 0..3 {
        let token = server.token("a");
        present(&gateway, "/main", &token).await.assert_status(200);
    }
    gateway.get("/main").send().await.assert_status(401);
    assert_eq!((server.discoveries(), server.fetches()), (1, 1));
    let fetched = format!("keys fetched: from={} keys=1", server.issuer());
    assert_eq!(said(&gateway, &fetched), 1, "{}", gateway.process_log());
}

#[tokio::test]
async fn keys_come_from_whom_a_trusted_authority_vouches_for() {
    let upstream = Upstream::echo().await;
    let (server, other) = (KeyServer::start().await, KeyServer::start().await);
    let posing = KeyServer::start_as("other.example").await;
    let gateway = gateway(
        &upstream,
        &[
            ("main", &server, by_url(&server, "ca: main.pem")),
            ("wrong", &other, by_url(&server, "ca: wrong.pem")),
            ("system", &server, by_url(&server, "")),
            ("posing", &posing, by_url(&posing, "ca: posing.pem")),
        ],
    )
    .await;
    let token = server.token("a");
    present(&gateway, "/main", &token).await.assert_status(200);
    for path in ["/wrong", "/system"] {
        assert_unavailable(present(&gateway, path, &token).await);
    }
    assert_unavailable(present(&gateway, "/posing", &posing.token("a")).await);
    assert_eq!((server.discoveries(), server.fetches()), (0, 1));
    assert_eq!(posing.fetches(), 0);
    assert_eq!(said(&gateway, "keys can't be fetched"), 3);
    assert!(gateway.process_log().contains("certificate verify failed"));
}

#[tokio::test]
async fn keys_come_without_tls_from_this_machine_only() {
    let upstream = Upstream::echo().await;
    let server = KeyServer::start().await;
    let set = server.set().to_string();
    let plain = Upstream::answering(move |_| Response::new(Bytes::from(set.clone()))).await;
    let jwt = format!("keys: {{ jwks_url: \"http://{}/jwks\" }}", plain.address);
    let gateway = gateway(&upstream, &[("main", &server, jwt)]).await;
    let token = server.token("a");
    present(&gateway, "/main", &token).await.assert_status(200);
    let seen = plain.last();
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert_eq!(seen.header("host"), Some(&*plain.address.to_string()));
    let elsewhere = "auth_providers: { main: { jwt: { keys: { jwks_url: \"http://10.0.0.1/jwks\" } } } }\nauth: main\nservices: { a: { routes: [{ path: /a, respond: { body: a } }] } }\n";
    let (code, _, report) = crate::support::check(elsewhere);
    assert_eq!(code, 78);
    assert!(report.contains("can be replaced on the way"), "{report}");
}

#[tokio::test]
async fn a_provider_that_is_down_at_the_start_takes_no_other_route_with_it() {
    let upstream = Upstream::echo().await;
    let (mut down, up) = (KeyServer::start().await, KeyServer::start().await);
    down.die().await;
    let gateway = gateway(
        &upstream,
        &[
            ("main", &down, by_issuer(&down, "")),
            ("up", &up, by_url(&up, "ca: up.pem")),
        ],
    )
    .await;
    let mut others = Traffic::start_with(gateway.address, "/up", up.bearers("a"));
    others.flows(20).await;
    gateway.get("/open").send().await.assert_status(200);
    gateway.get("/main").send().await.assert_status(401);
    assert_unavailable(present(&gateway, "/main", &down.token("a")).await);
    assert_eq!(
        said(&gateway, "keys can't be fetched, tokens can't be verified"),
        1
    );
    down.revive();
    until(async || {
        let answer = present(&gateway, "/main", &down.token("a")).await;
        assert!([200, 503].contains(&answer.status.as_u16()), "{answer:?}");
        answer.status == 200
    })
    .await;
    others.end().await;
}

/// Good tokens pass whatever their provider does, and it is said once what is wrong and once that it is
/// over.
async fn outlasts(moods: &[(Mood, &str)]) {
    let upstream = Upstream::echo().await;
    let server = KeyServer::start().await;
    let jwt = by_issuer(&server, "refresh: 1s, timeout: 1s");
    let gateway = gateway(&upstream, &[("main", &server, jwt)]).await;
    let remembered = server.token("a");
    // A busy machine may be late with the first keys.
    until(async || present(&gateway, "/main", &remembered).await.status == 200).await;
    let failed = "keys can't be fetched, those known stay in force";
    let recovered = "keys can be fetched again";
    let recoveries = said(&gateway, recovered);
    let mut traffic = Traffic::start_with(gateway.address, "/main", server.bearers("a"));
    for (number, (mood, reason)) in moods.iter().enumerate() {
        server.be(mood.clone());
        until(async || said(&gateway, failed) == number + 1).await;
        let log = gateway.process_log();
        let problem = log.lines().rfind(|line| line.contains(failed)).unwrap();
        assert!(problem.contains(reason), "{mood:?}: {problem}");
        traffic.flows(20).await;
        let answer = present(&gateway, "/main", &remembered).await;
        answer.assert_status(200);
        server.be(Mood::Well);
        until(async || said(&gateway, recovered) == recoveries + number + 1).await;
    }
    assert!(traffic.end().await > 20 * moods.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_pass_while_their_provider_answers_badly() {
    let elsewhere = KeyServer::start().await;
    outlasts(&[
        (Mood::Says(500), "it answered 500"),
        (Mood::Says(204), "it answered 204"),
        (
            Mood::Redirects(elsewhere.url()),
            "redirects are not followed",
        ),
        (Mood::Poses, "that of another issuer"),
    ])
    .await;
    assert_eq!(elsewhere.fetches(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_pass_while_their_provider_talks_nonsense() {
    outlasts(&[
        (Mood::Garbles, "is not an issuer's metadata"),
        (Mood::Truncates, "not a JSON Web Key Set: EOF"),
        (Mood::Empties, "no key that tokens can be signed with"),
        (Mood::Overflows, "more than 262144 bytes"),
        (Mood::Hangs, "no answer within 1s"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_pass_while_their_provider_is_dead() {
    let upstream = Upstream::echo().await;
    let mut server = KeyServer::start().await;
    let jwt = by_issuer(&server, "refresh: 1s");
    let gateway = gateway(&upstream, &[("main", &server, jwt)]).await;
    let mut traffic = Traffic::start_with(gateway.address, "/main", server.bearers("a"));
    for time in 1..=2 {
        traffic.flows(20).await;
        server.die().await;
        until(async || said(&gateway, "those known stay in force") == time).await;
        traffic.flows(20).await;
        server.revive();
        until(async || said(&gateway, "keys can be fetched again") == time).await;
    }
    traffic.end().await;
}

#[tokio::test]
async fn keys_that_are_too_old_are_given_up_and_the_tokens_are_not_to_blame() {
    let upstream = Upstream::echo().await;
    let mut server = KeyServer::start().await;
    let jwt = by_issuer(&server, "refresh: 1s, max_stale: 2s");
    let gateway = gateway(&upstream, &[("main", &server, jwt)]).await;
    let remembered = server.token("a");
    present(&gateway, "/main", &remembered)
        .await
        .assert_status(200);
    server.die().await;
    for token in [&remembered, &server.token("a")] {
        until(async || {
            let answer = present(&gateway, "/main", token).await;
            assert!([200, 503].contains(&answer.status.as_u16()), "{answer:?}");
            answer.status == 503
        })
        .await;
        assert_unavailable(present(&gateway, "/main", token).await);
    }
    assert_eq!(said(&gateway, "keys given up"), 1);
    gateway.get("/open").send().await.assert_status(200);
    server.revive();
    until(async || present(&gateway, "/main", &remembered).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_with_a_new_key_wait_for_the_one_fetch() {
    let upstream = Upstream::echo().await;
    let server = KeyServer::start().await;
    let gateway = gateway(&upstream, &[("main", &server, by_issuer(&server, ""))]).await;
    let traffic = Traffic::start_with(gateway.address, "/main", server.bearers("a"));
    for (fetches, keys) in [(2, &["a", "b"][..]), (3, &["a", "b", "c"])] {
        server.publish(keys);
        let mut clients = JoinSet::new();
        for _ in 0..50 {
            let token = server.token(keys[keys.len() - 1]);
            let bearer = format!("Bearer {token}");
            let request = gateway.get("/main").header("authorization", &bearer);
            clients.spawn(request.send());
        }
        while let Some(answer) = clients.join_next().await {
            answer.unwrap().assert_status(200);
        }
        assert_eq!(server.fetches(), fetches);
    }
    traffic.end().await;
}

#[tokio::test]
async fn a_key_that_is_published_while_the_set_is_on_its_way_is_found() {
    let upstream = Upstream::echo().await;
    let server = KeyServer::start().await;
    let jwt = by_url(&server, "ca: main.pem, refresh: 1s");
    let gateway = gateway(&upstream, &[("main", &server, jwt)]).await;
    server.be(Mood::Hangs);
    server.until_fetched(2).await;
    server.publish(&["b"]);
    let bearer = format!("Bearer {}", server.token("b"));
    let request = gateway.get("/main").header("authorization", &bearer);
    let answer = tokio::spawn(request.send());
    // Its request is there before the set is.
    present(&gateway, "/main", "").await.assert_status(401);
    server.be(Mood::Well);
    answer.await.unwrap().assert_status(200);
}

#[tokio::test]
async fn a_token_with_a_new_key_is_not_to_blame_for_a_slow_provider() {
    let upstream = Upstream::echo().await;
    let server = KeyServer::start().await;
    let jwt = by_url(&server, "ca: main.pem");
    let gateway = gateway(&upstream, &[("main", &server, jwt)]).await;
    server.publish(&["a", "b"]);
    server.be(Mood::Hangs);
    let token = server.token("b");
    assert_unavailable(present(&gateway, "/main", &token).await);
    let old = server.token("a");
    present(&gateway, "/main", &old).await.assert_status(200);
    server.be(Mood::Well);
    until(async || present(&gateway, "/main", &token).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_keys_has_them_fetched_twice() {
    let upstream = Upstream::echo().await;
    let server = KeyServer::start().await;
    let gateway = gateway(&upstream, &[("main", &server, by_issuer(&server, ""))]).await;
    let traffic = Traffic::start_with(gateway.address, "/main", server.bearers("a"));
    let forger = KeyServer::start().await;
    for _ in 0..5 {
        let mut clients = JoinSet::new();
        for number in 0..40 {
            let issuer = json!({ "iss": server.issuer() });
            let token = forger.token_with(&format!("unknown-{number}"), &issuer);
            let bearer = format!("Bearer {token}");
            let request = gateway.get("/main").header("authorization", &bearer);
            clients.spawn(request.send());
        }
        while let Some(answer) = clients.join_next().await {
            answer.unwrap().assert_status(401);
        }
    }
    assert_eq!(server.fetches(), 3, "the first, and two");
    traffic.end().await;
}

#[tokio::test]
async fn a_new_key_is_found_as_soon_as_its_provider_is_back() {
    let upstream = Upstream::echo().await;
    let server = KeyServer::start().await;
    let jwt = by_url(&server, "ca: main.pem, refresh: 1s");
    let gateway = gateway(&upstream, &[("main", &server, jwt)]).await;
    server.be(Mood::Says(503));
    // The next attempt is at least half a second away then.
    until(async || said(&gateway, "keys can't be fetched") == 1).await;
    server.publish(&["b"]);
    server.be(Mood::Well);
    let token = server.token("b");
    present(&gateway, "/main", &token).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_key_verifies_nothing_not_even_what_is_remembered() {
    let upstream = Upstream::echo().await;
    let server = KeyServer::start().await;
    server.publish(&["a", "b"]);
    let jwt = by_issuer(&server, "refresh: 1s");
    let gateway = gateway(&upstream, &[("main", &server, jwt)]).await;
    let traffic = Traffic::start_with(gateway.address, "/main", server.bearers("b"));
    let (remembered, current) = (server.token("a"), server.token("b"));
    for token in [&remembered, &remembered, &current] {
        present(&gateway, "/main", token).await.assert_status(200);
    }
    server.publish(&["b"]);
    until(async || present(&gateway, "/main", &remembered).await.status == 401).await;
    for _ in 0..20 {
        for retired in [&remembered, &server.token("a")] {
            let answer = present(&gateway, "/main", retired).await.assert_status(401);
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.contains("unknown key"), "{challenge}");
        }
        present(&gateway, "/main", &current)
            .await
            .assert_status(200);
    }
    traffic.end().await;
}

#[tokio::test]
async fn a_provider_can_have_its_keys_kept_for_less_time_but_not_for_more() {
    let upstream = Upstream::echo().await;
    let server = KeyServer::start().await;
    server.say_cache_control("public, max-age=86400");
    let jwt = by_issuer(&server, "refresh: 1s");
    let _gateway = gateway(&upstream, &[("main", &server, jwt)]).await;
    server.until_fetched(3).await;
}

#[tokio::test]
async fn each_provider_verifies_the_tokens_of_its_own_issuer_only() {
    let upstream = Upstream::echo().await;
    let (one, two) = (KeyServer::start().await, KeyServer::start().await);
    let jwt = |server: &KeyServer, name: &str| {
        format!(
            "issuer: \"{}\", keys: {{ ca: {name}.pem }}",
            server.issuer()
        )
    };
    let gateway = gateway(
        &upstream,
        &[
            ("one", &one, jwt(&one, "one")),
            ("two", &two, jwt(&two, "two")),
        ],
    )
    .await;
    for (path, own, other) in [("/one", &one, &two), ("/two", &two, &one)] {
        let token = own.token("a");
        present(&gateway, path, &token).await.assert_status(200);
        for (token, reason) in [
            (other.token("a"), "comes from another issuer"),
            (
                other.token_with("a", &json!({"iss": own.issuer()})),
                "signature is wrong",
            ),
            (
                own.token_with("a", &json!({"iss": other.issuer()})),
                "comes from another issuer",
            ),
        ] {
            let answer = present(&gateway, path, &token).await.assert_status(401);
            assert!(answer.text().contains(reason), "{path}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_keys_though_their_provider_is_down() {
    let upstream = Upstream::echo().await;
    let (mut server, mut new) = (KeyServer::start().await, KeyServer::start().await);
    let jwt = by_issuer(&server, "timeout: 2s");
    let gateway = gateway(
        &upstream,
        &[
            ("main", &server, jwt),
            ("new", &new, by_url(&new, "ca: new.pem")),
        ],
    )
    .await;
    let reload = async || {
        let (code, printed, said) = gateway.command(&["reload"]).await;
        assert_eq!(code, 0, "{printed}{said}");
    };
    let mut traffic = Traffic::start_with(gateway.address, "/main", server.bearers("a"));
    server.die().await;
    new.die().await;
    // Another route, another upkeep of the same keys, and a provider that nobody knows yet.
    gateway.edit("- /open", "- /open\n      - /other");
    reload().await;
    traffic.flows(10).await;
    gateway.get("/other").send().await.assert_status(200);
    gateway.edit("timeout: 2s", "timeout: 3s, max_stale: 2h");
    reload().await;
    traffic.flows(10).await;
    gateway.edit("/jwks\"", "/jwks?v=2\"");
    reload().await;
    traffic.flows(10).await;
    assert_unavailable(present(&gateway, "/new", &new.token("a")).await);
    assert_eq!((server.fetches(), new.fetches()), (1, 1));
    new.revive();
    until(async || present(&gateway, "/new", &new.token("a")).await.status == 200).await;
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_without_the_keys_leaves_the_process_that_has_them() {
    let upstream = Upstream::echo().await;
    let mut server = KeyServer::start().await;
    let mut gateway = gateway(&upstream, &[("main", &server, by_issuer(&server, ""))]).await;
    let mut traffic = Traffic::start_with(gateway.address, "/main", server.bearers("a"));
    server.die().await;
    let (code, printed, said) = gateway.command(&["upgrade"]).await;
    assert_eq!(code, 1, "{printed}{said}");
    for reason in ["step `health`", server.issuer(), "can't be fetched"] {
        assert!(said.contains(reason), "{reason}: {said}");
    }
    assert_eq!(gateway.status().await["pid"], gateway.pid());
    traffic.flows(20).await;
    server.revive();
    gateway.upgrade().await;
    traffic.flows(20).await;
    traffic.end().await;
}
