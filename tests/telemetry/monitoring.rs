//! The alerts and the dashboard in conf/: that they work, and that they use only names that are documented.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::{Gateway, Upstream, documented_metrics, service_of};
use serde_json::Value;

const RULES: &str = "conf/prometheus/tollgate.rules.yaml";
const DASHBOARD: &str = "conf/grafana/tollgate.json";
/// What Prometheus adds to all that it scrapes.
const ADDED: [&str; 2] = ["job", "instance"];

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Runs promtool, which `make test` fetches, with something to read.
fn promtool(arguments: &[&str], directory: &Path, input: &str) -> Output {
    let fetched = root().join("target/promtool/usr/bin/promtool");
    let program = match fetched.exists() {
        true => fetched,
        false => "promtool".into(),
    };
    let mut promtool = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: `make test` fetches it");
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    promtool.wait_with_output().unwrap()
}

fn assert_content(output: &Output) {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
}

/// Metrics with the labels that are asked of them, and what sums keep.
#[derive(Debug, Default, PartialEq)]
struct Query {
    selectors: Vec<(String, Vec<String>)>,
    kept: Vec<String>,
}

/// What an expression of PromQL names.
fn query(expression: &str) -> Query {
    let mut query = Query::default();
    let is_name = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    let list = |text: &str, end: char| -> Vec<String> {
        let inside = text.split(end).next().unwrap();
        let names = inside
            .split(',')
            .map(|it| it.trim().split(['=', '!']).next().unwrap());
        let names = names.filter(|it| !it.is_empty());
        names.map(str::to_owned).collect()
    };
    let mut rest = expression;
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|it| !is_name(it)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        if word == "by" {
            query
                .kept
                .extend(list(after.trim_start().strip_prefix('(').unwrap(), ')'));
        } else if word.starts_with("tollgate") || word.starts_with("process_") {
            let labels = after.strip_prefix('{').map(|after| list(after, '}'));
            query
                .selectors
                .push((word.to_owned(), labels.unwrap_or_default()));
            // Values of labels are no names.
            rest = after
                .strip_prefix('{')
                .map_or(after, |after| after.split_once('}').unwrap().1);
        }
    }
    query
}

/// What an expression uses that is not there. `recorded` are the names of rules.
fn unknown(expression: &str, recorded: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let documented = documented_metrics();
    let query = query(expression);
    let mut wrong = Vec::new();
    let mut all: BTreeSet<String> = ADDED.map(str::to_owned).into();
    if query.selectors.is_empty() {
        wrong.push(format!("no metric: {expression}"));
    }
    for (name, asked) in query.selectors {
        let histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|ending| name.strip_suffix(ending));
        let family = histogram
            .filter(|family| documented.contains_key(*family))
            .unwrap_or(&name);
        let Some(labels) = documented.get(family).or_else(|| recorded.get(family)) else {
            wrong.push(format!("{name}: {expression}"));
            continue;
        };
        let mut labels: BTreeSet<String> = labels
            .iter()
            .cloned()
            .chain(ADDED.map(str::to_owned))
            .collect();
        if name.ends_with("_bucket") {
            labels.insert("le".to_owned());
        }
        let missing = asked.iter().filter(|label| !labels.contains(*label));
        wrong.extend(missing.map(|label| format!("{name}{{{label}}}: {expression}")));
        all.extend(labels);
    }
    let missing = query.kept.iter().filter(|label| !all.contains(*label));
    wrong.extend(missing.map(|label| format!("by {label}: {expression}")));
    wrong
}

/// The expressions of the rules, and what those that record one leave of the labels.
fn rules() -> (Vec<String>, BTreeMap<String, BTreeSet<String>>) {
    let file: Value = serde_yaml::from_str(&read(RULES)).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    let rules: Vec<Value> = groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect();
    let expression = |rule: &Value| rule["expr"].as_str().unwrap().to_owned();
    let recorded = rules.iter().filter_map(|rule| {
        let kept = query(&expression(rule)).kept.into_iter().collect();
        Some((rule["record"].as_str()?.to_owned(), kept))
    });
    (rules.iter().map(expression).collect(), recorded.collect())
}

#[test]
fn expressions_are_understood() {
    let found = query(
        r#"sum by (le, route) (rate(tollgate_a_total{class=~"5xx|none",job!="process_x"}[5m])) / process_b > tollgate:c:d"#,
    );
    let selector = |name: &str, labels: &[&str]| {
        (
            name.to_owned(),
            labels.iter().map(|it| (*it).to_owned()).collect(),
        )
    };
    let expected = Query {
        selectors: vec![
            selector("tollgate_a_total", &["class", "job"]),
            selector("process_b", &[]),
            selector("tollgate:c:d", &[]),
        ],
        kept: vec!["le".to_owned(), "route".to_owned()],
    };
    assert_eq!(found, expected);
    for wrong in [
        "tollgate_no_such_total",
        "tollgate_requests_total{limit=\"a\"}",
        "sum by (limit) (tollgate_requests_total)",
        "up",
    ] {
        assert_eq!(unknown(wrong, &BTreeMap::new()).len(), 1, "{wrong}");
    }
}

#[test]
fn alerts_use_metrics_and_labels_that_are_there() {
    let (expressions, recorded) = rules();
    assert!(expressions.len() >= 15);
    let wrong: Vec<_> = expressions
        .iter()
        .flat_map(|it| unknown(it, &recorded))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_dashboard_uses_metrics_and_labels_that_are_there() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            count += 1;
            let expression = target["expr"].as_str().unwrap();
            wrong.extend(unknown(expression, &BTreeMap::new()));
            let kept = query(expression).kept;
            // `{{label}}` of what is shown.
            let shown = target["legendFormat"].as_str().unwrap();
            for label in shown
                .split("{{")
                .skip(1)
                .map(|it| it.split("}}").next().unwrap())
            {
                if label != "instance" && !kept.iter().any(|it| it == label) {
                    wrong.push(format!("{{{{{label}}}}}: {expression}"));
                }
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["definition"].as_str() else {
            continue;
        };
        let (of, label) = query.trim_end_matches(')').rsplit_once(", ").unwrap();
        let of = of.strip_prefix("label_values(").unwrap();
        wrong.extend(unknown(
            &format!("sum by ({label}) ({of})"),
            &BTreeMap::new(),
        ));
    }
    assert!(count > 40, "{count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn alerts_fire_on_what_they_are_for_and_on_nothing_else() {
    let directory = root().join("conf/prometheus");
    for arguments in [
        ["check", "rules", "tollgate.rules.yaml"],
        ["test", "rules", "tollgate.test.yaml"],
    ] {
        assert_content(&promtool(&arguments, &directory, ""));
    }
    let (rules, tests) = (read(RULES), read("conf/prometheus/tollgate.test.yaml"));
    for alert in rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        let is_tested = tests.contains(&format!("alertname: {alert}\n        exp_alerts:"));
        assert!(is_tested, "{alert} never fires");
    }
}

#[tokio::test]
async fn metrics_are_as_prometheus_wants_them() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(&service_of([&upstream], "load_balancing: peak_ewma")).await;
    gateway.get("/a").send().await.assert_status(200);
    let route = [("route", "/a")];
    gateway.counts("tollgate_requests_total", &route, 1.0).await;
    let page = gateway.admin("/metrics").await.assert_status(200).text();
    let output = promtool(&["check", "metrics"], &root(), &page);
    assert_content(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "lint");
}
