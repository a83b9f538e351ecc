//! From a snapshot to a running gateway: listeners, connections, background work, and the end.

mod background;
mod clients;
mod shutdown;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pingora::apps::http_app::HttpServer;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use pingora::services::listening::Service;
use pingora_proxy::http_proxy;

use self::background::{LimitPeriods, Resolution};
use self::clients::{Clients, OpenConnections};
use self::shutdown::Shutdown;
use crate::admin::{Health, Readiness};
use crate::proxy::{Gateway, MOST_ATTEMPTS};
use crate::snapshot::{Settings, Snapshot, State, Store};
use crate::telemetry::AccessLog;
use crate::upstream::resolve;

/// Bytes read from a client at once. Requests are small; each connection holds a buffer.
const READ_BUFFER: usize = 8 * 1024;
/// Bytes written to a client at once: a header and a small body go out together.
const WRITE_BUFFER: usize = 16 * 1024;

/// Why the gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error("can't listen on {address}: {source}{hint}", hint = hint(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No thread, no descriptor, no memory.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => " (is another process listening there?)",
        std::io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need CAP_NET_BIND_SERVICE; the systemd unit grants it)"
        }
        std::io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
        _ => "",
    }
}

/// Runs the gateway until it is told to end. Does not return once it serves.
///
/// # Errors
/// When it can't start; nothing was served then.
pub fn run(
    snapshot: Snapshot,
    state: State,
    access_log: Option<AccessLog>,
) -> Result<(), StartError> {
    let settings = snapshot.settings.clone();
    check_addresses(&settings)?;
    resolve_first(&snapshot)?;
    let snapshots = Arc::new(Store::new(snapshot));
    let access_log = access_log.map(Arc::new);
    let is_draining = Arc::new(AtomicBool::new(false));
    let open = Arc::new(OpenConnections::default());

    let conf = configuration(&settings);
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let gateway = Gateway::new(snapshots.clone(), access_log.clone(), is_draining.clone());
    let proxy = http_proxy(&server.configuration, gateway);
    let clients = Clients::new(proxy, snapshots.clone(), open.clone());
    let mut service = Service::new("clients".to_owned(), clients);
    for address in &settings.listen {
        let buffers = L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER);
        service.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(buffers));
    }
    server.add_service(service);
    if let Some(address) = settings.admin {
        let readiness = Readiness::new(settings.listen.clone(), is_draining.clone());
        let app = HttpServer::new_app(Health(Arc::new(readiness)));
        let mut health = Service::new("admin".to_owned(), app);
        health.threads = Some(1);
        health.add_tcp(&address.to_string());
        server.add_service(health);
    }
    server.add_service(background_service("resolution", Resolution(snapshots)));
    server.add_service(background_service("limit periods", LimitPeriods(state)));
    log::info!(
        "serving: listen={} admin={} threads={}",
        list(&settings.listen),
        settings
            .admin
            .map_or("off".to_owned(), |address| address.to_string()),
        settings.threads
    );
    server.run(RunArgs {
        shutdown_signal: Box::new(Shutdown {
            is_draining,
            open,
            access_log,
            grace: settings.shutdown_grace,
            deadline: settings.shutdown_deadline,
        }),
    });
    Ok(())
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn configuration(settings: &Settings) -> ServerConf {
    ServerConf {
        threads: settings.threads,
        // One worker has nobody to share work with, and a simpler scheduler.
        work_stealing: settings.threads > 1,
        upstream_keepalive_pool_size: settings.upstream_pool,
        max_retries: MOST_ATTEMPTS as usize,
        // The process ends itself as soon as the last connection has; these are only upper bounds.
        grace_period_seconds: Some(settings.shutdown_deadline.as_secs() + 5),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

/// The framework would go on without a listener that it can't have.
fn check_addresses(settings: &Settings) -> Result<(), StartError> {
    for address in settings.listen.iter().chain(&settings.admin) {
        TcpListener::bind(address).map_err(|source| StartError::Bind {
            address: *address,
            source,
        })?;
    }
    Ok(())
}

/// Names are looked up before the first request comes.
fn resolve_first(snapshot: &Snapshot) -> Result<(), StartError> {
    let endpoints = snapshot.endpoints();
    if endpoints.iter().any(|endpoint| !endpoint.is_resolved()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(resolve(&endpoints));
    }
    Ok(())
}
