//! Limits by what requests cost, and quotas of the calendar, driven from outside.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{Answer, Gateway, Upstream};
use bytes::Bytes;
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No test takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Answers `/…/KIND?NUMBER`: with so many bytes, or with so much in `X-Cost`.
async fn upstream() -> Upstream {
    Upstream::answering(|seen| {
        let (path, number) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let mut answer = Response::new(Bytes::new());
        if path.ends_with("/bytes") {
            *answer.body_mut() = vec![b'x'; number.parse().unwrap()].into();
        } else if !number.is_empty() {
            let headers = answer.headers_mut();
            headers.insert("x-cost", number.parse().unwrap());
        }
        answer
    })
    .await
}

/// What is left, as the client is told.
fn left(answer: &Answer) -> u64 {
    let state = answer.header("ratelimit").unwrap();
    let left = state.split(";r=").nth(1).unwrap();
    left.split(';').next().unwrap().parse().unwrap()
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").unwrap().parse().unwrap()
}

#[tokio::test]
async fn bytes_of_answers_are_charged_when_they_have_been_sent() {
    let upstream = upstream().await;
    let gateway = Gateway::start(&format!(
        r#"
services:
  a:
    base_url: http://{}
    rate_limit: {{ limit: 10kB, window: 1h, cost: response_bytes }}
    routes:
      - /a/bytes
      - path: /hedged/bytes
        retry: {{ hedge_after: 10s }}
        rate_limit: {{ limit: 10kB, window: 1h, cost: response_bytes, by: everyone }}
      - path: /own
        respond: {{ body: "0123456789" }}
        rate_limit: {{ limit: 15B, window: 1h, cost: response_bytes, algorithm: token_bucket }}
"#,
        upstream.address
    ))
    .await;
    // A line stands in the log when its request has been charged.
    let mut lines = 0;
    for path in ["/a/bytes?6000", "/hedged/bytes?6000"] {
        let answer = gateway.get(path).send().await.assert_status(200);
        assert_eq!(left(&answer), 10_000);
        let policy = answer.header("ratelimit-policy").unwrap();
        assert!(
            policy.ends_with(";q=10000;qu=\"content-bytes\";w=3600"),
            "{policy}"
        );
        gateway.log(lines + 1).await;
        // Anything left is enough; what is too much is a debt.
        let answer = gateway.get(path).send().await.assert_status(200);
        assert_eq!(left(&answer), 4000);
        gateway.log(lines + 2).await;
        let refused = gateway.get(path).send().await.assert_status(429);
        assert_eq!(left(&refused), 0);
        assert!(retry_after(&refused) > 0);
        lines += 3;
    }
    gateway.get("/own").send().await.assert_status(200);
    gateway.log(lines + 1).await;
    gateway.get("/own").send().await.assert_status(200);
    gateway.log(lines + 2).await;
    // Five bytes too many, and one for the next request: six times 240 s.
    let refused = gateway.get("/own").send().await.assert_status(429);
    assert!(
        (1430..=1440).contains(&retry_after(&refused)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_pays_for_what_it_was_sent() {
    let upstream = upstream().await;
    let size = 50_000_000;
    let gateway = Gateway::start(&format!(
        "services:\n  a:\n    base_url: http://{}\n    rate_limit: {{ limit: 1GB, window: day, cost: response_bytes }}\n    routes: [/a/bytes]\n",
        upstream.address
    ))
    .await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!("GET /a/bytes?{size} HTTP/1.1\r\nhost: a\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut part = vec![0; 100_000];
    client.read_exact(&mut part).await.unwrap();
    drop(client);
    let sent = gateway.log(1).await[0]["response_bytes"].as_u64().unwrap();
    assert!((90_000..size).contains(&sent), "{sent}");
    let answer = gateway.get("/a/bytes?1").send().await.assert_status(200);
    assert_eq!(left(&answer), 1_000_000_000 - sent);
}

#[tokio::test]
async fn a_websocket_pays_for_what_comes_out_of_it() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let upstream = Upstream::raw(|stream| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(Message::text("x".repeat(3000))).await.unwrap();
            }
        }
    })
    .await;
    let gateway = Gateway::start(&format!(
        "services:\n  a:\n    base_url: http://{}\n    rate_limit: {{ limit: 10kB, window: 1h, cost: response_bytes }}\n    routes: [/ws]\n",
        upstream.address
    ))
    .await;
    let url = format!("ws://{}/ws", gateway.address);
    let (mut socket, response) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert_eq!(response.headers()["ratelimit"], "\"a\";r=10000;t=3600");
    for _ in 0..4 {
        socket.send(Message::text("more")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().len(), 3000);
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    gateway.log(1).await;
    gateway.get("/ws").send().await.assert_status(429);
}

#[tokio::test]
async fn a_header_of_the_answer_says_what_it_cost() {
    let upstream = upstream().await;
    let gateway = Gateway::start(&format!(
        r#"
auth_providers: {{ main: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: "{SECRET}" }} }} }} }}
rate_limit: {{ limit: 100, window: 1h, by: route, cost: "response_header:X-Cost" }}
services:
  a:
    base_url: http://{}
    routes:
      - {{ path: /a, headers: {{ response: {{ remove: [X-Cost] }} }} }}
      - {{ path: /hedged, retry: {{ hedge_after: 10s }} }}
      - {{ path: /private, auth: main }}
      - {{ path: /own, respond: {{ body: mine, headers: {{ X-Cost: "50" }} }} }}
  gone: {{ base_url: "http://{}", routes: [/gone] }}
