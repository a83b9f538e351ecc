//! What may be asked of the process, on its way to where it is done.

use http::StatusCode;
use tokio::sync::{mpsc, oneshot};

use super::answer::Answer;
use super::status::{Reload, ReloadOutcome, Trigger};

/// Requests that may wait; more are turned away.
const MOST_WAITING: usize = 16;

/// Something to do.
#[derive(Debug)]
pub enum Command {
    /// Load the configuration again and put it in force.
    Reload {
        /// Who asks.
        by: Trigger,
        /// Gets the result.
        reply: Option<oneshot::Sender<Reload>>,
    },
    /// Load the configuration again and say what it would change.
    Compare {
        /// Gets the result.
        reply: oneshot::Sender<Reload>,
    },
}

/// Where commands are put in.
#[derive(Debug, Clone)]
pub struct Commands(mpsc::Sender<Command>);

/// A way for commands, and its other end.
pub fn commands() -> (Commands, mpsc::Receiver<Command>) {
    let (sender, receiver) = mpsc::channel(MOST_WAITING);
    (Commands(sender), receiver)
}

impl Commands {
    /// Asks for a reload and waits for its result; `None` if the process is too busy or ends.
    pub(super) async fn reload(&self) -> Option<Reload> {
        let (reply, result) = oneshot::channel();
        let command = Command::Reload {
            by: Trigger::Api,
            reply: Some(reply),
        };
        self.0.try_send(command).ok()?;
        result.await.ok()
    }

    /// Asks what a reload would change; `None` if the process is too busy or ends.
    pub(super) async fn compare(&self) -> Option<Reload> {
        let (reply, result) = oneshot::channel();
        self.0.try_send(Command::Compare { reply }).ok()?;
        result.await.ok()
    }

    /// Asks for a reload and does not wait. One that waits already is enough.
    pub fn reload_soon(&self, by: Trigger) {
        if let Err(error) = self.0.try_send(Command::Reload { by, reply: None }) {
            log::warn!("a reload was not begun, for others wait: {error}");
        }
    }
}

/// What is said of a reload; `None` is one that was not done.
pub(super) fn answer(result: Option<Reload>) -> Answer {
    match result {
        Some(reload) if reload.outcome == ReloadOutcome::Refused => {
            Answer::json(StatusCode::UNPROCESSABLE_ENTITY, &reload)
        }
        Some(reload) => Answer::json(StatusCode::OK, &reload),
        None => Answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "not now: other changes wait, or the process ends",
        ),
    }
}
