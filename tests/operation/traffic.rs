//! What requests were like: the last hour, and the events of now, driven from outside.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Gateway, Request, Seen, Upstream};
use bytes::Bytes;
use hyper::{Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Nothing takes longer; what does hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers with the status that the last segment of the path is.
async fn statuses() -> Upstream {
    Upstream::answering(|seen: &Seen| {
        let status = seen
            .target
            .rsplit('/')
            .next()
            .and_then(|it| it.parse().ok());
        let mut response = Response::new(Bytes::from_static(b"answered"));
        *response.status_mut() = hyper::StatusCode::from_u16(status.unwrap_or(200)).unwrap();
        response
    })
    .await
}

fn shop(upstream: &Upstream) -> String {
    format!(
        "services: {{ shop: {{ base_url: \"http://{}\", outlier_detection: off, circuit_breaker: off, retry: off, routes: [\
         {{ prefix: /orders }}, {{ path: /once, rate_limit: {{ limit: 1, window: 1h }} }}, \
         {{ path: /staff, auth: staff }}] }} }}\n\
         auth_providers: {{ staff: {{ api_key: {{ from: [\"header:X-Api-Key\"], keys: {{ acme: \"sha256:1530d575da5543b2bfc4091bef54e1c274b6e57664b575d6a9860b295b3e101a\" }} }} }} }}",
        upstream.address
    )
}

async fn traffic(gateway: &Gateway) -> Value {
    gateway
        .admin("/traffic?step=1")
        .await
        .assert_status(200)
        .json()
}

/// The report, as soon as all its samples together have so many requests.
async fn traffic_of(gateway: &Gateway, requests: u64) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = traffic(gateway).await;
        let samples = report["samples"].as_array().unwrap().iter();
        let sum: u64 = samples.map(|it| it["requests"].as_u64().unwrap()).sum();
        if sum >= requests {
            assert_eq!(sum, requests, "{report}");
            return report;
        }
        assert!(Instant::now() < deadline, "{report}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn sum(report: &Value, field: &str) -> u64 {
    let samples = report["samples"].as_array().unwrap().iter();
    samples.map(|it| it[field].as_u64().unwrap()).sum()
}

/// The one of a list whose field is this.
#[track_caller]
fn one<'v>(list: &'v Value, field: &str, value: &str) -> &'v Value {
    let mut found = list
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it[field] == value);
    let one = found.next().unwrap_or_else(|| panic!("no {value}: {list}"));
    assert!(found.next().is_none(), "{list}");
    one
}

/// A stream of events.
struct Events {
    stream: BufReader<TcpStream>,
    head: String,
    text: String,
}

impl Events {
    async fn follow(gateway: &Gateway) -> Self {
        let mut stream = TcpStream::connect(gateway.admin).await.unwrap();
        let request = format!("GET /events HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.admin);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut events = Self {
            stream: BufReader::new(stream),
            head: String::new(),
            text: String::new(),
        };
        events.read_until("\r\n\r\n").await;
        let text = std::mem::take(&mut events.text);
        let (head, rest) = text.split_once("\r\n\r\n").unwrap();
        (events.head, events.text) = (head.to_ascii_lowercase(), rest.to_owned());
        events
    }

    /// Reads on; `false` at the end.
    async fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes));
        let count = read.await.expect("something comes").unwrap();
        self.text
            .push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        count > 0
    }

    async fn read_until(&mut self, text: &str) {
        while !self.text.contains(text) {
            assert!(self.read().await, "it ended:\n{}", self.text);
        }
    }

    /// The next event of a name for which something holds.
    async fn next(&mut self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let start = format!("event: {name}\ndata: ");
        loop {
            while let Some((_, after)) = self.text.split_once(&start) {
                let Some((data, rest)) = after.split_once("\n\n") else {
                    break;
                };
                let data: Value = serde_json::from_str(data).unwrap();
                self.text = rest.to_owned();
                if is_it(&data) {
                    return data;
                }
            }
            assert!(self.read().await, "it ended:\n{}", self.text);
        }
    }
}

