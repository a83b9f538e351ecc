//! OpenSSL and BoringSSL, whose bindings are alike.

use async_trait::async_trait;
use pingora::listeners::TlsAccept;
use pingora::listeners::tls::TlsSettings;
use pingora::protocols::tls::TlsRef;
use pingora::tls::ext;
use pingora::tls::pkey::PKey;
use pingora::tls::ssl::{NameType, SslVerifyMode, SslVersion};
use pingora::tls::x509::X509;

use crate::{Extra, OTHER, Pair};

type Failure = Box<dyn std::error::Error>;

pub fn settings(own: Pair, extra: Extra) -> Result<TlsSettings, Failure> {
    if let Extra::Other(other) = extra {
        return Ok(TlsSettings::with_callbacks(Box::new(ByName {
            own,
            other,
        }))?);
    }
    let mut settings = TlsSettings::intermediate(&own.cert, &own.key)?;
    match extra {
        Extra::Clients(ca) => {
            settings.set_ca_file(ca)?;
            settings.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        Extra::Tls13 => settings.set_min_proto_version(Some(SslVersion::TLS1_3))?,
        Extra::Nothing | Extra::Other(_) => {}
    }
    Ok(settings)
}

struct ByName {
    own: Pair,
    other: Pair,
}

#[async_trait]
impl TlsAccept for ByName {
    async fn certificate_callback(&self, ssl: &mut TlsRef) {
        let is_other = ssl.servername(NameType::HOST_NAME) == Some(OTHER);
        let pair = if is_other { &self.other } else { &self.own };
        if let Err(error) = show(pair, ssl) {
            eprintln!("{}: {error}", pair.cert);
        }
    }
}

fn show(pair: &Pair, ssl: &mut TlsRef) -> Result<(), Failure> {
    let cert = X509::from_pem(&std::fs::read(&pair.cert)?)?;
    let key = PKey::private_key_from_pem(&std::fs::read(&pair.key)?)?;
    ext::ssl_use_certificate(ssl, &cert)?;
    ext::ssl_use_private_key(ssl, &key)?;
    Ok(())
}
