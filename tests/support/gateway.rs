//! The real gateway in a process of its own.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use tempfile::TempDir;

use super::answer::{Answer, Client, PATIENCE, Request};

/// A running gateway; ends when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub directory: TempDir,
    child: Child,
    /// Processes that took over, of whom nobody else knows.
    successors: Vec<u32>,
}

/// The program under test.
pub fn binary() -> Command {
    program_at(Path::new(env!("CARGO_BIN_EXE_tollgate")))
}

fn program_at(path: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .env_remove("RUST_LOG")
        .env_remove("TOLLGATE_CONFIG")
        .env("NO_COLOR", "1");
    command
}

/// Whether a process has not ended; one that only waits to be asked how has.
fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|it| !it.contains("State:\tZ"))
}

/// Sends a signal by name, such as `TERM`.
pub fn send_signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Runs the program to its end.
pub fn run(arguments: &[&str], directory: &Path) -> Output {
    binary()
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

/// Checks a configuration: exit code, standard output, and findings.
pub fn check(config: &str) -> (i32, String, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("t.yaml"), config).unwrap();
    let output = run(&["check", "-c", "t.yaml"], directory.path());
    (
        output.status.code().expect("no signal ended it"),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A port that is free, and that the system gives to nobody who does not ask for it by number: a connection that
/// was closed there first is remembered for a minute (`TIME-WAIT`), which keeps no server from listening there.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    drop(accepted);
    assert_eq!(
        client.read(&mut [0]).unwrap(),
        0,
        "it is closed there first"
    );
    address
}

impl Gateway {
    /// Starts a gateway with a configuration. `$LISTEN` and `$ADMIN` in it stand for its addresses;
    /// a configuration without them gets a `server` and an `admin` section.
    pub async fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config, &[]).await
    }

    /// Starts a gateway beside files that its configuration names, with variables in its environment.
    pub async fn start_in(directory: TempDir, config: &str, variables: &[(&str, &str)]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_tollgate"));
        Self::start_as(program, directory, config, variables).await
    }

    /// Starts a gateway by a name of its own, such as a link that is changed before an upgrade.
    pub async fn start_as(
        program: &Path,
        mut directory: TempDir,
        config: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        // Between its choice and its use somebody else may be given a port.
        for _ in 0..5 {
            match Self::spawn(program, directory, config, variables).await {
                Ok(gateway) => return gateway,
                Err(same) => directory = same,
            }
        }
        panic!("no port stays free");
    }

    /// The directory comes back if a port was taken meanwhile.
    async fn spawn(
        program: &Path,
        directory: TempDir,
        config: &str,
        variables: &[(&str, &str)],
    ) -> Result<Self, TempDir> {
        let address = free_port();
        let admin = std::iter::repeat_with(free_port)
            .find(|it| *it != address)
            .unwrap();
        let config = if config.contains("$LISTEN") {
            config.to_owned()
        } else {
            format!(
                "server: {{ listen: $LISTEN, threads: 2 }}\nadmin: {{ listen: $ADMIN }}\n{config}"
            )
        };
        let has_admin = config.contains("$ADMIN");
        let config = config
            .replace("$LISTEN", &address.to_string())
            .replace("$ADMIN", &admin.to_string());
        std::fs::write(directory.path().join("gateway.yaml"), config).unwrap();
        let file = |name: &str| std::fs::File::create(directory.path().join(name)).unwrap();
        let mut child = program_at(program)
            .args(["run", "-c", "gateway.yaml"])
            .current_dir(directory.path())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(file("access.log"))
            .stderr(file("process.log"))
            .spawn()
            .unwrap();
        let said = || std::fs::read_to_string(directory.path().join("process.log")).unwrap();
        let is_up = || {
            let mut listeners = vec![address];
            listeners.extend(has_admin.then_some(admin));
            said().contains("serving:")
                && listeners
                    .iter()
                    .all(|address| TcpStream::connect(address).is_ok())
        };
        let deadline = Instant::now() + PATIENCE;
        while !is_up() {
            if let Some(status) = child.try_wait().unwrap() {
                if said().contains("can't listen on") {
                    return Err(directory);
                }
                panic!("the gateway ended with {status}:\n{}", said());
            }
            assert!(Instant::now() < deadline, "not up:\n{}", said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self {
            address,
            admin,
            directory,
            child,
            successors: Vec::new(),
        })
    }

    /// Replaces a part of the configuration.
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config_path()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        let text = text.replace(from, to);
        // As editors do it: nobody ever sees half a file.
        let new = self.directory.path().join("new.yaml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.config_path()).unwrap();
    }

    /// Runs a command about this gateway: exit code, standard output and error.
    pub async fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = binary();
        command
            .args(arguments)
            .args(["-c", "gateway.yaml"])
            .current_dir(self.directory.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        (
            output.status.code().expect("no signal ended it"),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    /// `tollgate upgrade`, which must succeed; returns the new process.
    pub async fn upgrade(&mut self) -> u32 {
        let (code, printed, said) = self.command(&["upgrade"]).await;
        assert_eq!(code, 0, "{printed}{said}");
        // upgraded: pid 1 → 2, …
        let pid = printed.split(['→', ',']).nth(1).unwrap().trim();
        let pid = pid.parse().unwrap_or_else(|_| panic!("{printed}"));
        self.successors.push(pid);
        pid
    }

    /// Ends whichever process serves now with the test, too.
    pub async fn adopt(&mut self) {
        let pid = self.status().await["pid"].as_u64().unwrap();
        self.successors.push(u32::try_from(pid).unwrap());
    }

    /// The process that serves now.
    pub fn serving(&self) -> u32 {
        self.successors.last().copied().unwrap_or(self.pid())
    }

    /// The processes before it that have not ended, though they had the time.
    pub async fn left_behind(&self) -> Vec<u32> {
        let before = [&[self.pid()], &self.successors[..]].concat();
        let mut left: Vec<_> = before
            .into_iter()
            .filter(|pid| *pid != self.serving())
            .collect();
        let deadline = Instant::now() + PATIENCE;
        while !left.is_empty() && Instant::now() < deadline {
            left.retain(|pid| is_running(*pid));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        left
    }

    /// What it says of itself.
    pub async fn status(&self) -> serde_json::Value {
        self.admin("/status").await.assert_status(200).json()
    }

    pub fn request(&self, method: Method, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Request {
        self.request(Method::POST, path)
    }

    /// A request to the admin address.
    pub async fn admin(&self, path: &str) -> Answer {
        Request::new(self.admin, Method::GET, path).send().await
    }

    /// A connection that is kept.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address, None).await
    }

    /// Sends bytes as they are and returns all that comes back until the gateway closes or is silent
    /// for a while.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        // It may answer and close before it has read all.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        let silence = Duration::from_millis(1500);
        while let Ok(Ok(count)) = tokio::time::timeout(silence, stream.read(&mut chunk)).await {
            if count == 0 {
                break;
            }
            answer.extend_from_slice(&chunk[..count]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The access log, as soon as it has `lines` lines, in the order in which the requests came: each worker
    /// writes its own lines out, so those of different workers may be shuffled.
    pub async fn log(&self, lines: usize) -> Vec<serde_json::Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(self.directory.path().join("access.log")).unwrap();
            if text.lines().count() >= lines {
                let mut lines: Vec<serde_json::Value> = text
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
                lines.sort_by_cached_key(|line| {
                    ["time", "id"].map(|field| line[field].as_str().map(str::to_owned))
                });
                return lines;
            }
            assert!(Instant::now() < deadline, "only these lines:\n{text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the process says about itself.
    pub fn process_log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("process.log")).unwrap_or_default()
    }

    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("gateway.yaml")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        send_signal(self.pid(), name);
    }

    /// Waits for the process to end by itself.
    pub async fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in &self.successors {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
        }
        if std::thread::panicking() {
            eprintln!("--- the gateway said:\n{}", self.process_log());
            eprintln!(
                "--- and logged:\n{}",
                std::fs::read_to_string(self.directory.path().join("access.log"))
                    .unwrap_or_default()
            );
        }
    }
}
