//! Answers that are kept and given again: what RFC 9111 says of them, section by section.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::json;
use support::{Answer, Gateway, Seen, Upstream};

/// Answers as the fields of a request say: `x-answer: Name=value|Name=value`, with `x-status`, and a body
/// that is another one each time. A conditional request for the entity tag it names gets 304.
async fn backend() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::answering(move |seen| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let fields = seen
            .header("x-answer")
            .unwrap_or("Cache-Control=max-age=60");
        let status = seen
            .header("x-status")
            .map_or(200, |it| it.parse().unwrap());
        let mut response = Response::builder().status(status);
        for field in fields.split('|').filter(|it| !it.is_empty()) {
            let (name, value) = field.split_once('=').unwrap();
            response = response.header(name, value);
        }
        let tag = fields.split('|').find_map(|it| it.strip_prefix("ETag="));
        if tag.is_some() && seen.header("if-none-match") == tag {
            return response.status(304).body(Bytes::new()).unwrap();
        }
        response
            .body(Bytes::from(format!("{number} {}", seen.method)))
            .unwrap()
    })
    .await
}

/// A gateway in front of it that keeps answers as `cache` says.
async fn gateway(upstream: &Upstream, cache: &str) -> Gateway {
    Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], cache: {cache} }} }}",
        upstream.address
    ))
    .await
}

/// What the backend answers `path` with, asked through the gateway.
async fn ask(gateway: &Gateway, path: &str, answer: &str) -> Answer {
    gateway.get(path).header("x-answer", answer).send().await
}

/// Whether the second of two same requests is answered with what the first one was.
async fn is_kept(gateway: &Gateway, path: &str, answer: &str) -> bool {
    let first = ask(gateway, path, answer).await;
    first.body == ask(gateway, path, answer).await.body
}

