//! One backend: its name, its addresses, and the prepared connection settings of each.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::SocketAddr as UnixAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use pingora::upstreams::peer::HttpPeer;

use super::balance::Cost;
use super::health::{Checks, Health};
use super::introduction::Introduction;
use super::timeouts::Timeouts;
use super::trust::EndpointSettings;
use super::url::BaseUrl;
use crate::config::{Protocol, ProxyProtocolVersion};
use crate::telemetry::{EndpointMeter, Meters, Outcomes};

/// How long an idle connection to a backend is kept. Below the keep-alive of common servers
/// (60 to 75 s), so that the gateway and not the server closes it.
const POOL_IDLE: Duration = Duration::from_secs(50);

/// Bytes of an answer that a backend may send over HTTP/2 before the client has taken them. They bound what the
/// gateway holds for a client that reads slowly.
const STREAM_WINDOW: u32 = 512 * 1024;

/// One backend of a service.
#[derive(Debug)]
pub struct Endpoint {
    url: BaseUrl,
    text: Box<str>,
    host: HeaderValue,
    /// The one address that it has, unless it goes by its name.
    address: Option<SocketAddr>,
    template: HttpPeer,
    proxy_protocol: Option<ProxyProtocolVersion>,
    /// One prepared peer an address; empty until the name is resolved.
    peers: ArcSwap<Vec<HttpPeer>>,
    /// Whether there are any.
    is_resolved: AtomicBool,
    /// The address that worked last.
    preferred: AtomicUsize,
    pub(super) health: Health,
    pub(super) checks: Checks,
    /// What it has to do, and how fast it is.
    pub(super) load: Cost,
    /// Where attempts at it are counted, once it belongs to a service.
    meter: OnceLock<EndpointMeter>,
}

impl Endpoint {
    /// The backend of a URL at an address that was found by a name.
    ///
    /// # Errors
    /// When the URL's host can't stand in a `Host` field.
    pub(super) fn discovered(
        url: BaseUrl,
        address: SocketAddr,
        settings: &EndpointSettings,
    ) -> Result<Self, String> {
        let mut endpoint = Self::new(url, settings)?;
        let standard_port = if endpoint.url.is_tls { 443 } else { 80 };
        let shown = match address.port() == standard_port {
            true if address.is_ipv6() => format!("[{}]", address.ip()),
            true => address.ip().to_string(),
            false => address.to_string(),
        };
        endpoint.text = format!("{}://{shown}", endpoint.url.scheme()).into();
        endpoint.url.port = address.port();
        endpoint.address = Some(address);
        endpoint.publish(&[address.ip()]);
        Ok(endpoint)
    }

    /// A backend. An address in the URL is usable at once, a name once it has been resolved.
    ///
    /// # Errors
    /// When the URL's host can't stand in a `Host` field.
    pub fn new(url: BaseUrl, settings: &EndpointSettings) -> Result<Self, String> {
        let host = HeaderValue::from_str(&url.authority)
            .map_err(|_| format!("`{}` can't be sent as a host", url.authority))?;
        let server_name = settings.server_name.as_deref().unwrap_or(&url.host);
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut template = HttpPeer::new(nowhere, url.is_tls, server_name.to_owned());
        template.group_key = settings.trust;
        template.options.idle_timeout = Some(POOL_IDLE);
        template.options.ca = settings.ca.clone();
        template.client_cert_key = settings.identity.clone();
        template.options.verify_cert = !settings.skip_verification;
        template.options.verify_hostname = !settings.skip_verification;
        let (newest, oldest) = match settings.protocol {
            Protocol::Http2 => (2, 2),
            Protocol::Auto if url.is_tls => (2, 1),
            Protocol::Auto | Protocol::Http1 => (1, 1),
        };
        template.options.set_http_version(newest, oldest);
        // One request at a time, as with HTTP/1.1: a backend that is late can be cut off, and a client that
        // reads slowly fills up the window of a connection, without harm to others.
        template.options.max_h2_streams = 1;
        template.options.h2_stream_window_size = Some(STREAM_WINDOW);
        template.options.h2_connection_window_size = Some(STREAM_WINDOW);
        if let Some(version) = settings.proxy_protocol {
            Introduction::of_ourselves(version).apply(&mut template);
        }
        let endpoint = Self {
            text: match &url.socket {
                Some(path) => format!("unix:{}", path.display()).into(),
                None => format!("{}://{}", url.scheme(), url.authority).into(),
            },
            proxy_protocol: settings.proxy_protocol,
            address: url
                .address()
                .map(|address| SocketAddr::new(address, url.port)),
            host,
            template,
            peers: ArcSwap::default(),
            is_resolved: AtomicBool::new(false),
            preferred: AtomicUsize::new(0),
            health: Health::default(),
            checks: Checks::default(),
            load: Cost::default(),
            meter: OnceLock::new(),
            url,
        };
        if let Some(address) = endpoint.address {
            endpoint.publish(&[address.ip()]);
        }
        if let Some(path) = &endpoint.url.socket {
            let place = UnixAddr::from_pathname(path).map_err(|error| error.to_string())?;
            let mut peer = endpoint.template.clone();
            peer._address = place.into();
            endpoint.peers.store(Arc::new(vec![peer]));
            endpoint.is_resolved.store(true, Ordering::Relaxed);
        }
        Ok(endpoint)
    }

