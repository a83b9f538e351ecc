//! Clients that never stop asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hyper::HeaderMap;
use tokio::task::JoinSet;

use super::answer::Client;

/// Clients of one path, some on connections that they keep. Whatever goes wrong is a panic.
pub struct Traffic {
    clients: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    answers: AtomicUsize,
}

impl Shared {
    /// Counts an answer; whether there shall be another.
    fn goes_on(&self) -> bool {
        self.answers.fetch_add(1, Ordering::Relaxed);
        !self.is_over.load(Ordering::Relaxed)
    }
}

impl Traffic {
    pub fn start(to: SocketAddr, path: &'static str) -> Self {
        Self::start_with(to, path, HeaderMap::new)
    }

    /// Requests that have these fields, which are asked for each time.
    pub fn start_with(
        to: SocketAddr,
        path: &'static str,
        fields: impl Fn() -> HeaderMap + Clone + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let mut clients = JoinSet::new();
        for _ in 0..2 {
            let (its, fields_of) = (shared.clone(), fields.clone());
            clients.spawn(async move {
                loop {
                    let mut client = Client::connect(to, None).await;
                    let answer = client.get_with(path, &fields_of()).await;
                    answer.assert_status(200);
                    if !its.goes_on() {
                        return;
                    }
                }
            });
            let (its, fields_of) = (shared.clone(), fields.clone());
            clients.spawn(async move {
                let mut kept = Client::connect(to, None).await;
                loop {
                    let answer = kept.get_with(path, &fields_of()).await.assert_status(200);
                    if !its.goes_on() {
                        return;
                    }
                    if answer.header("connection") == Some("close") {
                        kept = Client::connect(to, None).await;
                    }
                }
            });
        }
        Self { clients, shared }
    }

    /// How many answers have come, all of them good.
    pub fn answers(&self) -> usize {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// Waits for so many more answers.
    pub async fn flows(&mut self, more: usize) {
        let enough = self.answers() + more;
        while self.answers() < enough {
            if let Some(ended) = self.clients.try_join_next() {
                ended.expect("every answer is good");
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Ends it; returns how many answers came.
    pub async fn end(mut self) -> usize {
        self.shared.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("every answer is good");
        }
        self.answers()
    }
}
