//! Three masters that share the slots of a cluster.

use super::{Redis, Role, Setup, until};

/// What a node thinks of its cluster.
const STATE: [&str; 2] = ["CLUSTER", "INFO"];

/// Ends when dropped.
pub struct Cluster {
    pub nodes: Vec<Redis>,
    /// Of each node.
    names: Vec<String>,
    password: Option<String>,
}

impl Cluster {
    const FIRST_SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

    /// A node is given up after so many milliseconds: for a busy machine, and for a test that lost it.
    const PATIENT: &str = "20000";
    const IMPATIENT: &str = "300";

    pub(super) async fn start(setup: &Setup) -> Self {
        let rest = [
            "cluster-enabled yes".to_owned(),
            format!("cluster-node-timeout {}", Self::PATIENT),
        ];
        let mut cluster = Self {
            nodes: Vec::new(),
            names: Vec::new(),
            password: setup.secret(Role::ClusterNode).map(str::to_owned),
        };
        for (first, last) in Self::FIRST_SLOTS {
            let node = Redis::launch(setup, Role::ClusterNode, &rest).await;
            let (first, last) = (first.to_string(), last.to_string());
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])
                .await;
            cluster.names.push(node.command(&["CLUSTER", "MYID"]).await);
            if let Some(before) = cluster.nodes.first() {
                let port = before.address.port().to_string();
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &port]).await;
            }
            cluster.nodes.push(node);
        }
        cluster.until_complete().await;
        cluster
    }

    /// The slot of a key.
    pub async fn slot_of(&self, key: &str) -> u16 {
        let slot = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).await;
        slot.parse().unwrap()
    }

    /// Which node owns a slot.
    pub async fn owner_of(&self, slot: u16) -> usize {
        // A node says of itself which slots it has: 0-5460 5462 [5461->-its name]
        for (index, node) in self.nodes.iter().enumerate() {
            let text = node.command(&["CLUSTER", "NODES"]).await;
            let own = text.lines().find(|line| line.contains("myself")).unwrap();
            let has = |range: &str| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let bound = |text: &str| text.parse::<u16>();
                matches!((bound(first), bound(last)), (Ok(a), Ok(b)) if (a..=b).contains(&slot))
            };
            if own.split(' ').skip(8).any(has) {
                return index;
            }
        }
        panic!("nobody has the slot {slot}");
    }

    /// Begins to move a slot. Keys that its owner does not have are `ASK`ed of the other node.
    pub async fn begin_moving(&self, slot: u16, to: usize) {
        let from = self.owner_of(slot).await;
        let slot = slot.to_string();
        let set = ["CLUSTER", "SETSLOT", &slot];
        let importing = [&set[..], &["IMPORTING", &self.names[from]]].concat();
        self.nodes[to].command(&importing).await;
        let migrating = [&set[..], &["MIGRATING", &self.names[to]]].concat();
        self.nodes[from].command(&migrating).await;
    }

    /// Moves the keys of a slot whose move has begun, and the slot: the owner before says `MOVED`.
    pub async fn finish_moving(&self, slot: u16, to: usize) {
        let from = self.owner_of(slot).await;
        let slot = slot.to_string();
        let keys = ["CLUSTER", "GETKEYSINSLOT", &slot, "1000000"];
        let keys = self.nodes[from].command(&keys).await;
        let keys: Vec<_> = keys.lines().collect();
        if !keys.is_empty() {
            let port = self.nodes[to].address.port().to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "10000"];
            if let Some(password) = &self.password {
                migrate.extend(["AUTH", password]);
            }
            migrate.push("KEYS");
            migrate.extend(keys);
            self.nodes[from].command(&migrate).await;
        }
        let owned = ["CLUSTER", "SETSLOT", &slot, "NODE", &self.names[to]];
        // First who gets it, so that it always has an owner.
        self.nodes[to].command(&owned).await;
        for node in &self.nodes {
            node.command(&owned).await;
        }
    }

    /// Moves a slot with its keys.
    pub async fn move_slot(&self, slot: u16, to: usize) {
        self.begin_moving(slot, to).await;
        self.finish_moving(slot, to).await;
    }

    /// Ends a node, and waits until the others say `CLUSTERDOWN`.
    pub async fn lose(&mut self, index: usize) {
        self.nodes[index].kill();
        self.give_up_after(Self::IMPATIENT, index).await;
        until("the cluster is down", async || {
            for (other, node) in self.nodes.iter().enumerate() {
                if other != index && node.field(&STATE, "cluster_state").await != "fail" {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Starts a node that was lost again, without its keys unless it is persistent.
    pub async fn recover(&mut self, index: usize) {
        self.nodes[index].restart().await;
        // The others forgive it after twice the time after which they give a node up.
        self.until_complete().await;
        self.give_up_after(Self::PATIENT, index).await;
    }

    async fn give_up_after(&self, milliseconds: &str, except: usize) {
        for (index, node) in self.nodes.iter().enumerate() {
            if index != except {
                let set = ["CONFIG", "SET", "cluster-node-timeout", milliseconds];
                node.command(&set).await;
            }
        }
    }

    /// Waits until every node knows all others and who has which slot.
    async fn until_complete(&self) {
        until("the cluster is complete", async || {
            for node in &self.nodes {
                let known = node.field(&STATE, "cluster_known_nodes").await;
                let state = node.field(&STATE, "cluster_state").await;
                if state != "ok" || known != self.nodes.len().to_string() {
                    return false;
                }
            }
            true
        })
        .await;
    }
}
