//! Connections to the store, however its servers are arranged.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ErrorKind,
    IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult,
    ServerErrorKind, TlsCertificates, TlsMode, Value,
};

use super::address::Address;
use super::settings::{Login, Settings, Tls, Topology};

/// Commands that wait for their turn on a connection.
const PIPELINE: usize = 4096;
/// Sentinels and clusters ask several servers, of which some may be gone, before they connect.
const SEARCH: Duration = Duration::from_secs(5);
/// What a cluster's own repetitions wait between them, in milliseconds.
const CLUSTER_WAITS: (u64, u64) = (1, 20);
/// How often a cluster may send a command elsewhere. A slot that moves while its keys do may take three:
/// its new owner is asked, the old one says it has moved, and a third does not know yet. The deadline holds anyway.
const REDIRECTIONS: u32 = 5;

/// Makes connections.
pub(super) enum Connector {
    Single(Box<Client>),
    Sentinel(Box<SentinelClient>),
    Cluster(Box<ClusterClient>),
}

/// A connection that many requests use at once.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connector {
    /// Prepares connections; nothing is connected yet.
    pub(super) fn new(settings: &Settings) -> RedisResult<Self> {
        // Whoever else has chosen one has chosen well.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        match &settings.topology {
            Topology::Single { address, database } => {
                let info = location(address)
                    .into_connection_info()?
                    .set_tcp_settings(tcp(settings))
                    .set_redis_settings(login(&settings.login, *database));
                Ok(Self::Single(Box::new(match address.has_tls {
                    true => Client::build_with_tls(info, certificates(&settings.tls))?,
                    false => Client::open(info)?,
                })))
            }
            Topology::Sentinel { .. } => sentinel(settings),
            Topology::Cluster { nodes } => cluster(settings, nodes),
        }
    }

    /// Connects, and logs in.
    pub(super) async fn connect(&mut self, settings: &Settings) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.command_timeout))
            .set_pipeline_buffer_size(PIPELINE);
        let connecting = async {
            Ok(match self {
                Self::Single(client) => Connection::One(
                    client
                        .get_multiplexed_async_connection_with_config(&config)
                        .await?,
                ),
                Self::Sentinel(client) => {
                    Connection::One(client.get_async_connection_with_config(&config).await?)
                }
                Self::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
            })
        };
        match tokio::time::timeout(settings.connect_timeout + SEARCH, connecting).await {
            Ok(connection) => connection,
            Err(_) => Err(too_slow()),
        }
    }
}

impl Connection {
    /// Sends a command and waits for its answer, at most so long.
    pub(super) async fn ask(&self, command: &Cmd, within: Duration) -> RedisResult<Value> {
        let mut connection = self.clone();
        let asking = async {
            match &mut connection {
                Self::One(connection) => connection.req_packed_command(command).await,
                Self::Cluster(connection) => connection.req_packed_command(command).await,
            }
        };
        match tokio::time::timeout(within, asking).await {
            Ok(answer) => answer?.extract_error(),
            Err(_) => Err(too_slow()),
        }
    }

    /// Which server of a cluster has which slots, as it answers itself; nothing without a cluster.
    pub(super) async fn slots(&self, within: Duration) -> RedisResult<Option<Value>> {
        match self {
            Self::One(_) => Ok(None),
            Self::Cluster(_) => {
                let question = redis::cmd("CLUSTER").arg("SLOTS").to_owned();
                self.ask(&question, within).await.map(Some)
            }
        }
    }
}

/// Whether the server does not know the script.
pub(super) fn is_script_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether nothing good will come of this connection any more.
pub(super) fn is_connection_lost(error: &RedisError) -> bool {
    let is_replica = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
    !error.is_timeout() && error.is_unrecoverable_error() || is_replica
}

fn too_slow() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn location(address: &Address) -> ConnectionAddr {
    let (host, port) = (address.host.to_string(), address.port);
    match address.has_tls {
        false => ConnectionAddr::Tcp(host, port),
        true => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    }
}

fn tcp(settings: &Settings) -> TcpSettings {
    // A server that is gone without a word is noticed by the answers that do not come; this ends the
    // connection that waits for them.
    let patience = settings.connect_timeout + 10 * settings.command_timeout;
    TcpSettings::default()
        .set_nodelay(true)
        .set_user_timeout(patience)
}

fn login(login: &Login, database: u32) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_db(i64::from(database))
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("tollgate", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &login.username {
        info = info.set_username(&**username);
    }
    if let Some(password) = &login.password {
        info = info.set_password(&**password);
    }
    info
}

fn certificates(tls: &Tls) -> TlsCertificates {
    let bytes = |pem: &str| pem.as_bytes().to_vec();
    TlsCertificates {
        client_tls: tls
            .identity
            .as_ref()
            .map(|(certificate, key)| ClientTlsConfig {
                client_cert: bytes(certificate),
                client_key: bytes(key),
            }),
        root_cert: tls.authorities.as_deref().map(bytes),
    }
}

fn sentinel(settings: &Settings) -> RedisResult<Connector> {
    let Topology::Sentinel {
        sentinels,
        master,
        database,
        login,
    } = &settings.topology
    else {
        return Err((ErrorKind::Client, "no sentinels").into());
    };
    let addresses: Vec<_> = sentinels.iter().map(location).collect();
    let mut builder = SentinelClientBuilder::new(addresses, &**master, SentinelServerType::Master)?
        .set_client_to_sentinel_tcp_settings(tcp(settings))
        .set_client_to_redis_tcp_settings(tcp(settings))
        .set_client_to_redis_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_db(i64::from(*database));
    if let Some(username) = &login.username {
        builder = builder.set_client_to_sentinel_username(&**username);
    }
    if let Some(password) = &login.password {
        builder = builder.set_client_to_sentinel_password(&**password);
    }
    if let Some(username) = &settings.login.username {
        builder = builder.set_client_to_redis_username(&**username);
    }
    if let Some(password) = &settings.login.password {
        builder = builder.set_client_to_redis_password(&**password);
    }
    if sentinels[0].has_tls {
        builder = builder
            .set_client_to_sentinel_certificates(certificates(&settings.tls))
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates(&settings.tls));
    }
    Ok(Connector::Sentinel(Box::new(builder.build()?)))
}

fn cluster(settings: &Settings, nodes: &[Address]) -> RedisResult<Connector> {
    let nodes: Vec<_> = nodes
        .iter()
        .map(|node| location(node).into_connection_info())
        .collect::<RedisResult<_>>()?;
    let (shortest, longest) = CLUSTER_WAITS;
    let has_tls = settings.topology.first().has_tls;
    let mut builder = ClusterClient::builder(nodes)
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(settings.connect_timeout)
        .response_timeout(settings.command_timeout)
        .overall_response_timeout(Some(2 * settings.command_timeout))
        .retries(REDIRECTIONS)
        .min_retry_wait(shortest)
        .max_retry_wait(longest)
        .tcp_settings(tcp(settings));
    if let Some(username) = &settings.login.username {
        builder = builder.username(username);
    }
    if let Some(password) = &settings.login.password {
        builder = builder.password(password);
    }
    if has_tls {
        builder = builder.certs(certificates(&settings.tls));
    }
    Ok(Connector::Cluster(Box::new(builder.build()?)))
}
