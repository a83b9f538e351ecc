//! The targets of a service, as written and compiled.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::discovery::{Discovered, Name, Question};
use super::endpoint::Endpoint;
use super::service::Target;
use super::trust::EndpointSettings;
use super::url::BaseUrl;
use crate::config::{self, Diagnostics, Span, Spanned, TargetFields, socket_path};

/// Most targets of a service.
const MOST_TARGETS: usize = 1000;
/// How often a name may be looked up.
const REFRESH: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);

/// A target, and whether it is reached over TLS.
pub(super) struct Compiled {
    pub(super) target: Target,
    pub(super) is_tls: bool,
}

/// The targets of a section, whichever way they are written; `None` if there are none, or none that
/// could be understood.
pub(super) fn written<'s>(
    section: &'s Spanned<config::Service>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Cow<'s, Spanned<config::Target>>>> {
    match (&section.base_url, &section.targets) {
        (Some(url), None) => {
            let target = config::Target::Url(url.clone());
            Some(vec![Cow::Owned(Spanned::new(target, url.span))])
        }
        (None, Some(targets))
            if targets.is_empty() && diagnostics.has_error_within(targets.span) =>
        {
            None
        }
        (None, Some(targets)) if targets.is_empty() => {
            diagnostics
                .error(targets.span, "`targets` is empty")
                .help("list at least one URL, such as `- http://127.0.0.1:9001`");
            None
        }
        (None, Some(targets)) if targets.len() > MOST_TARGETS => {
            diagnostics.error(
                targets.span,
                format!(
                    "{} targets are too many: at most {MOST_TARGETS}",
                    targets.len()
                ),
            );
            None
        }
        (None, Some(targets)) => Some(targets.iter().map(Cow::Borrowed).collect()),
        (Some(url), Some(targets)) => {
            diagnostics
                .error(targets.span, "both `base_url` and `targets` are given")
                .related(url.span, "`base_url` is here")
                .help("move the `base_url` into the list of targets");
            None
        }
        (None, None) => None,
    }
}

/// Each target, or `None` where it has an error, which has been reported.
pub(super) fn compile(
    written: &[Cow<'_, Spanned<config::Target>>],
    settings: &EndpointSettings,
    diagnostics: &mut Diagnostics,
) -> Vec<Option<Compiled>> {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    let mut compiled = Vec::with_capacity(written.len());
    for target in written {
        let short;
        let fields = match &target.value {
            config::Target::Url(url) => {
                short = TargetFields {
                    url: Some(Spanned::new(url.value.clone(), url.span.or(target.span))),
                    ..TargetFields::default()
                };
                &short
            }
            config::Target::Detailed(fields) => fields,
        };
        let name = match &target.value {
            config::Target::Url(url) => Some(url),
            config::Target::Detailed(fields) => {
                let names = [&fields.url, &fields.dns, &fields.srv];
                names.into_iter().flatten().next()
            }
        };
        if let Some(name) = name {
            let span = name.span.or(target.span);
            if let Some(first) = seen.insert(name.as_str(), span) {
                diagnostics
                    .warning(span, format!("`{name}` is listed twice"))
                    .related(first, "first listed here")
                    .help("give it a `weight` of 2 instead");
            }
        }
        compiled.push(one(fields, target.span, settings, diagnostics));
    }
    compiled
}

fn one(
    fields: &TargetFields,
    span: Span,
    settings: &EndpointSettings,
    diagnostics: &mut Diagnostics,
) -> Option<Compiled> {
    let weight = weight(fields, diagnostics);
    match (&fields.url, &fields.dns, &fields.srv) {
        (Some(url), None, None) => {
            if let Some(refresh) = &fields.refresh {
                diagnostics
                    .error(refresh.span, "`refresh` has no use with a `url`")
                    .help("write `dns` instead of `url` to use all addresses of a name");
            }
            let endpoint = BaseUrl::parse(url).and_then(|url| Endpoint::new(url, settings));
            let endpoint = Arc::new(reported(endpoint, url.span, diagnostics)?);
            let name = Name::of_endpoint(endpoint.clone()).map(Arc::new);
            let is_tls = endpoint.is_tls();
            Some(Compiled {
                target: Target::Endpoint(endpoint, weight?, name),
                is_tls,
            })
        }
        (None, Some(name), None) | (None, None, Some(name)) => {
            let refresh = refresh(fields, diagnostics);
            let url = reported(url_of_name(name), name.span, diagnostics)?;
            if url.address().is_some() {
                diagnostics
                    .error(name.span, format!("`{name}` is an address, not a name"))
                    .help("write it as a `url`");
                return None;
            }
            let question = match &fields.srv {
                None => Question::Addresses(url.host.clone(), url.port),
                Some(_) if url.has_port() => {
                    diagnostics
                        .error(name.span, format!("`{name}` has a port"))
                        .help("SRV records say the ports: leave it out");
                    return None;
                }
                Some(_) => Question::Places(url.host.clone()),
            };
            let is_tls = url.is_tls;
            let discovered = Discovered::new(url, settings.clone(), weight?);
            let name = Name::of_endpoints(question, refresh, discovered);
            Some(Compiled {
                target: Target::Name(Arc::new(name)),
                is_tls,
            })
        }
        _ => {
            diagnostics
                .error(span, "a target needs exactly one of `url`, `dns` and `srv`")
                .help("such as `http://127.0.0.1:9001` or `{ dns: orders.internal:9001 }`");
            None
        }
    }
}

fn weight(fields: &TargetFields, diagnostics: &mut Diagnostics) -> Option<u32> {
    let Some(weight) = &fields.weight else {
        return Some(1);
    };
    if !(1..=1000).contains(&weight.value) {
        diagnostics
            .error(weight.span, format!("weight {weight} is out of range"))
            .help("weights are whole numbers from 1 to 1000");
        return None;
    }
    Some(weight.value)
}

fn refresh(fields: &TargetFields, diagnostics: &mut Diagnostics) -> Option<Duration> {
    let refresh = fields.refresh.as_ref()?;
    if !REFRESH.contains(&refresh.0) {
        diagnostics
            .error(
                refresh.span,
                format!("a refresh of {} is out of range", refresh.value),
            )
            .help("100ms to 1h; leave it out to go by the answer's time to live");
    }
    Some(refresh.0)
}

/// A name is written with or without a scheme.
fn url_of_name(name: &str) -> Result<BaseUrl, String> {
    if socket_path(name).is_some() {
        return Err(format!(
            "`{name}` is a socket, not a name: write it as a `url`"
        ));
    }
    match name.contains("://") {
        true => BaseUrl::parse(name),
        false => BaseUrl::parse(&format!("http://{name}")),
    }
}

fn reported<T>(result: Result<T, String>, span: Span, diagnostics: &mut Diagnostics) -> Option<T> {
    result
        .inspect_err(|reason| {
            diagnostics.error(span, reason.clone());
        })
        .ok()
}
