//! The names of traces and spans.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

/// The name of a trace: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// The name of a span: 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    /// A new one.
    pub fn random() -> Self {
        let id = NonZeroU128::new(fastrand::u128(..));
        Self(id.unwrap_or(NonZeroU128::MAX))
    }

    /// Reads 32 hexadecimal digits in lower case, or 16, which are its second half.
    pub(in crate::telemetry) fn parse(digits: &[u8]) -> Option<Self> {
        let value = match digits.len() {
            16 | 32 => parse(digits)?,
            _ => return None,
        };
        NonZeroU128::new(value).map(Self)
    }

    /// Its 32 digits.
    pub fn digits(self) -> [u8; 32] {
        digits(self.0.get())
    }

    /// Its number.
    pub fn number(self) -> u128 {
        self.0.get()
    }
}

impl SpanId {
    /// A new one.
    pub fn random() -> Self {
        let id = NonZeroU64::new(fastrand::u64(..));
        Self(id.unwrap_or(NonZeroU64::MAX))
    }

    /// Reads 16 hexadecimal digits in lower case.
    pub(in crate::telemetry) fn parse(digits: &[u8]) -> Option<Self> {
        let value = match digits.len() {
            16 => u64::try_from(parse(digits)?).ok()?,
            _ => return None,
        };
        NonZeroU64::new(value).map(Self)
    }

    /// Its 16 digits.
    pub fn digits(self) -> [u8; 16] {
        digits(self.0.get().into())
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

/// Reads at most 32 hexadecimal digits in lower case.
pub(super) fn parse(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

fn digits<const COUNT: usize>(value: u128) -> [u8; COUNT] {
    std::array::from_fn(|place| {
        let shift = 4 * (COUNT - 1 - place);
        b"0123456789abcdef"[(value >> shift & 15) as usize]
    })
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(trace in 1_u128.., span in 1_u64..) {
            let trace = TraceId(NonZeroU128::new(trace).unwrap());
            let span = SpanId(NonZeroU64::new(span).unwrap());
            prop_assert_eq!(TraceId::parse(&trace.digits()), Some(trace));
            prop_assert_eq!(SpanId::parse(&span.digits()), Some(span));
            prop_assert_eq!(trace.digits().to_vec(), format!("{trace:?}").into_bytes());
        }

        #[test]
        fn only_digits_in_lower_case_are_read(text in "[0-9a-fA-F]{15,33}|.{16}") {
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            let is_hex = text.bytes().all(is_digit) && text.bytes().any(|it| it != b'0');
            let bytes = text.as_bytes();
            let is_trace = is_hex && matches!(bytes.len(), 16 | 32);
            prop_assert_eq!(TraceId::parse(bytes).is_some(), is_trace);
            prop_assert_eq!(SpanId::parse(bytes).is_some(), is_hex && bytes.len() == 16);
        }
    }

    #[test]
    fn zero_is_no_name() {
        assert_eq!(TraceId::parse(&[b'0'; 32]), None);
        assert_eq!(SpanId::parse(&[b'0'; 16]), None);
    }
}
