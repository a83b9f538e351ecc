//! s2n-tls on AWS-LC.

use pingora::listeners::tls::TlsSettings;
use pingora::protocols::tls::CaType;
use pingora::tls::S2NPolicy;

use crate::{Extra, Pair};

type Failure = Box<dyn std::error::Error>;

pub fn settings(own: Pair, extra: Extra) -> Result<TlsSettings, Failure> {
    let mut settings = TlsSettings::intermediate(&own.cert, &own.key)?;
    match extra {
        Extra::Nothing => {}
        Extra::Clients(ca) => {
            settings.set_ca(CaType::new(std::fs::read(ca)?));
            settings.set_client_auth_required(true);
        }
        Extra::Other(_) => return Err("s2n: the framework has no callback for certificates".into()),
        Extra::Tls13 => settings.set_policy(S2NPolicy::from_version("AWS-CRT-SDK-TLSv1.3")?),
    }
    Ok(settings)
}
