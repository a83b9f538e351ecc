//! Which countries may come in. What becomes of an address that no list decides about is up to
//! [`super::Access`].

use std::net::IpAddr;
use std::sync::Arc;

use super::geoip::{CountrySet, GeoIp};
use crate::config::{self, Country, Diagnostics, Spanned};

/// Allowed and denied countries.
#[derive(Debug)]
pub(super) struct Countries {
    database: Arc<GeoIp>,
    allowed: CountrySet,
    denied: CountrySet,
}

/// What an address gets for its country.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may come in.
    Admitted,
    /// It may not.
    Denied,
    /// The country is in no list.
    Unlisted,
    /// The country is not known.
    Unknown,
}

impl Countries {
    /// Compiles the lists of a section; `None` if there are none. What can't be is reported, and so
    /// are suspicious entries.
    pub(super) fn compile(
        section: &config::Access,
        geoip: Option<&Arc<GeoIp>>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let (allow, deny) = (&section.allow_countries, &section.deny_countries);
        let first = allow.first().or(deny.first())?;
        if let Some(denied) = deny.first()
            && allow.is_empty()
            && !section.allow.is_empty()
        {
            diagnostics
                .error(denied.span, "`deny_countries` has no effect beside `allow`")
                .label("networks that `allow` holds come in wherever they are, all others do not")
                .help("leave `allow` out to admit all other countries, or list those that may come in in `allow_countries`");
        }
        let Some(database) = geoip else {
            if !diagnostics.has_lost_key("geoip") {
                diagnostics
                    .error(first.span, "countries need a database, and there is no `geoip`")
                    .help("add `geoip: { database: /var/lib/GeoIP/GeoLite2-Country.mmdb }` at the top");
            }
            return None;
        };
        let mut countries = Self {
            database: database.clone(),
            allowed: CountrySet::default(),
            denied: CountrySet::default(),
        };
        for country in allow {
            if !countries.allowed.insert(country.value) {
                diagnostics.warning(country.span, format!("`{country}` is allowed twice"));
            }
        }
        for country in deny {
            let finding = if !countries.denied.insert(country.value) {
                "denied twice"
            } else if allow.is_empty() {
                continue;
            } else if countries.allowed.contains(country.value) {
                "allowed and denied: it is denied"
            } else {
                "denied anyway, for only some countries are allowed"
            };
            diagnostics.warning(country.span, format!("`{country}` is {finding}"));
        }
        for country in allow.iter().chain(deny) {
            countries.check(country, diagnostics);
        }
        Some(countries)
    }

    /// What an address gets for its country. One that is in both lists is denied.
    pub(super) fn decide(&self, address: IpAddr) -> Verdict {
        match self.database.country(address) {
            None => Verdict::Unknown,
            Some(country) if self.denied.contains(country) => Verdict::Denied,
            Some(country) if self.allowed.contains(country) => Verdict::Admitted,
            Some(_) => Verdict::Unlisted,
        }
    }

    /// A code that means nothing would let nobody in, or everybody.
    fn check(&self, country: &Spanned<Country>, diagnostics: &mut Diagnostics) {
        if !self.database.names(country.value) {
            let help = match country.to_string().as_str() {
                "UK" => "did you mean `GB`?",
                _ => "the letters are those of ISO 3166-1",
            };
            diagnostics
                .warning(
                    country.span,
                    format!("the database knows no network in `{country}`"),
                )
                .help(help);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::access::tests::networks;
    use super::super::database::Database;
    use super::*;

    pub(in crate::traffic) fn countries(list: &[&str]) -> Vec<Spanned<Country>> {
        list.iter()
            .map(|code| Country::from_code(code).unwrap().into())
            .collect()
    }

    pub(in crate::traffic) fn database() -> Arc<GeoIp> {
        let networks = [
            ("10.0.0.0/8", "DE"),
            ("11.0.0.0/8", "FR"),
            ("12.0.0.0/8", "KP"),
        ];
        let file = Database::of(&networks);
        Arc::new(GeoIp::read(file.into()).unwrap())
    }

    #[test]
    fn a_country_that_would_change_nothing_is_reported() {
        let findings = |allow: &[&str], allowed: &[&str], denied: &[&str], geoip| {
            let section = config::Access {
                allow: networks(allow),
                allow_countries: countries(allowed),
                deny_countries: countries(denied),
                ..config::Access::default()
            };
            let mut diagnostics = Diagnostics::default();
            Countries::compile(&section, geoip, &mut diagnostics);
            let count = diagnostics.as_slice().len();
            (diagnostics.has_errors(), count)
        };
        let database = database();
        let geoip = Some(&database);
        assert_eq!(findings(&["0.0.0.0/0"], &[], &["KP"], geoip), (true, 1));
        assert_eq!(findings(&[], &["DE"], &[], None), (true, 1));
        assert_eq!(findings(&[], &["DE", "DE"], &[], geoip), (false, 1));
        assert_eq!(findings(&[], &[], &["KP", "KP"], geoip), (false, 1));
        assert_eq!(findings(&[], &["DE"], &["DE", "KP"], geoip), (false, 2));
        assert_eq!(findings(&[], &[], &["UK"], geoip), (false, 1));
        assert_eq!(findings(&["10.0.0.0/8"], &["DE"], &[], geoip), (false, 0));
    }
}
