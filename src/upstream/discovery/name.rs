//! A name, when it is looked up, and what it stands for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::resolver::Answer;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::trust::EndpointSettings;
use crate::upstream::url::BaseUrl;

/// Answers are used for at least and at most so long, whatever their time to live.
const SHORTEST_USE: Duration = Duration::from_secs(1);
const LONGEST_USE: Duration = Duration::from_secs(60);
/// The longest pause after look-ups that fail; it doubles with each.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Names that were looked up together do not stay together.
const JITTER: f64 = 0.1;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) enum Question {
    /// The addresses of a host (A, or AAAA if it has none), each with this port.
    Addresses(Box<str>, u16),
    /// The places of a service (SRV, RFC 2782).
    Places(Box<str>),
}

/// A name that is looked up again and again. Moments are durations since it was made.
#[derive(Debug)]
pub(in crate::upstream) struct Name {
    question: Question,
    /// How long answers are used; `None` by their time to live.
    refresh: Option<Duration>,
    meaning: Meaning,
    begun: Instant,
    /// In milliseconds.
    due: AtomicU64,
    failures: AtomicU32,
    is_running: AtomicBool,
    was_answered: AtomicBool,
    /// Counts how often the endpoints changed.
    changes: AtomicU64,
}

/// What the addresses are.
#[derive(Debug)]
enum Meaning {
    /// Ways to the same endpoint.
    Endpoint(Arc<Endpoint>),
    /// An endpoint each.
    Endpoints(Discovered),
}

/// Endpoints that are found by a name.
#[derive(Debug)]
pub(in crate::upstream) struct Discovered {
    url: BaseUrl,
    text: Box<str>,
    settings: EndpointSettings,
    weight: u32,
    found: ArcSwap<Vec<(Arc<Endpoint>, u32)>>,
}

/// A look-up that is to be made; over when dropped, whatever becomes of it.
pub(super) struct LookUp(Arc<Name>);

impl Discovered {
    /// Endpoints like `url`, whose host is replaced by each address.
    pub(in crate::upstream) fn new(url: BaseUrl, settings: EndpointSettings, weight: u32) -> Self {
        Self {
            text: format!("{}://{}", url.scheme(), url.authority).into(),
            url,
            settings,
            weight,
            found: ArcSwap::default(),
        }
    }

    /// Takes the place of what was found before. `true` if that is a change.
    fn publish(&self, answer: &Answer) -> bool {
        let known = self.found.load();
        let mut found: Vec<(Arc<Endpoint>, u32)> = Vec::with_capacity(answer.places.len());
        for place in &answer.places {
            let weight = (self.weight * u32::from(place.weight)).clamp(1, 1_000_000);
            if found.iter().any(|(it, _)| it.stands_at(place.address)) {
                continue;
            }
            let same = known.iter().find(|(it, _)| it.stands_at(place.address));
            let endpoint = match same {
                Some((endpoint, _)) => endpoint.clone(),
                None => {
                    let mut url = self.url.clone();
                    if let Some(host) = &place.host {
                        url = url.at_host(host, place.address.port());
                    }
                    match Endpoint::discovered(url, place.address, &self.settings) {
                        Ok(endpoint) => Arc::new(endpoint),
                        Err(reason) => {
                            log::error!("upstream name gave no usable endpoint: {reason}");
                            continue;
                        }
                    }
                }
            };
            found.push((endpoint, weight));
        }
        // Name servers rotate their answers; only a change of the set is news.
        found.sort_by_key(|(endpoint, _)| endpoint.fixed_address());
        let is_same = known.len() == found.len()
            && std::iter::zip(&**known, &found)
                .all(|(this, that)| Arc::ptr_eq(&this.0, &that.0) && this.1 == that.1);
        if !is_same {
            self.found.store(Arc::new(found));
        }
        !is_same
    }
}

impl Name {
    /// The name of one endpoint.
    pub(in crate::upstream) fn of_endpoint(endpoint: Arc<Endpoint>) -> Option<Self> {
        let (host, port) = endpoint.name()?;
        let question = Question::Addresses(host.into(), port);
        Some(Self::new(question, None, Meaning::Endpoint(endpoint)))
    }

