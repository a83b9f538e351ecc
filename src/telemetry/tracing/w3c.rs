//! `traceparent` (W3C Trace Context, <https://www.w3.org/TR/trace-context/>, section 3.2).
//!
//! What does not follow it is as if it were not there, and a trace begins anew (section 4.3).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::fields::only;
use super::id::{SpanId, TraceId, parse as parse_hex};
use super::propagation::{Incoming, Outgoing, Parent, Said};
use super::tracestate;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `00-` trace `-` parent `-` flags.
const LENGTH: usize = 55;
/// The one flag that this version knows; the others are never sent.
const SAMPLED: u128 = 1;

/// What a request says of the trace it belongs to.
pub(super) fn read(headers: &HeaderMap) -> Option<Incoming> {
    let (parent, is_sampled) = parse(only(headers, TRACEPARENT).ok()??)?;
    Some(Incoming {
        parent: Some(parent),
        said: Some(if is_sampled { Said::Yes } else { Said::No }),
        state: tracestate::fate(headers),
    })
}

/// Writes which span is the parent from here on.
pub(super) fn write(outgoing: &Outgoing, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_bytes(&text(outgoing)) {
        headers.insert(TRACEPARENT, value);
    }
    tracestate::apply(outgoing.state, headers);
}

/// The parent, and whether its spans are recorded.
fn parse(text: &[u8]) -> Option<(Parent, bool)> {
    let (known, rest) = text.split_at_checked(LENGTH)?;
    let [v0, v1, b'-', ..] = known else {
        return None;
    };
    match parse_hex(&[*v0, *v1])? {
        0xff => return None,
        0 if !rest.is_empty() => return None,
        // Of versions to come, what this one knows is taken (section 4.3).
        _ if !rest.is_empty() && rest[0] != b'-' => return None,
        _ => {}
    }
    if known[35] != b'-' || known[52] != b'-' {
        return None;
    }
    let parent = Parent {
        trace: TraceId::parse(&known[3..35])?,
        span: SpanId::parse(&known[36..52])?,
    };
    Some((parent, parse_hex(&known[53..])? & SAMPLED != 0))
}

fn text(outgoing: &Outgoing) -> [u8; LENGTH] {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    text[3..35].copy_from_slice(&outgoing.trace.digits());
    text[36..52].copy_from_slice(&outgoing.span.digits());
    if outgoing.decision.is_sampled() {
        text[54] = b'1';
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tracestate::StateFate;
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn is_good(text: &str) -> bool {
        parse(text.as_bytes()).is_some()
    }

    #[test]
    fn the_parts_are_read() {
        let (parent, is_sampled) = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(
            format!("{:?}", parent.trace),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(format!("{:?}", parent.span), "b7ad6b7169203331");
        assert!(is_sampled);
        for (flags, expected) in [("00", false), ("02", false), ("03", true), ("ff", true)] {
            let text = format!("{}{flags}", &GOOD[..53]);
            assert_eq!(parse(text.as_bytes()).unwrap().1, expected, "{flags}");
        }
    }

    #[test]
    fn what_does_not_follow_the_standard_is_nothing() {
        assert!(is_good(GOOD));
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &GOOD[3..],
            &format!("{GOOD}-"),
            &format!("{GOOD}-00"),
            &format!("{GOOD}."),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.to_uppercase(),
            &GOOD.replacen("0af", "0aF", 1),
            &GOOD.replacen("0af", "0ag", 1),
            &GOOD.replacen("00-", "ff-", 1),
            &GOOD.replacen("00-", "0-0", 1),
            &GOOD.replacen("00-", "0x-", 1),
            &GOOD.replacen("00-", ".0-", 1),
            &GOOD.replace("-01", "-1-"),
            &GOOD.replace("-01", "-0g"),
            &GOOD.replace("-01", ".01"),
            &GOOD.replace('-', "_"),
        ] {
            assert!(!is_good(bad), "{bad}");
        }
    }

    #[test]
    fn versions_to_come_may_say_more() {
        for (rest, expected) in [
            ("", true),
            ("-", true),
            ("-what-the-future-will-be-like", true),
            (".what", false),
            ("0", false),
        ] {
            let text = format!("{}{rest}", GOOD.replacen("00-", "cc-", 1));
            assert_eq!(is_good(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_second_line_makes_both_nothing() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(read(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(read(&headers).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_only_so_many_are_read(text: Vec<u8>, rest in "[0-9a-f-]{0,60}") {
            if parse(&text).is_some() {
                prop_assert!(text.len() >= LENGTH);
            }
            parse(rest.as_bytes());
        }

        #[test]
        fn what_is_written_reads_back(is_sampled: bool) {
            let outgoing = Outgoing {
                trace: TraceId::random(),
                span: SpanId::random(),
                decision: if is_sampled { Said::Yes } else { Said::No },
                state: StateFate::Dropped,
            };
            let parent = Parent { trace: outgoing.trace, span: outgoing.span };
            prop_assert_eq!(parse(&text(&outgoing)), Some((parent, is_sampled)));
        }
    }
}
