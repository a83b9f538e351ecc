//! A small Debian machine with systemd, booted in a container that shares the network.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A running machine; halts when dropped.
pub struct Machine {
    container: Child,
    /// Its process 1, as this machine counts.
    leader: u32,
}

impl Machine {
    /// Boots from `root`, which stays as it is. `package` is `/tollgate.deb` there.
    pub fn boot(root: &Path, package: &Path) -> Self {
        let container = Command::new("systemd-nspawn")
            .arg("-D")
            .arg(root)
            .args(["--boot", "--volatile=overlay", "--register=no"])
            .args([
                "--keep-unit",
                "--console=read-only",
                "--machine=tollgate-test",
            ])
            .arg(format!("--bind-ro={}:/tollgate.deb", package.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut machine = Self {
            container,
            leader: 0,
        };
        machine.until("it boots", |machine| {
            let id = machine.container.id();
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
            machine.leader = children
                .unwrap_or_default()
                .split_whitespace()
                .next()
                .and_then(|pid| pid.parse().ok())
                .unwrap_or(0);
            machine.leader != 0
                && machine
                    .run("systemctl is-system-running --wait")
                    .1
                    .starts_with("running")
        });
        machine
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(
                self.container.try_wait().unwrap().is_none() && Instant::now() < deadline,
                "not so: {what}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn output(&self, script: &str) -> Output {
        Command::new("nsenter")
            .args(["--target", &self.leader.to_string()])
            .args([
                "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd=/",
            ])
            .args([
                "/usr/bin/env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C",
            ])
            .args(["/bin/sh", "-c", script])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a script: exit code, and all that it printed.
    pub fn run(&self, script: &str) -> (i32, String) {
        let output = self.output(&format!("exec 2>&1; {script}"));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), printed)
    }

    /// Runs a script that must succeed, and returns what it printed.
    pub fn ok(&self, script: &str) -> String {
        let (code, printed) = self.run(script);
        assert_eq!(code, 0, "{script}\n{printed}\n{}", self.journal());
        printed.trim().to_owned()
    }

    /// A property of the service, as systemd sees it.
    pub fn property(&self, name: &str) -> String {
        self.ok(&format!(
            "systemctl show --property={name} --value tollgate"
        ))
    }

    /// What the service and systemd say about it.
    pub fn journal(&self) -> String {
        self.run("journalctl --no-pager --output=short-precise --unit=tollgate")
            .1
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the journal:\n{}", self.journal());
        }
        let _ = Command::new("kill")
            .arg(self.container.id().to_string())
            .output();
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.container.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.container.kill();
        let _ = self.container.wait();
    }
}
