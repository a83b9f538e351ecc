//! Which requests may come on a connection, and what comes in clear.

use std::sync::Arc;

use http_body_util::Full;
use hyper::{HeaderMap, Request};
use tokio::net::TcpStream;

use super::gateway;
use super::http2::{ask, connect, get, over};
use super::support::{Authority, Client, Gateway, Upstream, dial, free_port};

fn host(name: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", name.parse().unwrap());
    headers
}

#[tokio::test]
async fn a_request_for_a_host_that_the_connection_was_not_made_for_is_misdirected() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let config = Arc::new(authority.client(&["http/1.1"]));
    let stream = dial(gateway.address, "a.example", &config).await.unwrap();
    let mut client = Client::over(stream, "a.example").await;
    for (name, status) in [
        ("a.example", 200),
        ("A.EXAMPLE:8443", 200),
        ("localhost", 200),
        ("x.b.example", 421),
        ("nobody.example", 421),
        ("a.example", 200),
    ] {
        client
            .get_with("/", &host(name))
            .await
            .assert_status(status);
    }
    let sender = connect(gateway.address, &authority, "x.b.example").await;
    for (name, status) in [
        ("x.b.example", 200),
        ("y.b.example", 200),
        ("a.example", 421),
    ] {
        let request = Request::get(format!("https://{name}/"))
            .body(Full::default())
            .unwrap();
        assert_eq!(ask(sender.clone(), request).await.0, status, "{name}");
    }
    let line = gateway.log(9).await;
    let misdirected = line
        .iter()
        .filter(|it| it["flags"][0] == "misdirected")
        .count();
    assert_eq!(misdirected, 3);
    assert_eq!(upstream.seen().len(), 6);
}

#[tokio::test]
async fn who_asks_for_no_name_may_ask_for_any_host() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let gateway = gateway(&authority, &upstream, "").await;
    let config = Arc::new(authority.client(&["http/1.1"]));
    let stream = dial(gateway.address, "127.0.0.1", &config).await.unwrap();
    let mut client = Client::over(stream, "127.0.0.1").await;
    client.get("/").await.assert_status(200);
    client
        .get_with("/", &host("a.example"))
        .await
        .assert_status(200);
}

/// A gateway that encrypts at one address and redirects at another, which comes second.
async fn redirecting(
    authority: &Authority,
    upstream: &Upstream,
    server: &str,
) -> (Gateway, std::net::SocketAddr) {
    let directory = tempfile::tempdir().unwrap();
    authority.write(directory.path(), "a", &["a.example"]);
    let clear = free_port();
    let config = format!(
        "server:
  listen:
    - {{ address: $LISTEN, tls: {{ certificates: {{ cert: a.pem, key: a.key }} }} }}
    - {{ address: \"{clear}\", redirect_https: true }}
  {server}
admin: {{ listen: $ADMIN }}
security_headers: api
services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}] }} }}
",
        upstream.address
    );
    (Gateway::start_in(directory, &config, &[]).await, clear)
}

#[tokio::test]
async fn what_comes_in_clear_is_sent_to_where_it_is_encrypted() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let (gateway, clear) = redirecting(&authority, &upstream, "").await;
    let mut client = Client::connect(clear, None).await;
    for (target, location) in [
        ("/x?y=1", "https://a.example/x?y=1"),
        (
            "//evil.example/%0d%0a",
            "https://a.example//evil.example/%0d%0a",
        ),
    ] {
        let answer = client.get_with(target, &host("a.example:8080")).await;
        let answer = answer
            .assert_status(308)
            .assert_header("location", location);
        answer.assert_no_header("strict-transport-security");
    }
    let challenge = client
        .get_with("/.well-known/acme-challenge/x", &host("a.example"))
        .await;
    challenge
        .assert_status(200)
        .assert_no_header("strict-transport-security");
    assert_eq!(upstream.seen().len(), 1);
    // Where it is encrypted, it is forwarded, and browsers are told to stay there.
    let config = Arc::new(authority.client(&["http/1.1"]));
    let stream = dial(gateway.address, "a.example", &config).await.unwrap();
    let answer = Client::over(stream, "a.example")
        .await
        .get("/")
        .await
        .assert_status(200);
    answer.assert_header(
        "strict-transport-security",
        "max-age=31536000; includeSubDomains",
    );
}

#[tokio::test]
async fn what_a_trusted_proxy_took_encrypted_is_not_sent_away() {
    let (authority, upstream) = (Authority::new(), Upstream::echo().await);
    let server = "trusted_proxies: [127.0.0.1/32]";
    let (_gateway, clear) = redirecting(&authority, &upstream, server).await;
    let mut client = Client::connect(clear, None).await;
    for (scheme, status) in [("https", 200), ("http", 308)] {
        let mut headers = host("a.example");
        headers.insert("x-forwarded-proto", scheme.parse().unwrap());
        client.get_with("/", &headers).await.assert_status(status);
    }
    assert_eq!(upstream.last().headers("x-forwarded-proto"), ["https"]);
}

/// A gateway for clients in clear, with more at its listener; its routes are `routes`.
async fn in_clear(upstream: &Upstream, listener: &str, routes: &str) -> Gateway {
    let config = format!(
        "server: {{ threads: 2, listen: {{ address: $LISTEN, {listener} }} }}
admin: {{ listen: $ADMIN }}
services: {{ a: {{ base_url: \"http://{}\", routes: [{routes}] }} }}
",
        upstream.address
    );
    Gateway::start(&config).await
}

#[tokio::test]
async fn what_comes_in_clear_by_http2_is_sent_there_too() {
    let upstream = Upstream::echo().await;
    let listener = "http2: true, redirect_https: true";
    let gateway = in_clear(&upstream, listener, "{ prefix: / }").await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (status, _) = ask(over(stream).await, get("http://a.example/x")).await;
    assert_eq!(status, 308);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn routes_may_be_sent_there_although_the_listener_says_otherwise_and_the_other_way_round() {
    let upstream = Upstream::echo().await;
    let routes = "{ path: /open, redirect_https: false }, { path: /here, redirect_https: 444 },
        { path: /shut, redirect_https: true }, { prefix: /rest, methods: [GET] }";
    let (here, there) = (None, Some("https://a.example"));
    for (listener, expected) in [
        (
            "redirect_https: false",
            [here, Some("https://a.example:444"), there, here],
        ),
        // The listener knows the port that its clients reach.
        (
            "redirect_https: 8443",
            [
                here,
                Some("https://a.example:8443"),
                Some("https://a.example:8443"),
                Some("https://a.example:8443"),
            ],
        ),
    ] {
        let gateway = in_clear(&upstream, listener, routes).await;
        let mut client = Client::connect(gateway.address, None).await;
        for (path, expected) in std::iter::zip(["/open", "/here", "/shut", "/rest"], expected) {
            let answer = client.get_with(path, &host("a.example")).await;
            match expected {
                None => answer.assert_status(200).assert_no_header("location"),
                Some(place) => answer
                    .assert_status(308)
                    .assert_header("location", &format!("{place}{path}")),
            };
        }
        // What no route takes is for the listener alone to decide.
        let answer = client.get_with("/nothing", &host("a.example")).await;
        answer.assert_status(if listener.ends_with("false") {
            404
        } else {
            308
        });
        let log = gateway.log(5).await;
        let routes: Vec<_> = log.iter().map(|line| line["route"].as_str()).collect();
        let expected = [
            Some("/open"),
            Some("/here"),
            Some("/shut"),
            Some("/rest"),
            None,
        ];
        assert_eq!(routes, expected, "{log:?}");
    }
}
