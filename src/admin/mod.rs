//! The address for operators: health, status, metrics, the dashboard, and what may be asked of the process.
//!
//! What is asked is only passed on here, as a [`Command`]; it is done by [`crate::server`].

mod access;
mod answer;
mod api;
mod backends;
mod cache;
mod certificates;
mod commands;
mod config;
mod consumers;
mod dashboard;
mod endpoints;
mod explain;
mod in_force;
mod limit_store;
mod limits;
mod log_level;
mod niceness;
mod openapi;
mod operation;
mod operations;
mod query;
mod readiness;
mod recent;
mod routes;
mod services;
mod status;
mod traffic;

pub use api::Api;
pub use backends::{EndpointReport, ServiceReport};
pub use certificates::CertificateKind;
pub use commands::{Command, Commands, commands};
pub use explain::{
    Asked, Condition, Decided, Explained, Kept, NotTaken, Outcome, OwnAnswer, Part, PolicyLevel,
    PolicyReport, ShownCredentials, Taken, explain,
};
pub use in_force::{Configured, InForce};
pub use limits::LimitsReport;
pub use log_level::LogLevelReport;
pub use niceness::give_way;
pub use readiness::Readiness;
pub use routes::{RouteAction, RouteKind, RouteReport};
pub use services::Impaired;
pub use status::{
    Finding, Phase, Reload, ReloadOutcome, Report, Status, Trigger, Upgrade, UpgradeOutcome,
};
pub use traffic::{
    Figures, Live, Refused, RouteTraffic, Sample, ServiceTraffic, Traffic, TrafficReport,
};
