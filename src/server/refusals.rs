//! How often it is said that a client's certificate was refused: clients can try as often as they like, and must
//! not fill the log.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Lines that are written at once.
const BURST: u32 = 10;
/// How soon there may be another one after that.
const PACE: Duration = Duration::from_secs(6);

/// What was said of refused certificates.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    /// From when on all lines are free again.
    free: Option<Instant>,
    unsaid: u64,
}

impl Refusals {
    /// Whether another one is said now: then how many were not since the last one.
    pub(super) fn say(&self, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = said.free.map_or(now, |free| free.max(now));
        if free.duration_since(now) > PACE * (BURST - 1) {
            said.unsaid += 1;
            return None;
        }
        said.free = Some(free + PACE);
        Some(std::mem::take(&mut said.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_said_at_once_and_then_ten_a_minute() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let said = |second| refusals.say(start + Duration::from_secs(second));
        for _ in 0..10 {
            assert_eq!(said(0), Some(0));
        }
        assert_eq!(said(0), None);
        assert_eq!(said(5), None);
        assert_eq!(said(6), Some(2));
        assert_eq!(said(7), None);
        let later: Vec<_> = (60..660).filter_map(said).collect();
        // Nine free by then, or nearly so, and one each six seconds.
        assert!((100..=110).contains(&later.len()), "{}", later.len());
        assert_eq!(later.iter().sum::<u64>() + later.len() as u64, 601 - 5);
    }
}
