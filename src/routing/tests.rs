//! The table against the rules, and against a scan of all routes that states them plainly.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::super::{Conditions, Entry, Outcome, Pattern, Request, RouteTable};
use crate::config::{Diagnostics, Span};

#[derive(Debug, Clone, Default)]
struct Route {
    hosts: Vec<&'static str>,
    path: String,
    is_prefix: bool,
    methods: Vec<Method>,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
}

fn entry(route: &Route, value: u32) -> Entry {
    let pattern = if route.is_prefix {
        Pattern::prefix(&route.path)
    } else {
        Pattern::path(&route.path)
    };
    Entry {
        hosts: route
            .hosts
            .iter()
            .map(|host| (*host).to_owned().into())
            .collect(),
        pattern: pattern.unwrap(),
        conditions: Conditions {
            methods: route.methods.clone().into(),
            headers: route
                .headers
                .iter()
                .map(|(name, value)| {
                    (
                        HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    )
                })
                .collect(),
            query: route
                .query
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        },
        span: Span::new(value as usize, value as usize + 1),
        value,
    }
}

fn build(routes: &[Route]) -> (RouteTable, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let entries = routes
        .iter()
        .enumerate()
        .map(|(index, route)| entry(route, index as u32))
        .collect();
    (RouteTable::build(entries, &mut diagnostics), diagnostics)
}

fn path(path: &str) -> Route {
    Route {
        path: path.into(),
        ..Route::default()
    }
}

fn prefix(path: &str) -> Route {
    Route {
        path: path.into(),
        is_prefix: true,
        ..Route::default()
    }
}

#[derive(Debug)]
struct Sent {
    host: Option<&'static str>,
    path: String,
    query: Option<&'static str>,
    method: Method,
    headers: HeaderMap,
}

impl Sent {
    fn get(path: &str) -> Self {
        Self {
            host: None,
            path: path.into(),
            query: None,
            method: Method::GET,
            headers: HeaderMap::new(),
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            host: self.host,
            path: &self.path,
            query: self.query,
            method: &self.method,
            headers: &self.headers,
        }
    }
}

fn found(table: &RouteTable, sent: &Sent) -> Option<u32> {
    match table.find(&sent.request()) {
        Outcome::Found { value, .. } => Some(value),
        _ => None,
    }
}

#[test]
fn exact_goes_before_template_before_the_longest_prefix() {
    let (table, _) = build(&[
        prefix("/a"),
        prefix("/a/b"),
        path("/a/{x}"),
        path("/a/{*rest}"),
        path("/a/b"),
        path("/{x}/b/c"),
    ]);
    for (sent, route) in [
        ("/a/b", Some(4)),
        ("/a/c", Some(2)),
        ("/a/b/c", Some(3)),
        ("/a/", Some(0)),
        ("/a", Some(0)),
        ("/x/b/c", Some(5)),
        ("/ab", None),
        ("/", None),
    ] {
        assert_eq!(found(&table, &Sent::get(sent)), route, "{sent}");
    }
}

#[test]
fn a_route_that_fails_on_a_condition_makes_room_for_a_less_specific_one() {
    let mut canary = path("/a");
    canary.headers = vec![("x-canary", "true")];
    let mut post = path("/a");
    post.methods = vec![Method::POST];
    let (table, diagnostics) = build(&[canary, post, prefix("/")]);
    assert!(!diagnostics.has_errors());
    let mut sent = Sent::get("/a");
    assert_eq!(found(&table, &sent), Some(2));
    sent.headers
        .insert("x-canary", HeaderValue::from_static("true"));
    assert_eq!(found(&table, &sent), Some(0));
    sent.method = Method::POST;
    assert_eq!(found(&table, &sent), Some(1));
}

#[test]
fn a_wrong_method_is_told_which_are_right() {
    let mut get = path("/a/{x}");
    get.methods = vec![Method::GET];
    let mut put = path("/a/b");
    put.methods = vec![Method::PUT];
    let (table, _) = build(&[get, put]);
    let mut sent = Sent::get("/a/b");
    sent.method = Method::DELETE;
    let Outcome::MethodNotAllowed { allow } = table.find(&sent.request()) else {
        unreachable!()
    };
    assert_eq!(allow, [Method::PUT, Method::GET, Method::HEAD]);
}

