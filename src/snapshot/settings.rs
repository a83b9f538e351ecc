//! The gateway's own settings, resolved: where it listens, how many threads it has, what it bears.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::cache_disk::CacheDisk;
use super::overload::OverloadRule;
use crate::config::{
    Address, ByteSize, Config, Diagnostics, Period, Span, Spanned, Threads, socket_path,
};

/// Fewest and most keys that rate limits count exactly.
const RATE_LIMIT_KEYS: std::ops::RangeInclusive<usize> = 1024..=1 << 28;
/// Bytes that kept answers may have together.
const CACHE_MEMORY: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;
/// The framework parses at most 256 fields; a few are its own.
const MOST_HEADERS: usize = 250;
/// The framework's own bound on a request header.
const LARGEST_HEADER: u64 = 1 << 20;
/// Longest time-out of clients.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);

/// The gateway's own settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses for clients.
    pub listen: Vec<Address>,
    /// The address for operators.
    pub admin: Option<SocketAddr>,
    /// What they prove themselves with.
    pub admin_token: Option<Box<str>>,
    /// Worker threads.
    pub threads: usize,
    /// The user that the process becomes.
    pub user: Option<Box<str>>,
    /// Idle connections to backends that are kept.
    pub upstream_pool: usize,
    /// Who is asked for the addresses of names; empty for the system's servers.
    pub nameservers: Vec<SocketAddr>,
    /// Open client connections at most.
    pub connections: usize,
    /// Bytes that kept answers may have together.
    pub cache_memory: u64,
    /// The folder that keeps answers beside the memory.
    pub cache_disk: Option<CacheDisk>,
    /// Requests under way at most.
    pub requests: Option<usize>,
    /// When requests are shed.
    pub overload: Option<OverloadRule>,
    /// What a request may be like.
    pub bounds: Bounds,
    /// How long clients may take.
    pub timeouts: ClientTimeouts,
    /// How long readiness fails before the gateway stops accepting.
    pub shutdown_grace: Duration,
    /// How long requests in flight may take to end.
    pub shutdown_deadline: Duration,
    /// Whether changed files are reloaded.
    pub watch_files: bool,
    /// How long each step of an upgrade may take.
    pub upgrade_timeout: Duration,
}

/// What a request may be like.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of all header fields.
    pub header_size: usize,
    /// Number of header fields.
    pub headers: usize,
    /// Bytes of the request target.
    pub uri: usize,
}

/// How long clients may take.
#[derive(Debug, Clone, Copy)]
pub struct ClientTimeouts {
    /// From the first to the last byte of a request's header.
    pub request_header: Duration,
    /// Between two reads of a request's body.
    pub request_body: Duration,
    /// Between two writes of a response.
    pub response: Duration,
    /// Between two requests of a connection.
    pub keepalive: Duration,
}

/// The number of keys to count exactly, within sound bounds.
pub(super) fn rate_limit_keys(config: &Config) -> usize {
    let keys = config.server.limits.rate_limit_keys.value;
    keys.clamp(*RATE_LIMIT_KEYS.start(), *RATE_LIMIT_KEYS.end())
}

impl Settings {
    /// The settings of a configuration. What is wrong is reported and replaced by something sound.
    pub(super) fn compile(config: &Config, base: &Path, diagnostics: &mut Diagnostics) -> Self {
        let server = &config.server;
        let (listen, admin) = addresses(config, diagnostics);
        warn_if_admin_is_shut(config, admin, diagnostics);
        let limits = &server.limits;
        let timeouts = &server.timeouts;
        let mut range = |number: &Spanned<usize>, name: &str, least: usize, most: usize| {
            within(number.value, least..=most, number.span, name, diagnostics)
        };
        let headers = range(&limits.headers, "headers", 1, MOST_HEADERS);
        let connections = range(&limits.connections, "connections", 1, 10_000_000);
        let requests = limits.requests.as_ref();
        let requests = requests.map(|number| range(number, "requests", 1, 10_000_000));
        let upstream_pool = range(&server.upstream_pool, "upstream_pool", 1, 1_000_000);
        range(
            &limits.rate_limit_keys,
            "rate_limit_keys",
            *RATE_LIMIT_KEYS.start(),
            *RATE_LIMIT_KEYS.end(),
        );
        let threads = match server.threads.value {
            Threads::Auto => std::thread::available_parallelism().map_or(1, usize::from),
            Threads::Count(count) => {
                within(count, 1..=1024, server.threads.span, "threads", diagnostics)
            }
        };
        let mut bytes = |size: &Spanned<crate::config::ByteSize>, name: &str, most: u64| {
            if !(256..=most).contains(&size.value.0) {
                diagnostics
                    .error(
                        size.span,
                        format!("`{name}` of {} is out of range", size.value),
                    )
                    .help(format!("256 bytes to {} KiB", most / 1024));
            }
            usize::try_from(size.value.0).unwrap_or(usize::MAX)
        };
        let bounds = Bounds {
            header_size: bytes(&limits.header_size, "header_size", LARGEST_HEADER),
            headers,
            uri: bytes(&limits.uri, "uri", LARGEST_HEADER),
        };
        let mut period = |period: &Spanned<Period>, name: &str| {
            let value = period.value.0;
            if value.is_zero() || value > LONGEST_TIMEOUT {
                diagnostics
                    .error(
                        period.span,
                        format!("`{name}` of {} is out of range", period.value),
                    )
                    .help(
                        "1ms to 1d: a client that may take for ever holds its connection for ever",
                    );
            }
            value
        };
        let timeouts = ClientTimeouts {
            request_header: period(&timeouts.request_header, "request_header"),
            request_body: period(&timeouts.request_body, "request_body"),
            response: period(&timeouts.response, "response"),
            keepalive: period(&timeouts.keepalive, "keepalive"),
        };
        let upgrade_timeout = period(&server.upgrade_timeout, "upgrade_timeout");
        let overload = OverloadRule::compile(&server.overload, diagnostics);
        Self {
            listen,
            admin,
            admin_token: config
                .admin
                .0
                .on()
                .and_then(|admin| admin.token())
                .map(Into::into),
            threads,
            user: server.user.as_ref().map(|user| user.as_str().into()),
            upstream_pool,
            nameservers: server.nameservers.iter().map(|it| it.0).collect(),
            connections,
            cache_memory: cache_memory(&server.cache.memory, diagnostics),
            cache_disk: server
                .cache
                .disk
                .as_ref()
                .map(|disk| CacheDisk::compile(disk, base, diagnostics)),
            requests,
            overload,
            bounds,
            timeouts,
            upgrade_timeout,
            shutdown_grace: server.shutdown.grace.value.0,
            shutdown_deadline: server.shutdown.deadline.value.0,
            watch_files: server.watch_files,
        }
    }
}

