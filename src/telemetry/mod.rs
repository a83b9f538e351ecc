//! What the gateway says about its requests and itself. Nothing here decides anything.

mod access_log;
mod cache;
mod consumers;
mod decisions;
mod flags;
mod grpc;
mod handshakes;
mod json;
mod metrics;
mod process_log;
mod recent;
mod record;
mod thread;
pub mod tracing;

pub use access_log::{AccessLog, Destination, LineRules, OpenError, Weight};
pub use cache::{CacheResult, CacheResults};
pub use consumers::{ConsumerRequests, RequestCounters};
pub use decisions::{Decision, DecisionCounters, LimitDecisions};
pub use flags::{Flag, Flags};
pub use grpc::GrpcStatus;
pub use handshakes::{Handshakes, NoHandshake};
pub use json::write_text;
pub(crate) use metrics::Lines;
pub use metrics::{
    Durations, EndpointMeter, Exposed, Exposition, Family, Format, Measured, Meters, Metrics,
    Outcomes, Phase, Process, RouteMeter, SeriesBounds, ServiceEvent, ServiceMeter, Tally,
};
pub use process_log::ProcessLog;
pub use recent::{Keep, RecentKind, RecentRequest, RecentRequests};
pub use record::Record;
