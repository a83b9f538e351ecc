//! One process after another behind the same address, and every way in which that can fail.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Client, Gateway, Upstream};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn config(services: &str) -> String {
    format!(
        "server: {{ listen: $LISTEN, threads: 2, watch_files: false, upgrade_timeout: 20s, shutdown: {{ deadline: 60s }} }}\nadmin: {{ listen: $ADMIN }}\nrate_limit: {{ limit: 1000, window: 1h }}\n{services}\n"
    )
}

fn answers() -> String {
    config("services: { a: { routes: [{ path: /a, respond: { body: one } }] } }")
}

/// A gateway that was started by the name of a link.
async fn linked(config: &str) -> (Gateway, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("tollgate");
    symlink(env!("CARGO_BIN_EXE_tollgate"), &link).unwrap();
    let gateway = Gateway::start_as(&link, folder, config, &[]).await;
    (gateway, link)
}

/// Makes the link lead to a program of a shell's.
fn replace(link: &Path, script: &str) {
    let program = link.with_extension("sh");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::remove_file(link).unwrap();
    symlink(program, link).unwrap();
}

/// Processes that this one, whichever of its threads, started and that still run.
fn children(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |thread: std::fs::DirEntry| {
        std::fs::read_to_string(thread.path().join("children")).unwrap_or_default()
    };
    let all: String = threads.map(|thread| of_thread(thread.unwrap())).collect();
    all.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_new_process_has_the_new_configuration_and_new_addresses() {
    // Nobody has to notice an upgrade, so there is no time to be left for it.
    let patient = answers().replace("deadline: 60s", "grace: 1h, deadline: 60s");
    let mut gateway = Gateway::start(&patient).await;
    let old = gateway.pid();
    let another = crate::support::free_port();
    gateway.edit("body: one", "body: two");
    gateway.edit(
        &format!("listen: {}", gateway.address),
        &format!("listen: [\"{}\", \"{another}\"]", gateway.address),
    );
    let (code, printed, _) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0);
    assert!(printed.contains("! server.listen"), "{printed}");
    let pid = gateway.upgrade().await;
    assert!(gateway.wait().await.success());
    let status = gateway.status().await;
    assert_eq!(
        (&status["pid"], &status["upgraded_from"]),
        (&pid.into(), &old.into())
    );
    for address in [gateway.address, another] {
        let mut client = Client::connect(address, None).await;
        assert_eq!(client.get("/a").await.assert_status(200).text(), "two");
    }
    // The new one can be succeeded too; an address that is gone is refused at once.
    gateway.edit(&format!(", \"{another}\"]"), "]");
    gateway.upgrade().await;
    until(async || std::net::TcpStream::connect(another).is_err()).await;
    assert_eq!(gateway.get("/a").send().await.text(), "two");
}

#[tokio::test]
async fn requests_in_flight_end_in_the_old_process_and_with_them_the_process() {
    let (release, released) = tokio::sync::watch::channel(false);
    let upstream = Upstream::serving(move |_| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|is_released| *is_released).await;
            Response::new(Full::new(Bytes::from_static(b"at last")).boxed())
        }
    })
    .await;
    let services = format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [/slow, {{ path: /a, respond: {{ body: one }} }}] }} }}",
        upstream.address
    );
    let mut gateway = Gateway::start(&config(&services)).await;
    let mut kept = gateway.connect().await;
    kept.get("/a")
        .await
        .assert_header("connection", "keep-alive");
    let waiting = tokio::spawn(gateway.get("/slow").send());
    until(async || upstream.connections() == 1).await;
    // Accepted, and nothing has been sent yet.
    let mut silent = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    gateway.upgrade().await;
    // The framework would have closed it when its listener stopped.
    silent
        .write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).await.unwrap();
    let answer = answer.replace("Connection:", "connection:");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    assert!(
        answer.contains("connection: close") && answer.ends_with("one"),
        "{answer:?}"
    );
    // A client that stays is asked to go, and comes to the new process.
    if let Some(answer) = kept.try_get("/a").await {
        answer
            .assert_status(200)
            .assert_header("connection", "close");
    }
    gateway.get("/a").send().await.assert_status(200);
    assert!(gateway.process_log().contains("ends with its last request"));
    release.send(true).unwrap();
    assert_eq!(waiting.await.unwrap().assert_status(200).text(), "at last");
    // Long before the deadline.
    assert!(gateway.wait().await.success());
    assert!(
        gateway.process_log().contains("stopped"),
        "{}",
        gateway.process_log()
    );
}

