//! A service from its section, or every reason why not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use pingora::tls::x509::X509;

use super::balance::Law;
use super::breaker::CircuitBreaker;
use super::endpoint::{Endpoint, EndpointSettings};
use super::health::{HealthCheck, OutlierDetection};
use super::service::{HostPolicy, Rules, Service};
use super::url::BaseUrl;
use crate::config::{self, Diagnostics, HostHeader, Span, Spanned, Toggle};

/// Most targets of a service.
const MOST_TARGETS: usize = 1000;
const SLOW_START: Duration = Duration::from_secs(10);
const LONGEST_SLOW_START: Duration = Duration::from_secs(15 * 60);

impl Service {
    /// A service from its section. `None` for one without backends, which may only redirect and
    /// answer itself, and for one with errors, which have been reported.
    pub fn compile(
        name: &str,
        section: &Spanned<config::Service>,
        base: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let targets = targets(section, diagnostics)?;
        let settings = endpoint_settings(section, base, diagnostics)?;
        let mut members = Vec::with_capacity(targets.len());
        let mut is_complete = true;
        for (url, weight) in &targets {
            if !(1..=1000).contains(&weight.value) {
                diagnostics
                    .error(weight.span, format!("weight {weight} is out of range"))
                    .help("weights are whole numbers from 1 to 1000");
                is_complete = false;
                continue;
            }
            match BaseUrl::parse(url).and_then(|url| Endpoint::new(url, &settings)) {
                Ok(endpoint) => {
                    members.push((Arc::new(endpoint), weight.value));
                }
                Err(reason) => {
                    diagnostics.error(url.span, reason);
                    is_complete = false;
                }
            }
        }
        warn_about_tls(section, &members, diagnostics);
        let outliers = OutlierDetection::compile(section.outlier_detection.as_deref(), diagnostics);
        let breaker = CircuitBreaker::compile(section.circuit_breaker.as_deref(), diagnostics);
        let health_check = section
            .health_check
            .as_ref()
            .and_then(|it| it.value.on())
            .map(|written| HealthCheck::compile(written, diagnostics));
        let host = match section.host_header.as_deref() {
            None | Some(HostHeader::Upstream) => HostPolicy::Upstream,
            Some(HostHeader::Client) => HostPolicy::Client,
            // The text was checked when it was read.
            Some(HostHeader::Fixed(name)) => HostPolicy::Fixed(HeaderValue::from_str(name).ok()?),
        };
        let rules = Rules {
            host,
            law: section
                .load_balancing
                .as_deref()
                .map_or(Law::LeastRequests, Law::compile),
            slow_start: slow_start(section, diagnostics),
            outliers,
            breaker,
            health_check,
        };
        is_complete.then(|| Self::new(name, rules, members))
    }
}

/// For how long endpoints that come back get less than their share.
fn slow_start(section: &config::Service, diagnostics: &mut Diagnostics) -> Duration {
    let written = section.slow_start.as_ref();
    match written.map(|it| (&it.value, it.span)) {
        None => SLOW_START,
        Some((Toggle::Off, _)) => Duration::ZERO,
        Some((Toggle::On(period), span)) => {
            if period.0.is_zero() || period.0 > LONGEST_SLOW_START {
                diagnostics
                    .error(span, "`slow_start` is out of range")
                    .help("1ms to 15m, or `off`");
            }
            period.0
        }
    }
}

/// The URLs and weights of a section, whichever way they are written.
fn targets(
    section: &Spanned<config::Service>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<(Spanned<String>, Spanned<u32>)>> {
    match (&section.base_url, &section.targets) {
        (Some(url), None) => Some(vec![(url.clone(), 1.into())]),
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
        (None, Some(targets)) => Some(listed(targets, diagnostics)),
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

fn listed(
    targets: &Spanned<Vec<Spanned<config::Target>>>,
    diagnostics: &mut Diagnostics,
) -> Vec<(Spanned<String>, Spanned<u32>)> {
    let mut seen: std::collections::HashMap<&str, Span> = std::collections::HashMap::new();
    let mut list = Vec::with_capacity(targets.len());
    for target in targets.iter() {
        let url = target.url();
        let span = url.span.or(target.span);
        if let Some(first) = seen.insert(url.as_str(), span) {
            diagnostics
                .warning(span, format!("`{url}` is listed twice"))
                .related(first, "first listed here")
                .help("give it a `weight` of 2 instead");
        }
        list.push((Spanned::new(url.value.clone(), span), target.weight()));
    }
    list
}

fn endpoint_settings(
    section: &config::Service,
    base: &Path,
    diagnostics: &mut Diagnostics,
) -> Option<EndpointSettings> {
    let Some(tls) = &section.tls else {
        return Some(EndpointSettings::default());
    };
    let mut settings = EndpointSettings {
        server_name: tls.server_name.as_ref().map(|name| name.as_str().into()),
        skip_verification: !tls.verify.value,
        trust: 1,
        ..EndpointSettings::default()
    };
    if settings.skip_verification {
        diagnostics
            .warning(
                tls.verify.span,
                "certificates of this service are not verified",
            )
            .label("anyone on the way can pose as the backend")
            .help("trust its authority with `ca: path.pem` instead");
    }
    if let Some(name) = &tls.server_name
        && name.is_empty()
    {
        diagnostics
            .error(
                name.span,
                "`server_name` is empty, which would switch verification off",
            )
            .help("leave it out to use the URL's host");
        return None;
    }
    if let Some(file) = &tls.ca {
        let pem = match std::fs::read(base.join(file.as_str())) {
            Ok(pem) => pem,
            Err(error) => {
                diagnostics.error(file.span, format!("`{file}` can't be read: {error}"));
                return None;
            }
        };
        match X509::stack_from_pem(&pem) {
            Ok(certificates) if !certificates.is_empty() => {
                let mut hasher = std::hash::DefaultHasher::new();
                std::hash::Hash::hash(&(&pem, &settings.server_name), &mut hasher);
                settings.trust = std::hash::Hasher::finish(&hasher);
                settings.ca = Some(Arc::new(certificates.into()));
            }
            _ => {
                diagnostics
                    .error(file.span, format!("`{file}` holds no certificate"))
                    .help("it must be a PEM file with `-----BEGIN CERTIFICATE-----`");
                return None;
            }
        }
    }
    Some(settings)
}

fn warn_about_tls(
    section: &config::Service,
    members: &[(Arc<Endpoint>, u32)],
    diagnostics: &mut Diagnostics,
) {
    if let Some(tls) = &section.tls
        && !members.is_empty()
        && members
            .iter()
            .all(|(endpoint, _)| endpoint.as_str().starts_with("http://"))
    {
        diagnostics
            .warning(
                tls.span,
                "`tls` has no effect: no backend of this service is `https`",
            )
            .help("write `https://` in its URL, or remove `tls`");
    }
}
