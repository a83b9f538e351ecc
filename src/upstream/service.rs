//! A service: its endpoints and whose turn it is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use pingora::tls::x509::X509;

use super::balance::smooth_order;
use super::endpoint::{Endpoint, EndpointSettings};
use super::url::BaseUrl;
use crate::config::{self, Diagnostics, HostHeader, Span, Spanned};

/// Most targets of a service.
const MOST_TARGETS: usize = 1000;

/// The `Host` that backends see.
#[derive(Debug, Clone, PartialEq)]
pub enum HostPolicy {
    /// That of the endpoint's URL.
    Upstream,
    /// What the client sent.
    Client,
    /// This one.
    Fixed(HeaderValue),
}

/// A service: endpoints that do the same.
#[derive(Debug)]
pub struct Service {
    /// The name in the service map.
    pub name: Box<str>,
    /// The `Host` that its backends see.
    pub host: HostPolicy,
    endpoints: Box<[Arc<Endpoint>]>,
    order: Box<[u16]>,
    turn: AtomicUsize,
}

/// The endpoint of one attempt.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    index: usize,
}

/// Which endpoints a request has been tried at. Only the first 64 are remembered apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried(u64);

impl Tried {
    /// Remembers a choice.
    pub fn insert(&mut self, choice: &Choice) {
        self.0 |= 1 << (choice.index % 64);
    }

