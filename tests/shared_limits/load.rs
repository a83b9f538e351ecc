//! Clients that ask all gateways of a fleet at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderValue};
use tokio::task::JoinSet;

use crate::support::{Client, Gateway, Redis};

/// Clients of each gateway, each with a connection that it keeps.
pub const CLIENTS: usize = 8;
/// Who was refused asks no sooner, or nothing else would get a processor.
const PAUSE: Duration = Duration::from_millis(4);

/// Clients at work; they end with it.
pub struct Load {
    clients: JoinSet<()>,
    tally: Arc<Tally>,
    begun: Instant,
}

/// What came of their requests.
#[derive(Default)]
struct Tally {
    is_over: AtomicBool,
    /// By key.
    admitted: Vec<AtomicUsize>,
    /// By gateway and key.
    refused: Vec<AtomicUsize>,
    unavailable: AtomicUsize,
}

/// What came of all requests.
pub struct Outcome {
    /// By key.
    pub admitted: Vec<usize>,
    /// From before the first request to after the last.
    pub lasted: Duration,
}

impl Load {
    /// Starts clients that ask for these keys, in an order by chance.
    pub fn start(gateways: &[Gateway], path: &'static str, keys: &[String]) -> Self {
        let counts = |count| std::iter::repeat_with(AtomicUsize::default).take(count);
        let tally = Arc::new(Tally {
            admitted: counts(keys.len()).collect(),
            refused: counts(gateways.len() * keys.len()).collect(),
            ..Tally::default()
        });
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for (number, gateway) in gateways.iter().enumerate() {
            for _ in 0..CLIENTS {
                let keys = keys.iter().map(|key| HeaderValue::from_str(key).unwrap());
                let to = (number, gateway.address);
                clients.spawn(ask(to, path, keys.collect(), tally.clone()));
            }
        }
        Self {
            clients,
            tally,
            begun,
        }
    }

    /// Requests admitted so far.
    pub fn admitted(&self) -> usize {
        sum(&self.tally.admitted)
    }

    /// Requests refused so far.
    pub fn refused(&self) -> usize {
        sum(&self.tally.refused)
    }

    /// Requests refused so far since the store was silent.
    pub fn unavailable(&self) -> usize {
        self.tally.unavailable.load(Ordering::Relaxed)
    }

    /// The fewest that were admitted of a key so far.
    pub fn fewest(&self) -> usize {
        let counts = self.tally.admitted.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        counts.min().unwrap_or(0)
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            let so_far = (self.admitted(), self.refused(), self.unavailable());
            assert!(Instant::now() < deadline, "not so: {what}: {so_far:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until each gateway has refused so many from now on, of each key: nothing is left anywhere.
    pub async fn until_refused(&self, more: usize) {
        let load = |counts: &[AtomicUsize]| -> Vec<usize> {
            let counts = counts.iter();
            counts.map(|count| count.load(Ordering::Relaxed)).collect()
        };
        let before = load(&self.tally.refused);
        self.until("enough are refused", |it| {
            let after = load(&it.tally.refused);
            after
                .iter()
                .zip(&before)
                .all(|(after, before)| *after >= before + more)
        })
        .await;
    }

    /// Waits until so many have been answered from now on.
    pub async fn until_answered(&self, more: usize) {
        let answered = |it: &Self| it.admitted() + it.refused() + it.unavailable();
        let enough = answered(self) + more;
        self.until("enough are answered", |it| answered(it) >= enough)
            .await;
    }

    /// Ends it.
    pub async fn end(mut self) -> Outcome {
        self.tally.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("every answer is good");
        }
        let admitted = self.tally.admitted.iter();
        Outcome {
            admitted: admitted.map(|it| it.load(Ordering::Relaxed)).collect(),
            lasted: self.begun.elapsed(),
        }
    }
}

impl Outcome {
    /// All keys together.
    pub fn total(&self) -> usize {
        self.admitted.iter().sum()
    }

    /// The time in windows, from which follows what comes back to a key meanwhile.
    pub fn windows(&self, window: Duration) -> f64 {
        self.lasted.as_secs_f64() / window.as_secs_f64()
    }
}

fn sum(counts: &[AtomicUsize]) -> usize {
    counts
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .sum()
}

/// One client, until it is over or its gateway is gone.
async fn ask(
    (gateway, to): (usize, SocketAddr),
    path: &'static str,
    keys: Vec<HeaderValue>,
    tally: Arc<Tally>,
) {
    let mut client = Client::connect(to, None).await;
    let mut fields = HeaderMap::new();
    while !tally.is_over.load(Ordering::Relaxed) {
        let key = fastrand::usize(..keys.len());
        fields.insert("x-key", keys[key].clone());
        let Some(answer) = client.try_get_with(path, &fields).await else {
            return;
        };
        let count = match answer.status.as_u16() {
            200 => &tally.admitted[key],
            429 => &tally.refused[gateway * keys.len() + key],
            503 => &tally.unavailable,
            _ => panic!("{answer:?}"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        if answer.status != 200 {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What a server has counted, of each key with a fixed window.
pub async fn counts(server: &Redis) -> Vec<u64> {
    let mut counts = Vec::new();
    for key in server.command(&["KEYS", "*"]).await.lines() {
        let Ok(Ok(value)) = server.ask(&["GET", key]).await else {
            continue;
        };
        let count = value
            .split_once(':')
            .and_then(|(_, count)| count.parse::<u64>().ok());
        counts.extend(count);
    }
    counts
}
