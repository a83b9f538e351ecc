//! Tokens whose parts are spelled, nested or sized oddly. Whoever signs them has the key, so nothing but
//! their form is wrong.

use openssl::bn::{BigNum, BigNumContext};

use super::*;

/// Signs parts as they are.
fn signed(header: &str, claims: &str) -> String {
    let message = format!("{header}.{claims}");
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.unwrap())
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

const HEADER: &str = r#"{"alg":"HS256"}"#;
/// With bytes that the two alphabets of base64 spell differently.
const CLAIMS: &str = r#"{"exp":1900000000,"sub":"~~~???>>>"}"#;

/// The same bytes, spelled with bits set that mean nothing.
fn respelled(part: &str) -> String {
    let mut text = part.to_owned();
    let last = text.pop().unwrap();
    text.push(char::from(last as u8 + 1));
    text
}

#[test]
fn a_part_has_one_spelling() {
    let provider = with_secret("");
    let (header, claims) = (encoded(HEADER), encoded(CLAIMS));
    assert!(present(&provider, &signed(&header, &claims), NOW).is_ok());
    let other_alphabet = claims.replace('-', "+").replace('_', "/");
    assert_ne!(other_alphabet, claims);
    // Lengths at which bits are left over.
    let (spare_header, spare_claims) =
        (encoded(format!("{HEADER} ")), encoded(format!("{CLAIMS} ")));
    assert!(present(&provider, &signed(&spare_header, &spare_claims), NOW).is_ok());
    for (header, claims) in [
        (format!("{spare_header}=="), claims.clone()),
        (header.clone(), format!("{spare_claims}==")),
        (respelled(&spare_header), claims.clone()),
        (header.clone(), respelled(&spare_claims)),
        (header.clone(), other_alphabet),
        (header.clone(), format!("{claims}A")),
        (String::new(), claims.clone()),
        (header.clone(), String::new()),
    ] {
        let refused = refusal(&provider, &signed(&header, &claims));
        assert_eq!(refused, Refusal::MalformedToken, "{header}.{claims}");
    }
    // What only looks like a token is none at all.
    let whole = signed(&header, &claims);
    for credential in [
        whole.replacen('.', "%2E", 1),
        whole.replacen('.', ". ", 1),
        format!("\"{whole}\""),
        format!("{whole},{whole}"),
    ] {
        assert_eq!(
            refusal(&provider, &credential),
            Refusal::MalformedCredential,
            "{credential}"
        );
    }
}

#[test]
fn a_part_is_one_object_of_text() {
    let provider = with_secret("");
    let refused = |header: &[u8], claims: &[u8]| {
        refusal(&provider, &signed(&encoded(header), &encoded(claims)))
    };
    for header in [
        &b"[]"[..],
        b"null",
        b"\"HS256\"",
        b"{\"alg\":\"HS256\"}{}",
        b"\xef\xbb\xbf{\"alg\":\"HS256\"}",
        b"{\"alg\":\"HS256\",\"x\":\"\xff\"}",
        b"{\"alg\":\"HS256\",\"x\":\"\\ud800\"}",
        b"{\"alg\":\"HS256\",\"\\ud800\":1}",
        b"{\"alg\":[\"HS256\"]}",
        b"{\"alg\":256}",
        b"{\"alg\":null}",
        b"{}",
        b"{\"alg\":\"HS256\",}",
        b"{\"alg\":\"HS256\"",
    ] {
        let text = String::from_utf8_lossy(header);
        assert_eq!(
            refused(header, CLAIMS.as_bytes()),
            Refusal::MalformedToken,
            "{text}"
        );
    }
    for claims in [
        &b"[]"[..],
        b"1900000000",
        b"\"{}\"",
        b"{\"exp\":1900000000,\"sub\":\"\xff\"}",
        b"{\"exp\":1900000000,\"sub\":\"\xc0\xae\"}",
        b"{\"exp\":1900000000,\"sub\":\"\\udc00\"}",
        b"{\"exp\":1900000000}\0",
        b"{\"exp\":NaN}",
        b"{\"exp\":0x71000000}",
        b"{'exp':1900000000}",
    ] {
        let text = String::from_utf8_lossy(claims);
        assert_eq!(
            refused(HEADER.as_bytes(), claims),
            Refusal::MalformedToken,
            "{text}"
        );
    }
}

