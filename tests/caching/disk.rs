//! Answers that outlive the process: restarts, upgrades, purges, and what goes wrong with disks.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::backend::until;
use crate::support::{Answer, Client, Gateway, Upstream, send_signal};

/// Each answer is another one; `/large` has bodies of 3 MiB, `/tagged` has a tag.
async fn backend() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::answering(move |seen| {
        let mut response = Response::builder()
            .header("cache-control", "max-age=600, stale-if-error=600")
            .header("vary", "accept");
        if seen.target.starts_with("/tagged") {
            response = response.header("surrogate-key", "one two");
        }
        let number = count.fetch_add(1, Ordering::Relaxed);
        if seen.target == "/large" {
            response = response.header("etag", "\"v1\"");
        }
        if seen.header("if-none-match").is_some() {
            return response.status(304).body(Bytes::new()).unwrap();
        }
        let body = match seen.target.split('?').next() {
            Some("/large") => large(number),
            Some("/medium") => vec![number as u8; 100_000].into(),
            _ => Bytes::from(number.to_string()),
        };
        response.body(body).unwrap()
    })
    .await
}

/// A body no part of which is like another one.
fn large(number: usize) -> Bytes {
    let words = (0..3 << 17).map(|at: u64| (at * 1_000 + number as u64).to_be_bytes());
    words.flatten().collect::<Vec<u8>>().into()
}

/// A gateway that keeps answers in a folder.
async fn gateway(upstream: &Upstream, folder: &Path, more: &str) -> Gateway {
    let config = format!(
        "server: {{ listen: $LISTEN, threads: 2, cache: {{ disk: {{ path: {}, max_size: 64MiB }} }} }}
admin: {{ listen: $ADMIN, token: 0123456789abcdef0123456789abcdef }}
services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], outlier_detection: off, retry: off, cache: {{ {more} }} }} }}",
        folder.display(),
        upstream.address
    );
    Gateway::start_in(tempfile::tempdir().unwrap(), &config, &[]).await
}

/// The same, once it knows what is there.
async fn ready(upstream: &Upstream, folder: &Path) -> Gateway {
    let gateway = gateway(upstream, folder, "").await;
    is_ready(&gateway).await;
    gateway
}

async fn is_ready(gateway: &Gateway) {
    until(async || disk(gateway).await["state"] == "ready").await;
}

async fn disk(gateway: &Gateway) -> Value {
    gateway.admin("/cache").await.assert_status(200).json()["disk"].clone()
}

/// Waits until so many answers are on disk.
async fn written(gateway: &Gateway, count: usize) {
    until(async || disk(gateway).await["objects"] == count).await;
}

async fn ask(gateway: &Gateway, path: &str) -> Answer {
    let request = gateway.get(path).header("host", "h").header("accept", "a");
    request.send().await.assert_status(200)
}

async fn text(gateway: &Gateway, path: &str) -> String {
    ask(gateway, path).await.text()
}

/// Ends a gateway as nothing else does: without a chance to do anything.
fn kill(gateway: Gateway) {
    send_signal(gateway.serving(), "KILL");
    drop(gateway);
}

/// The files of all answers.
fn files(folder: &Path) -> Vec<PathBuf> {
    let list = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().path())
            .collect::<Vec<_>>()
    };
    let parts = list(folder).into_iter().filter(|path| path.is_dir());
    parts.flat_map(|part| list(&part)).collect()
}

fn log_of(gateway: &Gateway) -> String {
    std::fs::read_to_string(gateway.directory.path().join("process.log")).unwrap()
}

