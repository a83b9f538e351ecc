//! Keys as operators read and write them, part by part in the order of `by`; `everyone` has no part.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use openssl::sha::Sha256;

use super::calendar::Zone;
use super::key::{KeyPart, KeySource};

/// The longest text of a part that is shown.
const LONGEST: usize = 128;
/// What the names of headers contain whose values prove something.
const SECRET: [&str; 9] = [
    "auth",
    "cookie",
    "credential",
    "key",
    "password",
    "secret",
    "session",
    "signature",
    "token",
];

/// Makes digests that nobody can make elsewhere, so that a short secret can't be guessed by its digest.
pub(super) struct Salt([u8; 16]);

impl Salt {
    fn digest(&self, value: &[u8]) -> String {
        let mut digest = Sha256::new();
        digest.update(&self.0);
        digest.update(value);
        let digest = digest.finish();
        let (front, _) = digest.split_at(8);
        let hex: String = front.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("digest:{hex}")
    }
}

impl Default for Salt {
    fn default() -> Self {
        let mut salt = [0; 16];
        if openssl::rand::rand_bytes(&mut salt).is_err() {
            // A digest that can be guessed by whoever guesses the rest of the process is better than none.
            fastrand::fill(&mut salt);
        }
        Self(salt)
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt")
    }
}

impl KeyPart {
    /// As it is written in `by`.
    pub(super) fn word(&self) -> String {
        match self {
            Self::ClientIp { .. } => "client_ip".to_owned(),
            Self::Header(name) => format!("header:{name}"),
            Self::Claim(name) => format!("claim:{name}"),
            Self::Consumer => "consumer".to_owned(),
            Self::Route => "route".to_owned(),
            Self::Everyone => "everyone".to_owned(),
        }
    }

    /// The part of a request's key, where there is one to be shown, or none that the request has. Values of
    /// headers that look like credentials are shown as digests.
    pub(super) fn text(&self, source: &impl KeySource, salt: &Salt) -> Option<Option<String>> {
        let text = match self {
            Self::ClientIp { ipv6_prefix } => Some(network(source.client_ip(), *ipv6_prefix)),
            Self::Header(name) => source.header(name).map(|value| match is_secret(name) {
                true => salt.digest(value),
                false => shown(value),
            }),
            Self::Claim(name) => source.claim(name).map(|value| shown(&value)),
            Self::Consumer => source.consumer().map(|who| match who {
                ("", name) => name.to_owned(),
                (provider, name) => format!("{provider}/{name}"),
            }),
            Self::Route => Some(route_text(source.route())),
            Self::Everyone => return None,
        };
        Some(text)
    }
}

/// A route's number as text.
pub fn route_text(id: u64) -> String {
    format!("{id:016x}")
}

fn network(address: IpAddr, prefix: u8) -> String {
    let address = address.to_canonical();
    match ipnet::IpNet::new(address, prefix) {
        Ok(network) if address.is_ipv6() && prefix < 128 => network.trunc().to_string(),
        _ => address.to_string(),
    }
}

fn is_secret(name: &HeaderName) -> bool {
    SECRET.iter().any(|part| name.as_str().contains(part))
}

fn shown(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

/// What only others than this floor know of names.
pub trait Names {
    /// Whether a provider is called so.
    fn is_provider(&self, name: &str) -> bool;
    /// Where a consumer is at home.
    fn home(&self, consumer: &str) -> Option<&Arc<Zone>>;
    /// The number of the route that is called so, if it is only one.
    fn route(&self, name: &str) -> Option<u64>;
}

/// A key that an operator has written.
#[derive(Debug, Default)]
pub(super) struct WrittenKey<'k> {
    address: Option<IpAddr>,
    headers: Vec<(&'k str, &'k str)>,
    claims: Vec<(&'k str, &'k str)>,
    consumer: Option<(&'k str, &'k str)>,
    home: Option<&'k Arc<Zone>>,
    route: u64,
}

