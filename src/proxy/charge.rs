//! What limits charge when they see the answer, since only that says what a request has cost.

use std::time::Instant;

use http::HeaderMap;

use super::context::Context;
use super::limit::{Nearest, limits_of, nearer};
use crate::limits::{Answer, Charged, Due};

/// What a limit will charge by the answer.
#[derive(Debug)]
pub(super) struct Charge {
    /// Whether it is one of the consumer's own.
    is_of_consumer: bool,
    due: Due,
}

impl Charge {
    pub(super) fn new(is_of_consumer: bool, due: Due) -> Self {
        Self {
            is_of_consumer,
            due,
        }
    }
}

/// Charges what the header of a backend's answer says, and remembers what is left.
pub(super) fn by_header(response: &HeaderMap, context: &mut Context) {
    charge(Answer::Begun(response), context);
}

/// Charges what is only known when all that will be sent has been sent.
pub(super) fn by_bytes(bytes: u64, context: &mut Context) {
    charge(Answer::Sent { bytes }, context);
}

fn charge(answer: Answer<'_>, context: &mut Context) {
    if context.charges.is_empty() {
        return;
    }
    let now = Instant::now();
    for charge in std::mem::take(&mut context.charges) {
        let is_of_consumer = charge.is_of_consumer;
        let limits = limits_of(is_of_consumer, context);
        match limits.map(|limits| limits.rates.charge(&charge.due, now, answer)) {
            Some(Charged::NotYet) => context.charges.push(charge),
            Some(Charged::Counted(Some(tightest))) => {
                let left = Nearest {
                    is_of_consumer,
                    tightest,
                };
                nearer(left, context);
            }
            Some(Charged::Counted(None)) | None => {}
        }
    }
}
