//! What browsers are told to beware of.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::shape::{FromMap, Policy, text_or_map};
use super::source::Spanned;
use super::units::Period;

/// Response headers that make browsers careful. A bare word is short for `{ preset: … }`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SecurityHeaders(pub SecurityHeaderFields);

/// Response headers that make browsers careful. A backend that sends one of them itself keeps its own,
/// but for `X-Content-Type-Options: nosniff`, which is always sent. `Server` and `X-Powered-By` are
/// removed.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityHeaderFields {
    /// What the answers are: `api` for data, `web` for pages. It chooses what is not written here.
    pub preset: Spanned<SecurityPreset>,
    /// `Strict-Transport-Security` (RFC 6797), on requests that came by TLS, here or to a trusted proxy that says
    /// so; `off` for none.
    #[serde(default)]
    pub hsts: Policy<Hsts>,
    /// `Content-Security-Policy`, in place of the preset's; `off` for none. Too strict a one breaks pages.
    #[serde(default)]
    pub content_security_policy: Policy<String>,
    /// Who may show the answer in a frame: `deny` (nobody, the default) or `sameorigin`. Also sets
    /// `frame-ancestors` in the preset's content security policy; `off` for neither.
    #[serde(default)]
    pub frame_options: Policy<FrameOptions>,
    /// What browsers tell other sites about where a visitor comes from; `off` for nothing said.
    #[serde(default)]
    pub referrer_policy: Policy<ReferrerPolicy>,
    /// Which features of the browser pages may use; `off` for nothing said.
    #[serde(default)]
    pub permissions_policy: Policy<String>,
    /// Which windows share a process with a page; `off` for nothing said.
    #[serde(default)]
    pub cross_origin_opener_policy: Policy<OpenerPolicy>,
    /// Whose pages may embed the answer; `off` for nothing said.
    #[serde(default)]
    pub cross_origin_resource_policy: Policy<ResourcePolicy>,
}

/// Which requests browsers make by TLS only from now on.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hsts {
    /// How long browsers remember it. Default `365d`; `0s` makes them forget it.
    pub max_age: Spanned<Period>,
    /// Whether it holds for all hosts below this one, too. Default `true`.
    pub include_subdomains: bool,
    /// Whether it may be built into browsers. Default `false`: it is next to impossible to take back.
    pub preload: Spanned<bool>,
}

impl Default for Hsts {
    fn default() -> Self {
        Self {
            max_age: Period::seconds(365 * 86_400).into(),
            include_subdomains: true,
            preload: false.into(),
        }
    }
}

/// Words that stand in a header as they are written here.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    )+};
}

words! {
    /// What answers are.
    SecurityPreset {
        /// Data for programs.
        Api = "api",
        /// Pages for people.
        Web = "web",
    }

    /// Who may show an answer in a frame (RFC 7034).
    FrameOptions {
        /// Nobody.
        Deny = "deny",
        /// Pages of the same origin.
        SameOrigin = "sameorigin",
    }

    /// What browsers tell other sites about where a visitor comes from (Referrer Policy).
    ReferrerPolicy {
        /// Nothing.
        NoReferrer = "no-referrer",
        /// The whole address, but not from TLS to plain text.
        NoReferrerWhenDowngrade = "no-referrer-when-downgrade",
        /// The origin.
        Origin = "origin",
        /// The whole address to the same origin, the origin to others.
        OriginWhenCrossOrigin = "origin-when-cross-origin",
        /// The whole address to the same origin, nothing to others.
        SameOrigin = "same-origin",
        /// The origin, but nothing from TLS to plain text.
        StrictOrigin = "strict-origin",
        /// The whole address to the same origin, the origin to others, but nothing from TLS to plain
        /// text.
        StrictOriginWhenCrossOrigin = "strict-origin-when-cross-origin",
        /// The whole address to everybody.
        UnsafeUrl = "unsafe-url",
    }

    /// Which windows share a process with a page (HTML Standard).
    OpenerPolicy {
        /// Those of the same origin.
        SameOrigin = "same-origin",
        /// Also those that it opens.
        SameOriginAllowPopups = "same-origin-allow-popups",
        /// Those that it opens, not the one that opened it.
        NoopenerAllowPopups = "noopener-allow-popups",
        /// Any.
        UnsafeNone = "unsafe-none",
    }

    /// Whose pages may embed an answer (Fetch Standard).
    ResourcePolicy {
        /// Those of the same origin.
        SameOrigin = "same-origin",
        /// Those of hosts under the same registered name.
        SameSite = "same-site",
        /// Everybody's.
        CrossOrigin = "cross-origin",
    }
}

impl From<SecurityHeaderFields> for SecurityHeaders {
    fn from(fields: SecurityHeaderFields) -> Self {
        Self(fields)
    }
}

impl FromMap<'_> for SecurityHeaders {
    type Fields = SecurityHeaderFields;
}

impl<'de> Deserialize<'de> for SecurityHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_map(
            deserializer,
            "`api`, `web` or a map with `preset`",
            |text| {
                SecurityPreset::parse(text).map(|preset| {
                    Self(SecurityHeaderFields {
                        preset: preset.into(),
                        hsts: None,
                        content_security_policy: None,
                        frame_options: None,
                        referrer_policy: None,
                        permissions_policy: None,
                        cross_origin_opener_policy: None,
                        cross_origin_resource_policy: None,
                    })
                })
            },
        )
    }
}

impl JsonSchema for SecurityHeaders {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecurityHeaders".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let preset = generator.subschema_for::<SecurityPreset>();
        let fields = generator.subschema_for::<SecurityHeaderFields>();
        schemars::json_schema!({ "anyOf": [preset, fields] })
    }
}
