//! No forwarding field crashes the gateway, and a stranger's changes nothing.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate::config::Network;
use tollgate::traffic::TrustedProxies;

pub fn check(bytes: &[u8]) {
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
}
