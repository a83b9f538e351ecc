//! When the gateway itself has more to do than it can, the least important requests are answered with
//! 503 at once, so that the others are answered at all. What presses is measured in [`crate::server`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use http::{HeaderValue, header};

use super::context::Context;
use super::reply::Reply;
use crate::config::Priority;
use crate::snapshot::Route;
use crate::telemetry::{Exposed, Exposition};

/// How much presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Requests of low priority are shed.
    Some,
    /// All but those of high priority are shed.
    Much,
    /// New connections are closed too.
    Most,
}

/// How much presses now, and how many requests are under way if that is bounded.
#[derive(Debug, Default)]
pub struct Pressure {
    level: AtomicU8,
    requests: Arc<AtomicUsize>,
}

/// A request that counts among those under way.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pressure {
    /// What presses now.
    pub fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::None,
            1 => Level::Some,
            2 => Level::Much,
            _ => Level::Most,
        }
    }

    /// Measured anew.
    pub fn set(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Lets a request of this route pass, or not.
    pub(super) fn admit(&self, route: &Route, context: &mut Context) -> Result<(), Box<Reply>> {
        let priority = route.policies.priority;
        let is_shed = match self.level() {
            Level::None => false,
            Level::Some => priority == Priority::Low,
            Level::Much | Level::Most => priority != Priority::High,
        };
        if is_shed {
            return Err(shed("the gateway has more to do than it can").into());
        }
        let Some(most) = context.snapshot.settings.requests else {
            return Ok(());
        };
        let counted = Counted(self.requests.clone());
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        context.counted = Some(counted);
        match before < most || priority == Priority::High {
            true => Ok(()),
            false => Err(shed("as many requests are under way as the gateway takes").into()),
        }
    }
}

impl Exposed for Pressure {
    fn expose(&self, page: &mut Exposition) {
        page.gauge(
            "tollgate_overload_level",
            "How much presses: 0 nothing, 1 low priority is shed, 2 all but high, 3 connections too.",
        )
        .sample(&[], self.level() as u64);
    }
}

/// Clients that come back do so one after the other.
fn shed(detail: &'static str) -> Reply {
    Reply::shed(detail).with(header::RETRY_AFTER, HeaderValue::from(fastrand::u16(1..=3)))
}
