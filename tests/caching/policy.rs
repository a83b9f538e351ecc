//! What a route's policy says beside or against the backend.

use crate::backend::{ask, backend, gateway, is_kept, until};
use crate::support::{Gateway, Seen};

#[tokio::test]
async fn a_ttl_takes_the_place_of_what_backends_say_but_not_of_what_they_forbid() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{ ttl: 1h, negative_ttl: 1h }").await;
    for (number, (answer, expected)) in [
        ("", true),
        ("Cache-Control=max-age=0", true),
        ("Expires=0", true),
        ("Cache-Control=no-store", false),
        ("Cache-Control=private", false),
        ("Cache-Control=no-cache", false),
        ("Set-Cookie=a=b", false),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(
            is_kept(&gateway, &format!("/{number}"), answer).await,
            expected,
            "{answer}"
        );
    }
    for (status, expected) in [("404", 1), ("302", 2), ("500", 2), ("301", 1)] {
        let path = format!("/status/{status}");
        for _ in 0..2 {
            gateway
                .get(&path)
                .header("x-answer", "")
                .header("x-status", status)
                .send()
                .await;
        }
        assert_eq!(
            upstream
                .seen()
                .iter()
                .filter(|it| it.target == path)
                .count(),
            expected,
            "{status}"
        );
    }
}

#[tokio::test]
async fn what_stands_in_no_key_reaches_no_backend() {
    let upstream = backend().await;
    let key = "{ query_except: [utm_*], sort_query: true, cookies: [lang] }";
    let gateway = gateway(&upstream, &format!("{{ key: {key}, vary: [X-Kind] }}")).await;
    let send = |path: &str, cookie: &str, kind: &str| {
        gateway
            .get(path)
            .header("cookie", cookie)
            .header("x-kind", kind)
            .send()
    };
    let first = send("/a?b=2&utm_x=1&a=1", "sid=1; lang=de", "k")
        .await
        .assert_header("vary", "x-kind");
    let seen: Seen = upstream.last();
    assert_eq!(seen.target, "/a?a=1&b=2");
    assert_eq!(seen.header("cookie"), Some("lang=de"));
    assert_eq!(
        send("/a?a=1&b=2", "lang=de; sid=2", "k").await.body,
        first.body
    );
    assert_ne!(send("/a?a=1&b=2", "lang=fr", "k").await.body, first.body);
    assert_ne!(send("/a?a=1&b=2", "lang=de", "l").await.body, first.body);
    assert_ne!(send("/a?a=1&b=3", "lang=de", "k").await.body, first.body);
}

#[tokio::test]
async fn response_policies_hold_for_kept_answers_too() {
    let upstream = backend().await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], cache: {{}},
          cors: {{ origins: [https://a.example, https://b.example] }}, rate_limit: {{ limit: 3, window: 1h }},
          headers: {{ response: {{ set: {{ X-Edited: yes }} }} }} }} }}",
        upstream.address
    ))
    .await;
    for origin in ["https://a.example", "https://b.example"] {
        let answer = gateway
            .get("/a")
            .header("origin", origin)
            .send()
            .await
            .assert_status(200);
        let answer = answer
            .assert_header("access-control-allow-origin", origin)
            .assert_header("x-edited", "yes");
        assert!(answer.header("ratelimit").is_some());
    }
    assert_eq!(upstream.seen().len(), 1);
    gateway.get("/a").send().await.assert_status(200);
    gateway.get("/a").send().await.assert_status(429);
}

#[tokio::test]
async fn a_route_that_keeps_nothing_is_as_before_and_a_changed_policy_begins_afresh() {
    let upstream = backend().await;
    let gateway = Gateway::start(&format!(
        "cache: {{ ttl: 1h }}\nservices: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: /on }}, {{ prefix: /off, cache: off }}] }} }}",
        upstream.address
    ))
    .await;
    assert!(is_kept(&gateway, "/on", "").await);
    assert!(!is_kept(&gateway, "/off", "Cache-Control=max-age=60").await);
    assert!(
        gateway
            .get("/off")
            .send()
            .await
            .header("cache-status")
            .is_none()
    );
    let before = ask(&gateway, "/on", "").await;
    gateway.edit("ttl: 1h", "ttl: 2h");
    until(async || ask(&gateway, "/on", "").await.body != before.body).await;
    assert!(is_kept(&gateway, "/on", "").await);
}

/// What is given at once, and what the framework gives because its request is conditional.
#[tokio::test]
async fn an_answer_is_the_same_whichever_way_it_is_given() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{ ttl: 1h, negative_ttl: 1h, vary: [X-Kind] }").await;
    let cases = [
        ("/plain", "200", "Content-Type=text/plain"),
        ("/tagged", "200", "ETag=\"a\"|X-A=1|X-A=2|Vary=Accept"),
        ("/missing", "404", "Cache-Control=max-age=5|Age=2"),
        ("/moved", "301", "Location=/plain|Accept-Ranges=none"),
    ];
    for (number, (path, status, answer)) in cases.into_iter().enumerate() {
        let get = || {
            let request = gateway.get(path).header("x-answer", answer);
            request.header("x-status", status).header("accept", "a")
        };
        let first = get().send().await;
        let at_once = get().send().await;
        let other = get().header("if-none-match", "\"other\"").send().await;
        assert_eq!(upstream.seen().len(), number + 1, "{path}");
        assert_eq!(at_once.body, first.body, "{path}");
        assert_eq!(at_once.body, other.body, "{path}");
        assert_eq!(at_once.status, other.status, "{path}");
        let [mut at_once, mut other] = [at_once.headers, other.headers];
        for headers in [&mut at_once, &mut other] {
            // Those that are another one each time.
            assert!(headers.remove("x-request-id").is_some(), "{path}");
            assert!(headers.remove("age").is_some(), "{path}");
            assert!(headers.remove("date").is_some(), "{path}");
            let status = headers.remove("cache-status").unwrap();
            let status = status.to_str().unwrap();
            assert!(status.starts_with("tollgate; hit; ttl="), "{status}");
        }
        assert_eq!(at_once, other, "{path}");
    }
}
