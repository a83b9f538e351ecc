//! YAML text to a tree of nodes that know their place. Aliases, merge keys and `${NAME}` are
//! resolved here; what the nodes mean is decided by [`super::de`].

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use super::diagnostic::Diagnostics;
use super::interpolate::{Environment, interpolate};
use super::node::{Node, Scalar, Value};
use super::source::Span;

/// Deepest nesting; no configuration needs a tenth of it.
const DEEPEST: usize = 64;
/// Most nodes, copies by aliases included: bounds what a small text can grow into.
const MOST_NODES: usize = 4_000_000;

/// Reads a text. `None` if it can't be read at all; the reason has been reported.
pub(super) fn parse(
    text: &str,
    environment: Environment<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Node> {
    let mark = '\u{feff}'.len_utf8();
    let skipped = if text.starts_with('\u{feff}') {
        mark
    } else {
        0
    };
    let body = &text[skipped..];
    let mut builder = Builder {
        offsets: Offsets::new(body, skipped),
        environment,
        diagnostics,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        nodes: 0,
        documents: 0,
    };
    let mut parser = Parser::new_from_str(body);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                let span = builder.offsets.span(span);
                builder.accept(event, span)?;
            }
            Err(error) => {
                let at = builder.offsets.byte(error.marker().index());
                report_syntax(text, at, &error, builder.diagnostics);
                return None;
            }
        }
    }
    Some(
        builder
            .root
            .unwrap_or_else(|| Node::nothing(Span::default())),
    )
}

fn report_syntax(text: &str, at: usize, error: &ScanError, diagnostics: &mut Diagnostics) {
    let at = at.min(text.len());
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let indent = line.len() - line.trim_start().len();
    let finding = if line[..indent].contains('\t') {
        let tab = line_start + line.find('\t').unwrap_or(0);
        diagnostics
            .error(Span::new(tab, tab + 1), "a tab can't indent YAML")
            .help("indent with spaces")
    } else {
        let end = (at + 1).min(line_start + line.len()).max(at);
        diagnostics.error(
            Span::new(at, end),
            format!("this is not YAML: {}", error.info()),
        )
    };
    if finding.help.is_none() && line.contains(": ") && line.matches(": ").count() > 1 {
        finding.help("a text with `: ` in it must stand in quotes");
    }
}

/// Character positions, as the parser counts, to byte positions, as spans do.
struct Offsets {
    skipped: usize,
    /// Empty where each character is a byte.
    bytes: Vec<usize>,
}

impl Offsets {
    fn new(text: &str, skipped: usize) -> Self {
        let bytes = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices()
                .map(|(byte, _)| byte)
                .chain([text.len()])
                .collect()
        };
        Self { skipped, bytes }
    }

    fn byte(&self, character: usize) -> usize {
        let byte = match self.bytes.last() {
            Some(end) => *self.bytes.get(character).unwrap_or(end),
            None => character,
        };
        self.skipped + byte
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        Span::new(self.byte(span.start.index()), self.byte(span.end.index()))
    }
}

/// A list or map whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<Node>,
}

struct Builder<'a> {
    offsets: Offsets,
    environment: Environment<'a>,
    diagnostics: &'a mut Diagnostics,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
}

