use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::*;

/// Two routes, of which one fails, and two services.
pub(in super::super) fn moment() -> Moment {
    let figures = |requests: u64, errors: u64, p95: u64| {
        json!({ "requests": requests, "errors": errors, "client_errors": 0,
            "p50_us": 500, "p95_us": p95, "p99_us": 90_000 })
    };
    let route = |name: &str, figures: serde_json::Value| {
        let mut route = json!({ "service": "orders", "route": name,
            "requests_by_minute": [], "errors_by_minute": [] });
        route
            .as_object_mut()
            .unwrap()
            .extend(figures.as_object().unwrap().clone());
        route
    };
    let mut sample = figures(600, 6, 2000);
    sample["time"] = json!("2026-01-01T00:00:00Z");
    sample["refused"] = json!(0);
    sample["in_flight"] = json!(3);
    let traffic = json!({ "step_s": 10, "samples": [sample], "window_s": 60,
        "recent": figures(6000, 60, 2000),
        "routes": [route("/often", figures(5900, 0, 1000)), route("/failing", figures(100, 60, 5000))],
        "services": [], "refusals": [], "credentials": [] });
    let endpoint = |url: &str, state: &str| {
        json!({ "endpoint": url, "state": state, "is_drained": state == "drained",
            "in_flight": 2, "latency_us": 1500, "weight": 1 })
    };
    let services = json!([
        { "service": "orders", "place": "t.yaml:1:1", "circuit": "closed", "circuit_is": "automatic",
          "in_flight": 3, "endpoints": [endpoint("http://10.0.0.1:80", "healthy"),
          endpoint("http://10.0.0.2:80", "drained")] },
        { "service": "payments", "place": "t.yaml:2:1", "circuit": "open", "circuit_is": "forced_open",
          "in_flight": 0, "endpoints": [] }
    ]);
    let status = json!({ "version": "1.2.3", "pid": 42, "phase": "serving", "started": "then",
        "upgraded_from": null, "config": "t.yaml", "generation": 7, "loaded": "now",
        "needs_upgrade": [], "last_reload": null, "reloads": 0, "last_upgrade": null, "upgrades": 0 });
    Moment {
        status: serde_json::from_value(status).unwrap(),
        traffic: serde_json::from_value(traffic).unwrap(),
        services: serde_json::from_value(services).unwrap(),
    }
}

fn shown(view: &View, columns: u16, lines: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    super::super::text(terminal.backend())
}

#[test]
fn the_gateway_its_routes_and_its_services_are_shown() {
    let text = shown(&View::new(moment()), 120, 40);
    for expected in [
        "Tollgate 1.2.3  serving  process 42, configuration 7 since now",
        "100/s  failed 1.0 %  4xx 0 %  p50 500 µs  p95 2.0 ms  p99 90 ms  under way 3  (last 60 s)",
        "requests, at most 60/s",
        "routes by requests",
        "open by hand",
        "http://10.0.0.2:80",
        "drained",
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    let failing = text.lines().find(|line| line.contains("/failing")).unwrap();
    let cells: Vec<_> = failing.split_whitespace().collect();
    let expected = [
        "/failing", "orders", "1.7", "60", "%", "500", "µs", "5.0", "ms", "90", "ms",
    ];
    assert_eq!(cells, expected);
}

#[test]
fn routes_are_sorted_and_scrolled() {
    let mut view = View::new(moment());
    let first = |view: &View| view.sorted()[0].route.clone();
    for (order, expected) in [
        (Order::Requests, "/often"),
        (Order::Errors, "/failing"),
        (Order::Time, "/failing"),
        (Order::Name, "/failing"),
    ] {
        view.order = order;
        assert_eq!(first(&view), expected, "{order:?}");
    }
    view.order = Order::Requests;
    view.scroll(1);
    let text = shown(&view, 100, 30);
    assert!(
        !text.contains("/often") && text.contains("/failing"),
        "{text}"
    );
    view.scroll(isize::MAX);
    assert!(shown(&view, 100, 30).contains("/failing"));
    view.scroll(isize::MIN);
    assert!(shown(&view, 100, 30).contains("/often"));
}

#[test]
fn trouble_is_told_until_it_is_over() {
    let mut view = View::new(moment());
    view.take(Err("no gateway answers".to_owned()));
    let text = shown(&view, 100, 30);
    assert!(
        text.contains("no gateway answers") && text.contains("/often"),
        "{text}"
    );
    view.take(Ok(moment()));
    assert!(!shown(&view, 100, 30).contains("no gateway answers"));
}

#[test]
fn a_terminal_may_be_of_any_size() {
    let view = View::new(moment());
    for (columns, lines) in [(1, 1), (20, 5), (80, 24), (400, 100)] {
        let _ = shown(&view, columns, lines);
    }
}
