//! What becomes of a route's requests, from its section.

use std::sync::Arc;

use super::route::{Action, Forward, Rewrite};
use crate::config::{Diagnostics, RouteFields};
use crate::routing::Pattern;
use crate::traffic::{Redirect, Respond, Template};
use crate::upstream::Service;

/// Why a route has no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacking {
    /// It forwards, and its service has no backend.
    Backend,
    /// Something that has been reported.
    Reported,
}

/// Compiles the action of a route whose path is `pattern`, written as the text beside it.
pub(super) fn compile(
    section: &RouteFields,
    pattern: Option<&(Pattern, &str)>,
    service: Option<&Arc<Service>>,
    diagnostics: &mut Diagnostics,
) -> Result<Action, Lacking> {
    let parameters = pattern
        .map(|(pattern, _)| pattern.names())
        .unwrap_or_default();
    report_contradictions(section, diagnostics);
    if let Some(redirect) = &section.redirect {
        let prefix = section.prefix.as_ref().map(|prefix| prefix.as_str());
        let redirect = Redirect::compile(redirect, &parameters, prefix, diagnostics);
        return redirect.map(Action::Redirect).ok_or(Lacking::Reported);
    }
    if let Some(respond) = &section.respond {
        let respond = Respond::compile(respond, diagnostics);
        return respond.map(Action::Respond).ok_or(Lacking::Reported);
    }
    let rewrite = match pattern {
        Some((pattern, text)) => rewrite(section, pattern, text, diagnostics),
        None => None,
    };
    let Some(service) = service else {
        return Err(Lacking::Backend);
    };
    Ok(Action::Forward(Forward {
        service: service.clone(),
        rewrite: rewrite.ok_or(Lacking::Reported)?,
    }))
}

/// `None` if there is an error.
fn rewrite(
    section: &RouteFields,
    pattern: &Pattern,
    text: &str,
    diagnostics: &mut Diagnostics,
) -> Option<Rewrite> {
    if let Some(to) = &section.rewrite {
        if !to.starts_with('/') {
            diagnostics
                .error(to.span, format!("`{to}` does not start with `/`"))
                .help(format!(
                    "write `/{to}`; the backend's address stands in `base_url`"
                ));
            return None;
        }
        if to
            .bytes()
            .any(|byte| !byte.is_ascii_graphic() || byte == b'#')
        {
            diagnostics
                .error(
                    to.span,
                    "a path can't hold spaces, `#`, or letters beyond ASCII",
                )
                .help("percent-encode them");
            return None;
        }
        let template = Template::compile(to, &pattern.names(), to.span, diagnostics)?;
        return Some(if pattern.is_prefix() {
            Rewrite::ReplacePrefix(text.trim_end_matches('/').into(), template)
        } else {
            Rewrite::Replace(template)
        });
    }
    let Some(strip) = &section.strip_prefix else {
        return Some(Rewrite::Keep);
    };
    let leading = strip.trim_end_matches('/');
    let is_leading = text
        .strip_prefix(leading)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if leading.is_empty() || leading.contains(['{', '}']) || !is_leading {
        diagnostics
            .error(
                strip.span,
                format!("`{strip}` is not a leading part of `{text}`"),
            )
            .help(
                "whole segments of the route's own path, without parameters; use `rewrite` for \
                 anything else",
            );
        return None;
    }
    Some(Rewrite::Strip(leading.into()))
}

fn report_contradictions(section: &RouteFields, diagnostics: &mut Diagnostics) {
    let written = [
        ("rewrite", section.rewrite.as_ref().map(|it| it.span)),
        (
            "strip_prefix",
            section.strip_prefix.as_ref().map(|it| it.span),
        ),
        ("redirect", section.redirect.as_ref().map(|it| it.span)),
        ("respond", section.respond.as_ref().map(|it| it.span)),
    ];
    let mut written = written
        .iter()
        .filter_map(|(name, span)| span.map(|span| (name, span)));
    let Some((first, first_span)) = written.next() else {
        return;
    };
    for (name, span) in written {
        diagnostics
            .error(span, format!("`{name}` and `{first}` exclude each other"))
            .related(first_span, format!("`{first}` is here"))
            .help("keep one of them");
    }
}
