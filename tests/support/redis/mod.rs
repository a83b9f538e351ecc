//! Real Redis servers on loopback ports that the system picks: one, one with sentinels, or a cluster.

mod cluster;
mod resp;
mod sentinel;
mod setup;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openssl::ssl::SslConnector;
use tempfile::TempDir;

use super::answer::PATIENCE;
use super::gateway::{free_port, send_signal};
use resp::{Connection, Reply};

pub use cluster::Cluster;
pub use sentinel::Sentinel;
pub use setup::Setup;

/// A running server; ends when dropped.
pub struct Redis {
    pub address: SocketAddr,
    directory: TempDir,
    process: Child,
    role: Role,
    password: Option<String>,
    tls: Option<SslConnector>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Server,
    ClusterNode,
    Sentinel,
}

impl Redis {
    /// A server as it comes: no password, no TLS, no persistence.
    pub async fn start() -> Self {
        Setup::new().start().await
    }

    async fn launch(setup: &Setup, role: Role, rest: &[String]) -> Self {
        // Between its choice and its use somebody else may be given a port.
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let address = role.free_address();
            setup.write(directory.path(), role, address.port(), rest);
            if let Some(process) = start(directory.path(), role).await {
                return Self {
                    address,
                    directory,
                    process,
                    role,
                    password: setup.secret(role).map(str::to_owned),
                    tls: setup.connector(),
                };
            }
        }
        panic!("no port stays free");
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Ends it at once, if it still runs, and starts it on the same port, with what it has on disk.
    pub async fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        // The port may be somebody's for a moment.
        while Instant::now() < deadline {
            if let Some(process) = start(self.directory.path(), self.role).await {
                self.process = process;
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the port {} is not free again", self.address.port());
    }

    /// Stops it where it is; the system goes on taking connections for it.
    pub fn pause(&self) {
        send_signal(self.process.id(), "STOP");
    }

    pub fn resume(&self) {
        send_signal(self.process.id(), "CONT");
    }

    /// Forgets all data, scripts too.
    pub async fn flush(&self) {
        self.command(&["FLUSHALL"]).await;
        self.command(&["SCRIPT", "FLUSH"]).await;
    }

    /// Runs a command that must succeed, and returns what `redis-cli` would print.
    pub async fn command(&self, words: &[&str]) -> String {
        match self.ask(words).await {
            Ok(reply) => reply.unwrap_or_else(|error| panic!("{words:?}: {error}")),
            Err(error) => panic!("{words:?}: {error}"),
        }
    }

    /// Runs a command over a connection of its own.
    pub async fn ask(&self, words: &[&str]) -> io::Result<Reply> {
        let asked = async {
            let mut connection = Connection::open(self.address, self.tls.as_ref()).await?;
            if let Some(password) = &self.password
                && let Err(error) = connection.ask(&["AUTH", password]).await?
            {
                return Ok(Err(error));
            }
            connection.ask(words).await
        };
        tokio::time::timeout(PATIENCE, asked).await?
    }

    /// A field of a section of `INFO`; empty where there is none, or no answer now.
    pub async fn info(&self, section: &str, field: &str) -> String {
        self.field(&["INFO", section], field).await
    }

    /// A field of lines such as `role:master`. Who changes role hangs up on clients.
    async fn field(&self, words: &[&str], field: &str) -> String {
        let text = match self.ask(words).await {
            Ok(Ok(text)) => text,
            Ok(Err(_)) | Err(_) => return String::new(),
        };
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find_map(|(name, value)| (name == field).then_some(value.trim()));
        found.unwrap_or_default().to_owned()
    }

    /// How often each command was run, by its name in lower case; those of tests as well.
    pub async fn count_commands(&self) -> BTreeMap<String, u64> {
        let text = self.command(&["INFO", "commandstats"]).await;
        let count = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let (calls, _) = rest.split_once(',')?;
            Some((name.to_owned(), calls.parse().ok()?))
        };
        text.lines().filter_map(count).collect()
    }

    /// Starts to count from zero.
    pub async fn forget_commands(&self) {
        self.command(&["CONFIG", "RESETSTAT"]).await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = log_in(self.directory.path());
            eprintln!("--- redis at {} said:\n{log}", self.address);
        }
    }
}

impl Role {
    /// An address that was free a moment ago.
    fn free_address(self) -> SocketAddr {
        loop {
            let address = free_port();
            // Nodes talk to each other at a port that is so much higher.
            let Some(bus) = address.port().checked_add(10_000) else {
                continue;
            };
            if self != Self::ClusterNode || TcpListener::bind((address.ip(), bus)).is_ok() {
                return address;
            }
        }
    }
}

/// None if the port of the configuration is taken.
async fn start(directory: &Path, role: Role) -> Option<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join("redis.log"))
        .unwrap();
    let before = log_in(directory).len();
    let mut command = Command::new("redis-server");
    command.arg("redis.conf").current_dir(directory);
    if role == Role::Sentinel {
        command.arg("--sentinel");
    }
    let mut process = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("redis-server is installed; `make test` does that");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ended = process.try_wait().unwrap();
        let said = log_in(directory).split_off(before);
        if said.contains("Ready to accept connections") || said.contains("Sentinel ID is") {
            return Some(process);
        }
        if let Some(status) = ended {
            assert!(
                said.contains("Address already in use"),
                "it ended with {status}:\n{said}"
            );
            return None;
        }
        assert!(Instant::now() < deadline, "not up:\n{said}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn log_in(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("redis.log")).unwrap_or_default()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
