//! What the Redis servers of a test are like.

use std::path::Path;

use openssl::ssl::SslConnector;

use super::super::tls::Authority;
use super::resp;
use super::{Cluster, Redis, Role, Sentinel};

/// A server without passwords, TLS and persistence, unless it is told otherwise.
#[derive(Clone, Default)]
pub struct Setup {
    password: Option<String>,
    sentinel_password: Option<String>,
    users: Vec<String>,
    directives: Vec<String>,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    authority: String,
    certificate: String,
    key: String,
    asks_clients: bool,
}

impl Setup {
    pub fn new() -> Self {
        Self::default()
    }

    /// The password of the user `default`; replicas and nodes use it among themselves as well.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// The password of sentinels, who ask for none by default, whatever their servers do.
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel_password = Some(password.to_owned());
        self
    }

    /// One more user, who may do what rules say, such as `~limits:* +@all`.
    pub fn user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.users
            .push(format!("user {name} on >{password} {rules}"));
        self
    }

    /// Keeps data over a restart, each write before its reply.
    pub fn persistent(self) -> Self {
        self.directive("appendonly yes")
            .directive("appendfsync always")
    }

    /// Only TLS, by certificates for 127.0.0.1.
    pub fn tls(mut self, authority: &Authority) -> Self {
        let (certificate, key) = authority.sign("127.0.0.1");
        self.tls = Some(Tls {
            authority: authority.pem().to_owned(),
            certificate,
            key,
            asks_clients: false,
        });
        self
    }

    /// Only TLS, and only with clients that show a certificate of the same authority.
    pub fn mutual_tls(self, authority: &Authority) -> Self {
        let mut setup = self.tls(authority);
        setup.tls.as_mut().expect("it was set").asks_clients = true;
        setup
    }

    /// Any other line of the configuration.
    pub fn directive(mut self, line: &str) -> Self {
        self.directives.push(line.to_owned());
        self
    }

    /// One server.
    pub async fn start(&self) -> Redis {
        Redis::launch(self, Role::Server, &[]).await
    }

    /// A master, its replica and three sentinels.
    pub async fn start_sentinel(&self) -> Sentinel {
        Sentinel::start(self).await
    }

    /// Three masters that share the slots.
    pub async fn start_cluster(&self) -> Cluster {
        Cluster::start(self).await
    }

    /// What servers, or else sentinels, ask for.
    pub(super) fn secret(&self, role: Role) -> Option<&str> {
        match role {
            Role::Sentinel => self.sentinel_password.as_deref(),
            Role::Server | Role::ClusterNode => self.password.as_deref(),
        }
    }

    pub(super) fn connector(&self) -> Option<SslConnector> {
        let tls = self.tls.as_ref()?;
        Some(resp::connector(&tls.authority, &tls.certificate, &tls.key))
    }

    /// Writes the configuration, and what it names, to a directory.
    pub(super) fn write(&self, directory: &Path, role: Role, port: u16, rest: &[String]) {
        let mut lines = vec!["bind 127.0.0.1".to_owned(), "dir .".to_owned()];
        match &self.tls {
            None => lines.push(format!("port {port}")),
            Some(tls) => {
                let file = |name: &str, text: &str| {
                    std::fs::write(directory.join(name), text).unwrap();
                };
                file("authority.pem", &tls.authority);
                file("certificate.pem", &tls.certificate);
                file("key.pem", &tls.key);
                let asks = if tls.asks_clients { "yes" } else { "no" };
                lines.push(format!("port 0\ntls-port {port}\ntls-replication yes"));
                lines.push("tls-ca-cert-file authority.pem".to_owned());
                lines.push("tls-cert-file certificate.pem\ntls-key-file key.pem".to_owned());
                lines.push(format!("tls-auth-clients {asks}"));
                if role == Role::ClusterNode {
                    lines.push("tls-cluster yes".to_owned());
                }
            }
        }
        if let Some(password) = self.secret(role) {
            lines.push(format!("requirepass {password}"));
        }
        if role != Role::Sentinel {
            // A replica gets its copy at once, and what is written next without waiting for its word.
            lines.push("save \"\"\nrepl-diskless-sync no".to_owned());
            if let Some(password) = &self.password {
                lines.push(format!("masterauth {password}"));
            }
            lines.extend_from_slice(&self.users);
            lines.extend_from_slice(&self.directives);
        }
        lines.extend_from_slice(rest);
        std::fs::write(directory.join("redis.conf"), lines.join("\n") + "\n").unwrap();
    }
}
