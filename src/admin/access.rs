//! Who may ask for what.
//!
//! On a loopback address reading needs no token, but a `Host` that is none of a browser's lured elsewhere (DNS
//! rebinding). What changes something needs the token everywhere, which no page of another origin can send
//! (cross-site request forgery).

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::answer::Answer;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody who reaches the address.
    Anybody,
    /// Who is on this machine or has the token.
    Reader,
    /// Who has the token.
    Changer,
}

impl Access {
    /// Whether a request may do what needs this.
    ///
    /// # Errors
    /// The answer to one that may not.
    pub(super) fn check(
        self,
        headers: &HeaderMap,
        token: Option<&str>,
        is_loopback: bool,
    ) -> Result<(), Answer> {
        if self == Self::Anybody {
            return Ok(());
        }
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match (token, given) {
            (Some(token), Some(given)) if is_equal(token, given) => Ok(()),
            (Some(_), Some(_)) => Err(unauthorized(
                "this is not the token that `admin.token` asks for",
            )),
            _ if is_loopback && self == Self::Reader => {
                let host = headers
                    .get(header::HOST)
                    .and_then(|host| host.to_str().ok());
                if host.is_some_and(is_this_machine) {
                    return Ok(());
                }
                let text = "ask for this by address or as localhost, or send the token";
                Err(Answer::text(StatusCode::FORBIDDEN, text))
            }
            (Some(_), None) => Err(unauthorized(
                "send the token of `admin.token`: `Authorization: Bearer …`",
            )),
            (None, _) => Err(Answer::text(
                StatusCode::FORBIDDEN,
                "this needs a token: set `admin.token` in the configuration",
            )),
        }
    }
}

fn unauthorized(text: &str) -> Answer {
    Answer::text(StatusCode::UNAUTHORIZED, text)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// Compares in a time that depends on nothing but the length.
fn is_equal(token: &str, given: &str) -> bool {
    token.len() == given.len() && openssl::memcmp::eq(token.as_bytes(), given.as_bytes())
}

/// Whether a `Host` field names an address or the local host: a page that was lured here by DNS
/// names its own.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered_without_a_token() {
        for host in [
            "127.0.0.1:9900",
            "localhost",
            "LOCALHOST:1",
            "[::1]:9900",
            "10.0.0.1",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:9900",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
