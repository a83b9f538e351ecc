use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::identity::Likeness;

fn identity(claims: Value) -> Identity {
    let Value::Object(claims) = claims else {
        unreachable!("claims are an object")
    };
    let likeness = Likeness::of_names("main", None, Default::default(), None);
    likeness.with(claims)
}

fn claim(name: &str, value: &str) -> Requirement {
    Requirement::Claim(name.into(), Box::new([Accepted::Value(value.into())]))
}

#[test]
fn a_claim_is_compared_as_a_text_or_holds_one() {
    let identity = identity(json!({
        "text": "a", "number": 5, "bool": true, "null": null, "list": ["a", 5, ["b"], {"c": 1}], "map": {"a": "b"}
    }));
    let holds = |name, value| claim(name, value).holds(&identity, &|_| "");
    for (name, value) in [
        ("text", "a"),
        ("number", "5"),
        ("bool", "true"),
        ("list", "a"),
        ("list", "5"),
        ("map.a", "b"),
    ] {
        assert!(holds(name, value), "{name}: {value}");
    }
    for (name, value) in [
        ("text", "A"),
        ("text", ""),
        ("number", "5.0"),
        ("null", "null"),
        ("list", "b"),
        ("map", "a"),
        ("absent", ""),
    ] {
        assert!(!holds(name, value), "{name}: {value}");
    }
}

#[test]
fn an_empty_parameter_is_nobodys() {
    let identity = identity(json!({"tenant": ""}));
    let accepted = Accepted::Parameter(0, "tenant".into());
    let requirement = Requirement::Claim("tenant".into(), Box::new([accepted]));
    assert!(!requirement.holds(&identity, &|_| ""));
}

fn requirements() -> impl Strategy<Value = Requirement> {
    let leaf = (0..4usize).prop_map(|number| claim(&format!("c{number}"), "1"));
    leaf.prop_recursive(4, 24, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            several
                .clone()
                .prop_map(|parts| Requirement::All(parts.into())),
            several.prop_map(|parts| Requirement::Any(parts.into())),
            inner.prop_map(|part| Requirement::Not(Box::new(part))),
        ]
    })
}

/// Whether the tree of findings is one that its leaves imply.
fn is_consistent(findings: &mut std::iter::Peekable<std::slice::Iter<'_, Finding>>) -> bool {
    let finding = findings.next().unwrap();
    let mut parts = Vec::new();
    let mut is_sound = true;
    while let Some(next) = findings.peek()
        && next.depth == finding.depth + 1
    {
        parts.push(next.holds);
        is_sound &= is_consistent(findings);
    }
    let implied = match finding.text.as_str() {
        "all of" => parts.iter().all(|it| *it),
        "any of" => parts.iter().any(|it| *it),
        "not" => !parts[0],
        _ => finding.holds,
    };
    is_sound && implied == finding.holds
}

proptest! {
    #[test]
    fn what_is_explained_is_what_is_decided(
        requirement in requirements(),
        held in prop::collection::vec(any::<bool>(), 4),
    ) {
        let claims = held.iter().enumerate().filter(|(_, is_held)| **is_held);
        let claims = claims.map(|(number, _)| (format!("c{number}"), json!(1))).collect();
        let identity = identity(Value::Object(claims));
        let findings = requirement.explain(&identity, &|_| "");
        prop_assert_eq!(findings[0].holds, requirement.holds(&identity, &|_| ""));
        for finding in &findings {
            if let Some(rest) = finding.text.strip_prefix("claim c") {
                let number: usize = rest[..1].parse().unwrap();
                prop_assert_eq!(finding.holds, held[number]);
            }
        }
        prop_assert!(is_consistent(&mut findings.iter().peekable()));
    }
}