    /// Whether connections to it are made just as connections to `other` are.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let (this, that) = (&self.template, &other.template);
        self.url == other.url
            && self.address == other.address
            && this.sni == that.sni
            && self.proxy_protocol == other.proxy_protocol
            && this.group_key == that.group_key
            && this.options.verify_cert == that.options.verify_cert
            && this.options.alpn == that.options.alpn
    }

    /// `scheme://host:port`, as logs and explanations show it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The value of `Host` for requests to it.
    pub fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// The path put before every forwarded path; empty for none.
    pub fn prefix(&self) -> &str {
        &self.url.prefix
    }

    /// The name to resolve, and the port; `None` for an endpoint that was given by its address or socket.
    pub fn name(&self) -> Option<(&str, u16)> {
        match (self.address, &self.url.socket) {
            (None, None) => Some((&self.url.host, self.url.port)),
            _ => None,
        }
    }

    /// The one address that it has, unless it goes by its name.
    pub(super) fn fixed_address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether that is its address.
    pub(super) fn stands_at(&self, address: SocketAddr) -> bool {
        self.address == Some(address)
    }

    /// Whether it is reached over TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.url.is_tls
    }

    /// The port.
    pub(super) fn port(&self) -> u16 {
        self.url.port
    }

    /// Whether there is an address to connect to.
    pub fn is_resolved(&self) -> bool {
        self.is_resolved.load(Ordering::Relaxed)
    }

    /// Attempts at it are counted as those at an endpoint of this service.
    pub(super) fn count_for(&self, service: &str, meters: &Meters) {
        self.meter
            .get_or_init(|| meters.endpoint(service, &self.text));
    }

    /// Counts an attempt that was answered with this status; 0 if it was not answered.
    pub(super) fn count(&self, status: u16) {
        if let Some(meter) = self.meter.get() {
            meter.count(status);
        }
    }

    /// How the attempts at it went so far, as far as they are counted for it alone.
    pub fn attempts(&self) -> Option<Outcomes> {
        let meter = self.meter.get().filter(|meter| meter.is_own())?;
        Some(meter.read())
    }

    /// Whether no other endpoint is counted with it.
    pub fn is_counted_alone(&self) -> bool {
        self.meter.get().is_some_and(EndpointMeter::is_own)
    }

    /// Makes `addresses` the ones to connect to.
    pub fn publish(&self, addresses: &[IpAddr]) {
        let peers = addresses.iter().map(|address| {
            let mut peer = self.template.clone();
            peer._address = pingora::protocols::l4::socket::SocketAddr::Inet(SocketAddr::new(
                *address,
                self.url.port,
            ));
            peer
        });
        self.peers.store(Arc::new(peers.collect()));
        self.is_resolved
            .store(!addresses.is_empty(), Ordering::Relaxed);
    }

    /// The addresses in use.
    pub fn addresses(&self) -> Vec<IpAddr> {
        use pingora::protocols::l4::socket::SocketAddr::Inet;
        let address = |peer: &HttpPeer| match &peer._address {
            Inet(address) => Some(address.ip()),
            _ => None,
        };
        self.peers.load().iter().filter_map(address).collect()
    }

    /// How to connect for one attempt, within `timeouts`; `None` while the name is not resolved. How
    /// long reads may take is supervised by the connection, which costs a request no timer.
    pub fn peer(&self, timeouts: &Timeouts, connect_within: Duration) -> Option<Box<HttpPeer>> {
        let peers = self.peers.load();
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut peer = Box::new(peers.get(preferred).or_else(|| peers.first())?.clone());
        peer.options.connection_timeout = Some(connect_within);
        peer.options.total_connection_timeout = Some(connect_within);
        peer.options.write_timeout = timeouts.idle;
        Some(peer)
    }

    /// What a backend is told of a connection for a client at `source`, who came in at `destination`, if it is
    /// told anything. Makes `peer` tell it.
    pub fn introduce(
        &self,
        peer: &mut HttpPeer,
        (source, destination): (SocketAddr, SocketAddr),
    ) -> Option<Introduction> {
        let introduction = Introduction::of_client(self.proxy_protocol?, source, destination);
        peer.group_key = self.template.group_key;
        introduction.apply(peer);
        Some(introduction)
    }

    /// Whether backends are told for whom connections are.
    pub fn is_introduced(&self) -> bool {
        self.proxy_protocol.is_some()
    }

    /// How to connect for a check, within so long; `None` while the name is not resolved.
    pub(super) fn peer_for_check(&self, within: Duration) -> Option<HttpPeer> {
        let peers = self.peers.load();
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut peer = peers.get(preferred).or_else(|| peers.first())?.clone();
        peer.options.connection_timeout = Some(within);
        peer.options.total_connection_timeout = Some(within);
        Some(peer)
    }

    /// After a failed connection: the next address goes first from now on.
    pub fn avoid_current_address(&self) {
        let count = self.peers.load().len();
        if count > 1 {
            let preferred = self.preferred.load(Ordering::Relaxed);
            self.preferred
                .store((preferred + 1) % count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Diagnostics;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(BaseUrl::parse(url).unwrap(), &EndpointSettings::default()).unwrap()
    }

    #[test]
    fn a_name_is_usable_once_resolved_and_an_address_at_once() {
        let timeouts = Timeouts::compile(None, &mut Diagnostics::default());
        assert!(endpoint("http://127.0.0.1:1").is_resolved());
        let named = endpoint("http://backend.example:1");
        assert!(named.peer(&timeouts, timeouts.connect).is_none());
        named.publish(&[IpAddr::from([10, 0, 0, 1])]);
        let peer = named.peer(&timeouts, timeouts.connect).unwrap();
        assert_eq!(peer._address.to_string(), "10.0.0.1:1");
        assert_eq!(peer.options.write_timeout, timeouts.idle);
    }

    #[test]
    fn a_failed_address_makes_room_for_the_next() {
        let timeouts = Timeouts::compile(None, &mut Diagnostics::default());
        let named = endpoint("http://backend.example:1");
        named.publish(&[IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]);
        let address = || {
            named
                .peer(&timeouts, timeouts.connect)
                .unwrap()
                ._address
                .to_string()
        };
        assert_eq!(address(), "10.0.0.1:1");
        named.avoid_current_address();
        assert_eq!(address(), "10.0.0.2:1");
        named.avoid_current_address();
        assert_eq!(address(), "10.0.0.1:1");
    }

    #[test]
    fn tls_endpoints_verify_the_name_unless_told_otherwise() {
        let verified = endpoint("https://api.example.com");
        assert_eq!(verified.template.sni, "api.example.com");
        assert!(verified.template.options.verify_cert && verified.template.options.verify_hostname);
        assert_eq!(verified.as_str(), "https://api.example.com");
    }
}
