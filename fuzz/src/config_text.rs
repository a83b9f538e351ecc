//! No text crashes the reading, compiling or rendering of a configuration.

use tollgate::config::{Source, parse, render};
use tollgate::snapshot::{State, compile};

pub fn check(text: &str) {
    let mut loaded = parse(Source::new("fuzz.yaml", text), &|name| {
        (name == "S").then(|| "5s".to_owned())
    });
    // A large table is no finding.
    loaded.config.server.limits.rate_limit_keys = 1024.into();
    let state = State::new(&loaded.config);
    let mut diagnostics = std::mem::take(&mut loaded.diagnostics);
    let snapshot = compile(
        &loaded.config,
        &loaded.source,
        &state,
        None,
        &mut diagnostics,
    );
    assert_eq!(snapshot.is_none(), diagnostics.has_errors());
    render(&diagnostics.into_sorted(), &loaded.source, false);
}
