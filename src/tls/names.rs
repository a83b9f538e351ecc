//! The names that a certificate is for.

use openssl::x509::X509Ref;

/// Host names, some with `*` for their first label, and addresses; in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names(Box<[Box<str>]>);

impl Names {
    /// The subject alternative names of a certificate. Its common name counts for nothing, as with all
    /// clients of today (RFC 9525 §2).
    pub fn of(certificate: &X509Ref) -> Self {
        let names = certificate.subject_alt_names();
        let names = names.iter().flatten().filter_map(|name| {
            if let Some(name) = name.dnsname() {
                return Some(name.to_ascii_lowercase().into());
            }
            let bytes = name.ipaddress()?;
            let address = match <[u8; 4]>::try_from(bytes) {
                Ok(bytes) => std::net::IpAddr::from(bytes),
                Err(_) => <[u8; 16]>::try_from(bytes).ok()?.into(),
            };
            Some(address.to_string().into())
        });
        Self(names.collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// The first one: what people call the certificate.
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(|name| &**name)
    }

    /// Whether the certificate is for this host.
    pub fn cover(&self, host: &str) -> bool {
        self.iter().any(|name| match name.strip_prefix('*') {
            // It stands for one label, and not for none (RFC 9525 §6.3).
            Some(rest) => host
                .find('.')
                .is_some_and(|dot| dot > 0 && host[dot..].eq_ignore_ascii_case(rest)),
            None => name.eq_ignore_ascii_case(host),
        })
    }
}

#[cfg(test)]
impl<const N: usize> From<[&str; N]> for Names {
    fn from(names: [&str; N]) -> Self {
        Self(names.map(Into::into).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        let names = Names::from(["example.com", "*.example.org", "192.0.2.1"]);
        for host in ["example.com", "Example.COM", "a.example.org", "192.0.2.1"] {
            assert!(names.cover(host), "{host}");
        }
        for host in [
            "a.example.com",
            "example.org",
            ".example.org",
            "a.b.example.org",
            "aexample.org",
            "",
        ] {
            assert!(!names.cover(host), "{host}");
        }
    }
}