#[tokio::test]
async fn a_long_stream_has_until_the_deadline_and_a_signal_ends_it_at_once() {
    let upstream = Upstream::raw(|stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            if !message.is_text() || socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let services = format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [/socket] }} }}",
        upstream.address
    );
    let mut gateway = Gateway::start(&config(&services)).await;
    let url = format!("ws://{}/socket", gateway.address);
    let stream = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    gateway.upgrade().await;
    // Longer than idle connections are kept.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        socket.send(Message::text("still there?")).await.unwrap();
        let echo = socket.next().await.unwrap().unwrap();
        assert_eq!(echo.into_text().unwrap().as_str(), "still there?");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gateway.signal("TERM");
    assert!(gateway.wait().await.success());
    assert!(gateway.process_log().contains("at once by another signal"));
}

/// Upgrades to what the link leads to now; it fails at `step`, and nothing has happened.
async fn fails_at(gateway: &Gateway, step: &str, reason: &str) {
    let before = gateway.status().await;
    let mut kept = gateway.connect().await;
    kept.get("/a").await.assert_status(200);
    let (code, printed, said) = gateway.command(&["upgrade"]).await;
    assert_eq!(code, 1, "{printed}{said}");
    assert!(said.contains(&format!("step `{step}`")), "{step}: {said}");
    assert!(said.contains(reason), "{reason}: {said}");
    let after = gateway.status().await;
    assert_eq!(after["pid"], before["pid"]);
    assert_eq!(after["phase"], "serving");
    assert_eq!(after["last_upgrade"]["step"], step);
    assert_eq!(
        after["upgrades"].as_u64(),
        before["upgrades"].as_u64().map(|it| it + 1)
    );
    let left = children(gateway.pid());
    assert!(left.is_empty(), "the new process still runs: {left:?}");
    kept.get("/a")
        .await
        .assert_status(200)
        .assert_header("connection", "keep-alive");
    gateway.get("/a").send().await.assert_status(200);
    gateway.admin("/readyz").await.assert_status(200);
}

fn say(step: &str) -> String {
    format!("printf '{{\"done\":{{\"step\":\"{step}\"}}}}' >&0")
}

#[tokio::test]
async fn whatever_fails_the_old_process_goes_on_as_if_nothing_had_happened() {
    let (mut gateway, link) = linked(&answers()).await;
    let pid = gateway.pid();
    std::fs::remove_file(&link).unwrap();
    symlink("/nowhere", &link).unwrap();
    fails_at(&gateway, "start", "can't be started").await;
    replace(&link, "exit 7");
    fails_at(&gateway, "configuration", "ended with exit status: 7").await;
    replace(&link, "echo what is this >&0; sleep 30");
    fails_at(&gateway, "configuration", "expected value").await;
    replace(&link, &format!("{}; exit 8", say("configuration")));
    fails_at(&gateway, "listeners", "exit status: 8").await;
    replace(
        &link,
        &format!("{}; {}; sleep 30", say("configuration"), say("health")),
    );
    fails_at(&gateway, "listeners", "not its turn").await;
    let healthy = ["configuration", "listeners", "health"].map(say).join(";");
    replace(&link, &format!("{healthy}; exit 9"));
    fails_at(&gateway, "accept", "exit status: 9").await;

    std::fs::remove_file(&link).unwrap();
    symlink(env!("CARGO_BIN_EXE_tollgate"), &link).unwrap();
    gateway.edit("path: /a", "pth: /a");
    fails_at(&gateway, "configuration", "unknown key `pth`").await;
    gateway.edit("pth: /a", "path: /a");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen: {}", gateway.address);
    let both = format!(
        "listen: [\"{}\", \"{}\"]",
        gateway.address,
        taken.local_addr().unwrap()
    );
    gateway.edit(&listen, &both);
    fails_at(&gateway, "listeners", "another process listening").await;
    gateway.edit(&both, &listen);
    let metrics = gateway.admin("/metrics").await.text();
    assert!(
        metrics.contains("tollgate_upgrades_total{outcome=\"failed\"} 8"),
        "{metrics}"
    );

    // And counts go on where they were: 8 times four requests, and one now.
    let answer = gateway.get("/a").send().await;
    let remaining = answer.header("ratelimit").unwrap();
    assert!(remaining.contains("r=975"), "{remaining}");
    assert_eq!(gateway.pid(), pid);
    gateway.upgrade().await;
    assert!(gateway.wait().await.success());
}

