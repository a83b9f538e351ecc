//! What comes new, told to those who follow: server-sent events (HTML, section 9.2).

use std::time::Duration;

use bytes::Bytes;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// What every stream begins with: who loses it comes back after two seconds.
const BEGINNING: Bytes = Bytes::from_static(b"retry: 2000\n\n");
/// A line that says nothing.
const ALIVE: Bytes = Bytes::from_static(b":\n\n");
/// After so long without an event something is sent, so that nothing on the way takes the stream for dead.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a follower may take to read what was sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A place among those who follow.
#[derive(Debug)]
pub(in crate::admin) struct Subscription {
    events: Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

/// An event as it is sent: its name and its data, which is one line.
pub(super) fn event(name: &str, data: &impl Serialize) -> Option<Bytes> {
    let data = serde_json::to_string(data).ok()?;
    Some(format!("event: {name}\ndata: {data}\n\n").into())
}

impl Subscription {
    pub(super) fn new(events: Receiver<Bytes>, place: OwnedSemaphorePermit) -> Self {
        Self {
            events,
            _place: place,
        }
    }

    /// Sends events, behind a header that was sent, until the client goes or the gateway ends.
    ///
    /// # Errors
    /// When the client has gone.
    pub(in crate::admin) async fn send(
        mut self,
        session: &mut ServerSession,
        mut shutdown: ShutdownWatch,
    ) -> pingora::Result<()> {
        session.set_write_timeout(Some(PATIENCE));
        let mut next = BEGINNING;
        loop {
            session.write_response_body(next, false).await?;
            next = tokio::select! {
                event = self.events.recv() => match event {
                    Ok(event) => event,
                    // It was too slow for some; the next one tells all that there is to know.
                    Err(RecvError::Lagged(_)) => ALIVE,
                    Err(RecvError::Closed) => break,
                },
                gone = session.read_body_or_idle(true) => {
                    gone?;
                    break;
                }
                _ = shutdown.wait_for(|is_ending| *is_ending) => break,
                () = tokio::time::sleep(SILENCE) => ALIVE,
            };
        }
        session.finish_body().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_stays_on_one_line_whatever_is_in_it() {
        let event = event("failure", &"/a\nevent: x\r\n\n").unwrap();
        assert_eq!(
            event,
            "event: failure\ndata: \"/a\\nevent: x\\r\\n\\n\"\n\n"
        );
    }
}