/// What the log says of so many requests, in no order: they may be on different threads.
async fn results(gateway: &Gateway, count: usize) -> Vec<String> {
    let log = gateway.log(count).await;
    let word = |line: &serde_json::Value| line["cache"].as_str().unwrap_or("-").to_owned();
    let mut words: Vec<String> = log.iter().map(word).collect();
    words.sort_unstable();
    words
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_answer_is_kept_as_long_as_its_backend_says() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    let first = gateway.get("/a").send().await.assert_status(200);
    let first = first.assert_no_header("age");
    let status = first.header("cache-status").unwrap();
    let begin = "tollgate; fwd=miss; fwd-status=200; stored; ttl=";
    assert!(status.starts_with(begin), "{status}");
    let second = gateway.get("/a").send().await.assert_status(200);
    assert_eq!(second.body, first.body);
    assert!(
        second
            .header("cache-status")
            .unwrap()
            .starts_with("tollgate; hit; ttl=")
    );
    assert!(second.header("age").is_some() && second.header("date").is_some());
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(results(&gateway, 2).await, ["hit", "miss"]);
    let log = gateway.log(2).await;
    let hit = log.iter().find(|line| line["cache"] == "hit").unwrap();
    assert_eq!((&hit["attempts"], &hit["status"]), (&json!(0), &json!(200)));
    let metrics = gateway.admin("/metrics").await.text();
    for line in [
        "tollgate_cache_requests_total{result=\"hit\"} 1",
        "tollgate_cache_requests_total{result=\"miss\"} 1",
        "tollgate_cache_objects 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

/// RFC 9111 §3, §4.2, §5.2.2: which answers are kept.
#[tokio::test]
async fn which_answers_are_kept_is_the_rfcs_to_say() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    let cases = [
        // §4.2.1: what says how long it is fresh.
        ("Cache-Control=max-age=60", true),
        ("Cache-Control=s-maxage=60, max-age=0", true),
        ("Cache-Control=max-age=60, s-maxage=0", false),
        ("Cache-Control=MAX-AGE=\"60\"", true),
        ("Cache-Control=max-age=60|Cache-Control=public", true),
        ("Expires=Thu, 31 Dec 2099 00:00:00 GMT", true),
        (
            "Cache-Control=max-age=0|Expires=Thu, 31 Dec 2099 00:00:00 GMT",
            false,
        ),
        ("Expires=Thu, 31 Dec 2009 00:00:00 GMT", false),
        ("Expires=0", false),
        ("Cache-Control=max-age=60, max-age=1000", false),
        ("Cache-Control=max-age=a", false),
        // §4.2.2: nothing is guessed.
        ("Last-Modified=Thu, 01 Jan 2009 00:00:00 GMT", false),
        ("Cache-Control=public", false),
        ("", false),
        // §4.2.3: what is older than it may be is not fresh.
        ("Cache-Control=max-age=60|Age=100", false),
        ("Cache-Control=max-age=60|Age=10", true),
        (
            "Cache-Control=max-age=60|Date=Thu, 01 Jan 2009 00:00:00 GMT",
            false,
        ),
        // §5.2.2: what forbids it.
        ("Cache-Control=no-store, max-age=60", false),
        (
            "Cache-Control=NO-STORE|Expires=Thu, 31 Dec 2099 00:00:00 GMT",
            false,
        ),
        ("Cache-Control=private, max-age=60", false),
        ("Cache-Control=no-cache, max-age=60", false),
        ("Cache-Control=must-revalidate, max-age=60", true),
        ("Cache-Control=must-understand, no-store, max-age=60", true),
        ("Cache-Control=ext=\"no-store\", max-age=60", true),
        // §4.1: what can't be told apart.
        ("Cache-Control=max-age=60|Vary=*", false),
        ("Cache-Control=max-age=60|Vary=Accept", true),
        // RFC 9213: what is said to this kind of cache alone.
        ("Cache-Control=no-store|CDN-Cache-Control=max-age=60", true),
        ("Cache-Control=max-age=60|CDN-Cache-Control=no-store", false),
        (
            "Cache-Control=max-age=60|CDN-Cache-Control=max-age=\"60\"",
            false,
        ),
        ("Cache-Control=max-age=60|CDN-Cache-Control=;", true),
        // Cookies belong to one client.
        ("Cache-Control=max-age=60|Set-Cookie=a=b", false),
        (
            "Cache-Control=max-age=60, no-cache=\"set-cookie\"|Set-Cookie=a=b",
            true,
        ),
    ];
    for (number, (answer, expected)) in cases.into_iter().enumerate() {
        let path = format!("/{number}");
        assert_eq!(is_kept(&gateway, &path, answer).await, expected, "{answer}");
    }
}

/// RFC 9111 §3, §3.3: which statuses, and no parts.
#[tokio::test]
async fn statuses_are_kept_that_say_so_and_parts_are_not() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    for (status, expected) in [
        ("200", true),
        ("203", true),
        ("204", true),
        ("301", true),
        ("302", true),
        ("404", true),
        ("410", true),
        ("500", true),
        ("299", true),
        ("206", false),
        ("416", false),
    ] {
        let path = format!("/{status}");
        let send = || gateway.get(&path).header("x-status", status).send();
        send().await.assert_status(status.parse().unwrap());
        send().await.assert_status(status.parse().unwrap());
        let count = upstream
            .seen()
            .iter()
            .filter(|it| it.target == path)
            .count();
        assert_eq!(count == 1, expected, "{status}");
    }
    let understood = "Cache-Control=must-understand, max-age=60";
    for (status, expected) in [("200", 1), ("299", 2)] {
        let path = format!("/understood/{status}");
        for _ in 0..2 {
            gateway
                .get(&path)
                .header("x-status", status)
                .header("x-answer", understood)
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

/// RFC 9111 §3.5.
#[tokio::test]
async fn what_was_asked_for_with_a_credential_is_kept_only_if_that_is_permitted() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    for (number, (directives, expected)) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("max-age=60, must-revalidate", true),
        ("max-age=60, proxy-revalidate", false),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        let answer = format!("Cache-Control={directives}");
        let send = |token: &'static str| {
            gateway
                .get(&path)
                .header("x-answer", &answer)
                .header("authorization", token)
                .send()
        };
        let first = send("Bearer a").await;
        assert_eq!(
            first.body == send("Bearer a").await.body,
            expected,
            "{directives}"
        );
        assert_ne!(
            first.body,
            send("Bearer b").await.body,
            "{directives}: another's"
        );
        assert_ne!(
            first.body,
            ask(&gateway, &path, &answer).await.body,
            "{directives}: nobody's"
        );
    }
}

