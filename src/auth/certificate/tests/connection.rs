//! Certificates that clients show for their connections.

use super::*;

/// What a provider says of a client that shows these certificates for its connection, over a proxy or not.
fn ask_shown(
    certificates: &Arc<Certificates>,
    shown: &[u8],
    headers: &HeaderMap,
    is_from_trusted_proxy: bool,
) -> Result<Arc<Identity>, Refusal> {
    let credentials = Credentials {
        certificates: shown,
        is_from_trusted_proxy,
        ..credentials(headers, NOW)
    };
    certificates.authenticate(credentials).settle()
}

fn der(authority: &Authority, name: &str) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    params(name)
        .signed_by(&key, authority)
        .unwrap()
        .der()
        .to_vec()
}

#[test]
fn the_certificate_of_a_connection_says_who_has_it_unless_a_proxy_speaks_for_others() {
    let root = authority("root");
    let between = below(&root, "between", |_| {});
    let provider = vouched_for_by(&[&root]);
    let (own, proxies) = (der(&between, "device-7"), der(&root, "proxy"));
    let chain = [&own[..], between.der()].concat();
    let nothing = HeaderMap::new();
    let named = headers(&[&item(&proxies)], &[]);
    for _ in 0..2 {
        let identity = ask_shown(&provider, &chain, &named, false).unwrap();
        assert_eq!(identity.subject(), Some("CN=device-7"));
        let identity = ask_shown(&provider, &chain, &named, true).unwrap();
        assert_eq!(identity.subject(), Some("CN=proxy"));
    }
    for (shown, headers, is_from_trusted_proxy, refusal) in [
        (&[][..], &named, false, Refusal::Missing),
        (&chain, &nothing, true, Refusal::Missing),
        (&own, &nothing, false, Refusal::UntrustedCertificate),
        (
            &own[..own.len() - 1],
            &nothing,
            false,
            Refusal::MalformedCredential,
        ),
        (
            &[&own[..], b"x"].concat(),
            &nothing,
            false,
            Refusal::MalformedCredential,
        ),
    ] {
        let found = ask_shown(&provider, shown, headers, is_from_trusted_proxy);
        assert_eq!(found.err(), Some(refusal));
    }
}
