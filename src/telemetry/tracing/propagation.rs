//! How the context of a trace comes in and goes on: by the fields that are configured, and no others.

use http::HeaderMap;

use super::id::{SpanId, TraceId};
use super::tracestate::StateFate;
use super::{b3, w3c};
use crate::config::{self, Diagnostics, OneOrMany, Spanned};

/// The formats that are spoken.
#[derive(Debug, PartialEq)]
pub(super) struct Propagation {
    /// Of several that come, the first one here counts.
    formats: Box<[config::Propagation]>,
    has_b3: bool,
}

/// What a request says of the trace it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Incoming {
    /// The span that it comes from; `None` if a trace begins here.
    pub parent: Option<Parent>,
    /// Whether the spans of the trace are recorded; `None` if nobody has decided.
    pub said: Option<Said>,
    /// What becomes of its `tracestate`.
    pub state: StateFate,
}

/// The span that a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its trace.
    pub trace: TraceId,
    /// Itself.
    pub span: SpanId,
}

/// Whether the spans of a trace are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// They are not.
    No,
    /// They are.
    Yes,
    /// They are, for somebody looks for a fault (B3 only).
    Debug,
}

/// What whoever comes next is told.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// The trace.
    pub trace: TraceId,
    /// The span that is the parent from here on.
    pub span: SpanId,
    /// Whether the spans of the trace are recorded.
    pub decision: Said,
    /// What becomes of the request's `tracestate`.
    pub state: StateFate,
}

impl Said {
    /// Whether they are.
    pub fn is_sampled(self) -> bool {
        self != Self::No
    }
}

impl Propagation {
    pub(super) fn compile(
        written: &Spanned<OneOrMany<Spanned<config::Propagation>>>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let mut formats: Vec<config::Propagation> = Vec::new();
        let mut is_sound = true;
        for format in written.iter() {
            if formats.contains(format) {
                diagnostics
                    .error(format.span, "this format is listed already")
                    .help("name each one once");
                is_sound = false;
            }
            formats.push(format.value);
        }
        if formats.is_empty() {
            diagnostics
                .error(written.span, "`propagate` is an empty list")
                .help("write `w3c`; without `tracing`, fields about traces pass as they come");
            is_sound = false;
        }
        let is_b3 = |it: &config::Propagation| *it != config::Propagation::W3c;
        is_sound.then(|| Self {
            has_b3: formats.iter().any(is_b3),
            formats: formats.into(),
        })
    }

    pub(super) fn read(&self, headers: &HeaderMap) -> Incoming {
        let read = |format: &config::Propagation| match format {
            config::Propagation::W3c => w3c::read(headers),
            config::Propagation::B3 | config::Propagation::B3Multi => b3::read(headers),
        };
        self.formats.iter().find_map(read).unwrap_or_default()
    }

    pub(super) fn write(&self, outgoing: &Outgoing, headers: &mut HeaderMap) {
        if self.has_b3 {
            b3::remove(headers);
        }
        for format in &self.formats {
            match format {
                config::Propagation::W3c => w3c::write(outgoing, headers),
                config::Propagation::B3 => b3::write(outgoing, headers),
                config::Propagation::B3Multi => b3::write_several(outgoing, headers),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0";

    fn propagation(formats: &[config::Propagation]) -> Propagation {
        let formats = formats.iter().map(|it| (*it).into()).collect();
        let written = OneOrMany(formats).into();
        Propagation::compile(&written, &mut Diagnostics::default()).unwrap()
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, text): &(&'static str, &'static str)| {
            (name.parse().unwrap(), text.parse().unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn first(read: &Incoming) -> String {
        format!("{:?}", read.parent.unwrap().trace)[..2].to_owned()
    }

    #[test]
    fn the_first_format_that_comes_and_is_sound_counts() {
        use config::Propagation::{B3 as Single, W3c};
        let both = headers(&[("traceparent", TRACEPARENT), ("b3", B3)]);
        assert_eq!(first(&propagation(&[W3c, Single]).read(&both)), "0a");
        assert_eq!(first(&propagation(&[Single, W3c]).read(&both)), "80");
        let broken = headers(&[("traceparent", "00-x"), ("tracestate", "a=1"), ("b3", B3)]);
        let read = propagation(&[W3c, Single]).read(&broken);
        assert_eq!((&*first(&read), read.state), ("80", StateFate::Dropped));
        assert_eq!(propagation(&[W3c]).read(&broken), Incoming::default());
    }

    #[test]
    fn what_is_not_spoken_passes_and_what_is_replaces_all_that_came() {
        use config::Propagation::{B3Multi, W3c};
        let outgoing = Outgoing {
            trace: TraceId::random(),
            span: SpanId::random(),
            decision: Said::Yes,
            state: StateFate::Dropped,
        };
        let mut fields = headers(&[("b3", B3), ("tracestate", "a=1"), ("x-b3-flags", "1")]);
        propagation(&[W3c]).write(&outgoing, &mut fields);
        assert_eq!(fields["b3"], B3);
        assert!(fields.contains_key("traceparent") && !fields.contains_key("tracestate"));
        propagation(&[B3Multi]).write(&outgoing, &mut fields);
        assert_eq!(fields["x-b3-sampled"], "1");
        assert!(!fields.contains_key("b3") && !fields.contains_key("x-b3-flags"));
    }

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

    fn any_field() -> impl Strategy<Value = (&'static str, String)> {
        let (trace, span) = (&TRACEPARENT[3..35], &B3[33..49]);
        let sound = [TRACEPARENT, B3, "a=1", "0", "1", "d", trace, span];
        let text = prop_oneof![
            prop::sample::select(sound.to_vec()).prop_map(str::to_owned),
            "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-x)?",
            "[0-9a-f]{16,32}-[0-9a-f]{16}(-[01d])?",
            "([a-z]{1,3}=[0-9]{1,3} ?,?){1,4}",
            "[ -~]{0,60}",
        ];
        (prop::sample::select(NAMES.to_vec()), text)
    }

    proptest! {
        #[test]
        fn whatever_comes_what_goes_on_reads_back(
            fields in prop::collection::vec(any_field(), 0..8),
            format in prop::sample::select(vec![
                config::Propagation::W3c,
                config::Propagation::B3,
                config::Propagation::B3Multi,
            ]),
        ) {
            let mut headers = HeaderMap::new();
            for (name, text) in fields {
                headers.append(name, HeaderValue::from_str(&text).unwrap());
            }
            let propagation = propagation(&[format]);
            let incoming = propagation.read(&headers);
            let trace = incoming.parent.map_or_else(TraceId::random, |it| it.trace);
            let outgoing = Outgoing {
                trace,
                span: SpanId::random(),
                decision: incoming.said.unwrap_or(Said::No),
                state: incoming.state,
            };
            propagation.write(&outgoing, &mut headers);
            let told = propagation.read(&headers);
            let parent = Parent { trace, span: outgoing.span };
            prop_assert_eq!(told.parent, Some(parent));
            prop_assert_ne!(told.state, StateFate::Joined);
            // Whether somebody looks for a fault is nothing that the standard can tell.
            let said = told.said.map(Said::is_sampled);
            prop_assert_eq!(said, Some(outgoing.decision.is_sampled()));
            let kept = incoming.state != StateFate::Dropped;
            prop_assert_eq!(told.state == StateFate::Kept, kept);
        }
    }
}
