//! What operators have a circuit be, whatever its rule says.
//!
//! That stands in the same word as the moment until which it is open, so that a request looks at no other, and
//! a circuit that is about to turn can't undo it.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::Circuit;

/// The values of the word that no moment has.
pub(super) const CLOSED: u64 = 0;
pub(super) const FORCED_CLOSED: u64 = 1;
pub(super) const FORCED_OPEN: u64 = u64::MAX;
/// The moments between them, in milliseconds.
pub(super) const FIRST_MOMENT: u64 = 2;
pub(super) const LAST_MOMENT: u64 = u64::MAX - 1;

/// Who says whether a circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitMode {
    /// Its rule, by how the service answers.
    Automatic,
    /// Operators, who have it be open.
    ForcedOpen,
    /// Operators, who have it be closed.
    ForcedClosed,
}

impl CircuitMode {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Automatic, "automatic"),
        (Self::ForcedOpen, "forced_open"),
        (Self::ForcedClosed, "forced_closed"),
    ];

    /// The word of this one.
    pub fn word(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn of(word: u64) -> Self {
        match word {
            FORCED_OPEN => Self::ForcedOpen,
            FORCED_CLOSED => Self::ForcedClosed,
            _ => Self::Automatic,
        }
    }
}

impl Circuit {
    pub(in crate::upstream) fn mode(&self) -> CircuitMode {
        CircuitMode::of(self.open_until.load(Ordering::Relaxed))
    }

    /// Has it be so from now on; who said before. One that its rule takes over again is closed, and knows
    /// nothing of what was.
    pub(in crate::upstream) fn force(&self, mode: CircuitMode) -> CircuitMode {
        let next = match mode {
            CircuitMode::Automatic => CLOSED,
            CircuitMode::ForcedOpen => FORCED_OPEN,
            CircuitMode::ForcedClosed => FORCED_CLOSED,
        };
        let turned = self
            .open_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                (CircuitMode::of(word) != mode).then_some(next)
            });
        let Ok(before) = turned else { return mode };
        self.openings.store(0, Ordering::Relaxed);
        self.answers.clear();
        self.speeds.clear();
        CircuitMode::of(before)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::tests::{RULE, observe, opened};
    use super::*;
    use crate::upstream::breaker::{Admission, CircuitState};
    use crate::upstream::health::Outcome;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn a_circuit_that_operators_close_stays_closed_under_failures() {
        let circuit = opened(NOW);
        assert_eq!(
            circuit.force(CircuitMode::ForcedClosed),
            CircuitMode::Automatic
        );
        for _ in 0..100 {
            assert_eq!(observe(&circuit, Outcome::Failure, NOW), None);
        }
        assert_eq!(circuit.state(NOW), CircuitState::Closed);
        // A reload without the rule does not undo it.
        circuit.reset();
        assert_eq!(circuit.mode(), CircuitMode::ForcedClosed);
    }

    #[test]
    fn a_circuit_that_operators_open_stays_open_with_and_without_a_rule() {
        let circuit = Arc::new(Circuit::default());
        circuit.force(CircuitMode::ForcedOpen);
        for rule in [Some(&RULE), None] {
            let later = NOW + Duration::from_secs(1_000_000);
            let admission = circuit.admit(rule, later);
            assert!(matches!(admission, Admission::ForcedOpen));
        }
        assert_eq!(circuit.state(NOW), CircuitState::Open);
        assert_eq!(observe(&circuit, Outcome::Success, NOW), None);
        circuit.reset();
        assert_eq!(circuit.mode(), CircuitMode::ForcedOpen);
    }

    #[test]
    fn what_turns_at_the_same_moment_does_not_undo_what_operators_say() {
        let circuit = Circuit::default();
        let seen = circuit.open_until.load(Ordering::Relaxed);
        circuit.force(CircuitMode::ForcedClosed);
        assert_eq!(circuit.open(seen, &RULE, NOW, 0.5), None);
        assert!(!circuit.close(seen));
        assert_eq!(circuit.mode(), CircuitMode::ForcedClosed);
    }

    #[test]
    fn a_circuit_that_is_automatic_again_opens_as_one_that_always_was() {
        let circuit = Circuit::default();
        circuit.force(CircuitMode::ForcedClosed);
        for _ in 0..100 {
            observe(&circuit, Outcome::Failure, NOW);
        }
        assert_eq!(
            circuit.force(CircuitMode::Automatic),
            CircuitMode::ForcedClosed
        );
        let opened_after = (1..=100).find(|_| observe(&circuit, Outcome::Failure, NOW).is_some());
        assert_eq!(opened_after, Some(20));
        // It was that before, too, and stays open.
        assert_eq!(
            circuit.force(CircuitMode::Automatic),
            CircuitMode::Automatic
        );
        assert_eq!(circuit.state(NOW), CircuitState::Open);
    }
}
