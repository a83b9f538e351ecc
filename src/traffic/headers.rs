//! Header edits, compiled. Names are parsed and fixed values are ready to be sent.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::template::Template;
use crate::config::{self, Diagnostics, Dictionary, Spanned};

/// Edits in the order `remove`, `set`, `add`.
#[derive(Debug)]
pub struct HeaderEdits {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, Value)]>,
    add: Box<[(HeaderName, Value)]>,
}

#[derive(Debug)]
enum Value {
    Fixed(HeaderValue),
    Filled(Template),
}

impl HeaderEdits {
    /// Compiles edits whose values may use the path parameters `names`. `None` if there are none.
    pub fn compile(
        section: &config::HeaderEdit,
        names: &[&str],
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let edits = Self {
            remove: section
                .remove
                .iter()
                .filter_map(|name| field_name(name, diagnostics))
                .collect(),
            set: fields(&section.set, names, diagnostics),
            add: fields(&section.add, names, diagnostics),
        };
        (edits.remove.len() + edits.set.len() + edits.add.len() > 0).then_some(edits)
    }

    /// Edits a message.
    pub fn apply<'a>(&self, fields: &mut HeaderMap, parameter: impl Fn(usize) -> &'a str + Copy) {
        for name in &self.remove {
            fields.remove(name);
        }
        for (name, value) in &self.set {
            if let Some(value) = value.render(parameter) {
                fields.insert(name, value);
            }
        }
        for (name, value) in &self.add {
            if let Some(value) = value.render(parameter) {
                fields.append(name, value);
            }
        }
    }
}

impl Value {
    fn render<'a>(&self, parameter: impl Fn(usize) -> &'a str) -> Option<HeaderValue> {
        match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::Filled(template) => {
                let mut text = String::new();
                template.render(parameter, &mut text);
                // Parameters come from a canonical path, which is visible ASCII.
                HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
            }
        }
    }
}

fn fields(
    section: &Dictionary<Spanned<String>>,
    names: &[&str],
    diagnostics: &mut Diagnostics,
) -> Box<[(HeaderName, Value)]> {
    section
        .iter()
        .filter_map(|(name, value)| {
            let name = field_name(name, diagnostics);
            let template = Template::compile(value, names, value.span, diagnostics)?;
            let value = match template.fixed() {
                Some(text) => Value::Fixed(field_value(text, value, diagnostics)?),
                None => Value::Filled(template),
            };
            Some((name?, value))
        })
        .collect()
}

/// A field's value, or a report that it can't be sent.
pub(super) fn field_value(
    text: &str,
    written: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text);
    if value.is_err() {
        diagnostics
            .error(written.span, "this value can't be sent in a header")
            .help("use visible ASCII characters; line ends are not possible");
    }
    value.ok()
}

/// A field's name, or a report that it is none or not the operator's to edit.
pub(super) fn field_name(
    written: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
        diagnostics
            .error(written.span, format!("`{written}` is not a header name"))
            .help("names are letters, digits and `-`, such as `X-Request-Source`");
        return None;
    };
    let reason = match name {
        header::HOST => "use `host_header` in the service to choose the `Host`",
        header::CONNECTION
        | header::CONTENT_LENGTH
        | header::TE
        | header::TRAILER
        | header::TRANSFER_ENCODING
        | header::UPGRADE => "the gateway manages it for each connection",
        _ => return Some(name),
    };
    diagnostics
        .error(written.span, format!("`{written}` can't be edited"))
        .help(reason);
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn section(set: &[(&str, &str)], remove: &[&str]) -> config::HeaderEdit {
        config::HeaderEdit {
            set: set
                .iter()
                .map(|(name, value)| ((*name).to_owned().into(), (*value).to_owned().into()))
                .collect(),
            remove: remove
                .iter()
                .map(|name| (*name).to_owned().into())
                .collect(),
            ..config::HeaderEdit::default()
        }
    }

    #[test]
    fn edits_remove_then_set() {
        let section = section(&[("X-Order", "no {id}")], &["x-order", "X-Debug"]);
        let edits = HeaderEdits::compile(&section, &["id"], &mut Diagnostics::default()).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-order", "a".parse().unwrap());
        headers.append("x-order", "b".parse().unwrap());
        headers.append("x-debug", "1".parse().unwrap());
        edits.apply(&mut headers, |_| "7");
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-order"], "no 7");
    }

    #[test]
    fn framing_fields_and_broken_values_are_refused() {
        let mut diagnostics = Diagnostics::default();
        let section = section(
            &[
                ("Content-Length", "1"),
                ("bad name", "1"),
                ("X-A", "line\nend"),
                ("Host", "h"),
            ],
            &["Transfer-Encoding"],
        );
        assert!(HeaderEdits::compile(&section, &[], &mut diagnostics).is_none());
        assert_eq!(diagnostics.as_slice().len(), 5);
    }
}
