//! No forwarding field crashes the gateway, and a stranger's changes nothing.
#![no_main]

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tollgate::config::Network;
use tollgate::traffic::TrustedProxies;

fuzz_target!(|bytes: &[u8]| {
    let network = "10.0.0.0/8".parse().expect("a network");
    let proxies = TrustedProxies::new(&[Network(network).into()]);
    for name in ["x-forwarded-for", "forwarded"] {
        let mut headers = HeaderMap::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        let stranger = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(proxies.client(stranger, &headers), stranger);
        proxies.client(IpAddr::from([10, 0, 0, 1]), &headers);
    }
});
