//! What the gateway says about its requests. Nothing here decides anything.

mod access_log;
mod metrics;
mod record;

pub use access_log::{AccessLog, OpenError};
pub use metrics::Metrics;
pub use record::{Flag, Flags, Record};
