//! The canonical form of a request's path (RFC 3986 §6.2.2): what is matched, decided on and
//! forwarded, so that no spelling of a path gets round a rule for it.

use std::borrow::Cow;

use thiserror::Error;

/// Why a path has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// It does not start with `/`.
    #[error("the path does not start with `/`")]
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    #[error("the path has a `%` that is not followed by two hexadecimal digits")]
    BadEncoding,
    /// An encoded `/`, or a `\`: some servers take it for a separator and others don't.
    #[error("the path holds an encoded slash or a backslash, which backends read differently")]
    AmbiguousSeparator,
    /// A control character, plain or encoded.
    #[error("the path holds a control character")]
    Control,
    /// A character that must be encoded.
    #[error("the path holds a character that must be percent-encoded")]
    NotEncoded,
    /// More `..` than segments.
    #[error("the path climbs above its root")]
    AboveRoot,
}

/// What a byte of a path is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself.
    Plain,
    Slash,
    Dot,
    Percent,
    Backslash,
    Control,
    /// Not allowed in a path unless encoded.
    Foreign,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Foreign; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        classes[byte] = match b {
            b'/' => Class::Slash,
            b'.' => Class::Dot,
            b'%' => Class::Percent,
            b'\\' => Class::Backslash,
            0..=0x1f | 0x7f => Class::Control,
            // unreserved, sub-delims, ":" and "@" (RFC 3986 §3.3); and the three that browsers send
            // unencoded although the RFC does not list them.
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'~'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'='
            | b':'
            | b'@'
            | b'|'
            | b'['
            | b']' => Class::Plain,
            _ => Class::Foreign,
        };
        byte += 1;
    }
    classes
};

/// The canonical form of a path without its query: encoded unreserved characters decoded, other
/// encodings in capitals, dot segments resolved, repeated slashes merged. Canonical paths, which
/// nearly all are, are returned as they are.
///
/// # Errors
/// When the path is ambiguous or malformed.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    let mut previous = Class::Plain;
    for byte in bytes {
        let class = CLASSES[usize::from(*byte)];
        match class {
            Class::Plain => {}
            Class::Slash if previous != Class::Slash => {}
            Class::Dot if previous != Class::Slash => {}
            _ => return rewrite(path).map(Cow::Owned),
        }
        previous = class;
    }
    Ok(Cow::Borrowed(path))
}

fn rewrite(path: &str) -> Result<String, PathError> {
    let decoded = decode(path.as_bytes())?;
    let mut out = String::with_capacity(decoded.len());
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            // A slash or dot at the end names the folder: its slash stays.
            "" | "." if is_last => out.push('/'),
            "" | "." => {}
            ".." => {
                let parent = out.rfind('/').ok_or(PathError::AboveRoot)?;
                out.truncate(parent);
                if is_last {
                    out.push('/');
                }
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    Ok(out)
}

/// Decodes what may be decoded without changing the meaning, and refuses what is ambiguous.
fn decode(bytes: &[u8]) -> Result<String, PathError> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        match CLASSES[usize::from(*byte)] {
            Class::Percent => {
                let [high, low, tail @ ..] = rest else {
                    return Err(PathError::BadEncoding);
                };
                rest = tail;
                let value = hex(*high)? << 4 | hex(*low)?;
                push_encoded(value, &mut out)?;
            }
            Class::Backslash => return Err(PathError::AmbiguousSeparator),
            Class::Control => return Err(PathError::Control),
            Class::Foreign => return Err(PathError::NotEncoded),
            Class::Plain | Class::Slash | Class::Dot => out.push(char::from(*byte)),
        }
    }
    Ok(out)
}

fn push_encoded(value: u8, out: &mut String) -> Result<(), PathError> {
    match value {
        b'/' | b'\\' => return Err(PathError::AmbiguousSeparator),
        0..=0x1f | 0x7f => return Err(PathError::Control),
        // Unreserved characters mean the same encoded and not (RFC 3986 §2.3).
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            out.push(char::from(value));
        }
        _ => {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(DIGITS[usize::from(value >> 4)]));
            out.push(char::from(DIGITS[usize::from(value & 15)]));
        }
    }
    Ok(())
}

fn hex(digit: u8) -> Result<u8, PathError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(PathError::BadEncoding),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_a_path_become_one() {
        for (sent, canonical) in [
            ("/", "/"),
            ("/a/b.txt", "/a/b.txt"),
            ("/a//b", "/a/b"),
            ("//a", "/a"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a/", "/a/"),
            ("/%61%7e%41", "/a~A"),
            ("/%c3%a4", "/%C3%A4"),
            ("/a%20b", "/a%20b"),
            ("/.hidden/..x", "/.hidden/..x"),
            ("/a/..b", "/a/..b"),
            ("/%25", "/%25"),
        ] {
            assert_eq!(canonical_path(sent).as_deref(), Ok(canonical), "{sent}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for (sent, error) in [
            ("", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("/..", PathError::AboveRoot),
            ("/a/../..", PathError::AboveRoot),
            ("/%2e%2e/etc", PathError::AboveRoot),
            ("/a%2fb", PathError::AmbiguousSeparator),
            ("/a%5Cb", PathError::AmbiguousSeparator),
            ("/a\\b", PathError::AmbiguousSeparator),
            ("/a%00", PathError::Control),
            ("/a%0d%0a", PathError::Control),
            ("/a\u{7f}", PathError::Control),
            ("/a%", PathError::BadEncoding),
            ("/a%4", PathError::BadEncoding),
            ("/a%zz", PathError::BadEncoding),
            ("/a b", PathError::NotEncoded),
            ("/ä", PathError::NotEncoded),
        ] {
            assert_eq!(canonical_path(sent), Err(error), "{sent}");
        }
    }

    #[test]
    fn a_canonical_path_is_not_copied() {
        assert!(matches!(
            canonical_path("/api/v1/orders/7.json"),
            Ok(Cow::Borrowed(_))
        ));
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own(path in "/([a-zA-Z./%]|%[0-9a-fA-F]{2}|\\.\\.|//){0,20}") {
            if let Ok(canonical) = canonical_path(&path) {
                let again = canonical_path(&canonical).unwrap().into_owned();
                prop_assert_eq!(&again, &*canonical);
                prop_assert!(canonical.starts_with('/'));
                prop_assert!(!canonical.contains("//"));
                prop_assert!(!canonical.split('/').any(|segment| segment == "." || segment == ".."));
            }
        }

        #[test]
        fn no_text_panics(path in ".*") {
            let _ = canonical_path(&path);
        }
    }
}
