use proptest::prelude::*;

use super::*;
use crate::auth::consumer::Members;
use crate::config::{Diagnostics, Source, parse};

fn decider(rest: &str) -> Decider {
    let text =
        format!("auth_providers: {{ o: {{ forward: {{ url: \"http://h/auth?a=b\", {rest} }} }} }}");
    let loaded = parse(Source::new("t.yaml", text), &|_| None);
    let section = loaded.config.auth_providers["o"].forward.as_ref().unwrap();
    let members = Members::default();
    Decider::compile("o", section, members, 0, &mut Diagnostics::default()).unwrap()
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn shown(fields: &[(HeaderName, HeaderValue)]) -> Vec<String> {
    let shown =
        |(name, value): &(HeaderName, HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    fields.iter().map(shown).collect()
}

#[test]
fn only_200_to_299_lets_anybody_in() {
    let decider = decider("");
    for status in 100..1000 {
        let status = StatusCode::from_u16(status).unwrap();
        let with_location = headers(&[("location", "/login")]);
        for headers in [HeaderMap::new(), with_location.clone()] {
            let is_passed = matches!(decider.judge(status, &headers), Decision::Passed { .. });
            assert_eq!(is_passed, status.is_success(), "{status}");
        }
        let is_refused =
            |headers: &HeaderMap| matches!(decider.judge(status, headers), Decision::Refused(_));
        let is_4xx = (400..500).contains(&status.as_u16());
        let is_redirect = [301, 302, 303, 307, 308].contains(&status.as_u16());
        assert_eq!(is_refused(&HeaderMap::new()), is_4xx, "{status}");
        assert_eq!(
            is_refused(&with_location),
            is_4xx || is_redirect,
            "{status}"
        );
    }
}

#[test]
fn who_comes_in_is_known_by_the_answer() {
    let decider = decider(
        "subject_from: X-User, roles_from: X-Groups, copy_response_headers: [X-User, X-Team], copy_to_client: Set-Cookie",
    );
    let answer = headers(&[
        ("x-user", "alice"),
        ("x-team", "red"),
        ("x-team", "blue"),
        ("x-groups", "admins, ,users"),
        ("x-groups", "readers"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-other", "1"),
    ]);
    let Decision::Passed { identity, told } = decider.judge(StatusCode::OK, &answer) else {
        unreachable!("it is let in")
    };
    assert_eq!(identity.subject(), Some("alice"));
    assert_eq!(identity.claim("x-user"), Some(&"alice".into()));
    assert_eq!(
        identity.claim("x-team"),
        Some(&Value::from(vec!["red", "blue"]))
    );
    assert!(
        ["admins", "users", "readers"]
            .iter()
            .all(|role| identity.has_role(role))
    );
    assert!(!identity.has_role(""));
    assert_eq!(
        shown(&identity.forward),
        ["x-user: alice", "x-team: red", "x-team: blue"]
    );
    assert_eq!(shown(&told), ["set-cookie: a=1", "set-cookie: b=2"]);
}

#[test]
fn an_answer_about_several_or_unreadable_names_is_none() {
    let decider = decider("subject_from: X-User");
    let subject = |fields| match decider.judge(StatusCode::OK, &headers(fields)) {
        Decision::Passed { identity, .. } => Some(identity.subject().map(str::to_owned)),
        Decision::None(_) => None,
        Decision::Refused(_) => unreachable!("it is no refusal"),
    };
    assert_eq!(subject(&[]), Some(None));
    assert_eq!(subject(&[("x-user", "")]), Some(None));
    assert_eq!(subject(&[("x-user", "a")]), Some(Some("a".to_owned())));
    assert_eq!(subject(&[("x-user", "a"), ("x-user", "a")]), None);
    let latin = HeaderMap::from_iter([(
        HeaderName::from_static("x-user"),
        HeaderValue::from_bytes(b"\xe9").unwrap(),
    )]);
    assert!(matches!(
        decider.judge(StatusCode::OK, &latin),
        Decision::None(_)
    ));
}

#[test]
fn a_refusal_tells_the_client_what_it_can_do() {
    let decider = decider("copy_to_client: [X-Reason, Location]");
    let told = |fields| match decider.judge(StatusCode::FOUND, &headers(fields)) {
        Decision::Refused(told) => shown(&told),
        other => unreachable!("it is a refusal: {other:?}"),
    };
    assert_eq!(
        told(&[
            ("x-secret", "1"),
            ("x-reason", "late"),
            ("location", "/login"),
            ("set-cookie", "a=1"),
        ]),
        [
            "location: /login",
            "set-cookie: a=1",
            "cache-control: no-store",
            "x-reason: late"
        ]
    );
    let kept = told(&[("location", "/"), ("cache-control", "private")]);
    assert_eq!(kept, ["location: /", "cache-control: private"]);
}

#[test]
fn two_authorizations_are_nobody_elses_guess() {
    let decider = Arc::new(decider(""));
    let verdict = |lines: &[(&'static str, &'static str)]| {
        let headers = headers(lines);
        decider.authenticate(Credentials {
            method: &http::Method::GET,
            uri: &http::Uri::from_static("/"),
            headers: &headers,
            certificates: &[],
            is_encrypted: false,
            is_from_trusted_proxy: false,
            now: 0,
        })
    };
    assert!(matches!(verdict(&[]), Verdict::Elsewhere(_)));
    let once = [("authorization", "a")];
    assert!(matches!(verdict(&once), Verdict::Elsewhere(_)));
    let twice = [("authorization", "a"), ("authorization", "a")];
    assert!(matches!(
        verdict(&twice),
        Verdict::Refused(Refusal::SeveralCredentials)
    ));
}

#[test]
fn a_target_is_what_is_behind_the_host() {
    assert_eq!(decider("").target, "/auth?a=b");
}

proptest! {
    #[test]
    fn no_answer_panics(status in 100u16..1000, name in "[a-z-]{1,12}", value in "[ -~\u{80}-\u{ff}]{0,40}") {
        let decider = decider("subject_from: X-User, roles_from: X-User, copy_response_headers: X-User");
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(&value)) else {
            return Ok(());
        };
        let mut headers = HeaderMap::from_iter([(name, value.clone())]);
        headers.append("x-user", value);
        let _ = decider.judge(StatusCode::from_u16(status).unwrap(), &headers);
    }
}
