//! Whom connections to backends trust, and whom backends are to trust: what all endpoints of a service have in
//! common.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use pingora::tls::pkey::{PKey, Private};
use pingora::tls::x509::X509;
use pingora::utils::tls::CertKey;

use crate::config::{Diagnostics, Protocol, ProxyProtocolVersion, Service, Spanned, UpstreamTls};

/// What a service says about connections to all its endpoints.
#[derive(Debug, Clone, Default)]
pub struct EndpointSettings {
    /// Authorities to trust instead of the system's.
    pub ca: Option<Arc<Box<[X509]>>>,
    /// The name that certificates must carry; the URL's host unless given.
    pub server_name: Option<Box<str>>,
    /// What they speak.
    pub protocol: Protocol,
    /// How backends are told which client a connection is for, if they are.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// Certificates are not verified.
    pub skip_verification: bool,
    /// The certificate that backends are shown, and its key.
    pub identity: Option<Arc<CertKey>>,
    /// Keeps connections of differently trusted services apart in the pool, whose own key holds no authorities,
    /// and of a certificate only its serial number.
    pub trust: u64,
}

impl EndpointSettings {
    /// Compiles them, or reports everything that is wrong with a service's `tls` section. Relative paths start
    /// from `base`.
    pub(super) fn compile(
        section: &Service,
        base: &Path,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let plain = Self {
            protocol: section.protocol.as_deref().copied().unwrap_or_default(),
            proxy_protocol: section.proxy_protocol.as_deref().copied(),
            ..Self::default()
        };
        let Some(tls) = &section.tls else {
            return Some(plain);
        };
        check(tls, diagnostics)?;
        let authorities = tls.ca.as_ref().map(|file| {
            let pem = read(file, base, diagnostics)?;
            Some((certificates(&pem, file, diagnostics)?, pem))
        });
        let identity = identity(tls, base, diagnostics);
        if matches!(authorities, Some(None)) || matches!(identity, Identity::Reported) {
            return None;
        }
        let (ca, pem_of_ca) = authorities.flatten().unzip();
        let (identity, pem_of_identity) = match identity {
            Identity::Sound(identity, pem) => (Some(identity), Some(pem)),
            Identity::None | Identity::Reported => (None, None),
        };
        let mut hasher = DefaultHasher::new();
        (&pem_of_ca, &pem_of_identity, &tls.server_name, &*tls.verify).hash(&mut hasher);
        Some(Self {
            ca: ca.map(|it| Arc::new(it.into())),
            server_name: tls.server_name.as_ref().map(|name| name.as_str().into()),
            skip_verification: !*tls.verify,
            identity: identity.map(Arc::new),
            trust: hasher.finish(),
            ..plain
        })
    }

    /// Whether connections are made in the same way.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.server_name == other.server_name
            && self.skip_verification == other.skip_verification
            && self.trust == other.trust
            && self.protocol == other.protocol
            && self.proxy_protocol == other.proxy_protocol
    }
}

/// The certificate that backends are shown.
enum Identity {
    None,
    /// With what was read.
    Sound(CertKey, [Vec<u8>; 2]),
    /// It is wrong, which has been reported.
    Reported,
}

/// `None` if verification would be other than what it looks like.
fn check(tls: &UpstreamTls, diagnostics: &mut Diagnostics) -> Option<()> {
    if !*tls.verify {
        diagnostics
            .warning(
                tls.verify.span,
                "certificates of this service are not verified",
            )
            .label("anyone on the way can pose as the backend")
            .help("trust its authority with `ca: path.pem` instead");
    }
    let Some(name) = tls.server_name.as_ref().filter(|name| name.is_empty()) else {
        return Some(());
    };
    diagnostics
        .error(
            name.span,
            "`server_name` is empty, which would switch verification off",
        )
        .help("leave it out to use the URL's host");
    None
}

fn identity(tls: &UpstreamTls, base: &Path, diagnostics: &mut Diagnostics) -> Identity {
    let (cert, key) = match (&tls.client_cert, &tls.client_key) {
        (None, None) => return Identity::None,
        (Some(cert), Some(key)) => (cert, key),
        (Some(one), None) | (None, Some(one)) => {
            let missing = match tls.client_cert {
                Some(_) => "client_key",
                None => "client_cert",
            };
            if !diagnostics.has_lost_key(missing) {
                diagnostics
                    .error(one.span, format!("`{missing}` is missing beside this"))
                    .help("a certificate is of use only with its key");
            }
            return Identity::Reported;
        }
    };
    let chain = read(cert, base, diagnostics)
        .and_then(|pem| Some((certificates(&pem, cert, diagnostics)?, pem)));
    let secret = read(key, base, diagnostics)
        .and_then(|pem| Some((private_key(&pem, key, diagnostics)?, pem)));
    let (Some((chain, pem)), Some((secret, pem_of_key))) = (chain, secret) else {
        return Identity::Reported;
    };
    let fits = chain[0].public_key().is_ok_and(|it| it.public_eq(&secret));
    if !fits {
        diagnostics
            .error(
                key.span,
                format!("the key in `{key}` is not that of the certificate"),
            )
            .related(cert.span, "of this one")
            .help(
                "the certificate itself comes first in its file, those that vouch for it behind it",
            );
        return Identity::Reported;
    }
    Identity::Sound(CertKey::new(chain, secret), [pem, pem_of_key])
}

fn read(file: &Spanned<String>, base: &Path, diagnostics: &mut Diagnostics) -> Option<Vec<u8>> {
    let read = std::fs::read(base.join(file.as_str()));
    read.map_err(|error| {
        diagnostics.error(file.span, format!("`{file}` can't be read: {error}"));
    })
    .ok()
}

/// At least one.
fn certificates(
    pem: &[u8],
    file: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<X509>> {
    let certificates = X509::stack_from_pem(pem).ok().filter(|it| !it.is_empty());
    if certificates.is_none() {
        diagnostics
            .error(file.span, format!("`{file}` holds no certificate"))
            .help("it must be a PEM file with `-----BEGIN CERTIFICATE-----`");
    }
    certificates
}

fn private_key(
    pem: &[u8],
    file: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<PKey<Private>> {
    // Without an answer the library would ask for a password at the terminal.
    let key = PKey::private_key_from_pem_callback(pem, |_| Ok(0)).ok();
    if key.is_some() {
        return key;
    }
    if String::from_utf8_lossy(pem).contains("ENCRYPTED") {
        diagnostics
            .error(file.span, format!("the key in `{file}` is encrypted"))
            .help("nobody is there to type its password: write it in clear with `openssl pkey -in FILE -out FILE`");
    } else {
        diagnostics
            .error(file.span, format!("`{file}` holds no private key"))
            .help("it must be a PEM file with `-----BEGIN PRIVATE KEY-----`");
    }
    None
}
