//! Where the store is and how it is talked to, checked and resolved.

use std::path::Path;
use std::time::Duration;

use openssl::pkey::PKey;
use openssl::x509::X509;

use super::address::{Address, addresses};
use crate::config::{self, Diagnostics, Period, Redis, RedisTls, Span, Spanned};

/// Longest time-outs.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);
const LEASES: std::ops::RangeInclusive<usize> = 1024..=1 << 24;

/// Where the store is and how it is talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) topology: Topology,
    /// At the servers that count.
    pub(super) login: Login,
    pub(super) tls: Tls,
    pub(super) connect_timeout: Duration,
    pub(super) command_timeout: Duration,
    pub(super) prefix: Box<str>,
    pub(super) leases: usize,
}

/// How the servers are arranged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topology {
    /// One.
    Single { address: Address, database: u32 },
    /// A master that sentinels know.
    Sentinel {
        sentinels: Vec<Address>,
        master: Box<str>,
        database: u32,
        /// At the sentinels.
        login: Login,
    },
    /// Each has a part of the keys.
    Cluster { nodes: Vec<Address> },
}

/// Who the gateway is to a server.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Login {
    pub(super) username: Option<Box<str>>,
    pub(super) password: Option<Box<str>>,
}

/// Who is trusted, and what is shown, in PEM.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Tls {
    pub(super) authorities: Option<Box<str>>,
    /// Certificate and key.
    pub(super) identity: Option<(Box<str>, Box<str>)>,
}

impl Settings {
    /// Resolves the section, or reports what is wrong with it. Relative paths start from `base`.
    pub(super) fn compile(
        section: &Spanned<Redis>,
        base: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let topology = Topology::compile(section, diagnostics);
        let tls = Tls::compile(&section.tls, base, diagnostics);
        if let (Some(topology), false) = (&topology, section.tls == RedisTls::default()) {
            warn_if_unused(topology, section, diagnostics);
        }
        check_login(&section.username, &section.password, diagnostics);
        let mut is_sound = true;
        for (name, timeout) in [
            ("connect_timeout", &section.connect_timeout),
            ("command_timeout", &section.command_timeout),
        ] {
            is_sound &= check_timeout(name, timeout, diagnostics);
        }
        is_sound &= check_prefix(&section.key_prefix, diagnostics);
        if !LEASES.contains(&section.leases) {
            diagnostics
                .error(section.leases.span, "`leases` is out of range")
                .help("1024 to 16777216; 65536 is usual");
            is_sound = false;
        }
        Some(Self {
            topology: topology?,
            login: Login::new(&section.username, &section.password),
            tls: tls?,
            connect_timeout: section.connect_timeout.0,
            command_timeout: section.command_timeout.0,
            prefix: section.key_prefix.as_str().into(),
            leases: *section.leases,
        })
        .filter(|_| is_sound)
    }
}

impl Topology {
    fn compile(section: &Spanned<Redis>, diagnostics: &mut Diagnostics) -> Option<Self> {
        let has_cluster = !section.cluster.is_empty();
        let given = [
            section.url.as_ref().map(|it| it.span),
            section.sentinel.as_ref().map(|it| it.span),
            has_cluster.then(|| section.cluster[0].span),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (None, _) => {
                diagnostics
                    .error(section.span, "`redis` does not say where the server is")
                    .help("add `url: redis://127.0.0.1:6379`, `sentinel: {…}` or `cluster: […]`");
                return None;
            }
            (Some(first), Some(second)) => {
                diagnostics
                    .error(second, "the store is given in two ways")
                    .related(first, "it is given here, too")
                    .help("keep one of `url`, `sentinel` and `cluster`");
                return None;
            }
            (Some(_), None) => {}
        }
        if let Some(url) = &section.url {
            let (address, database) = Address::parse(url, 6379, diagnostics)?;
            return Some(Self::Single {
                address,
                database: database.unwrap_or(0),
            });
        }
        if let Some(sentinel) = &section.sentinel {
            return Self::sentinel(sentinel, diagnostics);
        }
        let nodes = addresses(
            &section.cluster,
            6379,
            "a cluster has no databases",
            diagnostics,
        )?;
        Some(Self::Cluster { nodes })
    }

