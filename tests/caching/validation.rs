//! Conditional requests either way, HEAD and parts (RFC 9111 §4.3, RFC 9110 §14).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Response};

use crate::backend::{ask, backend, gateway, results};
use crate::support::Upstream;

/// RFC 9111 §4.3.1, §4.3.3, §4.3.4: a stale answer is asked for again by its tag.
#[tokio::test]
async fn a_304_makes_a_kept_answer_fresh_again() {
    let changes = Arc::new(AtomicUsize::new(0));
    let count = changes.clone();
    let upstream = Upstream::answering(move |seen| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let response = Response::builder()
            .header("etag", "\"v1\"")
            .header("x-number", number);
        // It is stale when it comes, and may be given only after asking; the 304 is fresh.
        match seen.header("if-none-match") {
            None => response
                .header("cache-control", "max-age=60, stale-if-error=600")
                .header("age", "100")
                .header("last-modified", "Thu, 01 Jan 2009 00:00:00 GMT"),
            Some(_) => response.status(304).header("cache-control", "max-age=600"),
        }
        .body(Bytes::from_static(
            if seen.header("if-none-match").is_some() {
                b""
            } else {
                b"body"
            },
        ))
        .unwrap()
    })
    .await;
    let gateway = gateway(&upstream, "{}").await;
    gateway
        .get("/a")
        .send()
        .await
        .assert_header("x-number", "0");
    let answer = gateway
        .get("/a")
        .send()
        .await
        .assert_status(200)
        .assert_header("x-number", "1");
    assert_eq!(answer.text(), "body");
    let status = answer.header("cache-status").unwrap();
    assert!(
        status.starts_with("tollgate; fwd=stale; fwd-status=304; ttl="),
        "{status}"
    );
    let asked = upstream.last();
    assert_eq!(asked.header("if-none-match"), Some("\"v1\""));
    assert_eq!(
        asked.header("if-modified-since"),
        Some("Thu, 01 Jan 2009 00:00:00 GMT")
    );
    let answer = gateway
        .get("/a")
        .send()
        .await
        .assert_header("x-number", "1");
    assert_eq!(answer.text(), "body");
    assert_eq!(upstream.seen().len(), 2);
    assert_eq!(results(&gateway, 3).await, ["hit", "miss", "revalidated"]);
}

/// RFC 9111 §4.3.2: conditional requests are answered here.
#[tokio::test]
async fn a_client_that_has_the_answer_already_is_told_so() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    let answer = "Cache-Control=max-age=60|ETag=\"v1\"|Last-Modified=Thu, 01 Jan 2009 00:00:00 GMT";
    ask(&gateway, "/a", answer).await.assert_status(200);
    for (name, value, status) in [
        ("if-none-match", "\"v1\"", 304),
        ("if-none-match", "W/\"v1\", \"v2\"", 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"v2\"", 200),
        ("if-modified-since", "Thu, 01 Jan 2009 00:00:00 GMT", 304),
        ("if-modified-since", "Wed, 31 Dec 2008 00:00:00 GMT", 200),
        ("if-modified-since", "yesterday", 200),
    ] {
        let request = gateway
            .get("/a")
            .header("x-answer", answer)
            .header(name, value);
        let got = request
            .send()
            .await
            .assert_status(status)
            .assert_header("etag", "\"v1\"");
        assert_eq!(got.body.is_empty(), status == 304);
    }
    assert_eq!(upstream.seen().len(), 1);
    // A client with an answer of its own makes the gateway fetch it whole.
    let request = gateway
        .get("/b")
        .header("x-answer", answer)
        .header("if-none-match", "\"v1\"");
    request.send().await.assert_status(304);
    assert_eq!(upstream.last().header("if-none-match"), None);
    ask(&gateway, "/b", answer).await.assert_status(200);
    assert_eq!(upstream.seen().len(), 2);
    // What a backend alone can judge is its own.
    gateway
        .get("/a")
        .header("x-answer", answer)
        .header("if-match", "\"v2\"")
        .send()
        .await;
    assert_eq!(upstream.last().header("if-match"), Some("\"v2\""));
}

