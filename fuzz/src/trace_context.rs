//! No fields about traces crash the gateway, and what it sends reads back as what it means.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate::config::{Diagnostics, Propagation, Tracing as Section};
use tollgate::telemetry::tracing::{Outgoing, SpanId, StateFate, TraceId, Tracing};

const NAMES: [&str; 8] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-b3-parentspanid",
];

/// One for each format.
static SPOKEN: LazyLock<[Tracing; 3]> = LazyLock::new(|| {
    [Propagation::W3c, Propagation::B3, Propagation::B3Multi].map(|format| {
        let mut section = Section::default();
        section.propagate.value.0 = vec![format.into()];
        let diagnostics = &mut Diagnostics::default();
        Tracing::compile(&section, Path::new("."), &Arc::default(), diagnostics)
            .expect("it is sound")
    })
});

pub fn check(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((first, rest)) = line.split_first() else {
            continue;
        };
        if let Ok(value) = HeaderValue::from_bytes(rest) {
            let name = NAMES[usize::from(*first) % NAMES.len()];
            headers.append(HeaderName::from_static(name), value);
        }
    }
    for tracing in &*SPOKEN {
        let mut headers = headers.clone();
        let incoming = tracing.read(&headers);
        let trace = incoming
            .parent
            .map_or_else(TraceId::random, |parent| parent.trace);
        let outgoing = Outgoing {
            trace,
            span: SpanId::random(),
            decision: tracing.decide(trace, &incoming, false).into(),
            state: incoming.state,
        };
        tracing.write(&outgoing, &mut headers);
        let told = tracing.read(&headers);
        let parent = told.parent.expect("a parent is told");
        assert_eq!((parent.trace, parent.span), (outgoing.trace, outgoing.span));
        assert_eq!(told.said, Some(outgoing.decision));
        assert_ne!(told.state, StateFate::Joined);
    }
}
