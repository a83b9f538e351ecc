//! What happens to the gateway meanwhile: reloads, good and bad in turn, and upgrades.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;

use super::support::{Client, Gateway, Request};
use super::tally::Tally;

const RELOAD_EVERY: Duration = Duration::from_millis(200);
/// What each client may ask `/limited`.
const LIMIT: usize = 20;
/// How often each client asks, so that it takes several reloads.
const ASKED: usize = 30;
const ASK_EVERY: Duration = Duration::from_millis(40);

/// The configuration, which one at a time changes.
pub struct Change {
    pub gateway: Mutex<Gateway>,
    pub tally: Arc<Tally>,
    pub backends: String,
    version: AtomicU32,
}

/// What a process takes.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub kibibytes: u64,
    pub descriptors: usize,
}

/// What a process takes now.
pub fn taken(pid: u32) -> Taken {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS:"));
    Taken {
        kibibytes: resident
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap(),
        descriptors: std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count(),
    }
}

/// The configuration with an answer that says which one it is. Its table of clients is small, since
/// memory is watched, and a large one is only taken as far as it fills.
pub fn config(listen: &str, admin: &str, backends: &str, version: u32) -> String {
    format!(
        "server: {{ listen: {listen}, threads: 2, watch_files: false, shutdown: {{ deadline: 20s }}, limits: {{ rate_limit_keys: 1024 }} }}\n\
         admin: {{ listen: {admin}, token: soak-soak-soak-soak }}\n\
         log: {{ access: {{ output: off }} }}\n\
         services:\n  \
         version: {{ routes: [{{ path: /version, respond: {{ body: \"version {version}\" }} }}] }}\n  \
         limited: {{ routes: [{{ path: /limited, respond: {{ body: yes }}, rate_limit: {{ limit: {LIMIT}, window: 1h }} }}] }}\n{backends}"
    )
}

/// Ways to break it.
fn broken(good: &str, how: u32) -> String {
    match how % 4 {
        0 => good.replace("services:", "servces:"),
        1 => format!("{good}\n  - [unbalanced"),
        2 => good.replace("rate_limit: {", "rate_limit: { limit: -1,"),
        _ => good[..good.len() / 2].to_owned(),
    }
}

impl Change {
    pub fn new(gateway: Gateway, backends: String, tally: Arc<Tally>) -> Arc<Self> {
        Arc::new(Self {
            gateway: Mutex::new(gateway),
            tally,
            backends,
            version: AtomicU32::new(1),
        })
    }

    fn next_config(&self, gateway: &Gateway) -> (u32, String) {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let (listen, admin) = (gateway.address.to_string(), gateway.admin.to_string());
        (version, config(&listen, &admin, &self.backends, version))
    }

    /// Reloads a good configuration and a bad one in turn, until the end.
    pub async fn reload(self: Arc<Self>) {
        let mut tick = tokio::time::interval(RELOAD_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0.. {
            tick.tick().await;
            if self.tally.is_over() {
                return;
            }
            let gateway = self.gateway.lock().await;
            let (version, good) = self.next_config(&gateway);
            let is_good = turn % 2 == 0;
            let text = if is_good {
                good
            } else {
                broken(&good, turn / 2)
            };
            put(&gateway, &text);
            let request = Request::new(gateway.admin, Method::POST, "/reload")
                .header("authorization", "Bearer soak-soak-soak-soak");
            let answer = request.send().await;
            let (status, count) = match is_good {
                true => (200, &self.tally.applied),
                false => (422, &self.tally.refused),
            };
            if answer.status == status {
                count.fetch_add(1, Ordering::Relaxed);
            } else {
                self.tally.failed("reload", answer.text());
            }
            if is_good {
                self.expect_version(&gateway, version).await;
            }
        }
    }

    /// The process before may take a last connection while it is told to leave.
    async fn expect_version(&self, gateway: &Gateway, version: u32) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let text = gateway.get("/version").send().await.text();
            if text == format!("version {version}") {
                return;
            }
            if Instant::now() > deadline {
                let example = format!("{text} instead of {version}");
                return self.tally.failed("old configuration in force", example);
            }
        }
    }

    /// Upgrades, again and again, until the end; returns what the processes took before they left.
    pub async fn upgrade(self: Arc<Self>) -> Vec<Taken> {
        let mut all = Vec::new();
        for round in 0.. {
            if self.tally.is_over() {
                return all;
            }
            {
                let mut gateway = self.gateway.lock().await;
                all.push(taken(gateway.serving()));
                let (version, good) = self.next_config(&gateway);
                put(&gateway, &good);
                gateway.upgrade().await;
                self.tally.upgrades.fetch_add(1, Ordering::Relaxed);
                self.expect_version(&gateway, version).await;
            }
            self.limits(round).await;
        }
        all
    }

    /// A client that was never seen gets exactly its limit, however often the configuration changes.
    pub async fn limits(&self, round: u8) {
        let to = self.gateway.lock().await.address;
        for attempt in 0..5 {
            let address = Ipv4Addr::new(127, 1 + attempt, round, 1);
            let mut client = Client::connect(to, Some(IpAddr::V4(address))).await;
            let mut passed = 0;
            let mut is_leaving = false;
            for _ in 0..ASKED {
                let answer = client.get("/limited").await;
                passed += usize::from(answer.status == 200);
                is_leaving = answer.header("connection") == Some("close");
                if is_leaving {
                    break;
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
            if is_leaving {
                // Another process counts for itself.
                continue;
            }
            if passed == LIMIT {
                self.tally.limits.fetch_add(1, Ordering::Relaxed);
            } else {
                self.tally
                    .failed("limit", format!("{passed} instead of {LIMIT}"));
            }
            return;
        }
        self.tally.failed("limit", "no process stays");
    }
}

fn put(gateway: &Gateway, text: &str) {
    let new = gateway.directory.path().join("new.yaml");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, gateway.config_path()).unwrap();
}
