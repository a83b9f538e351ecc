//! A route's `path` or `prefix`, taken apart.

use super::path::canonical_path;

/// Most parameters of one path.
pub const MOST_PARAMETERS: usize = 8;

/// What paths a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pub(super) kind: Kind,
    /// The canonical text of an exact path or prefix (without its last slash).
    pub(super) text: Box<str>,
    /// The segments of a template.
    pub(super) segments: Box<[Segment]>,
    names: Box<[Box<str>]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Exact,
    Template,
    Prefix,
}

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    Literal(Box<str>),
    Parameter,
    Rest,
}

impl Pattern {
    /// Reads a `path`.
    ///
    /// # Errors
    /// What is wrong and what would be right, as one sentence each.
    pub fn path(text: &str) -> Result<Self, (String, String)> {
        check_start(text)?;
        if !text.contains(['{', '}']) {
            return Ok(Self {
                kind: Kind::Exact,
                text: literal(text)?.into(),
                segments: Box::default(),
                names: Box::default(),
            });
        }
        let mut segments = Vec::new();
        let mut names: Vec<Box<str>> = Vec::new();
        let parts: Vec<&str> = text[1..].split('/').collect();
        for (index, part) in parts.iter().enumerate() {
            let Some(name) = part
                .strip_prefix('{')
                .and_then(|part| part.strip_suffix('}'))
            else {
                if part.contains(['{', '}']) {
                    return Err((
                        format!("`{part}` mixes a parameter with other text"),
                        "a parameter is a whole segment, such as `/orders/{id}`".into(),
                    ));
                }
                if part.is_empty() && index + 1 < parts.len() {
                    return Err((
                        "the path has an empty segment".into(),
                        "repeated slashes are merged before matching: write one".into(),
                    ));
                }
                literal(&format!("/{part}"))?;
                segments.push(Segment::Literal((*part).into()));
                continue;
            };
            let (segment, name) = match name.strip_prefix('*') {
                Some(name) if index + 1 < parts.len() => {
                    return Err((
                        format!("`{{*{name}}}` is not at the end"),
                        format!("use `{{{name}}}` for one segment in the middle of a path"),
                    ));
                }
                Some(name) => (Segment::Rest, name),
                None => (Segment::Parameter, name),
            };
            let is_name = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
            if !is_name {
                return Err((
                    format!("`{part}` is not a parameter"),
                    "names are letters, digits, `_` and `-`, such as `{id}`".into(),
                ));
            }
            if names.iter().any(|known| **known == *name) {
                return Err((
                    format!("the parameter `{{{name}}}` is used twice"),
                    "give each parameter a name of its own".into(),
                ));
            }
            names.push(name.into());
            segments.push(segment);
        }
        if names.len() > MOST_PARAMETERS {
            return Err((
                format!("{} parameters are too many", names.len()),
                format!("a path has at most {MOST_PARAMETERS}"),
            ));
        }
        Ok(Self {
            kind: Kind::Template,
            text: text.into(),
            segments: segments.into(),
            names: names.into(),
        })
    }

    /// Reads a `prefix`. A slash at its end means nothing.
    ///
    /// # Errors
    /// As for [`Pattern::path`].
    pub fn prefix(text: &str) -> Result<Self, (String, String)> {
        check_start(text)?;
        if text.contains(['{', '}']) {
            return Err((
                "a prefix has no parameters".into(),
                format!("use `path: {}/{{*rest}}`", text.trim_end_matches('/')),
            ));
        }
        Ok(Self {
            kind: Kind::Prefix,
            text: literal(text)?.trim_end_matches('/').into(),
            segments: Box::default(),
            names: Box::default(),
        })
    }

    /// The names of the parameters, in their order in the path.
    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(|name| &**name).collect()
    }

    /// Whether the pattern takes paths below its own.
    pub fn is_prefix(&self) -> bool {
        self.kind == Kind::Prefix
    }

    /// A pattern as a key: equal for patterns that take the same paths.
    pub(super) fn shape(&self) -> (u8, &str, &[Segment]) {
        match self.kind {
            Kind::Exact => (0, &self.text, &[]),
            Kind::Template => (1, "", &self.segments),
            Kind::Prefix => (2, &self.text, &[]),
        }
    }
}

fn check_start(text: &str) -> Result<(), (String, String)> {
    if let Some(query) = text.find('?') {
        return Err((
            "a path has no query".into(),
            format!("write `{}` and use `query_match`", &text[..query]),
        ));
    }
    if text.starts_with('/') {
        return Ok(());
    }
    let help = if text.contains("://") {
        "write only the path, and the host in `hosts`".into()
    } else {
        format!("write `/{text}`")
    };
    Err((format!("`{text}` does not start with `/`"), help))
}

/// A fixed text must be canonical, or no request would ever match it.
fn literal(text: &str) -> Result<&str, (String, String)> {
    match canonical_path(text) {
        Ok(canonical) if canonical == text => Ok(text),
        Ok(canonical) => Err((
            format!("`{text}` never matches, since requests are made canonical first"),
            format!("write `{canonical}`"),
        )),
        Err(error) => Err((error.to_string(), "write the path as a URL shows it".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_taken_apart() {
        let pattern = Pattern::path("/a/{id}/b/{*rest}").unwrap();
        assert_eq!(pattern.names(), ["id", "rest"]);
        assert_eq!(pattern.segments.len(), 4);
        assert_eq!(&*Pattern::prefix("/a/").unwrap().text, "/a");
        assert_eq!(&*Pattern::prefix("/").unwrap().text, "");
        assert_eq!(&*Pattern::path("/a/").unwrap().text, "/a/");
    }

    #[test]
    fn what_never_matches_is_refused_with_what_would() {
        for (text, help) in [
            ("orders", "`/orders`"),
            ("https://x/y", "`hosts`"),
            ("/a?b=c", "query_match"),
            ("/a//b", "`/a/b`"),
            ("/a/../b", "`/b`"),
            ("/%61", "`/a`"),
            ("/a b", "URL"),
            ("/v{n}", "whole segment"),
            ("/{*rest}/x", "`{rest}`"),
            ("/{}", "such as `{id}`"),
            ("/{a}/{a}", "of its own"),
            ("/{a}//b", "write one"),
            ("/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}/{9}", "at most 8"),
        ] {
            let (message, found) = Pattern::path(text).unwrap_err();
            assert!(found.contains(help), "{text}: {message}; {found}");
        }
        assert!(
            Pattern::prefix("/a/{id}")
                .unwrap_err()
                .1
                .contains("/a/{id}/{*rest}")
        );
    }
}
