//! The access log as its readers see it: files and pipes, syslog servers and the journal, also when they take
//! nothing.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Client, Gateway, Traffic, binary, free_port};
use regex::Regex;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway that answers `/a` itself, and fails at `/broken`.
fn config(access: &str) -> String {
    format!(
        "log: {{ access: {access} }}\n\
         services:\n  a: {{ routes: [{{ prefix: /a, respond: {{ body: x }} }}] }}\n  \
         broken: {{ base_url: \"http://127.0.0.1:1\", retry: off, routes: [/broken] }}\n"
    )
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn read(gateway: &Gateway, name: &str) -> String {
    std::fs::read_to_string(gateway.directory.path().join(name)).unwrap_or_default()
}

/// The lines of a file, once there are so many.
async fn lines(gateway: &Gateway, name: &str, count: usize) -> Vec<String> {
    let what = format!("{count} lines in {name}");
    until(&what, || read(gateway, name).lines().count() >= count).await;
    read(gateway, name).lines().map(str::to_owned).collect()
}

async fn says(gateway: &Gateway, words: &str) {
    until(words, || gateway.process_log().contains(words)).await;
}

/// The number behind these words in the log of the process, where they come last.
fn number_behind(gateway: &Gateway, words: &str) -> usize {
    let said = gateway.process_log();
    let (_, rest) = said.rsplit_once(words).unwrap();
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap()
}

fn path_of(line: &str) -> String {
    let json: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("torn: {line}"));
    json["path"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn no_client_can_forge_a_line_or_a_field_of_any_format() {
    let request = b"GET /a?x=1 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\
                    User-Agent: a\" 200 1 \"-\" \"b\\\xe2\x80\xa8\t\xff\r\n\r\n";
    let agent_in_quotes = "a\\x22 200 1 \\x22-\\x22 \\x22b\\x5c\\xe2\\x80\\xa8\\x09\\xff";
    let expected = [
        ("json", r#""user-agent":"a\" 200 1 \"-\" \"b\\"#.to_owned()),
        (
            "logfmt",
            r#" request.headers.user-agent="a\" 200 1 \"-\" \"b\\"#.to_owned(),
        ),
        (
            "combined",
            format!("HTTP/1.1\" 200 1 \"-\" \"{agent_in_quotes}\""),
        ),
        (
            "{ template: \"{status},{request.headers.user-agent},{method}\" }",
            format!("200,{agent_in_quotes},GET"),
        ),
    ];
    for (format, shown) in expected {
        let access = format!("{{ format: {format}, headers: [User-Agent], query: true }}");
        let gateway = Gateway::start(&config(&access)).await;
        let answer = gateway.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let lines = lines(&gateway, "access.log", 1).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(&shown), "{format}: {}", lines[0]);
    }
}

#[tokio::test]
async fn a_file_that_is_rotated_away_loses_no_line_and_gets_none_afterwards() {
    let gateway = Gateway::start(&config("{ output: requests.log }")).await;
    let mut traffic = Traffic::start(gateway.address, "/a");
    traffic.flows(200).await;
    let path = |name: &str| gateway.directory.path().join(name);
    std::fs::rename(path("requests.log"), path("requests.log.1")).unwrap();
    gateway.signal("USR1");
    says(&gateway, "the access log is opened again: requests.log").await;
    let rotated = read(&gateway, "requests.log.1");
    traffic.flows(200).await;
    let answers = traffic.end().await;
    let new = lines(&gateway, "requests.log", answers - rotated.lines().count()).await;
    assert_eq!(read(&gateway, "requests.log.1"), rotated);
    assert_eq!(rotated.lines().count() + new.len(), answers);
    assert!(
        rotated
            .lines()
            .chain(new.iter().map(|it| &**it))
            .all(|it| path_of(it) == "/a")
    );
}

#[tokio::test]
async fn a_file_that_can_t_be_opened_again_stays_in_use() {
    let gateway = Gateway::start(&config("{ output: requests.log }")).await;
    gateway.get("/a").send().await.assert_status(200);
    let path = |name: &str| gateway.directory.path().join(name);
    std::fs::rename(path("requests.log"), path("requests.log.1")).unwrap();
    std::fs::create_dir(path("requests.log")).unwrap();
    gateway.signal("USR1");
    says(
        &gateway,
        "Is a directory (os error 21); the file before stays in use",
    )
    .await;
    gateway.get("/a").send().await.assert_status(200);
    lines(&gateway, "requests.log.1", 2).await;
}

#[tokio::test]
async fn the_signal_for_files_does_nothing_to_other_outputs() {
    let gateway = Gateway::start(&config("{ output: stdout }")).await;
    gateway.signal("USR1");
    says(
        &gateway,
        "nothing to open again: the access log goes to stdout",
    )
    .await;
    gateway.get("/a").send().await.assert_status(200);
    lines(&gateway, "access.log", 1).await;
}

#[tokio::test]
async fn a_full_disk_is_said_once_and_what_waits_is_written_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("requests.log");
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    let gateway = Gateway::start_in(directory, &config("{ output: requests.log }"), &[]).await;
    for _ in 0..20 {
        gateway.get("/a").send().await.assert_status(200);
    }
    says(
        &gateway,
        "the access log requests.log can't be written: No space left on device",
    )
    .await;
    std::fs::remove_file(&link).unwrap();
    gateway.signal("USR1");
    assert_eq!(lines(&gateway, "requests.log", 20).await.len(), 20);
    says(&gateway, "is written again: dropped=0").await;
    let said = gateway.process_log();
    assert_eq!(said.matches("can't be written").count(), 1, "{said}");
}

/// Sends requests whose lines take several KiB each until one was dropped; returns how many.
async fn flood(gateway: &Gateway) -> usize {
    let path = format!("/a/{}", "x".repeat(6000));
    let mut client = Client::connect(gateway.address, None).await;
    let mut count = 0;
    while !gateway
        .process_log()
        .contains("access log lines are dropped")
    {
        client.get(&path).await.assert_status(200);
        count += 1;
        assert!(count < 20_000, "nothing is dropped");
    }
    count
}

#[tokio::test]
async fn a_disk_that_stays_full_drops_lines_and_counts_them_to_the_last() {
    let mut gateway = Gateway::start(&config("{ output: /dev/full }")).await;
    let count = flood(&gateway).await;
    gateway.signal("TERM");
    assert!(gateway.wait().await.success());
    let said = gateway.process_log();
    assert!(
        said.contains("the process ends with access log lines that can't be written"),
        "{said}"
    );
    let left = number_behind(&gateway, "dropped=");
    assert!((1..count).contains(&left), "{left} of {count}");
    assert_eq!(
        said.matches("access log lines are dropped").count(),
        1,
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_nobody_reads_keeps_no_request_waiting_and_gives_whole_lines_later() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let reader = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let gateway = Gateway::start_in(directory, &config("{ output: pipe }"), &[]).await;
    let count = flood(&gateway).await;
    let reading = tokio::task::spawn_blocking(move || {
        let mut paths = Vec::new();
        for line in BufReader::new(reader).lines() {
            paths.push(path_of(&line.unwrap()));
            if paths.last().unwrap() == "/a/last" {
                return paths.len();
            }
        }
        unreachable!("the test has an end of the pipe, too")
    });
    says(&gateway, "the access log pipe is written again: dropped=").await;
    gateway.get("/a/last").send().await.assert_status(200);
    let arrived = reading.await.unwrap();
    let dropped = number_behind(&gateway, "dropped=");
    assert_eq!(arrived + dropped, count + 1);
    assert!(dropped > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_that_nobody_reads_keeps_nobody_from_being_served_or_the_process_from_ending()
 {
    let directory = tempfile::tempdir().unwrap();
    let (address, file) = (free_port(), directory.path().join("t.yaml"));
    let config = format!(
        "server: {{ listen: \"{address}\", threads: 1 }}\nadmin: off\n{}",
        config("{ output: stdout }")
    );
    std::fs::write(&file, config).unwrap();
    let mut child = binary()
        .args(["run", "-c"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(directory.path().join("process.log")).unwrap())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(directory.path().join("process.log")).unwrap();
    until("it serves", || said().contains("serving:")).await;
    let path = format!("/a/{}", "x".repeat(6000));
    let mut client = Client::connect(address, None).await;
    let mut count = 0;
    while !said().contains("access log lines are dropped: stdout takes them") {
        client.get(&path).await.assert_status(200);
        count += 1;
        assert!(count < 20_000, "nothing is dropped");
    }
    crate::support::send_signal(child.id(), "TERM");
    let ended = tokio::task::spawn_blocking(move || {
        let status = child.wait().unwrap();
        let mut text = String::new();
        child.stdout.unwrap().read_to_string(&mut text).unwrap();
        (status, text)
    });
    let (status, text) = ended.await.unwrap();
    assert!(status.success());
    // What the pipe took are whole lines, but for the last that was longer than the room it had.
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines.pop_if(|line| !line.ends_with('\n'));
    assert!(lines.iter().all(|line| path_of(line) == path));
}

/// The parts of a message to a syslog server: priority, name, line.
fn parts(message: &str) -> (String, String, String) {
    let rfc_5424 = Regex::new(
        r"^<(\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\S+) (\S+) (\d+) access - (.*)$",
    );
    let parts = rfc_5424.unwrap();
    let parts = parts
        .captures(message)
        .unwrap_or_else(|| panic!("{message}"));
    (
        parts[1].to_owned(),
        parts[3].to_owned(),
        parts[5].to_owned(),
    )
}

fn receive(mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize>) -> String {
    let mut message = vec![0; 1 << 16];
    let length = receive(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

/// Runs what waits for others beside the test.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn listen(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syslog_server_of_the_machine_gets_every_line_also_those_of_when_it_was_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let server = listen(&path);
    let access = format!(
        "{{ output: {{ syslog: {{ address: \"unix:{}\", facility: daemon, app_name: edge }} }} }}",
        path.display()
    );
    let gateway = Gateway::start_in(directory, &config(&access), &[]).await;
    gateway.get("/a/1").send().await.assert_status(200);
    let (message, server) = aside(move || (receive(|buffer| server.recv(buffer)), server)).await;
    let (priority, name, line) = parts(&message);
    // Facility 3, severity 6.
    assert_eq!(
        (&*priority, &*name, &*path_of(&line)),
        ("30", "edge", "/a/1")
    );

    drop(server);
    std::fs::remove_file(&path).unwrap();
    for number in 2..5 {
        gateway
            .get(&format!("/a/{number}"))
            .send()
            .await
            .assert_status(200);
    }
    says(&gateway, "can't be written").await;
    let server = listen(&path);
    let paths = aside(move || {
        let next = |_| path_of(&parts(&receive(|buffer| server.recv(buffer))).2);
        (2..5).map(next).collect::<Vec<_>>()
    });
    let mut paths = paths.await;
    paths.sort_unstable();
    assert_eq!(paths, ["/a/2", "/a/3", "/a/4"]);
    says(&gateway, "is written again: dropped=0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syslog_server_is_sent_lines_over_udp() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let access = format!(
        "{{ format: combined, output: {{ syslog: {{ address: \"udp://{}\" }} }} }}",
        server.local_addr().unwrap()
    );
    let gateway = Gateway::start(&config(&access)).await;
    gateway.get("/a").send().await.assert_status(200);
    let (priority, name, line) = parts(&aside(move || receive(|buffer| server.recv(buffer))).await);
    assert_eq!((&*priority, &*name), ("134", "tollgate"));
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
}

/// The next message of a connection, by the length before it.
fn next_message(stream: &mut impl BufRead) -> String {
    let mut length = Vec::new();
    stream.read_until(b' ', &mut length).unwrap();
    let length = String::from_utf8(length).unwrap();
    let mut message = vec![0; length.trim().parse().unwrap()];
    stream.read_exact(&mut message).unwrap();
    String::from_utf8(message).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syslog_server_is_connected_to_again_when_it_has_closed_the_connection() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let access = format!(
        "{{ output: {{ syslog: {{ address: \"tcp://{}\" }} }} }}",
        server.local_addr().unwrap()
    );
    let gateway = Gateway::start(&config(&access)).await;
    let accept = |server: TcpListener| {
        aside(move || {
            let (stream, _) = server.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            (BufReader::new(stream), server)
        })
    };
    gateway.get("/a/1").send().await.assert_status(200);
    gateway.get("/a/2").send().await.assert_status(200);
    let (mut stream, server) = accept(server).await;
    let mut paths = aside(move || {
        let paths = [(); 2].map(|()| path_of(&parts(&next_message(&mut stream)).2));
        drop(stream);
        paths
    })
    .await;
    paths.sort_unstable();
    assert_eq!(paths, ["/a/1", "/a/2"]);
    gateway.get("/a/3").send().await.assert_status(200);
    let (mut stream, _server) = accept(server).await;
    let path = aside(move || path_of(&parts(&next_message(&mut stream)).2)).await;
    assert_eq!(path, "/a/3");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_gets_a_message_for_each_line_that_is_not_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journal = listen(&path);
    // A datagram takes some 200 KiB.
    let access = format!(
        "{{ format: {{ template: \"{}\" }}, output: {{ journald: {{ socket: \"{}\" }} }} }}",
        "{path} ".repeat(50),
        path.display()
    );
    let gateway = Gateway::start_in(directory, &config(&access), &[]).await;
    let long = format!("/a/{}", "x".repeat(6000));
    gateway.get(&long).send().await.assert_status(200);
    says(&gateway, "access log lines are dropped").await;
    gateway.get("/a/1").send().await.assert_status(200);
    let message = aside(move || receive(|buffer| journal.recv(buffer))).await;
    let line = "/a/1 ".repeat(50);
    let expected = format!("PRIORITY=6\nSYSLOG_IDENTIFIER=tollgate\nMESSAGE={line}\n");
    assert_eq!(message, expected);
}

#[tokio::test]
async fn failed_requests_are_logged_whatever_the_share_of_the_others() {
    let gateway = Gateway::start(&config("{ sample: 0.0 }")).await;
    for _ in 0..20 {
        gateway.get("/a").send().await.assert_status(200);
    }
    gateway.get("/nothing").send().await.assert_status(404);
    gateway.get("/broken").send().await.assert_status(502);
    let lines = lines(&gateway, "access.log", 1).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    let json: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(
        (&json["status"], json.get("sample_ratio")),
        (&502.into(), None)
    );
}

#[tokio::test]
async fn lines_that_were_chosen_say_by_which_share() {
    let gateway = Gateway::start(&config("{ sample: { ratio: 99.9999%, errors: false } }")).await;
    for _ in 0..10 {
        gateway.get("/a").send().await.assert_status(200);
    }
    let lines = lines(&gateway, "access.log", 9).await;
    assert!(
        lines
            .iter()
            .all(|line| line.contains("\"sample_ratio\":0.999999")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn clients_may_stay_one_of_many() {
    let access = "{ client: truncated, headers: [Referer], query: true }";
    let gateway = Gateway::start(&config(access)).await;
    let request = gateway.get("/a?q=1&Code=secret");
    let request = request.header("referer", "https://id.example/cb?code=secret&state=1");
    request.send().await.assert_status(200);
    let line = lines(&gateway, "access.log", 1).await.remove(0);
    let json: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["client"], "127.0.0.0");
    assert_eq!(json["query"], "q=1&Code=[redacted]");
    assert_eq!(
        json["headers"]["referer"],
        "https://id.example/cb?code=[redacted]&state=1"
    );
}

#[tokio::test]
async fn a_reload_changes_the_log_and_a_bad_output_changes_nothing() {
    let gateway = Gateway::start(&config("{ format: json }")).await;
    let reload = async |from: &str, to: &str| {
        gateway.edit(from, to);
        gateway.command(&["reload"]).await
    };
    gateway.get("/a").send().await.assert_status(200);
    assert!(lines(&gateway, "access.log", 1).await[0].starts_with('{'));

    let (code, printed, _) = reload("{ format: json }", "{ format: logfmt, output: b.log }").await;
    assert_eq!(code, 0, "{printed}");
    assert!(!printed.contains("changes only"), "{printed}");
    gateway.get("/a").send().await.assert_status(200);
    assert!(lines(&gateway, "b.log", 1).await[0].starts_with("time="));
    assert_eq!(read(&gateway, "access.log").lines().count(), 1);

    let (code, _, said) = reload("output: b.log", "output: nowhere/c.log").await;
    assert_eq!(code, 78, "{said}");
    let expected = "the access log nowhere/c.log can't be opened: No such file or directory";
    assert!(
        said.contains(expected) && said.contains("gateway.yaml:3:"),
        "{said}"
    );
    gateway.get("/a").send().await.assert_status(200);
    lines(&gateway, "b.log", 2).await;

    let (code, _, said) = reload("{ format: logfmt, output: nowhere/c.log }", "off").await;
    assert_eq!(code, 0, "{said}");
    gateway.get("/a").send().await.assert_status(200);
    let (code, _, said) = reload("access: off", "access: { output: d.log }").await;
    assert_eq!(code, 0, "{said}");
    gateway.get("/a").send().await.assert_status(200);
    assert_eq!(lines(&gateway, "d.log", 1).await.len(), 1);
    assert_eq!(read(&gateway, "b.log").lines().count(), 2);
}

#[tokio::test]
async fn two_processes_write_whole_lines_to_one_file_during_an_upgrade() {
    let mut gateway = Gateway::start(&config("{ output: requests.log }")).await;
    let mut traffic = Traffic::start(gateway.address, "/a");
    traffic.flows(100).await;
    gateway.upgrade().await;
    traffic.flows(100).await;
    let answers = traffic.end().await;
    assert_eq!(gateway.left_behind().await, Vec::<u32>::new());
    let lines = lines(&gateway, "requests.log", answers).await;
    assert!(lines.iter().all(|line| path_of(line) == "/a"));
    assert_eq!(lines.len(), answers);
}