#[tokio::test]
async fn a_new_process_that_hangs_is_given_up() {
    let config = answers().replace("20s", "300ms");
    let (gateway, link) = linked(&config).await;
    replace(&link, "sleep 60");
    fails_at(&gateway, "configuration", "not done within 300ms").await;
    let healthy = ["configuration", "listeners", "health"].map(say).join(";");
    replace(&link, &format!("{healthy}; exec sleep 60"));
    fails_at(&gateway, "accept", "not done within 300ms").await;
}

#[tokio::test]
async fn nobody_else_can_join_in() {
    let (gateway, link) = linked(&answers()).await;
    replace(&link, "exec sleep 60");
    gateway.signal("USR2");
    until(async || !children(gateway.pid()).is_empty()).await;
    // The framework listens on a socket in the file system that everybody may connect to.
    let child = children(gateway.pid()).remove(0);
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    for pid in [gateway.pid().to_string(), child.clone()] {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            let Ok(target) = std::fs::read_link(entry.unwrap().path()) else {
                continue;
            };
            let target = target.to_string_lossy().into_owned();
            let Some(inode) = target
                .strip_prefix("socket:[")
                .and_then(|it| it.strip_suffix(']'))
            else {
                continue;
            };
            let mut entries = sockets
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>());
            if let Some(entry) = entries.find(|entry| entry.get(6) == Some(&inode)) {
                // Num RefCount Protocol Flags Type St Inode Path: no path, and not listening.
                assert_eq!(entry.len(), 7, "{entry:?}");
                assert_ne!(entry[3], "00010000", "{entry:?}");
            }
        }
    }
    gateway.signal("USR2");
    until(async || gateway.process_log().contains("while one is under way")).await;
    // The process that hangs is this test's, and ends with the upgrade.
    let ended = std::process::Command::new("kill")
        .args(["-9", &child])
        .status();
    assert!(ended.unwrap().success());
    until(async || gateway.status().await["upgrades"] == 1).await;
    gateway.get("/a").send().await.assert_status(200);
}

#[tokio::test]
async fn a_process_that_is_told_to_end_is_not_succeeded() {
    let config = answers().replace("deadline: 60s", "grace: 2s");
    let (mut gateway, link) = linked(&config).await;
    let healthy = ["configuration", "listeners"].map(say).join(";");
    let release = link.with_extension("go");
    let wait = format!("until [ -e {} ]; do sleep 0.01; done", release.display());
    replace(
        &link,
        &format!("{healthy}; {wait}; {}; exec sleep 60", say("health")),
    );
    gateway.signal("USR2");
    until(async || !children(gateway.pid()).is_empty()).await;
    gateway.signal("TERM");
    until(async || gateway.status().await["phase"] == "draining").await;
    std::fs::write(release, "").unwrap();
    until(async || gateway.process_log().contains("told to end meanwhile")).await;
    assert!(gateway.wait().await.success());
}
