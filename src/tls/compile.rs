//! How connections are encrypted, from its section, or every reason why not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::Tls;
use super::certificate::Certificate;
use super::certificates::Certificates;
use super::channel::HTTP2;
use super::tickets::{TicketKeys, Tickets};
use crate::config::{Diagnostics, ListenerTls, Spanned, TlsVersion};

/// Longest time for a handshake.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(60);
/// The digest of how clients are verified, where they are not.
const NOBODY: [u8; 32] = [0; 32];

impl Tls {
    /// Compiles a listener's `tls` section, or reports everything that is wrong with it. Relative paths start
    /// from `base`.
    pub fn compile(
        section: &Spanned<ListenerTls>,
        is_http2: bool,
        base: &Path,
        keys: &Arc<TicketKeys>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let handshake_timeout = section.handshake_timeout.value.0;
        if handshake_timeout.is_zero() || handshake_timeout > LONGEST_HANDSHAKE {
            diagnostics
                .error(
                    section.handshake_timeout.span,
                    format!(
                        "a `handshake_timeout` of {} is out of range",
                        section.handshake_timeout.value
                    ),
                )
                .help("1ms to 1m; 10s is usual");
        }
        if section.certificates.0.is_empty() && !diagnostics.has_error_within(section.span) {
            diagnostics
                .error(section.span, "`certificates` is an empty list")
                .help("add `{ cert: FILE, key: FILE }`");
        }
        let mut provider = default_provider();
        // Whoever records a connection today must not read it once there are quantum computers.
        provider
            .kx_groups
            .sort_by_key(|group| group.name() != kx_group::X25519MLKEM768.name());
        let certificates = section.certificates.iter().filter_map(|files| {
            let certificate = Certificate::read(files, base, &provider, diagnostics);
            certificate.map(|certificate| (certificate, files.span))
        });
        let certificates: Vec<_> = certificates.collect();
        if certificates.len() < section.certificates.0.len() || certificates.is_empty() {
            return None;
        }
        let certificates = Certificates::new(certificates, section.strict_sni, diagnostics);
        let certificates = Arc::new(certificates);
        let versions: &[&SupportedProtocolVersion] = match *section.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider.into());
        let mut config = builder
            .with_protocol_versions(versions)
            .expect("every version has a cipher")
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        // What there is to remember is in tickets.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if section.session_tickets {
            config.ticketer = Arc::new(Tickets::new(keys.clone(), NOBODY));
        } else {
            config.send_tls13_tickets = 0;
        }
        let http2 = is_http2.then(|| HTTP2.to_vec());
        config.alpn_protocols = http2.into_iter().chain([b"http/1.1".to_vec()]).collect();
        Some(Self {
            config: config.into(),
            certificates,
            handshake_timeout,
        })
    }
}
