//! What became of requests by their credentials, counted by the mechanism that said so.

use super::refusal::Refusal;
use crate::telemetry::{Exposed, Exposition, Lines};

/// Which way of proving who one is said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the configuration")]
pub enum Mechanism {
    /// None: the request shows no credential, or too many bad ones came from its address.
    None,
    Jwt,
    ApiKey,
    Basic,
    Signature,
    Forward,
    ClientCertificate,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthResult {
    /// It came in.
    Accepted,
    /// It lacks the rights.
    Forbidden,
    /// It came in as nobody.
    Anonymous,
    /// It was not looked at: too many bad credentials came from its address.
    Throttled,
    /// Another service refused it.
    Denied,
    /// It does not prove whom it comes from.
    Refused(Refusal),
}

const MECHANISMS: [(Mechanism, &str); 7] = [
    (Mechanism::None, "none"),
    (Mechanism::Jwt, "jwt"),
    (Mechanism::ApiKey, "api_key"),
    (Mechanism::Basic, "basic"),
    (Mechanism::Signature, "signature"),
    (Mechanism::Forward, "forward"),
    (Mechanism::ClientCertificate, "client_certificate"),
];
/// Before the reasons of refusals.
const OTHERS: [&str; 5] = ["accepted", "forbidden", "anonymous", "throttled", "denied"];
const RESULTS: usize = OTHERS.len() + Refusal::ALL.len();

/// How often each mechanism had each result.
#[derive(Debug, Default)]
pub struct AuthResults(Lines<{ MECHANISMS.len() * RESULTS }>);

impl AuthResults {
    /// Counts a request.
    pub fn count(&self, mechanism: Mechanism, result: AuthResult) {
        let result = match result {
            AuthResult::Accepted => 0,
            AuthResult::Forbidden => 1,
            AuthResult::Anonymous => 2,
            AuthResult::Throttled => 3,
            AuthResult::Denied => 4,
            AuthResult::Refused(refusal) => OTHERS.len() + refusal as usize,
        };
        self.0.count(mechanism as usize * RESULTS + result);
    }

    /// Why requests were not let in so far: whose word that is, the reason, and how often. Without what never
    /// happened.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let is_let_in = |word: &str| word == OTHERS[0] || word == OTHERS[2];
        self.all()
            .filter(move |(_, word, count)| *count > 0 && !is_let_in(word))
    }

    /// All words with their counts.
    fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let words = || OTHERS.into_iter().chain(Refusal::ALL.map(Refusal::reason));
        let names = MECHANISMS
            .into_iter()
            .flat_map(move |(_, mechanism)| words().map(move |word| (mechanism, word)));
        std::iter::zip(names, self.0.sums())
            .map(|((mechanism, word), count)| (mechanism, word, count))
    }
}

impl Exposed for std::sync::Arc<AuthResults> {
    fn expose(&self, page: &mut Exposition) {
        let mut results = page.counter(
            "tollgate_auth_results_total",
            "What became of requests by their credentials.",
        );
        for (mechanism, word, count) in self.all() {
            // Most reasons are none of most mechanisms.
            if count > 0 || word == OTHERS[0] {
                results.sample(&[("mechanism", mechanism), ("result", word)], count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::Format;

    #[test]
    fn each_mechanism_has_its_results() {
        for (index, (mechanism, _)) in MECHANISMS.into_iter().enumerate() {
            assert_eq!(mechanism as usize, index);
        }
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
        let results = Arc::new(AuthResults::default());
        results.count(Mechanism::Jwt, AuthResult::Refused(Refusal::Undecided));
        results.count(Mechanism::ApiKey, AuthResult::Forbidden);
        let mut page = Exposition::new(Format::Text, 0);
        results.expose(&mut page);
        let refused: Vec<_> = results.refused().collect();
        assert_eq!(
            refused,
            [("jwt", "undecided", 1), ("api_key", "forbidden", 1)]
        );
        let text = page.finish();
        for line in [
            r#"{mechanism="jwt",result="undecided"} 1"#,
            r#"{mechanism="jwt",result="accepted"} 0"#,
            r#"{mechanism="api_key",result="forbidden"} 1"#,
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert_eq!(text.lines().count(), 2 + MECHANISMS.len() + 2);
    }
}