/// RFC 9111 §4.3.2: an answer that does not say when it was changed was not since it was made.
#[tokio::test]
async fn an_answer_without_a_time_of_change_has_that_of_its_date() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{ ttl: 1h }").await;
    let answer = "Date=Thu, 01 Jan 2026 00:00:00 GMT";
    ask(&gateway, "/a", answer).await.assert_status(200);
    for (since, status) in [
        ("Thu, 01 Jan 2026 00:00:00 GMT", 304),
        ("Fri, 02 Jan 2026 00:00:00 GMT", 304),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 200),
        ("yesterday", 200),
    ] {
        let request = gateway.get("/a").header("if-modified-since", since);
        request.send().await.assert_status(status);
    }
    // A tag goes before a time (RFC 9110 §13.1.3).
    let request = gateway.get("/a").header("if-none-match", "\"v1\"");
    let request = request.header("if-modified-since", "Fri, 02 Jan 2026 00:00:00 GMT");
    request.send().await.assert_status(200);
    assert_eq!(upstream.seen().len(), 1);
}

/// RFC 9111 §3.2: a 304 replaces what is kept of a header, but not what says how long the body is.
#[tokio::test]
async fn a_304_says_anew_what_an_answer_is() {
    let upstream = Upstream::answering(|seen| {
        let response = Response::builder().header("etag", "\"v1\"");
        let response = match seen.header("if-none-match") {
            None => response
                .header("cache-control", "no-cache")
                .header("content-type", "text/plain")
                .header("x-a", "1")
                .header("x-b", "1"),
            Some(_) => response
                .status(304)
                .header("cache-control", "max-age=60")
                .header("content-type", "text/html")
                .header("x-a", "2"),
        };
        let is_first = seen.header("if-none-match").is_none();
        let body: &[u8] = if is_first { b"body" } else { b"" };
        response.body(Bytes::copy_from_slice(body)).unwrap()
    })
    .await;
    let gateway = gateway(&upstream, "{}").await;
    let get = || gateway.get("/a").send();
    let first = get().await.assert_header("x-a", "1");
    first.assert_header("content-type", "text/plain");
    for _ in 0..2 {
        let got = get().await.assert_status(200).assert_header("x-a", "2");
        let got = got.assert_header("content-type", "text/html");
        let got = got
            .assert_header("x-b", "1")
            .assert_header("content-length", "4");
        assert_eq!(got.text(), "body");
    }
    assert_eq!(upstream.seen().len(), 2);
}

/// RFC 9110 §9.3.2, RFC 9111 §4.3.5.
#[tokio::test]
async fn a_head_is_answered_from_a_get_and_a_get_never_from_a_head() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    let head = |path: &str| gateway.request(Method::HEAD, path).send();
    head("/a").await.assert_status(200);
    assert_eq!(upstream.last().method, "HEAD");
    let full = gateway.get("/a").send().await;
    assert_eq!(upstream.seen().len(), 2);
    let got = head("/a").await.assert_status(200);
    assert_eq!(
        got.header("content-length"),
        Some(&*full.body.len().to_string())
    );
    assert!(got.header("cache-status").unwrap().contains("hit"));
    assert_eq!(upstream.seen().len(), 2);
}

