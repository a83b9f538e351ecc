//! The database of countries, which lives on from one snapshot to the next while its file is the same.

use std::sync::Arc;

use super::compile::Previous;
use super::policies::Written;
use crate::config::{Config, Diagnostics, Source, Toggle, base_of};
use crate::traffic::GeoIp;

/// `None` if there is none, or if it can't be used, which has been reported.
pub(super) fn compile(
    config: &Config,
    source: &Source,
    previous: Option<Previous<'_>>,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<GeoIp>> {
    let section = config.geoip.as_ref()?;
    let known = previous.and_then(|previous| previous.snapshot.geoip.as_ref());
    let database = GeoIp::compile(section, base_of(&source.path), known, diagnostics);
    if database.is_none() {
        diagnostics.lose_name("geoip");
    }
    database
}

/// A database that nobody asks takes memory for nothing, or a rule was forgotten.
pub(super) fn warn_if_unused(config: &Config, diagnostics: &mut Diagnostics) {
    let Some(section) = &config.geoip else {
        return;
    };
    let services = config.services.values();
    let routes = services.clone().flat_map(|service| &service.routes);
    let places = std::iter::once(Written::from(config))
        .chain(services.map(|service| Written::from(&service.value)))
        .chain(routes.map(|route| Written::from(&route.value.0)));
    let is_asked = places
        .filter_map(|place| place.access.as_deref().and_then(Toggle::on))
        .any(|access| !access.allow_countries.is_empty() || !access.deny_countries.is_empty());
    if !is_asked {
        diagnostics
            .warning(section.span, "no `access` asks for a country")
            .help("add `allow_countries` or `deny_countries` to one, or remove `geoip`");
    }
}
