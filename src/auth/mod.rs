//! Who may come in: where credentials are found, how they are verified, what they entitle to, and why
//! they were refused. No server, no answers: verdicts only.
//!
//! Whatever is wrong with a credential is a refusal, never an error that lets a request go on.

mod api_key;
mod basic;
mod cache;
mod certificate;
mod clock;
mod consumer;
mod credentials;
mod decider;
mod header;
mod identity;
mod jwt;
mod place;
mod provider;
mod refusal;
mod requirement;
mod results;
mod rule;
mod signature;
mod surroundings;
mod work;

pub use api_key::{hash_key, new_key};
pub use basic::hash_password;
pub use certificate::{CLIENT_CERT, CLIENT_CERT_CHAIN};
pub use consumer::{Consumer, Consumers, X_CONSUMER, X_CONSUMER_GROUPS};
pub use credentials::{Credentials, Verdict};
pub use decider::{Decider, Decision};
pub use identity::Identity;
pub use jwt::{
    Arrival, Attempt, Awaited, Change, KeyPlace, KeySet, KeySets, KeySource, count_keys,
    is_safe_origin,
};
pub use provider::Provider;
pub use refusal::Refusal;
pub use requirement::{Finding, Requirement, Vocabulary};
pub use results::{AuthResult, AuthResults, Mechanism};
pub use rule::{Known, Rule, Way};
pub use signature::Content;
pub use surroundings::Surroundings;
pub use work::{Labour, Work, Workbenches};
