//! Until when answers are fresh (RFC 9111 §4.2, §5.3), and what comes before them (RFC 9110 §15.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::backend::{backend, gateway, is_kept};
use crate::support::{Gateway, Upstream};

/// RFC 9111 §4.2, §5.3: a date of any form, in letters of any case; what is none is one in the past.
#[tokio::test]
async fn expires_is_a_date_of_any_form_or_long_ago() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    for (number, (date, expected)) in [
        ("Thu, 18 Aug 2050 02:01:18 GMT", true),
        ("Thursday, 18-Aug-50 02:01:18 GMT", true),
        ("Thu Aug 18 02:01:18 2050", true),
        ("Thu Aug  8 02:01:18 2050", true),
        ("THU, 18 aug 2050 02:01:18 gMT", true),
        ("Thu, 18 Aug 2050 02:01:18 UTC", false),
        ("Thu, 18 Aug 2050 02:01:18 +0100", false),
        ("Thu, 18 Aug 50 02:01:18 GMT", false),
        ("Thu, 18  Aug 2050 02:01:18 GMT", false),
        ("Thu, 18 Aug 2050 2:01:18 GMT", false),
        ("2050-08-18T02:01:18Z", false),
        ("99999999999", false),
        ("never", false),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = format!("Expires={date}");
        let path = format!("/{number}");
        assert_eq!(is_kept(&gateway, &path, &answer).await, expected, "{date}");
    }
}

/// So long ago that what is guessed is bounded.
const LONG_AGO: &str = "Last-Modified=Thu, 01 Jan 2009 00:00:00 GMT";

/// How often two same requests reach the backend.
async fn fetches(
    (upstream, gateway): (&Upstream, &Gateway),
    path: &str,
    status: &str,
    answer: &str,
) -> usize {
    for _ in 0..2 {
        gateway
            .get(path)
            .header("x-status", status)
            .header("x-answer", answer)
            .send()
            .await
            .assert_status(status.parse().unwrap());
    }
    let seen = upstream.seen();
    seen.iter().filter(|it| it.target == path).count()
}

/// RFC 9111 §4.2.2: no lifetime is guessed from when an answer was changed, unless that is wanted.
#[tokio::test]
async fn no_status_has_a_lifetime_of_its_own() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    for status in [
        "200", "203", "204", "300", "301", "308", "404", "405", "410", "414", "501",
    ] {
        let path = format!("/{status}");
        let count = fetches((&upstream, &gateway), &path, status, LONG_AGO).await;
        assert_eq!(count, 2, "{status}");
    }
}

/// RFC 9111 §4.2.2, RFC 9110 §15.1: by the status, or by `public`.
#[tokio::test]
async fn a_lifetime_is_guessed_for_those_statuses_that_permit_it() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{ heuristic: 10% }").await;
    let both = (&upstream, &gateway);
    let public = format!("{LONG_AGO}|Cache-Control=public");
    for status in [
        "200", "203", "204", "300", "301", "308", "404", "405", "410", "414", "501",
    ] {
        let path = format!("/{status}?a=b");
        assert_eq!(fetches(both, &path, status, LONG_AGO).await, 1, "{status}");
        let path = format!("/unchanged/{status}");
        assert_eq!(fetches(both, &path, status, "").await, 2, "{status}");
    }
    for status in ["201", "202", "302", "307", "400", "403", "418"] {
        let path = format!("/{status}");
        assert_eq!(fetches(both, &path, status, LONG_AGO).await, 2, "{status}");
        let path = format!("/public/{status}");
        assert_eq!(fetches(both, &path, status, &public).await, 1, "{status}");
    }
}