"#,
        upstream.address,
        crate::support::free_port(),
    ))
    .await;
    let spent = |path: &'static str, status| {
        let gateway = &gateway;
        async move { 100 - left(&gateway.get(path).send().await.assert_status(status)) }
    };
    // It is known before the answer is passed on.
    assert_eq!(spent("/a?40", 200).await, 40);
    assert_eq!(spent("/a?0", 200).await, 40);
    let answer = gateway.get("/a?7").send().await;
    assert_eq!((left(&answer), answer.header("x-cost")), (53, None));
    assert_eq!(spent("/hedged?30", 200).await, 30);
    // What says nothing that can be counted costs 1, and is complained of once.
    assert_eq!(spent("/a?-5", 200).await, 48);
    assert_eq!(spent("/a?many", 200).await, 49);
    assert_eq!(spent("/a", 200).await, 50);
    let log = gateway.process_log();
    assert_eq!(log.matches("do not say what they cost").count(), 1, "{log}");
    // More than is left, since a little was.
    assert_eq!(spent("/a?1000000000000", 200).await, 100);
    let refused = gateway.get("/a?1").send().await.assert_status(429);
    assert!((1..=7200).contains(&retry_after(&refused)), "{refused:?}");
    // Answers of the gateway's own cost 1.
    for (path, status, lines) in [("/private", 401, 9), ("/own", 200, 11), ("/gone", 502, 13)] {
        assert_eq!(spent(path, status).await, 0);
        gateway.log(lines).await;
        assert_eq!(spent(path, status).await, 1, "{path}");
        gateway.log(lines + 1).await;
    }
}

