//! Which country an address is in, by a database in memory. What follows from it is decided by
//! [`super::Access`].

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader, WithinOptions};

use crate::config::{self, Country, Diagnostics};

/// Where a record says in which country its network is used. `registered_country` is not asked: it
/// says where the owner of the network is, who may be an operator of satellites or proxies.
const COUNTRY: [PathElement<'static>; 2] =
    [PathElement::Key("country"), PathElement::Key("iso_code")];

/// A database of countries.
pub struct GeoIp {
    reader: Reader<Bytes>,
    /// The whole file, by which it is known again.
    file: Bytes,
    /// The countries that have a network in it.
    named: CountrySet,
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("{0}")]
    Broken(#[from] MaxMindDbError),
    #[error("its networks have no end")]
    Endless,
    #[error("no network in it has a `country`")]
    Nameless,
}

impl GeoIp {
    /// Reads the database of a section, or reports why it can't be used. Paths start from `base`. The
    /// `known` one is taken over if it is the same.
    pub fn compile(
        section: &config::GeoIp,
        base: &Path,
        known: Option<&Arc<Self>>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<Self>> {
        let path = &section.database;
        let file = match std::fs::read(base.join(path.as_str())) {
            Ok(file) => Bytes::from(file),
            Err(error) => {
                diagnostics
                    .error(path.span, format!("`{path}` can't be read: {error}"))
                    .help(format!("the path starts from `{}`", base.display()));
                return None;
            }
        };
        if let Some(known) = known
            && known.file == file
        {
            return Some(known.clone());
        }
        match Self::read(file) {
            Ok(database) => Some(Arc::new(database)),
            Err(error) => {
                diagnostics
                    .error(
                        path.span,
                        format!("`{path}` is no database of countries: {error}"),
                    )
                    .help("it must be in the MaxMind DB format, such as GeoLite2-Country.mmdb");
                None
            }
        }
    }

    /// Every record is looked at, so that a damaged file is refused and not found out by requests.
    pub(super) fn read(file: Bytes) -> Result<Self, Unusable> {
        let reader = Reader::from_source(file.clone())?;
        let named = named(&reader)?;
        Ok(Self {
            reader,
            file,
            named,
        })
    }

    /// The country of an address, if it is known. Allocates nothing.
    pub fn country(&self, address: IpAddr) -> Option<Country> {
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return None;
        }
        country(&self.reader.lookup(address).ok()?).ok()?
    }

    /// Whether any network is in this country.
    pub fn names(&self, country: Country) -> bool {
        self.named.contains(country)
    }
}

/// The countries of all networks.
fn named(reader: &Reader<Bytes>) -> Result<CountrySet, Unusable> {
    let mut named = CountrySet::default();
    let mut looked_at = HashSet::new();
    // A tree has one leaf more than it has nodes; a few more, for writers that share parts of it.
    let mut leaves = 4 * (u64::from(reader.metadata().node_count) + 1);
    let options = WithinOptions::default().include_networks_without_data();
    for network in reader.networks(options)? {
        let network = network?;
        leaves = leaves.checked_sub(1).ok_or(Unusable::Endless)?;
        if network.offset().is_some_and(|it| looked_at.insert(it))
            && let Some(country) = country(&network)?
        {
            named.insert(country);
        }
    }
    if named.is_empty() {
        return Err(Unusable::Nameless);
    }
    Ok(named)
}

fn country(network: &LookupResult<'_, Bytes>) -> Result<Option<Country>, MaxMindDbError> {
    let code: Option<&str> = network.decode_path(&COUNTRY)?;
    Ok(code.and_then(Country::from_code))
}

impl fmt::Debug for GeoIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeoIp")
            .field("type", &self.reader.metadata().database_type)
            .finish_non_exhaustive()
    }
}

/// A set of countries: one bit for each pair of letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CountrySet([u64; 11]);

impl CountrySet {
    /// Whether the country was not in it.
    pub(super) fn insert(&mut self, country: Country) -> bool {
        let is_new = !self.contains(country);
        self.0[country.index() / 64] |= 1 << (country.index() % 64);
        is_new
    }

    pub(super) fn contains(&self, country: Country) -> bool {
        self.0[country.index() / 64] & 1 << (country.index() % 64) != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; 11]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::database::Database;
    use super::*;

    fn read(file: Vec<u8>) -> Result<GeoIp, String> {
        GeoIp::read(file.into()).map_err(|error| error.to_string())
    }

