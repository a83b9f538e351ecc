//! The limits of one place in the configuration, and what clients are answered whom they refuse.

use http::header::RETRY_AFTER;

use crate::config::{self, Diagnostics, OneOrMany, Period, Spanned};
use crate::limits::{Counters, LimitNumber, RateLimits, Scope};
use crate::traffic::Respond;

/// The limits of a place.
#[derive(Debug)]
pub struct Limits {
    /// Those of requests in a time.
    pub rates: RateLimits,
    /// What each answers, in the order written; `None` for the problem document.
    refusals: Box<[Option<Respond>]>,
}

impl Limits {
    /// Compiles the limits of a place, or reports what is wrong with them. What is under way when the
    /// process is to end has time until a `deadline`.
    pub(super) fn compile(
        section: &OneOrMany<config::RateLimit>,
        scope: Scope<'_>,
        (counters, deadline): (&Counters, Period),
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        for queue in section.iter().filter_map(|limit| limit.queue.as_ref()) {
            check_wait(&queue.max_wait, deadline, diagnostics);
        }
        let refusals = section.iter().map(|limit| {
            let written = limit.refusal.as_ref();
            written.and_then(|written| refusal(written, diagnostics))
        });
        Some(Self {
            refusals: refusals.collect(),
            rates: RateLimits::compile(section, scope, counters, diagnostics)?,
        })
    }

    /// What a client is answered whom this limit refuses, if it is not the problem document.
    pub fn refusal(&self, limit: LimitNumber) -> Option<&Respond> {
        self.refusals.get(self.rates.index(limit))?.as_ref()
    }
}

fn check_wait(wait: &Spanned<Period>, deadline: Period, diagnostics: &mut Diagnostics) {
    if wait.value > deadline {
        diagnostics
            .error(
                wait.span,
                format!("a request that waits for {wait} would be cut when the process ends"),
            )
            .help(format!(
                "up to {deadline}, or a longer `server.shutdown.deadline`"
            ));
    }
}

fn refusal(
    section: &Spanned<config::LimitRefusal>,
    diagnostics: &mut Diagnostics,
) -> Option<Respond> {
    let mut status = section.status.clone();
    if !(400..600).contains(&status.value) {
        diagnostics
            .error(
                status.span.or(section.span),
                format!("{status} is no status to refuse with"),
            )
            .help("statuses from 400 to 599");
        // What else is wrong is reported, too.
        status = config::LimitRefusal::default().status;
    }
    for name in section.headers.keys() {
        let is_ours = [RETRY_AFTER.as_str(), "ratelimit", "ratelimit-policy"]
            .iter()
            .any(|ours| name.eq_ignore_ascii_case(ours));
        if is_ours {
            diagnostics
                .error(
                    name.span,
                    format!("every refusal has a `{name}` of its own"),
                )
                .help("remove it");
        }
    }
    let respond = config::Respond {
        status,
        headers: section.headers.clone(),
        body: section.body.clone(),
    };
    Respond::compile(&Spanned::new(respond, section.span), diagnostics)
}
