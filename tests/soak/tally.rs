//! What was counted, and what went wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Examples that are kept of each kind of failure.
const EXAMPLES: usize = 3;

/// Shared by everything that runs.
#[derive(Default)]
pub struct Tally {
    is_over: AtomicBool,
    answers: Mutex<BTreeMap<&'static str, u64>>,
    failures: Mutex<BTreeMap<String, Vec<String>>>,
    pub applied: AtomicU64,
    pub refused: AtomicU64,
    pub upgrades: AtomicU64,
    pub limits: AtomicU64,
}

impl Tally {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn answered(&self, by: &'static str) {
        *self.answers.lock().unwrap().entry(by).or_default() += 1;
    }

    pub fn answered_many(&self, by: &'static str, count: u64) {
        *self.answers.lock().unwrap().entry(by).or_default() += count;
    }

    /// Counts a failure, by its kind.
    pub fn failed(&self, kind: &str, example: impl Into<String>) {
        let mut failures = self.failures.lock().unwrap();
        failures
            .entry(kind.to_owned())
            .or_default()
            .push(example.into());
    }

    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub fn failures(&self) -> usize {
        self.failures.lock().unwrap().values().map(Vec::len).sum()
    }

    pub fn print(&self) {
        let answers = self.answers.lock().unwrap();
        let each: Vec<_> = answers
            .iter()
            .map(|(by, count)| format!("{by} {count}"))
            .collect();
        let total: u64 = answers.values().sum();
        println!("requests     {total} ({})", each.join(", "));
        println!("failures     {}", self.failures());
        for (kind, all) in self.failures.lock().unwrap().iter() {
            println!("  {} × {kind}, such as:", all.len());
            for example in all.iter().take(EXAMPLES) {
                println!("    {example}");
            }
        }
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        println!(
            "reloads      {} applied, {} refused as they should be",
            load(&self.applied),
            load(&self.refused)
        );
        println!("upgrades     {}", load(&self.upgrades));
        println!(
            "limits       {} clients, each with exactly its limit",
            load(&self.limits)
        );
    }
}
