//! How calls by gRPC end, as logs and metrics know it.

/// The names of the statuses, each at the place of its number (gRPC, "Status codes and their use").
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The status that a call by gRPC ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcStatus(u8);

#[allow(missing_docs, reason = "the names are those of the statuses")]
impl GrpcStatus {
    pub const UNKNOWN: Self = Self(2);
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    pub const PERMISSION_DENIED: Self = Self(7);
    pub const UNIMPLEMENTED: Self = Self(12);
    pub const INTERNAL: Self = Self(13);
    pub const UNAVAILABLE: Self = Self(14);
    pub const DATA_LOSS: Self = Self(15);
    pub const UNAUTHENTICATED: Self = Self(16);
}

impl GrpcStatus {
    /// The status of this number; what nobody knows is [`GrpcStatus::UNKNOWN`].
    pub fn parse(number: &[u8]) -> Self {
        let number = std::str::from_utf8(number).ok();
        let number = number.and_then(|it| it.parse::<u8>().ok());
        number
            .filter(|it| usize::from(*it) < NAMES.len())
            .map_or(Self::UNKNOWN, Self)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES[self.place()]
    }

    /// The names of all of them.
    pub(super) const fn names() -> [&'static str; 17] {
        NAMES
    }

    pub(super) fn place(self) -> usize {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_known_by_its_number() {
        for (number, name) in [
            ("0", "OK"),
            ("14", "UNAVAILABLE"),
            ("16", "UNAUTHENTICATED"),
            ("17", "UNKNOWN"),
            ("256", "UNKNOWN"),
            ("-1", "UNKNOWN"),
            ("", "UNKNOWN"),
        ] {
            assert_eq!(
                GrpcStatus::parse(number.as_bytes()).name(),
                name,
                "{number}"
            );
        }
        assert_eq!(GrpcStatus::UNAVAILABLE.name(), "UNAVAILABLE");
    }
}
