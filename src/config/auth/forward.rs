//! Forward authentication as written: another service decides.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::shape::OneOrMany;
use super::super::source::Spanned;
use super::super::units::Period;

/// Another service that is asked about each request: it lets the request in by an answer of 200 to 299.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardAuth {
    /// What it is asked for, such as `http://127.0.0.1:4180/auth`.
    pub url: Spanned<String>,
    /// How long its answer may take, connection included, 1ms to 1m. Default `1s`. Requests wait for it.
    #[serde(default = "one_second")]
    pub timeout: Spanned<Period>,
    /// A PEM file with the authorities that are trusted instead of the system's, if its URL is `https`.
    pub ca: Option<Spanned<String>>,
    /// A PEM file with the certificate that it is shown if it asks for one, and behind it those that vouch for it.
    /// Default: none.
    pub client_cert: Option<Spanned<String>>,
    /// A PEM file with its key, not encrypted.
    pub client_key: Option<Spanned<String>>,
    /// The client's headers that it sees. Default `[Authorization, Cookie, Accept, User-Agent,
    /// X-Requested-With]`. It always sees `X-Forwarded-Method`, `-Uri`, `-Host`, `-Proto`, `-For`,
    /// `Forwarded` and `X-Request-Id`.
    pub request_headers: Option<OneOrMany<Spanned<String>>>,
    /// Headers of its answer that backends see. Default: none. What clients send in them is removed.
    #[serde(default)]
    pub copy_response_headers: OneOrMany<Spanned<String>>,
    /// Headers of its answer that clients see, whether or not it lets them in. Default: none; of a refusal
    /// they always see what makes it one.
    #[serde(default)]
    pub copy_to_client: OneOrMany<Spanned<String>>,
    /// The header of its answer that says who it is, by which consumers are known. Default: nothing does.
    pub subject_from: Option<Spanned<String>>,
    /// The header of its answer that lists roles, separated by commas. Default: none does.
    pub roles_from: Option<Spanned<String>>,
    /// What happens to requests that it does not decide about. Default `deny`: they are answered with 503.
    #[serde(default)]
    pub on_failure: Spanned<OnFailure>,
}

/// What happens to requests that nobody decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They are refused.
    #[default]
    Deny,
    /// They come in, as nobody, where no rights are asked for.
    Allow,
}

impl ForwardAuth {
    /// Its URL in two parts: scheme and host, and the rest.
    pub fn url_parts(&self) -> (&str, &str) {
        let url = self.url.as_str();
        let host = url.find("://").map_or(0, |end| end + 3);
        let end = url[host..].find(['/', '?', '#']);
        url.split_at(end.map_or(url.len(), |end| host + end))
    }
}

fn one_second() -> Spanned<Period> {
    Period::seconds(1).into()
}

#[cfg(test)]
mod tests {
    use super::super::super::{Source, parse};

    #[test]
    fn a_url_is_split_behind_its_host() {
        for (origin, rest) in [
            ("http://h:1", ""),
            ("http://h", "/auth?a=http://x/"),
            ("https://[::1]:4180", "?a"),
            ("h:1", "/auth"),
        ] {
            let text =
                format!("auth_providers: {{ o: {{ forward: {{ url: \"{origin}{rest}\" }} }} }}");
            let loaded = parse(Source::new("t.yaml", text), &|_| None);
            let forward = loaded.config.auth_providers["o"].forward.as_ref();
            assert_eq!(forward.unwrap().url_parts(), (origin, rest));
        }
    }
}
