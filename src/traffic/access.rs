//! Which addresses may come in.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::config::{self, Diagnostics, Network, Spanned};

/// Allowed and denied networks, looked up by longest prefix.
#[derive(Debug)]
pub struct Access {
    v4: PrefixMap<Ipv4Net, bool>,
    v6: PrefixMap<Ipv6Net, bool>,
    /// What an address gets that is in no network.
    otherwise: bool,
}

impl Access {
    /// Compiles a section; suspicious entries are reported.
    pub fn compile(section: &config::Access, diagnostics: &mut Diagnostics) -> Self {
        let mut access = Self {
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
            otherwise: section.allow.is_empty(),
        };
        for network in &section.allow {
            if access.insert(network.0, true).is_some() {
                repeated(network, "allowed twice", diagnostics);
            }
        }
        for network in &section.deny {
            match access.insert(network.0, false) {
                Some(true) => {
                    repeated(network, "allowed and denied: it is denied", diagnostics);
                }
                Some(false) => repeated(network, "denied twice", diagnostics),
                None => {}
            }
        }
        access
    }

    fn insert(&mut self, network: IpNet, is_allowed: bool) -> Option<bool> {
        match network {
            IpNet::V4(network) => self.v4.insert(network, is_allowed),
            IpNet::V6(network) => self.v6.insert(network, is_allowed),
        }
    }

    /// Whether `address` may come in. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn admits(&self, address: IpAddr) -> bool {
        let longest = match address.to_canonical() {
            IpAddr::V4(address) => self
                .v4
                .get_lpm(&address.into())
                .map(|(_, verdict)| *verdict),
            IpAddr::V6(address) => self
                .v6
                .get_lpm(&address.into())
                .map(|(_, verdict)| *verdict),
        };
        longest.unwrap_or(self.otherwise)
    }
}

fn repeated(network: &Spanned<Network>, what: &str, diagnostics: &mut Diagnostics) {
    diagnostics.warning(network.span, format!("`{}` is {what}", network.0));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn access(allow: &[&str], deny: &[&str]) -> Access {
        let networks = |list: &[&str]| {
            list.iter()
                .map(|text| Network(text.parse().unwrap()).into())
                .collect()
        };
        let section = config::Access {
            allow: networks(allow),
            deny: networks(deny),
        };
        Access::compile(&section, &mut Diagnostics::default())
    }

    fn admits(access: &Access, address: &str) -> bool {
        access.admits(address.parse().unwrap())
    }

    #[test]
    fn the_longest_network_decides() {
        let access = access(&["10.0.0.0/8", "10.1.2.3/32"], &["10.1.0.0/16"]);
        assert!(admits(&access, "10.9.9.9"));
        assert!(!admits(&access, "10.1.9.9"));
        assert!(admits(&access, "10.1.2.3"));
        assert!(!admits(&access, "192.0.2.1"));
    }

    #[test]
    fn without_an_allow_list_all_but_the_denied_come_in() {
        let access = access(&[], &["2001:db8::/32"]);
        assert!(admits(&access, "192.0.2.1"));
        assert!(!admits(&access, "2001:db8::7"));
    }

    #[test]
    fn a_mapped_address_does_not_get_round_a_rule() {
        let access = access(&[], &["192.0.2.0/24"]);
        assert!(!admits(&access, "::ffff:192.0.2.1"));
    }

    proptest! {
        #[test]
        fn lookup_equals_a_linear_scan(
            rules in prop::collection::vec((any::<u32>(), 0..=32u8, any::<bool>()), 0..30),
            address in any::<u32>(),
        ) {
            let net = |bits: u32, length| Ipv4Net::new(bits.into(), length).unwrap().trunc();
            let mut section = config::Access::default();
            for (bits, length, is_allowed) in &rules {
                let network = Network(net(*bits, *length).into()).into();
                if *is_allowed { section.allow.push(network) } else { section.deny.push(network) }
            }
            let address = std::net::Ipv4Addr::from(address);
            let expected = rules
                .iter()
                .map(|(bits, length, is_allowed)| (net(*bits, *length), *is_allowed))
                .filter(|(network, _)| network.contains(&address))
                .map(|(network, is_allowed)| (network.prefix_len(), !is_allowed))
                .max()
                .map_or(section.allow.is_empty(), |(_, is_denied)| !is_denied);
            let access = Access::compile(&section, &mut Diagnostics::default());
            prop_assert_eq!(access.admits(address.into()), expected);
        }
    }
}
