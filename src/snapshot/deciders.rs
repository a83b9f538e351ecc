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
    let is_tls = origin.starts_with("https://");
    let files = [
        ("ca", &section.ca),
        ("client_cert", &section.client_cert),
        ("client_key", &section.client_key),
    ];
    for (key, file) in files {
        if let (Some(file), false) = (file, is_tls) {
            diagnostics
                .warning(
                    file.span,
                    format!("`{key}` has no effect: the URL is not `https`"),
                )
                .help(format!("write `https://` in it, or remove `{key}`"));
        }
    }
    let tls = UpstreamTls {
        ca: section.ca.clone(),
        client_cert: section.client_cert.clone(),
        client_key: section.client_key.clone(),
        ..UpstreamTls::default()
    };
    let tls = is_tls.then(|| Spanned::new(tls, section.url.span));
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
