//! Distinguished names as texts (RFC 4514), the most specific part first.
//!
//! The library that reads certificates has no safe way to tell which attributes belong to one part, nor of
//! which kind a value is, so that a name is read from its encoding, which it has checked.

use std::fmt::Write;

use openssl::x509::X509NameRef;

/// A name and what is looked for in it.
pub(super) struct DistinguishedName {
    /// All of it.
    pub(super) text: String,
    /// The common name, of several the most specific one.
    pub(super) common_name: Option<String>,
}

/// DER (X.690): what parts and values are tagged with.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const NUMERIC_STRING: u8 = 0x12;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const COMMON_NAME: &str = "CN";

impl DistinguishedName {
    /// `None` if it is not one that can be told from all others.
    pub(super) fn of(name: &X509NameRef) -> Option<Self> {
        let der = name.to_der().ok()?;
        let mut kinds = name.entries().map(|entry| {
            let object = entry.object();
            match object.nid().short_name() {
                Ok(short) if short != "UNDEF" => short.to_owned(),
                _ => object.to_string(),
            }
        });
        let mut parts = Vec::new();
        let mut common_name = None;
        let (sequence, rest) = element(&der, SEQUENCE)?;
        let mut sets = sequence;
        while !sets.is_empty() {
            let (mut set, behind) = element(sets, SET)?;
            sets = behind;
            let mut part = String::new();
            while !set.is_empty() {
                let (attribute, behind) = element(set, SEQUENCE)?;
                set = behind;
                let kind = kinds.next()?;
                let (_, value) = element(attribute, OBJECT)?;
                let text = text(value)?;
                if !part.is_empty() {
                    part.push('+');
                }
                part.push_str(&kind);
                part.push('=');
                match &text {
                    Some(text) => escape(text, &mut part),
                    None => hexadecimal(value, &mut part),
                }
                if kind == COMMON_NAME {
                    common_name = text.map(str::to_owned);
                }
            }
            parts.push(part);
        }
        parts.reverse();
        (rest.is_empty() && kinds.next().is_none()).then(|| Self {
            text: parts.join(","),
            common_name,
        })
    }
}

/// The content of the first element, which must be of this kind, and what is behind it.
fn element(der: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (first, content, rest) = split(der)?;
    (first == kind).then_some((content, rest))
}

fn split(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        // No name is that long.
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*kind, content, rest))
}

/// A value as text, if it is of a kind that has one: `Some(None)` if not, and `None` if it is not what it
/// says it is.
fn text(value: &[u8]) -> Option<Option<&str>> {
    let (kind, content, rest) = split(value)?;
    if !rest.is_empty() {
        return None;
    }
    match kind {
        UTF8_STRING => std::str::from_utf8(content).ok().map(Some),
        NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING if content.is_ascii() => {
            std::str::from_utf8(content).ok().map(Some)
        }
        NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING => None,
        _ => Some(None),
    }
}

/// What would end a value, or be lost at its ends (RFC 4514 §2.4), and what can't be seen.
fn escape(text: &str, out: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (index, character) in text.chars().enumerate() {
        let is_special = matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (character == '#' && index == 0)
            || (character == ' ' && (index == 0 || index == last));
        if character.is_ascii_control() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\{:02X}", u32::from(character));
        } else {
            if is_special {
                out.push('\\');
            }
            out.push(character);
        }
    }
}

fn hexadecimal(value: &[u8], out: &mut String) {
    out.push('#');
    for byte in value {
        // As above.
        let _ = write!(out, "{byte:02X}");
    }
}
