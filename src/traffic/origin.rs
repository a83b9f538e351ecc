//! Origins whose scripts may call: written out, or with a wildcard for the labels in front.

use http::HeaderValue;

use crate::config::{Diagnostics, OneOrMany, Span, Spanned};

/// The origins of a section.
#[derive(Debug)]
pub(super) enum Origins {
    /// Every one.
    Any,
    /// Those that are written out, and those below a name.
    Listed(Box<[HeaderValue]>, Box<[Below]>),
}

/// All origins below a name, as in `https://*.example.com:8443`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Below {
    /// `https://`.
    scheme: Box<[u8]>,
    /// `.example.com:8443`.
    name: Box<[u8]>,
}

impl Origins {
    /// Compiles a list, written at `span` if it is empty. `None` if there is an error.
    pub(super) fn compile(
        list: &OneOrMany<Spanned<String>>,
        span: Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let Some(first) = list.0.first() else {
            diagnostics
                .error(span, "`origins` is empty, so no origin is allowed")
                .help("list origins such as `https://shop.example.com`, or write `cors: off`");
            return None;
        };
        if list.iter().any(|origin| origin.value == "*") {
            if list.0.len() > 1 {
                diagnostics
                    .error(
                        first.span,
                        "`\"*\"` allows every origin, so the others have no effect",
                    )
                    .help("write `\"*\"` alone, or list the origins without it");
            }
            return Some(Self::Any);
        }
        let mut is_complete = true;
        let (mut exact, mut below) = (Vec::new(), Vec::new());
        for origin in list {
            let plain = origin.replacen("://*.", "://", 1);
            if !check(origin, &plain, diagnostics) {
                is_complete = false;
            } else if plain == origin.value {
                exact.extend(HeaderValue::from_str(origin));
            } else if let Some((scheme, name)) = plain.split_once("://") {
                below.push(Below {
                    scheme: format!("{scheme}://").into_bytes().into(),
                    name: format!(".{name}").into_bytes().into(),
                });
            }
        }
        is_complete.then(|| Self::Listed(exact.into(), below.into()))
    }

    /// Whether scripts of this origin may call.
    pub(super) fn take(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(exact, below) => {
                exact.contains(origin) || below.iter().any(|below| below.takes(origin.as_bytes()))
            }
        }
    }
}

impl Below {
    /// Whether one or more labels stand where the wildcard does, and all else is the same.
    fn takes(&self, origin: &[u8]) -> bool {
        origin
            .strip_prefix(&*self.scheme)
            .and_then(|rest| rest.strip_suffix(&*self.name))
            .is_some_and(|labels| labels.split(|byte| *byte == b'.').all(is_label))
    }
}

/// Browsers write hosts in lower case, and international ones in ASCII.
fn is_label(label: &[u8]) -> bool {
    let is_in_label = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    !label.is_empty() && label.iter().all(is_in_label)
}

/// Whether an origin is a scheme, a host and maybe a port, and nothing behind them. `plain` is what is
/// left of it without a wildcard.
fn check(origin: &Spanned<String>, plain: &str, diagnostics: &mut Diagnostics) -> bool {
    if origin.value == "null" {
        diagnostics
            .error(
                origin.span,
                "the origin `null` stands for every sandboxed page",
            )
            .help("list the real origins");
        return false;
    }
    let near = near(plain);
    let is_bare = plain
        .parse::<http::Uri>()
        .ok()
        .and_then(|uri| Some((uri.scheme_str()?.to_owned(), uri.authority()?.to_string())))
        .is_some_and(|(scheme, authority)| {
            plain == format!("{scheme}://{authority}") && !authority.contains(['@', '*'])
        });
    if is_bare && plain == near {
        return true;
    }
    let finding = diagnostics.error(origin.span, format!("`{origin}` is not an origin"));
    if plain.contains('*') {
        finding.help("a wildcard is the whole first label, as in `https://*.example.com`");
        return false;
    }
    let near = match plain == origin.value {
        true => near,
        false => near.replacen("://", "://*.", 1),
    };
    finding.help(format!(
        "an origin is a scheme, a host and maybe a port, in lower case and without a path: `{near}`"
    ));
    false
}

