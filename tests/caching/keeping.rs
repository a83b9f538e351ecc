//! Which answers are kept, and whose (RFC 9111 §3, §4.1, §4.2).

use serde_json::json;

use crate::backend::{ask, backend, gateway, is_kept, results};

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
        // RFC 9110 §14.4: it means nothing in an answer that is no part.
        ("Cache-Control=max-age=60|Content-Range=bytes 0-1/9", true),
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
    // Languages and codings are the same in letters of any case.
    let answer = "Cache-Control=max-age=60|Vary=Accept-Language, Accept-Encoding";
    let send = |language: &'static str, coding: &'static str| {
        let request = gateway.get("/b").header("x-answer", answer);
        let request = request.header("accept-language", language);
        async move {
            request
                .header("accept-encoding", coding)
                .send()
                .await
                .text()
        }
    };
    let english = send("en-GB, de", "gzip").await;
    assert_eq!(send("EN-gb, De", "GZip").await, english);
    assert_ne!(send("de, en-GB", "gzip").await, english);
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

/// RFC 9111 §5.2.2.6: nothing that is kept is changed, least of all what says so.
#[tokio::test]
async fn no_content_is_transformed() {
    let upstream = backend().await;
    let gateway = gateway(&upstream, "{}").await;
    let answer =
        "Cache-Control=max-age=60, no-transform|Content-Encoding=gzip|Content-Type=image/png";
    for accepted in ["gzip", "identity", "br"] {
        let request = gateway.get("/a").header("x-answer", answer);
        let got = request.header("accept-encoding", accepted).send().await;
        let got = got
            .assert_header("content-encoding", "gzip")
            .assert_header("content-type", "image/png");
        assert_eq!(got.text(), "0 GET");
    }
}
