//! The corpus, corpus.txt: what a client sends, what it is answered, and what the backend received of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::support::{Gateway, PATIENCE, Upstream};
use super::wire::{Next, Reader, bytes, text};

/// Behind each case a request is sent on the same connection, if it is still there. Nobody takes it for a
/// part of the one before, or the other way round.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n";
/// For so long the gateway says nothing if it waits for more. What comes of a case does not depend on it.
const SILENCE: Duration = Duration::from_millis(200);
/// Stands behind a request that the gateway gave up in the middle.
const CUT: &[u8] = b" (cut)";
/// Stands in front of what came behind an upgrade.
const UPGRADED: &[u8] = b"(upgraded) ";
/// What a backend says that takes an upgrade.
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
/// What the gateway adds to each request, which is not the corpus's affair.
const ADDED: [&str; 7] = [
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-proto: http",
    "x-forwarded-host: ",
    "forwarded: for=127.0.0.1;",
    "via: ",
    "x-request-id: ",
    "x-request-deadline-ms: ",
];

/// What the backend received, request by request.
pub type Received = Arc<Mutex<Vec<Vec<u8>>>>;

struct Case<'t> {
    name: &'t str,
    sent: &'t str,
    expected: &'t str,
}

fn cases(corpus: &str) -> Vec<Case<'_>> {
    let blocks = corpus.split("\n\n<<< ").skip(1);
    blocks
        .map(|block| {
            let (name, rest) = block.split_once('\n').unwrap();
            let (sent, expected) = rest.split_once("\n>>> ").unwrap();
            Case {
                name,
                sent,
                expected: expected.trim_end(),
            }
        })
        .collect()
}

/// A backend that reads by the letter and keeps what it read.
pub async fn backend(received: Received) -> Upstream {
    Upstream::raw(move |stream| converse(stream, received.clone())).await
}

async fn converse(stream: TcpStream, received: Received) {
    let keep = |message| received.lock().unwrap().push(message);
    let mut reader = Reader::new(stream);
    while let Next::Head(head) = reader.head().await {
        let first = head.first_line().to_owned();
        let (method, target) = first.split_once(' ').unwrap();
        let target = target.split(' ').next().unwrap();
        if target == "/switch" && !head.values("upgrade").is_empty() {
            keep(head.bytes().to_vec());
            let _ = reader.stream().write_all(SWITCH).await;
            let rest = reader.all().await;
            let rest = rest.strip_suffix(NEXT).unwrap_or(&rest);
            return keep([UPGRADED, rest].concat());
        }
        let (body, is_whole) = reader.body(&head).await;
        let cut = if is_whole { &b""[..] } else { CUT };
        keep([head.bytes(), &body, cut].concat());
        if !is_whole {
            return;
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-Method: {method}\r\nX-Target: {target}\r\nContent-Length: 2\r\n\r\n{}",
            if method == "HEAD" { "" } else { "ok" }
        );
        if reader.stream().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A request without what the gateway adds, all of which is there once.
pub fn strip(message: &[u8]) -> Vec<u8> {
    let end = message.windows(4).position(|it| it == b"\r\n\r\n");
    // What comes behind an upgrade is no request.
    let Some(end) = end.filter(|_| !message.starts_with(UPGRADED)) else {
        return message.to_vec();
    };
    let (head, body) = message.split_at(end + 2);
    let is_added = |line: &&[u8]| ADDED.iter().any(|it| line.starts_with(it.as_bytes()));
    let lines = head.split_inclusive(|byte| *byte == b'\n');
    let (added, kept): (Vec<&[u8]>, Vec<&[u8]>) = lines.partition(is_added);
    for field in ADDED {
        let count = added
            .iter()
            .filter(|it| it.starts_with(field.as_bytes()))
            .count();
        // Without a host there is none to tell.
        let is_optional = field == "x-forwarded-host: " && count == 0;
        assert!(
            count == 1 || is_optional,
            "{field} {}",
            message.escape_ascii()
        );
    }
    [&kept.concat(), body].concat()
}

async fn until(is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends a case and tells what came of it, as the corpus has it.
async fn outcome(case: &Case<'_>, gateway: &Gateway, received: &Received) -> String {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut reader = Reader::new(stream);
    // It may answer and close before it has read all.
    let _ = reader.stream().write_all(&bytes(case.sent)).await;
    let expected = case.expected.lines().next().unwrap_or_default();
    let answers = expected.split(' ').filter(|it| it.parse::<u16>().is_ok());
    let answers = answers.count();
    let mut said = Vec::new();
    let mut is_asked_on = false;
    let is_open = loop {
        // As soon as all is answered, or the gateway waits for more.
        if !is_asked_on && (said.len() == answers || reader.is_silent(SILENCE).await) {
            is_asked_on = true;
            let _ = reader.stream().write_all(NEXT).await;
        }
        let Next::Head(head) = reader.head().await else {
            break false;
        };
        if head.values("x-target") == ["/next"] {
            break true;
        }
        said.push(head.status().to_string());
        match head.status() {
            101 => {
                reader.stream().shutdown().await.unwrap();
                while reader.more().await {}
                until(|| received.lock().unwrap().len() == 2).await;
                break false;
            }
            100..200 => {}
            _ if head.values("x-method") == ["HEAD"] => {}
            _ => drop(reader.body(&head).await),
        }
    };
    said.push(if is_open { "open" } else { "closed" }.to_owned());
    let mut outcome = said.join(" ");
    let mut received = std::mem::take(&mut *received.lock().unwrap());
    // Whether the backend sees the beginning of what turns out to be bad is a matter of time.
    received.retain(|message| !message.ends_with(CUT));
    if is_open {
        assert!(strip(&received.pop().unwrap()).starts_with(b"GET /next "));
    }
    for message in received {
        outcome.push('\n');
        outcome.push_str(text(&strip(&message)).trim_end());
    }
    outcome
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_or_passed_on_in_one() {
    let received = Received::default();
    let upstream = backend(received.clone()).await;
    let gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", host_header: client, routes: [{{ prefix: / }}] }} }}",
        upstream.address
    ))
    .await;
    let corpus = include_str!("corpus.txt");
    let cases = cases(corpus);
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        eprintln!("{}", case.name);
        let outcome = outcome(case, &gateway, &received).await;
        if outcome != case.expected {
            wrong.push(format!("<<< {}\n{}\n>>> {outcome}", case.name, case.sent));
        }
    }
    let count = wrong.len();
    assert!(
        wrong.is_empty(),
        "{count} are otherwise:\n\n{}",
        wrong.join("\n\n")
    );
}
