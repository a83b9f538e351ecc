//! What is asked of the last hour: how much of it, in which steps.

use super::history::SECONDS;

/// Seconds of a step, unless other ones are asked for.
const STEP: u64 = 10;
const LONGEST_STEP: u64 = 600;

/// What the query of `GET /traffic` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) struct Question {
    /// The seconds before now.
    pub(super) last: u64,
    /// The seconds of a step.
    pub(super) step: u64,
}

impl Question {
    /// Reads a query.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::admin) fn read(query: &str) -> Result<Self, String> {
        let mut question = Self {
            last: SECONDS as u64,
            step: STEP,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (part, most) = match name {
                "last" => (&mut question.last, SECONDS as u64),
                "step" => (&mut question.step, LONGEST_STEP),
                _ => return Err(format!("`{name}` is nothing to ask for: `last`, `step`")),
            };
            *part = match value.parse() {
                Ok(seconds) if (1..=most).contains(&seconds) => seconds,
                _ => return Err(format!("`{name}` is a number of seconds from 1 to {most}")),
            };
        }
        Ok(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_they_are_meant() {
        let question = |last, step| Ok(Question { last, step });
        assert_eq!(Question::read(""), question(3600, 10));
        assert_eq!(Question::read("last=300&step=1"), question(300, 1));
        for wrong in ["last=0", "last=3601", "step=x", "step", "for=3"] {
            assert!(Question::read(wrong).is_err(), "{wrong}");
        }
    }
}
