//! Security headers from their section and its preset.

use http::{HeaderName, HeaderValue, header};

use super::super::headers::field_value;
use super::{ContentPolicy, SecurityHeaders};
use crate::config::{
    self, Diagnostics, FrameOptions, Hsts, OpenerPolicy, Policy, ReferrerPolicy, ResourcePolicy,
    SecurityPreset, Span, Spanned,
};

/// What is said where the section says nothing. Values are static, so that threads share no count of
/// their uses.
struct Preset {
    content: &'static str,
    content_for_itself: &'static str,
    content_for_nobody: &'static str,
    referrer: ReferrerPolicy,
    permissions: Option<HeaderValue>,
    opener: Option<OpenerPolicy>,
    resource: ResourcePolicy,
}

/// Data is no page: nothing may be loaded or run, whatever it looks like.
const API: Preset = Preset {
    content: "default-src 'none'",
    content_for_itself: "default-src 'none'; frame-ancestors 'self'",
    content_for_nobody: "default-src 'none'; frame-ancestors 'none'",
    referrer: ReferrerPolicy::NoReferrer,
    permissions: None,
    opener: None,
    resource: ResourcePolicy::SameOrigin,
};

/// No more than pages bear that know nothing of it: where their scripts come from only they can say.
const WEB: Preset = Preset {
    content: "base-uri 'self'; object-src 'none'",
    content_for_itself: "base-uri 'self'; object-src 'none'; frame-ancestors 'self'",
    content_for_nobody: "base-uri 'self'; object-src 'none'; frame-ancestors 'none'",
    referrer: ReferrerPolicy::StrictOriginWhenCrossOrigin,
    permissions: Some(HeaderValue::from_static(
        "camera=(), geolocation=(), microphone=()",
    )),
    opener: Some(OpenerPolicy::SameOrigin),
    resource: ResourcePolicy::SameSite,
};

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// `max_age` in seconds that the lists built into browsers ask for (hstspreload.org).
const LEAST_PRELOADED: u64 = 31_536_000;

impl SecurityHeaders {
    /// Compiles a section. What can't be sent is reported.
    pub fn compile(section: &config::SecurityHeaders, diagnostics: &mut Diagnostics) -> Self {
        let section = &section.0;
        let preset = match section.preset.value {
            SecurityPreset::Api => API,
            SecurityPreset::Web => WEB,
        };
        let framing = word(&section.frame_options, Some(FrameOptions::Deny));
        let content = resolve(
            &section.content_security_policy,
            Some(preset.content_policy(framing)),
            |text, span| {
                let value = sendable(text, span, diagnostics)?;
                Some(ContentPolicy {
                    without_framing: value.clone(),
                    value,
                })
            },
        );
        let permissions = resolve(
            &section.permissions_policy,
            preset.permissions,
            |text, span| sendable(text, span, diagnostics),
        );
        let referrer = word(&section.referrer_policy, Some(preset.referrer));
        let opener = word(&section.cross_origin_opener_policy, preset.opener);
        let resource = word(&section.cross_origin_resource_policy, Some(preset.resource));
        let fields = [
            (
                header::X_FRAME_OPTIONS,
                framing.map(|it| match it {
                    FrameOptions::Deny => "DENY",
                    FrameOptions::SameOrigin => "SAMEORIGIN",
                }),
            ),
            (header::REFERRER_POLICY, referrer.map(ReferrerPolicy::word)),
            (OPENER_POLICY, opener.map(OpenerPolicy::word)),
            (RESOURCE_POLICY, resource.map(ResourcePolicy::word)),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(name, word)| Some((name, HeaderValue::from_static(word?))))
            .chain(permissions.map(|value| (PERMISSIONS_POLICY, value)));
        Self {
            fields: fields.collect(),
            content,
            hsts: resolve(&section.hsts, hsts(&Hsts::default()), |section, _| {
                check_preload(section, diagnostics);
                hsts(section)
            }),
        }
    }
}

impl Preset {
    fn content_policy(&self, framing: Option<FrameOptions>) -> ContentPolicy {
        ContentPolicy {
            value: HeaderValue::from_static(match framing {
                Some(FrameOptions::Deny) => self.content_for_nobody,
                Some(FrameOptions::SameOrigin) => self.content_for_itself,
                None => self.content,
            }),
            without_framing: HeaderValue::from_static(self.content),
        }
    }
}

/// What is written, or what the preset says if nothing is.
fn resolve<T, V>(
    written: &Policy<T>,
    preset: Option<V>,
    compile: impl FnOnce(&T, Span) -> Option<V>,
) -> Option<V> {
    let Some(Spanned { value, span }) = written else {
        return preset;
    };
    value.on().and_then(|value| compile(value, *span))
}

fn word<W: Copy>(written: &Policy<W>, preset: Option<W>) -> Option<W> {
    resolve(written, preset, |word, _| Some(*word))
}

/// A text that may have been written on several lines, which mean the same as one.
fn sendable(text: &str, span: Span, diagnostics: &mut Diagnostics) -> Option<HeaderValue> {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        diagnostics
            .error(span, "an empty value says nothing")
            .help("write `off` to leave the header out");
        return None;
    }
    let line = Spanned::new(line, span);
    field_value(&line, &line, diagnostics)
}

fn hsts(section: &Hsts) -> Option<HeaderValue> {
    let mut value = format!("max-age={}", section.max_age.0.as_secs());
    if section.include_subdomains {
        value.push_str("; includeSubDomains");
    }
    if section.preload.value {
        value.push_str("; preload");
    }
    HeaderValue::try_from(value).ok()
}

fn check_preload(section: &Hsts, diagnostics: &mut Diagnostics) {
    let is_fit = section.include_subdomains && section.max_age.0.as_secs() >= LEAST_PRELOADED;
    if section.preload.value && !is_fit {
        diagnostics
            .error(
                section.preload.span,
                "browsers build this in only with `include_subdomains` and a `max_age` of a year",
            )
            .help("write `max_age: 365d, include_subdomains: true`, or leave `preload` out");
    }
}
