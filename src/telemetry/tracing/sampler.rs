//! Of which requests spans are exported: decided when they come, and again when they have been answered.

use std::time::Duration;

use super::id::TraceId;
use super::propagation::{Incoming, Said};
use crate::config::{Diagnostics, ParentRule, SampleFields};

/// The part of a trace's name that is random, whoever began it: its last seven bytes.
const RANDOM_BITS: u32 = 56;

/// The rule by which it is decided.
#[derive(Debug, PartialEq)]
pub(super) struct Sampler {
    /// Of all values of the random part, the upper ones are sampled, from this one on. Other gateways
    /// sample the same traces by the same ratio, and some of them by a smaller one.
    from: u64,
    parent: ParentRule,
    errors: bool,
    slower_than: Option<Duration>,
}

impl Sampler {
    pub(super) fn compile(section: &SampleFields, diagnostics: &mut Diagnostics) -> Option<Self> {
        let slower_than = section.slower_than.as_ref();
        if let Some(zero) = slower_than.filter(|it| it.0.is_zero()) {
            diagnostics
                .error(zero.span, "`slower_than` is zero, so every request is slow")
                .help("write a duration such as `1s`, or `ratio: 100%`");
            return None;
        }
        let all = 1_u128 << RANDOM_BITS;
        let sampled = all * u128::from(section.ratio.millionths()) / 1_000_000;
        Some(Self {
            from: u64::try_from(all - sampled).unwrap_or(u64::MAX),
            parent: section.parent,
            errors: section.errors,
            slower_than: slower_than.map(|it| it.0),
        })
    }

    /// When a request comes.
    pub(super) fn decide(&self, trace: TraceId, incoming: &Incoming, is_trusted: bool) -> bool {
        let is_believed = match self.parent {
            ParentRule::Follow => true,
            ParentRule::Trusted => is_trusted,
            ParentRule::Ignore => false,
        };
        match incoming.said {
            Some(said) if is_believed => said.is_sampled(),
            // Whoever is not believed must not choose a name that is sampled either.
            _ if incoming.parent.is_some() && !is_believed => self.covers(fastrand::u64(..)),
            _ => self.covers(trace.number() as u64),
        }
    }

    fn covers(&self, number: u64) -> bool {
        number & ((1 << RANDOM_BITS) - 1) >= self.from
    }

    /// Whether it may be decided otherwise once a request was answered.
    pub(super) fn looks_back(&self) -> bool {
        self.errors || self.slower_than.is_some()
    }

    /// When it has been answered.
    pub(super) fn is_notable(&self, is_failure: bool, took: Duration) -> bool {
        (self.errors && is_failure) || self.slower_than.is_some_and(|limit| took >= limit)
    }
}

impl From<bool> for Said {
    fn from(is_sampled: bool) -> Self {
        if is_sampled { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use super::super::id::SpanId;
    use super::super::propagation::Parent;
    use super::*;
    use crate::config::Ratio;

    fn sampler(ratio: &str, parent: ParentRule) -> Sampler {
        let section = SampleFields {
            ratio: Ratio::parse(ratio).unwrap().into(),
            parent,
            ..SampleFields::default()
        };
        Sampler::compile(&section, &mut Diagnostics::default()).unwrap()
    }

    fn share(ratio: &str) -> usize {
        let sampler = sampler(ratio, ParentRule::Follow);
        let is_sampled = || sampler.decide(TraceId::random(), &Incoming::default(), false);
        (0..10_000).filter(|_| is_sampled()).count()
    }

    #[test]
    fn the_ratio_of_new_traces_is_sampled() {
        assert_eq!((share("0%"), share("100%")), (0, 10_000));
        let part = share("20%");
        assert!((1_700..2_300).contains(&part), "{part}");
    }

    #[test]
    fn a_smaller_ratio_samples_some_of_the_same_traces() {
        let (few, many) = (
            sampler("5%", ParentRule::Follow),
            sampler("30%", ParentRule::Follow),
        );
        for _ in 0..1_000 {
            let trace = TraceId::random();
            let nobody = Incoming::default();
            if few.decide(trace, &nobody, false) {
                assert!(many.decide(trace, &nobody, false));
            }
        }
    }

    #[test]
    fn a_decision_that_comes_counts_for_whom_it_is_believed() {
        let parent = Parent {
            trace: TraceId::parse(&[b'f'; 32]).unwrap(),
            span: SpanId::random(),
        };
        for (rule, is_trusted, is_believed) in [
            (ParentRule::Follow, false, true),
            (ParentRule::Trusted, false, false),
            (ParentRule::Trusted, true, true),
            (ParentRule::Ignore, true, false),
        ] {
            for (said, is_sampled) in [(Said::Yes, true), (Said::Debug, true), (Said::No, false)] {
                let incoming = Incoming {
                    parent: Some(parent),
                    said: Some(said),
                    ..Incoming::default()
                };
                let decide =
                    |ratio| sampler(ratio, rule).decide(parent.trace, &incoming, is_trusted);
                let expected = match is_believed {
                    true => (is_sampled, is_sampled),
                    false => (false, true),
                };
                assert_eq!(
                    (decide("0%"), decide("100%")),
                    expected,
                    "{rule:?} {said:?}"
                );
                // All bits set is the last name that a ratio leaves out.
                let chosen = (0..100).filter(|_| decide("1%")).count();
                assert!(is_believed || chosen < 20, "{rule:?} {chosen}");
            }
        }
    }
}
