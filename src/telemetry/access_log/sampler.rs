//! Of which requests there is a line: decided once they are over, before anything is written.

use std::time::Duration;

use crate::config::{Diagnostics, LogSampleFields};

/// A ratio is one of so many.
const ALL: u32 = 1_000_000;

/// The rule by which it is decided.
#[derive(Debug, PartialEq)]
pub(super) struct Sampler {
    millionths: u32,
    errors: bool,
    slower_than: Option<Duration>,
}

/// For how many requests a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// The ratio by which it was chosen, unless it has a line in any case.
    millionths: Option<u32>,
}

impl Weight {
    /// That of a line that stands for its request alone.
    pub const ONE: Self = Self { millionths: None };

    /// The ratio by which its request was chosen, in millionths.
    pub(super) fn ratio(self) -> Option<u32> {
        self.millionths
    }
}

impl Sampler {
    pub(super) fn compile(section: &LogSampleFields, diagnostics: &mut Diagnostics) -> Self {
        let slower_than = section.slower_than.as_ref();
        if let Some(zero) = slower_than.filter(|it| it.0.is_zero()) {
            diagnostics
                .error(zero.span, "`slower_than` is zero, so every request is slow")
                .help("write a duration such as `1s`, or `ratio: 100%`");
        }
        Self {
            millionths: section.ratio.millionths(),
            errors: section.errors,
            slower_than: slower_than.map(|it| it.0),
        }
    }

    /// Whether a request has a line, and for how many it stands.
    pub(super) fn choose(&self, is_failure: bool, took: Duration) -> Option<Weight> {
        if self.millionths == ALL
            || (self.errors && is_failure)
            || self.slower_than.is_some_and(|limit| took >= limit)
        {
            return Some(Weight::ONE);
        }
        (fastrand::u32(..ALL) < self.millionths).then_some(Weight {
            millionths: Some(self.millionths),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Period, Ratio};

    fn sampler(ratio: &str) -> Sampler {
        let section = LogSampleFields {
            ratio: Ratio::parse(ratio).unwrap().into(),
            slower_than: Some(Period::seconds(1).into()),
            ..LogSampleFields::default()
        };
        Sampler::compile(&section, &mut Diagnostics::default())
    }

    #[test]
    fn a_share_is_chosen_and_says_of_how_many() {
        let fast = Duration::from_millis(999);
        let chosen = |ratio| {
            let sampler = sampler(ratio);
            let chosen = (0..10_000).filter_map(|_| sampler.choose(false, fast));
            chosen.collect::<Vec<_>>()
        };
        assert!(chosen("0%").is_empty());
        assert_eq!(chosen("100%"), vec![Weight::ONE; 10_000]);
        let some = chosen("20%");
        assert!((1_700..2_300).contains(&some.len()), "{}", some.len());
        assert!(some.iter().all(|weight| weight.ratio() == Some(200_000)));
    }

    #[test]
    fn failed_and_slow_requests_stand_for_themselves() {
        let sampler = sampler("0%");
        assert_eq!(sampler.choose(true, Duration::ZERO), Some(Weight::ONE));
        let slow = Duration::from_secs(1);
        assert_eq!(sampler.choose(false, slow), Some(Weight::ONE));
        let indifferent = Sampler {
            errors: false,
            ..sampler
        };
        assert_eq!(indifferent.choose(true, Duration::ZERO), None);
    }
}
