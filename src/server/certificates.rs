//! Says in the log which certificates are in force, and in good time that they expire.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use crate::snapshot::Store;
use crate::tls::Certificate;

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

#[async_trait]
impl BackgroundService for Certificates {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let mut known = HashMap::new();
        loop {
            let listeners = self.0.load().listeners.clone();
            let now = SystemTime::now();
            let before = std::mem::take(&mut known);
            for certificate in listeners.certificates() {
                let key = (certificate.file.clone(), certificate.fingerprint);
                let said = before.get(&key).copied();
                known.insert(key, look(certificate, said, now));
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

/// Says what there is to say of a certificate; returns what was said last.
fn look(certificate: &Certificate, said: Option<Said>, now: SystemTime) -> Said {
    let names: Vec<_> = certificate.names.iter().collect();
    if certificate.is_awaited {
        if said.is_none() {
            log::warn!(
                "certificate awaited, clients trust none before: file={} names={}",
                certificate.file,
                names.join(",")
            );
        }
        return said.unwrap_or(Said {
            stage: Stage::Good,
            at: now,
        });
    }
    let left = certificate.expires.duration_since(now).ok();
    if said.is_none() {
        log::info!(
            "certificate in force: file={} names={} expires={}",
            certificate.file,
            names.join(","),
            text(certificate.expires)
        );
    }
    let Some(stage) = due(left, said, now) else {
        return said.unwrap_or(Said {
            stage: Stage::Good,
            at: now,
        });
    };
    let (file, expires) = (&certificate.file, text(certificate.expires));
    let days = left.map_or(0, |left| left.as_secs() / DAY.as_secs());
    match stage {
        Stage::Good => {}
        Stage::Soon | Stage::Urgent => {
            log::warn!("certificate expires: file={file} expires={expires} days_left={days}");
        }
        Stage::Expired => {
            log::error!(
                "certificate has expired, clients refuse it: file={file} expired={expires}"
            );
        }
    }
    Said { stage, at: now }
}

/// How pressing it is, if that is to be said now: when it becomes more so, and each day if it is urgent.
fn due(left: Option<Duration>, said: Option<Said>, now: SystemTime) -> Option<Stage> {
    let stage = match left {
        None => Stage::Expired,
        Some(left) if left <= URGENT => Stage::Urgent,
        Some(left) if left <= SOON => Stage::Soon,
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
            if let Some(stage) = due(left, said, now) {
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
