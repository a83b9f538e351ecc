//! `${NAME}` and `${NAME:-default}` in values.

use super::diagnostic::Diagnostics;
use super::source::Span;

/// Where the values of variables come from.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The text with its variables filled in; `None` if it names none. `$${` stands for `${`.
/// Variables that are not set are reported and left empty.
pub(super) fn interpolate(
    text: &str,
    span: Span,
    environment: Environment<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<String> {
    if !text.contains("${") {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start]);
            out.push('{');
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        rest = &rest[start + 2..];
        let Some(end) = rest.find('}') else {
            diagnostics
                .error(span, "`${` without `}`")
                .help("write `${NAME}`, or `$${` for a text that starts with `${`");
            return Some(out);
        };
        let (name, default) = match rest[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&rest[..end], None),
        };
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !is_name {
            diagnostics
                .error(
                    span,
                    format!("`{name}` is not the name of an environment variable"),
                )
                .help("names are letters, digits and `_`, such as `${JWT_SECRET}`");
        } else {
            // As in a shell, `:-` replaces an empty variable too.
            let value = environment(name).filter(|value| default.is_none() || !value.is_empty());
            match value.as_deref().or(default) {
                Some(value) => out.push_str(value),
                None => {
                    diagnostics
                        .error(
                            span,
                            format!("the environment variable `{name}` is not set"),
                        )
                        .help(format!("set it, or write `${{{name}:-default}}`"));
                }
            }
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<Option<String>, String> {
        let mut diagnostics = Diagnostics::default();
        let environment: Environment<'_> = &|name| match name {
            "A" => Some("1".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let filled = interpolate(text, Span::default(), environment, &mut diagnostics);
        match diagnostics.into_sorted().pop() {
            Some(finding) => Err(finding.message),
            None => Ok(filled),
        }
    }

    #[test]
    fn variables_and_defaults_are_filled_in() {
        assert_eq!(fill("plain $A"), Ok(None));
        assert_eq!(fill("x${A}y${A}"), Ok(Some("x1y1".into())));
        assert_eq!(fill("${B:-2}${EMPTY:-3}${EMPTY}"), Ok(Some("23".into())));
        assert_eq!(fill("${B:-}"), Ok(Some(String::new())));
        assert_eq!(fill("$${A} ${A}"), Ok(Some("${A} 1".into())));
    }

    #[test]
    fn what_cant_be_filled_in_is_reported() {
        assert!(fill("${B}").unwrap_err().contains("`B` is not set"));
        assert!(fill("${A").unwrap_err().contains("without `}`"));
        assert!(fill("${}").unwrap_err().contains("not the name"));
        assert!(fill("${A B}").unwrap_err().contains("not the name"));
    }
}
