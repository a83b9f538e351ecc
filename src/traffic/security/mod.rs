//! What browsers are told to beware of: response headers, chosen by what OWASP recommends.

mod compile;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Response headers that are ready to be sent.
#[derive(Debug)]
pub struct SecurityHeaders {
    /// For answers that have none of their own.
    fields: Box<[(HeaderName, HeaderValue)]>,
    content: Option<ContentPolicy>,
    /// For answers over TLS.
    hsts: Option<HeaderValue>,
}

/// A content security policy.
#[derive(Debug)]
struct ContentPolicy {
    value: HeaderValue,
    /// For answers that say in `X-Frame-Options` who may frame them: browsers would follow
    /// `frame-ancestors` instead (CSP Level 3 §6.4.2).
    without_framing: HeaderValue,
}

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// What tells attackers which program in which version they deal with.
const REVEALING: [HeaderName; 4] = [
    header::SERVER,
    HeaderName::from_static("x-powered-by"),
    HeaderName::from_static("x-aspnet-version"),
    HeaderName::from_static("x-aspnetmvc-version"),
];

impl SecurityHeaders {
    /// Adds what a response must say that goes to a browser over TLS or not. What it says itself stays.
    pub fn apply(&self, is_over_tls: bool, response: &mut HeaderMap) {
        for name in &REVEALING {
            response.remove(name);
        }
        // One growth instead of several; fails only for a map of 32768 fields.
        let _ = response.try_reserve(self.fields.len() + 3);
        response.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        if let Some(content) = &self.content {
            let is_framing_said = response.contains_key(header::X_FRAME_OPTIONS);
            response
                .entry(header::CONTENT_SECURITY_POLICY)
                .or_insert_with(|| match is_framing_said {
                    true => content.without_framing.clone(),
                    false => content.value.clone(),
                });
        }
        for (name, value) in &self.fields {
            response.entry(name).or_insert_with(|| value.clone());
        }
        // Over plain text it must not be sent (RFC 6797 §7.2).
        if let Some(hsts) = &self.hsts
            && is_over_tls
        {
            response
                .entry(header::STRICT_TRANSPORT_SECURITY)
                .or_insert_with(|| hsts.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, parse};

    /// The findings of a section, and what is made of it.
    fn compiled(section: &str) -> (Vec<String>, SecurityHeaders) {
        let text = format!("security_headers: {section}\n");
        let loaded = parse(Source::new("t.yaml", text), &|_| None);
        let mut diagnostics = loaded.diagnostics;
        let policy = loaded.config.security_headers.unwrap().value;
        let compiled = SecurityHeaders::compile(policy.on().unwrap(), &mut diagnostics);
        let findings = diagnostics.into_sorted().into_iter();
        (findings.map(|it| it.message).collect(), compiled)
    }

    fn response(section: &str, own: &[(&'static str, &str)]) -> HeaderMap {
        answer(section, own, false)
    }

    fn answer(section: &str, own: &[(&'static str, &str)], is_over_tls: bool) -> HeaderMap {
        let (findings, headers) = compiled(section);
        assert_eq!(findings, [""; 0]);
        let mut response = HeaderMap::new();
        for (name, value) in own {
            response.append(*name, value.parse().unwrap());
        }
        headers.apply(is_over_tls, &mut response);
        response
    }

    fn lines(response: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<_> = response.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn presets_say_what_is_recommended() {
        let api = [
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
            "cross-origin-resource-policy: same-origin",
            "referrer-policy: no-referrer",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
        ];
        let web = [
            "content-security-policy: base-uri 'self'; object-src 'none'; frame-ancestors 'none'",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-resource-policy: same-site",
            "permissions-policy: camera=(), geolocation=(), microphone=()",
            "referrer-policy: strict-origin-when-cross-origin",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
        ];
        assert_eq!(lines(&response("api", &[])), api);
        assert_eq!(lines(&response("{ preset: api }", &[])), api);
        assert_eq!(lines(&response("web", &[])), web);
    }

    #[test]
    fn what_a_backend_says_stays_and_what_reveals_it_goes() {
        let own = [
            ("content-security-policy", "default-src 'self'"),
            ("referrer-policy", "origin"),
            ("strict-transport-security", "max-age=1"),
            ("x-content-type-options", "sniff"),
            ("x-content-type-options", "nosniff"),
            ("server", "apache/2.2"),
            ("x-powered-by", "php/5"),
            ("x-own", "1"),
        ];
        let expected = [
            "content-security-policy: default-src 'self'",
            "cross-origin-resource-policy: same-origin",
            "referrer-policy: origin",
            "strict-transport-security: max-age=1",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "x-own: 1",
        ];
        assert_eq!(lines(&answer("api", &own, true)), expected);
    }

    #[test]
    fn framing_is_said_once() {
        let policy = |section, own| {
            let response = response(section, own);
            let policy = response[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            let framing = response.get(header::X_FRAME_OPTIONS);
            let framing = framing.map(|it| it.to_str().unwrap().to_owned());
            (policy.to_owned(), framing)
        };
        let own = [("x-frame-options", "SAMEORIGIN")];
        let pair =
            |policy: &str, framing: Option<&str>| (policy.to_owned(), framing.map(str::to_owned));
        assert_eq!(
            policy("api", &own),
            pair("default-src 'none'", Some("SAMEORIGIN"))
        );
        assert_eq!(
            policy("{ preset: api, frame_options: sameorigin }", &[]),
            pair(
                "default-src 'none'; frame-ancestors 'self'",
                Some("SAMEORIGIN")
            )
        );
        assert_eq!(
            policy("{ preset: api, frame_options: off }", &[]),
            pair("default-src 'none'", None)
        );
    }

    #[test]
    fn tls_only_is_said_over_tls_only() {
        for (section, expected) in [
            ("api", Some("max-age=31536000; includeSubDomains")),
            (
                "{ preset: api, hsts: { max_age: 730d, preload: true } }",
                Some("max-age=63072000; includeSubDomains; preload"),
            ),
            (
                "{ preset: web, hsts: { max_age: 0s, include_subdomains: false } }",
                Some("max-age=0"),
            ),
            ("{ preset: web, hsts: off }", None),
        ] {
            let name = header::STRICT_TRANSPORT_SECURITY;
            let over_tls = answer(section, &[], true);
            let value = over_tls.get(&name).map(|it| it.to_str().unwrap());
            assert_eq!(value, expected, "{section}");
            assert!(!answer(section, &[], false).contains_key(name), "{section}");
        }
    }

    #[test]
    fn each_header_can_be_written_or_left_out() {
        let written = "{ preset: web, content_security_policy: \"default-src 'self';\\n  img-src *\", frame_options: sameorigin, referrer_policy: same-origin, permissions_policy: usb=(), cross_origin_opener_policy: unsafe-none, cross_origin_resource_policy: cross-origin }";
        assert_eq!(
            lines(&response(written, &[])),
            [
                "content-security-policy: default-src 'self'; img-src *",
                "cross-origin-opener-policy: unsafe-none",
                "cross-origin-resource-policy: cross-origin",
                "permissions-policy: usb=()",
                "referrer-policy: same-origin",
                "x-content-type-options: nosniff",
                "x-frame-options: SAMEORIGIN",
            ]
        );
        let off = "{ preset: web, content_security_policy: off, frame_options: off, referrer_policy: off, permissions_policy: off, cross_origin_opener_policy: off, cross_origin_resource_policy: off }";
        assert_eq!(
            lines(&response(off, &[])),
            ["x-content-type-options: nosniff"]
        );
    }

    #[test]
    fn what_browsers_would_not_take_is_refused() {
        for section in [
            "{ preset: api, content_security_policy: \"\" }",
            "{ preset: api, permissions_policy: \"a\\x01b\" }",
            "{ preset: api, hsts: { max_age: 364d, preload: true } }",
            "{ preset: api, hsts: { include_subdomains: false, preload: true } }",
        ] {
            assert_eq!(compiled(section).0.len(), 1, "{section}");
        }
    }
}