    fn contains(self, index: usize) -> bool {
        self.0 & (1 << (index % 64)) != 0
    }
}

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
        let mut endpoints = Vec::with_capacity(targets.len());
        let mut weights = Vec::with_capacity(targets.len());
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
                    endpoints.push(Arc::new(endpoint));
                    weights.push(weight.value);
                }
                Err(reason) => {
                    diagnostics.error(url.span, reason);
                    is_complete = false;
                }
            }
        }
        warn_about_tls(section, &endpoints, diagnostics);
        let host = match section.host_header.as_deref() {
            None | Some(HostHeader::Upstream) => HostPolicy::Upstream,
            Some(HostHeader::Client) => HostPolicy::Client,
            // The text was checked when it was read.
            Some(HostHeader::Fixed(name)) => HostPolicy::Fixed(HeaderValue::from_str(name).ok()?),
        };
        is_complete.then(|| Self {
            name: name.into(),
            host,
            order: smooth_order(&weights),
            endpoints: endpoints.into(),
            turn: AtomicUsize::new(0),
        })
    }

    /// This service, with what `known`, its predecessor of the same name, knows: endpoints that both
    /// have live on, and the turn goes on where it was. If nothing differs it is `known` itself.
    pub fn succeed(mut self, known: &Arc<Self>) -> Arc<Self> {
        for endpoint in &mut self.endpoints {
            if let Some(same) = known.endpoints.iter().find(|it| it.is_same_as(endpoint)) {
                *endpoint = same.clone();
            }
        }
        let has_same_endpoints = self.endpoints.len() == known.endpoints.len()
            && std::iter::zip(&self.endpoints, &known.endpoints)
                .all(|(this, that)| Arc::ptr_eq(this, that));
        if has_same_endpoints && self.order == known.order && self.host == known.host {
            return known.clone();
        }
        self.turn = AtomicUsize::new(known.turn.load(Ordering::Relaxed));
        Arc::new(self)
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The endpoint whose turn it is among those that are resolved and not yet tried; one that was
    /// tried if there is no other; `None` if none is resolved.
    pub fn choose(&self, tried: Tried) -> Option<Choice> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut second_best = None;
        for step in 0..self.order.len() {
            let index = usize::from(self.order[turn.wrapping_add(step) % self.order.len()]);
            let endpoint = &self.endpoints[index];
            if !endpoint.is_resolved() {
                continue;
            }
            if !tried.contains(index) {
                return Some(self.choice(index));
            }
            second_best.get_or_insert(index);
        }
        second_best.map(|index| self.choice(index))
    }

    /// Whether there is an endpoint with an address that was not tried.
    pub fn has_untried(&self, tried: Tried) -> bool {
        self.endpoints
            .iter()
            .enumerate()
            .any(|(index, endpoint)| !tried.contains(index) && endpoint.is_resolved())
    }

    fn choice(&self, index: usize) -> Choice {
        Choice {
            endpoint: self.endpoints[index].clone(),
            index,
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
    endpoints: &[Arc<Endpoint>],
    diagnostics: &mut Diagnostics,
) {
    if let Some(tls) = &section.tls
        && !endpoints.is_empty()
        && endpoints
            .iter()
            .all(|endpoint| endpoint.as_str().starts_with("http://"))
    {
        diagnostics
            .warning(
                tls.span,
                "`tls` has no effect: no backend of this service is `https`",
            )
            .help("write `https://` in its URL, or remove `tls`");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Target, WeightedTarget};

    fn service(targets: &[(&str, u32)]) -> (Option<Service>, Diagnostics) {
        let targets: Vec<Spanned<Target>> = targets
            .iter()
            .map(|(url, weight)| {
                Target::Weighted(WeightedTarget {
                    url: (*url).to_owned().into(),
                    weight: (*weight).into(),
                })
                .into()
            })
            .collect();
        let section = config::Service {
            targets: Some(targets.into()),
            ..config::Service::default()
        };
        let mut diagnostics = Diagnostics::default();
        let service = Service::compile("s", &section.into(), Path::new("."), &mut diagnostics);
        (service, diagnostics)
    }

    #[test]
    fn endpoints_take_turns_by_weight() {
        let (service, _) = service(&[("http://10.0.0.1:1", 1), ("http://10.0.0.2:1", 3)]);
        let service = service.unwrap();
        let visits: Vec<_> = (0..8)
            .map(|_| service.choose(Tried::default()).unwrap().index)
            .collect();
        assert_eq!(visits.iter().filter(|index| **index == 1).count(), 6);
    }

    #[test]
    fn a_second_attempt_goes_elsewhere() {
        let (service, _) = service(&[("http://10.0.0.1:1", 1), ("http://10.0.0.2:1", 1000)]);
        let service = service.unwrap();
        for _ in 0..100 {
            let mut tried = Tried::default();
            let first = service.choose(tried).unwrap();
            tried.insert(&first);
            let second = service.choose(tried).unwrap();
            assert_ne!(first.index, second.index);
            tried.insert(&second);
            assert!(service.choose(tried).is_some());
        }
    }

    #[test]
    fn unresolved_endpoints_are_passed_over() {
        let (service, _) = service(&[("http://name.example:1", 1), ("http://10.0.0.2:1", 1)]);
        let service = service.unwrap();
        assert!((0..4).all(|_| service.choose(Tried::default()).unwrap().index == 1));
    }

    #[test]
    fn a_successor_keeps_what_is_known_of_the_endpoints_that_stay() {
        let known = service(&[("http://a.example:1", 1), ("http://b.example:1", 1)]);
        let known = Arc::new(known.0.unwrap());
        known.endpoints[1].publish(&["10.0.0.1".parse().unwrap()]);
        known.choose(Tried::default()).unwrap();
        let same = service(&[("http://a.example:1", 1), ("http://b.example:1", 1)]);
        assert!(Arc::ptr_eq(&same.0.unwrap().succeed(&known), &known));
        let edited = service(&[("http://b.example:1", 1), ("http://c.example:1", 1)]);
        let edited = edited.0.unwrap().succeed(&known);
        assert!(Arc::ptr_eq(&edited.endpoints[0], &known.endpoints[1]));
        assert!(edited.endpoints[0].is_resolved() && !edited.endpoints[1].is_resolved());
        assert_eq!(edited.turn.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn every_bad_target_is_reported() {
        let (service, diagnostics) = service(&[("host:1", 1), ("http://h", 0), ("http://h", 1)]);
        assert!(service.is_none());
        assert_eq!(diagnostics.as_slice().len(), 3);
    }
}
