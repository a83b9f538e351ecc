//! What becomes of the lines of the access log.

use std::sync::Arc;

use super::Exposed;
use super::exposition::Exposition;
use crate::telemetry::AccessLog;

impl Exposed for Arc<AccessLog> {
    fn expose(&self, page: &mut Exposition) {
        page.counter(
            "tollgate_access_log_dropped_total",
            "Lines of the access log that are lost, since its output could not keep up or failed.",
        )
        .sample(&[], self.dropped());
    }
}
