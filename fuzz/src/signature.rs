//! No signature crashes the gateway, and none that was not made with the secret is let in.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tollgate::auth::{Credentials, Provider};

use super::providers;

const NOW: u64 = 1_800_000_000;
const NAMES: [&str; 5] = [
    "signature-input",
    "signature",
    "content-digest",
    "host",
    "priority",
];

static PROVIDERS: LazyLock<Vec<Provider>> = LazyLock::new(|| {
    providers(
        "auth_providers: { m: { signature: { body: optional, components: [content-digest], \
        keys: { a: 0123456789abcdef0123456789abcdef } } } }",
    )
});

pub fn check(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let target = lines.next().and_then(|line| Uri::try_from(line).ok());
    // Half of the inputs are the components of a signature that is otherwise in order.
    let whole = format!(");created={NOW};keyid=\"a\"");
    let is_list = bytes.first() == Some(&b'/');
    let mut headers = HeaderMap::new();
    for (number, line) in lines.enumerate() {
        let name = NAMES[number % NAMES.len()];
        let line = match number {
            0 if is_list => [b"s=(", line, whole.as_bytes()].concat(),
            1 if is_list => b"s=:AAAA:".to_vec(),
            _ => line.to_vec(),
        };
        if let Ok(value) = HeaderValue::from_bytes(&line) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let credentials = Credentials {
        method: &Method::POST,
        uri: &target.unwrap_or_default(),
        headers: &headers,
        certificates: &[],
        is_encrypted: false,
        is_from_trusted_proxy: false,
        now: NOW,
    };
    assert!(PROVIDERS[0].authenticate(credentials).settle().is_err());
}
