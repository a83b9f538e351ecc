//! No credential crashes the gateway, and none that was not signed is let in.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use tollgate::auth::{KeySets, Provider};
use tollgate::config::{Diagnostics, Source, parse};

static PROVIDER: LazyLock<Provider> = LazyLock::new(|| {
    let text = "auth_providers: { m: { jwt: { algorithms: [HS256, HS512], token_from: [bearer, \"cookie:s\", \"query:t\"], keys: { secret: \
        0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef } } } }";
    let loaded = parse(Source::new("fuzz.yaml", text), &|_| None);
    let section = &loaded.config.auth_providers["m"];
    let (keys, base) = (KeySets::default(), Path::new("."));
    Provider::compile("m", section, &keys, base, &mut Diagnostics::default())
        .expect("the provider is sound")
});

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        let name = if number % 2 == 0 { header::AUTHORIZATION } else { header::COOKIE };
        headers.append(name, value);
    }
    let query = std::str::from_utf8(bytes).ok();
    assert!(PROVIDER.authenticate(&headers, query, 1_800_000_000).is_err());
});
