//! What `/metrics` says, read back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::answer::PATIENCE;
use super::gateway::Gateway;

/// All samples of a page.
pub struct Samples {
    kinds: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Samples {
    /// Reads the text format of Prometheus.
    pub fn parse(text: &str) -> Self {
        let mut samples = Self {
            kinds: BTreeMap::new(),
            samples: Vec::new(),
        };
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                let before = samples.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} comes twice");
            } else if !line.starts_with('#') {
                samples.samples.push(sample(line));
            }
        }
        samples
    }

    /// All samples.
    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }

    /// The sum of all samples of this name with these labels, and maybe others.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let is_one = |sample: &&Sample| {
            let has = |(name, value): &(&str, &str)| {
                sample.labels.get(*name).is_some_and(|it| it == value)
            };
            sample.name == name && labels.iter().all(has)
        };
        self.samples.iter().filter(is_one).map(|it| it.value).sum()
    }

    /// The names, each with those of its labels; a histogram is one.
    pub fn families(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut families = BTreeMap::<String, BTreeSet<String>>::new();
        for sample in &self.samples {
            let endings = ["_bucket", "_sum", "_count"];
            let family = endings
                .iter()
                .filter_map(|ending| sample.name.strip_suffix(ending))
                .find(|family| self.kinds.get(*family).is_some_and(|it| it == "histogram"));
            let labels = sample.labels.keys().filter(|name| *name != "le").cloned();
            let family = family.unwrap_or(&sample.name).to_owned();
            families.entry(family).or_default().extend(labels);
        }
        families
    }
}

/// The names in the tables of docs/metrics.md, each with those of its labels.
pub fn documented_metrics() -> BTreeMap<String, BTreeSet<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter_map(|row| {
        let mut cells = row.split('|');
        let name = cells.next()?.trim().trim_end_matches('`');
        let labels = cells
            .next()?
            .split(',')
            .map(|it| it.trim().trim_matches('`'));
        let labels = labels.filter(|it| !it.is_empty()).map(str::to_owned);
        let is_metric = name.starts_with("tollgate_") || name.starts_with("process_");
        is_metric.then(|| (name.to_owned(), labels.collect()))
    });
    rows.collect()
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> Sample {
    let (head, value) = line.rsplit_once(' ').unwrap();
    let (name, rest) = head.split_once('{').unwrap_or((head, "}"));
    let rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
    let mut labels = BTreeMap::new();
    for pair in rest.split("\",").filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        let value = value.trim_end_matches('"').to_owned();
        let before = labels.insert(name.to_owned(), value);
        assert_eq!(before, None, "{line}");
    }
    Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().unwrap(),
    }
}

impl Gateway {
    /// What it counts.
    pub async fn metrics(&self) -> Samples {
        let answer = self.admin("/metrics").await.assert_status(200);
        Samples::parse(&answer.text())
    }

    /// Waits until a sum is this: requests are counted when they are over, which is after their answer.
    #[track_caller]
    pub fn counts(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        expected: f64,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let text = self.admin("/metrics").await.assert_status(200).text();
                let sum = Samples::parse(&text).sum(name, labels);
                if sum == expected {
                    return;
                }
                assert!(
                    Instant::now() < deadline,
                    "{caller}: {name}{labels:?} is {sum} and not {expected}:\n{text}"
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}
