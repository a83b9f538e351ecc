//! Names of headers as they are written, and which of them can carry what.

use http::{HeaderName, header};

use super::consumer::{X_CONSUMER, X_CONSUMER_GROUPS};
use crate::config::{Diagnostics, Dictionary, Spanned};

/// What is about one message or one connection, and never copied from one to another.
const OF_ONE_MESSAGE: [HeaderName; 14] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::DATE,
    header::EXPECT,
    header::HOST,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A header in which backends are told who comes, or a report that it can't carry that.
pub(super) fn forwarded_header(
    written: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<HeaderName> {
    let name = name(written, diagnostics)?;
    if is_of_one_message(&name) || is_of_gateway(&name) {
        diagnostics
            .error(written.span, format!("`{written}` can't carry an identity"))
            .help("use a header of its own, such as `X-User-Id`");
        return None;
    }
    Some(name)
}

/// The headers in which claims are forwarded, or a report of what is wrong with them.
pub(super) fn forwarded_claims(
    written: &Dictionary<Spanned<String>>,
    diagnostics: &mut Diagnostics,
) -> Box<[(Box<str>, HeaderName)]> {
    let mut forwarded: Vec<(Box<str>, HeaderName)> = Vec::new();
    for (claim, header) in written {
        let Some(name) = forwarded_header(header, diagnostics) else {
            continue;
        };
        if forwarded.iter().any(|(_, known)| *known == name) {
            diagnostics
                .error(
                    header.span,
                    format!("two claims are forwarded in `{header}`"),
                )
                .help("give each a header of its own");
            continue;
        }
        forwarded.push((claim.as_str().into(), name));
    }
    forwarded.into()
}

/// A header that is copied from one message to another, or a report that it can't be.
pub(super) fn copied_header(
    written: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<HeaderName> {
    let name = name(written, diagnostics)?;
    let reason = if is_of_one_message(&name) {
        "it is about one message only"
    } else if is_of_gateway(&name) {
        "the gateway writes it itself"
    } else {
        return Some(name);
    };
    diagnostics
        .error(written.span, format!("`{written}` can't be copied"))
        .help(format!("leave it out: {reason}"));
    None
}

/// A name, or a report that it is none.
pub(super) fn name(written: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(written.as_bytes()).ok();
    if name.is_none() {
        diagnostics
            .error(written.span, format!("`{written}` is not a header name"))
            .help("names are letters, digits and `-`, such as `X-User-Id`");
    }
    name
}

fn is_of_one_message(name: &HeaderName) -> bool {
    OF_ONE_MESSAGE.contains(name)
}

/// Whether the gateway says something in it of its own.
fn is_of_gateway(name: &HeaderName) -> bool {
    let text = name.as_str();
    *name == X_CONSUMER
        || *name == X_CONSUMER_GROUPS
        || *name == header::VIA
        || *name == header::FORWARDED
        || text.starts_with("x-forwarded-")
        || text.starts_with("x-tollgate-")
        || matches!(
            text,
            "x-request-id"
                | "x-request-deadline-ms"
                | "proxy-status"
                | "ratelimit"
                | "ratelimit-policy"
        )
}
