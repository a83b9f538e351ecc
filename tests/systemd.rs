//! The service, as systemd runs it: on a machine of its own where one can be booted, and against a
//! socket that listens as systemd does everywhere.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Response};
use support::{Gateway, Machine, Request, Traffic, Upstream, free_port};

/// What the service tells systemd.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(folder: &Path) -> Self {
        let socket = UnixDatagram::bind(folder.join("notify")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(socket)
    }

    /// The next message that has this line; the ones before it are skipped.
    fn hears(&self, line: &str) -> String {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let Ok(count) = self.0.recv(&mut buffer) else {
                break;
            };
            let message = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if message.lines().any(|it| it == line) {
                return message;
            }
            seen.push(message);
        }
        panic!("{line} is not among {seen:?}");
    }

    /// Nothing but signs of life has come since.
    fn has_heard_no_more(&self) {
        self.0.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(count) = self.0.recv(&mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..count]).into_owned();
            assert_eq!(message.trim(), "WATCHDOG=1");
        }
        self.0.set_nonblocking(false).unwrap();
    }
}

#[tokio::test]
async fn systemd_is_told_of_start_reload_upgrade_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::listen(folder.path());
    let socket = folder.path().join("notify");
    let variables = [
        ("NOTIFY_SOCKET", socket.to_str().unwrap()),
        ("WATCHDOG_USEC", "400000"),
    ];
    let config = "services: { a: { routes: [{ path: /a, respond: { body: one } }] } }";
    let mut gateway = Gateway::start_in(folder, config, &variables).await;
    let traffic = Traffic::start(gateway.address, "/a");
    let manager = tokio::task::spawn_blocking(move || {
        assert!(manager.hears("READY=1").contains("STATUS=serving"));
        manager.hears("WATCHDOG=1");
        manager.hears("WATCHDOG=1");
        manager
    });
    let manager = manager.await.unwrap();

    gateway.edit("body: one", "body: two");
    assert_eq!(gateway.command(&["reload"]).await.0, 0);
    assert!(manager.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    assert!(manager.hears("READY=1").contains("configuration 2"));
    gateway.edit("body: two", "bdy: two");
    assert_ne!(gateway.command(&["reload"]).await.0, 0);
    manager.hears("RELOADING=1");
    assert!(manager.hears("READY=1").contains("configuration 2"));
    assert_eq!(gateway.get("/a").send().await.text(), "two");
    assert_ne!(gateway.command(&["upgrade"]).await.0, 0);
    manager.has_heard_no_more();

    gateway.edit("bdy: two", "body: three");
    let pid = gateway.upgrade().await;
    let handed_over = manager.hears(&format!("MAINPID={pid}"));
    assert!(handed_over.contains("READY=1"), "{handed_over}");
    assert!(gateway.wait().await.success());
    // The old process is silent now, so this is the new one.
    manager.has_heard_no_more();
    manager.hears("WATCHDOG=1");
    assert!(traffic.end().await > 0);
    support::send_signal(pid, "TERM");
    manager.hears("STOPPING=1");
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn the_unit_is_sound_and_locked_down() {
    if !has("systemd-analyze") {
        return eprintln!("not run: there is no systemd-analyze here");
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = std::fs::read_to_string("systemd/tollgate.service").unwrap();
    let unit = unit.replace("/usr/bin/tollgate", env!("CARGO_BIN_EXE_tollgate"));
    let path = folder.path().join("tollgate.service");
    std::fs::write(&path, unit).unwrap();
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze")
            .args(arguments)
            .arg(&path)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8(text).unwrap())
    };
    let (status, said) = analyze(&["verify", "--man=no"]);
    assert!(status.success() && said.trim().is_empty(), "{said}");
    // In tenths: at most 1.5.
    let (status, said) = analyze(&["security", "--offline=yes", "--threshold=15"]);
    assert!(status.success(), "{said}");
}

/// Answers after a while.
async fn slow() -> Upstream {
    Upstream::serving(|_| async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        Response::new(Full::new(Bytes::from_static(b"at last")).boxed())
    })
    .await
}

