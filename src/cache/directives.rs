//! What `Cache-Control` says (RFC 9111 §5.2), and what `CDN-Cache-Control` says instead (RFC 9213).

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// Speaks to caches such as this one, and not to those behind it.
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// Directives whose value is a time.
const TIMES: [&str; 4] = [
    "max-age",
    "s-maxage",
    "stale-while-revalidate",
    "stale-if-error",
];
/// The longest time that a directive can mean, in seconds (RFC 9111 §1.2.2).
const LONGEST: u32 = 1 << 31;

/// What a directive holds for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Extent {
    /// Nothing.
    #[default]
    Nothing,
    /// These fields.
    Fields(Vec<HeaderName>),
    /// The whole answer.
    Everything,
}

/// What a response says of how it may be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ResponseDirectives {
    pub(super) no_store: bool,
    pub(super) must_understand: bool,
    pub(super) public: bool,
    /// `must-revalidate`, `proxy-revalidate`, or `s-maxage`, which implies it (RFC 9111 §5.2.2.10).
    pub(super) never_stale: bool,
    /// `must-revalidate`, which permits more than the others.
    pub(super) must_revalidate: bool,
    pub(super) private: Extent,
    pub(super) no_cache: Extent,
    pub(super) s_maxage: Option<u32>,
    pub(super) max_age: Option<u32>,
    pub(super) stale_while_revalidate: Option<u32>,
    pub(super) stale_if_error: Option<u32>,
    /// Whether they are for this kind of cache alone, so that `Expires` says nothing.
    pub(super) are_targeted: bool,
}

/// What a request asks of caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestDirectives {
    /// Only after asking the backend.
    pub no_cache: bool,
    /// Nothing is to be kept.
    pub no_store: bool,
    /// Nothing but what is kept.
    pub only_if_cached: bool,
    /// No older than this, in seconds.
    pub max_age: Option<u32>,
    /// Fresh for so much longer.
    pub min_fresh: Option<u32>,
    /// Stale by no more than this.
    pub max_stale: Option<u32>,
}

impl ResponseDirectives {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self::targeted(headers).unwrap_or_else(|| {
            let mut directives = Self::default();
            for_each(headers, |name, value| directives.add(name, value));
            directives
        })
    }

    fn add(&mut self, name: &str, value: Option<&str>) {
        match name {
            "no-store" => self.no_store = true,
            "must-understand" => self.must_understand = true,
            "public" => self.public = true,
            "must-revalidate" => {
                self.must_revalidate = true;
                self.never_stale = true;
            }
            "proxy-revalidate" => self.never_stale = true,
            "private" => self.private.add(value),
            "no-cache" => self.no_cache.add(value),
            "s-maxage" => {
                self.never_stale = true;
                set(&mut self.s_maxage, value);
            }
            "max-age" => set(&mut self.max_age, value),
            "stale-while-revalidate" => set(&mut self.stale_while_revalidate, value),
            "stale-if-error" => set(&mut self.stale_if_error, value),
            _ => {}
        }
    }

    /// What the targeted field says, if it is there, sound, and says anything (RFC 9213 §2.2).
    fn targeted(headers: &HeaderMap) -> Option<Self> {
        let lines: Vec<&[u8]> = headers
            .get_all(CDN_CACHE_CONTROL)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if lines.is_empty() {
            return None;
        }
        let text = lines.join(&b", "[..]);
        let members: Dictionary = Parser::new(&text).parse().ok()?;
        if members.is_empty() {
            return None;
        }
        let mut directives = Self {
            are_targeted: true,
            ..Self::default()
        };
        for (name, member) in &members {
            let ListEntry::Item(item) = member else {
                continue;
            };
            let is_time = TIMES.contains(&name.as_str());
            match &item.bare_item {
                BareItem::Boolean(true) if !is_time => directives.add(name.as_str(), None),
                BareItem::Integer(seconds) if is_time => {
                    let seconds = i64::from(*seconds).max(0).to_string();
                    directives.add(name.as_str(), Some(&seconds));
                }
                BareItem::String(text) if !is_time => {
                    directives.add(name.as_str(), Some(text.as_str()));
                }
                _ => {}
            }
        }
        Some(directives)
    }
}

/// Whether an answer may be given stale to a client that asks for that (RFC 9111 §4.2.4).
pub fn may_be_stale(headers: &HeaderMap) -> bool {
    let directives = ResponseDirectives::of(headers);
    !directives.never_stale && directives.no_cache != Extent::Everything
}

impl Extent {
    fn add(&mut self, value: Option<&str>) {
        let Some(names) = value else {
            *self = Self::Everything;
            return;
        };
        let mut fields = match std::mem::take(self) {
            Self::Everything => {
                *self = Self::Everything;
                return;
            }
            Self::Fields(fields) => fields,
            Self::Nothing => Vec::new(),
        };
        for name in names.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => fields.push(name),
                // What can't be understood is taken for all of it.
                Err(_) => {
                    *self = Self::Everything;
                    return;
                }
            }
        }
        *self = match fields.is_empty() {
            true => Self::Everything,
            false => Self::Fields(fields),
        };
    }

    pub(super) fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(fields) => fields,
            _ => &[],
        }
    }
}

