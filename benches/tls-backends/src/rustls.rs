//! rustls on ring, which the framework chooses.

use std::sync::Arc;

use pingora::listeners::tls::TlsSettings;
use pingora::tls::sign::CertifiedKey;
use pingora::tls::{
    ClientHello, CryptoProvider, ResolvesServerCert, RootCertStore, WebPkiClientVerifier,
    install_default_crypto_provider, load_ca_file_into_store, load_certs_and_key_files,
};

use crate::{Extra, OTHER, Pair};

type Failure = Box<dyn std::error::Error>;

pub fn settings(own: Pair, extra: Extra) -> Result<TlsSettings, Failure> {
    install_default_crypto_provider();
    let mut settings = TlsSettings::intermediate(&own.cert, &own.key)?;
    match extra {
        Extra::Nothing => {}
        Extra::Clients(ca) => {
            let mut authorities = RootCertStore::empty();
            load_ca_file_into_store(ca, &mut authorities)?;
            let verifier = WebPkiClientVerifier::builder(Arc::new(authorities)).build()?;
            settings.set_client_cert_verifier(verifier);
        }
        Extra::Other(other) => settings.set_cert_resolver(Arc::new(ByName { own, other })),
        Extra::Tls13 => return Err("rustls: the framework fixes the versions".into()),
    }
    Ok(settings)
}

struct ByName {
    own: Pair,
    other: Pair,
}

impl std::fmt::Debug for ByName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByName")
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_other = hello.server_name() == Some(OTHER);
        let pair = if is_other { &self.other } else { &self.own };
        let (certs, key) = load_certs_and_key_files(&pair.cert, &pair.key).ok()??;
        let key = CryptoProvider::get_default()?
            .key_provider
            .load_private_key(key)
            .ok()?;
        Some(Arc::new(CertifiedKey::new(certs, key)))
    }
}