fn write(machine: &Machine, path: &str, text: &str) {
    // A file that is replaced, not one that is written to.
    machine.ok(&format!(
        "cat > {path}.new <<'END'\n{text}\nEND\nchmod 640 {path}.new; \
         chgrp tollgate {path}.new 2>/dev/null; mv {path}.new {path}"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_machine_installs_starts_reloads_upgrades_and_stops_it() {
    let (Ok(root), Ok(package)) = (
        std::env::var("TOLLGATE_MACHINE"),
        std::env::var("TOLLGATE_PACKAGE"),
    ) else {
        return eprintln!(
            "no machine was booted (`make test-systemd` does): the socket above stands for systemd"
        );
    };
    let machine = Machine::boot(Path::new(&root), Path::new(&package));
    let backend = slow().await;
    let (listen, admin) = (free_port(), free_port());
    let config = |body: &str| {
        format!(
            "server: {{ listen: \"{listen}\", watch_files: false }}\n\
             admin: {{ listen: \"{admin}\" }}\n\
             auth_providers: {{ main: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: {{ file: \"${{CREDENTIALS_DIRECTORY}}/secret_jwt\" }} }} }} }} }}\n\
             services:\n  now: {{ routes: [{{ path: /now, {body} }}] }}\n  \
             slow: {{ base_url: \"http://{}\", routes: [/slow] }}\n  \
             inner: {{ auth: main, routes: [{{ path: /inner, respond: {{ body: inner }} }}] }}",
            backend.address
        )
    };
    let get = |path: &str| Request::new(listen, Method::GET, path).send();

    // Install, over a configuration that is there already.
    machine.ok("mkdir -p /etc/tollgate/secrets; umask 077; \
                printf 0123456789abcdef0123456789abcdef > /etc/tollgate/secrets/jwt");
    write(
        &machine,
        "/etc/tollgate/tollgate.yaml",
        &config("respond: { body: one }"),
    );
    machine.ok("mkdir -p /etc/systemd/system/tollgate.service.d; \
                printf '[Service]\\nWatchdogSec=2s\\n' > /etc/systemd/system/tollgate.service.d/test.conf");
    machine.ok("dpkg --force-confold --install /tollgate.deb");
    assert_eq!(machine.property("ActiveState"), "active");
    let first = machine.property("MainPID");
    let owner = machine.ok(&format!("stat -c %U /proc/{first}"));
    assert_eq!(owner, "tollgate");
    let caps = machine.ok(&format!("grep CapEff /proc/{first}/status"));
    assert!(caps.ends_with("0000000000000400"), "{caps}");
    assert_eq!(get("/now").await.text(), "one");
    get("/inner").await.assert_status(401);
    let mut traffic = Traffic::start(listen, "/now");
    traffic.flows(50).await;

    // Reload: what is good is in force when the command ends, what is not changes nothing.
    write(
        &machine,
        "/etc/tollgate/tollgate.yaml",
        &config("respond: { body: two }"),
    );
    machine.ok("systemctl reload tollgate");
    assert_eq!(get("/now").await.text(), "two");
    write(
        &machine,
        "/etc/tollgate/tollgate.yaml",
        &config("rspond: 1"),
    );
    let (code, _) = machine.run("systemctl reload tollgate");
    assert_ne!(code, 0);
    assert_eq!(machine.property("ActiveState"), "active");
    assert!(
        machine.journal().contains("rspond"),
        "{}",
        machine.journal()
    );
    assert_eq!(get("/now").await.text(), "two");
    traffic.flows(50).await;

    // Upgrade: the package comes again; a program that can't take over leaves the old one be.
    machine.ok("dpkg --install /tollgate.deb");
    assert_eq!(machine.property("MainPID"), first);
    write(
        &machine,
        "/etc/tollgate/tollgate.yaml",
        &config("respond: { body: three }"),
    );
    machine.ok("dpkg --install /tollgate.deb");
    let second = machine.property("MainPID");
    assert_ne!(second, first);
    assert_eq!(machine.property("ActiveState"), "active");
    assert_eq!(get("/now").await.text(), "three");
    traffic.flows(50).await;
    assert_eq!(machine.property("NRestarts"), "0");

    // A process that does not answer itself is replaced.
    let answers = traffic.end().await;
    machine.ok(&format!("kill -STOP {second}"));
    let deadline = Instant::now() + Duration::from_secs(30);
    while machine.property("NRestarts") == "0" || machine.property("ActiveState") != "active" {
        assert!(Instant::now() < deadline, "{}", machine.journal());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(get("/now").await.text(), "three");

    // Stop: the request that is under way ends first.
    let under_way = tokio::spawn(get("/slow"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    machine.ok("systemctl stop tollgate");
    assert_eq!(under_way.await.unwrap().text(), "at last");
    assert_eq!(machine.property("Result"), "success");
    machine.ok("dpkg --purge tollgate");
    machine.ok("test ! -e /usr/bin/tollgate; test ! -e /etc/tollgate/tollgate.yaml");
    eprintln!("on a machine of its own: {answers} answers, all good");
}
