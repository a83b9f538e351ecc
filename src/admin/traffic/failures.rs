//! Which failures are new, from lists of the last ones.

use std::collections::HashSet;

use crate::telemetry::RecentRequest;

/// Failures that are told of at a time; of a flood the newest are.
pub(super) const MOST: usize = 50;

/// What was told of.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// The ids of the list before; `None` while nobody follows.
    told: Option<HashSet<String>>,
}

impl Failures {
    /// Those of the last failures, the newest first, that were not among them before; the oldest of them first.
    /// What was there when somebody began to follow is not new.
    pub(super) fn next(&mut self, last: Vec<RecentRequest>) -> Vec<RecentRequest> {
        let ids = last.iter().map(|it| it.id.clone()).collect();
        let Some(told) = self.told.replace(ids) else {
            return Vec::new();
        };
        let new = last.into_iter().filter(|it| !told.contains(&it.id));
        let mut new: Vec<_> = new.collect();
        new.reverse();
        new
    }

    /// Nobody follows any more.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn last(ids: &[&str]) -> Vec<RecentRequest> {
        let failure = |id: &&str| {
            let request = json!({
                "time": "", "id": id, "method": "GET", "path": "/", "status": 500, "flags": [], "attempts": 1,
                "total_us": 1,
            });
            serde_json::from_value(request).unwrap()
        };
        ids.iter().map(failure).collect()
    }

    fn ids(failures: &[RecentRequest]) -> Vec<&str> {
        failures.iter().map(|it| &*it.id).collect()
    }

    #[test]
    fn each_failure_is_told_once_to_those_who_were_there() {
        let mut failures = Failures::default();
        assert!(failures.next(last(&["b", "a"])).is_empty());
        let new = failures.next(last(&["d", "c", "b"]));
        assert_eq!(ids(&new), ["c", "d"]);
        assert!(failures.next(last(&["d", "c", "b"])).is_empty());
        failures.forget();
        assert!(failures.next(last(&["e", "d", "c"])).is_empty());
    }
}
