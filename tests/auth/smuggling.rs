//! What clients send to pose as somebody, byte by byte.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{Gateway, Upstream};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({"sub": "alice", "exp": now.as_secs() + 600});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::default(), &claims, &key).unwrap()
}

async fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&format!(
        "auth_providers: {{ main: {{ jwt: {{ algorithms: HS256, keys: {{ secret: \"{SECRET}\" }},
           token_from: [bearer, \"header:X-Token\", \"cookie:session\"],
           forward_claims: {{ sub: X-User-Id, team: X-Team }} }} }} }}
services: {{ a: {{ base_url: \"http://{}\", routes: [{{ path: /a, auth: main }}, /open] }} }}\n",
        upstream.address
    ))
    .await
}

/// The status of the answer to these header lines.
async fn status(gateway: &Gateway, path: &str, lines: &[&str]) -> u16 {
    let lines = lines.join("\r\n");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n\r\n");
    let answer = gateway.exchange(request.as_bytes()).await;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    status
        .parse()
        .unwrap_or_else(|_| panic!("{lines}: {answer}"))
}

#[tokio::test]
async fn a_second_credential_is_refused_wherever_it_stands() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let token = token();
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(status(&gateway, "/a", &[&bearer]).await, 200);
    for lines in [
        vec![&*bearer, &bearer],
        vec![&bearer, &format!("AUTHORIZATION: Bearer {token}")],
        vec![&bearer, "authorization: Bearer a.b.c"],
        vec!["authorization: Basic YTpi", &bearer],
        vec![&format!("{bearer}, Bearer {token}")],
        vec![&format!("{bearer},{token}")],
        vec![&format!("{bearer} {token}")],
        vec![&bearer, &format!("X-Token: {token}")],
        vec![&bearer, &format!("Cookie: session={token}")],
        vec![&format!("Cookie: session={token}; session={token}")],
        vec![
            &format!("Cookie: session={token}"),
            &format!("Cookie: session={token}"),
        ],
        vec![&format!("X-Token: {token}"), &format!("x-token: {token}")],
    ] {
        assert_eq!(status(&gateway, "/a", &lines).await, 401, "{lines:?}");
    }
    // A line that is folded into the one before is no line at all (RFC 9112 §5.2).
    let folded = status(
        &gateway,
        "/a",
        &["Authorization: Bearer", &format!(" {token}")],
    )
    .await;
    assert!([400, 401].contains(&folded), "{folded}");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn no_spelling_of_an_identity_header_passes() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let bearer = format!("Authorization: Bearer {}", token());
    let mut passed = 0;
    for smuggled in [
        "X-User-Id: mallory",
        "x-user-id: mallory",
        "X-USER-ID: mallory",
        "x-UsEr-iD: mallory",
        "X_User_Id: mallory",
        "x_user-id: mallory",
        "X-USER_ID: mallory",
        "X-User-Id: mallory\r\nX-User-Id: mallory",
        "X-User-Id:mallory\r\nX_USER_ID:\tmallory",
        "X-User-Id: mallory\r\nConnection: X-User-Id",
        "X-User-Id:",
        "X-Team: red",
        "x_team: red",
    ] {
        for (path, expected) in [("/a", &["alice"][..]), ("/open", &[])] {
            assert_eq!(
                status(&gateway, path, &[&bearer, smuggled]).await,
                200,
                "{smuggled}"
            );
            passed += 1;
            let seen = upstream.last();
            assert_eq!(seen.headers("x-user-id"), expected, "{path}: {smuggled}");
            let others = seen
                .headers
                .keys()
                .map(|name| name.as_str().replace('_', "-"));
            let posing = others.filter(|name| name == "x-user-id" || name == "x-team");
            assert_eq!(posing.count(), expected.len(), "{path}: {smuggled}");
        }
    }
    assert_eq!(upstream.seen().len(), passed);
    // What is no field name never gets so far.
    for broken in [
        "X-User-Id : mallory",
        "X-User-Id\t: mallory",
        "\u{a0}X-User-Id: mallory",
    ] {
        assert_eq!(
            status(&gateway, "/open", &[broken]).await,
            400,
            "{broken:?}"
        );
    }
    assert_eq!(upstream.seen().len(), passed);
}

#[tokio::test]
async fn who_a_request_is_from_is_no_matter_of_one_connection() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream).await;
    let bearer = format!("Authorization: Bearer {}", token());
    // A client that calls the identity a matter of its connection does not get rid of it.
    for listed in [
        "X-User-Id",
        "te, x-user-id",
        "keep-alive, X_User_Id, X-USER-ID",
    ] {
        let connection = format!("Connection: {listed}");
        assert_eq!(status(&gateway, "/a", &[&bearer, &connection]).await, 200);
        assert_eq!(upstream.last().headers("x-user-id"), ["alice"], "{listed}");
    }
    // Nor does it get in behind the body.
    let request = format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{bearer}\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-Id\r\n\r\n1\r\na\r\n0\r\nX-User-Id: mallory\r\n\r\n"
    );
    gateway.exchange(request.as_bytes()).await;
    let seen = upstream.last();
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.headers("x-user-id"), ["alice"]);
}
