//! Texts with names in braces: `/v2/orders/{id}`. What the names may be is decided where they are used.

use super::diagnostic::Diagnostics;
use super::source::Span;

/// A part of such a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// What stands there as it is.
    Text(String),
    /// What stands between braces.
    Name(&'t str),
}

/// The parts of a text in their order; `{{` stands for a brace. `None` if a brace is not closed, which is
/// reported.
pub fn pieces<'t>(
    text: &'t str,
    span: Span,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Piece<'t>>> {
    let mut pieces = Vec::new();
    let mut fixed = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        fixed.push_str(&rest[..open]);
        rest = &rest[open + 1..];
        if let Some(after) = rest.strip_prefix('{') {
            fixed.push('{');
            rest = after;
            continue;
        }
        let Some(close) = rest.find('}') else {
            diagnostics
                .error(span, format!("`{{` without `}}` in `{text}`"))
                .help("write `{{` for a brace that begins no name");
            return None;
        };
        if !fixed.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut fixed)));
        }
        pieces.push(Piece::Name(&rest[..close]));
        rest = &rest[close + 1..];
    }
    fixed.push_str(rest);
    if !fixed.is_empty() {
        pieces.push(Piece::Text(fixed));
    }
    Some(pieces)
}
