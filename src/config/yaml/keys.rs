//! The keys of a map: merge keys, and what is written twice.

use std::collections::HashMap;

use crate::config::diagnostic::Diagnostics;
use crate::config::node::{Node, Value};
use crate::config::source::Span;

/// Resolves `<<: *defaults`: keys of the merged maps that are not written here.
pub(super) fn merge(entries: &mut Vec<(Node, Node)>, diagnostics: &mut Diagnostics) {
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

pub(super) fn refuse_duplicates(entries: &mut Vec<(Node, Node)>, diagnostics: &mut Diagnostics) {
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
