//! A service from its section, or every reason why not.

use std::path::Path;
use std::time::Duration;

use http::HeaderValue;

use super::balance::Law;
use super::breaker::CircuitBreaker;
use super::health::{HealthCheck, OutlierDetection};
use super::service::{HostPolicy, Rules, Service};
use super::targets;
use super::trust::EndpointSettings;
use crate::config::{self, Diagnostics, HostHeader, Protocol, Spanned, Toggle};
use crate::telemetry::Meters;

const SLOW_START: Duration = Duration::from_secs(10);
const LONGEST_SLOW_START: Duration = Duration::from_secs(15 * 60);

impl Service {
    /// A service from its section. `None` for one without backends, which may only redirect and
    /// answer itself, and for one with errors, which have been reported.
    pub fn compile(
        name: &str,
        section: &Spanned<config::Service>,
        base: &Path,
        meters: &Meters,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let targets = targets::written(section, diagnostics)?;
        let settings = EndpointSettings::compile(section, base, diagnostics)?;
        let targets = targets::compile(&targets, &settings, diagnostics);
        if !targets.iter().any(Option::is_none) && targets.iter().flatten().all(|it| !it.is_tls) {
            warn_about_tls(section, diagnostics);
            if let Some(protocol) = section.protocol.as_ref()
                && protocol.value == Protocol::Auto
            {
                diagnostics
                    .warning(
                        protocol.span,
                        "`auto` is HTTP/1.1: no backend of this service is `https`",
                    )
                    .help("without TLS there is nothing to choose by: write `http1` or `http2`");
            }
        }
        refuse_grpc_web(section, diagnostics);
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
        let targets: Option<Vec<_>> = targets.into_iter().map(|it| Some(it?.target)).collect();
        Some(Self::new(name, rules, targets?, meters))
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

/// There is no gRPC over HTTP/1.1.
fn refuse_grpc_web(section: &config::Service, diagnostics: &mut Diagnostics) {
    if section.protocol.as_deref().copied().unwrap_or_default() != Protocol::Http1 {
        return;
    }
    let of_routes = section.routes.iter().map(|route| &route.value.0);
    // A route that splits its requests has them sent elsewhere.
    let of_routes = of_routes.filter(|route| route.split.is_none());
    let written = of_routes.map(|route| route.grpc_web.as_ref());
    for written in written.chain([section.grpc_web.as_ref()]).flatten() {
        if written.value {
            diagnostics
                .error(
                    written.span,
                    "the backends of this service don't speak gRPC",
                )
                .help("add `protocol: http2` to the service");
        }
    }
}

fn warn_about_tls(section: &config::Service, diagnostics: &mut Diagnostics) {
    if let Some(tls) = &section.tls {
        diagnostics
            .warning(
                tls.span,
                "`tls` has no effect: no backend of this service is `https`",
            )
            .help("write `https://` in its URL, or remove `tls`");
    }
}
