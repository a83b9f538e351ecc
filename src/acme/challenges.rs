//! What authorities look for to find out whose a name is (RFC 8555 §8).

use std::sync::Arc;
use std::time::SystemTime;

use ahash::AHashMap;
use arc_swap::ArcSwap;

use super::storage::{Kind, Storage};
use crate::tls::TlsChallenges;

/// Where authorities ask in clear (§8.3).
const PATH: &str = "/.well-known/acme-challenge/";

/// What is shown to those who look, by requests without a look at the disk.
#[derive(Debug, Clone, Default)]
pub struct Challenges {
    /// In handshakes.
    pub tls: Arc<TlsChallenges>,
    /// In answers, by the token that is asked for.
    http: Arc<ArcSwap<AHashMap<Box<str>, Arc<str>>>>,
}

impl Challenges {
    /// The answer to a request for this path, if an authority looks for it.
    pub(super) fn answer(&self, path: &str) -> Option<Arc<str>> {
        let token = path.strip_prefix(PATH)?;
        self.http.load().get(token).cloned()
    }

    /// Shows what is in the folder, if that is not `shown` already.
    pub(super) fn refresh(&self, storage: &Storage, shown: &mut Vec<(Kind, String, String)>) {
        let mut found = storage.proofs(SystemTime::now());
        found.sort_by(|a, b| a.1.cmp(&b.1));
        if found == *shown {
            return;
        }
        let of = |kind: Kind| {
            let found = found.iter().filter(move |it| it.0 == kind);
            found.map(|(_, name, text)| (name.as_str(), text.as_str()))
        };
        self.tls.replace(of(Kind::Tls));
        let http = of(Kind::Http).map(|(token, text)| (token.into(), text.into()));
        self.http.store(Arc::new(http.collect()));
        *shown = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_answered_while_it_is_posted() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::new(folder.path());
        storage.prepare().unwrap();
        let (challenges, mut shown) = (Challenges::default(), Vec::new());
        let posted = storage.post(Kind::Http, "token", "token.thumb").unwrap();
        challenges.refresh(&storage, &mut shown);
        let answer = |path: &str| challenges.answer(path).map(|it| it.to_string());
        assert_eq!(
            answer(&format!("{PATH}token")).as_deref(),
            Some("token.thumb")
        );
        assert_eq!(answer(&format!("{PATH}other")), None);
        assert_eq!(answer("/token"), None);
        drop(posted);
        challenges.refresh(&storage, &mut shown);
        assert_eq!(answer(&format!("{PATH}token")), None);
    }
}
