//! YAML text to a tree of nodes that know their place. Aliases, merge keys and `${NAME}` are
//! resolved here; what the nodes mean is decided by [`super::de`].

mod keys;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use self::keys::{merge, refuse_duplicates};
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
