//! The upgrade, seen from the process that is succeeded: it serves until the other one does.
//!
//! The framework's own upgrade shuts the old process down even when its sockets were not taken over.
//! Here each step is awaited, and any that fails ends the new process and nothing else.

use std::ffi::OsString;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::handover::{Inheritance, Line, Message, Step, prepare};
use super::sockets::Sockets;
use crate::snapshot::Store;
use crate::tls::TicketKeys;

/// How long a new process that may have clients already is given to serve them.
const FAREWELL: Duration = Duration::from_secs(10);

/// What a successor goes on with.
#[derive(Debug, Clone)]
pub(super) struct Estate {
    pub(super) sockets: Arc<Sockets>,
    pub(super) ticket_keys: Arc<TicketKeys>,
    pub(super) snapshots: Arc<Store>,
}

/// How this process was started, and how its successor is.
#[derive(Debug, Clone)]
pub(super) struct Program {
    path: OsString,
    arguments: Vec<OsString>,
}

/// Why there is no successor.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) step: Step,
    pub(super) reason: String,
}

impl Estate {
    fn inheritance(&self) -> io::Result<Inheritance> {
        let snapshot = self.snapshots.load();
        let services = snapshot.services().iter();
        Ok(Inheritance {
            sockets: self.sockets.copies()?,
            by_hand: services.filter_map(|it| it.by_hand()).collect(),
        })
    }
}

impl Program {
    /// By the name it was called: where that is a link, the successor is what it leads to then.
    pub(super) fn current() -> Self {
        let mut arguments = std::env::args_os();
        let called = arguments.next().filter(|name| !name.is_empty());
        Self {
            path: called.unwrap_or_else(|| "/proc/self/exe".into()),
            arguments: arguments.collect(),
        }
    }
}

/// Starts a successor and brings it to the point where it accepts clients beside this process.
/// Returns its number. `may_go_on` is asked at the last moment at which there is a way back. Blocks.
pub(super) fn upgrade(
    program: &Program,
    estate: &Estate,
    patience: Duration,
    may_go_on: impl FnOnce() -> bool,
) -> Result<u32, Failed> {
    let start = |error: io::Error| Failed {
        step: Step::Start,
        reason: format!("`{}` can't be started: {error}", program.path.display()),
    };
    let (line, other) = Line::pair().map_err(start)?;
    let mut command = Command::new(&program.path);
    command.args(&program.arguments);
    prepare(&mut command, other);
    let child = command.spawn().map_err(start)?;
    // The command still holds the successor's end.
    drop(command);
    let mut successor = Successor {
        child,
        line,
        patience,
    };
    let result = successor.bring_up(estate, may_go_on);
    if let Err(failed) = &result {
        successor.end(failed.step == Step::Accept);
    }
    result
}

struct Successor {
    child: Child,
    line: Line,
    patience: Duration,
}

impl Successor {
    fn bring_up(
        &mut self,
        estate: &Estate,
        may_go_on: impl FnOnce() -> bool,
    ) -> Result<u32, Failed> {
        self.expect(Step::Configuration)?;
        let inheritance = estate.inheritance();
        let sent = inheritance.and_then(|it| self.line.hand_over(&it, &estate.ticket_keys));
        unless_gone(sent).map_err(|error| failed(Step::Listeners, &error))?;
        self.expect(Step::Listeners)?;
        self.expect(Step::Health)?;
        if !may_go_on() {
            let reason = "this process was told to end meanwhile".to_owned();
            let step = Step::Health;
            return Err(Failed { step, reason });
        }
        let asked = self.line.send(&Message::Accept, &[]);
        unless_gone(asked).map_err(|error| failed(Step::Accept, &error))?;
        self.expect(Step::Accept)?;
        Ok(self.child.id())
    }

    /// Waits until a step is done.
    fn expect(&mut self, step: Step) -> Result<(), Failed> {
        match self.line.receive(Some(self.patience)) {
            Ok(Some((Message::Done { step: done }, _))) if done == step => Ok(()),
            Ok(Some((Message::Failed { step, reason }, _))) => Err(Failed { step, reason }),
            Ok(Some(_)) => {
                let reason = "the new process said something that was not its turn".to_owned();
                Err(Failed { step, reason })
            }
            Ok(None) => Err(self.has_gone(step)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Failed {
                step,
                reason: format!(
                    "not done within {:?} (`server.upgrade_timeout`)",
                    self.patience
                ),
            }),
            Err(error) => Err(failed(step, &error)),
        }
    }

    fn has_gone(&mut self, step: Step) -> Failed {
        let status = self.wait(Duration::from_secs(1));
        let how = status.map_or("closed the line".to_owned(), |it| {
            format!("ended with {it}")
        });
        // A program that says nothing at all has not even begun.
        Failed {
            step,
            reason: format!("the new process {how}; its log says why"),
        }
    }

    /// Ends it, with time for its requests if it may have some.
    fn end(&mut self, may_have_clients: bool) {
        if may_have_clients {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or_default());
            if kill(pid, Signal::SIGTERM).is_ok() && self.wait(FAREWELL).is_some() {
                return;
            }
        }
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            log::warn!("the new process may still run: {error}");
        }
    }

    fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

/// To a process that has gone nothing can be sent; what it said before, and how it ended, is found
/// out when it is listened to.
fn unless_gone(sent: io::Result<()>) -> io::Result<()> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    match sent {
        Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset) => Ok(()),
        sent => sent,
    }
}

fn failed(step: Step, error: &io::Error) -> Failed {
    Failed {
        step,
        reason: error.to_string(),
    }
}
