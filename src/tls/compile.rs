//! How connections are encrypted, from its section, or every reason why not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::Tls;
use super::automatic::Automatic;
use super::certificate::Certificate;
use super::certificates::Certificates;
use super::challenge::TlsChallenges;
use super::channel::HTTP2;
use super::preference::Preference;
use super::tickets::{TicketKeys, Tickets};
use super::verification::{NOBODY, Verification};
use super::verifications::Verifications;
use crate::config::{CipherSuite, Diagnostics, ListenerTls, Span, Spanned, TlsVersion};

/// Longest time for a handshake.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(60);

/// What a listener's encryption shares with others.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'s> {
    /// Where relative paths start from.
    pub base: &'s Path,
    /// Where certificates are kept that the gateway gets by itself, if it gets any.
    pub automatic: Option<&'s Path>,
    /// What clients take up earlier sessions by.
    pub ticket_keys: &'s Arc<TicketKeys>,
    /// What authorities are shown.
    pub challenges: &'s Arc<TlsChallenges>,
}

impl Tls {
    /// Compiles a listener's `tls` section, or reports everything that is wrong with it.
    pub fn compile(
        section: &Spanned<ListenerTls>,
        is_http2: bool,
        surroundings: Surroundings<'_>,
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
        let wanted = section.certificates.0.len() + section.acme.0.len();
        if wanted == 0 && !diagnostics.has_error_within(section.span) {
            diagnostics
                .error(section.span, "`tls` has no certificate")
                .help("add `certificates: { cert: FILE, key: FILE }`, or `acme: NAME`");
        }
        let mut provider = default_provider();
        // Whoever records a connection today must not read it once there are quantum computers.
        provider
            .kx_groups
            .sort_by_key(|group| group.name() != kx_group::X25519MLKEM768.name());
        let certificates = section.certificates.iter().filter_map(|files| {
            let certificate = Certificate::read(files, surroundings.base, &provider, diagnostics);
            certificate.map(|certificate| (certificate, files.span))
        });
        let mut certificates: Vec<_> = certificates.collect();
        certificates.extend(automatic(
            section,
            surroundings.automatic,
            &provider,
            diagnostics,
        ));
        if certificates.len() < wanted || certificates.is_empty() {
            return None;
        }
        let certificates = Certificates::new(certificates, section.strict_sni, diagnostics);
        let certificates = Arc::new(certificates);
        if !section.cipher_suites.is_empty() {
            let known = std::mem::take(&mut provider.cipher_suites);
            let find = |written: &Spanned<CipherSuite>| {
                let suite = suite(written.value);
                known.iter().find(|it| it.suite() == suite).copied()
            };
            provider.cipher_suites = section.cipher_suites.iter().filter_map(find).collect();
        }
        let provider = Arc::new(provider);
        let clients = &section.client_certificates;
        let verifications = Verifications::compile(
            clients,
            &certificates,
            surroundings.base,
            &provider,
            diagnostics,
        );
        let is_negotiable = section.cipher_suites.is_empty();
        let assemble = |verification: Option<&Verification>| {
            Preference::new(&provider, is_negotiable, |provider| {
                assemble(
                    section,
                    is_http2,
                    provider,
                    surroundings.ticket_keys,
                    &certificates,
                    verification,
                )
            })
        };
        let Some(config) = assemble(None) else {
            diagnostics
                .error(section.cipher_suites[0].span, "no cipher here is one of TLS 1.3")
                .help("those of TLS 1.3 have no `WITH` in their names, such as `TLS_AES_256_GCM_SHA384`");
            return None;
        };
        let verifications = verifications?;
        let verifying = verifications.iter().map(|it| assemble(Some(it)));
        Some(Self {
            verifying: verifying.collect::<Option<_>>()?,
            verifications: verifications.into(),
            config,
            certificates,
            challenges: surroundings.challenges.clone(),
            handshake_timeout,
        })
    }
}

/// The certificates that the gateway gets by itself, or what stands in their place; each with where it is
/// written.
fn automatic(
    section: &ListenerTls,
    folder: Option<&Path>,
    provider: &CryptoProvider,
    diagnostics: &mut Diagnostics,
) -> Vec<(Certificate, Span)> {
    let Some(folder) = folder else {
        if let Some(first) = section.acme.0.first() {
            diagnostics
                .error(
                    first.span,
                    "`acme` here without an `acme` section that says from where",
                )
                .help("add `acme: { accept_terms: true, contact: MAIL }` at the top");
        }
        return Vec::new();
    };
    let certificates = section.acme.iter().filter_map(|names| {
        let automatic = Automatic::compile(names, folder, diagnostics)?;
        Some((automatic.read(provider)?, names.span))
    });
    certificates.collect()
}

/// What connections are encrypted by on which clients are verified in one way; `None` if there is no cipher for
/// one of the versions.
fn assemble(
    section: &ListenerTls,
    is_http2: bool,
    provider: &Arc<CryptoProvider>,
    keys: &Arc<TicketKeys>,
    certificates: &Arc<Certificates>,
    verification: Option<&Verification>,
) -> Option<Arc<ServerConfig>> {
    let versions: &[&SupportedProtocolVersion] = match *section.min_version {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions).ok()?;
    let builder = match verification {
        None => builder.with_no_client_auth(),
        Some(it) => builder.with_client_cert_verifier(it.verifier.clone()),
    };
    let mut config = builder.with_cert_resolver(certificates.clone());
    config.ignore_client_order = true;
    // What there is to remember is in tickets.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if section.session_tickets {
        let scope = verification.map_or(NOBODY, |it| it.scope);
        config.ticketer = Arc::new(Tickets::new(keys.clone(), scope));
    } else {
        config.send_tls13_tickets = 0;
    }
    let http2 = is_http2.then(|| HTTP2.to_vec());
    config.alpn_protocols = http2.into_iter().chain([b"http/1.1".to_vec()]).collect();
    Some(config.into())
}

fn suite(written: CipherSuite) -> rustls::CipherSuite {
    use rustls::CipherSuite as Iana;
    match written {
        CipherSuite::Aes256 => Iana::TLS13_AES_256_GCM_SHA384,
        CipherSuite::Aes128 => Iana::TLS13_AES_128_GCM_SHA256,
        CipherSuite::ChaCha20 => Iana::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::EcdsaAes256 => Iana::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaAes128 => Iana::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaChaCha20 => Iana::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaAes256 => Iana::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaAes128 => Iana::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaChaCha20 => Iana::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}