    /// A name that stands for several.
    pub(in crate::upstream) fn of_endpoints(
        question: Question,
        refresh: Option<Duration>,
        discovered: Discovered,
    ) -> Self {
        Self::new(question, refresh, Meaning::Endpoints(discovered))
    }

    fn new(question: Question, refresh: Option<Duration>, meaning: Meaning) -> Self {
        Self {
            question,
            refresh,
            meaning,
            begun: Instant::now(),
            due: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            is_running: AtomicBool::new(false),
            was_answered: AtomicBool::new(false),
            changes: AtomicU64::new(0),
        }
    }

    /// `scheme://name:port`, as logs and explanations show it.
    pub(in crate::upstream) fn as_str(&self) -> &str {
        match &self.meaning {
            Meaning::Endpoint(endpoint) => endpoint.as_str(),
            Meaning::Endpoints(discovered) => &discovered.text,
        }
    }

    /// The path put before every forwarded path.
    pub(in crate::upstream) fn prefix(&self) -> &str {
        match &self.meaning {
            Meaning::Endpoint(endpoint) => endpoint.prefix(),
            Meaning::Endpoints(discovered) => &discovered.url.prefix,
        }
    }

    /// The endpoints that it stands for, with their weights; of one endpoint's name, none.
    pub(in crate::upstream) fn found(&self) -> Vec<(Arc<Endpoint>, u32)> {
        match &self.meaning {
            Meaning::Endpoint(_) => Vec::new(),
            Meaning::Endpoints(discovered) => discovered.found.load().to_vec(),
        }
    }

    /// How often the endpoints changed.
    pub(in crate::upstream) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether it would find what `other` finds.
    pub(in crate::upstream) fn is_same_as(&self, other: &Self) -> bool {
        self.question == other.question
            && self.refresh == other.refresh
            && match (&self.meaning, &other.meaning) {
                (Meaning::Endpoint(this), Meaning::Endpoint(that)) => this.is_same_as(that),
                (Meaning::Endpoints(this), Meaning::Endpoints(that)) => {
                    this.url == that.url
                        && this.weight == that.weight
                        && this.settings.is_same_as(&that.settings)
                }
                _ => false,
            }
    }

    /// Now, as this name counts it.
    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether it was never looked up with success.
    pub(super) fn is_new(&self) -> bool {
        !self.was_answered.load(Ordering::Relaxed)
    }

    /// The look-up, if it is time for one and none is under way.
    pub(super) fn begin(self: &Arc<Self>, now: Duration) -> Option<LookUp> {
        let is_due = millis(now) >= self.due.load(Ordering::Relaxed)
            && !self.is_running.swap(true, Ordering::Relaxed);
        is_due.then(|| LookUp(self.clone()))
    }

    fn learn(&self, answer: Result<Answer, String>, now: Duration, random: f64) {
        let wait = match answer {
            Ok(answer) => {
                self.failures.store(0, Ordering::Relaxed);
                self.publish(&answer);
                self.was_answered.store(true, Ordering::Relaxed);
                let ttl = answer.lifetime.clamp(SHORTEST_USE, LONGEST_USE);
                self.refresh.unwrap_or(ttl)
            }
            Err(reason) => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed);
                let name = self.as_str();
                if self.is_new() {
                    log::error!("upstream name not resolved: name={name} reason={reason}");
                } else if failures == 0 {
                    log::warn!(
                        "upstream name not resolved, last addresses kept: name={name} reason={reason}"
                    );
                }
                let first = self.refresh.map_or(SHORTEST_USE, |it| it.min(SHORTEST_USE));
                first
                    .saturating_mul(1 << failures.min(10))
                    .min(LONGEST_PAUSE)
            }
        };
        let wait = wait.mul_f64(1.0 - JITTER * random);
        self.due.store(millis(now + wait), Ordering::Relaxed);
    }

    fn publish(&self, answer: &Answer) {
        let is_changed = match &self.meaning {
            Meaning::Endpoints(discovered) => discovered.publish(answer),
            Meaning::Endpoint(endpoint) => {
                let mut addresses: Vec<_> =
                    answer.places.iter().map(|it| it.address.ip()).collect();
                addresses.dedup();
                let known = endpoint.addresses();
                let is_changed = known.len() != addresses.len()
                    || addresses.iter().any(|address| !known.contains(address));
                if is_changed {
                    endpoint.publish(&addresses);
                }
                is_changed
            }
        };
        if is_changed {
            self.changes.fetch_add(1, Ordering::Release);
            let addresses: Vec<SocketAddr> = answer.places.iter().map(|it| it.address).collect();
            log::info!(
                "upstream name resolved: name={} addresses={addresses:?}",
                self.as_str()
            );
        }
    }
}

