//! Limits: how many requests a client may make, how many of them at once, how fast their bodies pass,
//! and what it is told of them.
//!
//! Counting is exact, in a table of bounded size; when the table is full a sketch counts on, never
//! too generously. Who the client is comes in through [`KeySource`]; nothing here knows of a proxy.

mod algorithm;
mod bandwidth;
mod buckets;
mod calendar;
mod check;
mod classes;
mod clock;
mod concurrency;
mod cost;
mod displace;
mod due;
mod fields;
mod forecast;
mod heavy;
mod in_flight;
mod inspect;
mod key;
mod key_text;
mod limit;
mod limiter;
mod lines;
mod overflow;
mod queue;
mod shared;
mod slots;
mod store;
mod table;
mod together;
mod top_keys;
mod verdict;

pub use bandwidth::{BandwidthLimit, Flow, Flows};
pub use buckets::Buckets;
pub use calendar::Zone;
pub use check::checked_zone;
pub use concurrency::{ConcurrencyLimits, Entry, Held, Holding};
pub use cost::{Answer, checked_cost};
pub use due::{Charged, Due};
pub use in_flight::InFlight;
pub use inspect::{Decisions, KeyReport, LimitReport, TopKey};
pub use key::KeySource;
pub use key_text::{Names, route_text};
pub use limiter::{Counters, Phase, RateLimits, Scope};
pub use queue::Waited;
pub use shared::{Shared, StoreState, Tallies, simulation, stable_id};
pub use store::Store;
pub use top_keys::Counted;
pub use verdict::{Denial, LimitNumber, Passed, Refusal, Tightest, Verdict};
