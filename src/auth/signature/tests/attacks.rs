//! Changes of signed requests, and signatures that are no good.

use proptest::prelude::*;

use super::super::offered::Offered;
use super::*;

#[test]
fn whatever_is_covered_can_t_be_changed() {
    let changed = |change: fn(&mut Request)| {
        let mut request = with_field("x-tenant", "blue");
        change(&mut request);
        request.refusal(&with(""))
    };
    type Change = fn(&mut Request);
    let changes: [(&str, Change); 14] = [
        ("method", |it| it.method = Method::PUT),
        ("case of the method", |it| {
            it.method = "post".parse().unwrap()
        }),
        ("path", |it| it.uri = Uri::from_static("/order?id=7&x=1")),
        ("case of the path", |it| {
            it.uri = Uri::from_static("/Orders?id=7&x=1")
        }),
        ("encoding of the path", |it| {
            it.uri = Uri::from_static("/%6Frders?id=7&x=1")
        }),
        ("slash", |it| it.uri = Uri::from_static("/orders/?id=7&x=1")),
        ("query", |it| it.uri = Uri::from_static("/orders?id=8&x=1")),
        ("order of the query", |it| {
            it.uri = Uri::from_static("/orders?x=1&id=7")
        }),
        ("no query", |it| it.uri = Uri::from_static("/orders")),
        ("host", |it| {
            *it = it.clone().with("host", "api.example.org")
        }),
        ("port", |it| {
            *it = it.clone().with("host", "api.example.com:443")
        }),
        ("field", |it| *it = it.clone().with("x-tenant", "red")),
        ("field again", |it| {
            *it = it.clone().adding("x-tenant", "blue")
        }),
        ("no field", |it| *it = it.clone().without("x-tenant")),
    ];
    for (case, change) in changes {
        assert_eq!(changed(change), Refusal::BadSignature, "{case}");
    }
}