impl LookUp {
    /// What is asked.
    pub(super) fn question(&self) -> &Question {
        &self.0.question
    }

    /// What came of it. A failure leaves the endpoints as they were.
    pub(super) fn learn(self, answer: Result<Answer, String>) {
        self.0.learn(answer, self.0.now(), fastrand::f64());
    }
}

impl Drop for LookUp {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Relaxed);
    }
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::resolver::Place;
    use super::*;

    fn name() -> Name {
        let url = BaseUrl::parse("http://shop.example:80/base").unwrap();
        let discovered = Discovered::new(url, EndpointSettings::default(), 2);
        let question = Question::Addresses("shop.example".into(), 80);
        Name::of_endpoints(question, None, discovered)
    }

    fn answer(addresses: &[&str], lifetime: u64) -> Result<Answer, String> {
        let places = addresses.iter().map(|address| Place {
            address: SocketAddr::new(address.parse().unwrap(), 80),
            host: None,
            weight: 1,
        });
        Ok(Answer {
            places: places.collect(),
            lifetime: Duration::from_secs(lifetime),
        })
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_looked_up_again_when_its_answer_has_expired() {
        let name = Arc::new(name());
        for (now, lifetime, next) in [(0, 20, 20), (20, 0, 21), (21, 86_400, 81)] {
            let look_up = name.begin(at(now)).unwrap();
            // Not twice at once.
            assert!(name.begin(at(now)).is_none());
            look_up
                .0
                .learn(answer(&["10.0.0.1"], lifetime), at(now), 0.0);
            drop(look_up);
            let before = at(next) - Duration::from_millis(1);
            assert!(name.begin(before).is_none(), "{now} {lifetime}");
        }
    }

    #[test]
    fn failures_keep_the_last_answer_and_lengthen_the_pause() {
        let name = name();
        name.learn(answer(&["10.0.0.1", "10.0.0.2"], 5), at(0), 0.0);
        let known = name.found();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            name.learn(Err("no answer".to_owned()), at(100), 0.0);
            pauses.push(name.due.load(Ordering::Relaxed) / 1000 - 100);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert!(Arc::ptr_eq(&name.found()[1].0, &known[1].0));
        assert_eq!(name.changes(), 1);
    }

    #[test]
    fn who_stays_is_the_same_endpoint() {
        let name = name();
        name.learn(answer(&["10.0.0.1", "10.0.0.2"], 5), at(0), 0.0);
        let known = name.found();
        assert_eq!(known[0].0.as_str(), "http://10.0.0.1");
        assert_eq!(known[0].0.host(), "shop.example");
        assert_eq!((known[0].0.prefix(), known[0].1), ("/base", 2));
        // In another order, and one of them twice.
        name.learn(answer(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], 5), at(5), 0.0);
        assert_eq!(name.changes(), 1);
        name.learn(answer(&["10.0.0.3", "10.0.0.2"], 5), at(10), 0.0);
        assert_eq!(name.changes(), 2);
        let found = name.found();
        assert!(Arc::ptr_eq(&found[0].0, &known[1].0));
        assert_eq!(found[1].0.as_str(), "http://10.0.0.3");
    }
}
