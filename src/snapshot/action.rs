//! What becomes of a route's requests, from its section.

use std::collections::HashMap;
use std::sync::Arc;

use super::route::{Action, Forward, Mirror, Rewrite};
use crate::config::{self, Diagnostics, RouteFields, Spanned, nearest};
use crate::routing::Pattern;
use crate::traffic::{Redirect, Respond, Template};
use crate::upstream::{HashKey, Service, Split};

/// The services by name; `None` for those without backends.
pub(super) type Services<'s> = HashMap<&'s str, Option<Arc<Service>>>;

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
    services: &Services<'_>,
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
    let mirror = match &section.mirror {
        None => Ok(None),
        Some(mirror) => self::mirror(mirror, services, diagnostics).map(Some),
    };
    let split = match (&section.split, service) {
        (Some(parts), _) => split(parts, section, services, diagnostics),
        (None, Some(service)) => Ok(Split::whole(service.clone())),
        (None, None) => Err(Lacking::Backend),
    };
    Ok(Action::Forward(Forward {
        split: split?,
        mirror: mirror?,
        rewrite: rewrite.ok_or(Lacking::Reported)?,
    }))
}

fn mirror(
    section: &Spanned<config::Mirror>,
    services: &Services<'_>,
    diagnostics: &mut Diagnostics,
) -> Result<Mirror, Lacking> {
    if section.share.0 == 0 {
        diagnostics
            .error(
                section.share.span,
                "`share` is zero, so nothing would be copied",
            )
            .help("1% to 100%, or remove `mirror`");
    }
    let service = named(&section.service, services, diagnostics);
    Ok(Mirror {
        service: service.ok_or(Lacking::Reported)?,
        share: section.share.0,
    })
}

fn split(
    parts: &Spanned<Vec<Spanned<config::SplitPart>>>,
    section: &RouteFields,
    services: &Services<'_>,
    diagnostics: &mut Diagnostics,
) -> Result<Split, Lacking> {
    let mut compiled = Vec::with_capacity(parts.len());
    for part in parts.iter() {
        if part.weight.value > 1000 {
            diagnostics
                .error(
                    part.weight.span,
                    format!("weight {} is out of range", part.weight),
                )
                .help("weights are whole numbers from 0 to 1000");
        }
        let service = named(&part.service, services, diagnostics);
        compiled.extend(service.map(|service| (service, part.weight.value.min(1000))));
    }
    if compiled.len() < parts.len() {
        return Err(Lacking::Reported);
    }
    if compiled.iter().all(|(_, weight)| *weight == 0) {
        diagnostics
            .error(parts.span, "`split` gives no service a share")
            .help("list at least one service with a weight above 0");
        return Err(Lacking::Reported);
    }
    let by = section.split_by.as_ref().map(|by| HashKey::compile(by));
    Ok(Split::new(compiled, by))
}

/// The service of this name, which must have a backend.
pub(super) fn named(
    name: &Spanned<String>,
    services: &Services<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<Service>> {
    match services.get(name.as_str()) {
        Some(Some(service)) => Some(service.clone()),
        // A service that is wrong has been reported itself.
        Some(None) if diagnostics.has_errors() => None,
        Some(None) => {
            diagnostics
                .error(name.span, format!("`{name}` has no backend to forward to"))
                .help("add `base_url` or `targets` to it, or name another service");
            None
        }
        None => {
            let known = services.keys().copied();
            let help = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "services stand under `services`".to_owned(),
            };
            if !diagnostics.has_lost_key(name) {
                diagnostics
                    .error(name.span, format!("unknown service `{name}`"))
                    .help(help);
            }
            None
        }
    }
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
    let forwarding = [
        ("split", section.split.as_ref().map(|it| it.span)),
        ("mirror", section.mirror.as_ref().map(|it| it.span)),
    ];
    let own = written
        .iter()
        .skip(2)
        .find_map(|(name, span)| Some((name, (*span)?)));
    if let Some((name, span)) = own {
        for (other, place) in forwarding {
            if let Some(place) = place {
                diagnostics
                    .error(place, format!("`{other}` and `{name}` exclude each other"))
                    .related(span, format!("`{name}` is here"))
                    .help("keep one of them");
            }
        }
    }
    if let (Some(by), None) = (&section.split_by, &section.split) {
        diagnostics
            .error(by.span, "`split_by` has no use without `split`")
            .help("add `split`, or remove it");
    }
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
