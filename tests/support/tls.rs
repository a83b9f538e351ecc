//! Certificates of an authority of their own; backends and clients that speak TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::ssl::{
    AlpnError, Ssl, SslAcceptor, SslAcceptorBuilder, SslMethod, SslVerifyMode, select_next_proto,
};
use openssl::x509::X509;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, PKCS_RSA_SHA256, RevokedCertParams, SerialNumber,
};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Who signs certificates. Only who is told trusts it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// Who takes connections by a certificate.
#[derive(Clone)]
pub struct Secure(SslAcceptor);

impl Authority {
    pub fn new() -> Self {
        Self::called("test authority")
    }

    /// One that is called so.
    pub fn called(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs a certificate for a name or an address; returns it and its key.
    pub fn sign(&self, name: &str) -> (String, String) {
        self.sign_with(&[name], &KeyPair::generate().unwrap(), |_| {})
    }

    /// Signs a certificate for several names, the first of which it is called by.
    pub fn sign_with(
        &self,
        names: &[&str],
        key: &KeyPair,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let all: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(all).unwrap();
        let name = names.first().copied().unwrap_or("nobody");
        params.distinguished_name.push(DnType::CommonName, name);
        edit(&mut params);
        let certificate = params.signed_by(key, &self.issuer).unwrap().pem();
        (certificate, key.serialize_pem())
    }

    /// Writes a certificate for these names and its key, as `NAME.pem` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str, names: &[&str]) {
        let pair = self.sign_with(names, &KeyPair::generate().unwrap(), |_| {});
        write_pair(folder, name, &pair);
    }

    /// Writes its own certificate and key, as `ca.pem` and `ca.key`.
    pub fn write_own(&self, folder: &Path) {
        let pair = (self.pem.clone(), self.issuer.key().serialize_pem());
        write_pair(folder, "ca", &pair);
    }

    /// A list of revoked certificates that is true until then, PEM.
    pub fn revoke(&self, certificates: &[&str], until: SystemTime) -> String {
        let revoked = certificates.iter().map(|pem| {
            let certificate = X509::from_pem(pem.as_bytes()).unwrap();
            let serial = certificate.serial_number().to_bn().unwrap().to_vec();
            RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: until.into(),
                reason_code: None,
                invalidity_date: None,
            }
        });
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let list = CertificateRevocationListParams {
            this_update: (until - Duration::from_secs(100 * 86_400)).into(),
            next_update: until.into(),
            crl_number: NUMBER.fetch_add(1, Ordering::Relaxed).into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A client that trusts this authority only and speaks these protocols.
    pub fn client(&self, protocols: &[&str]) -> ClientConfig {
        Self::client_of(&self.pem, protocols)
    }

    /// A client that trusts who has this certificate only.
    pub fn client_of(pem: &str, protocols: &[&str]) -> ClientConfig {
        let mut config = trusting(pem).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        config
    }

    /// The same with a certificate of its own.
    pub fn client_with(&self, protocols: &[&str], (pem, key): &(String, String)) -> ClientConfig {
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes());
        let chain = chain.collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = trusting(&self.pem).with_client_auth_cert(chain, key);
        let mut config = config.unwrap();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        config
    }

    /// Who takes connections by a certificate for a name.
    pub fn certify(&self, name: &str) -> Secure {
        Secure(self.acceptor(name).build())
    }

    /// The same, who asks for certificates that `clients` has signed, and speaks HTTP/2 if it is asked for.
    pub fn certify_verifying(&self, name: &str, clients: &Self) -> Secure {
        let mut acceptor = self.acceptor(name);
        prefer_http2(&mut acceptor);
        let authority = X509::from_pem(clients.pem.as_bytes()).unwrap();
        acceptor.cert_store_mut().add_cert(authority).unwrap();
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        Secure(acceptor.build())
    }

    /// The same, to speak HTTP/2.
    pub fn certify_http2(&self, name: &str) -> Secure {
        let mut acceptor = self.acceptor(name);
        prefer_http2(&mut acceptor);
        Secure(acceptor.build())
    }

    fn acceptor(&self, name: &str) -> SslAcceptorBuilder {
        let (certificate, key) = self.sign(name);
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor
            .set_certificate(&X509::from_pem(certificate.as_bytes()).unwrap())
            .unwrap();
        let key = PKey::private_key_from_pem(key.as_bytes()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor
    }
}

fn prefer_http2(acceptor: &mut SslAcceptorBuilder) {
    acceptor.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x02h2", offered).ok_or(AlpnError::NOACK)
    });
}

fn trusting(pem: &str) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider().into();
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

/// Writes a certificate and its key as `NAME.pem` and `NAME.key`; as programs that renew them do it, nobody
/// ever sees half a file.
pub fn write_pair(folder: &Path, name: &str, (certificate, key): &(String, String)) {
    use std::os::unix::fs::PermissionsExt;
    for (kind, text) in [("key", key), ("pem", certificate)] {
        let new = folder.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, folder.join(format!("{name}.{kind}"))).unwrap();
    }
}

/// A key of the kind that old clients understand.
pub fn rsa_key() -> KeyPair {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let pem = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    KeyPair::from_pem_and_sign_algo(&pem, &PKCS_RSA_SHA256).unwrap()
}

/// Connects to a server and asks it for its certificate for `name`.
pub async fn dial(
    to: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config.clone())
        .connect(name, stream)
        .await
}

impl Secure {
    /// The connection, unless its client does not like the certificate.
    pub async fn accept(&self, stream: TcpStream) -> Option<SslStream<TcpStream>> {
        let ssl = Ssl::new(self.0.context()).unwrap();
        let mut stream = SslStream::new(ssl, stream).unwrap();
        Pin::new(&mut stream).accept().await.ok()?;
        Some(stream)
    }
}
