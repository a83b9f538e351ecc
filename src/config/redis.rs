//! The store that gateways share, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::Secret;
use super::source::Spanned;
use super::units::Period;

/// A Redis or Valkey server, version 6 or newer, whose counts several gateways share. Exactly one of `url`,
/// `sentinel` and `cluster` is given.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// One server: `redis://HOST:PORT/DATABASE`, or `rediss://…` for TLS. Port 6379 and database 0 unless
    /// written.
    pub url: Option<Spanned<String>>,
    /// Sentinels that know which server is the master.
    pub sentinel: Option<Spanned<RedisSentinel>>,
    /// Some servers of a cluster, as in `url`, without a database.
    pub cluster: Vec<Spanned<String>>,
    /// The user that the gateway logs in as (ACL). Default: the server's default user.
    pub username: Option<Spanned<String>>,
    /// Its password: `${NAME}` or `{ file: path }`.
    pub password: Option<Spanned<Secret>>,
    /// How servers behind `rediss://` are trusted.
    pub tls: RedisTls,
    /// How long a connection may take, with TLS and login. Default `250ms`.
    pub connect_timeout: Spanned<Period>,
    /// How long an answer may take before the request is decided without it. Default `50ms`; too little
    /// for a store far away means that its limits are decided by `on_store_failure`.
    pub command_timeout: Spanned<Period>,
    /// What all keys begin with, so that fleets with different configurations can use one server. Default
    /// `tollgate`.
    pub key_prefix: Spanned<String>,
    /// Keys that this gateway may hold leases of at the same time; 160 bytes each. Default 65536. Requests
    /// of more keys ask the store one by one.
    pub leases: Spanned<usize>,
}

/// Sentinels.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisSentinel {
    /// Where they are: `redis://HOST:PORT`, or `rediss://…` for TLS, to the servers too. Port 26379 unless
    /// written.
    pub urls: Vec<Spanned<String>>,
    /// The name they know the master by.
    pub master: Spanned<String>,
    /// The database of the master. Default 0.
    #[serde(default)]
    pub database: Spanned<u32>,
    /// The user that the gateway logs in to the sentinels as.
    pub username: Option<Spanned<String>>,
    /// Its password there: `${NAME}` or `{ file: path }`.
    pub password: Option<Spanned<Secret>>,
}

/// TLS to the store.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisTls {
    /// A PEM file of the authorities to trust instead of the system's.
    pub ca: Option<Spanned<String>>,
    /// A PEM file with the certificate to show to the server, and the chain above it.
    pub client_cert: Option<Spanned<String>>,
    /// A PEM file with its key.
    pub client_key: Option<Spanned<String>>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            sentinel: None,
            cluster: Vec::new(),
            username: None,
            password: None,
            tls: RedisTls::default(),
            connect_timeout: Period::millis(250).into(),
            command_timeout: Period::millis(50).into(),
            key_prefix: "tollgate".to_owned().into(),
            leases: (1 << 16).into(),
        }
    }
}

impl Redis {
    /// The secrets it names.
    pub(super) fn secrets(&mut self) -> impl Iterator<Item = &mut Spanned<Secret>> {
        let sentinel = self.sentinel.as_mut();
        let of_sentinel = sentinel.and_then(|it| it.value.password.as_mut());
        self.password.iter_mut().chain(of_sentinel)
    }

    /// The files it names, that are not read with the configuration.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let tls = &self.tls;
        let files = [&tls.ca, &tls.client_cert, &tls.client_key];
        files.into_iter().flatten().map(|file| file.as_str())
    }
}