    fn country(geoip: &GeoIp, address: &str) -> Option<String> {
        let country = geoip.country(address.parse().unwrap());
        country.map(|it| it.to_string())
    }

    const NETWORKS: [(&str, &str); 4] = [
        ("10.0.0.0/8", "DE"),
        ("10.1.0.0/16", "FR"),
        ("10.1.2.3/32", "US"),
        ("2001:db8::/32", "KP"),
    ];

    #[test]
    fn an_address_is_in_the_country_of_its_longest_network() {
        let geoip = read(Database::of(&NETWORKS)).unwrap();
        for (address, expected) in [
            ("10.9.9.9", Some("DE")),
            ("10.1.9.9", Some("FR")),
            ("10.1.2.3", Some("US")),
            ("2001:db8::7", Some("KP")),
            ("192.0.2.1", None),
            ("2001:db9::7", None),
        ] {
            assert_eq!(country(&geoip, address).as_deref(), expected, "{address}");
        }
        let named = |code| geoip.names(Country::from_code(code).unwrap());
        assert!(named("DE") && named("KP") && !named("UK"));
    }

    #[test]
    fn a_database_of_ipv4_knows_no_other_address() {
        let database = Database::of_ipv4_only().with("10.0.0.0/8", "country", "DE");
        let geoip = read(database.bytes()).unwrap();
        assert_eq!(country(&geoip, "10.0.0.1").as_deref(), Some("DE"));
        assert_eq!(country(&geoip, "2001:db8::7"), None);
    }

    #[test]
    fn where_the_owner_of_a_network_is_does_not_count() {
        let registered = |it: Database| it.with("10.0.0.0/8", "registered_country", "DE");
        let other = Database::new().with("11.0.0.0/8", "country", "FR");
        let geoip = read(registered(other).bytes()).unwrap();
        assert_eq!(country(&geoip, "10.0.0.1"), None);
        let error = read(registered(Database::new()).bytes()).unwrap_err();
        assert_eq!(error, "no network in it has a `country`");
    }

    #[test]
    fn a_file_that_is_cut_off_is_refused() {
        let file = Database::of(&NETWORKS);
        for length in 0..file.len() {
            assert!(read(file[..length].to_vec()).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_tree_without_an_end_is_refused() {
        let mut file = Database::of(&[("2001:db8::/64", "DE")]);
        // Both ways from each of the 64 nodes lead to the next one: a walk would take for ever.
        for node in 0..63 {
            let next = [0, 0, node + 1];
            let place = 6 * usize::from(node);
            file[place..place + 6].copy_from_slice(&[next, next].concat());
        }
        let error = read(file.clone()).unwrap_err();
        assert_eq!(error, "its networks have no end");
        file[..6].fill(0);
        assert!(read(file).unwrap_err().contains("cycle"));
    }

    #[test]
    fn the_same_file_is_taken_over_and_another_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |networks| {
            std::fs::write(folder.path().join("c.mmdb"), Database::of(networks)).unwrap();
        };
        let section = config::GeoIp {
            database: "c.mmdb".to_owned().into(),
        };
        let compile = |known| {
            let mut diagnostics = Diagnostics::default();
            GeoIp::compile(&section, folder.path(), known, &mut diagnostics).unwrap()
        };
        write(&NETWORKS);
        let first = compile(None);
        assert!(Arc::ptr_eq(&first, &compile(Some(&first))));
        write(&NETWORKS[..2]);
        assert!(!Arc::ptr_eq(&first, &compile(Some(&first))));
    }

    proptest! {
        #[test]
        fn a_damaged_file_never_panics(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            address in any::<u128>(),
        ) {
            let mut file = Database::of(&NETWORKS);
            for (place, byte) in damage {
                let place = place.index(file.len());
                file[place] = byte;
            }
            if let Ok(geoip) = read(file) {
                geoip.country(IpAddr::from(address.to_be_bytes()));
                geoip.country("10.1.2.3".parse().unwrap());
            }
        }

        #[test]
        fn a_set_holds_what_was_put_in(codes in prop::collection::vec("[A-Z]{2}", 0..40), other in "[A-Z]{2}") {
            let mut set = CountrySet::default();
            for code in &codes {
                set.insert(Country::from_code(code).unwrap());
            }
            prop_assert_eq!(set.is_empty(), codes.is_empty());
            prop_assert_eq!(set.contains(Country::from_code(&other).unwrap()), codes.contains(&other));
        }
    }
}
