//! Floods of bad credentials: what is costly to verify is not verified for ever for who sends nonsense.

use std::net::{IpAddr, SocketAddr};

use crate::support::{Answer, Client, Gateway, Upstream};
use http::{HeaderMap, HeaderValue, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Clients that are no trusted proxies.
const ALICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const MALLORY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));

struct Stage {
    gateway: Gateway,
    upstream: Upstream,
    key: EncodingKey,
    wrong: EncodingKey,
}

fn bearer(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

fn private(key: &KeyPair) -> EncodingKey {
    EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap()
}

async fn stage(auth_failures: &str) -> Stage {
    let upstream = Upstream::echo().await;
    let generate = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let (key, wrong) = (generate(), generate());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("public.pem"), key.public_key_pem()).unwrap();
    let config = format!(
        r#"
server: {{ listen: $LISTEN, threads: 2, trusted_proxies: [127.0.0.1/32] }}
admin: {{ listen: $ADMIN }}
auth_failures: {auth_failures}
auth_providers:
  main: {{ jwt: {{ issuer: main, algorithms: [ES256], keys: {{ public_key: {{ file: public.pem }} }} }} }}
  partners: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: {SECRET} }} }} }}
services:
  a:
    base_url: http://{}
    auth: main
    routes: [/a, {{ path: /both, auth: {{ any_of: [main, partners] }} }}, {{ path: /open, auth: off }}]
"#,
        upstream.address
    );
    Stage {
        gateway: Gateway::start_in(directory, &config, &[]).await,
        upstream,
        key: private(&key),
        wrong: private(&wrong),
    }
}

impl Stage {
    fn token(&self, subject: &str, key: &EncodingKey) -> String {
        let claims = json!({"exp": 4_000_000_000_u64, "iss": "main", "sub": subject});
        encode(&Header::new(Algorithm::ES256), &claims, key).unwrap()
    }

    async fn present(&self, client: &str, token: &str) -> Answer {
        self.present_at("/a", client, token).await
    }

    async fn present_at(&self, path: &str, client: &str, token: &str) -> Answer {
        let request = self.gateway.get(path).header("x-forwarded-for", client);
        request
            .header("authorization", &format!("Bearer {token}"))
            .send()
            .await
    }

    async fn connect(&self, from: IpAddr) -> Client {
        Client::connect(self.gateway.address, Some(from)).await
    }

    fn guess(&self, number: usize) -> HeaderMap {
        bearer(&self.token(&number.to_string(), &self.wrong))
    }

    /// An address sends so many bad tokens, each over a connection of its own.
    async fn guesses(&self, from: IpAddr, count: usize) {
        for number in 0..count {
            let mut client = self.connect(from).await;
            let answer = client.get_with("/a", &self.guess(number)).await;
            answer.assert_status(401);
        }
    }

    async fn good(&self, client: &str, subject: &str) -> Answer {
        self.present(client, &self.token(subject, &self.key)).await
    }

    async fn bad(&self, client: &str, number: usize) -> Answer {
        self.present(client, &self.token(&number.to_string(), &self.wrong))
            .await
    }
}

#[tokio::test]
async fn after_many_bad_signatures_an_address_has_to_wait_but_for_what_is_known() {
    let stage = stage("{ signatures: 10, window: 1h }").await;
    let known = stage.token("known", &stage.key);
    stage.present("192.0.2.1", &known).await.assert_status(200);
    let first = stage.token("first", &stage.wrong);
    stage.present("192.0.2.1", &first).await.assert_status(401);
    for number in 1..10 {
        stage.bad("192.0.2.1", number).await.assert_status(401);
    }
    let refused = stage.bad("192.0.2.1", 11).await.assert_status(429);
    assert!(
        refused.text().contains("too many bad credentials"),
        "{refused:?}"
    );
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=7200).contains(&wait), "{wait}");
    // Nobody looks at the token any more, so a good one is not known to be one.
    stage.good("192.0.2.1", "new").await.assert_status(429);
    stage.present("192.0.2.1", &known).await.assert_status(200);
    stage.good("192.0.2.2", "new").await.assert_status(200);
    // Bad ones that are remembered as such, or that no signature could make good, cost nothing.
    stage.present("192.0.2.1", &first).await.assert_status(401);
    stage.present("192.0.2.1", "a.b.c").await.assert_status(401);
    let log = stage.gateway.log(17).await;
    let throttled = log
        .iter()
        .filter(|line| line["flags"] == json!(["rate_limited"]));
    assert_eq!(throttled.count(), 2);
    assert_eq!(stage.upstream.seen().len(), 3);
}

#[tokio::test]
async fn whose_token_it_is_decides_where_there_are_several_providers() {
    let stage = stage("{ signatures: 3, window: 1h }").await;
    for number in 0..3 {
        stage.bad("192.0.2.1", number).await.assert_status(401);
    }
    let claims = json!({"exp": 4_000_000_000_u64, "iss": "partner"});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let partner = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    let answer = stage.present_at("/both", "192.0.2.1", &partner).await;
    answer.assert_status(200);
    let main = stage.token("new", &stage.key);
    let answer = stage.present_at("/both", "192.0.2.1", &main).await;
    answer.assert_status(429);
}

#[tokio::test]
async fn good_ones_are_not_counted_and_off_is_off() {
    let few = stage("{ signatures: 1 }").await;
    for number in 0..20 {
        few.good("192.0.2.1", &number.to_string())
            .await
            .assert_status(200);
    }
    let off = stage("off").await;
    for number in 0..40 {
        off.bad("192.0.2.1", number).await.assert_status(401);
    }
    off.good("192.0.2.1", "new").await.assert_status(200);
}