/// As a browser would write it: in lower case, without a path, and without the usual port.
fn near(plain: &str) -> String {
    let lower = plain.trim_end_matches('/').to_lowercase();
    let (scheme, rest) = lower.split_once("://").unwrap_or(("https", &lower));
    let usual = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    format!("{scheme}://{}", rest.strip_suffix(usual).unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origins(list: &[&str]) -> Result<Origins, String> {
        let list = list.iter().map(|it| (*it).to_owned().into()).collect();
        let mut diagnostics = Diagnostics::default();
        let origins = Origins::compile(&OneOrMany(list), Span::default(), &mut diagnostics);
        origins.ok_or_else(|| diagnostics.as_slice()[0].help.clone().unwrap())
    }

    fn takes(list: &[&str], origin: &str) -> bool {
        let origin = HeaderValue::from_str(origin).unwrap();
        origins(list).unwrap().take(&origin)
    }

    #[test]
    fn a_wildcard_stands_for_one_or_more_labels() {
        let list = ["https://*.shop.example.com", "https://other.example.com"];
        for origin in [
            "https://eu.shop.example.com",
            "https://a.b-1.shop.example.com",
            "https://other.example.com",
        ] {
            assert!(takes(&list, origin), "{origin}");
        }
        for origin in [
            "https://shop.example.com",
            "https://.shop.example.com",
            "https://a..shop.example.com",
            "https://evilshop.example.com",
            "http://eu.shop.example.com",
            "https://eu.shop.example.com:8443",
            "https://eu.shop.example.com.evil.example",
            "https://evil.example/.shop.example.com",
            "https://evil.example?.shop.example.com",
            "https://evil.example#.shop.example.com",
            "https://evil.example:1@.shop.example.com",
            "https://evil.example\\.shop.example.com",
            "https://EU.shop.example.com",
            "https://a.other.example.com",
            "null",
            "",
        ] {
            assert!(!takes(&list, origin), "{origin}");
        }
        assert!(takes(
            &["http://*.localhost:3000"],
            "http://a.localhost:3000"
        ));
        assert!(!takes(&["http://*.localhost:3000"], "http://a.localhost"));
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        let wildcard = "a wildcard is the whole first label, as in `https://*.example.com`";
        for (origin, help) in [
            ("null", "list the real origins"),
            ("https://a.example/", "`https://a.example`"),
            ("https://A.example", "`https://a.example`"),
            ("a.example", "`https://a.example`"),
            ("https://a.example:443", "`https://a.example`"),
            ("http://a.example:80", "`http://a.example`"),
            ("https://me@a.example", "without a path"),
            ("https://*.a.example:443/", "`https://*.a.example`"),
            ("https://*.A.example", "`https://*.a.example`"),
            ("https://*", wildcard),
            ("*.a.example", wildcard),
            ("https://*a.example", wildcard),
            ("https://*.*.example", wildcard),
            ("https://a.*.example", wildcard),
            ("https://*.", "without a path"),
        ] {
            let said = origins(&[origin]).unwrap_err();
            assert!(said.contains(help), "{origin}: {said}");
        }
        assert!(origins(&[]).is_err());
    }

    proptest! {
        /// Whatever is taken is an origin whose host ends with the name, after a dot.
        #[test]
        fn no_trick_gets_round_the_name(
            start in "(https://)?[a-zA-Z.:/@?#%\\\\-]{0,12}",
            end in r"(\.shop\.example\.com|shop\.example\.com)(:443|:8443|\.|/|\.evil\.example)?",
        ) {
            let origin = start + &end;
            if takes(&["https://*.shop.example.com"], &origin) {
                let uri: http::Uri = origin.parse().unwrap();
                let host = uri.host().unwrap();
                prop_assert_eq!(format!("https://{host}"), origin.as_str());
                let labels: Vec<&str> = host.split('.').collect();
                prop_assert!(labels.len() > 3 && labels.ends_with(&["shop", "example", "com"]));
                prop_assert!(labels.iter().all(|label| !label.is_empty()));
            }
        }
    }
}
