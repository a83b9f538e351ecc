//! Backends behind TLS, with an authority of their own.

use std::pin::Pin;

use openssl::pkey::PKey;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslAcceptorBuilder, SslMethod, select_next_proto};
use openssl::x509::X509;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

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
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
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
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        (certificate, key.serialize_pem())
    }

    /// Who takes connections by a certificate for a name.
    pub fn certify(&self, name: &str) -> Secure {
        Secure(self.acceptor(name).build())
    }

    /// The same, to speak HTTP/2.
    pub fn certify_http2(&self, name: &str) -> Secure {
        let mut acceptor = self.acceptor(name);
        acceptor.set_alpn_select_callback(|_, offered| {
            select_next_proto(b"\x02h2", offered).ok_or(AlpnError::NOACK)
        });
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

impl Secure {
    /// The connection, unless its client does not like the certificate.
    pub async fn accept(&self, stream: TcpStream) -> Option<SslStream<TcpStream>> {
        let ssl = Ssl::new(self.0.context()).unwrap();
        let mut stream = SslStream::new(ssl, stream).unwrap();
        Pin::new(&mut stream).accept().await.ok()?;
        Some(stream)
    }
}
