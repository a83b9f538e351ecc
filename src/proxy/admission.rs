//! Who vouches for a request, and whether that is enough: the providers of a rule are asked one after the other.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use crate::auth::{
    Arrival, Content, Credentials, Decider, Identity, Labour, Provider, Refusal, Rule, Verdict,
    Work,
};
use crate::snapshot::AuthFailures;

/// How often keys are looked for that are not known yet.
const MOST_LOOKS: usize = 2;

/// What becomes of a request by its credentials.
#[derive(Debug)]
pub enum Admission {
    /// It shows none, and needs none.
    Anonymous,
    /// It comes from this one, by the provider of this number, if its body is this.
    Identified(usize, Arc<Identity>, Content),
    /// It comes from this one, by the provider of this number, who lacks the rights.
    Forbidden(usize, Arc<Identity>),
    /// It does not prove whom it comes from, says the provider of this number; `None` if it shows
    /// nothing at all.
    Refused(Option<usize>, Refusal),
    /// It may be asked again in so many seconds: too many bad credentials came from its address.
    Throttled(u64),
    /// This service decides, the provider of this number.
    Elsewhere(usize, Arc<Decider>),
}

/// Why a provider does not vouch.
enum Denied {
    Refused(Refusal),
    Throttled(u64),
    Elsewhere(Arc<Decider>),
}

/// When and whom a request comes from as far as the network knows, and the bad credentials from there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'o> {
    /// When it arrived.
    pub(super) arrived: Instant,
    /// The client's address.
    pub(super) client: IpAddr,
    /// What is counted of addresses, if anything is.
    pub(super) failures: Option<&'o AuthFailures>,
}

/// What becomes of a request by its credentials under a rule. `parameter` is what the path has in place
/// of one.
pub(super) async fn admission<'p>(
    rule: &Rule,
    credentials: Credentials<'_>,
    origin: Origin<'_>,
    parameter: &impl Fn(usize) -> &'p str,
) -> Admission {
    // Where there are others, only what a credential says tells whose it is.
    let is_only = rule.ways().len() == 1;
    let mut search = Search::new(rule);
    for (number, way) in rule.ways().iter().enumerate() {
        let found = identity(&way.provider, is_only, credentials, origin).await;
        if let Some(admission) = search.weigh(number, found, parameter) {
            return admission;
        }
    }
    search.end()
}

/// What would become of a request by its credentials under a rule, if it came. Nothing is counted, used up or
/// waited for, and nobody else is asked.
pub async fn rehearsal<'p>(
    rule: &Rule,
    credentials: Credentials<'_>,
    parameter: &impl Fn(usize) -> &'p str,
) -> Admission {
    let nobody = Origin {
        arrived: Instant::now(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        failures: None,
    };
    let mut search = Search::new(rule);
    for (number, way) in rule.ways().iter().enumerate() {
        let found = nobody.settle(way.provider.rehearse(credentials)).await;
        if let Some(admission) = search.weigh(number, found, parameter) {
            return admission;
        }
    }
    search.end()
}

/// A look for somebody who vouches, one way after the other.
struct Search<'r> {
    rule: &'r Rule,
    /// What the first one said that was shown a credential.
    refused: (Option<usize>, Refusal),
}

impl<'r> Search<'r> {
    fn new(rule: &'r Rule) -> Self {
        Self {
            rule,
            refused: (None, Refusal::Missing),
        }
    }

    /// What becomes of the request by what was found in the way of this number; `None` if others are asked.
    fn weigh<'p>(
        &mut self,
        number: usize,
        found: Result<(Arc<Identity>, Content), Denied>,
        parameter: &impl Fn(usize) -> &'p str,
    ) -> Option<Admission> {
        Some(match found {
            Ok((identity, content)) if self.rule.ways()[number].admits(&identity, parameter) => {
                Admission::Identified(number, identity, content)
            }
            Ok((identity, _)) => Admission::Forbidden(number, identity),
            Err(Denied::Elsewhere(decider)) => Admission::Elsewhere(number, decider),
            Err(Denied::Throttled(seconds)) => Admission::Throttled(seconds),
            Err(Denied::Refused(Refusal::Missing)) => return None,
            Err(Denied::Refused(refusal)) if refusal.leaves_it_to_others() => {
                if self.refused.0.is_none() {
                    self.refused = (Some(number), refusal);
                }
                return None;
            }
            Err(Denied::Refused(refusal)) => Admission::Refused(Some(number), refusal),
        })
    }

    /// Nobody vouches.
    fn end(self) -> Admission {
        match self.refused {
            (None, _) if self.rule.is_open => Admission::Anonymous,
            (way, refusal) => Admission::Refused(way, refusal),
        }
    }
}

async fn identity(
    provider: &Provider,
    is_only: bool,
    credentials: Credentials<'_>,
    origin: Origin<'_>,
) -> Result<(Arc<Identity>, Content), Denied> {
    let wait = |labour| origin.wait(labour).filter(|_| is_only);
    let mut verdict = provider.authenticate_unless(credentials, wait);
    let mut looked = origin.arrived;
    for _ in 0..MOST_LOOKS {
        let Verdict::Refused(refusal) = verdict else {
            break;
        };
        let Some(awaited) = provider.remedy(refusal, looked) else {
            break;
        };
        let arrival = Box::pin(awaited.come()).await;
        looked = Instant::now();
        verdict = provider.authenticate_unless(credentials, wait);
        match (arrival, &verdict) {
            // The key may have been published since they were sent.
            (Arrival::Older, _) => {}
            // Nothing is known against the token yet.
            (Arrival::Late, Verdict::Refused(Refusal::UnknownKey)) => {
                return Err(Denied::Refused(Refusal::KeysUnavailable));
            }
            (Arrival::Over | Arrival::Late, _) => break,
        }
    }
    origin.settle(verdict).await
}

impl Origin<'_> {
    /// For how many seconds nothing of the kind is worked out, if too much of it was in vain.
    fn wait(self, labour: Labour) -> Option<u64> {
        self.failures?.wait(labour, Instant::now(), self.client)
    }

    /// The end of a verdict, worked out if that is still to be done.
    async fn settle(self, verdict: Verdict) -> Result<(Arc<Identity>, Content), Denied> {
        match verdict {
            Verdict::Known(identity) => Ok((identity, Content::Any)),
            Verdict::Bound(identity, content) => Ok((identity, content)),
            Verdict::Refused(refusal) => Err(Denied::Refused(refusal)),
            Verdict::Costly(work) => Ok((Box::pin(self.perform(work)).await?, Content::Any)),
            Verdict::Throttled(seconds) => Err(Denied::Throttled(seconds)),
            Verdict::Elsewhere(decider) => Err(Denied::Elsewhere(decider)),
        }
    }

    /// Has something worked out, unless too much of it was in vain.
    async fn perform(self, work: Work) -> Result<Arc<Identity>, Denied> {
        let labour = work.labour();
        let Some(failures) = self.failures else {
            return work.done().await.map_err(Denied::Refused);
        };
        if let Some(seconds) = self.wait(labour) {
            return Err(Denied::Throttled(seconds));
        }
        let found = work.done().await;
        found.map_err(|refusal| {
            if !refusal.is_unavailability() {
                failures.count(labour, Instant::now(), self.client);
            }
            Denied::Refused(refusal)
        })
    }
}
