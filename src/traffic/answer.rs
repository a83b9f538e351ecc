//! Answers that a route gives itself: a redirect, or a fixed response.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::headers::{field_name, field_value};
use super::template::Template;
use crate::config::{self, Diagnostics, Spanned};

/// A redirect.
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    to: Template,
    /// What stands before the part that is appended, on a `prefix` route.
    prefix: Option<Box<str>>,
}

/// A fixed response.
#[derive(Debug)]
pub struct Respond {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, `Content-Type` among them.
    pub headers: Box<[(HeaderName, HeaderValue)]>,
    /// Its body.
    pub body: Bytes,
}

impl Redirect {
    /// Compiles a redirect of a route with the path parameters `names`, or with a `prefix`.
    pub fn compile(
        section: &Spanned<config::Redirect>,
        names: &[&str],
        prefix: Option<&str>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let status = section.status.value;
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            diagnostics
                .error(
                    section.status.span.or(section.span),
                    format!("{status} is not a redirect"),
                )
                .help("redirects are 301, 302, 303, 307 and 308");
        }
        let to = &section.to;
        let is_url = to.starts_with("http://") || to.starts_with("https://");
        if !(is_url || to.starts_with('/') && !to.starts_with("//")) {
            diagnostics
                .error(to.span, format!("`{to}` is neither a path nor a URL"))
                .help(format!(
                    "write `/{}` or `https://…`",
                    to.trim_start_matches('/')
                ));
            return None;
        }
        if to.bytes().any(|byte| !byte.is_ascii_graphic()) {
            diagnostics
                .error(
                    to.span,
                    "a redirect can't hold spaces, line ends or letters beyond ASCII",
                )
                .help("percent-encode them");
            return None;
        }
        Some(Self {
            to: Template::compile(to, names, to.span, diagnostics)?,
            status: StatusCode::from_u16(status)
                .ok()
                .filter(StatusCode::is_redirection)?,
            prefix: prefix.map(|prefix| prefix.trim_end_matches('/').into()),
        })
    }

    /// Where a request for `path` with `query` is sent.
    pub fn location<'a>(
        &self,
        path: &str,
        query: Option<&str>,
        parameter: impl Fn(usize) -> &'a str,
    ) -> Option<HeaderValue> {
        let mut location = String::with_capacity(64);
        self.to.render(parameter, &mut location);
        if let Some(rest) = self
            .prefix
            .as_deref()
            .and_then(|prefix| path.strip_prefix(prefix))
            && !rest.is_empty()
        {
            location.truncate(location.trim_end_matches('/').len());
            location.push_str(rest);
        }
        if let Some(query) = query {
            location.push(if location.contains('?') { '&' } else { '?' });
            location.push_str(query);
        }
        HeaderValue::from_maybe_shared(Bytes::from(location)).ok()
    }
}

impl Respond {
    /// Compiles a fixed response.
    pub fn compile(
        section: &Spanned<config::Respond>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let written = &section.status;
        let status = StatusCode::from_u16(written.value)
            .ok()
            .filter(|status| (200..600).contains(&status.as_u16()));
        if status.is_none() {
            diagnostics
                .error(
                    written.span.or(section.span),
                    format!("{written} is not a final status"),
                )
                .help("statuses are 200 to 599");
        }
        let mut headers = Vec::new();
        for (name, value) in &section.headers {
            if let Some(name) = field_name(name, diagnostics)
                && let Some(value) = field_value(value, value, diagnostics)
            {
                headers.push((name, value));
            }
        }
        let is_typed = headers
            .iter()
            .any(|(name, _)| *name == header::CONTENT_TYPE);
        if !is_typed && !section.body.is_empty() {
            headers.push((
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/plain; charset=utf-8"),
            ));
        }
        let status = status?;
        if matches!(status.as_u16(), 204 | 304) && !section.body.is_empty() {
            diagnostics
                .error(section.span, format!("a {status} response has no body"))
                .help("remove `body`, or use another status");
        }
        Some(Self {
            status,
            headers: headers.into(),
            body: Bytes::from(section.body.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(to: &str, prefix: Option<&str>, path: &str, query: Option<&str>) -> String {
        let section = config::Redirect {
            to: to.to_owned().into(),
            status: 308.into(),
        };
        let redirect = Redirect::compile(
            &section.into(),
            &["id"],
            prefix,
            &mut Diagnostics::default(),
        );
        let location = redirect.unwrap().location(path, query, |_| "7").unwrap();
        location.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_rest_of_a_prefix_and_the_query_are_kept() {
        assert_eq!(
            location("/new", Some("/old"), "/old/a", Some("q=1")),
            "/new/a?q=1"
        );
        assert_eq!(location("/new/", Some("/old"), "/old", None), "/new/");
        assert_eq!(location("/new/", Some("/old"), "/old/a", None), "/new/a");
        assert_eq!(
            location("https://x.example/?v=2", None, "/o", Some("q=1")),
            "https://x.example/?v=2&q=1"
        );
        assert_eq!(location("/o/{id}", None, "/a/7", None), "/o/7");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for to in ["new", "//evil.example", "ftp://x", "/a b", "/a\nb"] {
            let section = config::Redirect {
                to: to.to_owned().into(),
                status: 308.into(),
            };
            let mut diagnostics = Diagnostics::default();
            assert!(Redirect::compile(&section.into(), &[], None, &mut diagnostics).is_none());
            assert!(diagnostics.has_errors(), "{to}");
        }
    }

    #[test]
    fn a_response_has_a_type_and_a_sane_status() {
        let mut section = config::Respond {
            body: "pong".into(),
            ..config::Respond::default()
        };
        let respond = Respond::compile(&section.clone().into(), &mut Diagnostics::default());
        assert_eq!(respond.unwrap().headers[0].0, header::CONTENT_TYPE);
        for status in [0, 101, 600, 204] {
            section.status = status.into();
            let mut diagnostics = Diagnostics::default();
            Respond::compile(&section.clone().into(), &mut diagnostics);
            assert!(diagnostics.has_errors(), "{status}");
        }
    }
}
