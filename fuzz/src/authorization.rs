//! No credential crashes the gateway, and none that was not given out is let in, whatever the mechanism.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use tollgate::auth::{Credentials, Provider};

use super::providers;

const CONFIGURATION: &str = r#"
auth_providers:
  tokens:
    jwt:
      algorithms: [HS256, HS512]
      token_from: [bearer, "cookie:s", "query:t"]
      keys: { secret: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef }
  issuer:
    jwt:
      issuer: https://id.example/
      algorithms: [EdDSA]
      keys: { public_key: "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n" }
  keys:
    api_key:
      from: ["header:X-Api-Key", "cookie:k", "query:k", bearer]
      keys: { a: "sha256:6371cb7a907cc8f10740229732c4b6164b285169494b85304468313513427878" }
  users:
    basic: { users: "alice:$2y$08$WXMxu8mJjxXocGVbeQIPiO04Suz7DEk8RH8kwt/ZbT18NGudaWkQq", cache: off }
"#;

static PROVIDERS: LazyLock<Vec<Provider>> = LazyLock::new(|| providers(CONFIGURATION));

const NAMES: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::COOKIE,
    HeaderName::from_static("x-api-key"),
];

/// Each line is a field, whose name the first byte chooses; the first line is the target.
pub fn check(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let uri = Uri::try_from(target).unwrap_or(Uri::from_static("/"));
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some((first, rest)) = line.split_first() else {
            continue;
        };
        let Ok(value) = HeaderValue::from_bytes(rest) else {
            continue;
        };
        headers.append(&NAMES[usize::from(*first) % NAMES.len()], value);
    }
    for provider in PROVIDERS.iter() {
        let credentials = Credentials {
            method: &Method::GET,
            uri: &uri,
            headers: &headers,
            certificates: &[],
            is_encrypted: false,
            is_from_trusted_proxy: bytes.len().is_multiple_of(2),
            now: 1_800_000_000,
        };
        assert!(provider.authenticate(credentials).settle().is_err());
    }
}