#[tokio::test]
async fn an_expensive_route_spends_the_limit_it_shares_faster() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&format!(
        r#"
auth_providers: {{ keys: {{ api_key: {{ keys: {{ acme-1: "{}" }} }} }} }}
consumers: {{ acme: {{ credentials: {{ keys: acme-1 }}, rate_limit: {{ limit: 5, window: 1h }} }} }}
services:
  a:
    base_url: http://{}
    rate_limit: {{ limit: 10, window: 1h, cost: 2 }}
    routes:
      - /a
      - {{ path: /export, rate_limit_cost: 4 }}
      - {{ path: /mine, auth: keys, rate_limit_cost: 6, rate_limit: {{ limit: 9, window: 1h, by: consumer }} }}
"#,
        digest("key-acme"),
        upstream.address
    ))
    .await;
    let get = |path| gateway.get(path).header("x-api-key", "key-acme").send();
    assert_eq!(left(&get("/export").await.assert_status(200)), 6);
    assert_eq!(left(&get("/a").await.assert_status(200)), 4);
    assert_eq!(left(&get("/a").await.assert_status(200)), 2);
    let refused = get("/export").await.assert_status(429);
    assert_eq!(left(&refused), 2);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(left(&get("/a").await.assert_status(200)), 0);
    // The consumer's own limit is too small for this route, at any time.
    let never = get("/mine").await.assert_status(429);
    assert_eq!((left(&never), never.header("retry-after")), (5, None));
    assert_eq!(upstream.seen().len(), 4);
}

fn digest(key: &str) -> String {
    let digest = openssl::sha::sha256(key.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A zone where it is about `hour` o'clock, and the seconds to its midnight.
fn zone_at(hour: i64) -> (String, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let mut ahead = hour - now / 3600 % 24;
    if ahead > 12 {
        ahead -= 24;
    } else if ahead < -12 {
        ahead += 24;
    }
    // In these names, what is east of Greenwich is behind it.
    let name = match ahead {
        0.. => format!("Etc/GMT-{ahead}"),
        _ => format!("Etc/GMT+{}", -ahead),
    };
    let rest = 86_400 - (now + ahead * 3600).rem_euclid(86_400);
    (name, u64::try_from(rest).unwrap())
}

#[tokio::test]
async fn a_quota_of_a_day_ends_at_midnight_where_the_consumer_is() {
    let upstream = Upstream::echo().await;
    let ((noon, to_midnight), (morning, longer)) = (zone_at(12), zone_at(6));
    let gateway = Gateway::start(&format!(
        r#"
auth_providers: {{ keys: {{ api_key: {{ keys: {{ acme-1: "{}", bolt-1: "{}", core-1: "{}" }} }} }} }}
consumers:
  acme: {{ credentials: {{ keys: acme-1 }}, time_zone: {morning} }}
  bolt: {{ credentials: {{ keys: bolt-1 }} }}
  core:
    credentials: {{ keys: core-1 }}
    time_zone: {morning}
    rate_limit: {{ limit: 1, window: day, by: client_ip }}
services:
  a:
    base_url: http://{}
    auth: keys
    rate_limit: {{ limit: 2, window: day, time_zone: {noon}, by: consumer }}
    routes: [/a]
"#,
        digest("key-acme"),
        digest("key-bolt"),
        digest("key-core"),
        upstream.address
    ))
    .await;
    let get = |key| gateway.get("/a").header("x-api-key", key).send();
    for (key, limit, rest) in [
        ("key-acme", 2, longer),
        ("key-bolt", 2, to_midnight),
        ("key-core", 1, longer),
    ] {
        for count in 1..=limit {
            let answer = get(key).await.assert_status(200);
            assert_eq!(left(&answer), limit - count);
            let policy = answer.header("ratelimit-policy").unwrap();
            assert!(policy.ends_with(&format!(";q={limit};w=86400")), "{policy}");
        }
        let retry = retry_after(&get(key).await.assert_status(429));
        // As many seconds as the test has taken.
        assert!(
            (rest - PATIENCE.as_secs()..=rest + 1).contains(&retry),
            "{retry}, not {rest}"
        );
    }
    // Neither another limit nor a reload makes a spent quota whole.
    gateway.edit("routes: [/a]", "routes: [/a, /b]");
    let deadline = Instant::now() + PATIENCE;
    while gateway.get("/b").send().await.status == 404 {
        assert!(Instant::now() < deadline, "no reload");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    get("key-acme").await.assert_status(429);
}
