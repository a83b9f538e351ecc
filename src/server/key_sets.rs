//! Fetches the keys that tokens are verified with, and fetches them again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::Uri;
use http::uri::Scheme;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora::services::background::BackgroundService;
use serde::Deserialize;

use crate::auth::{Attempt, Change, KeyPlace, KeySet, KeySets, count_keys, is_safe_origin};
use crate::snapshot::State;
use crate::upstream::{Backends, Document};

/// How exactly sets keep their time.
const TICK: Duration = Duration::from_millis(250);
/// Where an issuer says where its keys are (OpenID Connect Discovery 1.0 §4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Fetches key sets when they are due.
pub(super) struct KeyFetches {
    pub(super) sets: Arc<KeySets>,
    pub(super) backends: Arc<Backends>,
}

#[async_trait]
impl BackgroundService for KeyFetches {
    async fn start(&self, _shutdown: ShutdownWatch) {
        loop {
            for set in self.sets.all() {
                let was_known = set.is_known();
                let attempt = set.begin(Instant::now());
                if was_known && !set.is_known() {
                    log::error!(
                        "keys given up, since they could not be fetched for too long: from={}",
                        set.source().place
                    );
                }
                if let Some(attempt) = attempt {
                    let backends = self.backends.clone();
                    tokio::spawn(async move { fetch(attempt, &backends).await });
                }
            }
            tokio::select! {
                () = self.sets.wanted() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }
}

/// Fetches the keys that a configuration needs, for a look at what it would decide.
pub async fn fetch_keys(state: &State) {
    let backends = Backends::new(Arc::new(ServerConf::default()));
    fetch_unknown(&state.key_sets, &backends).await;
}

/// Fetches the sets that nobody knows yet, once, and returns those that could not be.
pub(super) async fn fetch_unknown(sets: &KeySets, backends: &Backends) -> Vec<Arc<KeySet>> {
    let mut sets = sets.all();
    sets.retain(|set| !set.is_known());
    let fetches = sets.iter().map(|set| async move {
        match set.begin(Instant::now()) {
            Some(attempt) => fetch(attempt, backends).await,
            // It is under way, or has just failed.
            None => set.rest().await,
        }
    });
    futures_util::future::join_all(fetches).await;
    sets.retain(|set| !set.is_known());
    sets
}

async fn fetch(attempt: Attempt, backends: &Backends) {
    let set = attempt.set().clone();
    let place = &set.source().place;
    let within = set.upkeep().timeout;
    let answer = match tokio::time::timeout(within, document(&set, backends)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {within:?}")),
    };
    let (now, random) = (Instant::now(), fastrand::f64());
    match answer {
        Ok((document, keys)) => {
            match attempt.fetched(&document.text, document.fresh_for, now, random) {
                Change::Replaced => log::info!("keys fetched: from={place} keys={keys}"),
                Change::Recovered => log::info!("keys can be fetched again: from={place}"),
                Change::None | Change::Failed => {}
            }
        }
        Err(problem) => {
            if attempt.failed(now, random) == Change::Failed {
                let rest = match set.is_known() {
                    true => "those known stay in force",
                    false => "tokens can't be verified",
                };
                log::warn!("keys can't be fetched, {rest}: from={place} error={problem}");
            }
        }
    }
}

/// The text of a set, and how many keys it has.
async fn document(set: &KeySet, backends: &Backends) -> Result<(Document, usize), String> {
    let authorities = set.source().authorities.as_deref();
    let within = set.upkeep().timeout;
    let uri = match &set.source().place {
        KeyPlace::Url(uri) => uri.clone(),
        KeyPlace::Issuer(issuer) => {
            let uri = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
            let uri: Uri = uri.parse().map_err(|_| "its issuer is no URL".to_owned())?;
            let metadata = backends.fetch(&uri, authorities, within).await;
            let metadata = metadata.map_err(|problem| format!("{DISCOVERY}: {problem}"))?;
            key_address(issuer, &metadata.text)?
        }
    };
    let document = backends.fetch(&uri, authorities, within).await?;
    let keys = count_keys(&document.text)?;
    Ok((document, keys))
}

/// Where an issuer's keys are, by its metadata, which must be its own (§4.3).
fn key_address(issuer: &str, metadata: &str) -> Result<Uri, String> {
    #[derive(Deserialize)]
    struct Metadata {
        issuer: String,
        jwks_uri: String,
    }
    let metadata: Metadata = serde_json::from_str(metadata)
        .map_err(|error| format!("{DISCOVERY} is not an issuer's metadata: {error}"))?;
    if metadata.issuer != issuer {
        return Err(format!(
            "{DISCOVERY} is that of another issuer, `{}`",
            metadata.issuer.escape_debug()
        ));
    }
    // What is told elsewhere must not be about a service on this machine.
    let is_local = issuer.starts_with("http://");
    let is_safe =
        |uri: &Uri| is_safe_origin(uri) && (is_local || uri.scheme() == Some(&Scheme::HTTPS));
    let uri = metadata.jwks_uri.parse().ok();
    uri.filter(is_safe)
        .ok_or_else(|| format!("the `jwks_uri` in {DISCOVERY} is no `https` URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_issuers_own_metadata_say_where_its_keys_are() {
        let metadata = |issuer: &str, keys: &str| {
            serde_json::json!({ "issuer": issuer, "jwks_uri": keys, "more": 1 }).to_string()
        };
        let issuer = "https://id.example.com/";
        let address = |text: &str| key_address(issuer, text);
        let good = metadata(issuer, "https://keys.example.com/a?b");
        assert_eq!(address(&good).unwrap(), "https://keys.example.com/a?b");
        for bad in [
            metadata("https://id.example.com", "https://keys.example.com/"),
            metadata("https://ID.example.com/", "https://keys.example.com/"),
            metadata(issuer, "http://keys.example.com/"),
            metadata(issuer, "http://127.0.0.1:9900/"),
            metadata(issuer, "https://somebody@keys.example.com/"),
            metadata(issuer, "file:///etc/passwd"),
            metadata(issuer, "/keys"),
            "{}".to_owned(),
            "no".to_owned(),
        ] {
            assert!(address(&bad).is_err(), "{bad}");
        }
        let local = "http://localhost:9000";
        let metadata = metadata(local, "http://localhost:9000/jwks");
        assert!(key_address(local, &metadata).is_ok());
    }
}
