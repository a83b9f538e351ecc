//! From a snapshot to a running gateway: listeners, connections, background work, and the end.

mod acme;
mod background;
mod certificates;
mod clients;
mod handover;
mod http2;
mod introduction;
mod key_sets;
mod listening;
mod open_connections;
mod operations;
mod pressure;
mod refusals;
mod reload;
mod shutdown;
mod sockets;
mod start_error;
mod systemd;
mod traces;
mod upgrade;
mod user;
mod watch;
mod websocket;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use pingora::services::listening::Service;
use pingora_proxy::http_proxy;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use self::acme::CertificateOrders;
use self::background::{HealthChecks, LimitPeriods, NameLookups, SharedLimits, TrafficReadings};
use self::certificates::Certificates;
use self::clients::Clients;
pub use self::handover::Predecessor;
use self::handover::{Inheritance, Step};
pub use self::key_sets::fetch_keys;
use self::key_sets::{KeyFetches, fetch_unknown};
use self::listening::Listening;
use self::open_connections::OpenConnections;
use self::operations::{Operations, Parts};
use self::pressure::Measurement;
use self::reload::Reloader;
use self::shutdown::Shutdown;
use self::sockets::Sockets;
pub use self::start_error::StartError;
use self::traces::SpanExports;
use self::upgrade::Estate;
use self::user::become_user;
use crate::admin::{Api, Configured, InForce, Readiness, Status, Traffic, commands};
use crate::cache::{self, Cache};
use crate::config::{Address, Loaded};
use crate::proxy::{Gateway, Pressure};
use crate::snapshot::{Settings, Snapshot, State, Store};
use crate::telemetry::{AccessLog, Metrics, Process, ProcessLog, RecentRequests};
use crate::upstream::{Backends, MOST_ATTEMPTS, discover};

/// Bytes read from a client at once. Requests are small; each connection holds a buffer.
const READ_BUFFER: usize = 8 * 1024;
/// Bytes written to a client at once: a header and a small body go out together.
const WRITE_BUFFER: usize = 16 * 1024;

/// What a process starts with.
pub struct Start {
    /// The configuration.
    pub loaded: Loaded,
    /// What it was compiled to.
    pub snapshot: Snapshot,
    /// The state it refers to.
    pub state: State,
    /// Where requests are logged.
    pub access_log: AccessLog,
    /// What the process says about itself.
    pub process_log: Arc<ProcessLog>,
    /// The process that is succeeded.
    pub predecessor: Option<Predecessor>,
}

