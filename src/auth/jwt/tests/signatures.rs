//! Signatures that are almost right.

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ecdsa::EcdsaSig;

use super::*;

/// A token of another signature, which `change` makes from the raw bytes of the right one.
fn resigned(token: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(change(raw)))
}

fn signed(name: &str, key: &PKey<Private>) -> String {
    let algorithm = name.parse().unwrap();
    let header = json!({"alg": name}).to_string();
    let key = encoding(algorithm, key);
    sign(&header, &good().to_string(), &key, algorithm)
}

fn number(bytes: &[u8]) -> BigNum {
    BigNum::from_slice(bytes).unwrap()
}

#[test]
fn signatures_on_curves_have_one_form_and_numbers_in_range() {
    for (name, curve, size) in [
        ("ES256", Nid::X9_62_PRIME256V1, 32),
        ("ES384", Nid::SECP384R1, 48),
    ] {
        let key = ec(curve);
        let provider = with_key(name, &public(&key));
        let token = signed(name, &key);
        assert!(present(&provider, &token, NOW).is_ok());
        let mut order = BigNum::new().unwrap();
        let group = EcGroup::from_curve_name(curve).unwrap();
        let mut context = BigNumContext::new().unwrap();
        group.order(&mut order, &mut context).unwrap();
        let padded = |number: &BigNumRef| number.to_vec_padded(size).unwrap();
        let zero = vec![0; size as usize];
        let order_bytes = padded(&order);
        let halves = |raw: &[u8]| {
            let (r, s) = raw.split_at(size as usize);
            (r.to_vec(), s.to_vec())
        };
        type Change<'c> = Box<dyn FnOnce(Vec<u8>) -> Vec<u8> + 'c>;
        let forgeries: [(&str, Change<'_>); 9] = [
            ("r = s = 0", Box::new(|_| [&zero[..], &zero].concat())),
            ("r = 0", Box::new(|raw| [&zero, &*halves(&raw).1].concat())),
            ("s = 0", Box::new(|raw| [&*halves(&raw).0, &zero].concat())),
            (
                "r = n",
                Box::new(|raw| [&order_bytes, &*halves(&raw).1].concat()),
            ),
            (
                "s = n",
                Box::new(|raw| [&*halves(&raw).0, &order_bytes].concat()),
            ),
            (
                "swapped",
                Box::new(|raw| {
                    let (r, s) = halves(&raw);
                    [s, r].concat()
                }),
            ),
            ("longer", Box::new(|raw| [raw, vec![0]].concat())),
            (
                "shorter",
                Box::new(|mut raw| {
                    raw.pop();
                    raw
                }),
            ),
            (
                "DER",
                Box::new(|raw| {
                    let (r, s) = halves(&raw);
                    let signature = EcdsaSig::from_private_components(number(&r), number(&s));
                    signature.unwrap().to_der().unwrap()
                }),
            ),
        ];
        for (case, change) in forgeries {
            let forged = resigned(&token, change);
            assert_eq!(
                refusal(&provider, &forged),
                Refusal::BadSignature,
                "{name}: {case}"
            );
        }
        // The second signature that every one on such a curve has. JOSE allows both, and nothing here
        // takes a signature for the name of a token.
        let mirrored = resigned(&token, |raw| {
            let (r, s) = halves(&raw);
            [r, padded(&(&order - &*number(&s)))].concat()
        });
        assert_ne!(mirrored, token);
        assert!(present(&provider, &mirrored, NOW).is_ok(), "{name}");
    }
}

#[test]
fn signatures_of_ed25519_have_one_form() {
    let key = PKey::generate_ed25519().unwrap();
    let provider = with_key("EdDSA", &public(&key));
    let token = signed("EdDSA", &key);
    assert!(present(&provider, &token, NOW).is_ok());
    // RFC 8032 §5.1.
    let order =
        BigNum::from_hex_str("1000000000000000000000000000000014DEF9DEA2F79CD65812631A5CF5D3ED");
    let more = resigned(&token, |raw| {
        let (point, scalar) = raw.split_at(32);
        let scalar: Vec<u8> = scalar.iter().rev().copied().collect();
        let mut sum = (&number(&scalar) + &*order.unwrap())
            .to_vec_padded(32)
            .unwrap();
        sum.reverse();
        [point, &sum].concat()
    });
    assert_eq!(refusal(&provider, &more), Refusal::BadSignature);
    let none = resigned(&token, |_| vec![0; 64]);
    assert_eq!(refusal(&provider, &none), Refusal::BadSignature);
}

#[test]
fn signatures_of_rsa_are_as_long_as_the_key_and_of_the_kind_that_the_token_says() {
    let provider = with_key("[RS256, PS256]", &public(&RSA));
    for name in ["RS256", "PS256"] {
        let token = signed(name, &RSA);
        assert!(present(&provider, &token, NOW).is_ok());
        for forged in [
            resigned(&token, |raw| [vec![0], raw].concat()),
            resigned(&token, |raw| [raw, vec![0]].concat()),
            resigned(&token, |raw| raw[1..].to_vec()),
            resigned(&token, |raw| vec![0; raw.len()]),
            resigned(&token, |raw| vec![0xff; raw.len()]),
        ] {
            assert_eq!(refusal(&provider, &forged), Refusal::BadSignature, "{name}");
        }
    }
    let (message, _) = signed("PS256", &RSA)
        .rsplit_once('.')
        .map(|(m, s)| (m.to_owned(), s.to_owned()))
        .unwrap();
    let other = encoding(Algorithm::RS256, &RSA);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &other, Algorithm::RS256);
    let relabelled = format!("{message}.{}", signature.unwrap());
    assert_eq!(refusal(&provider, &relabelled), Refusal::BadSignature);
}

#[test]
fn part_of_a_code_is_no_code() {
    let provider = with_secret("");
    let whole = token(&good());
    for length in [1, 16, 31] {
        let part = resigned(&whole, |raw| raw[..length].to_vec());
        assert_eq!(refusal(&provider, &part), Refusal::BadSignature);
    }
    let more = resigned(&whole, |raw| [raw, vec![0]].concat());
    assert_eq!(refusal(&provider, &more), Refusal::BadSignature);
}
