//! A master, its replica, and three sentinels that watch them.

use std::net::SocketAddr;

use super::{Redis, Role, Setup, until};

/// Ends when dropped.
pub struct Sentinel {
    pub sentinels: Vec<Redis>,
    /// One of them is the master.
    pub servers: [Redis; 2],
    master: usize,
}

impl Sentinel {
    /// What the master is called.
    pub const NAME: &str = "main";

    pub(super) async fn start(setup: &Setup) -> Self {
        let master = Redis::launch(setup, Role::Server, &[]).await;
        let port = master.address.port();
        let follow = [format!("replicaof 127.0.0.1 {port}")];
        let replica = Redis::launch(setup, Role::Server, &follow).await;
        until_follows(&replica, &master).await;
        let mut watch = vec![
            format!("sentinel monitor {} 127.0.0.1 {port} 2", Self::NAME),
            // A busy machine is no reason to fail over: tests say when.
            format!("sentinel down-after-milliseconds {} 60000", Self::NAME),
        ];
        if let Some(password) = setup.secret(Role::Server) {
            watch.push(format!("sentinel auth-pass {} {password}", Self::NAME));
        }
        if let Some(password) = setup.secret(Role::Sentinel) {
            // They ask each other as well.
            watch.push(format!("sentinel sentinel-pass {password}"));
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Redis::launch(setup, Role::Sentinel, &watch).await);
        }
        let set = Self {
            sentinels,
            servers: [master, replica],
            master: 0,
        };
        // Nor shall sentinels do nothing for half a minute when it was busy for two seconds.
        let patience = ["sentinel", "debug", "tilt-trigger", "60000"];
        set.tell(&patience).await;
        // They soon see who has become a replica.
        let period = ["sentinel", "debug", "info-period", "1000"];
        set.tell(&period).await;
        set.settle().await;
        set
    }

    /// Where gateways ask for the master.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(|it| it.address).collect()
    }

    pub fn master(&self) -> &Redis {
        &self.servers[self.master]
    }

    pub fn replica(&self) -> &Redis {
        &self.servers[1 - self.master]
    }

    /// Makes the replica the master, and the master its replica, as an operator does it. Nothing that
    /// was written is lost.
    pub async fn fail_over(&mut self) {
        self.until_copied().await;
        self.promote().await;
        self.settle().await;
    }

    /// Ends the master, and makes the replica the master, with all that was written.
    pub async fn lose_master(&mut self) {
        self.until_copied().await;
        self.servers[self.master].kill();
        self.promote().await;
    }

    /// Makes the replica the master, whatever becomes of the one before.
    pub async fn promote(&mut self) {
        let ask = ["sentinel", "failover", Self::NAME];
        until("a sentinel fails over", async || {
            matches!(self.sentinels[0].ask(&ask).await, Ok(Ok(_)))
        })
        .await;
        self.master = 1 - self.master;
        until("the replica is promoted", async || self.is_known().await).await;
    }

    /// Starts the server that was lost again, as a replica.
    pub async fn recover(&mut self) {
        self.servers[1 - self.master].restart().await;
        self.settle().await;
    }

    async fn tell(&self, words: &[&str]) {
        for sentinel in &self.sentinels {
            sentinel.command(words).await;
        }
    }

    /// Whether all sentinels name the master, and it is one.
    async fn is_known(&self) -> bool {
        let ask = ["sentinel", "get-master-addr-by-name", Self::NAME];
        let expected = format!("127.0.0.1\n{}", self.master().address.port());
        for sentinel in &self.sentinels {
            if sentinel.command(&ask).await != expected {
                return false;
            }
        }
        self.master().info("replication", "role").await == "master"
    }

    /// Waits until the replica has what was written before.
    async fn until_copied(&self) {
        let offset = async |server: &Redis, field: &str| -> u64 {
            server.info("replication", field).await.parse().unwrap_or(0)
        };
        let written = offset(self.master(), "master_repl_offset").await;
        until("the replica has it all", async || {
            offset(self.replica(), "slave_repl_offset").await >= written
        })
        .await;
    }

    /// Waits until the replica follows, and sentinels know each other and both servers.
    async fn settle(&self) {
        // What sentinels tell each other so often. After four such periods they make a replica of
        // whoever is not the master that they know: not of one whose promotion they are yet to hear of.
        let period = ["sentinel", "debug", "publish-period"];
        self.tell(&[&period[..], &["100"]].concat()).await;
        until_follows(self.replica(), self.master()).await;
        until("sentinels know each other", async || {
            for sentinel in &self.sentinels {
                let state = sentinel.info("sentinel", "master0").await;
                if !state.contains("status=ok") || !state.ends_with("slaves=1,sentinels=3") {
                    return false;
                }
            }
            true
        })
        .await;
        self.tell(&[&period[..], &["2000"]].concat()).await;
    }
}

/// Waits until what is written to the master comes to its replica.
async fn until_follows(replica: &Redis, master: &Redis) {
    let port = master.address.port().to_string();
    until("the replica follows the master", async || {
        replica.info("replication", "master_port").await == port
            && replica.info("replication", "master_link_status").await == "up"
            && (master.info("replication", "slave0").await).contains("state=online")
    })
    .await;
}
