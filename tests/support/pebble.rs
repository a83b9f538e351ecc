//! Pebble, the ACME server that the makers of Let's Encrypt test clients with.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::gateway::free_port;
use super::{Authority, NameServer};

/// A running Pebble; ends when dropped. The names that it looks at are on the loopback.
pub struct Pebble {
    /// The URL of its directory.
    pub directory: String,
    /// Where it looks for handshakes, and for answers in clear.
    pub tls: SocketAddr,
    pub clear: SocketAddr,
    pub names: NameServer,
    management: SocketAddr,
    authority: Authority,
    child: Child,
    folder: TempDir,
}

impl Pebble {
    /// One that issues to everybody.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more in its configuration.
    pub async fn start_with(more: &str) -> Self {
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        authority.write(folder.path(), "pebble", &["127.0.0.1"]);
        let names = NameServer::start().await;
        let ports: [SocketAddr; 4] = std::array::from_fn(|_| free_port());
        let [listen, management, clear, tls] = ports;
        let config = format!(
            r#"{{ "pebble": {{
                "listenAddress": "{listen}", "managementListenAddress": "{management}",
                "certificate": "pebble.pem", "privateKey": "pebble.key",
                "httpPort": {}, "tlsPort": {}, "ocspResponderURL": "" {more}
            }} }}"#,
            clear.port(),
            tls.port()
        );
        std::fs::write(folder.path().join("pebble.json"), config).unwrap();
        let log = || std::fs::File::create(folder.path().join("pebble.log")).unwrap();
        let child = Command::new("pebble")
            .args(["-config", "pebble.json", "-dnsserver"])
            .arg(names.address.to_string())
            // It waits up to fifteen seconds before it looks, unless it is told not to.
            .env("PEBBLE_VA_NOSLEEP", "1")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(Stdio::null())
            .spawn()
            .expect("pebble is installed by `make test`");
        let pebble = Self {
            directory: format!("https://{listen}/dir"),
            tls,
            clear,
            names,
            management,
            authority,
            child,
            folder,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        for address in [listen, management] {
            while std::net::TcpStream::connect(address).is_err() {
                assert!(Instant::now() < deadline, "not up:\n{}", pebble.log());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        pebble
    }

    /// Writes the certificate of who vouches for it, as `ca.pem`.
    pub fn write_own(&self, folder: &Path) {
        std::fs::write(folder.join("ca.pem"), self.authority.pem()).unwrap();
    }

    /// The certificate of who vouches for those that it issues, in PEM.
    pub fn root(&self) -> String {
        let url = format!("https://{}/roots/0", self.management);
        let output = Command::new("curl").args(["-sk", &url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// What its folder in the storage of a gateway is called.
    pub fn folder(&self) -> String {
        let place = self.directory.trim_start_matches("https://");
        place.replace([':', '/'], "_")
    }

    /// How many certificates it has issued.
    pub fn issued(&self) -> usize {
        self.log().matches("Issued certificate serial").count()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("pebble.log")).unwrap()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
