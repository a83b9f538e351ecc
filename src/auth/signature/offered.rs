//! Signatures as a request offers them, in its `Signature-Input` and `Signature` (RFC 9421 §4).

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, InnerList, Item, ListEntry};

use super::super::refusal::Refusal;
use super::fields::dictionary;

const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// The one algorithm, if a signature names one.
const ALGORITHM: &str = "hmac-sha256";

/// A signature, and what it says of itself.
#[derive(Debug)]
pub(super) struct Offered {
    /// The components that it covers, and its parameters.
    pub(super) covered: InnerList,
    /// The signature itself.
    pub(super) value: Vec<u8>,
}

/// When a signature is good, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) created: i64,
    pub(super) expires: Option<i64>,
}

impl Offered {
    /// All signatures of a request. Each label must be in both fields.
    pub(super) fn all(headers: &HeaderMap) -> Result<Vec<Self>, Refusal> {
        let Some(inputs) = dictionary(headers, SIGNATURE_INPUT)? else {
            return Err(Refusal::Missing);
        };
        let mut values = dictionary(headers, SIGNATURE)?.unwrap_or_default();
        if values.len() != inputs.len() {
            return Err(Refusal::MalformedCredential);
        }
        let offered =
            inputs
                .into_iter()
                .map(|(label, input)| match (input, values.swap_remove(&label)) {
                    (
                        ListEntry::InnerList(covered),
                        Some(ListEntry::Item(Item { bare_item, params })),
                    ) if params.is_empty() => {
                        let value = bare_item.as_byte_sequence()?.into();
                        Some(Self { covered, value })
                    }
                    _ => None,
                });
        let offered: Option<Vec<_>> = offered.collect();
        offered.ok_or(Refusal::MalformedCredential)
    }

    /// Which key it was made with.
    pub(super) fn key_id(&self) -> Option<&str> {
        let id = self.covered.params.get("keyid")?;
        id.as_string().map(|id| id.as_str())
    }

    /// When it is good, if nothing else that it says of itself is unknown or wrong.
    pub(super) fn times(&self) -> Result<Times, Refusal> {
        let mut created = None;
        let mut expires = None;
        for (name, value) in &self.covered.params {
            match (name.as_str(), value) {
                ("created", BareItem::Integer(time)) => created = Some(i64::from(*time)),
                ("expires", BareItem::Integer(time)) => expires = Some(i64::from(*time)),
                ("alg", BareItem::String(algorithm)) if algorithm.as_str() != ALGORITHM => {
                    return Err(Refusal::AlgorithmNotAllowed);
                }
                ("alg" | "keyid" | "nonce" | "tag", BareItem::String(_)) => {}
                _ => return Err(Refusal::MalformedCredential),
            }
        }
        match created {
            Some(created) => Ok(Times { created, expires }),
            None => Err(Refusal::NoCreation),
        }
    }
}

impl Times {
    /// Whether it is good `now`, if those that were created before `oldest` are too old.
    pub(super) fn check(self, now: u64, oldest: u64, leeway: u64) -> Result<(), Refusal> {
        // Times of structured fields have at most 15 digits, so that no sum overflows.
        let [now, oldest, leeway] = [now, oldest, leeway].map(|it| it.min(1 << 60) as i64);
        if self.created > now + leeway {
            return Err(Refusal::NotYetValid);
        }
        let has_expired = self.expires.is_some_and(|expires| expires + leeway <= now);
        match self.created < oldest || has_expired {
            true => Err(Refusal::Expired),
            false => Ok(()),
        }
    }
}
