//! The handshake by which an authority finds out whose a name is (ACME's TLS-ALPN-01, RFC 8737).

use std::sync::Arc;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use openssl::sha::sha256;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ClientHello;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// What the authority asks to speak (§6.2).
const PROTOCOL: &[u8] = b"acme-tls/1";

/// What authorities are shown that look for a proof, by the name that they look at.
#[derive(Debug, Default)]
pub struct TlsChallenges(ArcSwap<AHashMap<Box<str>, Arc<ServerConfig>>>);

/// A certificate that proves that a name is the gateway's, and its key, in PEM.
///
/// # Errors
/// Why it can't be made.
pub fn proof(name: &str, key_authorization: &str) -> Result<String, String> {
    let proof = || -> Result<String, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        let digest = sha256(key_authorization.as_bytes());
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
        Ok(key.serialize_pem() + &params.self_signed(&key)?.pem())
    };
    proof().map_err(|error| error.to_string())
}

impl TlsChallenges {
    /// From now on these are shown, each for a name; one that is damaged is not.
    pub fn replace<'p>(&self, proofs: impl Iterator<Item = (&'p str, &'p str)>) {
        let configs = proofs.filter_map(|(name, pem)| Some((name.into(), Arc::new(config(pem)?))));
        self.0.store(Arc::new(configs.collect()));
    }

    /// How to go on with a handshake that is nothing but a look for a proof.
    pub(super) fn answer(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut protocols = hello.alpn()?;
        let is_a_look = protocols.next() == Some(PROTOCOL) && protocols.next().is_none();
        if !is_a_look {
            return None;
        }
        self.0.load().get(hello.server_name()?).cloned()
    }
}

fn config(pem: &str) -> Option<ServerConfig> {
    let provider = default_provider();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    let key = provider.key_provider.load_private_key(key).ok()?;
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>();
    // Not looked into: nobody but an authority knows the extension, which is critical (§3).
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain.ok()?, key));
    let builder = ServerConfig::builder_with_provider(provider.into());
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    let mut config = builder
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    Some(config)
}
