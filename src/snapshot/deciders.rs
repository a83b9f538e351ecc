//! The services that decide about requests and get none: each has one URL and no section of its own.

use std::path::Path;
use std::sync::Arc;

use super::Snapshot;
use crate::config::{self, Diagnostics, ForwardAuth, Spanned, UpstreamTls};
use crate::telemetry::Meters;
use crate::upstream::Service;

/// What it is called in logs and metrics: services have names without a dot, or with another one.
const NAMES: &str = "auth_providers.";

/// The service of a `forward` section, with what its predecessor knows of its backend; `None` if it has
/// errors, which have been reported.
pub(super) fn compile(
    provider: &str,
    section: &Spanned<ForwardAuth>,
    base: &Path,
    (meters, previous): (&Meters, Option<&Snapshot>),
    diagnostics: &mut Diagnostics,
) -> Option<Arc<Service>> {
    let (origin, _) = section.url_parts();
    if diagnostics.has_error_within(section.url.span) {
        return None;
    }
    if let Some(ca) = &section.ca
        && origin.starts_with("http://")
    {
        diagnostics
            .warning(ca.span, "`ca` has no effect: the URL is not `https`")
            .help("write `https://` in it, or remove `ca`");
    }
    let is_tls = origin.starts_with("https://");
    let tls = section.ca.as_ref().filter(|_| is_tls).map(|ca| {
        let tls = UpstreamTls {
            ca: Some(ca.clone()),
            ..UpstreamTls::default()
        };
        Spanned::new(tls, ca.span)
    });
    let written = config::Service {
        base_url: Some(Spanned::new(origin.to_owned(), section.url.span)),
        tls,
        ..config::Service::default()
    };
    let name = format!("{NAMES}{provider}");
    let written = Spanned::new(written, section.span);
    let service = Service::compile(&name, &written, base, meters, diagnostics)?;
    let known = previous.and_then(|it| it.services().iter().find(|it| *it.name == *name));
    Some(match known {
        Some(known) => service.succeed(known),
        None => Arc::new(service),
    })
}
