//! Until when answers are fresh (RFC 9111 §4.2, §5.3), and what comes before them (RFC 9110 §15.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// RFC 9111 §4.2.2: no lifetime is guessed from when an answer was changed.
#[tokio::test]
async fn no_status_has_a_lifetime_of_its_own() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    for status in [
        "200", "203", "204", "300", "301", "308", "404", "405", "410", "414", "501",
    ] {
        let path = format!("/{status}");
        for _ in 0..2 {
            gateway
                .get(&path)
                .header("x-status", status)
                .header("x-answer", "Last-Modified=Thu, 01 Jan 2009 00:00:00 GMT")
                .send()
                .await
                .assert_status(status.parse().unwrap());
        }
        let seen = upstream.seen();
        let count = seen.iter().filter(|it| it.target == path).count();
        assert_eq!(count, 2, "{status}");
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
