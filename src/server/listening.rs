//! A service of the framework that listens on our own sockets, and not before it may.

use std::fs::Permissions;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::listening::Service;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::sockets::Sockets;
use super::{READ_BUFFER, StartError, WRITE_BUFFER};
use crate::config::Address;

/// A service and the sockets it will listen on.
pub(super) struct Listening<A> {
    service: Service<A>,
    sockets: Vec<(String, OwnedFd)>,
    gate: watch::Receiver<bool>,
    runtime: Option<oneshot::Sender<Handle>>,
    accepting: Option<oneshot::Sender<()>>,
}

/// What can be known of a service that starts.
pub(super) struct Signs {
    /// Its runtime, as soon as it has one.
    pub(super) runtime: oneshot::Receiver<Handle>,
    /// Its listeners accept. Closed without a word if they can't.
    pub(super) accepting: oneshot::Receiver<()>,
}

impl<A> Listening<A> {
    /// A service that listens on copies of `addresses`' sockets as soon as the gate opens.
    pub(super) fn new(
        mut service: Service<A>,
        addresses: &[Address],
        sockets: &Sockets,
        gate: watch::Receiver<bool>,
    ) -> Result<(Self, Signs), StartError> {
        let mut copies = Vec::with_capacity(addresses.len());
        for address in addresses {
            let buffers = L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER);
            let (socket, mode) = sockets.copy(address)?;
            let (name, endpoint) = match address {
                Address::Inet(address) => {
                    let name = address.to_string();
                    (name.clone(), ListenerConfig::tcp(name))
                }
                Address::Unix(path) => {
                    let name = path.display().to_string();
                    let mode = Permissions::from_mode(mode);
                    (name.clone(), ListenerConfig::uds(name).permissions(mode))
                }
            };
            service
                .endpoints()
                .add_listener(endpoint.l4_buffer(buffers));
            copies.push((name, socket));
        }
        let (runtime, has_runtime) = oneshot::channel();
        let (accepting, is_accepting) = oneshot::channel();
        let listening = Self {
            service,
            sockets: copies,
            gate,
            runtime: Some(runtime),
            accepting: Some(accepting),
        };
        let signs = Signs {
            runtime: has_runtime,
            accepting: is_accepting,
        };
        Ok((listening, signs))
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> pingora::services::Service for Listening<A> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if let Some(runtime) = self.runtime.take() {
            let _ = runtime.send(Handle::current());
        }
        tokio::select! {
            opened = self.gate.wait_for(|is_open| *is_open) => if opened.is_err() { return },
            ended = shutdown.wait_for(|is_ending| *is_ending) => { let _ = ended; return },
        }
        if let Some(fds) = &fds {
            let mut table = fds.lock();
            for (address, socket) in self.sockets.drain(..) {
                table.add(address, socket.into_raw_fd());
            }
        }
        let accepting = self.accepting.take();
        let mut serving = self.service.start_service(fds, shutdown, listeners_per_fd);
        // With its sockets given, the framework has nothing to wait for until all its accept loops
        // run: it waits for their end. A listener that can't be had is a panic before that.
        let is_serving = futures_util::poll!(serving.as_mut()).is_pending();
        if let Some(accepting) = accepting
            && is_serving
        {
            let _ = accepting.send(());
        }
        if is_serving {
            serving.await;
        }
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        self.service.listen_addresses()
    }
}