/// RFC 9111 §4.2.2: not beside an explicit lifetime, and never of what may not be kept.
#[tokio::test]
async fn no_lifetime_is_guessed_against_what_an_answer_says() {
    let upstream = backend().await;
    let cache = "{ heuristic: 10%, set_cookie: withhold }";
    let gateway = gateway(&upstream, cache).await;
    for (number, (says, expected)) in [
        ("X-A=b", true),
        ("CDN-Cache-Control=public", true),
        ("Cache-Control=max-age=0", false),
        ("Cache-Control=s-maxage=0", false),
        ("Cache-Control=no-store", false),
        ("Cache-Control=no-cache", false),
        ("Cache-Control=private", false),
        ("CDN-Cache-Control=max-age=0", false),
        ("CDN-Cache-Control=public|Cache-Control=max-age=0", false),
        ("Expires=0", false),
        ("Pragma=no-cache", false),
        ("Set-Cookie=a=b", false),
        ("Vary=*", false),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = format!("{LONG_AGO}|{says}");
        let path = format!("/{number}");
        assert_eq!(is_kept(&gateway, &path, &answer).await, expected, "{says}");
    }
    // Nor of what was asked for with a credential (RFC 9111 §3.5).
    for _ in 0..2 {
        let request = gateway.get("/own").header("x-answer", LONG_AGO);
        request.header("authorization", "Basic YTpi").send().await;
    }
    let seen = upstream.seen();
    assert_eq!(seen.iter().filter(|it| it.target == "/own").count(), 2);
}

/// For how many seconds an answer is given that has just been fetched.
async fn rest(gateway: &Gateway, path: &str, status: &str, answer: &str) -> u64 {
    let request = gateway.get(path).header("x-status", status);
    let got = request.header("x-answer", answer).send().await;
    let told = got.header("cache-status").unwrap();
    let (_, rest) = told.split_once("; stored; ttl=").expect(told);
    rest.parse().unwrap()
}

/// RFC 9111 §4.2.2: a share of the time without a change, less the age, and not without end.
#[tokio::test]
async fn the_guess_is_a_share_of_the_time_without_a_change() {
    const SLACK: u64 = 1000;
    let upstream = backend().await;
    let changed = SystemTime::now() - Duration::from_secs(1_000_000);
    let changed = format!("Last-Modified={}", httpdate::fmt_http_date(changed));
    let aged = format!("{changed}|Age=20000");
    let future = SystemTime::now() + Duration::from_secs(1_000_000);
    let future = format!("Last-Modified={}", httpdate::fmt_http_date(future));
    let is_about = |rest: u64, expected: u64| (expected - SLACK..=expected).contains(&rest);

    let guessing = gateway(&upstream, "{ heuristic: 5% }").await;
    for (path, answer, expected) in [
        ("/changed", &*changed, 50_000),
        ("/aged", &*aged, 30_000),
        ("/long-ago", LONG_AGO, 86_400),
    ] {
        let rest = rest(&guessing, path, "200", answer).await;
        assert!(is_about(rest, expected), "{path}: {rest}");
    }
    assert!(!is_kept(&guessing, "/future", &future).await);
    let (_, said, _) = guessing.command(&["explain", "/changed"]).await;
    let expected = "if it says nothing, 5% of the time since Last-Modified, 1d at most";
    assert!(said.contains(expected), "{said}");

    let bounded = gateway(&upstream, "{ heuristic: 100%, heuristic_max: 2h }").await;
    let rest_of_bounded = rest(&bounded, "/changed", "200", &changed).await;
    assert!(is_about(rest_of_bounded, 7200), "{rest_of_bounded}");

    // The operator's word is no guess.
    let cache = "{ ttl: 3h, heuristic: 5%, heuristic_max: 5h }";
    let with_ttl = gateway(&upstream, cache).await;
    for (path, status, expected) in [("/ttl", "200", 3), ("/negative", "404", 5)] {
        let rest = rest(&with_ttl, path, status, &changed).await;
        assert!(is_about(rest, expected * 3600), "{path}: {rest}");
    }
}

