//! What a request shows of itself, and what a provider makes of that.

use std::sync::Arc;

use http::{HeaderMap, Method, Uri};

use super::identity::Identity;
use super::refusal::Refusal;
use super::work::Work;

/// What a request shows of itself.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'r> {
    /// The method.
    pub method: &'r Method,
    /// The target, as it was sent.
    pub uri: &'r Uri,
    /// The fields.
    pub headers: &'r HeaderMap,
    /// Whether a proxy sent it whose word counts.
    pub is_from_trusted_proxy: bool,
    /// Seconds since 1970.
    pub now: u64,
}

/// What a provider makes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It comes from this one.
    Known(Arc<Identity>),
    /// It does not prove whom it comes from.
    Refused(Refusal),
    /// That takes too long for a thread that serves requests.
    Costly(Work),
}

impl From<Result<Arc<Identity>, Refusal>> for Verdict {
    fn from(result: Result<Arc<Identity>, Refusal>) -> Self {
        match result {
            Ok(identity) => Self::Known(identity),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

impl Verdict {
    /// The end of it, worked out here and now, however long it takes.
    ///
    /// # Errors
    /// Why the request is not let in.
    pub fn settle(self) -> Result<Arc<Identity>, Refusal> {
        match self {
            Self::Known(identity) => Ok(identity),
            Self::Refused(refusal) => Err(refusal),
            Self::Costly(work) => work.settle(),
        }
    }
}