async fn purge(gateway: &Gateway, arguments: &[&str]) {
    let (code, printed, said) = gateway.command(&[&["purge"], arguments].concat()).await;
    assert_eq!(code, 0, "{printed}{said}");
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn what_was_kept_before_a_restart_is_given_after_it() {
    let (upstream, folder) = (backend().await, folder());
    let first = ready(&upstream, folder.path()).await;
    let small = text(&first, "/a").await;
    let request = first.get("/a").header("host", "h").header("accept", "b");
    let variant = request.send().await.text();
    assert_ne!(small, variant);
    written(&first, 2).await;
    kill(first);
    let second = ready(&upstream, folder.path()).await;
    let answer = ask(&second, "/a").await;
    assert_eq!(answer.text(), small);
    let status = answer.header("cache-status").unwrap();
    assert!(status.ends_with("; detail=disk"), "{status}");
    assert!(answer.header("age").is_some());
    let request = second.get("/a").header("host", "h").header("accept", "b");
    assert_eq!(request.send().await.text(), variant);
    // It is in memory now.
    let status = ask(&second, "/a").await;
    assert!(!status.header("cache-status").unwrap().contains("disk"));
    let head = second.request(Method::HEAD, "/a");
    let head = head.header("host", "h").header("accept", "a").send().await;
    head.assert_status(200).assert_header("content-length", "1");
    assert_eq!(upstream.seen().len(), 2);
    assert_eq!(disk(&second).await["hits"], 2);
    let reasons: Vec<_> = second
        .log(4)
        .await
        .iter()
        .map(|it| it["cache_reason"].clone())
        .collect();
    assert_eq!(reasons.iter().filter(|it| **it == "disk").count(), 2);
}

#[tokio::test]
async fn a_large_answer_is_given_from_disk_part_by_part() {
    let (upstream, folder) = (backend().await, folder());
    let first = ready(&upstream, folder.path()).await;
    let body = ask(&first, "/large").await.body;
    assert_eq!(body.len(), 3 << 20);
    written(&first, 1).await;
    kill(first);
    let second = ready(&upstream, folder.path()).await;
    assert!(ask(&second, "/large").await.body == body);
    for (range, part) in [
        ("bytes=0-0", 0..1),
        ("bytes=65535-65536", 65_535..65_537),
        ("bytes=1000000-2999999", 1_000_000..3_000_000),
        ("bytes=-5", body.len() - 5..body.len()),
    ] {
        let request = second
            .get("/large")
            .header("host", "h")
            .header("accept", "a");
        let answer = request
            .header("range", range)
            .send()
            .await
            .assert_status(206);
        assert!(answer.body == body.slice(part), "{range}");
    }
    assert_eq!(upstream.seen().len(), 1);
    let report: Value = second.admin("/cache").await.json();
    assert_eq!(report["bytes"], 0, "none of it is in memory");
}

/// RFC 9111 §4.3.4, for what is on disk alone.
#[tokio::test]
async fn a_304_makes_an_answer_fresh_on_disk() {
    let (upstream, folder) = (backend().await, folder());
    let first = ready(&upstream, folder.path()).await;
    let body = ask(&first, "/large").await.body;
    written(&first, 1).await;
    kill(first);
    let second = ready(&upstream, folder.path()).await;
    purge(&second, &["http://h/large", "--soft"]).await;
    assert!(ask(&second, "/large").await.body == body);
    assert_eq!(second.log(1).await[0]["cache"], "revalidated");
    until(async || {
        let answer = ask(&second, "/large").await;
        assert!(answer.body == body);
        answer.header("cache-status").unwrap().contains("; hit;")
    })
    .await;
    let asked = upstream.seen().len();
    kill(second);
    let third = ready(&upstream, folder.path()).await;
    assert!(ask(&third, "/large").await.body == body);
    assert_eq!(upstream.seen().len(), asked);
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn an_upgrade_takes_the_disk_over() {
    let (upstream, folder) = (backend().await, folder());
    let mut gateway = ready(&upstream, folder.path()).await;
    let (a, b) = (text(&gateway, "/a").await, text(&gateway, "/b").await);
    written(&gateway, 2).await;
    gateway.upgrade().await;
    is_ready(&gateway).await;
    assert_eq!(text(&gateway, "/a").await, a);
    purge(&gateway, &["http://h/b"]).await;
    assert_ne!(text(&gateway, "/b").await, b);
    written(&gateway, 2).await;
    gateway.upgrade().await;
    is_ready(&gateway).await;
    assert_eq!(text(&gateway, "/a").await, a);
    assert_ne!(text(&gateway, "/b").await, b);
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test]
async fn no_purge_is_undone_by_a_restart() {
    let (upstream, folder) = (backend().await, folder());
    let paths = ["/a", "/b", "/p/c", "/p/d", "/tagged", "/e", "/f"];
    let mut gateway = ready(&upstream, folder.path()).await;
    let mut before = Vec::new();
    for path in paths {
        before.push(text(&gateway, path).await);
    }
    written(&gateway, paths.len()).await;
    // What is purged is on disk alone, or in memory, too.
    for arguments in [
        &["http://h/a"][..],
        &["--prefix", "/p/"],
        &["--tag", "two"],
        &["http://h/e", "--soft"],
    ] {
        purge(&gateway, arguments).await;
        kill(gateway);
        gateway = ready(&upstream, folder.path()).await;
    }
    assert_eq!(disk(&gateway).await["objects"], 3);
    for (path, before) in paths.iter().zip(before) {
        let is_kept = ["/b", "/f"].contains(path);
        assert_eq!(text(&gateway, path).await == before, is_kept, "{path}");
    }
    // `/e` is stale: it was asked for again, and kept again.
    written(&gateway, paths.len()).await;
    purge(&gateway, &["--all"]).await;
    assert_eq!(files(folder.path()), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn what_was_purged_softly_is_given_when_the_backend_fails_even_after_a_restart() {
    let (upstream, folder) = (backend().await, folder());
    let first = ready(&upstream, folder.path()).await;
    let before = text(&first, "/a").await;
    written(&first, 1).await;
    purge(&first, &["http://h/a", "--soft"]).await;
    kill(first);
    let second = ready(&upstream, folder.path()).await;
    drop(upstream);
    let answer = ask(&second, "/a").await;
    assert_eq!(answer.text(), before);
    assert_eq!(second.log(1).await[0]["cache"], "stale");
}

#[tokio::test]
async fn what_an_unsafe_request_changed_is_gone_from_disk() {
    let (upstream, folder) = (backend().await, folder());
    let first = ready(&upstream, folder.path()).await;
    let before = text(&first, "/a").await;
    written(&first, 1).await;
    let post = first.post("/a").header("host", "h").header("accept", "a");
    post.send().await.assert_status(200);
    written(&first, 0).await;
    kill(first);
    let second = ready(&upstream, folder.path()).await;
    assert_ne!(text(&second, "/a").await, before);
}

#[tokio::test]
async fn what_is_damaged_is_fetched_anew() {
    let (upstream, folder) = (backend().await, folder());
    let first = ready(&upstream, folder.path()).await;
    for path in ["/a", "/b", "/c", "/large"] {
        ask(&first, path).await;
    }
    written(&first, 4).await;
    kill(first);
    let mut files = files(folder.path());
    files.sort_by_key(|file| std::fs::metadata(file).unwrap().len());
    // One is torn, one has a bit turned over in its header, one in its body, and the large one in its
    // midst.
    let torn = std::fs::File::options()
        .write(true)
        .open(&files[0])
        .unwrap();
    torn.set_len(torn.metadata().unwrap().len() - 1).unwrap();
    let last = std::fs::metadata(&files[2]).unwrap().len() as usize - 1;
    for (file, at) in [(1, 60), (2, last), (3, 2_000_000)] {
        let mut bytes = std::fs::read(&files[file]).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&files[file], bytes).unwrap();
    }
    let second = ready(&upstream, folder.path()).await;
    assert_eq!(disk(&second).await["objects"], 2);
    let asked = upstream.seen().len();
    for path in ["/a", "/b", "/c"] {
        ask(&second, path).await;
    }
    assert_eq!(upstream.seen().len(), asked + 3);
    // What is given as it is read breaks off, and is gone.
    let stream = TcpStream::connect(second.address).await.unwrap();
    let mut fields = HeaderMap::new();
    fields.insert("accept", HeaderValue::from_static("a"));
    let mut client = Client::over(stream, "h").await;
    assert!(client.try_get_with("/large", &fields).await.is_none());
    assert_eq!(ask(&second, "/large").await.body.len(), 3 << 20);
    assert_eq!(disk(&second).await["damaged"], 4);
    let metrics = second.admin("/metrics").await.text();
    assert!(
        metrics.contains("\ntollgate_cache_disk_damaged_total 4\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_disk_that_fails_fails_no_request() {
    let (upstream, folder) = (backend().await, folder());
    let gateway = ready(&upstream, folder.path()).await;
    // What is written to can't be opened.
    std::fs::create_dir(folder.path().join("incoming")).unwrap();
    for number in 0..5 {
        text(&gateway, &format!("/{number}")).await;
    }
    until(async || disk(&gateway).await["failed"] == 5).await;
    assert_eq!(disk(&gateway).await["state"], "failing");
    assert!(
        ask(&gateway, "/1")
            .await
            .header("cache-status")
            .unwrap()
            .contains("hit")
    );
    std::fs::remove_dir(folder.path().join("incoming")).unwrap();
    let mut number = 5;
    until(async || {
        number += 1;
        text(&gateway, &format!("/{number}")).await;
        disk(&gateway).await["state"] == "ready"
    })
    .await;
    let log = log_of(&gateway);
    let count = |text: &str| log.matches(text).count();
    assert_eq!(
        count("kept answers can't be written to disk: path="),
        1,
        "{log}"
    );
    assert_eq!(
        count("kept answers are written to disk again: path="),
        1,
        "{log}"
    );
}

#[tokio::test]
async fn the_disk_is_bounded_also_by_what_is_written_later() {
    let (upstream, folder) = (backend().await, folder());
    let gateway = ready(&upstream, folder.path()).await;
    gateway.edit("64MiB", "1MiB");
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    for number in 0..40 {
        ask(&gateway, &format!("/medium?{number}")).await;
    }
    until(async || {
        let disk = disk(&gateway).await;
        let seen = |key: &str| disk[key].as_u64().unwrap();
        assert!(seen("bytes") <= 1 << 20, "{disk}");
        seen("evictions") + seen("objects") + seen("busy") == 40
    })
    .await;
    let bytes: u64 = files(folder.path())
        .iter()
        .map(|it| it.metadata().unwrap().len())
        .sum();
    assert!((500_000..1 << 20).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn whatever_is_killed_while_it_writes_leaves_only_whole_answers() {
    let folder = folder();
    let upstream = Upstream::answering(|seen| {
        let number: usize = seen.target.trim_start_matches('/').parse().unwrap();
        Response::builder()
            .header("cache-control", "max-age=600")
            .body(body_of(number))
            .unwrap()
    })
    .await;
    for round in 0..4 {
        let gateway = ready(&upstream, folder.path()).await;
        let numbers = round * 10..round * 10 + 40;
        let asking = numbers.map(|number| {
            let request = gateway.get(&format!("/{number}")).header("host", "h");
            async move { assert!(request.send().await.body == body_of(number), "{number}") }
        });
        futures_util::future::join_all(asking).await;
        kill(gateway);
    }
    let gateway = ready(&upstream, folder.path()).await;
    assert_eq!(disk(&gateway).await["damaged"], 0);
    assert_eq!(disk(&gateway).await["objects"], files(folder.path()).len());
    assert!(!files(folder.path()).is_empty());
}

fn body_of(number: usize) -> Bytes {
    vec![number as u8; number * 7919].into()
}

#[tokio::test]
async fn a_second_gateway_leaves_the_folder_to_the_first() {
    let (upstream, folder) = (backend().await, folder());
    let first = ready(&upstream, folder.path()).await;
    let kept = text(&first, "/a").await;
    written(&first, 1).await;
    let second = gateway(&upstream, folder.path(), "").await;
    assert_eq!(disk(&second).await["state"], "waiting");
    assert_ne!(text(&second, "/b").await, kept);
    assert!(log_of(&second).contains("are another process's"));
    kill(first);
    is_ready(&second).await;
    assert_eq!(text(&second, "/a").await, kept);
    written(&second, 2).await;
}