#[tokio::test]
async fn others_are_served_while_many_send_nonsense() {
    let stage = stage("{ signatures: 100000 }").await;
    let known = stage.token("known", &stage.key);
    stage.present("192.0.2.9", &known).await.assert_status(200);
    let flood = (0..400).map(|number| stage.bad("192.0.2.1", number));
    let flood = futures_util::future::join_all(flood);
    let others = async {
        for number in 0..20 {
            stage.gateway.get("/open").send().await.assert_status(200);
            stage.present("192.0.2.9", &known).await.assert_status(200);
            stage
                .good("192.0.2.9", &number.to_string())
                .await
                .assert_status(200);
        }
    };
    let (refused, ()) = tokio::join!(flood, others);
    // As many at once as there are processors; the rest wait, and none comes in.
    assert!(
        refused.iter().all(|answer| answer.status == 401),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_connection_that_goes_on_guessing_ends() {
    let stage = stage("{ signatures: 1000 }").await;
    let mut client = stage.connect(MALLORY).await;
    let answer = client.get_with("/a", &stage.guess(1)).await;
    answer
        .assert_status(401)
        .assert_header("connection", "keep-alive");
    let answer = client.get_with("/a", &stage.guess(2)).await;
    answer
        .assert_status(401)
        .assert_header("connection", "close");
    assert!(!client.is_open().await);
    // It is the connection that ends, not the client.
    let good = bearer(&stage.token("good", &stage.key));
    let mut client = stage.connect(MALLORY).await;
    client.get_with("/a", &good).await.assert_status(200);
}

#[tokio::test]
async fn a_client_with_good_credentials_may_be_wrong_now_and_then() {
    let stage = stage("{ signatures: 1000 }").await;
    let mut client = stage.connect(ALICE).await;
    for number in 0..20 {
        let good = bearer(&stage.token(&number.to_string(), &stage.key));
        client.get_with("/a", &good).await.assert_status(200);
        let answer = client.get_with("/a", &stage.guess(number)).await;
        answer
            .assert_status(401)
            .assert_header("connection", "keep-alive");
        // Showing nothing is no guess.
        let answer = client.get("/a").await;
        answer
            .assert_status(401)
            .assert_header("connection", "keep-alive");
    }
    assert!(client.is_open().await);
}

#[tokio::test]
async fn a_throttled_guess_is_the_last_of_its_connection_however_many_are_sent_at_once() {
    let stage = stage("{ signatures: 3, window: 1h }").await;
    stage.guesses(MALLORY, 3).await;
    let mut guesses = String::new();
    for number in 10..13 {
        let token = stage.token(&number.to_string(), &stage.wrong);
        guesses += &format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(MALLORY, 0)).unwrap();
    let mut stream = socket.connect(stage.gateway.address).await.unwrap();
    stream.write_all(guesses.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert!(answers.starts_with("HTTP/1.1 429 "), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    // What was answered is in the log, and nothing else.
    let log = stage.gateway.log(4).await;
    assert_eq!(log.len(), 4, "{log:?}");
}

#[tokio::test]
async fn a_trusted_proxy_keeps_its_connection_whatever_its_clients_send() {
    let stage = stage("{ signatures: 3, window: 1h }").await;
    let mut proxy = stage.gateway.connect().await;
    for number in 0..6 {
        let mut fields = stage.guess(number);
        fields.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        let answer = proxy.get_with("/a", &fields).await;
        answer
            .assert_status(if number < 3 { 401 } else { 429 })
            .assert_header("connection", "keep-alive");
    }
}

#[tokio::test]
async fn who_goes_on_guessing_unread_is_not_let_in_any_more() {
    let bound =
        |after: &str| format!("{{ signatures: 3, window: 1h, refuse_connections_after: {after} }}");
    for (after, is_refused) in [("2", true), ("off", false)] {
        let stage = stage(&bound(after)).await;
        let known = bearer(&stage.token("known", &stage.key));
        let mut open = stage.connect(MALLORY).await;
        open.get_with("/a", &known).await.assert_status(200);
        stage.guesses(MALLORY, 3).await;
        for number in 10..12 {
            // What is remembered still comes in.
            let mut new = stage.connect(MALLORY).await;
            new.get_with("/a", &known).await.assert_status(200);
            let mut guess = stage.connect(MALLORY).await;
            let answer = guess.get_with("/a", &stage.guess(number)).await;
            answer.assert_status(429);
        }
        // What is open already is served as ever.
        open.get_with("/a", &known).await.assert_status(200);
        let mut new = stage.connect(MALLORY).await;
        let answer = new.try_get_with("/a", &known).await;
        assert_eq!(answer.is_none(), is_refused, "{after}: {answer:?}");
        let mut other = stage.connect(ALICE).await;
        other.get_with("/a", &known).await.assert_status(200);
    }
}

#[tokio::test]
async fn a_trusted_proxy_may_always_connect() {
    let stage = stage("{ signatures: 3, window: 1h, refuse_connections_after: 1 }").await;
    for number in 0..3 {
        // For itself, without saying whom it speaks for.
        let mut proxy = stage.gateway.connect().await;
        let answer = proxy.get_with("/a", &stage.guess(number)).await;
        answer.assert_status(401);
    }
    for number in 4..7 {
        let mut proxy = stage.gateway.connect().await;
        let answer = proxy.get_with("/a", &stage.guess(number)).await;
        answer.assert_status(429);
    }
}