#[test]
fn hosts_go_from_exact_over_the_longest_wildcard_to_any() {
    let with = |host| Route {
        hosts: vec![host],
        ..path("/a")
    };
    let (table, _) = build(&[
        path("/a"),
        with("*.example.com"),
        with("*.shop.example.com"),
        with("de.shop.example.com"),
        path("/only-any"),
    ]);
    for (host, route) in [
        (Some("DE.shop.example.com:8080"), 3),
        (Some("fr.shop.example.com"), 2),
        (Some("shop.example.com."), 1),
        (Some("example.com"), 0),
        (None, 0),
    ] {
        let mut sent = Sent::get("/a");
        sent.host = host;
        assert_eq!(found(&table, &sent), Some(route), "{host:?}");
    }
    let mut sent = Sent::get("/only-any");
    sent.host = Some("de.shop.example.com");
    assert_eq!(found(&table, &sent), Some(4));
}

#[test]
fn parameters_are_places_in_the_path() {
    let (table, _) = build(&[path("/a/{id}/{*rest}")]);
    let Outcome::Found { parameters, .. } = table.find(&Sent::get("/a/7/b/c/").request()) else {
        unreachable!()
    };
    assert_eq!(parameters.get(0, "/a/7/b/c/"), Some("7"));
    assert_eq!(parameters.get(1, "/a/7/b/c/"), Some("b/c/"));
    assert_eq!(parameters.get(2, "/a/7/b/c/"), None);
}

#[test]
fn ties_are_errors_that_point_at_both() {
    let mut one = path("/a/{x}");
    one.methods = vec![Method::GET];
    let mut two = path("/a/{y}");
    two.methods = vec![Method::HEAD, Method::PUT];
    let mut three = path("/a/{z}");
    three.methods = vec![Method::POST];
    let (_, diagnostics) = build(&[one, two, three]);
    let [tie] = diagnostics.as_slice() else {
        unreachable!("{diagnostics:?}")
    };
    assert_eq!((tie.span.start, tie.related[0].0.start), (1, 0));
    let mut a = path("/a");
    a.headers = vec![("x-v", "1")];
    let mut b = path("/a");
    b.headers = vec![("x-v", "2")];
    assert!(!build(&[a, b]).1.has_errors());
}

fn segment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "{x}"])
}

fn route() -> impl Strategy<Value = Route> {
    (
        prop::collection::vec(segment(), 0..4),
        0..4u8,
        prop::sample::select(vec![
            vec![],
            vec!["h.ex"],
            vec!["*.ex"],
            vec!["*.h.ex", "h.ex"],
        ]),
        prop::sample::select(vec![
            vec![],
            vec![Method::GET],
            vec![Method::POST, Method::PUT],
        ]),
        prop::sample::select(vec![vec![], vec![("x-h", "1")], vec![("x-h", "2")]]),
        prop::sample::select(vec![vec![], vec![("q", "1")]]),
    )
        .prop_map(|(segments, end, hosts, methods, headers, query)| {
            let is_prefix = end == 0;
            let mut path = String::new();
            for (index, segment) in segments.iter().enumerate() {
                match *segment {
                    "{x}" if is_prefix => path.push_str("/a"),
                    "{x}" => path.push_str(&format!("/{{p{index}}}")),
                    literal => path.push_str(&format!("/{literal}")),
                }
            }
            if end == 1 {
                path.push_str("/{*rest}");
            } else if path.is_empty() || end == 2 {
                path.push('/');
            }
            Route {
                hosts,
                path,
                is_prefix,
                methods,
                headers,
                query,
            }
        })
}

fn sent() -> impl Strategy<Value = Sent> {
    (
        "(/|/a|/b|/c|/a/b|/a/b/|/a/a|/b/a/c|/a/b/a|/c/c/c/c)",
        prop::sample::select(vec![
            None,
            Some("h.ex"),
            Some("x.h.ex"),
            Some("y.ex"),
            Some("other"),
        ]),
        prop::sample::select(vec![
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::DELETE,
        ]),
        prop::sample::select(vec![None, Some("1"), Some("2")]),
        prop::sample::select(vec![None, Some("q=1"), Some("q=2&q=1")]),
    )
        .prop_map(|(path, host, method, header, query)| {
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert("x-h", HeaderValue::from_static(value));
            }
            Sent {
                host,
                path,
                query,
                method,
                headers,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_table_finds_what_a_scan_of_all_routes_finds(
        routes in prop::collection::vec(route(), 1..8),
        sent in sent(),
    ) {
        let (table, diagnostics) = build(&routes);
        prop_assume!(!diagnostics.has_errors());
        let scan = table.explain(&sent.request());
        let expected = scan.iter().find(|candidate| candidate.reasons.is_empty());
        prop_assert_eq!(found(&table, &sent), expected.map(|candidate| candidate.value));
        if let Outcome::MethodNotAllowed { allow } = table.find(&sent.request()) {
            prop_assert!(!allow.is_empty());
            prop_assert!(!allow.contains(&sent.method));
        }
    }
}