#[tokio::test]
async fn an_hour_is_told_by_the_second_by_route_and_by_endpoint() {
    let upstream = statuses().await;
    let gateway = Gateway::start(&shop(&upstream)).await;
    for path in [
        "/orders/200",
        "/orders/404",
        "/orders/500",
        "/orders/503",
        "/once",
    ] {
        gateway.get(path).send().await;
    }
    gateway.get("/once").send().await.assert_status(429);
    gateway.get("/staff").send().await.assert_status(401);
    gateway.get("/nowhere").send().await.assert_status(404);
    let report = traffic_of(&gateway, 8).await;
    assert_eq!(report["step_s"], 1);
    for (field, expected) in [("errors", 2), ("client_errors", 4), ("refused", 2)] {
        assert_eq!(sum(&report, field), expected, "{field}: {report}");
    }
    let orders = one(&report["routes"], "route", "/orders");
    assert_eq!(
        [
            &orders["service"],
            &orders["requests"],
            &orders["errors"],
            &orders["client_errors"]
        ],
        [&json!("shop"), &json!(4), &json!(2), &json!(1)]
    );
    let percentile = |name: &str| orders[name].as_u64().unwrap();
    assert!(
        percentile("p50_us") > 0 && percentile("p50_us") <= percentile("p99_us"),
        "{orders}"
    );
    let minutes = orders["requests_by_minute"].as_array().unwrap().iter();
    assert_eq!(minutes.map(|it| it.as_u64().unwrap()).sum::<u64>(), 4);
    assert_eq!(one(&report["routes"], "route", "none")["client_errors"], 1);

    let service = one(&report["services"], "service", "shop");
    assert_eq!(
        [&service["requests"], &service["errors"]],
        [&json!(5), &json!(2)]
    );
    let url = format!("http://{}", upstream.address);
    let endpoint = one(&service["endpoints"], "endpoint", &url);
    assert_eq!(
        [&endpoint["requests"], &endpoint["errors"]],
        [&json!(5), &json!(2)]
    );

    for reason in ["rate_limited", "unauthorized", "no_route"] {
        let refused = one(&report["refusals"], "reason", reason);
        assert_eq!(
            [&refused["requests"], &refused["total"]],
            [&json!(1), &json!(1)],
            "{reason}"
        );
    }
    assert_eq!(one(&report["credentials"], "reason", "missing")["total"], 1);
}

#[tokio::test]
async fn steps_are_asked_for_and_what_is_no_step_is_refused() {
    let upstream = statuses().await;
    let gateway = Gateway::start(&shop(&upstream)).await;
    for (query, step) in [("", 10), ("?last=300&step=60", 60)] {
        let report = gateway
            .admin(&format!("/traffic{query}"))
            .await
            .assert_status(200)
            .json();
        assert_eq!(report["step_s"], step);
    }
    let wrong = gateway.admin("/traffic?step=0").await.assert_status(400);
    assert_eq!(
        wrong.text(),
        "`step` is a number of seconds from 1 to 600\n"
    );
}

