//! What a request costs a limit: so much, or what its answer says.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{Diagnostics, LimitCost, Spanned};

/// Largest cost that may be written.
pub(super) const LARGEST_COST: u64 = 1_000_000;

/// What is known of an answer.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// A backend's, of which the header is there.
    Begun(&'a HeaderMap),
    /// Whoever's, of which the body has been sent as far as it ever will be.
    Sent {
        /// The bytes of the body.
        bytes: u64,
    },
}

/// What one request costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cost {
    /// So many units, before it is let in.
    Fixed(u64),
    /// The bytes of its answer's body, in units of so many.
    Bytes(u64),
    /// The number in a header of its answer.
    Header(HeaderName),
}

/// An answer does not say what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsaid;

impl Cost {
    /// With bytes counted in units of so many.
    pub(super) fn new(cost: &LimitCost, unit: u64) -> Self {
        match cost {
            LimitCost::Fixed(units) => Self::Fixed(*units),
            LimitCost::ResponseBytes => Self::Bytes(unit),
            LimitCost::ResponseHeader(name) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Self::Header(name),
                // The name was checked when it was read.
                Err(_) => Self::Fixed(1),
            },
        }
    }

    /// What is counted before a request is let in, where the route says this of its requests.
    pub(super) fn in_advance(&self, of_route: Option<u64>) -> u64 {
        match self {
            Self::Fixed(units) => of_route.unwrap_or(*units),
            Self::Bytes(_) | Self::Header(_) => 0,
        }
    }

    pub(super) fn is_known_later(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }

    /// Bytes in a unit, where it is bytes that are counted.
    pub(super) fn bytes_in_unit(&self) -> Option<u64> {
        match self {
            Self::Bytes(unit) => Some(*unit),
            Self::Fixed(_) | Self::Header(_) => None,
        }
    }

    /// What is counted by an answer; `None` if that is not known yet, or was counted in advance.
    pub(super) fn by(&self, answer: Answer<'_>) -> Option<Result<u64, Unsaid>> {
        match (self, answer) {
            (Self::Bytes(unit), Answer::Sent { bytes }) => Some(Ok(bytes.div_ceil(*unit))),
            (Self::Header(name), Answer::Begun(headers)) => Some(said(headers, name)),
            // No backend has answered.
            (Self::Header(_), Answer::Sent { .. }) => Some(Ok(1)),
            (Self::Bytes(_), Answer::Begun(_)) | (Self::Fixed(_), _) => None,
        }
    }
}

fn said(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Unsaid> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Unsaid);
    };
    number(value).ok_or(Unsaid)
}

/// Digits and nothing else.
fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let is_bare = text.bytes().all(|byte| byte.is_ascii_digit());
    is_bare.then(|| text.parse().ok()).flatten()
}

/// A cost as written, if it is in range; if not, it is reported.
pub fn checked_cost(cost: &Spanned<u64>, diagnostics: &mut Diagnostics) -> Option<Spanned<u64>> {
    if (1..=LARGEST_COST).contains(&cost.value) {
        return Some(cost.clone());
    }
    diagnostics
        .error(cost.span, format!("a cost of {cost} is out of range"))
        .help(format!("costs are 1 to {LARGEST_COST}"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: HeaderName = HeaderName::from_static("x-cost");

    fn by_header(values: &[&'static str]) -> Option<Result<u64, Unsaid>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_static(value));
        }
        Cost::Header(NAME).by(Answer::Begun(&headers))
    }

    #[test]
    fn a_header_says_a_whole_number_once_or_nothing() {
        assert_eq!(by_header(&["0"]), Some(Ok(0)));
        assert_eq!(by_header(&["007"]), Some(Ok(7)));
        assert_eq!(by_header(&["18446744073709551615"]), Some(Ok(u64::MAX)));
        for values in [
            &[][..],
            &[""],
            &["-1"],
            &["+1"],
            &["1.5"],
            &["1e3"],
            &["5, 5"],
            &["0x5"],
            &["18446744073709551616"],
            &["5", "5"],
        ] {
            assert_eq!(by_header(values), Some(Err(Unsaid)), "{values:?}");
        }
    }

    #[test]
    fn an_answer_of_no_backend_costs_one() {
        let sent = Answer::Sent { bytes: 500 };
        assert_eq!(Cost::Header(NAME).by(sent), Some(Ok(1)));
    }

    #[test]
    fn bytes_are_counted_when_they_are_sent_and_rounded_up_to_units() {
        let headers = HeaderMap::new();
        assert_eq!(Cost::Bytes(10).by(Answer::Begun(&headers)), None);
        let cost = |bytes| Cost::Bytes(10).by(Answer::Sent { bytes });
        assert_eq!(cost(0), Some(Ok(0)));
        assert_eq!(cost(1), Some(Ok(1)));
        assert_eq!(cost(20), Some(Ok(2)));
    }
}
