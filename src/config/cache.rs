//! Caching as written: which answers are kept, for how long, and for whom.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shape::Toggle;
use super::source::Spanned;
use super::units::{ByteSize, Period, Share};

/// Which answers are kept and given again (RFC 9111). Without any key: what backends say may be kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long answers are fresh, whatever backends say of that; what they forbid to keep (`no-store`,
    /// `private`) is still not kept. Default: as long as they say, and not at all if they say nothing.
    pub ttl: Option<Spanned<Period>>,
    /// The statuses that `ttl` is for. Default 200, 203, 300, 301 and 308.
    pub statuses: Option<Spanned<Vec<Spanned<u16>>>>,
    /// The same as `ttl` for answers with 404, 405, 410, 414 or 501.
    pub negative_ttl: Option<Spanned<Period>>,
    /// How long answers are fresh of which neither backends nor `ttl` say that: this share of the time since
    /// their `Last-Modified`, `1%` to `100%`; 10% is usual (RFC 9111 §4.2.2). The larger it is, the longer is
    /// what has changed meanwhile still given. Default: none, for it is a guess.
    pub heuristic: Option<Spanned<Share>>,
    /// The longest time that is guessed. Default `1d`.
    pub heuristic_max: Option<Spanned<Period>>,
    /// How long an answer that is no longer fresh is given while a fresh one is fetched in the background.
    /// Default: what backends say. `0s`: never.
    pub stale_while_revalidate: Option<Spanned<Period>>,
    /// How long an answer that is no longer fresh is given when backends fail. Default: what they say.
    /// `0s`: never.
    pub stale_if_error: Option<Spanned<Period>>,
    /// Larger bodies are passed on and not kept. Default `8MiB`.
    pub max_object_size: Spanned<ByteSize>,
    /// Request headers by which answers are kept apart, beside those in a backend's `Vary`.
    pub vary: Vec<Spanned<String>>,
    /// What of a request tells its answer from others, beside scheme, host and path.
    pub key: CacheKey,
    /// Whether everybody who may come in gets the same answers. `false`, the default, keeps them apart by
    /// who asks: by the identity that was verified, or by the credential that was not.
    pub shared: bool,
    /// What becomes of answers with `Set-Cookie`. Default `refuse`.
    pub set_cookie: SetCookie,
    /// What becomes of the `Cache-Control` of requests. Default `ignore`: clients can't make backends
    /// work. `only-if-cached` always holds.
    pub request_directives: RequestDirectives,
    /// How long a request waits for another one that fetches the same answer, before it fetches the
    /// answer itself. Default `5s`.
    pub wait: Spanned<Toggle<Period>>,
}

/// What of a request tells its answer from others. Backends see of the query and of the cookies what
/// stands in the key, and nothing else.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheKey {
    /// Only these parameters of the query; `[]` for none. Default: all.
    pub query: Option<Spanned<Vec<Spanned<String>>>>,
    /// All parameters of the query but these; `utm_*` for all that begin so.
    pub query_except: Vec<Spanned<String>>,
    /// Whether parameters come in the order of their names, so that queries that differ in their order
    /// alone are the same. Default `false`.
    pub sort_query: bool,
    /// Only these cookies; `[]` for none. Default: all.
    pub cookies: Option<Vec<Spanned<String>>>,
    /// Claims of the verified token.
    pub claims: Vec<Spanned<String>>,
}

/// What becomes of answers with `Set-Cookie`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetCookie {
    /// They are not kept.
    #[default]
    Refuse,
    /// They are kept without it. The client whose request fetched the answer gets it.
    Withhold,
}

/// What becomes of the `Cache-Control` of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestDirectives {
    /// Nothing.
    #[default]
    Ignore,
    /// It holds (RFC 9111 §5.2.1).
    Obey,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            ttl: None,
            statuses: None,
            negative_ttl: None,
            heuristic: None,
            heuristic_max: None,
            stale_while_revalidate: None,
            stale_if_error: None,
            max_object_size: ByteSize::mib(8).into(),
            vary: Vec::new(),
            key: CacheKey::default(),
            shared: false,
            set_cookie: SetCookie::default(),
            request_directives: RequestDirectives::default(),
            wait: Toggle::On(Period::seconds(5)).into(),
        }
    }
}

/// Where answers are kept.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheStore {
    /// Memory for answers that are kept, all routes together: `1MiB` to `1TiB`. Default `256MiB`; taken as
    /// it is used. Above it those go that were asked for least.
    pub memory: Spanned<ByteSize>,
    /// A folder that keeps them, too, so that they are still there after a restart and an upgrade. Default:
    /// none.
    pub disk: Option<CacheDisk>,
}

/// Where answers are kept on disk.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheDisk {
    /// The folder, on a disk of this machine. It is made if the one above it is there; only the gateway's
    /// user can read it. A relative path begins at the configuration's folder.
    pub path: Spanned<String>,
    /// Room for answers there: `1MiB` to `1PiB`. Above it those go that were asked for least. Each answer
    /// takes some hundred bytes of memory beside `memory`.
    pub max_size: Spanned<ByteSize>,
}

impl Default for CacheStore {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(256).into(),
            disk: None,
        }
    }
}
