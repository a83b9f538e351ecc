//! Many clients and one answer: who fetches it, who reads along, and what becomes of one that breaks off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{Answer, Gateway, Request, Upstream};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const FRESH: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nSurrogate-Key: t\r\n";

/// A backend that sends its answer in steps, each when it is told to go on, and then closes.
struct Stepwise {
    upstream: Upstream,
    count: Arc<AtomicUsize>,
    steps: Arc<Semaphore>,
}

impl Stepwise {
    /// `answer` has the parts for each request by its number.
    async fn new(answer: impl Fn(usize) -> Vec<String> + Clone + Send + Sync + 'static) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let steps = Arc::new(Semaphore::new(0));
        let (counted, awaited) = (count.clone(), steps.clone());
        let upstream = Upstream::raw(move |mut stream| {
            let (counted, awaited, answer) = (counted.clone(), awaited.clone(), answer.clone());
            async move {
                if read_until(&mut stream, "\r\n\r\n").await.is_none() {
                    return;
                }
                for part in answer(counted.fetch_add(1, Ordering::SeqCst)) {
                    awaited.acquire().await.unwrap().forget();
                    if stream.write_all(part.as_bytes()).await.is_err() {
                        return;
                    }
                }
                // The last step is the end of the connection.
                awaited.acquire().await.unwrap().forget();
            }
        })
        .await;
        Self {
            upstream,
            count,
            steps,
        }
    }

    fn go_on(&self, steps: usize) {
        self.steps.add_permits(steps);
    }

    async fn asked(&self, count: usize) {
        until(async || self.count.load(Ordering::SeqCst) >= count).await;
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// Reads until a text has come; `None` if the connection ends before.
async fn read_until(stream: &mut TcpStream, end: &str) -> Option<String> {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    let work = async {
        loop {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => read.extend_from_slice(&chunk[..count]),
            }
            let text = String::from_utf8_lossy(&read);
            if text.contains(end) {
                return Some(text.into_owned());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it comes")
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let work = stream.read_to_end(&mut rest);
    let _ = tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it ends");
    String::from_utf8_lossy(&rest).into_owned()
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn gateway(upstream: &Upstream, cache: &str) -> Gateway {
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "server: {{ listen: $LISTEN, cache: {{ memory: 4MiB }} }}
admin: {{ listen: $ADMIN, token: {TOKEN} }}
services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], retry: off, outlier_detection: off, cache: {cache} }} }}",
        upstream.address
    );
    Gateway::start_in(directory, &config, &[]).await
}

const PATIENT: &str = "{ wait: 1m, max_object_size: 1MiB }";