impl RequestDirectives {
    /// What the header of a request says. `Pragma: no-cache` counts where nothing else does.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            // It counts where nothing else does.
            let pragma = headers.get(http::header::PRAGMA);
            directives.no_cache =
                pragma.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"no-cache"));
            return directives;
        }
        for_each(headers, |name, value| match name {
            "no-cache" => directives.no_cache = true,
            "no-store" => directives.no_store = true,
            "only-if-cached" => directives.only_if_cached = true,
            "max-age" => set(&mut directives.max_age, value),
            "min-fresh" => set(&mut directives.min_fresh, value),
            "max-stale" => match value {
                None => directives.max_stale = Some(LONGEST),
                value => set(&mut directives.max_stale, value),
            },
            _ => {}
        });
        directives
    }
}

/// The first value counts; one that is wrong, or another one beside it, means that nothing is fresh
/// (RFC 9111 §4.2.1).
fn set(seconds: &mut Option<u32>, value: Option<&str>) {
    let value = value.and_then(delta_seconds).unwrap_or(0);
    *seconds = Some(match *seconds {
        Some(before) if before != value => 0,
        _ => value,
    });
}

fn delta_seconds(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Larger than any number is a very long time.
    is_number.then(|| text.parse().unwrap_or(LONGEST).min(LONGEST))
}

/// Every directive, its name in lower case.
fn for_each(headers: &HeaderMap, mut take: impl FnMut(&str, Option<&str>)) {
    for line in headers.get_all(CACHE_CONTROL) {
        let Ok(line) = line.to_str() else {
            // Whoever writes such a thing must not find it ignored.
            take("no-store", None);
            continue;
        };
        for part in split(line) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(unquoted(value.trim()))),
                None => (part, None),
            };
            let name = name.trim().to_ascii_lowercase();
            if !name.is_empty() {
                take(&name, value);
            }
        }
    }
}

/// The parts between commas that are not quoted.
fn split(line: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    line.split(move |character| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match character {
            '"' if !was_escaped => is_quoted = !is_quoted,
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            _ => {}
        }
        character == ',' && !is_quoted
    })
}

fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn of(text: &str) -> ResponseDirectives {
        ResponseDirectives::of(&headers(&[("cache-control", text)]))
    }

    #[test]
    fn names_are_of_any_case_and_values_may_be_quoted() {
        let directives = of("Public, MAX-AGE=\"60\" ,no-store=x");
        assert!(directives.public && directives.no_store);
        assert_eq!(directives.max_age, Some(60));
    }

    #[test]
    fn a_comma_in_quotes_ends_nothing() {
        let directives = of(r#"ext="a, no-store, \" b", private="X-A, x-b", max-age=5"#);
        assert!(!directives.no_store);
        let names = ["x-a", "x-b"].map(HeaderName::from_static);
        assert_eq!(directives.private, Extent::Fields(names.into()));
        assert_eq!(directives.max_age, Some(5));
    }

    #[test]
    fn a_time_that_is_none_or_contradicts_itself_is_no_time() {
        for text in [
            "max-age=1.5",
            "max-age=-1",
            "max-age=",
            "max-age",
            "max-age=5, max-age=6",
        ] {
            assert_eq!(of(text).max_age, Some(0), "{text}");
        }
        assert_eq!(of("max-age=5, max-age=5").max_age, Some(5));
        assert_eq!(of("max-age=99999999999999999999").max_age, Some(LONGEST));
    }

    #[test]
    fn what_names_no_field_holds_for_everything() {
        assert_eq!(of("private").private, Extent::Everything);
        assert_eq!(of("private=\"\"").private, Extent::Everything);
        assert_eq!(of("no-cache=\"a b\"").no_cache, Extent::Everything);
        assert_eq!(of("private, private=\"x\"").private, Extent::Everything);
    }

    #[test]
    fn the_targeted_field_goes_before_if_it_is_sound() {
        let both = |targeted| {
            let fields = [
                ("cache-control", "no-store"),
                ("cdn-cache-control", targeted),
            ];
            ResponseDirectives::of(&headers(&fields))
        };
        assert_eq!(both("max-age=60").max_age, Some(60));
        assert!(!both("max-age=60").no_store);
        // Directives are the values that stand there, and no others.
        assert_eq!(both("max-age=60.5, public").max_age, None);
        assert!(!both("no-store=?0, max-age=1").no_store);
        for unsound in ["", "max-age=60,,", "MAX-AGE=60", "max-age=60; ="] {
            assert!(both(unsound).no_store, "{unsound}");
        }
    }

    #[test]
    fn pragma_counts_where_nothing_else_does() {
        assert!(RequestDirectives::of(&headers(&[("pragma", "no-cache")])).no_cache);
        let both = [("pragma", "no-cache"), ("cache-control", "max-stale")];
        let directives = RequestDirectives::of(&headers(&both));
        assert!(!directives.no_cache);
        assert_eq!(directives.max_stale, Some(LONGEST));
    }

    proptest! {
        #[test]
        fn no_text_hides_what_forbids_to_keep(before in "[a-z=0-9, ]*", after in "[a-z=0-9\", \\\\]*") {
            let text = format!("{before},no-store,{after}");
            prop_assert!(of(&text).no_store, "{}", text);
        }
    }
}
