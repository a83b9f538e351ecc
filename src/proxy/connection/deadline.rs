//! What is awaited on a connection, and until when.
//!
//! A connection is held to it by [`Supervised`](crate::proxy::Supervised). A request costs it a few stores.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Connection, NONE};

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// What is late when a deadline passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::proxy) enum Awaited {
    /// The first byte of a request: an idle connection is closed.
    Client,
    /// The rest of a request's header: a slow client is closed.
    Request,
    /// More of the request's body, on a stream of HTTP/2: the connection to the backend is cut, and the request
    /// fails as one whose client took too long.
    Body,
    /// The backend's response header, or more of its body: the connection to the backend is cut, and
    /// the request fails as one whose backend took too long.
    Response,
}

impl Connection {
    /// From now on the first byte of a request must come within `limit`.
    pub fn await_client(&self, limit: Duration) {
        self.awaited.store(Awaited::Client as u8, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.set_deadline(Some(self.opened.elapsed() + limit));
    }

    /// A request has begun to come, and its header must end within `limit`.
    pub(in crate::proxy) fn await_request(&self, limit: Duration) {
        self.awaited
            .store(Awaited::Request as u8, Ordering::Relaxed);
        self.set_deadline(Some(self.opened.elapsed() + limit));
    }

    /// The number of the wait for a request, if one is awaited.
    pub(in crate::proxy) fn idle_turn(&self) -> Option<u32> {
        self.awaits(Awaited::Client)
            .then(|| self.turn.load(Ordering::Relaxed))
    }

    /// Whether this is awaited by a deadline.
    pub(in crate::proxy) fn awaits(&self, awaited: Awaited) -> bool {
        self.awaited.load(Ordering::Relaxed) == awaited as u8
            && self.deadline.load(Ordering::Relaxed) != NEVER
    }

    /// The backend's response header must come by `deadline`, or [`Connection::is_late`].
    pub(in crate::proxy) fn await_response(&self, deadline: Option<Instant>) {
        self.awaited
            .store(Awaited::Response as u8, Ordering::Relaxed);
        self.set_deadline(deadline.map(|deadline| deadline.duration_since(self.opened)));
    }

    /// More of the request's body must come within `limit`, or [`Connection::is_client_late`].
    pub(in crate::proxy) fn await_body(&self, limit: Option<Duration>) {
        self.awaited.store(Awaited::Body as u8, Ordering::Relaxed);
        self.set_deadline(limit.map(|limit| self.opened.elapsed() + limit));
    }

    /// A part of the backend's response came; the next one must come within `limit`.
    pub(in crate::proxy) fn await_more(&self, now: Instant, limit: Option<Duration>) {
        let since_opened = now.saturating_duration_since(self.opened);
        self.awaited
            .store(Awaited::Response as u8, Ordering::Relaxed);
        self.set_deadline(limit.map(|limit| since_opened + limit));
    }

    /// Whatever happens, it is over after `limit`.
    pub(in crate::proxy) fn ends_after(&self, limit: Duration) {
        let last = millis(self.opened.elapsed() + limit);
        self.last.store(last, Ordering::Relaxed);
    }

    /// Whether it has been there for as long as it may.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last != NEVER && millis(self.opened.elapsed()) >= last
    }

    /// Nothing is done for the client for so long, unless it goes away. What is awaited of others may come
    /// as much later.
    pub(in crate::proxy) fn pause(&self, wait: Duration) {
        let wait = millis(wait) + 1;
        let until = millis(self.opened.elapsed()).saturating_add(wait);
        self.paused.store(until, Ordering::Relaxed);
        let deadline = self.deadline.load(Ordering::Relaxed);
        self.deadline
            .store(deadline.saturating_add(wait), Ordering::Relaxed);
    }

    /// Until when nothing is done for the client.
    pub(in crate::proxy) fn paused_until(&self) -> Option<Instant> {
        let until = self.paused.load(Ordering::Relaxed);
        (until > 0).then(|| self.opened + Duration::from_millis(until))
    }

    /// The pause is over.
    pub(in crate::proxy) fn resume(&self) {
        self.paused.store(0, Ordering::Relaxed);
    }

    /// A request came; what was late in the last one is forgotten.
    pub(in crate::proxy) fn request_came(&self) {
        self.arrived();
        self.is_late.store(false, Ordering::Relaxed);
        self.is_client_late.store(false, Ordering::Relaxed);
        self.is_expired.store(false, Ordering::Relaxed);
    }

    /// What was awaited came.
    pub(in crate::proxy) fn arrived(&self) {
        self.last.store(NEVER, Ordering::Relaxed);
        self.set_deadline(None);
        self.upstream.store(NONE, Ordering::Relaxed);
    }

    /// The socket to cut when the backend is late. It must be open until [`Connection::arrived`].
    pub(in crate::proxy) fn forwards_to(&self, upstream: RawFd) {
        self.is_late.store(false, Ordering::Relaxed);
        self.upstream.store(upstream, Ordering::Relaxed);
    }

    /// The socket of the connection to the backend, if there is one that could be cut.
    pub(in crate::proxy) fn upstream(&self) -> Option<RawFd> {
        let upstream = self.upstream.load(Ordering::Relaxed);
        (upstream != NONE).then_some(upstream)
    }

    /// The backend is late.
    pub(in crate::proxy) fn upstream_is_late(&self) {
        self.is_late.store(true, Ordering::Relaxed);
        self.arrived();
    }

    /// The client is late with its body.
    pub(in crate::proxy) fn client_is_late(&self) {
        self.is_client_late.store(true, Ordering::Relaxed);
        self.arrived();
    }

    /// Whether the backend was cut off because the client was late with its body.
    pub(in crate::proxy) fn is_client_late(&self) -> bool {
        self.is_client_late.load(Ordering::Relaxed)
    }

    /// It ends, since it has been there for as long as it may.
    pub(in crate::proxy) fn expires(&self) {
        self.is_expired.store(true, Ordering::Relaxed);
        self.arrived();
    }

    /// Whether it was ended for that.
    pub(in crate::proxy) fn is_expired(&self) -> bool {
        self.is_expired.load(Ordering::Relaxed)
    }

    /// Whether the backend was cut off because it was late.
    pub(in crate::proxy) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
    }

    fn set_deadline(&self, after_opened: Option<Duration>) {
        let deadline = after_opened.map_or(NEVER, millis);
        let deadline = deadline.min(self.last.load(Ordering::Relaxed));
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// When what is awaited is late.
    pub(in crate::proxy) fn deadline(&self) -> Option<Instant> {
        match self.deadline.load(Ordering::Relaxed) {
            NEVER => None,
            millis => Some(self.opened + Duration::from_millis(millis)),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER)
}
