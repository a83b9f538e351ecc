//! B3, as Zipkin has it (<https://github.com/openzipkin/b3-propagation>): one field, or several.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::fields::only;
use super::id::{SpanId, TraceId};
use super::propagation::{Incoming, Outgoing, Parent, Said};
use super::tracestate::StateFate;

const B3: HeaderName = HeaderName::from_static("b3");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const ONE: HeaderValue = HeaderValue::from_static("1");
const ZERO: HeaderValue = HeaderValue::from_static("0");
/// Trace `-` span `-` decision.
const LENGTH: usize = 51;

/// What a request says of the trace it belongs to. The one field counts before the several.
pub(super) fn read(headers: &HeaderMap) -> Option<Incoming> {
    let single = only(headers, B3).ok()?;
    let (parent, said) = match single {
        Some(text) => parse(text)?,
        None => read_several(headers)?,
    };
    Some(Incoming {
        parent,
        said,
        state: StateFate::Dropped,
    })
}

/// A decision may come alone; a parent always has both names.
type Read = (Option<Parent>, Option<Said>);

fn parse(text: &[u8]) -> Option<Read> {
    if let Some(said) = decision(text) {
        return Some((None, Some(said)));
    }
    let mut parts = text.split(|byte| *byte == b'-');
    let parent = Parent {
        trace: TraceId::parse(parts.next()?)?,
        span: SpanId::parse(parts.next()?)?,
    };
    let said = match parts.next() {
        None => None,
        Some(said) => Some(decision(said)?),
    };
    // The parent's own parent is nobody's business here.
    let is_whole = parts.next().is_none_or(|it| SpanId::parse(it).is_some());
    (is_whole && parts.next().is_none()).then_some((Some(parent), said))
}

fn decision(text: &[u8]) -> Option<Said> {
    match text {
        b"0" => Some(Said::No),
        b"1" => Some(Said::Yes),
        b"d" => Some(Said::Debug),
        _ => None,
    }
}

fn read_several(headers: &HeaderMap) -> Option<Read> {
    let field = |name| only(headers, name).ok();
    let (trace, span) = (field(TRACE_ID)?, field(SPAN_ID)?);
    let said = match (field(FLAGS)?, field(SAMPLED)?) {
        (Some(b"1"), _) => Some(Said::Debug),
        (_, None) => None,
        (_, Some(b"1" | b"true")) => Some(Said::Yes),
        (_, Some(b"0" | b"false")) => Some(Said::No),
        _ => return None,
    };
    match (trace, span) {
        (None, None) => said.map(|said| (None, Some(said))),
        (trace, span) => {
            let parent = Parent {
                trace: TraceId::parse(trace?)?,
                span: SpanId::parse(span?)?,
            };
            Some((Some(parent), said))
        }
    }
}

/// Takes away what the request came with: it is not about the span that is the parent from here on.
pub(super) fn remove(headers: &mut HeaderMap) {
    for name in [B3, TRACE_ID, SPAN_ID, PARENT_SPAN_ID, SAMPLED, FLAGS] {
        headers.remove(name);
    }
}

/// Writes the one field.
pub(super) fn write(outgoing: &Outgoing, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_bytes(&text(outgoing)) {
        headers.insert(B3, value);
    }
}

/// Writes the several fields.
pub(super) fn write_several(outgoing: &Outgoing, headers: &mut HeaderMap) {
    let names = [
        (TRACE_ID, HeaderValue::from_bytes(&outgoing.trace.digits())),
        (SPAN_ID, HeaderValue::from_bytes(&outgoing.span.digits())),
    ];
    for (name, digits) in names {
        if let Ok(digits) = digits {
            headers.insert(name, digits);
        }
    }
    match outgoing.decision {
        Said::No => headers.insert(SAMPLED, ZERO),
        Said::Yes => headers.insert(SAMPLED, ONE),
        Said::Debug => headers.insert(FLAGS, ONE),
    };
}