/// RFC 9111 §3.1, §5.2.2.4, §5.2.2.7: fields that are not kept still reach the client that they are for.
#[tokio::test]
async fn fields_of_one_client_reach_nobody_else() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{ set_cookie: withhold }").await;
    let answer = "Cache-Control=max-age=60, private=\"X-Mine\"|X-Mine=1|X-All=2|Set-Cookie=sid=1|RateLimit=x|X-Request-Id=y";
    let first = ask(&gateway, "/a", answer).await;
    let first = first
        .assert_header("x-mine", "1")
        .assert_header("set-cookie", "sid=1");
    let first = first
        .assert_header("x-all", "2")
        .assert_header("ratelimit", "x");
    let second = ask(&gateway, "/a", answer).await;
    assert_eq!(second.body, first.body);
    second
        .assert_no_header("x-mine")
        .assert_no_header("set-cookie")
        .assert_no_header("ratelimit")
        .assert_header("x-all", "2");
}

/// RFC 9111 §4.1.
#[tokio::test]
async fn variants_are_told_apart_by_what_they_vary_by() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    let answer = "Cache-Control=max-age=60|Vary=Accept, X-Kind";
    let send = |accept: &'static str, kind: Option<&'static str>| {
        let request = gateway
            .get("/a")
            .header("x-answer", answer)
            .header("accept", accept);
        let request = kind
            .into_iter()
            .fold(request, |request, kind| request.header("x-kind", kind));
        async { request.send().await.text() }
    };
    let a = send("a, b", None).await;
    let b = send("b", None).await;
    let c = send("b", Some("")).await;
    assert!(a != b && b != c);
    for _ in 0..2 {
        assert_eq!(send("a,  b", None).await, a);
        assert_eq!(send("b", None).await, b);
        assert_eq!(send("b", Some("")).await, c);
    }
    assert_eq!(upstream.seen().len(), 3);
}

/// RFC 9111 §4.2.3, §5.1.
#[tokio::test]
async fn the_age_of_an_answer_counts_from_its_origin() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    for _ in 0..2 {
        let answer = ask(&gateway, "/a", "Cache-Control=max-age=600|Age=100").await;
        let age: u64 = answer.header("age").unwrap().parse().unwrap();
        assert!((100..160).contains(&age), "{age}");
    }
    assert_eq!(upstream.seen().len(), 1);
}

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

/// RFC 9111 §4.4.
#[tokio::test]
async fn what_an_unsafe_request_changed_is_fetched_again() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    let mut expected = gateway.get("/a?x=1").send().await.text();
    for method in ["POST", "PUT", "DELETE", "PATCH", "X-CHANGE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let change = |path: &str| gateway.request(method.clone(), path).send();
        change("/b").await;
        assert_eq!(
            gateway.get("/a?x=1").send().await.text(),
            expected,
            "{method} elsewhere"
        );
        gateway
            .request(method.clone(), "/a?x=1")
            .header("x-status", "500")
            .send()
            .await;
        assert_eq!(
            gateway.get("/a?x=1").send().await.text(),
            expected,
            "{method} that failed"
        );
        change("/a?x=1").await;
        let fresh = gateway.get("/a?x=1").send().await.text();
        assert_ne!(fresh, expected, "{method}");
        expected = fresh;
    }
    for (name, value, is_changed) in [
        ("Location", "/a?x=1", true),
        ("Content-Location", "/a?x=1", true),
        ("Location", "http://elsewhere.example/a?x=1", false),
    ] {
        let answer = format!("{name}={value}");
        gateway
            .post("/new")
            .header("x-answer", &answer)
            .header("x-status", "201")
            .send()
            .await;
        let fresh = gateway.get("/a?x=1").send().await.text();
        assert_eq!(fresh != expected, is_changed, "{answer}");
        expected = fresh;
    }
}