#[test]
fn a_signature_is_good_for_nothing_but_what_it_says() {
    let value = |input: &str| format!("s=({input}){}", parameters());
    for (case, input) in [
        ("another key", value(COVERED).replace("acme", "other")),
        (
            "another order",
            value("\"@path\" \"@authority\" \"@method\" \"@query\""),
        ),
        ("more", value(&format!("{COVERED} \"x-tenant\""))),
        ("another parameter", value(COVERED) + ";nonce=\"1\""),
        (
            "later",
            value(COVERED).replace(&NOW.to_string(), &(NOW + 1).to_string()),
        ),
        ("without the key", format!("s=({COVERED});created={NOW}")),
    ] {
        let request = good().with("signature-input", &input);
        let expected = match case {
            "without the key" => Refusal::UnknownCredential,
            _ => Refusal::BadSignature,
        };
        assert_eq!(request.refusal(&with("")), expected, "{case}");
    }
    let signature = good().headers["signature"].to_str().unwrap().to_owned();
    for (case, value) in [
        ("none", "s=::".to_owned()),
        ("short", "s=:AAAA:".to_owned()),
        ("long", signature.replace("=:", "AAAA=:")),
        ("another", format!("s=:{}:", hmac("", SECRET))),
        (
            "of another key",
            good_of_other().headers["signature"]
                .to_str()
                .unwrap()
                .to_owned(),
        ),
    ] {
        let refusal = good().with("signature", &value).refusal(&with(""));
        assert!(
            matches!(
                refusal,
                Refusal::BadSignature | Refusal::MalformedCredential
            ),
            "{case}: {refusal:?}"
        );
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let good_parameters = parameters();
    for (parameters, refusal) in [
        (";alg=\"hmac-sha512\"", Refusal::AlgorithmNotAllowed),
        (";alg=\"none\"", Refusal::AlgorithmNotAllowed),
        (";alg=\"HMAC-SHA256\"", Refusal::AlgorithmNotAllowed),
        (";alg=hmac-sha256", Refusal::MalformedCredential),
        (";expires=\"0\"", Refusal::MalformedCredential),
        (";nonce=1", Refusal::MalformedCredential),
        (";other=1", Refusal::MalformedCredential),
        (";created=1.5", Refusal::MalformedCredential),
        (";created=1", Refusal::MalformedCredential),
        (";keyid=\"other\"", Refusal::MalformedCredential),
    ] {
        let request = with_parameters(&format!("{good_parameters}{parameters}"));
        assert_eq!(request.refusal(&with("")), refusal, "{parameters}");
    }
    let huge = "\"x\" ".repeat(5000);
    let many: String = (0..40).map(|it| format!("\"x-{it}\" ")).collect();
    for (case, input, refusal) in [
        ("no list", "s=1".to_owned(), Refusal::MalformedCredential),
        (
            "no dictionary",
            "(\"@method\")".to_owned(),
            Refusal::MalformedCredential,
        ),
        (
            "open quotes",
            format!("s=({COVERED} \"x){good_parameters}"),
            Refusal::MalformedCredential,
        ),
        (
            "twice",
            format!("s=({COVERED} \"@path\"){good_parameters}"),
            Refusal::MalformedCredential,
        ),
        (
            "twice, in another order",
            format!("s=({COVERED} \"a\";bs;key=\"b\" \"a\";key=\"b\";bs){good_parameters}"),
            Refusal::MalformedCredential,
        ),
        (
            "a token",
            format!("s=({COVERED} x){good_parameters}"),
            Refusal::MalformedCredential,
        ),
        (
            "in capitals",
            format!("s=({COVERED} \"X\"){good_parameters}"),
            Refusal::MalformedCredential,
        ),
        (
            "from trailers",
            format!("s=({COVERED} \"x\";tr){good_parameters}"),
            Refusal::MalformedCredential,
        ),
        (
            "of an answer",
            format!("s=({COVERED} \"@status\"){good_parameters}"),
            Refusal::MalformedCredential,
        ),
        (
            "another label",
            format!("t=({COVERED}){good_parameters}"),
            Refusal::MalformedCredential,
        ),
        (
            "a label more",
            format!("s=({COVERED}){good_parameters}, t=();keyid=\"x\""),
            Refusal::MalformedCredential,
        ),
        (
            "a label twice",
            format!("s=(), s=({COVERED}){good_parameters}"),
            Refusal::MalformedCredential,
        ),
        (
            "huge",
            format!("s=({huge}){good_parameters}"),
            Refusal::TooLong,
        ),
        (
            "many",
            format!("s=({COVERED} {many}){good_parameters}"),
            Refusal::MalformedCredential,
        ),
    ] {
        let request = good().with("signature-input", &input);
        assert_eq!(request.refusal(&with("")), refusal, "{case}");
    }
    for (case, value) in [
        ("no bytes", "s=\"x\""),
        ("a parameter", "s=:AAAA:;x"),
        ("a list", "s=(:AAAA:)"),
        ("another label", "t=:AAAA:"),
        ("a label more", "s=:AAAA:, t=:AAAA:"),
        ("no dictionary", "keyId=\"x\",algorithm=\"hmac-sha256\""),
    ] {
        let request = good().with("signature", value);
        assert_eq!(
            request.refusal(&with("")),
            Refusal::MalformedCredential,
            "{case}"
        );
    }
    let bare = good().without("signature");
    assert_eq!(bare.refusal(&with("")), Refusal::MalformedCredential);
    let bare = good().without("signature-input");
    assert_eq!(bare.refusal(&with("")), Refusal::Missing);
}

#[test]
fn other_signatures_may_stand_beside_the_one() {
    let beside = |name: &str, request: Request| {
        let value = |field: &str| {
            good().headers[field]
                .to_str()
                .unwrap()
                .replacen("s=", name, 1)
        };
        let (input, signature) = (value("signature-input"), value("signature"));
        request
            .adding("signature-input", &input)
            .adding("signature", &signature)
    };
    let proxy = Request::new().signed(&[], &format!("();keyid=\"proxy\";x=1;created={NOW}"), "x");
    assert_eq!(proxy.refusal(&with("")), Refusal::UnknownCredential);
    assert!(beside("t=", proxy).authenticate(&with("")).is_ok());
    for known in [good(), good_of_other()] {
        let both = beside("t=", known);
        assert_eq!(both.refusal(&with("")), Refusal::SeveralCredentials);
    }
    assert_eq!(
        beside("s=", good()).refusal(&with("")),
        Refusal::MalformedCredential
    );
}

proptest! {
    /// One byte more, less or other in anything that is covered, or in the signature itself.
    #[test]
    fn any_change_is_refused(field in 0_usize..5, at in any::<prop::sample::Index>(), byte in 0x21_u8..0x7f) {
        let change = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            String::from_utf8(bytes).unwrap()
        };
        let request = with_field("x-tenant", "blue");
        let value = |name: &str| request.headers[name].to_str().unwrap().to_owned();
        let mut changed = request.clone();
        match field {
            0 => match change("/orders?id=7&x=1").parse() {
                Ok(uri) => changed.uri = uri,
                Err(_) => return Ok(()),
            },
            1 => match change("POST").parse() {
                Ok(method) => changed.method = method,
                Err(_) => return Ok(()),
            },
            _ => {
                let name = ["signature-input", "signature", "x-tenant"][field - 2];
                changed = changed.with(name, &change(&value(name)));
            }
        }
        let is_same = changed.uri.path_and_query() == request.uri.path_and_query()
            && changed.method == request.method
            && changed.headers == request.headers;
        // Base64 has bits that mean nothing, and labels are not signed.
        let means_the_same = changed.authenticate(&with("")).is_ok()
            && field == 3
            && Offered::all(&changed.headers).unwrap()[0].value
                == Offered::all(&request.headers).unwrap()[0].value;
        prop_assert_eq!(changed.authenticate(&with("")).is_ok(), is_same || means_the_same);
    }

    #[test]
    fn no_input_panics_or_passes(
        input in "[ -~]{0,60}|s=\\(( ?\"[@a-z-]{1,12}\"(;[a-z]{2,4}(=\"[a-z]{0,3}\")?)?){0,6}\\)(;created=1800000000)?;keyid=\"acme\"(;[a-z]{1,7}=[0-9\"?:-]{1,3})?",
        signature in "[ -~]{0,60}|s=:[A-Za-z0-9+/]{42}A=:",
        digest in "[ -~]{0,60}|sha-(256|512)=:[A-Za-z0-9+/]{42}A=:",
        uri in "/[!-~]{0,20}",
    ) {
        let mut request = Request::new()
            .with("signature-input", &input)
            .with("signature", &signature)
            .with("content-digest", &digest);
        if let Ok(uri) = uri.parse() {
            request.uri = uri;
        }
        prop_assert!(request.authenticate(&with("")).is_err());
    }
}
