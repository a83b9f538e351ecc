//! Says in the log which certificates are in force, who vouches for clients and which of theirs are revoked, and
//! in good time that all this expires.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::snapshot::{Listeners, Store};

/// How soon a new certificate is noticed.
const TICK: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// When it is said for the first time. Who renews automatically does so about then.
const SOON: Duration = Duration::from_secs(30 * 86_400);
/// From then on it is said each day.
const URGENT: Duration = Duration::from_secs(7 * 86_400);

/// Watches over the certificates of the configuration in force.
pub(super) struct Certificates(pub(super) Arc<Store>);

/// How pressing it is to renew a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Good,
    Soon,
    Urgent,
    Expired,
}

/// What was said last of a certificate, and when.
#[derive(Debug, Clone, Copy)]
struct Said {
    stage: Stage,
    at: SystemTime,
}

/// Something that ends.
struct Watched<'w> {
    kind: Kind,
    file: &'w str,
    names: String,
    /// Tells it from what was in its file before.
    fingerprint: [u8; 32],
    from: Option<SystemTime>,
    expires: SystemTime,
    /// Whether it stands in the place of a certificate that is still to come.
    is_awaited: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Certificate,
    Authority,
    List,
}

#[async_trait]
impl BackgroundService for Certificates {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let mut known = HashMap::new();
        loop {
            let listeners = self.0.load().listeners.clone();
            let now = SystemTime::now();
            let before = std::mem::take(&mut known);
            for watched in watched(&listeners) {
                let key = (watched.kind, watched.file.to_owned(), watched.fingerprint);
                let said = before.get(&key).copied();
                known.insert(key, look(&watched, said, now));
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

fn watched(listeners: &Listeners) -> Vec<Watched<'_>> {
    let certificates = listeners.certificates().map(|it| Watched {
        kind: Kind::Certificate,
        file: &it.file,
        names: it.names.iter().collect::<Vec<_>>().join(","),
        fingerprint: it.fingerprint,
        from: None,
        expires: it.expires,
        is_awaited: it.is_awaited,
    });
    let authorities = listeners.verifications().flat_map(|it| &it.authorities);
    let authorities = authorities.map(|it| Watched {
        kind: Kind::Authority,
        file: &it.file,
        names: it.name.to_string(),
        fingerprint: it.fingerprint,
        from: None,
        expires: it.expires,
        is_awaited: false,
    });
    let lists = listeners.verifications().flat_map(|it| &it.lists);
    let lists = lists.map(|it| Watched {
        kind: Kind::List,
        file: &it.file,
        names: it.issuer.to_string(),
        fingerprint: it.fingerprint,
        from: Some(it.issued),
        expires: it.until,
        is_awaited: false,
    });
    certificates.chain(authorities).chain(lists).collect()
}

/// Says what there is to say of something; returns what was said last.
fn look(watched: &Watched<'_>, said: Option<Said>, now: SystemTime) -> Said {
    let left = watched.expires.duration_since(now).ok();
    let (file, names, expires) = (watched.file, &watched.names, text(watched.expires));
    if watched.is_awaited {
        if said.is_none() {
            log::warn!("certificate awaited, clients trust none before: file={file} names={names}");
        }
        return said.unwrap_or(Said {
            stage: Stage::Good,
            at: now,
        });
    }
    if said.is_none() {
        match watched.kind {
            Kind::Certificate => {
                log::info!("certificate in force: file={file} names={names} expires={expires}");
            }
            Kind::Authority => {
                log::info!("client authority in force: file={file} name={names} expires={expires}");
            }
            Kind::List => {
                log::info!(
                    "revocation list in force: file={file} issuer={names} expires={expires}"
                );
            }
        }
    }
    // How long such a list is true differs between hours and months.
    let limits = match watched
        .from
        .map(|from| watched.expires.duration_since(from))
    {
        Some(life) => (life.unwrap_or_default() / 10, Duration::ZERO),
        None => (SOON, URGENT),
    };
    let Some(stage) = due(left, limits, said, now) else {
        return said.unwrap_or(Said {
            stage: Stage::Good,
            at: now,
        });
    };
    let days = left.map_or(0, |left| left.as_secs() / DAY.as_secs());
    match (stage, watched.kind) {
        (Stage::Good, _) => {}
        (Stage::Soon | Stage::Urgent, Kind::Certificate) => {
            log::warn!("certificate expires: file={file} expires={expires} days_left={days}");
        }
        (Stage::Soon | Stage::Urgent, Kind::Authority) => {
            log::warn!(
                "client authority expires: file={file} name={names} expires={expires} days_left={days}"
            );
        }
        (Stage::Soon | Stage::Urgent, Kind::List) => {
            log::warn!(
                "revocation list needs a successor: file={file} issuer={names} expires={expires}"
            );
        }
        (Stage::Expired, Kind::Certificate) => {
            log::error!(
                "certificate has expired, clients refuse it: file={file} expired={expires}"
            );
        }
        (Stage::Expired, Kind::Authority) => {
            log::error!(
                "client authority has expired and is trusted yet: file={file} name={names} expired={expires}"
            );
        }
        (Stage::Expired, Kind::List) => {
            log::error!(
                "revocation list is no longer true, clients of its authority are refused: file={file} \
                 issuer={names} expired={expires}"
            );
        }
    }
    Said { stage, at: now }
}

/// How pressing it is, if that is to be said now: when it becomes more so, and each day if it is urgent.
fn due(
    left: Option<Duration>,
    (soon, urgent): (Duration, Duration),
    said: Option<Said>,
    now: SystemTime,
) -> Option<Stage> {
    let stage = match left {
        None => Stage::Expired,
        Some(left) if left <= urgent => Stage::Urgent,
        Some(left) if left <= soon => Stage::Soon,
        Some(_) => Stage::Good,
    };
    let is_news = said.is_none_or(|said| {
        let since = now.duration_since(said.at).unwrap_or_default();
        stage > said.stage || stage >= Stage::Urgent && since >= DAY
    });
    is_news.then_some(stage)
}

fn text(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_a_month_and_a_week_before_and_then_each_day() {
        let start = SystemTime::UNIX_EPOCH + 1000 * DAY;
        let expires = start + 60 * DAY;
        let mut said = None;
        let mut days = Vec::new();
        for hour in 0..65 * 24 {
            let now = start + hour * Duration::from_secs(3600);
            let left = expires.duration_since(now).ok();
            if let Some(stage) = due(left, (SOON, URGENT), said, now) {
                said = Some(Said { stage, at: now });
                days.push((hour / 24, stage));
            }
        }
        let mut expected = vec![(0, Stage::Good), (30, Stage::Soon)];
        expected.extend((53..61).map(|day| (day, Stage::Urgent)));
        expected.extend((60..65).map(|day| (day, Stage::Expired)));
        assert_eq!(days, expected);
    }
}