    fn sentinel(
        section: &Spanned<config::RedisSentinel>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        check_login(&section.username, &section.password, diagnostics);
        if section.urls.is_empty() {
            diagnostics
                .error(section.span, "`urls` is an empty list")
                .help("name the sentinels: `urls: [redis://10.0.0.1:26379]`");
            return None;
        }
        if section.master.is_empty() {
            diagnostics
                .error(section.master.span, "`master` is empty")
                .help("write the name that the sentinels monitor it by, such as `mymaster`");
            return None;
        }
        let note = "the database is `database: 1` beside `master`";
        let sentinels = addresses(&section.urls, 26379, note, diagnostics)?;
        Some(Self::Sentinel {
            sentinels,
            master: section.master.as_str().into(),
            database: *section.database,
            login: Login::new(&section.username, &section.password),
        })
    }

    /// One of the servers, for the operator.
    pub(super) fn first(&self) -> &Address {
        match self {
            Self::Single { address, .. } => address,
            Self::Sentinel { sentinels, .. } => &sentinels[0],
            Self::Cluster { nodes } => &nodes[0],
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }

    fn has_tls(&self) -> bool {
        self.first().has_tls
    }
}

impl Login {
    fn new(username: &Option<Spanned<String>>, password: &Option<Spanned<config::Secret>>) -> Self {
        Self {
            username: username.as_ref().map(|it| it.as_str().into()),
            password: password.as_ref().map(|it| it.expose().into()),
        }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.username)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    fn compile(section: &RedisTls, base: &Path, diagnostics: &mut Diagnostics) -> Option<Self> {
        let mut is_sound = true;
        let mut read = |file: &Option<Spanned<String>>, what: &str, is_right: fn(&[u8]) -> bool| {
            let file = file.as_ref()?;
            match std::fs::read_to_string(base.join(file.as_str())) {
                Ok(pem) if is_right(pem.as_bytes()) => return Some(Box::from(pem)),
                Ok(_) => diagnostics
                    .error(file.span, format!("`{}` holds no {what}", file.value))
                    .help(format!("it must be a PEM file with a {what}")),
                Err(error) => diagnostics.error(
                    file.span,
                    format!("`{}` can't be read: {error}", file.value),
                ),
            };
            is_sound = false;
            None
        };
        let has_certificate =
            |pem: &[u8]| X509::stack_from_pem(pem).is_ok_and(|found| !found.is_empty());
        let authorities = read(&section.ca, "certificate", has_certificate);
        let certificate = read(&section.client_cert, "certificate", has_certificate);
        let key = read(&section.client_key, "private key", |pem| {
            PKey::private_key_from_pem(pem).is_ok()
        });
        for (one, other, missing) in [
            (&section.client_cert, &section.client_key, "client_key"),
            (&section.client_key, &section.client_cert, "client_cert"),
        ] {
            if let (Some(one), None) = (one, other) {
                diagnostics
                    .error(one.span, format!("`{missing}` is missing beside this"))
                    .help("a certificate is of use only with its key");
                is_sound = false;
            }
        }
        is_sound.then(|| Self {
            authorities,
            identity: certificate.zip(key),
        })
    }
}

fn warn_if_unused(topology: &Topology, section: &Spanned<Redis>, diagnostics: &mut Diagnostics) {
    let tls = &section.tls;
    let files = [&tls.ca, &tls.client_cert, &tls.client_key];
    if let (false, Some(file)) = (topology.has_tls(), files.into_iter().flatten().next()) {
        diagnostics
            .warning(file.span, "this has no effect without TLS")
            .help("write `rediss://` for TLS");
    }
}

fn check_login(
    username: &Option<Spanned<String>>,
    password: &Option<Spanned<config::Secret>>,
    diagnostics: &mut Diagnostics,
) {
    if let (Some(username), None) = (username, password) {
        diagnostics
            .error(username.span, "a `username` without a `password`")
            .help("add `password: ${NAME}`");
    }
}

fn check_timeout(name: &str, timeout: &Spanned<Period>, diagnostics: &mut Diagnostics) -> bool {
    let is_sound = !timeout.0.is_zero() && timeout.0 <= LONGEST_TIMEOUT;
    if !is_sound {
        diagnostics
            .error(
                timeout.span,
                format!("a `{name}` of {} is out of range", timeout.value),
            )
            .help("1ms to 10s; requests may have to wait so long");
    }
    is_sound
}

fn check_prefix(prefix: &Spanned<String>, diagnostics: &mut Diagnostics) -> bool {
    let is_sound = !prefix.is_empty()
        && prefix.len() <= 64
        && prefix
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    if !is_sound {
        let span: Span = prefix.span;
        diagnostics
            .error(span, "`key_prefix` is no prefix for keys")
            .help("1 to 64 letters, digits and `-_.:`, such as `tollgate`");
    }
    is_sound
}