fn cache_memory(memory: &Spanned<ByteSize>, diagnostics: &mut Diagnostics) -> u64 {
    if !CACHE_MEMORY.contains(&memory.value.0) {
        diagnostics
            .error(memory.span, format!("`memory` of {memory} is out of range"))
            .help("1MiB to 1TiB");
    }
    memory.value.0
}

/// Beyond the loopback nothing but health checks is answered without a token.
fn warn_if_admin_is_shut(
    config: &Config,
    address: Option<SocketAddr>,
    diagnostics: &mut Diagnostics,
) {
    let (Some(admin), Some(address)) = (config.admin.0.on(), address) else {
        return;
    };
    if !address.ip().is_loopback() && admin.token().is_none() {
        diagnostics
            .warning(
                admin.listen.span,
                format!(
                    "on {address} only /healthz, /startupz and /readyz answer, since there is no token"
                ),
            )
            .help("add `token: ${TOLLGATE_ADMIN_TOKEN}` beside it, or listen on `127.0.0.1`");
    }
}

fn within(
    number: usize,
    range: std::ops::RangeInclusive<usize>,
    span: Span,
    name: &str,
    diagnostics: &mut Diagnostics,
) -> usize {
    if !range.contains(&number) {
        diagnostics
            .error(span, format!("`{name}` of {number} is out of range"))
            .help(format!("{} to {}", range.start(), range.end()));
    }
    number.clamp(*range.start(), *range.end())
}

/// Where clients and health checks come in: all apart.
fn addresses(config: &Config, diagnostics: &mut Diagnostics) -> (Vec<Address>, Option<SocketAddr>) {
    let listen = &config.server.listen;
    if listen.0.is_empty() {
        diagnostics
            .error(Span::default(), "`server.listen` is an empty list")
            .help("write an address such as `0.0.0.0:8080`");
    }
    let mut seen: HashMap<Address, Span> = HashMap::new();
    let mut address = |text: &str, span: Span| {
        let address = parse_address(text, span, diagnostics)?;
        if let Some(first) = seen.insert(address.clone(), span) {
            diagnostics
                .error(span, format!("`{address}` is listened on already"))
                .related(first, "first here")
                .help("give each listener an address of its own");
        }
        Some(address)
    };
    let admin_slot = config.admin.0.on();
    let mut clients = Vec::new();
    for listener in listen {
        let written = &listener.address;
        // In the short form the listener is its address.
        let is_short = written.span == Span::default();
        let span = if is_short {
            listener.span
        } else {
            written.span
        };
        clients.extend(address(written, span));
    }
    let admin = admin_slot.and_then(|admin| {
        let span = admin.listen.span;
        Some((address(&admin.listen, span)?, span))
    });
    let admin = admin.and_then(|(address, span)| match address {
        Address::Inet(address) => Some(address),
        Address::Unix(_) => {
            diagnostics
                .error(
                    span,
                    "operators are answered at an address of the network only",
                )
                .help("write an IP address and a port, such as `127.0.0.1:9900`");
            None
        }
    });
    (clients, admin)
}

fn parse_address(text: &str, span: Span, diagnostics: &mut Diagnostics) -> Option<Address> {
    if diagnostics.has_error_within(span) {
        return None;
    }
    if let Some(path) = socket_path(text) {
        let path = path.map_err(|reason| {
            diagnostics
                .error(span, reason)
                .help("write the whole path of a file, such as `unix:/run/tollgate/http.sock`");
        });
        return path.ok().map(|path| Address::Unix(path.to_owned()));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => return Some(address.into()),
        Ok(_) => {
            diagnostics
                .error(span, "nobody would know which port 0 turned out to be")
                .help("write a port, such as `8080`");
            return None;
        }
        Err(_) => {}
    }
    let help = if text.starts_with(':') && text[1..].parse::<u16>().is_ok() {
        format!("write `0.0.0.0{text}` for every address, or `127.0.0.1{text}`")
    } else if text.parse::<u16>().is_ok() {
        format!("write `0.0.0.0:{text}` for every address, or `127.0.0.1:{text}`")
    } else if text.parse::<std::net::IpAddr>().is_ok() {
        "a port is missing, such as `:8080`".to_owned()
    } else {
        "write an IP address and a port, such as `127.0.0.1:8080` or `[::1]:8080`".to_owned()
    };
    diagnostics
        .error(span, format!("`{text}` is not an address to listen on"))
        .help(help);
    None
}