/// RFC 9111 §5.2.1: clients' directives, as configured.
#[tokio::test]
async fn clients_make_backends_work_only_where_they_may() {
    let upstream = backend().await;
    let ignoring = gateway(&upstream, "{}").await;
    let obeying = gateway(&upstream, "{ request_directives: obey }").await;
    for (gateway, does_obey) in [(&ignoring, false), (&obeying, true)] {
        let answer = "Cache-Control=max-age=60|Age=10";
        for (directives, is_fresh_wanted) in [
            ("no-cache", true),
            ("max-age=5", true),
            ("max-age=50", false),
            ("min-fresh=55", true),
            ("min-fresh=10", false),
            ("no-store", true),
        ] {
            let kept = ask(gateway, "/a", answer).await;
            let request = gateway
                .get("/a")
                .header("x-answer", answer)
                .header("cache-control", directives);
            let got = request.send().await;
            assert_eq!(
                got.body != kept.body,
                does_obey && is_fresh_wanted,
                "{directives}"
            );
        }
        let request = gateway
            .get("/a")
            .header("x-answer", answer)
            .header("pragma", "no-cache");
        let kept = ask(gateway, "/a", answer).await;
        assert_eq!(request.send().await.body != kept.body, does_obey, "pragma");
        let only = |path: &str| {
            gateway
                .get(path)
                .header("cache-control", "only-if-cached")
                .send()
        };
        only("/a").await.assert_status(200);
        let refused = only("/none").await.assert_status(504);
        assert_eq!(refused.json()["type"], "urn:tollgate:problem:not-cached");
        // It keeps nobody from fetching it.
        gateway.get("/none").send().await.assert_status(200);
        only("/none").await.assert_status(200);
    }
    let stale = "Cache-Control=max-age=60, stale-if-error=100|Age=90";
    let kept = ask(&obeying, "/stale", stale).await;
    let with = |directives: &str| {
        obeying
            .get("/stale")
            .header("x-answer", stale)
            .header("cache-control", directives)
            .send()
    };
    assert_eq!(with("max-stale=60").await.body, kept.body);
    assert_eq!(with("max-stale").await.body, kept.body);
    assert_ne!(with("max-stale=10").await.body, kept.body);
}

/// RFC 5861 §3.
#[tokio::test]
async fn a_stale_answer_is_given_while_a_fresh_one_is_fetched() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{ stale_while_revalidate: 1h }").await;
    let stale = "Cache-Control=max-age=60|Age=100";
    let first = ask(&gateway, "/a", stale).await;
    let second = ask(&gateway, "/a", stale).await;
    assert_eq!(second.body, first.body);
    let status = second.header("cache-status").unwrap();
    assert!(status.starts_with("tollgate; hit; ttl=-4"), "{status}");
    until(async || upstream.seen().len() == 2).await;
    let background = upstream.last();
    assert_eq!(background.header("x-answer"), Some(stale));
    assert_eq!(background.headers("x-forwarded-for"), Vec::<&str>::new());
    until(async || ask(&gateway, "/a", stale).await.body != first.body).await;
    let results = results(&gateway, 2).await;
    assert!(results.contains(&"stale".to_owned()), "{results:?}");
    // What may never be stale is fetched at once.
    let strict = "Cache-Control=max-age=60, must-revalidate|Age=100";
    assert!(!is_kept(&gateway, "/b", strict).await);
}

/// RFC 5861 §4.
#[tokio::test]
async fn a_stale_answer_is_given_when_the_backend_fails() {
    let is_down = Arc::new(AtomicUsize::new(0));
    let down = is_down.clone();
    let upstream = Upstream::answering(move |_| {
        let status = if down.load(Ordering::Relaxed) == 1 {
            503
        } else {
            200
        };
        let response = Response::builder()
            .status(status)
            .header("cache-control", "max-age=60")
            .header("age", "100");
        response.body(Bytes::from_static(b"good")).unwrap()
    })
    .await;
    let rest =
        "retry: { attempts: 2, on: [503], backoff: 1ms, budget: 100% }, fallback: { status: 418 }";
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], cache: {{ stale_if_error: 1h }}, outlier_detection: off, {rest} }} }}",
        upstream.address
    ))
    .await;
    gateway.get("/a").send().await.assert_status(200);
    is_down.store(1, Ordering::Relaxed);
    let stale = gateway.get("/a").send().await.assert_status(200);
    assert_eq!(stale.text(), "good");
    assert_eq!(upstream.seen().len(), 3, "it is asked twice before");
    gateway.get("/b").send().await.assert_status(418);
    drop(upstream);
    assert_eq!(
        gateway.get("/a").send().await.assert_status(200).text(),
        "good"
    );
    let log = gateway.log(4).await;
    let stale: Vec<_> = log.iter().filter(|line| line["cache"] == "stale").collect();
    assert_eq!(stale.len(), 2, "{log:?}");
    let of = |why: &str| {
        stale
            .iter()
            .find(|line| line["cache_reason"] == why)
            .unwrap()
    };
    assert_eq!(of("status")["flags"], json!(["retried"]));
    assert_eq!(of("error")["flags"], json!(["upstream_connect_failed"]));
}

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