#[tokio::test]
async fn counts_go_on_over_a_reload_and_nothing_comes_twice() {
    let upstream = statuses().await;
    let gateway = Gateway::start(&shop(&upstream)).await;
    gateway.get("/orders/200").send().await.assert_status(200);
    traffic_of(&gateway, 1).await;
    // Gone, and back again: what was counted of it before did not come anew.
    for (from, to) in [
        ("prefix: /orders", "prefix: /other"),
        ("prefix: /other", "prefix: /orders"),
    ] {
        gateway.edit(from, to);
        gateway.command(&["reload"]).await;
        let seen = traffic(&gateway).await["samples"].as_array().unwrap().len();
        let deadline = Instant::now() + PATIENCE;
        while traffic(&gateway).await["samples"].as_array().unwrap().len() < seen + 2 {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    gateway.get("/orders/200").send().await.assert_status(200);
    traffic_of(&gateway, 2).await;
}

#[tokio::test]
async fn each_second_is_told_to_those_who_follow() {
    let upstream = statuses().await;
    let gateway = Gateway::start(&shop(&upstream)).await;
    let mut events = Events::follow(&gateway).await;
    assert!(
        events.head.contains("content-type: text/event-stream"),
        "{}",
        events.head
    );
    gateway.get("/orders/500").send().await.assert_status(500);
    let live = events.next("traffic", |it| it["requests"] == 1).await;
    assert_eq!(live["errors"], 1);
    let route = json!({"service": "shop", "route": "/orders", "requests": 1, "errors": 1});
    assert_eq!(live["routes"], json!([route]));
    let endpoint = one(&live["endpoints"], "service", "shop");
    assert_eq!(endpoint["endpoint"], format!("http://{}", upstream.address));
    // Silence is told, too.
    events.next("traffic", |it| it["requests"] == 0).await;
    gateway.get("/orders/503").send().await.assert_status(503);
    let failure = events.next("failure", |it| it["status"] == 503).await;
    assert_eq!(
        [&failure["path"], &failure["route"]],
        [&json!("/orders/503"), &json!("/orders")]
    );
}

#[tokio::test]
async fn those_who_follow_are_bounded_and_make_room_when_they_go() {
    let upstream = statuses().await;
    let gateway = Gateway::start(&shop(&upstream)).await;
    let head = Request::new(gateway.admin, Method::HEAD, "/events");
    assert_eq!(head.send().await.assert_status(200).body.len(), 0);
    let mut followers = Vec::new();
    for _ in 0..32 {
        followers.push(Events::follow(&gateway).await);
    }
    gateway.admin("/events").await.assert_status(503);
    followers.pop();
    let deadline = Instant::now() + PATIENCE;
    while !Events::follow(&gateway)
        .await
        .head
        .starts_with("http/1.1 200")
    {
        assert!(Instant::now() < deadline, "its place stays taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn events_end_with_the_gateway_while_its_last_request_goes_on() {
    let (release, held) = tokio::sync::watch::channel(false);
    let upstream = Upstream::serving(move |_| {
        let mut held = held.clone();
        async move {
            let _ = held.wait_for(|is_released| *is_released).await;
            use http_body_util::BodyExt;
            Response::new(http_body_util::Full::new(Bytes::from_static(b"late")).boxed())
        }
    })
    .await;
    let mut gateway = Gateway::start(&format!(
        "server: {{ listen: $LISTEN, threads: 1, shutdown: {{ grace: 0s }} }}\nadmin: {{ listen: $ADMIN }}\n\
         services: {{ slow: {{ base_url: \"http://{}\", routes: [/slow] }} }}",
        upstream.address
    ))
    .await;
    let mut events = Events::follow(&gateway).await;
    let request = gateway.get("/slow").send();
    let request = tokio::spawn(request);
    events.next("traffic", |it| it["in_flight"] == 1).await;
    gateway.signal("TERM");
    while events.read().await {}
    assert!(events.text.ends_with("0\r\n\r\n"), "{}", events.text);
    release.send(true).unwrap();
    request.await.unwrap().assert_status(200);
    assert!(gateway.wait().await.success());
}

#[tokio::test]
async fn the_traffic_is_shown_in_a_terminal() {
    let upstream = statuses().await;
    let gateway = Gateway::start(&shop(&upstream)).await;
    for path in ["/orders/200", "/orders/200", "/orders/503"] {
        gateway.get(path).send().await;
    }
    traffic_of(&gateway, 3).await;
    // Where there is no terminal, it is printed once.
    let (code, said, error) = gateway.command(&["top"]).await;
    assert_eq!(code, 0, "{error}");
    for expected in [
        format!("process {}, configuration 1", gateway.pid()),
        "failed 33 %".to_owned(),
        "routes by requests".to_owned(),
        format!("http://{}", upstream.address),
        "healthy".to_owned(),
    ] {
        assert!(said.contains(&expected), "{expected}: {said}");
    }
    let route = said.lines().find(|line| line.starts_with("/orders"));
    assert!(route.is_some_and(|it| it.contains("33 %")), "{said}");
    // A terminal is given back as it was, once `q` is pressed.
    let directory = gateway.config_path().parent().unwrap().to_owned();
    let shown = tokio::task::spawn_blocking(move || press_q(&directory))
        .await
        .unwrap();
    assert!(shown.contains("\u{1b}[?1049h"), "{shown:?}");
    assert!(shown.contains("\u{1b}[?1049l"), "{shown:?}");
    assert!(shown.ends_with("ended 0\r\n"), "{shown:?}");
}

/// All that a terminal is sent by `tollgate top`, which is told to end when it has drawn its last line.
fn press_q(directory: &Path) -> String {
    let command = format!(
        "stty rows 40 cols 120; {} top -c gateway.yaml; echo ended $?",
        env!("CARGO_BIN_EXE_tollgate")
    );
    let mut terminal = Command::new("timeout")
        .args([
            &PATIENCE.as_secs().to_string(),
            "script",
            "-qec",
            &command,
            "/dev/null",
        ])
        .env("TERM", "xterm")
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut screen = terminal.stdout.take().unwrap();
    let mut keys = terminal.stdin.take();
    let (mut shown, mut bytes) = (String::new(), [0; 4096]);
    loop {
        let read = screen.read(&mut bytes).unwrap();
        if read == 0 {
            break;
        }
        shown += &String::from_utf8_lossy(&bytes[..read]);
        if shown.contains("scroll")
            && let Some(mut keys) = keys.take()
        {
            keys.write_all(b"q").unwrap();
        }
    }
    terminal.wait().unwrap();
    shown
}
