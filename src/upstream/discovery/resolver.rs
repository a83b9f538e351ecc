//! Questions to name servers: those of the system, or others that are configured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::time::timeout;

use super::name::Question;

/// A look-up that takes longer than this has failed.
const LONGEST_LOOKUP: Duration = Duration::from_secs(5);
/// Until a name server is asked again, or another one.
const TRY: Duration = Duration::from_secs(1);

/// Asks name servers. Made anew for each round of look-ups, so that changes of `/etc/resolv.conf` and
/// `/etc/hosts` are seen.
#[derive(Debug)]
pub struct Resolver(Result<TokioResolver, String>);

/// What a name stands for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) places: Vec<Place>,
    /// For how long that is so.
    pub(super) lifetime: Duration,
}

/// One place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// The host at which a service was found to be.
    pub(super) host: Option<Box<str>>,
    pub(super) weight: u16,
}

impl Resolver {
    /// Asks these servers; without any, the system's.
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self(resolver(servers))
    }

    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, String> {
        let resolver = self.0.as_ref().map_err(String::clone)?;
        let asked = async {
            match question {
                Question::Addresses(host, port) => addresses(resolver, host, *port).await,
                Question::Places(name) => places(resolver, name).await,
            }
        };
        match timeout(LONGEST_LOOKUP, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {LONGEST_LOOKUP:?}")),
        }
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let mut builder = match servers {
        [] => TokioResolver::builder_tokio().map_err(|error| error.to_string())?,
        servers => {
            let mut config = ResolverConfig::default();
            config.name_servers = servers.iter().map(name_server).collect();
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    // Names are asked for when their answers have expired, so a memory would only be in the way.
    options.cache_size = 0;
    options.timeout = TRY;
    // A machine may have names of both kinds and a way to one of them.
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    builder.build().map_err(|error| error.to_string())
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let connections = connections.into_iter().map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.collect())
}

async fn addresses(resolver: &TokioResolver, host: &str, port: u16) -> Result<Answer, String> {
    let found = resolver
        .lookup_ip(host)
        .await
        .map_err(|it| it.to_string())?;
    let places = found.iter().map(|address| Place {
        address: SocketAddr::new(address, port),
        host: None,
        weight: 1,
    });
    answer(places.collect(), found.valid_until())
}

async fn places(resolver: &TokioResolver, name: &str) -> Result<Answer, String> {
    let found = resolver
        .srv_lookup(name)
        .await
        .map_err(|it| it.to_string())?;
    let mut services: Vec<_> = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(service) => Some(service),
            _ => None,
        })
        .collect();
    // RFC 2782: only the places of the lowest priority are for use while they can be reached.
    let first = services.iter().map(|it| it.priority).min();
    services.retain(|it| Some(it.priority) == first);
    let mut places = Vec::with_capacity(services.len());
    let mut until = found.valid_until();
    for service in services {
        // A target of `.` says that there is no such service here.
        if service.target.is_root() {
            continue;
        }
        let target = service.target.to_utf8();
        let found = resolver.lookup_ip(service.target.clone()).await;
        let found = found.map_err(|error| format!("{target}: {error}"))?;
        until = until.min(found.valid_until());
        places.extend(found.iter().map(|address| Place {
            address: SocketAddr::new(address, service.port),
            host: Some(target.trim_end_matches('.').into()),
            weight: service.weight.max(1),
        }));
    }
    answer(places, until)
}

fn answer(places: Vec<Place>, until: Instant) -> Result<Answer, String> {
    if places.is_empty() {
        return Err("it has no address".to_owned());
    }
    Ok(Answer {
        places,
        lifetime: until.saturating_duration_since(Instant::now()),
    })
}
