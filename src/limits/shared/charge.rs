//! What requests turned out to cost, of limits that gateways share.

use super::super::algorithm::Rule;
use super::Shared;
use super::ask::SharedKey;
use super::decide::{Candidate, SharedLimit, part_of};
use crate::config::OnStoreFailure;

impl Shared {
    /// The store is told beside requests what one that it admitted has cost. What of the limit is this
    /// gateway's own and has to count it, too, while the store can't be asked.
    pub(in super::super) fn charge(
        &self,
        limit: &SharedLimit,
        candidate: &Candidate,
        key: SharedKey,
    ) -> Option<Rule> {
        if candidate.cost > 0 {
            self.owe(candidate, key);
        }
        let is_alone = self.link.skips(|| key) && limit.on_failure == OnStoreFailure::Local;
        is_alone.then(|| part_of(&candidate.rule, self.gateways()))
    }
}
