//! The way to the store: one connection for all requests, made again when it is lost.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::{FromRedisValue, RedisError, RedisResult, Value};
use tokio::sync::Notify;

use super::ask::{Ask, Grant};
use super::connection::{Connection, Connector, is_connection_lost, is_script_unknown};
use super::health::{Health, StoreState};
use super::script::{Scripts, read};
use super::settings::Settings;

/// How often a gateway says that it is there.
const GREETING: Duration = Duration::from_secs(1);
/// Shortest and longest pause before the next try to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The way to the store.
pub(super) struct Link {
    settings: Settings,
    scripts: Scripts,
    /// This gateway, to others.
    name: String,
    connection: ArcSwapOption<Connection>,
    pub(super) health: Health,
    /// There is a connection.
    connected: Notify,
    /// There is none any more, or nothing comes through it.
    lost: Notify,
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silence {
    #[error("it is not connected")]
    Unconnected,
    #[error("{0}")]
    Failed(#[from] RedisError),
}

impl Link {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            scripts: Scripts::new(&settings.prefix),
            settings,
            name: format!("{:016x}", fastrand::u64(..)),
            connection: ArcSwapOption::empty(),
            health: Health::default(),
            connected: Notify::new(),
            lost: Notify::new(),
        }
    }

    /// How long an answer may take.
    pub(super) fn patience(&self) -> Duration {
        self.settings.command_timeout
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether keys of different places can't be asked about at once.
    pub(super) fn is_cluster(&self) -> bool {
        self.connection
            .load()
            .as_ref()
            .is_some_and(|it| it.is_cluster())
    }

    /// Asks for tokens of all these keys, or of none.
    pub(super) async fn take(&self, asks: &[Ask]) -> Result<Vec<Grant>, Silence> {
        if self.health.is_down() {
            return Err(Silence::Unconnected);
        }
        let asking = async {
            let connection = self.connection().await;
            let answer = self
                .run(&connection, |is_known| self.scripts.take(asks, is_known))
                .await?;
            let numbers = Vec::<i64>::from_redis_value(answer).map_err(RedisError::from)?;
            Ok(read(&numbers, asks.len())?)
        };
        let result = match tokio::time::timeout(self.patience(), asking).await {
            Ok(result) => result,
            Err(_) => Err(Silence::Unconnected),
        };
        let is_lost = match &result {
            Ok(_) => self.health.observe(true),
            Err(Silence::Unconnected) => self.health.observe(false),
            Err(Silence::Failed(error)) => self.health.observe(false) || is_connection_lost(error),
        };
        if is_lost {
            self.lost.notify_one();
        }
        result
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

    async fn run(
        &self,
        connection: &Connection,
        command: impl Fn(bool) -> redis::Cmd,
    ) -> RedisResult<Value> {
        match connection.ask(&command(true), self.patience()).await {
            // It was restarted, or flushed.
            Err(error) if is_script_unknown(&error) => {
                connection.ask(&command(false), self.patience()).await
            }
            answer => answer,
        }
    }

    /// Connects, and connects again, for ever.
    pub(super) async fn keep(&self) {
        let mut pause = PAUSES.0;
        loop {
            let error = match self.connect().await {
                Ok(connection) => {
                    pause = PAUSES.0;
                    self.connection.store(Some(Arc::new(connection.clone())));
                    self.report(StoreState::Up, "");
                    self.connected.notify_waiters();
                    let error = self.attend(&connection).await;
                    self.connection.store(None);
                    error
                }
                Err(error) => error,
            };
            self.report(StoreState::Down, &error.to_string());
            // Gateways must not all come back at once.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (2 * pause).min(PAUSES.1);
        }
    }

    async fn connect(&self) -> RedisResult<Connection> {
        let mut connector = Connector::new(&self.settings)?;
        let connection = connector.connect(&self.settings).await?;
        self.greet(&connection).await?;
        Ok(connection)
    }

    async fn greet(&self, connection: &Connection) -> RedisResult<()> {
        let greeting = |is_known| self.scripts.greet(&self.name, is_known);
        let gateways = self.run(connection, greeting).await?;
        self.health.set_gateways(u32::from_redis_value(gateways)?);
        Ok(())
    }

    /// Says again and again that this gateway is there, until the connection is of no use any more.
    async fn attend(&self, connection: &Connection) -> RedisError {
        let silent = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        loop {
            tokio::select! {
                () = self.lost.notified() => return silent(),
                () = tokio::time::sleep(GREETING) => {}
            }
            if let Err(error) = self.greet(connection).await
                && (self.health.observe(false) || is_connection_lost(&error))
            {
                return error;
            }
        }
    }

    fn report(&self, state: StoreState, error: &str) {
        let was = self.health.state();
        if !self.health.set(state) {
            return;
        }
        let store = self.settings.topology.first();
        match (state, was) {
            (StoreState::Up, StoreState::Starting) => {
                log::info!("shared limits are counted by the store: store={store}");
            }
            (StoreState::Up, _) => {
                log::info!("shared limits are counted by the store again: store={store}");
            }
            _ => log::warn!(
                "the store of shared limits does not answer, on_store_failure decides: \
                 store={store} error={error}"
            ),
        }
    }
}
