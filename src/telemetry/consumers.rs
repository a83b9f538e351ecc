//! Requests counted by the consumer they come from.

use std::sync::Arc;

use super::metrics::{AllSeries, CLASSES, Exposed, Exposition, OTHERS, Series, class_of};

/// Consumers with counters of their own; the others share one, so that the series stay bounded.
const MOST_COUNTED: usize = 1000;

/// The counters of all consumers.
#[derive(Debug, Clone, Default)]
pub struct ConsumerRequests(Arc<AllSeries<{ CLASSES.len() }>>);

/// The counters of one, by the class of the status.
#[derive(Debug, Clone)]
pub struct RequestCounters(Arc<Series<{ CLASSES.len() }>>);

impl ConsumerRequests {
    /// What is gone makes room for what comes with a new configuration.
    pub fn make_room(&self) {
        self.0.make_room(MOST_COUNTED);
    }

    /// The counters of the consumer of this name.
    pub fn of(&self, name: &str) -> RequestCounters {
        let others = [("consumer", OTHERS)];
        RequestCounters(self.0.of(&[("consumer", name)], &others, MOST_COUNTED))
    }
}

impl RequestCounters {
    /// Counts a request that was answered with this status; 0 for none.
    pub fn count(&self, status: u16) {
        self.0.counts.count(class_of(status));
    }
}

impl Exposed for ConsumerRequests {
    fn expose(&self, page: &mut Exposition) {
        let mut requests = page.counter(
            "tollgate_consumer_requests_total",
            "Requests by the consumer they come from and the class of the answer's status.",
        );
        for series in self.0.read() {
            for (class, count) in std::iter::zip(CLASSES, series.counts.sums()) {
                requests.with(&series.labels, ("class", class), count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Format;

    #[test]
    fn each_is_counted_by_class_and_the_many_are_one() {
        let requests = ConsumerRequests::default();
        let acme = requests.of("acme");
        for status in [200, 204, 404, 0, 999] {
            acme.count(status);
        }
        let many: Vec<_> = (1..MOST_COUNTED + 10)
            .map(|number| requests.of(&format!("c{number}")))
            .collect();
        for counters in &many {
            counters.count(200);
        }
        let mut page = Exposition::new(Format::Text, 0);
        requests.expose(&mut page);
        let text = page.finish();
        for line in [
            r#"tollgate_consumer_requests_total{consumer="acme",class="2xx"} 2"#,
            r#"tollgate_consumer_requests_total{consumer="acme",class="4xx"} 1"#,
            r#"tollgate_consumer_requests_total{consumer="acme",class="5xx"} 0"#,
            r#"tollgate_consumer_requests_total{consumer="acme",class="none"} 2"#,
            r#"tollgate_consumer_requests_total{consumer="other",class="2xx"} 10"#,
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("c1000"));
    }
}
