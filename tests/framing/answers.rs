//! The corpus of backends that mean harm, answers.txt: what a backend answers, and what the client sees of it.
//! Whatever it is, the next request is answered with what is its answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::support::{Gateway, Upstream};
use super::wire::{Next, Reader, bytes, text};

/// What a backend sends when the client has its answer.
const LATER: &str = "\n(later)\n";
/// Behind an answer that ends with the connection.
const CLOSED: &str = "\n(closed)";
/// What the gateway says of itself.
const ADDED: [&str; 2] = ["date: ", "x-request-id: "];
/// The answer to the request that comes next.
const NEXT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext";

struct Case<'t> {
    name: &'t str,
    answer: &'t str,
    expected: &'t str,
}

fn cases(corpus: &str) -> Vec<Case<'_>> {
    let blocks = corpus.split("\n\n<<< ").skip(1);
    blocks
        .map(|block| {
            let (name, rest) = block.split_once('\n').unwrap();
            let (answer, expected) = rest.split_once("\n>>> ").unwrap();
            Case {
                name,
                answer,
                expected: expected.trim_end(),
            }
        })
        .collect()
}

/// What the backend sends, when, and whether it closes.
#[derive(Clone)]
struct Script {
    first: Vec<u8>,
    later: Vec<u8>,
    closes: bool,
    /// The client has its answer.
    is_read: Arc<Notify>,
    /// All is sent.
    is_sent: Arc<Notify>,
}

impl Script {
    fn of(answer: &str) -> Self {
        let closes = answer.ends_with(CLOSED);
        let answer = answer.trim_end_matches(CLOSED);
        let (first, later) = answer.split_once(LATER).unwrap_or((answer, ""));
        Self {
            first: bytes(first),
            later: bytes(later),
            closes,
            is_read: Arc::default(),
            is_sent: Arc::default(),
        }
    }
}

/// A backend that plays the script of the moment to each request but those for `/next`.
async fn play(current: Arc<Mutex<Script>>, stream: TcpStream) {
    let mut reader = Reader::new(stream);
    while let Next::Head(head) = reader.head().await {
        reader.body(&head).await;
        if head.first_line().contains("/next ") {
            if reader.stream().write_all(NEXT.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let script = current.lock().unwrap().clone();
        // A gateway that has seen enough reads no more.
        let _ = reader.stream().write_all(&script.first).await;
        if !script.later.is_empty() {
            script.is_read.notified().await;
            let _ = reader.stream().write_all(&script.later).await;
            script.is_sent.notify_one();
        }
        if script.closes {
            return;
        }
    }
}

/// What the client sees of an answer; of the gateway's own the status.
async fn seen(gateway: &Gateway, method: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!("{method} /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = Reader::new(stream).all().await;
    let lines = answer.split_inclusive(|byte| *byte == b'\n');
    let starts = |line: &[u8], with: &str| line.to_ascii_lowercase().starts_with(with.as_bytes());
    if lines.clone().any(|line| starts(line, "proxy-status: ")) {
        let status = lines
            .clone()
            .rfind(|line| starts(line, "http/1.1 "))
            .unwrap();
        return String::from_utf8_lossy(&status[9..12]).into_owned();
    }
    let kept = lines.filter(|line| !ADDED.iter().any(|it| starts(line, it)));
    text(&kept.collect::<Vec<_>>().concat())
        .trim_end()
        .to_owned()
}

async fn outcome(case: &Case<'_>, gateway: &Gateway, current: &Mutex<Script>) -> String {
    let script = Script::of(case.answer);
    *current.lock().unwrap() = script.clone();
    let method = match case.name.starts_with("HEAD") {
        true => "HEAD",
        false => "GET",
    };
    let seen = seen(gateway, method).await;
    if !script.later.is_empty() {
        script.is_read.notify_one();
        script.is_sent.notified().await;
    }
    for _ in 0..2 {
        let next = gateway.get("/next").send().await;
        assert_eq!(
            (next.status.as_u16(), &*next.body),
            (200, &b"next"[..]),
            "{}",
            case.name
        );
    }
    seen
}

fn config(upstream: &Upstream, timeouts: &str) -> String {
    format!(
        "services: {{ a: {{ base_url: \"http://{}\", retry: off, circuit_breaker: off, outlier_detection: off, {timeouts} routes: [{{ prefix: / }}] }} }}",
        upstream.address
    )
}

#[tokio::test]
async fn no_answer_is_read_in_two_ways_or_taken_for_that_of_another_request() {
    let corpus = include_str!("answers.txt");
    let cases = cases(corpus);
    assert!(cases.len() >= 30, "{} cases", cases.len());
    let current = Arc::new(Mutex::new(Script::of("")));
    let played = current.clone();
    let upstream = Upstream::raw(move |stream| play(played.clone(), stream)).await;
    let gateway = Gateway::start(&config(&upstream, "")).await;
    let mut wrong = Vec::new();
    for case in &cases {
        eprintln!("{}", case.name);
        let outcome = outcome(case, &gateway, &current).await;
        if outcome != case.expected {
            wrong.push(format!("<<< {}\n{}\n>>> {outcome}", case.name, case.answer));
        }
    }
    let count = wrong.len();
    assert!(
        wrong.is_empty(),
        "{count} are otherwise:\n\n{}",
        wrong.join("\n\n")
    );
}

#[tokio::test]
async fn a_backend_that_answers_with_interim_responses_for_ever_has_no_time_for_it() {
    let upstream = Upstream::raw(async |mut stream| {
        let flood = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".repeat(100);
        while stream.write_all(&flood).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let timeouts = "timeouts: { first_byte: 300ms },";
    let gateway = Gateway::start(&config(&upstream, timeouts)).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let request = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let answer = Reader::new(stream).all().await;
    let answer = String::from_utf8(answer).unwrap();
    let last = answer.rfind("HTTP/1.1 ").unwrap();
    assert!(
        answer[last..].starts_with("HTTP/1.1 504 "),
        "{}",
        &answer[last..]
    );
}
