//! Requests counted by the consumer they come from.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, Opts};

/// Consumers with counters of their own; the others share one, so that the series stay bounded.
const MOST_COUNTED: usize = 1000;
/// The consumer of those.
const OTHERS: &str = "other";
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counters of all consumers.
#[derive(Debug, Clone)]
pub struct ConsumerRequests(IntCounterVec);

/// The counters of one, by the class of the status.
#[derive(Debug, Clone)]
pub struct RequestCounters(Arc<[IntCounter; 5]>);

impl Default for ConsumerRequests {
    fn default() -> Self {
        let options = Opts::new(
            "tollgate_consumer_requests_total",
            "Requests by the consumer they come from and the class of the answer's status.",
        );
        let counters = IntCounterVec::new(options, &["consumer", "class"]);
        Self(counters.expect("the names are a metric's and its labels'"))
    }
}

impl ConsumerRequests {
    /// The counters of the consumer of this name, which is the configuration's `number`th from 0 on.
    pub fn of(&self, name: &str, number: usize) -> RequestCounters {
        let name = if number < MOST_COUNTED { name } else { OTHERS };
        let counters = CLASSES.map(|class| self.0.with_label_values(&[name, class]));
        RequestCounters(Arc::new(counters))
    }

    pub(super) fn collector(&self) -> Box<dyn prometheus::core::Collector> {
        Box::new(self.0.clone())
    }
}

impl RequestCounters {
    /// Counts a request that was answered with this status.
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1);
        if let Some(counter) = self.0.get(class) {
            counter.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{LimitDecisions, Metrics};

    #[test]
    fn each_is_counted_by_class_and_the_many_are_one() {
        let requests = ConsumerRequests::default();
        let metrics = Metrics::new(&requests, &LimitDecisions::default());
        let acme = requests.of("acme", 0);
        for status in [200, 204, 404, 0, 999] {
            acme.count(status);
        }
        for number in MOST_COUNTED..MOST_COUNTED + 10 {
            requests.of(&format!("c{number}"), number).count(200);
        }
        let text = metrics.text();
        for line in [
            r#"tollgate_consumer_requests_total{class="2xx",consumer="acme"} 2"#,
            r#"tollgate_consumer_requests_total{class="4xx",consumer="acme"} 1"#,
            r#"tollgate_consumer_requests_total{class="5xx",consumer="acme"} 0"#,
            r#"tollgate_consumer_requests_total{class="2xx",consumer="other"} 10"#,
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("c1000"));
    }
}
