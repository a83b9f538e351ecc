//! The way to the store: one connection for all requests, which [`Link::keep`] makes and makes again.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value};
use tokio::sync::{Notify, watch};

use super::ask::{Ask, Grant, SharedKey};
use super::connection::{Connection, is_connection_lost, is_script_unknown};
use super::health::Health;
use super::nodes::{Node, Nodes};
use super::script::{Scripts, read};
use super::settings::Settings;

/// The way to the store.
pub(super) struct Link {
    pub(super) settings: Settings,
    pub(super) scripts: Scripts,
    /// This gateway, to others.
    pub(super) name: String,
    pub(super) connection: ArcSwapOption<Connection>,
    pub(super) nodes: Nodes,
    pub(super) health: Health,
    /// There is a connection.
    pub(super) connected: Notify,
    /// Why the last server that was is not asked any more.
    pub(super) lost: watch::Sender<String>,
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silence {
    #[error("it is not asked")]
    Unasked,
    #[error("no answer came in time")]
    Late,
    #[error("{0}")]
    Failed(#[from] RedisError),
}

impl Link {
    pub(super) fn new(settings: Settings) -> Self {
        let first = settings.topology.first().to_string();
        let is_cluster = settings.topology.is_cluster();
        Self {
            scripts: Scripts::new(&settings.prefix),
            name: format!("{:016x}", fastrand::u64(..)),
            connection: ArcSwapOption::empty(),
            nodes: Nodes::new(&first, is_cluster),
            health: Health::new(is_cluster),
            connected: Notify::new(),
            lost: watch::Sender::default(),
            settings,
        }
    }

    /// How long an answer may take.
    pub(super) fn patience(&self) -> Duration {
        self.settings.command_timeout
    }

    /// Whether the server that keeps a key is not asked.
    pub(super) fn skips(&self, key: impl FnOnce() -> SharedKey) -> bool {
        self.health.is_silent(|| self.nodes.of(key()))
    }

    /// Asks for tokens of all these keys, which are kept in one place, or of none.
    pub(super) async fn take(&self, asks: &[Ask]) -> Result<Vec<Grant>, Silence> {
        let Some(first) = asks.first() else {
            return Ok(Vec::new());
        };
        let node = self.nodes.of(first.key);
        if self.health.is_silent(|| node) {
            return Err(Silence::Unasked);
        }
        let mut used = None;
        let asking = async {
            let connection = used.insert(self.connection().await);
            let answer = self
                .run(connection, |is_known| self.scripts.take(asks, is_known))
                .await?;
            let numbers = Vec::<i64>::from_redis_value(answer).map_err(RedisError::from)?;
            Ok(read(&numbers, asks.len())?)
        };
        let result = match tokio::time::timeout(self.patience(), asking).await {
            Ok(result) => result,
            Err(_) => Err(Silence::Late),
        };
        self.observe(node, used.as_ref(), result.as_ref().err());
        result
    }

    /// Notes whether a question was answered.
    fn observe(&self, node: Node, used: Option<&Arc<Connection>>, silence: Option<&Silence>) {
        use std::sync::atomic::Ordering::Relaxed;
        let tallies = &self.health.tallies;
        tallies.asked.fetch_add(1, Relaxed);
        let Some(silence) = silence else {
            self.health.answered(node);
            return;
        };
        tallies.failed.fetch_add(1, Relaxed);
        // A connection that has been given up says nothing of the one after it.
        let current = self.connection.load();
        if current.as_ref().map(Arc::as_ptr) == used.map(Arc::as_ptr) {
            self.failed(node, silence);
        }
    }

    /// A server has not answered.
    pub(super) fn failed(&self, node: Node, silence: &Silence) {
        let is_lost = matches!(silence, Silence::Failed(error) if is_connection_lost(error));
        if self.health.failed(node, is_lost) {
            self.lost.send_replace(silence.to_string());
        }
    }

    /// Has the store forget a key.
    pub(super) async fn remove(&self, key: SharedKey) -> Result<(), Silence> {
        if self.skips(|| key) {
            return Err(Silence::Unasked);
        }
        let removing = async {
            let connection = self.connection().await;
            let command = self.scripts.remove(key);
            connection.ask(&command, self.patience()).await
        };
        match tokio::time::timeout(self.patience(), removing).await {
            Ok(removed) => Ok(removed.map(|_| ())?),
            Err(_) => Err(Silence::Late),
        }
    }

    async fn connection(&self) -> Arc<Connection> {
        loop {
            let connected = self.connected.notified();
            if let Some(connection) = self.connection.load_full() {
                return connection;
            }
            connected.await;
        }
    }

    /// Runs a script, which the server may have to be told.
    pub(super) async fn run(
        &self,
        connection: &Connection,
        command: impl Fn(bool) -> Cmd,
    ) -> RedisResult<Value> {
        match connection.ask(&command(true), self.patience()).await {
            // It was restarted, or flushed.
            Err(error) if is_script_unknown(&error) => {
                connection.ask(&command(false), self.patience()).await
            }
            answer => answer,
        }
    }
}
