//! No header crashes the gateway, and no certificate is let in but the one that is.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, Method, Uri};
use tollgate::auth::{CLIENT_CERT, CLIENT_CERT_CHAIN, Credentials, Provider};

use super::providers;

static PROVIDERS: LazyLock<Vec<Provider>> = LazyLock::new(|| {
    providers(&format!(
        "auth_providers: {{ m: {{ client_certificate: {{ fingerprints: \"{}\", sans: \"*.example.com\" }} }} }}",
        "00".repeat(32)
    ))
});

pub fn check(der: &[u8]) {
    let mut headers = HeaderMap::new();
    // As it is, and as what a certificate would be.
    for value in [der.to_vec(), format!(":{}:", encoded(der)).into_bytes()] {
        let Ok(value) = HeaderValue::from_bytes(&value) else {
            continue;
        };
        headers.insert(CLIENT_CERT, value.clone());
        headers.insert(CLIENT_CERT_CHAIN, value);
        assert!(is_refused(&headers, &[]));
    }
    // And as that of the connection.
    assert!(is_refused(&HeaderMap::new(), der));
}

fn is_refused(headers: &HeaderMap, certificates: &[u8]) -> bool {
    let credentials = Credentials {
        method: &Method::GET,
        uri: &Uri::default(),
        headers,
        certificates,
        is_encrypted: !certificates.is_empty(),
        is_from_trusted_proxy: certificates.is_empty(),
        now: 1_800_000_000,
    };
    PROVIDERS[0].authenticate(credentials).settle().is_err()
}

fn encoded(der: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(der)
}
