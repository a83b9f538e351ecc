use super::*;
use crate::config::{Loaded, parse};

fn load(text: &str) -> Loaded {
    let loaded = parse(Source::new("t.yaml", text), &|_| None);
    assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics);
    loaded
}

fn between(old: &str, new: &str) -> Changes {
    let (old, new) = (load(old), load(new));
    Changes::between(
        (&old.config, &old.source),
        (&new.config, &new.source),
        &old.config,
    )
}

const OLD: &str = "rate_limit: { limit: 5, window: 1s }\nservices:\n  a:\n    base_url: http://h:1\n    routes: [/x, { path: /y, methods: [GET], rate_limit: off }, /z]\n";

#[test]
fn moving_and_commenting_changes_nothing() {
    let moved = "services:\n  a:\n    routes: [/z, /x, { path: /y, rate_limit: off, methods: [GET] }] # all\n    base_url: \"http://h:1\"\nrate_limit: { window: 1000ms, limit: 5 }\n";
    let changes = between(OLD, moved);
    assert!(changes.routes() == 0, "{changes:?}");
}

#[test]
fn an_outer_policy_changes_the_routes_that_inherit_it() {
    let changes = between(OLD, &OLD.replace("limit: 5", "limit: 6"));
    let names: Vec<_> = changes.changed.iter().map(|it| &*it.name.route).collect();
    assert_eq!(names, ["/x", "/z"]);
    let change = &changes.changed[0].changes[0];
    assert_eq!(change.key, "rate_limit");
    assert_eq!(change.from.as_deref(), Some("{ limit: 5, window: 1s }"));
    assert_eq!(change.to.as_deref(), Some("{ limit: 6, window: 1s }"));
}

#[test]
fn routes_come_and_go() {
    let changes = between(OLD, &OLD.replace("methods: [GET]", "methods: [POST]"));
    assert_eq!(changes.added[0].route, "/y (POST)");
    assert_eq!(changes.removed[0].route, "/y (GET)");
    assert!(changes.changed.is_empty());
}

#[test]
fn a_backend_and_a_secret_are_settings() {
    let old = format!(
        "{OLD}auth_providers: {{ m: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: first-secret-0123456789-0123456789 }} }} }} }}\n"
    );
    let new = old.replace("h:1", "h:2").replace("first", "other");
    let changes = between(&old, &new);
    let keys: Vec<_> = changes.settings.iter().map(|it| &*it.key).collect();
    assert_eq!(keys, ["auth_providers.m", "services.a"]);
    assert!(
        !format!("{changes:?}").contains("secret-0123"),
        "{changes:?}"
    );
}

#[test]
fn consumers_and_groups_are_settings_too() {
    let old = format!("{OLD}consumers: {{ acme: {{ groups: [gold] }} }}\n");
    let new = old.replace("[gold]", "[blue]") + "consumer_groups: { blue: {} }\n";
    let changes = between(&old, &new);
    let keys: Vec<_> = changes.settings.iter().map(|it| &*it.key).collect();
    assert_eq!(keys, ["consumers.acme", "consumer_groups.blue"]);
    assert_eq!(
        changes.settings[0].from.as_deref(),
        Some("{ groups: [gold] }")
    );
}

#[test]
fn what_is_fixed_at_the_start_needs_an_upgrade_until_it_is_back() {
    let first = load(OLD);
    let more = load(&format!(
        "{OLD}server: {{ threads: 7, watch_files: false }}\n"
    ));
    let changes = Changes::between(
        (&first.config, &first.source),
        (&more.config, &more.source),
        &first.config,
    );
    assert_eq!(changes.needs_upgrade, ["server.threads"]);
    let again = Changes::between(
        (&more.config, &more.source),
        (&more.config, &more.source),
        &first.config,
    );
    assert!(again.is_empty());
    assert_eq!(again.needs_upgrade, ["server.threads"]);
}

#[test]
fn very_many_routes_are_counted() {
    let many: String = (0..2000)
        .map(|number| format!("      - /r{number}\n"))
        .collect();
    let changes = between(
        "services: {}\n",
        &format!("services:\n  a:\n    base_url: http://h:1\n    routes:\n{many}"),
    );
    assert_eq!((changes.added.len(), changes.unlisted), (1000, 1000));
}
