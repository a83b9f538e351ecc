//! What is counted of attempts at its endpoints.

use std::time::Duration;

use pingora::{Error, ErrorType};

use super::Service;
use crate::telemetry::{Phase, ServiceEvent};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::exchange::{Answer, Failed};
use crate::upstream::retry::Failure;

impl Service {
    /// An attempt has its connection, from the pool or a new one, which took so long if that is known.
    pub fn connected(&self, endpoint: &Endpoint, is_reused: bool, took: Option<Duration>) {
        if is_reused {
            self.meter.count(ServiceEvent::Reused);
            return;
        }
        self.meter.count(ServiceEvent::Opened);
        if endpoint.is_tls() {
            self.meter.count(ServiceEvent::HandshakeDone);
        }
        if let Some(took) = took {
            self.meter.observe(Phase::Connect, took);
        }
    }

    /// An attempt has no connection, because of this.
    pub fn not_connected(&self, error: &Error) {
        let event = match error.etype() {
            ErrorType::ConnectRefused => ServiceEvent::Refused,
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
                ServiceEvent::ConnectTimedOut
            }
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => ServiceEvent::TlsFailed,
            _ => ServiceEvent::ConnectFailed,
        };
        self.meter.count(event);
        if let ErrorType::TLSHandshakeFailure
        | ErrorType::InvalidCert
        | ErrorType::TLSHandshakeTimedout = error.etype()
        {
            self.meter.count(ServiceEvent::HandshakeFailed);
        }
    }

    /// An attempt is over: it was answered with this status, 0 for none, so long after its connection.
    pub fn attempted(&self, endpoint: &Endpoint, status: u16, took: Option<Duration>) {
        endpoint.count(status);
        if let Some(took) = took {
            self.meter.observe(Phase::FirstByte, took);
        }
    }

    /// An exchange beside the framework's own is over.
    pub fn exchanged(&self, endpoint: &Endpoint, end: Result<&Answer, &Failed>) {
        match end {
            Ok(answer) => {
                self.connected(endpoint, answer.opened_in.is_none(), answer.opened_in);
                self.attempted(endpoint, answer.header.status.as_u16(), Some(answer.took));
            }
            Err(Failed::Connecting(error)) => {
                self.not_connected(error);
                self.attempted(endpoint, 0, None);
            }
            Err(Failed::Asking { is_reused, .. }) => {
                self.connected(endpoint, *is_reused, None);
                self.attempted(endpoint, 0, None);
            }
        }
    }

    /// An attempt that failed in a way that is repeated is repeated, or is not, for lack of budget or since
    /// the circuit is not closed.
    pub fn retried(&self, failure: Failure, is_made: bool) {
        self.meter.count(match (failure, is_made) {
            (Failure::Connect, true) => ServiceEvent::RetriedConnect,
            (Failure::Connect, false) => ServiceEvent::RefusedConnect,
            (Failure::Reset, true) => ServiceEvent::RetriedReset,
            (Failure::Reset, false) => ServiceEvent::RefusedReset,
            (Failure::Timeout, true) => ServiceEvent::RetriedTimeout,
            (Failure::Timeout, false) => ServiceEvent::RefusedTimeout,
            (Failure::Status(_), true) => ServiceEvent::RetriedStatus,
            (Failure::Status(_), false) => ServiceEvent::RefusedStatus,
        });
    }
}
