//! What holds for every input. `make fuzz` looks for one it does not hold for; `make test` tries some.

use std::path::Path;

use tollgate::auth::{Consumers, KeySets, Provider, Surroundings, Workbenches};
use tollgate::config::{Diagnostics, Source, parse};

pub mod authorization;
pub mod client_address;
pub mod client_certificate;
pub mod config_text;
pub mod key_set;
pub mod path;
pub mod signature;
pub mod trace_context;

/// The providers of a configuration, of which there is one at least.
fn providers(text: &str) -> Vec<Provider> {
    let loaded = parse(Source::new("fuzz.yaml", text), &|_| None);
    assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics);
    let surroundings = Surroundings {
        consumers: &Consumers::default(),
        key_sets: &KeySets::default(),
        workbenches: &Workbenches::default(),
        base: Path::new("."),
        deciders: 0,
    };
    let mut diagnostics = Diagnostics::default();
    let sections = loaded.config.auth_providers.iter();
    let providers = sections.map(|(name, section)| {
        let provider = Provider::compile(name, section, surroundings, &mut diagnostics);
        provider.expect("it is sound")
    });
    providers.collect()
}
