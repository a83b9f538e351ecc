//! A request's way through the gateway. [`Gateway`] is the framework's proxy: each phase is a few lines, in the
//! order in which they run.
//!
//! What may pass and what is answered here is decided in [`pipeline`]; which backend serves an
//! attempt and what its failure means in [`attempt`].

mod admission;
mod affinity;
mod arrival;
mod ask;
mod attempt;
mod authenticate;
mod bandwidth;
mod caching;
mod charge;
mod concurrency;
mod connection;
mod content;
mod context;
mod deadline;
mod encryption;
mod fallback;
mod finish;
mod forward;
mod framing;
mod gateway;
mod grpc;
mod handshake;
mod hedge;
mod limit;
mod meter;
mod mirror;
mod pipeline;
mod pressure;
mod relay;
mod repeat;
mod reply;
mod respond;
mod send;
mod supervised;
mod trace;

pub use admission::{Admission, rehearsal};
pub use connection::Connection;
pub use context::Context;
pub use gateway::Gateway;
pub use pressure::{Level, Pressure};
pub use supervised::{Late, Supervised};
