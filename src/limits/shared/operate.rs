//! What operators ask of the store about a key.

use super::super::algorithm::{Admitted, Refused, Rule};
use super::super::key::KeyHash;
use super::Shared;
use super::ask::{Ask, Need, SharedKey};
use super::decide::{admitted, refused};

impl Shared {
    /// What the store has left of a key. What gateways have taken ahead is spent to it.
    ///
    /// # Errors
    /// Why it does not say.
    pub(in super::super) async fn look(
        &self,
        rule: Rule,
        key: SharedKey,
    ) -> Result<Result<Admitted, Refused>, String> {
        let ask = Ask {
            need: Need::Tokens(0),
            ..Ask::counting(key, rule, 0)
        };
        let grants = self.link.take(&[ask]).await;
        let grants = grants.map_err(|silence| silence.to_string())?;
        let grant = grants.first().ok_or("it said nothing")?;
        Ok(match grant.wait {
            0 => Ok(admitted(grant.left, grant.reset)),
            wait => Err(refused(wait)),
        })
    }

    /// Has the store forget a key, and this gateway what it has of it.
    ///
    /// # Errors
    /// Why the store does not.
    pub(in super::super) async fn forget(
        &self,
        key: KeyHash,
        shared: SharedKey,
    ) -> Result<(), String> {
        let removed = self.link.remove(shared).await;
        // After the store has, or it would be taken from there again.
        self.leases.forget(key);
        removed.map_err(|silence| silence.to_string())
    }
}
