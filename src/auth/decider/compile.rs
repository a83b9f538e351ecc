//! A decider from its section, or every reason why not.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, header};

use super::{Decider, ROLES};
use crate::auth::consumer::Members;
use crate::auth::header::{copied_header, forwarded_header, name};
use crate::auth::identity::Likeness;
use crate::config::{Diagnostics, ForwardAuth, OnFailure, OneOrMany, Period, Spanned};

const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// What it sees of a request unless that is said: credentials, and what tells a page from a script's call.
const SEEN: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::ACCEPT,
    header::USER_AGENT,
    HeaderName::from_static("x-requested-with"),
];

type ReadName = fn(&Spanned<String>, &mut Diagnostics) -> Option<HeaderName>;

impl Decider {
    /// Compiles a `forward` section, or reports everything that is wrong with it.
    pub(in crate::auth) fn compile(
        provider: &str,
        section: &Spanned<ForwardAuth>,
        members: Members,
        number: usize,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let target = target(section, diagnostics);
        let timeout = timeout(&section.timeout, diagnostics);
        let mut list = |written: &OneOrMany<Spanned<String>>, read: ReadName| {
            let names = written.iter().map(|it| read(it, diagnostics));
            // All of them, so that all errors are found.
            let names: Vec<_> = names.collect();
            names.into_iter().collect::<Option<Box<[_]>>>()
        };
        let seen = match &section.request_headers {
            Some(written) => list(written, copied_header),
            None => Some(SEEN.into()),
        };
        let for_backends = list(&section.copy_response_headers, forwarded_header);
        let for_clients = list(&section.copy_to_client, copied_header);
        let mut one = |written: &Option<Spanned<String>>| match written {
            Some(written) => name(written, diagnostics).map(Some),
            None => Some(None),
        };
        let (subject, roles) = (one(&section.subject_from), one(&section.roles_from));
        warn(section, diagnostics);
        Some(Self {
            number,
            target: target?,
            timeout: timeout?,
            seen: seen?,
            is_open_on_failure: section.on_failure.value == OnFailure::Allow,
            for_backends: for_backends?,
            for_clients: for_clients?,
            subject: subject?,
            roles: roles?,
            likeness: Likeness {
                roles: Box::new([ROLES.into()]),
                ..Likeness::of_names(provider, None, members, [])
            },
            is_failing: AtomicBool::new(false),
        })
    }
}

fn target(section: &ForwardAuth, diagnostics: &mut Diagnostics) -> Option<PathAndQuery> {
    let (origin, rest) = section.url_parts();
    let problem = if origin.contains('@') {
        "a URL with a user or password is not supported".to_owned()
    } else if rest.contains('#') {
        format!(
            "`{}` has a fragment (`#…`), which is never sent",
            section.url
        )
    } else {
        let path = if rest.starts_with('/') { "" } else { "/" };
        match format!("{path}{rest}").parse() {
            Ok(target) => return Some(target),
            Err(error) => format!("`{}` is not a URL: {error}", section.url),
        }
    };
    diagnostics
        .error(section.url.span, problem)
        .help("write what is asked for, such as `http://127.0.0.1:4180/auth`");
    None
}

fn timeout(written: &Spanned<Period>, diagnostics: &mut Diagnostics) -> Option<Duration> {
    let timeout = written.0;
    if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
        diagnostics
            .error(
                written.span,
                format!("a timeout of {written} is out of range"),
            )
            .help("1ms to 1m: each request waits for the answer");
        return None;
    }
    Some(timeout)
}

fn warn(section: &ForwardAuth, diagnostics: &mut Diagnostics) {
    if section.on_failure.value == OnFailure::Allow {
        diagnostics
            .warning(
                section.on_failure.span,
                "requests come in unchecked while nobody decides about them",
            )
            .label("who can make that service fail comes in")
            .help("remove it to answer them with 503");
    }
    for written in &section.copy_response_headers {
        if written.eq_ignore_ascii_case("authorization") || written.eq_ignore_ascii_case("cookie") {
            diagnostics
                .warning(
                    written.span,
                    format!("clients' own `{written}` reaches no backend any more, by no route"),
                )
                .help("let the service answer in a header of its own, such as `X-User`");
        }
    }
}
