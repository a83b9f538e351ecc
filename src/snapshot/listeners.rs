//! Where clients come in, and how their connections are encrypted.

use std::sync::Arc;

use super::proxy_protocol::ProxyProtocol;
use crate::config::{self, Address, Config, Diagnostics, socket_path};
use crate::tls::{Automatic, Certificate, Surroundings, Tls, Verification};

/// Who may open a socket in the file system: its owner, and its group.
const MODE: u32 = 0o660;

/// All listeners for clients.
#[derive(Debug, Clone)]
pub struct Listeners(Arc<[Listener]>);

/// A listener for clients.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    /// Who may open it, if it is a socket in the file system.
    mode: u32,
    /// Who says where its connections come from, if anybody does.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How its connections are encrypted, if they are.
    pub tls: Option<Tls>,
    /// Whether clients may speak HTTP/2 on unencrypted connections.
    pub is_http2: bool,
    /// The port at which clients find the same encrypted, if they are only told so.
    pub redirects_to: Option<u16>,
}

impl Listeners {
    /// Compiles what is beside the addresses, which are checked with all others of the gateway.
    pub(super) fn compile(
        config: &Config,
        surroundings: Surroundings<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let listeners = config.server.listen.iter().filter_map(|section| {
            let tls = tls(section, surroundings, diagnostics);
            let proxy_protocol = ProxyProtocol::compile(section, diagnostics);
            let mode = mode(section, diagnostics);
            let address = section.address.parse().ok()?;
            let is_http2 = section.http2.as_deref().is_some_and(|it| *it);
            Some(Listener {
                address,
                is_http2: is_http2 && section.tls.is_none(),
                mode,
                proxy_protocol,
                tls,
                redirects_to: section.redirect_https.0,
            })
        });
        Self(listeners.collect())
    }

    /// Whether all of them only accept, and nobody has to know which one a connection came in at.
    pub fn are_alike(&self) -> bool {
        self.0.iter().all(|it| {
            it.tls.is_none()
                && it.redirects_to.is_none()
                && it.proxy_protocol.is_none()
                && !it.is_http2
        })
    }

    /// The one for connections to this address of the machine.
    pub fn at(&self, local: &Address) -> Option<&Listener> {
        self.0.iter().find(|it| it.takes(local))
    }

    /// Who may open the socket of a listener in the file system.
    pub fn mode_of(&self, address: &Address) -> u32 {
        let listener = self.0.iter().find(|it| it.address == *address);
        listener.map_or(MODE, |it| it.mode)
    }

    /// The certificates of all of them.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        let tls = self.0.iter().filter_map(|it| it.tls.as_ref());
        tls.flat_map(Tls::certificates)
    }

    /// Those that the gateway gets by itself.
    pub fn automatic(&self) -> impl Iterator<Item = &Arc<Automatic>> {
        self.certificates().filter_map(|it| it.automatic.as_ref())
    }

    /// How clients are verified by certificates of their own, at all of them.
    pub fn verifications(&self) -> impl Iterator<Item = &Arc<Verification>> {
        let tls = self.0.iter().filter_map(|it| it.tls.as_ref());
        tls.flat_map(Tls::verifications)
    }
}

impl Listener {
    /// Its own address, or any of the machine if it listens on all of the same kind. No two listeners
    /// can listen on one.
    fn takes(&self, local: &Address) -> bool {
        let (Address::Inet(ours), Address::Inet(local)) = (&self.address, local) else {
            return self.address == *local;
        };
        let is_at_all = ours.ip().is_unspecified() && ours.is_ipv4() == local.is_ipv4();
        ours.port() == local.port() && (is_at_all || ours.ip() == local.ip())
    }
}

fn mode(section: &config::Listener, diagnostics: &mut Diagnostics) -> u32 {
    let Some(mode) = &section.mode else {
        return MODE;
    };
    if socket_path(&section.address).is_none() {
        diagnostics
            .error(mode.span, "only a socket in the file system has a mode")
            .help("it belongs to an `address` such as `unix:/run/tollgate/http.sock`");
    }
    mode.0
}

fn tls(
    section: &config::Listener,
    surroundings: Surroundings<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Tls> {
    let tls = section.tls.as_ref()?;
    if section.redirect_https.0.is_some() {
        diagnostics
            .error(
                section.redirect_https.span,
                "what comes in here is encrypted already",
            )
            .help("`redirect_https` belongs to the listener without `tls`");
    }
    let is_http2 = section.http2.as_deref().is_none_or(|it| *it);
    Tls::compile(tls, is_http2, surroundings, diagnostics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_belongs_to_the_listener_at_its_address() {
        let listener = |address: &str| Listener {
            address: address.parse().unwrap(),
            mode: MODE,
            proxy_protocol: None,
            tls: None,
            is_http2: false,
            redirects_to: None,
        };
        let listeners = Listeners(Arc::new([
            listener("127.0.0.1:443"),
            listener("0.0.0.0:8443"),
            listener("[::]:8443"),
            listener("unix:/run/a.sock"),
        ]));
        let at = |local: &str| {
            let found = listeners.at(&local.parse().unwrap());
            found.map(|it| it.address.to_string())
        };
        for (local, found) in [
            ("127.0.0.1:443", Some("127.0.0.1:443")),
            ("127.0.0.2:443", None),
            ("10.0.0.1:8443", Some("0.0.0.0:8443")),
            ("[::1]:8443", Some("[::]:8443")),
            ("[::ffff:10.0.0.1]:8443", Some("[::]:8443")),
            ("10.0.0.1:80", None),
            ("unix:/run/a.sock", Some("unix:/run/a.sock")),
            ("unix:/run/b.sock", None),
        ] {
            assert_eq!(at(local).as_deref(), found, "{local}");
        }
    }
}