/// RFC 9110 §14: parts of what is kept whole.
#[tokio::test]
async fn parts_are_given_of_what_is_kept_whole() {
    let upstream = Upstream::answering(|_| {
        let response = Response::builder()
            .header("cache-control", "max-age=60")
            .header("etag", "\"v1\"");
        response.body(Bytes::from_static(b"0123456789")).unwrap()
    })
    .await;
    let gateway = gateway(&upstream, "{}").await;
    for path in ["/a", "/a", "/b"] {
        let get = |range: &str| gateway.get(path).header("range", range).send();
        let part = get("bytes=2-4").await.assert_status(206);
        assert_eq!(part.text(), "234");
        let part = part.assert_header("content-range", "bytes 2-4/10");
        assert_eq!(get("bytes=-3").await.assert_status(206).text(), "789");
        assert_eq!(get("bytes=8-").await.assert_status(206).text(), "89");
        get("bytes=10-")
            .await
            .assert_status(416)
            .assert_header("content-range", "bytes */10");
        assert_eq!(get("lines=1").await.assert_status(200).text(), "0123456789");
        let parts = get("bytes=0-1,4-5").await.assert_status(206).text();
        assert!(parts.contains("01") && parts.contains("45"), "{parts}");
        let many = (0..20)
            .map(|at| format!("{at}-{at}"))
            .collect::<Vec<_>>()
            .join(",");
        get(&format!("bytes={many}")).await.assert_status(200);
        drop(part);
        let if_range = |tag: &str| {
            gateway
                .get(path)
                .header("range", "bytes=0-1")
                .header("if-range", tag)
                .send()
        };
        if_range("\"v1\"").await.assert_status(206);
        if_range("\"v2\"").await.assert_status(200);
    }
    assert_eq!(upstream.seen().len(), 2);
    assert_eq!(upstream.last().header("range"), None);
}

/// RFC 9111 §5.2.2.4: what may not be given without asking is kept to be asked about.
#[tokio::test]
async fn what_has_to_be_asked_about_each_time_is_kept_if_it_can_be() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{ stale_if_error: 1h }").await;
    for (path, says) in [
        ("/a", "no-cache"),
        ("/b", "max-age=0, must-revalidate"),
        ("/c", "s-maxage=0"),
    ] {
        let answer = format!("Cache-Control={says}|ETag=\"v1\"");
        let first = ask(&gateway, path, &answer).await.assert_status(200);
        for _ in 0..2 {
            let again = ask(&gateway, path, &answer).await.assert_status(200);
            assert_eq!(again.body, first.body, "{says}");
            assert_eq!(upstream.last().header("if-none-match"), Some("\"v1\""));
        }
        let answer = format!("Cache-Control={says}|ETag=\"v2\"");
        let changed = ask(&gateway, path, &answer).await;
        assert_ne!(changed.body, first.body, "{says}");
        assert_eq!(ask(&gateway, path, &answer).await.body, changed.body);
        let unnamed = ask(&gateway, path, &format!("Cache-Control={says}")).await;
        let next = ask(&gateway, path, &format!("Cache-Control={says}")).await;
        assert_ne!(unnamed.body, next.body, "{says}");
    }
    assert_eq!(upstream.seen().len(), 21);
    let words = results(&gateway, 21).await;
    let revalidated = words.iter().filter(|it| *it == "revalidated").count();
    assert_eq!(revalidated, 9);
}

/// Whoever asks about the same answer at the same time waits for nobody.
#[tokio::test]
async fn those_who_have_to_ask_do_not_queue_for_it() {
    const CLIENTS: usize = 20;
    let together = Arc::new(tokio::sync::Barrier::new(CLIENTS));
    let upstream = Upstream::serving(move |request| {
        let together = together.clone();
        async move {
            let response = Response::builder()
                .header("cache-control", "no-cache")
                .header("etag", "\"v1\"");
            if !request.headers().contains_key("if-none-match") {
                return response.body(Full::from("body").boxed()).unwrap();
            }
            // All of them are here at once, or none is answered.
            together.wait().await;
            let nothing = Full::from("").boxed();
            response.status(304).body(nothing).unwrap()
        }
    })
    .await;
    let gateway = gateway(&upstream, "{ wait: 20s }").await;
    assert_eq!(gateway.get("/a").send().await.text(), "body");
    let asking = (0..CLIENTS).map(|_| gateway.get("/a").send());
    for answer in futures_util::future::join_all(asking).await {
        assert_eq!(answer.assert_status(200).text(), "body");
    }
    let words = results(&gateway, 1 + CLIENTS).await;
    let revalidated = words.iter().filter(|it| *it == "revalidated").count();
    assert_eq!(revalidated, CLIENTS);
}
