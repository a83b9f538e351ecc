//! Texts with the parameters of a route's path in them: `/v2/orders/{id}`.

use crate::config::{Diagnostics, Piece, Span, nearest, pieces};

/// A text made of fixed parts and path parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Parameter(usize),
}

impl Template {
    /// Reads a template that may use the parameters `names`. `{{` stands for a brace.
    pub fn compile(
        text: &str,
        names: &[&str],
        span: Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut parts = Vec::new();
        for piece in pieces(text, span, diagnostics)? {
            let name = match piece {
                Piece::Text(text) => {
                    parts.push(Part::Text(text.into()));
                    continue;
                }
                Piece::Name(name) => name.trim_start_matches('*'),
            };
            let Some(index) = names.iter().position(|known| *known == name) else {
                let finding = diagnostics.error(span, format!("unknown parameter `{{{name}}}`"));
                match nearest(name, names.iter().copied()) {
                    Some(near) => finding.help(format!("did you mean `{{{near}}}`?")),
                    None if names.is_empty() => finding.help("the route's path has no parameters"),
                    None => finding.help(format!("the route's path has: {}", list(names))),
                };
                return None;
            };
            parts.push(Part::Parameter(index));
        }
        Some(Self {
            parts: parts.into(),
        })
    }

    /// The text, if it uses no parameter.
    pub fn fixed(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the text with its parameters filled in.
    pub fn render<'a>(&self, parameter: impl Fn(usize) -> &'a str, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Parameter(index) => out.push_str(parameter(*index)),
            }
        }
    }
}

fn list(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{{{name}}}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> Result<String, Vec<String>> {
        let mut diagnostics = Diagnostics::default();
        match Template::compile(text, &["id", "rest"], Span::default(), &mut diagnostics) {
            Some(template) => {
                let mut out = String::new();
                template.render(|index| ["7", "a/b"][index], &mut out);
                Ok(out)
            }
            None => Err(diagnostics
                .into_sorted()
                .into_iter()
                .map(|d| d.message)
                .collect()),
        }
    }

    #[test]
    fn parameters_are_filled_in() {
        assert_eq!(render("/v2/{id}/x/{rest}"), Ok("/v2/7/x/a/b".into()));
        assert_eq!(render("{*rest}{id}"), Ok("a/b7".into()));
        assert_eq!(render("{{id}"), Ok("{id}".into()));
        assert_eq!(render(""), Ok(String::new()));
    }

    #[test]
    fn unknown_and_broken_parameters_are_reported() {
        assert_eq!(
            render("/{ids}"),
            Err(vec!["unknown parameter `{ids}`".into()])
        );
        assert_eq!(
            render("/{id"),
            Err(vec!["`{` without `}` in `/{id`".into()])
        );
    }
}