#[test]
fn parts_may_be_nested_but_not_without_end() {
    let provider = with_secret("");
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        encoded(format!(r#"{{"exp":1900000000,"a":{open}{close}}}"#))
    };
    assert!(present(&provider, &signed(&encoded(HEADER), &nested(100)), NOW).is_ok());
    let deep = signed(&encoded(HEADER), &nested(2500));
    assert_eq!(refusal(&provider, &deep), Refusal::MalformedToken);
    let unclosed = encoded(format!(r#"{{"alg":"HS256","a":{}"#, "[{\"a\":".repeat(90)));
    let deep = signed(&unclosed, &encoded(CLAIMS));
    assert_eq!(refusal(&provider, &deep), Refusal::MalformedToken);
}

#[test]
fn sizes_are_bounded_before_anything_is_read() {
    let provider = with_secret("");
    let padded = |length: usize| {
        let spaces = " ".repeat(length);
        (
            encoded(format!("{HEADER}{spaces}")),
            encoded(format!("{CLAIMS}{spaces}")),
        )
    };
    let (header, claims) = (encoded(HEADER), encoded(CLAIMS));
    let (longer, _) = padded(800);
    assert_eq!(
        refusal(&provider, &signed(&longer, &claims)),
        Refusal::MalformedToken
    );
    let (_, longer) = padded(5900);
    assert!(present(&provider, &signed(&header, &longer), NOW).is_ok());
    let (_, longer) = padded(6200);
    assert_eq!(
        refusal(&provider, &signed(&header, &longer)),
        Refusal::TooLong
    );
}

#[test]
fn a_key_id_is_a_name_and_nothing_else() {
    let key = ec(Nid::X9_62_PRIME256V1);
    let set = json!({"keys": [jwk_of(&key, "a")]}).to_string();
    let provider = provider(&format!(
        "{{algorithms: ES256, keys: {{jwks: {}}}}}",
        json!(set)
    ));
    let with_id = |id: Value| {
        let header = json!({"alg": "ES256", "kid": id}).to_string();
        let private = encoding(Algorithm::ES256, &key);
        sign(&header, &good().to_string(), &private, Algorithm::ES256)
    };
    assert!(present(&provider, &with_id(json!("a")), NOW).is_ok());
    for id in [
        "",
        "A",
        "a ",
        "a\0",
        "../../etc/passwd",
        "' OR 1=1 --",
        "https://evil.example/jwks",
        "*",
    ] {
        assert_eq!(
            refusal(&provider, &with_id(json!(id))),
            Refusal::UnknownKey,
            "{id}"
        );
    }
    for id in [
        json!(["a"]),
        json!({"a": "a"}),
        json!(null),
        json!(true),
        json!("k".repeat(257)),
    ] {
        assert_eq!(
            refusal(&provider, &with_id(id.clone())),
            Refusal::MalformedToken,
            "{id}"
        );
    }
    assert_eq!(
        refusal(&provider, &with_id(json!("k".repeat(1 << 20)))),
        Refusal::TooLong
    );
}

/// A public key as a set has it.
fn jwk_of(key: &PKey<Private>, id: &str) -> Value {
    let key = key.ec_key().unwrap();
    let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
    let mut context = BigNumContext::new().unwrap();
    key.public_key()
        .affine_coordinates(key.group(), &mut x, &mut y, &mut context)
        .unwrap();
    let coordinate = |number: &BigNum| encoded(number.to_vec_padded(32).unwrap());
    json!({"kty": "EC", "crv": "P-256", "kid": id, "x": coordinate(&x), "y": coordinate(&y)})
}
