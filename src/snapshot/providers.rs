//! The providers, each with what its predecessor knows, and the services that some of them ask.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Previous, State, deciders};
use crate::auth::{Consumers, Provider, Surroundings};
use crate::config::{Config, Diagnostics, Source, base_of};
use crate::telemetry::Meters;
use crate::upstream::Service;

/// The providers of a configuration.
pub(super) struct Providers {
    pub(super) by_name: HashMap<String, Arc<Provider>>,
    /// The services that decide about requests, in the order of their numbers.
    pub(super) deciding: Vec<Arc<Service>>,
}

impl Providers {
    /// Compiles them; names of those with errors, which have been reported, are lost.
    pub(super) fn compile(
        config: &Config,
        source: &Source,
        (consumers, meters): (&Consumers, &Meters),
        (state, previous): (&State, Option<Previous<'_>>),
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let base = base_of(&source.path);
        let mut providers = Self {
            by_name: HashMap::new(),
            deciding: Vec::new(),
        };
        for (name, section) in &config.auth_providers {
            let surroundings = Surroundings {
                consumers,
                key_sets: &state.key_sets,
                workbenches: &state.workbenches,
                base,
                deciders: providers.deciding.len(),
            };
            match Provider::compile(name, section, surroundings, diagnostics) {
                Some(provider) => {
                    let provider = succeed(provider, name, config, previous);
                    providers.by_name.insert(name.value.clone(), provider);
                }
                None => diagnostics.lose_name(name),
            }
            if let Some(forward) = &section.forward {
                let previous = previous.map(|it| it.snapshot);
                let service =
                    deciders::compile(name, forward, base, (meters, previous), diagnostics);
                providers.deciding.extend(service);
            }
        }
        providers
    }
}

/// The provider of this name that is in force, with all it remembers, unless its section, its keys or what
/// it knows of consumers has changed; or else the new one, with what outlives such a change.
fn succeed(
    provider: Provider,
    name: &str,
    config: &Config,
    previous: Option<Previous<'_>>,
) -> Arc<Provider> {
    let known = previous.and_then(|it| Some((it.config, it.snapshot.providers.get(name)?)));
    let Some((before, known)) = known else {
        return Arc::new(provider);
    };
    let is_same = before.auth_providers.get(name) == config.auth_providers.get(name)
        && before.consumers == config.consumers
        && known.has_same_keys(&provider);
    match is_same {
        true => known.clone(),
        false => Arc::new(provider.succeed(known)),
    }
}

/// Warns about providers that no route asks for.
pub(super) fn warn_about_unused(config: &Config, diagnostics: &mut Diagnostics) {
    let services = config.services.values();
    let rules = std::iter::once(&config.auth)
        .chain(services.clone().map(|service| &service.auth))
        .chain(services.flat_map(|service| service.routes.iter().map(|route| &route.auth)));
    let used: HashSet<&str> = rules
        .filter_map(|rule| rule.as_deref()?.on())
        .flat_map(|rule| rule.providers().map(|name| name.as_str()))
        .collect();
    for name in config.auth_providers.keys() {
        if !used.contains(name.as_str()) {
            diagnostics
                .warning(name.span, format!("no route asks for `{name}`"))
                .help(format!(
                    "write `auth: {name}` at the top, in a service or in a route"
                ));
        }
    }
}

/// Certificates are shown to a listener that asks for them, or to a trusted proxy.
pub(super) fn warn_about_unseen_certificates(config: &Config, diagnostics: &mut Diagnostics) {
    let mut tls = config.server.listen.iter().filter_map(|it| it.tls.as_ref());
    if tls.any(|tls| !tls.client_certificates.0.is_empty())
        || !config.server.trusted_proxies.is_empty()
    {
        return;
    }
    for (name, provider) in &config.auth_providers {
        if provider.client_certificate.is_some() {
            diagnostics
                .warning(
                    name.span,
                    format!("nobody comes in by `{name}`: nothing asks clients for certificates"),
                )
                .help(
                    "add `client_certificates: { ca: FILE }` to the `tls` of a listener, or name the proxy that \
                     ends TLS in `server.trusted_proxies`",
                );
        }
    }
}
