//! What a request shows of itself, and what a provider makes of that.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, Uri};

use super::decider::Decider;
use super::identity::Identity;
use super::refusal::Refusal;
use super::signature::Content;
use super::work::Work;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What a request shows of itself.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'r> {
    /// The method.
    pub method: &'r Method,
    /// The target, as it was sent.
    pub uri: &'r Uri,
    /// The fields.
    pub headers: &'r HeaderMap,
    /// The certificate that was shown for the connection and those that vouch for it, as DER one behind the other;
    /// empty if there is none.
    pub certificates: &'r [u8],
    /// Whether it came by TLS to this gateway.
    pub is_encrypted: bool,
    /// Whether a proxy sent it whose word counts.
    pub is_from_trusted_proxy: bool,
    /// Seconds since 1970.
    pub now: u64,
}

impl Credentials<'_> {
    /// The scheme of the target: what a trusted proxy says it was, or that of the connection.
    pub(super) fn scheme(&self) -> &'static str {
        let told = self.headers.get(X_FORWARDED_PROTO);
        let told = told.filter(|_| self.is_from_trusted_proxy);
        match told {
            Some(told) if told.as_bytes().eq_ignore_ascii_case(b"https") => "https",
            None if self.is_encrypted => "https",
            _ => "http",
        }
    }
}

/// What a provider makes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It comes from this one.
    Known(Arc<Identity>),
    /// It comes from this one if its body is this.
    Bound(Arc<Identity>, Content),
    /// It does not prove whom it comes from.
    Refused(Refusal),
    /// That takes too long for a thread that serves requests.
    Costly(Work),
    /// It was not read: its address may send such credentials again in so many seconds.
    Throttled(u64),
    /// Another service decides.
    Elsewhere(Arc<Decider>),
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
    /// The end of it, worked out here and now, however long it takes; the body is not looked at, and nobody
    /// else is asked.
    ///
    /// # Errors
    /// Why the request is not let in.
    pub fn settle(self) -> Result<Arc<Identity>, Refusal> {
        match self {
            Self::Known(identity) | Self::Bound(identity, _) => Ok(identity),
            Self::Refused(refusal) => Err(refusal),
            Self::Costly(work) => work.settle(),
            Self::Throttled(_) => Err(Refusal::Busy),
            Self::Elsewhere(_) => Err(Refusal::Undecided),
        }
    }
}