/// Runs the gateway until it is told to end, or another process takes over. Does not return once it
/// serves.
///
/// # Errors
/// When it can't start; nothing was served then, and a predecessor has been told.
pub fn run(start: Start) -> Result<(), StartError> {
    let settings = start.snapshot.settings.clone();
    let sockets = match listen(&settings, &start) {
        Ok(sockets) => Arc::new(sockets),
        Err(error) => {
            if let Some(predecessor) = &start.predecessor {
                predecessor.fail(Step::Listeners, &error.to_string());
            }
            return Err(error);
        }
    };
    let backends = Arc::new(Backends::new(Arc::new(configuration(&settings))));
    if let Err(error) = prepare(&start, &backends) {
        if let Some(predecessor) = &start.predecessor {
            predecessor.fail(Step::Health, &error.to_string());
        }
        return Err(error);
    }
    let snapshots = Arc::new(Store::new(start.snapshot));
    let upgraded_from = start.predecessor.as_ref().map(Predecessor::pid);
    let state = &start.state;
    let traces = state.traces.clone();
    let access_log = Arc::new(start.access_log);
    let open = Arc::new(OpenConnections::default());
    let recent = Arc::new(RecentRequests::default());
    let metrics = Metrics::default()
        .with(Process)
        .with(open.clone())
        .with(state.meters.clone())
        .with(state.auth_results.clone())
        .with(state.key_sets.clone())
        .with(state.consumer_requests.clone())
        .with(state.limit_decisions.clone())
        .with(traces.clone())
        .with(state.handshakes.clone())
        .with(state.renewals.clone())
        .with(access_log.clone());
    let status = Status::new(&start.loaded.source.path, upgraded_from, metrics);
    let status = Arc::new(status);
    let is_draining = Arc::new(AtomicBool::new(false));
    let succession = Arc::new(Notify::new());
    let (asked, commands) = commands();
    let Loaded {
        config,
        source,
        files,
        ..
    } = start.loaded;
    let in_force = Arc::new(InForce::from_pointee(Configured {
        snapshot: snapshots.load(),
        config,
        source,
    }));
    let (gate, may_accept) = tokio::sync::watch::channel(false);

    let mut server = Server::new_with_opt_and_conf(None, configuration(&settings));
    server.bootstrap();
    let (pressure, lateness) = (Arc::new(Pressure::default()), Arc::default());
    let gateway = Gateway::new(
        snapshots.clone(),
        (access_log.clone(), recent.clone()),
        is_draining.clone(),
        pressure.clone(),
        backends.clone(),
    );
    let proxy = http_proxy(&server.configuration, gateway);
    let clients = Clients::new(
        proxy,
        snapshots.clone(),
        open.clone(),
        pressure.clone(),
        state.handshakes.clone(),
    );
    let service = Service::new("clients".to_owned(), clients.clone());
    let (service, sign) = Listening::new(service, &settings.listen, &sockets, may_accept.clone())?;
    server.add_service(service);
    let mut signs = vec![sign];
    if let Some(address) = settings.admin {
        let traffic = Arc::new(Traffic::default());
        let readings = TrafficReadings {
            snapshots: snapshots.clone(),
            traffic: traffic.clone(),
            recent: recent.clone(),
        };
        server.add_service(background_service("traffic readings", readings));
        let app = Api {
            readiness: Readiness::new(settings.listen, is_draining.clone()),
            status: status.clone(),
            snapshots: snapshots.clone(),
            in_force: in_force.clone(),
            limits: start.state.limits.clone(),
            pressure: pressure.clone(),
            traffic,
            recent,
            process_log: start.process_log,
            commands: asked,
            is_loopback: address.ip().is_loopback(),
        };
        let mut service = Service::new("admin".to_owned(), app);
        service.threads = Some(1);
        let (service, sign) = Listening::new(service, &[address.into()], &sockets, may_accept)?;
        server.add_service(service);
        signs.push(sign);
    }
    let fetches = KeyFetches {
        sets: start.state.key_sets.clone(),
        backends: backends.clone(),
    };
    server.add_service(background_service("key sets", fetches));
    let lookups = NameLookups(snapshots.clone());
    server.add_service(background_service("name lookups", lookups));
    let checks = HealthChecks(snapshots.clone());
    server.add_service(background_service("health checks", checks));
    let measurement = Measurement {
        lateness: Arc::clone(&lateness),
        pressure,
        snapshots: snapshots.clone(),
    };
    server.add_service(background_service("pressure", measurement));
    let shared = SharedLimits {
        snapshots: snapshots.clone(),
        state: start.state.clone(),
    };
    server.add_service(background_service("shared limits", shared));
    let exports = SpanExports {
        snapshots: snapshots.clone(),
        traces: traces.clone(),
        backends: backends.clone(),
    };
    server.add_service(background_service("span exports", exports));
    let periods = LimitPeriods(start.state.clone());
    server.add_service(background_service("limit periods", periods));
    server.add_service(background_service(
        "certificates",
        Certificates(snapshots.clone()),
    ));
    let orders = CertificateOrders::new(snapshots.clone(), state, &backends, is_draining.clone());
    server.add_service(background_service("certificate orders", orders));
    let operations = Operations::new(Parts {
        estate: Estate {
            sockets: sockets.clone(),
            ticket_keys: start.state.ticket_keys.clone(),
            snapshots: snapshots.clone(),
        },
        clients,
        signs,
        gate,
        predecessor: start.predecessor,
        reloader: Reloader::new(
            in_force,
            files,
            start.state,
            snapshots.clone(),
            status.clone(),
            backends,
            access_log.clone(),
        ),
        commands,
        access_log: access_log.clone(),
        snapshots: snapshots.clone(),
        status: status.clone(),
        is_draining: is_draining.clone(),
        succession: succession.clone(),
        lateness,
    });
    server.add_service(background_service("operations", operations));
    server.run(RunArgs {
        shutdown_signal: Box::new(Shutdown {
            is_draining,
            open,
            access_log,
            traces,
            snapshots,
            status,
            sockets,
            succession,
        }),
    });
    Ok(())
}