impl<'k> WrittenKey<'k> {
    /// The key of a limit by these parts. An empty text is a part that requests lack.
    ///
    /// # Errors
    /// Why it can't be one.
    pub(super) fn read(
        by: &'k [KeyPart],
        texts: &[&'k str],
        names: &'k impl Names,
    ) -> Result<Self, String> {
        let parts: Vec<&KeyPart> = by.iter().filter(|it| **it != KeyPart::Everyone).collect();
        if parts.len() != texts.len() {
            let words: Vec<String> = parts.iter().map(|part| part.word()).collect();
            return Err(match parts.len() {
                0 => "it counts all requests as one, and takes no `key`".to_owned(),
                1 => format!("it takes one `key`: {}", words[0]),
                count => format!("it takes {count} times `key`: {}", words.join(", ")),
            });
        }
        let mut key = Self::default();
        for (part, text) in parts.into_iter().zip(texts) {
            key.add(part, text, names)?;
        }
        Ok(key)
    }

    fn add(
        &mut self,
        part: &'k KeyPart,
        text: &'k str,
        names: &'k impl Names,
    ) -> Result<(), String> {
        match part {
            KeyPart::ClientIp { .. } => {
                let (address, _) = text.split_once('/').unwrap_or((text, ""));
                let parsed = address
                    .parse()
                    .map_err(|_| format!("`{text}` is no address"))?;
                self.address = Some(parsed);
            }
            KeyPart::Header(name) if !text.is_empty() => self.headers.push((name.as_str(), text)),
            KeyPart::Claim(name) if !text.is_empty() => self.claims.push((name, text)),
            KeyPart::Consumer if !text.is_empty() => {
                let split = text.split_once('/');
                let other = split.filter(|(provider, _)| names.is_provider(provider));
                self.consumer = Some(other.unwrap_or(("", text)));
                self.home = names.home(text);
            }
            KeyPart::Route => {
                let route = names.route(text);
                self.route = route.ok_or_else(|| format!("`{text}` is no route, or several"))?;
            }
            KeyPart::Header(_) | KeyPart::Claim(_) | KeyPart::Consumer | KeyPart::Everyone => {}
        }
        Ok(())
    }
}

fn find<'k>(values: &[(&str, &'k str)], name: &str) -> Option<&'k [u8]> {
    let (_, value) = values.iter().find(|(known, _)| *known == name)?;
    Some(value.as_bytes())
}

impl KeySource for WrittenKey<'_> {
    fn client_ip(&self) -> IpAddr {
        self.address.unwrap_or(IpAddr::from([0, 0, 0, 0]))
    }

    fn header(&self, name: &HeaderName) -> Option<&[u8]> {
        find(&self.headers, name.as_str())
    }

    fn claim(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        find(&self.claims, name).map(Cow::Borrowed)
    }

    fn consumer(&self) -> Option<(&str, &str)> {
        self.consumer
    }

    fn route(&self) -> u64 {
        self.route
    }

    fn time_zone(&self) -> Option<&Arc<Zone>> {
        self.home
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shop;

    impl Names for Shop {
        fn is_provider(&self, name: &str) -> bool {
            name == "idp"
        }
        fn home(&self, _: &str) -> Option<&Arc<Zone>> {
            None
        }
        fn route(&self, name: &str) -> Option<u64> {
            (name == "/orders").then_some(7)
        }
    }

    fn by() -> Vec<KeyPart> {
        let header = |name| KeyPart::Header(HeaderName::from_static(name));
        vec![
            KeyPart::ClientIp { ipv6_prefix: 64 },
            header("x-tenant"),
            header("x-api-key"),
            KeyPart::Claim("x-tenant".into()),
            KeyPart::Consumer,
            KeyPart::Route,
        ]
    }

    fn texts(written: &[&str]) -> Vec<Option<String>> {
        let by = by();
        let key = WrittenKey::read(&by, written, &Shop).unwrap();
        let salt = Salt([1; 16]);
        by.iter()
            .filter_map(|part| part.text(&key, &salt))
            .collect()
    }

    #[test]
    fn what_is_written_is_what_is_shown_but_credentials() {
        let written = ["2001:db8::7", "blue", "s3cr3t", "", "acme/eu", "/orders"];
        let shown = texts(&written);
        let text = |index: usize| shown[index].as_deref();
        assert_eq!(text(0), Some("2001:db8::/64"));
        assert_eq!(text(1), Some("blue"));
        assert!(text(2).unwrap().starts_with("digest:") && !text(2).unwrap().contains("s3cr3t"));
        assert_eq!(text(3), None);
        assert_eq!(text(4), Some("acme/eu"));
        assert_eq!(text(5), Some("0000000000000007"));
        assert_eq!(
            texts(&["::ffff:192.0.2.1", "", "", "", "idp/eve", "/orders"])[0].as_deref(),
            Some("192.0.2.1")
        );
    }

    #[test]
    fn what_can_be_no_key_is_said() {
        let read = |by: &[KeyPart], texts: &[&str]| WrittenKey::read(by, texts, &Shop).unwrap_err();
        let address = [KeyPart::ClientIp { ipv6_prefix: 64 }];
        assert_eq!(read(&address, &["nowhere"]), "`nowhere` is no address");
        assert_eq!(read(&address, &[]), "it takes one `key`: client_ip");
        assert_eq!(
            read(&[KeyPart::Route], &["/other"]),
            "`/other` is no route, or several"
        );
        let everyone = read(&[KeyPart::Everyone], &["x"]);
        assert_eq!(
            everyone,
            "it counts all requests as one, and takes no `key`"
        );
        let both = [KeyPart::Consumer, KeyPart::Route];
        assert_eq!(
            read(&both, &["a"]),
            "it takes 2 times `key`: consumer, route"
        );
    }
}
