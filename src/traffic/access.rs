//! Which addresses may come in.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::countries::{Countries, Verdict};
use super::geoip::GeoIp;
use crate::config::{self, Diagnostics, Network, Spanned};

/// Allowed and denied networks, looked up by longest prefix, and countries.
#[derive(Debug)]
pub struct Access {
    v4: PrefixMap<Ipv4Net, bool>,
    v6: PrefixMap<Ipv6Net, bool>,
    /// Asked about addresses that are in no network.
    countries: Option<Countries>,
    /// Whether an address may come in that neither decides about.
    is_open: bool,
}

/// Why an address may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// For its network, or because it is in none that may.
    Network,
    /// For its country.
    Country,
    /// Only some countries may come in, and nobody knows where it is.
    UnknownCountry,
}

impl Denied {
    /// For the client's developer.
    pub fn description(self) -> &'static str {
        match self {
            Self::Network => "requests from this address are not admitted",
            Self::Country => "requests from this country are not admitted",
            Self::UnknownCountry => {
                "requests from this address are not admitted, since its country is not known"
            }
        }
    }
}

impl Access {
    /// Compiles a section. What can't be is reported, and so are suspicious entries.
    pub fn compile(
        section: &config::Access,
        geoip: Option<&Arc<GeoIp>>,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let mut access = Self {
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
            countries: Countries::compile(section, geoip, diagnostics),
            is_open: section.allow.is_empty() && section.allow_countries.is_empty(),
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

    /// Lets `address` in or not. An IPv4 address mapped into IPv6 counts as IPv4.
    ///
    /// # Errors
    /// Why it may not come in.
    pub fn admit(&self, address: IpAddr) -> Result<(), Denied> {
        let address = address.to_canonical();
        let denied = match self.longest(address) {
            Some(true) => return Ok(()),
            Some(false) => return Err(Denied::Network),
            None => match self.countries.as_ref().map(|it| it.decide(address)) {
                Some(Verdict::Admitted) => return Ok(()),
                Some(Verdict::Denied) => return Err(Denied::Country),
                Some(Verdict::Unlisted) => Denied::Country,
                Some(Verdict::Unknown) => Denied::UnknownCountry,
                None => Denied::Network,
            },
        };
        if self.is_open { Ok(()) } else { Err(denied) }
    }

    /// What the longest network says that holds the address.
    fn longest(&self, address: IpAddr) -> Option<bool> {
        match address {
            IpAddr::V4(address) => self.v4.get_lpm(&address.into()).map(|(_, it)| *it),
            IpAddr::V6(address) => self.v6.get_lpm(&address.into()).map(|(_, it)| *it),
        }
    }
}

fn repeated(network: &Spanned<Network>, what: &str, diagnostics: &mut Diagnostics) {
    diagnostics.warning(network.span, format!("`{}` is {what}", network.0));
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::countries::tests::{countries, database};
    use super::*;

    pub(in crate::traffic) fn networks(list: &[&str]) -> Vec<Spanned<Network>> {
        list.iter()
            .map(|text| Network(text.parse().unwrap()).into())
            .collect()
    }

    fn access(allow: &[&str], deny: &[&str]) -> Access {
        let section = config::Access {
            allow: networks(allow),
            deny: networks(deny),
            ..config::Access::default()
        };
        Access::compile(&section, None, &mut Diagnostics::default())
    }

    fn admits(access: &Access, address: &str) -> bool {
        access.admit(address.parse().unwrap()).is_ok()
    }

    const DE: &str = "10.0.0.1";
    const FR: &str = "11.0.0.1";
    const KP: &str = "12.0.0.1";
    const NOWHERE: &str = "13.0.0.1";

    fn verdicts(section: &config::Access) -> [Result<(), Denied>; 4] {
        let mut diagnostics = Diagnostics::default();
        let access = Access::compile(section, Some(&database()), &mut diagnostics);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        [DE, FR, KP, NOWHERE].map(|address| access.admit(address.parse().unwrap()))
    }

    #[test]
    fn only_allowed_countries_come_in_and_an_unknown_one_does_not() {
        let section = config::Access {
            allow_countries: countries(&["DE", "FR"]),
            deny_countries: countries(&["FR"]),
            ..config::Access::default()
        };
        let country = Err(Denied::Country);
        assert_eq!(
            verdicts(&section),
            [Ok(()), country, country, Err(Denied::UnknownCountry)]
        );
    }

    #[test]
    fn all_but_denied_countries_come_in_and_an_unknown_one_does() {
        let section = config::Access {
            deny_countries: countries(&["KP"]),
            ..config::Access::default()
        };
        assert_eq!(
            verdicts(&section),
            [Ok(()), Ok(()), Err(Denied::Country), Ok(())]
        );
    }

    #[test]
    fn a_network_goes_before_the_country_it_is_in() {
        let section = config::Access {
            allow: networks(&["12.0.0.1/32", "13.0.0.0/8"]),
            deny: networks(&["10.0.0.0/16"]),
            allow_countries: countries(&["DE", "FR"]),
            ..config::Access::default()
        };
        assert_eq!(
            verdicts(&section),
            [Err(Denied::Network), Ok(()), Ok(()), Ok(())]
        );
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
            let access = Access::compile(&section, None, &mut Diagnostics::default());
            prop_assert_eq!(access.admit(address.into()).is_ok(), expected);
        }
    }
}