/// The listening sockets: those of the predecessor, if there is one, and new ones. From then on nothing
/// needs a right that the configured user does not have.
fn listen(settings: &Settings, start: &Start) -> Result<Sockets, StartError> {
    let predecessor = start.predecessor.as_ref();
    let inheritance = match predecessor {
        Some(predecessor) => {
            predecessor.done(Step::Configuration)?;
            predecessor.receive_inheritance(settings.upgrade_timeout, &start.state.ticket_keys)?
        }
        None => Inheritance::default(),
    };
    for by_hand in inheritance.by_hand {
        let services = start.snapshot.services();
        if let Some(service) = services.iter().find(|it| it.name == by_hand.service) {
            service.take_over(by_hand);
        }
    }
    let admin = settings.admin.map(Address::from);
    let addresses = settings.listen.iter().cloned().chain(admin);
    let listeners = &start.snapshot.listeners;
    let addresses = addresses.map(|address| {
        let mode = listeners.mode_of(&address);
        (address, mode)
    });
    let sockets = Sockets::open(addresses, inheritance.sockets)?;
    if let Some(name) = &settings.user {
        let disk = settings.cache_disk.as_ref().map(|disk| &*disk.path);
        if let Some(disk) = disk {
            cache::make_folder(disk).map_err(|source| StartError::CacheDisk {
                path: disk.to_owned(),
                source,
            })?;
        }
        let sockets = settings.listen.iter().filter_map(Address::path);
        let log = start.loaded.config.log.file();
        let own = log.into_iter().chain(disk).chain(sockets);
        become_user(name, own).map_err(|source| StartError::User {
            name: name.clone(),
            source,
        })?;
    }
    if let Some(predecessor) = predecessor {
        predecessor.done(Step::Listeners)?;
    }
    Ok(sockets)
}

/// Has answers kept on disk, if they are to be.
fn keep_on_disk(cache: &'static Cache, settings: &Settings) -> Result<(), StartError> {
    let Some(disk) = &settings.cache_disk else {
        return Ok(());
    };
    let opened = cache.store.open_disk(&disk.path, disk.max_size);
    opened.map_err(|source| StartError::CacheDisk {
        path: disk.path.clone(),
        source,
    })
}

fn list(addresses: &[Address]) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// Workers that one loop keeps busy which accepts connections, if each brings one short request: to accept it is
/// about 3 % of what there is to do about it (docs/listeners.md).
const WORKERS_AN_ACCEPT_LOOP: usize = 16;

fn configuration(settings: &Settings) -> ServerConf {
    ServerConf {
        threads: settings.threads,
        listener_tasks_per_fd: settings.threads.div_ceil(WORKERS_AN_ACCEPT_LOOP),
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

/// Names are looked up before the first request comes, and from now on no signal that is meant for
/// a process that serves ends one that does not yet.
fn prepare(start: &Start, backends: &Backends) -> Result<(), StartError> {
    if start.snapshot.needs_exchanges() {
        backends.prepare();
    }
    if let Some(cache) = start.snapshot.cache {
        keep_on_disk(cache, &start.snapshot.settings)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for kind in [
            SignalKind::hangup(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ] {
            drop(signal(kind)?);
        }
        let snapshot = &start.snapshot;
        let lookups = discover(snapshot.services(), || snapshot.resolver());
        let (_, unknown) = tokio::join!(lookups, fetch_unknown(&start.state.key_sets, backends));
        match unknown.first() {
            Some(set) if start.predecessor.is_some() => {
                Err(StartError::Keys(set.source().place.to_string()))
            }
            _ => Ok(()),
        }
    })
}
