//! Base64 (RFC 4648 §4) that comes in pieces, each of which may have been padded by itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Characters that stand for a whole number of bytes.
const GROUP: usize = 4;

/// What is left of the last piece: the beginning of a group.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    left: Vec<u8>,
}

/// It is not Base64.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Decoder {
    /// From the start.
    pub(super) fn restart(&mut self) {
        self.left.clear();
    }

    /// The bytes that are known once `part` has come.
    pub(super) fn decode(&mut self, part: &[u8]) -> Result<Bytes, Malformed> {
        self.left.extend_from_slice(part);
        let whole = self.left.len() / GROUP * GROUP;
        let mut bytes = Vec::with_capacity(whole / GROUP * 3);
        let mut rest = &self.left[..whole];
        while !rest.is_empty() {
            // Up to the end of the group that is padded, or of all.
            let padded = rest.iter().position(|it| *it == b'=');
            let end = padded.map_or(rest.len(), |place| place / GROUP * GROUP + GROUP);
            let (run, after) = rest.split_at(end);
            STANDARD
                .decode_vec(run, &mut bytes)
                .map_err(|_| Malformed)?;
            rest = after;
        }
        self.left.drain(..whole);
        Ok(bytes.into())
    }

    /// Whether nothing is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.left.is_empty()
    }
}

/// A piece by itself.
pub(super) fn encode(part: &[u8]) -> Bytes {
    STANDARD.encode(part).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_come_to_the_same_however_they_are_cut(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5),
            cut in 1_usize..9,
        ) {
            let text: Vec<u8> = parts.iter().flat_map(|part| encode(part)).collect();
            let mut decoder = Decoder::default();
            let mut bytes = Vec::new();
            for piece in text.chunks(cut) {
                bytes.extend(decoder.decode(piece).unwrap());
            }
            prop_assert_eq!(bytes, parts.concat());
            prop_assert!(decoder.is_at_end());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Decoder::default().decode(&bytes);
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["****", "AA=A", "====", "A==="] {
            assert_eq!(
                Decoder::default().decode(text.as_bytes()),
                Err(Malformed),
                "{text}"
            );
        }
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(b"AAA").unwrap(), "");
        assert!(!decoder.is_at_end());
    }
}
