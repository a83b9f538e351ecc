//! Bodies that were signed, and others.

use super::*;

const BODY: &[u8] = b"{\"hello\": \"world\"}";

fn sha_256(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(openssl::sha::sha256(body)))
}

fn sha_512(body: &[u8]) -> String {
    format!("sha-512=:{}:", STANDARD.encode(openssl::sha::sha512(body)))
}

#[test]
fn a_body_is_the_one_that_was_signed() {
    let sha256 = sha_256(BODY);
    let sha512 = sha_512(BODY);
    let wrong = sha_512(b"");
    let body = |digest: &str, body: &[u8]| {
        let request = with_field("content-digest", digest).with("content-length", "18");
        request.with_body(&with(""), body)
    };
    for digest in [
        sha256.clone(),
        sha512.clone(),
        format!("{sha256}, {sha512}"),
        format!("md5=:AAAA:, {sha512}"),
    ] {
        assert_eq!(body(&digest, BODY), Ok(()), "{digest}");
        for other in [
            &BODY[..17],
            b"",
            b"{\"hello\": \"World\"}",
            b"{\"hello\": \"world\"}\n",
        ] {
            assert_eq!(body(&digest, other), Err(Refusal::WrongContent), "{digest}");
        }
    }
    for (digest, refusal) in [
        // All of them must be right.
        (format!("{sha256}, {wrong}"), Refusal::WrongContent),
        ("md5=:AAAA:".to_owned(), Refusal::AlgorithmNotAllowed),
        ("sha-256=:AAAA:".to_owned(), Refusal::MalformedCredential),
        (format!("{sha256}, {sha256}"), Refusal::MalformedCredential),
        (sha256.replace('=', "=\""), Refusal::MalformedCredential),
        ("sha-256".to_owned(), Refusal::MalformedCredential),
        ("SHA-256=:AAAA:".to_owned(), Refusal::MalformedCredential),
        (String::new(), Refusal::AlgorithmNotAllowed),
    ] {
        assert_eq!(body(&digest, BODY), Err(refusal), "{digest}");
    }
    // A second field is a change of the first.
    let twice = with_field("content-digest", &sha256).adding("content-digest", &sha512);
    assert_eq!(twice.refusal(&with("")), Refusal::BadSignature);
}

#[test]
fn a_body_that_was_not_signed_is_refused_where_one_must_be() {
    let sha256 = sha_256(BODY);
    let unsigned = || {
        good()
            .with("content-digest", &sha256)
            .with("content-length", "18")
    };
    let chunked = good().with("transfer-encoding", "chunked");
    for request in [unsigned(), unsigned().without("content-digest"), chunked] {
        assert_eq!(
            request.refusal(&with("")),
            Refusal::NotCovered,
            "{request:?}"
        );
        assert_eq!(request.with_body(&with(", body: optional"), b"x"), Ok(()));
        assert_eq!(request.with_body(&with(", body: off"), b"x"), Ok(()));
    }
    // Nothing says so, but one comes.
    assert_eq!(good().with_body(&with(""), b""), Ok(()));
    assert_eq!(
        good().with_body(&with(""), b"x"),
        Err(Refusal::WrongContent)
    );
    assert_eq!(
        good().with("content-length", "0").with_body(&with(""), b""),
        Ok(())
    );
    // A digest that is covered counts, unless none does.
    let signed = with_field("content-digest", &sha256);
    let other = |body: &str| signed.with_body(&with(body), b"x");
    assert_eq!(other(", body: optional"), Err(Refusal::WrongContent));
    assert_eq!(other(", body: off"), Ok(()));
    let nothing = sha_256(b"");
    assert_eq!(
        with_field("content-digest", &nothing).with_body(&with(""), b""),
        Ok(())
    );
}

#[test]
fn a_body_that_comes_again_is_read_again() {
    let request = with_field("content-digest", &sha_256(BODY));
    let (_, mut content) = request.authenticate(&with("")).unwrap();
    content.add(&BODY[..10]).unwrap();
    content.restart();
    content.add(BODY).unwrap();
    assert_eq!(content.end(), Ok(()));
}