/// A client that has asked.
async fn client(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream
        .write_all(b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    stream
}

async fn purge(gateway: &Gateway, target: &str) -> Answer {
    let request = Request::new(gateway.admin, Method::POST, "/purge");
    let request = request.header("authorization", &format!("Bearer {TOKEN}"));
    request
        .body(format!("{{\"target\": {target}}}"))
        .send()
        .await
        .assert_status(200)
}

fn sized(body: &str) -> String {
    format!("{FRESH}Content-Length: {}\r\n\r\n", body.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_cause_one_fetch() {
    let backend = Stepwise::new(|_| vec![sized("hello") + "hello"]).await;
    let gateway = gateway(&backend.upstream, PATIENT).await;
    let mut clients = JoinSet::new();
    let mut first = client(&gateway).await;
    backend.asked(1).await;
    for _ in 1..1000 {
        let mut stream = client(&gateway).await;
        clients.spawn(async move { read_to_end(&mut stream).await });
    }
    backend.go_on(1000);
    assert!(read_to_end(&mut first).await.ends_with("hello"));
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"),
            "{answer}"
        );
    }
    assert_eq!(backend.count(), 1);
}

/// Two parts, the second of which comes when it is told to; chunks are passed on as they come.
fn in_two_parts(second: &str) -> Vec<String> {
    let header = format!("{FRESH}Transfer-Encoding: chunked\r\n\r\n");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    vec![header + &chunk("first"), chunk(second) + "0\r\n\r\n"]
}

#[tokio::test]
async fn those_who_come_during_a_fetch_read_along() {
    let backend = Stepwise::new(|_| in_two_parts("second")).await;
    let gateway = gateway(&backend.upstream, PATIENT).await;
    let mut one = client(&gateway).await;
    backend.go_on(1);
    read_until(&mut one, "first").await.unwrap();
    let mut other = client(&gateway).await;
    read_until(&mut other, "first").await.unwrap();
    backend.go_on(2);
    for mut reader in [one, other] {
        let rest = read_to_end(&mut reader).await;
        assert!(
            rest.contains("second") && rest.ends_with("0\r\n\r\n"),
            "{rest}"
        );
    }
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_end_the_fetch() {
    let backend = Stepwise::new(|_| in_two_parts("second")).await;
    let gateway = gateway(&backend.upstream, PATIENT).await;
    let mut one = client(&gateway).await;
    backend.go_on(1);
    read_until(&mut one, "first").await.unwrap();
    let mut other = client(&gateway).await;
    read_until(&mut other, "first").await.unwrap();
    // Without a farewell, so that the rest can't be written.
    one.set_zero_linger().unwrap();
    drop(one);
    backend.go_on(2);
    assert!(read_to_end(&mut other).await.ends_with("0\r\n\r\n"));
    let kept = gateway.get("/a").header("host", "h").send().await;
    assert_eq!(kept.text(), "firstsecond");
    assert_eq!(kept.header("content-length"), Some("11"));
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn what_breaks_off_is_never_given_as_a_whole() {
    for (header, is_framed) in [
        (format!("{FRESH}Content-Length: 100\r\n\r\n"), true),
        (
            format!("{FRESH}Transfer-Encoding: chunked\r\n\r\n5\r\n"),
            true,
        ),
        // Nobody can tell the end of this one from its breaking off.
        (format!("{FRESH}\r\n"), false),
    ] {
        let backend = Stepwise::new(move |number| match number {
            0 => vec![header.clone(), "first".to_owned()],
            _ => vec![sized("whole") + "whole"],
        })
        .await;
        let gateway = gateway(&backend.upstream, PATIENT).await;
        let mut readers = vec![client(&gateway).await];
        backend.asked(1).await;
        if is_framed {
            readers.push(client(&gateway).await);
        }
        backend.go_on(100);
        for mut reader in readers {
            let answer = read_to_end(&mut reader).await;
            // Whoever came too late to read along has asked again.
            let is_first = answer.contains("first");
            let is_whole = answer.contains("\r\n0\r\n\r\n");
            assert!(!is_framed || !is_first || !is_whole, "{answer}");
        }
        let next = gateway.get("/a").header("host", "h").send().await;
        assert_eq!(next.text(), "whole");
        assert_eq!(backend.count(), 2);
    }
}

#[tokio::test]
async fn what_is_purged_while_it_comes_is_not_kept() {
    for target in [
        "{\"url\": \"http://h/a\"}",
        "{\"prefix\": \"/\"}",
        "{\"tag\": \"t\"}",
        "\"all\"",
    ] {
        // At the moment of the purge the backend has been asked, or has begun to answer.
        for has_begun in [false, true] {
            let backend = Stepwise::new(|number| in_two_parts(&format!("second {number}"))).await;
            let gateway = gateway(&backend.upstream, PATIENT).await;
            let mut one = client(&gateway).await;
            backend.asked(1).await;
            if has_begun {
                backend.go_on(1);
                read_until(&mut one, "first").await.unwrap();
            }
            purge(&gateway, target).await;
            backend.go_on(3);
            assert!(read_to_end(&mut one).await.contains("second 0"), "{target}");
            backend.go_on(3);
            for _ in 0..2 {
                let mut other = client(&gateway).await;
                let answer = read_to_end(&mut other).await;
                assert!(answer.contains("second 1"), "{target} {has_begun} {answer}");
            }
            assert_eq!(backend.count(), 2);
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    const SIZE: usize = 40 << 20;
    let upstream = Upstream::answering(|_| {
        let response = Response::builder().header("cache-control", "max-age=600");
        response.body(Bytes::from(vec![b'x'; SIZE])).unwrap()
    })
    .await;
    let config = format!(
        "services: {{ a: {{ base_url: \"http://{}\", routes: [/a], cache: {{ max_object_size: 64MiB, wait: 1m }} }} }}",
        upstream.address
    );
    let gateway = Gateway::start(&config).await;
    let mut one = client(&gateway).await;
    read_until(&mut one, "\r\n\r\n").await.unwrap();
    let other = gateway.get("/a").header("host", "h").send().await;
    assert_eq!(other.body.len(), SIZE);
    assert_eq!(upstream.seen().len(), 1);
    drop(one);
}

#[tokio::test]
async fn a_slow_fetch_does_not_stall_a_crowd() {
    let backend = Stepwise::new(|_| vec![sized("hello") + "hello"]).await;
    let gateway = gateway(&backend.upstream, "{ wait: 50ms, max_object_size: 1MiB }").await;
    let mut one = client(&gateway).await;
    backend.asked(1).await;
    let mut other = client(&gateway).await;
    backend.asked(2).await;
    backend.go_on(4);
    assert!(read_to_end(&mut one).await.ends_with("hello"));
    assert!(read_to_end(&mut other).await.ends_with("hello"));
}

#[tokio::test]
async fn answers_that_are_not_kept_do_not_wait_for_each_other() {
    let backend = Stepwise::new(|_| {
        vec!["HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nok".to_owned()]
    })
    .await;
    let gateway = gateway(&backend.upstream, PATIENT).await;
    backend.go_on(2);
    assert_eq!(
        gateway.get("/a").header("host", "h").send().await.text(),
        "ok"
    );
    let mut clients = Vec::new();
    for number in 2..6 {
        clients.push(client(&gateway).await);
        // None of those before it has an answer.
        backend.asked(number).await;
    }
    backend.go_on(8);
    for mut client in clients {
        assert!(read_to_end(&mut client).await.ends_with("ok"));
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_passes_whole_and_is_not_kept() {
    let count = Arc::new(AtomicUsize::new(0));
    for framing in ["Content-Length: 9000000", "Transfer-Encoding: chunked"] {
        let counted = count.clone();
        let upstream = Upstream::raw(move |mut stream| {
            let counted = counted.clone();
            async move {
                while read_until(&mut stream, "\r\n\r\n").await.is_some() {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let _ = stream
                        .write_all(format!("{FRESH}{framing}\r\n\r\n").as_bytes())
                        .await;
                    for number in 0..900 {
                        let part = vec![b'a' + (number % 26) as u8; 10_000];
                        let chunked = framing.starts_with('T');
                        if chunked {
                            let _ = stream.write_all(b"2710\r\n").await;
                        }
                        let _ = stream.write_all(&part).await;
                        if chunked {
                            let _ = stream.write_all(b"\r\n").await;
                        }
                    }
                    if framing.starts_with('T') {
                        let _ = stream.write_all(b"0\r\n\r\n").await;
                    }
                }
            }
        })
        .await;
        let gateway = gateway(&upstream, PATIENT).await;
        let before = count.load(Ordering::SeqCst);
        for _ in 0..2 {
            let answer = gateway.get("/a").send().await.assert_status(200);
            assert_eq!(answer.body.len(), 9_000_000, "{framing}");
            let is_right = |(at, byte): (usize, &u8)| *byte == b'a' + (at / 10_000 % 26) as u8;
            assert!(answer.body.iter().enumerate().all(is_right));
        }
        assert_eq!(count.load(Ordering::SeqCst) - before, 2);
        let metrics = gateway.admin_metrics().await;
        assert!(metrics.contains("tollgate_cache_objects 0"), "{metrics}");
    }
}

#[tokio::test]
async fn what_is_kept_is_bounded_in_bytes() {
    let upstream = Upstream::answering(|seen| {
        let response = Response::builder().header("cache-control", "max-age=600");
        let body = seen.target.bytes().cycle().take(100_000).collect::<Bytes>();
        response.body(body).unwrap()
    })
    .await;
    let gateway = gateway(&upstream, PATIENT).await;
    let mut client = gateway.connect().await;
    for number in 0..120 {
        let path = format!("/{number}");
        let answer = client.get(&path).await;
        assert!(answer.body.starts_with(path.as_bytes()) && answer.body.len() == 100_000);
    }
    let metrics = gateway.admin_metrics().await;
    let value = |name: &str| -> u64 {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
    };
    let (bytes, objects) = (
        value("tollgate_cache_bytes"),
        value("tollgate_cache_objects"),
    );
    assert!(bytes <= 4 << 20 && bytes > 3 << 20, "{bytes}");
    assert!((30..=41).contains(&objects), "{objects}");
    assert_eq!(value("tollgate_cache_evictions_total"), 120 - objects);
}

trait Metrics {
    async fn admin_metrics(&self) -> String;
}

impl Metrics for Gateway {
    async fn admin_metrics(&self) -> String {
        let request = Request::new(self.admin, Method::GET, "/metrics");
        let request = request.header("authorization", &format!("Bearer {TOKEN}"));
        request.send().await.assert_status(200).text()
    }
}
