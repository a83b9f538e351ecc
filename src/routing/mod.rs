//! Which route takes a request: its host, then its canonical path, then methods, headers and query.
//!
//! Every condition is part of the match, as in the Kubernetes Gateway API: where the most specific
//! path fails on a header or a method, the next less specific one is tried. A tree that returns one
//! result a path can't do that, so the tree here is our own and yields every match in order.
//! No I/O, and nothing of the proxy.

mod candidate;
mod explain;
mod host;
mod path;
mod pattern;
mod table;
mod tree;

pub use candidate::{Conditions, Parameters, Request};
pub use explain::{Candidate, Reason};
pub use host::normalise as normal_host;
pub use path::{PathError, canonical_path};
pub use pattern::{MOST_PARAMETERS, Pattern};
pub use table::{Entry, Outcome, RouteTable};