/// RFC 9111 §4.2.4, §5.2.2.2, §5.2.2.4, §5.2.2.8, §5.2.2.10: who may not be given a stale answer is told of the
/// failure, whatever the configuration says.
#[tokio::test]
async fn what_may_not_be_stale_is_not_when_the_backend_fails() {
    let is_down = Arc::new(AtomicBool::new(false));
    let down = is_down.clone();
    let upstream = Upstream::answering(move |seen| {
        let response = Response::builder().header("etag", "\"v1\"");
        let response = match down.load(Ordering::Relaxed) {
            true => response.status(503),
            false => response
                .header("cache-control", seen.header("x-says").unwrap())
                .header("age", "100"),
        };
        response.body(Bytes::from_static(b"body")).unwrap()
    })
    .await;
    // Nobody but the cache has a say in what the client gets.
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], cache: {{ stale_if_error: 1h }},
          retry: off, circuit_breaker: off, outlier_detection: off }} }}",
        upstream.address
    ))
    .await;
    for (number, (says, status)) in [
        ("max-age=60", 200),
        ("max-age=60, must-revalidate", 503),
        ("max-age=60, proxy-revalidate", 503),
        ("s-maxage=60", 503),
        ("max-age=60, no-cache", 503),
        ("max-age=60, must-revalidate, stale-if-error=1000", 503),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        let get = || gateway.get(&path).header("x-says", says).send();
        is_down.store(false, Ordering::Relaxed);
        get().await.assert_status(200);
        is_down.store(true, Ordering::Relaxed);
        let got = get().await;
        assert_eq!(got.status.as_u16(), status, "{says}");
    }
}

const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Hint: 1\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\nok";

/// A backend that gives hints together with its answer, and under `/later` when it is told to go on.
async fn hinting(go_on: Arc<Notify>) -> Upstream {
    Upstream::raw(move |mut stream| {
        let go_on = go_on.clone();
        async move {
            let mut request = [0; 4096];
            while let Ok(length) = stream.read(&mut request).await
                && length > 0
            {
                if request.starts_with(b"GET /later") {
                    stream.write_all(HINTS).await.unwrap();
                    go_on.notified().await;
                    stream.write_all(ANSWER).await.unwrap();
                } else {
                    let both = [HINTS, HINTS, ANSWER].concat();
                    stream.write_all(&both).await.unwrap();
                }
            }
        }
    })
    .await
}

/// RFC 9110 §15.2, RFC 8297: hints are the first client's, once each, and no part of what is kept.
#[tokio::test]
async fn early_hints_reach_whoever_asked_first_and_are_not_kept() {
    let go_on = Arc::new(Notify::new());
    let upstream = hinting(go_on.clone()).await;
    let gateway = gateway(&upstream, "{}").await;
    let ask = |path: &str, version: &str| {
        let text = format!("GET {path} HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n");
        text.into_bytes()
    };
    let hints = |answer: &str| answer.matches("HTTP/1.1 103 Early Hints").count();

    let first = gateway.exchange(&ask("/at-once", "1.1")).await;
    assert_eq!(hints(&first), 2, "{first}");
    assert!(
        first.ends_with("ok") && first.contains("fwd=miss"),
        "{first}"
    );
    let (_, last) = first.rsplit_once("HTTP/1.1 200").unwrap();
    assert!(!last.contains("X-Hint"), "{first}");
    let second = gateway.exchange(&ask("/at-once", "1.1")).await;
    assert_eq!(hints(&second), 0, "{second}");
    assert!(
        second.contains("; hit;") && second.ends_with("ok"),
        "{second}"
    );
    assert!(!second.contains("X-Hint"), "{second}");

    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    client.write_all(&ask("/later", "1.1")).await.unwrap();
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(client.read_u8().await.unwrap().into());
    }
    assert!(text.starts_with("HTTP/1.1 103") && text.contains("Link: </a.css>"));
    go_on.notify_one();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(hints(&text), 1, "{text}");
    assert!(text.ends_with("ok"), "{text}");

    // Who asks by HTTP/1.0 knows none (RFC 9110 §15.2).
    let old = gateway.exchange(&ask("/old", "1.0")).await;
    assert!(hints(&old) == 0 && old.ends_with("ok"), "{old}");
}
