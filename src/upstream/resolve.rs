//! Names of endpoints to addresses, in the background: no worker ever waits for DNS.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;

/// How often names are looked up again.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// A look-up that takes longer than this has failed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks all names up at once. What can't be looked up keeps its last addresses.
pub async fn resolve(endpoints: &[Arc<Endpoint>]) {
    let mut lookups = tokio::task::JoinSet::new();
    for endpoint in endpoints {
        if endpoint.name().is_some() {
            lookups.spawn(look_up(endpoint.clone()));
        }
    }
    while lookups.join_next().await.is_some() {}
}

async fn look_up(endpoint: Arc<Endpoint>) {
    let Some((name, port)) = endpoint.name() else {
        return;
    };
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((name, port))).await;
    let reason = match found {
        Ok(Ok(found)) => {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
            if addresses.is_empty() {
                "the name has no address".to_owned()
            } else {
                let current = endpoint.addresses();
                // Resolvers rotate their answers; only a change of the set is news.
                if current.len() != addresses.len()
                    || addresses.iter().any(|address| !current.contains(address))
                {
                    log::info!("upstream name resolved: name={name} addresses={addresses:?}");
                    endpoint.publish(&addresses);
                }
                return;
            }
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {LOOKUP_TIMEOUT:?}"),
    };
    if endpoint.is_resolved() {
        log::warn!("upstream name not resolved, last addresses kept: name={name} reason={reason}");
    } else {
        log::error!("upstream name not resolved: name={name} reason={reason}");
    }
}