impl Builder<'_> {
    /// Takes one event; `None` when there is no point in going on.
    fn accept(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.diagnostics
                        .error(span, "a second YAML document starts here")
                        .help("a configuration is one document: remove the `---`");
                    return None;
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let node = self.scalar(&text, style, span);
                self.complete(node, anchor)?;
            }
            Event::SequenceStart(anchor, _) => self.push(Value::List(Vec::new()), anchor, span)?,
            Event::MappingStart(anchor, _) => self.push(Value::Map(Vec::new()), anchor, span)?,
            Event::SequenceEnd | Event::MappingEnd => {
                let mut open = self.open.pop()?;
                // The end of a flow collection is its bracket; that of a block is no text.
                open.node.span.end = span.end.max(open.node.span.end);
                if let Value::Map(entries) = &mut open.node.value {
                    merge(entries, self.diagnostics);
                    refuse_duplicates(entries, self.diagnostics);
                }
                self.complete(open.node, open.anchor)?;
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = node.clone();
                    self.nodes += node.count();
                    self.complete(node, 0)?;
                }
                None => {
                    self.diagnostics
                        .error(span, "this alias stands inside what it stands for")
                        .help("write the value out");
                    return None;
                }
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Some(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span) -> Node {
        let is_key = self
            .open
            .last()
            .is_some_and(|open| open.key.is_none() && matches!(open.node.value, Value::Map(_)));
        let interpolated = (!is_key)
            .then(|| interpolate(text, span, self.environment, self.diagnostics))
            .flatten();
        Node {
            span,
            value: Value::Scalar(Scalar {
                is_interpolated: interpolated.is_some(),
                text: interpolated.unwrap_or_else(|| text.to_owned()),
                is_plain: style == ScalarStyle::Plain,
            }),
        }
    }

    fn push(&mut self, value: Value, anchor: usize, span: Span) -> Option<()> {
        if self.open.len() >= DEEPEST {
            self.diagnostics
                .error(span, format!("nested more than {DEEPEST} levels deep"));
            return None;
        }
        self.open.push(Open {
            node: Node { span, value },
            anchor,
            key: None,
        });
        Some(())
    }

    /// Puts a finished node where it belongs.
    fn complete(&mut self, mut node: Node, anchor: usize) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            self.diagnostics
                .error(
                    node.span,
                    format!("the file grows beyond {MOST_NODES} values"),
                )
                .help("its aliases repeat each other: write fewer of them");
            return None;
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                None => open.key = Some(node),
                Some(key) => {
                    // A block that starts below its key is best pointed at by the key.
                    if !matches!(node.value, Value::Scalar(_))
                        && node.span.start > key.span.end + 64
                        || is_below(&key, &node)
                    {
                        node.span = key.span;
                    }
                    entries.push((key, node));
                }
            },
            Value::Scalar(_) => {}
        }
        Some(())
    }
}

fn is_below(key: &Node, node: &Node) -> bool {
    // `key: {` and `key: [` start two bytes behind their key; a block starts on a later line.
    !matches!(node.value, Value::Scalar(_)) && node.span.start > key.span.end + 2
}

/// Resolves `<<: *defaults`: keys of the merged maps that are not written here.
fn merge(entries: &mut Vec<(Node, Node)>, diagnostics: &mut Diagnostics) {
    let is_merge = |key: &Node| matches!(&key.value, Value::Scalar(scalar) if scalar.is_plain && scalar.text == "<<");
    while let Some(position) = entries.iter().position(|(key, _)| is_merge(key)) {
        let (_, value) = entries.remove(position);
        let maps = match value.value {
            Value::Map(map) => vec![map],
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                items
                    .into_iter()
                    .filter_map(|item| match item.value {
                        Value::Map(map) => Some(map),
                        _ => None,
                    })
                    .collect()
            }
            _ => {
                diagnostics
                    .error(value.span, "`<<` merges maps, and this is none")
                    .help("write `<<: *name` with the name of a map's anchor `&name`");
                continue;
            }
        };
        for (key, value) in maps.into_iter().flatten() {
            if !entries.iter().any(|(known, _)| known.value == key.value) {
                entries.push((key, value));
            }
        }
    }
}

fn refuse_duplicates(entries: &mut Vec<(Node, Node)>, diagnostics: &mut Diagnostics) {
    let mut first: HashMap<String, Span> = HashMap::with_capacity(entries.len());
    entries.retain(|(key, _)| {
        let Value::Scalar(scalar) = &key.value else {
            return true;
        };
        match first.get(&scalar.text) {
            None => {
                first.insert(scalar.text.clone(), key.span);
                true
            }
            Some(span) => {
                diagnostics
                    .error(
                        key.span,
                        format!("the key `{}` is written twice", scalar.text),
                    )
                    .related(*span, "first written here")
                    .help("keep one of them");
                false
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::node::Resolved;
    use proptest::prelude::*;

    use super::*;

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
}
