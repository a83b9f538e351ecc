use proptest::prelude::*;

use super::*;
use crate::config::node::Resolved;

fn read(text: &str) -> Result<Node, Vec<String>> {
    let mut diagnostics = Diagnostics::default();
    let environment: Environment<'_> = &|name| (name == "N").then(|| "7".to_owned());
    let node = parse(text, environment, &mut diagnostics);
    if diagnostics.has_errors() {
        return Err(diagnostics
            .into_sorted()
            .into_iter()
            .map(|d| d.message)
            .collect());
    }
    Ok(node.unwrap())
}

fn to_serde(node: &Node) -> serde_yaml::Value {
    match &node.value {
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Nothing => serde_yaml::Value::Null,
            Resolved::Bool(value) => value.into(),
            Resolved::Unsigned(value) => value.into(),
            Resolved::Signed(value) => value.into(),
            Resolved::Float(value) => value.into(),
            Resolved::Text(text) => text.into(),
        },
        Value::List(items) => items.iter().map(to_serde).collect(),
        Value::Map(entries) => serde_yaml::Value::Mapping(
            entries
                .iter()
                .map(|(key, value)| (to_serde(key), to_serde(value)))
                .collect(),
        ),
    }
}

#[test]
fn spans_are_byte_ranges_of_the_text() {
    let text = "ü: [ä, {b: \"ö\"}]";
    let Value::Map(entries) = read(text).unwrap().value else {
        unreachable!()
    };
    let Value::List(items) = &entries[0].1.value else {
        unreachable!()
    };
    assert_eq!(&text[entries[0].0.span.start..entries[0].0.span.end], "ü");
    assert_eq!(&text[items[0].span.start..items[0].span.end], "ä");
    let Value::Map(inner) = &items[1].value else {
        unreachable!()
    };
    assert_eq!(&text[inner[0].1.span.start..inner[0].1.span.end], "\"ö\"");
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let text = "a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: 3\nc: *x\n";
    let expected: serde_yaml::Value =
        serde_yaml::from_str("a: {k: 1, l: 2}\nb: {k: 3, l: 2}\nc: {k: 1, l: 2}").unwrap();
    assert_eq!(to_serde(&read(text).unwrap()), expected);
}

#[test]
fn an_interpolated_number_is_a_number() {
    let Value::Map(entries) = read("a: ${N}5\nb: \"${N}\"").unwrap().value else {
        unreachable!()
    };
    assert_eq!(to_serde(&entries[0].1), serde_yaml::Value::from(75));
    assert_eq!(to_serde(&entries[1].1), serde_yaml::Value::from("7"));
}

#[test]
fn what_is_no_configuration_is_refused() {
    for (text, reason) in [
        ("a: 1\na: 2\n", "the key `a` is written twice"),
        ("a: [1\n", "this is not YAML"),
        ("a:\n\t- 1\n", "a tab can't indent YAML"),
        ("a: 1\n---\nb: 2\n", "a second YAML document"),
        ("a: *b\n", "this is not YAML"),
        ("<<: 5\n", "`<<` merges maps"),
        (
            "a: &a [*a]\n",
            "this alias stands inside what it stands for",
        ),
    ] {
        let reasons = read(text).unwrap_err();
        assert!(reasons[0].contains(reason), "{text:?}: {reasons:?}");
    }
    assert!(read(&"[".repeat(100_000)).is_err());
    assert!(read(&"- ".repeat(10_000)).is_err());
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        text.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![below; 10].join(", ")
        ));
    }
    assert!(read(&text).unwrap_err()[0].contains("grows beyond"));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ -~\n\t:\\[\\]{}&*<>|äß\u{feff}-]{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn trees_equal_those_of_the_reference_parser(
        numbers in prop::collection::vec(any::<i64>(), 0..4),
        words in prop::collection::vec("[a-z][a-z0-9_/]{0,8}", 1..6),
        floats in prop::collection::vec(-1e6..1e6f64, 0..3),
    ) {
        let mut map = serde_yaml::Mapping::new();
        for (index, word) in words.iter().enumerate() {
            let value = match index % 4 {
                0 => serde_yaml::Value::from(numbers.clone()),
                1 => serde_yaml::Value::from(word.clone()),
                2 => serde_yaml::Value::from(floats.clone()),
                _ => serde_yaml::Value::Mapping(map.clone()),
            };
            map.insert(format!("k{word}").into(), value);
        }
        let value = serde_yaml::Value::Mapping(map);
        let text = serde_yaml::to_string(&value).unwrap();
        prop_assert_eq!(to_serde(&read(&text).unwrap()), value);
    }
}
