//! What keeps the way to the store: it connects, says again and again that this gateway is there, and finds
//! out by that which servers answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::{FromRedisValue, RedisResult};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::connection::{Connection, Connector};
use super::health::ALL;
use super::link::{Link, Silence};
use super::nodes::Known;

/// How often a gateway says that it is there.
const GREETING: Duration = Duration::from_secs(1);
/// Shortest and longest pause before the next try to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// After a connection that lasted so long the next try comes soon.
const STEADY: Duration = Duration::from_secs(10);

/// What operators have been told: the servers that do not answer, as a set; nothing before the first word.
type Told = Option<u64>;

impl Link {
    /// Connects, and connects again, for ever.
    pub(super) async fn keep(&self) {
        let mut lost = self.lost.subscribe();
        let mut told: Told = None;
        let mut pause = PAUSES.0;
        loop {
            let reason = match self.connect().await {
                Ok(connection) => {
                    let since = Instant::now();
                    // What is known of the connection before says nothing of this one.
                    lost.mark_unchanged();
                    let reason = self.attend(&connection, &mut lost, &mut told).await;
                    if since.elapsed() >= STEADY {
                        pause = PAUSES.0;
                    }
                    reason
                }
                Err(silence) => silence.to_string(),
            };
            self.health.give_up();
            self.connection.store(None);
            self.tell(&mut told, self.health.silent(), &reason);
            // Gateways must not all come back at once.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (2 * pause).min(PAUSES.1);
        }
    }

    /// Connects, and greets all servers, of which one at least has to answer.
    async fn connect(&self) -> Result<Connection, Silence> {
        let mut connector = Connector::new(&self.settings)?;
        let connection = connector.connect(&self.settings).await?;
        if let Some(slots) = connection.slots(self.patience()).await? {
            self.nodes.learn(&slots);
        }
        let mut silent = 0;
        let mut reason = None;
        for (known, answer) in self.greet(&connection).await {
            if let Err(silence) = answer {
                silent |= known.node.bit();
                reason.get_or_insert(silence);
            }
        }
        match reason {
            Some(silence) if silent == self.nodes.all() => return Err(silence),
            _ => self.health.set_silent(silent),
        }
        self.connection.store(Some(Arc::new(connection.clone())));
        self.connected.notify_waiters();
        Ok(connection)
    }

    /// Greets all servers again and again, until none of them answers any more; returns why.
    async fn attend(
        &self,
        connection: &Connection,
        lost: &mut watch::Receiver<String>,
        told: &mut Told,
    ) -> String {
        let mut greeting = tokio::time::interval(GREETING);
        greeting.set_missed_tick_behavior(MissedTickBehavior::Delay);
        greeting.reset();
        loop {
            let silent = self.health.silent();
            if self.nodes.all() & !silent == 0 {
                return lost.borrow().clone();
            }
            self.tell(told, silent, "");
            let look_after = async {
                greeting.tick().await;
                self.look_after(connection).await;
            };
            tokio::select! {
                // What is said of a server that is not asked any more does not wait for slow answers.
                _ = lost.changed() => {}
                () = look_after => {}
            }
        }
    }

    /// Greets all servers; whoever answers may be asked again.
    async fn look_after(&self, connection: &Connection) {
        // While it can't be had, where keys are is as before.
        if let Ok(Some(slots)) = connection.slots(self.patience()).await {
            self.nodes.learn(&slots);
            self.health.retain(self.nodes.all());
        }
        for (known, answer) in self.greet(connection).await {
            match answer {
                Ok(()) => self.health.recovered(known.node),
                Err(silence) => self.failed(known.node, &silence),
            }
        }
    }

    /// Says to each server that this gateway is there. The one that knows the most gateways is right.
    async fn greet(&self, connection: &Connection) -> Vec<(Known, Result<(), Silence>)> {
        let known = self.nodes.known();
        let counted = known.iter().map(|it| self.count(connection, it.tag));
        let counted = join_all(counted).await;
        if let Some(most) = counted.iter().flatten().max() {
            self.health.set_gateways(*most);
        }
        let answers = counted.into_iter().map(|it| Ok(it.map(|_| ())?));
        known.into_iter().zip(answers).collect()
    }

    async fn count(&self, connection: &Connection, tag: u32) -> RedisResult<u32> {
        let greeting = |is_known| self.scripts.greet(&self.name, tag, is_known);
        let gateways = self.run(connection, greeting).await?;
        Ok(u32::from_redis_value(gateways)?)
    }

    /// Tells operators what they do not know yet of who answers.
    fn tell(&self, told: &mut Told, silent: u64, reason: &str) {
        let before = told.replace(silent);
        if before == Some(silent) {
            return;
        }
        let store = self.settings.topology.first();
        if silent == ALL {
            log::warn!(
                "the store of shared limits does not answer, on_store_failure decides: \
                 store={store} error={reason}"
            );
            return;
        }
        match before {
            None => log::info!("shared limits are counted by the store: store={store}"),
            Some(ALL) => log::info!("shared limits are counted by the store again: store={store}"),
            Some(_) => {}
        }
        let before = before.filter(|it| *it != ALL).unwrap_or(0);
        for Known { node, address, .. } in self.nodes.known() {
            match (before & node.bit(), silent & node.bit()) {
                (0, 1..) => log::warn!(
                    "a server of shared limits does not answer, on_store_failure decides about its \
                     keys: server={address}"
                ),
                (1.., 0) => log::info!("a server of shared limits answers again: server={address}"),
                _ => {}
            }
        }
    }
}