fn text(outgoing: &Outgoing) -> [u8; LENGTH] {
    let mut text = [b'-'; LENGTH];
    text[..32].copy_from_slice(&outgoing.trace.digits());
    text[33..49].copy_from_slice(&outgoing.span.digits());
    text[50] = match outgoing.decision {
        Said::No => b'0',
        Said::Yes => b'1',
        Said::Debug => b'd',
    };
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";

    fn fields(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let field = |(name, text): &(HeaderName, &str)| {
            (name.clone(), HeaderValue::from_str(text).unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn said(headers: &HeaderMap) -> Option<(bool, Option<Said>)> {
        read(headers).map(|it| (it.parent.is_some(), it.said))
    }

    #[test]
    fn the_one_field_has_four_forms() {
        let half = &TRACE[16..];
        for (text, expected) in [
            ("0", Some((false, Some(Said::No)))),
            ("1", Some((false, Some(Said::Yes)))),
            ("d", Some((false, Some(Said::Debug)))),
            (&format!("{TRACE}-{SPAN}"), Some((true, None))),
            (&format!("{half}-{SPAN}"), Some((true, None))),
            (&format!("{TRACE}-{SPAN}-1"), Some((true, Some(Said::Yes)))),
            (
                &format!("{TRACE}-{SPAN}-d-{SPAN}"),
                Some((true, Some(Said::Debug))),
            ),
            ("", None),
            ("2", None),
            (TRACE, None),
            (&format!("{TRACE}-{SPAN}-"), None),
            (&format!("{TRACE}-{SPAN}-true"), None),
            (&format!("{TRACE}-{SPAN}-1-x"), None),
            (&format!("{TRACE}-{SPAN}-1-{SPAN}-1"), None),
            (&format!("{}-{SPAN}", &TRACE[1..]), None),
            (&format!("{}-{SPAN}", "0".repeat(32)), None),
            (&TRACE.to_uppercase(), None),
        ] {
            assert_eq!(said(&fields(&[(B3, text)])), expected, "{text}");
        }
    }

    #[test]
    fn the_several_fields_need_both_names_or_none() {
        let both = [(TRACE_ID, TRACE), (SPAN_ID, SPAN)];
        for (more, expected) in [
            (None, Some((true, None))),
            (Some((SAMPLED, "1")), Some((true, Some(Said::Yes)))),
            (Some((SAMPLED, "false")), Some((true, Some(Said::No)))),
            (Some((FLAGS, "1")), Some((true, Some(Said::Debug)))),
            (Some((FLAGS, "0")), Some((true, None))),
            (Some((SAMPLED, "yes")), None),
            (Some((SPAN_ID, SPAN)), None),
        ] {
            let mut headers = fields(&both);
            if let Some((name, text)) = &more {
                headers.append(name, HeaderValue::from_static(text));
            }
            assert_eq!(said(&headers), expected, "{more:?}");
        }
        assert_eq!(said(&fields(&both[..1])), None);
        assert_eq!(
            said(&fields(&[(SAMPLED, "0")])),
            Some((false, Some(Said::No)))
        );
        assert_eq!(said(&HeaderMap::new()), None);
        let mut headers = fields(&both);
        headers.insert(B3, HeaderValue::from_static("0"));
        assert_eq!(said(&headers), Some((false, Some(Said::No))));
    }

    fn any_decision() -> impl Strategy<Value = Said> {
        prop_oneof![Just(Said::No), Just(Said::Yes), Just(Said::Debug)]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(decision in any_decision(), is_one: bool) {
            let outgoing = Outgoing {
                trace: TraceId::random(),
                span: SpanId::random(),
                decision,
                state: StateFate::Dropped,
            };
            let mut headers = HeaderMap::new();
            match is_one {
                true => write(&outgoing, &mut headers),
                false => write_several(&outgoing, &mut headers),
            }
            let read = read(&headers).unwrap();
            let parent = Parent { trace: outgoing.trace, span: outgoing.span };
            prop_assert_eq!((read.parent, read.said), (Some(parent), Some(decision)));
            remove(&mut headers);
            prop_assert!(headers.is_empty());
        }

        #[test]
        fn no_bytes_panic(text: Vec<u8>, hex in "[0-9a-fd-]{0,70}") {
            parse(&text);
            parse(hex.as_bytes());
        }
    }
}
