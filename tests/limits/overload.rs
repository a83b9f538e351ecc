//! More requests than backends, or the gateway itself, can bear.

use std::time::Duration;

use crate::support::{Answer, Gateway, Upstream};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

/// A backend that answers when it is told to.
async fn patient() -> (Upstream, watch::Sender<bool>) {
    let (release, released) = watch::channel(false);
    let backend = Upstream::serving(move |_| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|it| *it).await;
            Response::new(http_body_util::Full::new(Bytes::from_static(b"late")).boxed())
        }
    })
    .await;
    (backend, release)
}

fn config(targets: &[&str], rest: &str) -> String {
    let targets: Vec<_> = targets
        .iter()
        .map(|it| format!("\"http://{it}\""))
        .collect();
    format!(
        "services: {{ a: {{ targets: [{}], routes: [{{ prefix: /a }}], {rest} }} }}",
        targets.join(", ")
    )
}

async fn until(what: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(
            std::time::Instant::now() < deadline,
            "it never comes to that"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn assert_overloaded(answer: Answer) {
    let answer = answer.assert_status(503).assert_header("retry-after", "1");
    assert_eq!(answer.json()["type"], "urn:tollgate:problem:overloaded");
}

#[tokio::test]
async fn a_target_gets_no_more_connections_than_it_bears() {
    let ((one, release), (two, other)) = (patient().await, patient().await);
    let addresses = [one.address.to_string(), two.address.to_string()];
    let targets: Vec<_> = addresses.iter().map(String::as_str).collect();
    let gateway =
        Gateway::start(&config(&targets, "circuit_breaker: { max_connections: 2 }")).await;
    let waiting: Vec<_> = (0..4)
        .map(|_| tokio::spawn(gateway.get("/a").send()))
        .collect();
    until(|| one.connections() + two.connections() == 4).await;
    assert_eq!((one.connections(), two.connections()), (2, 2));
    assert_overloaded(gateway.get("/a").send().await);
    release.send(true).unwrap();
    other.send(true).unwrap();
    for answer in waiting {
        answer.await.unwrap().assert_status(200);
    }
    gateway.get("/a").send().await.assert_status(200);
}

#[tokio::test]
async fn no_more_requests_wait_for_a_connection_than_may() {
    // Nobody accepts, so that sooner or later a connection is not even begun.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut open = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        open.push(stream.unwrap());
    }
    let rest = "timeouts: { connect: 20s }, retry: off, circuit_breaker: { max_pending: 2 }";
    let gateway = Gateway::start(&config(&[&address.to_string()], rest)).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| tokio::spawn(gateway.get("/a").send()))
        .collect();
    // Two of the three wait, and one is told so.
    until(|| waiting.iter().any(tokio::task::JoinHandle::is_finished)).await;
    let mut refused = 0;
    for task in waiting {
        if task.is_finished() {
            assert_overloaded(task.await.unwrap());
            refused += 1;
        } else {
            task.abort();
        }
    }
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn an_adaptive_limit_begins_low() {
    let (backend, release) = patient().await;
    let rest = "circuit_breaker: { adaptive: gradient }";
    let gateway = Gateway::start(&config(&[&backend.address.to_string()], rest)).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| tokio::spawn(gateway.get("/a").send()))
        .collect();
    until(|| backend.connections() == 20).await;
    assert_overloaded(gateway.get("/a").send().await);
    release.send(true).unwrap();
    for answer in waiting {
        answer.await.unwrap().assert_status(200);
    }
    gateway.get("/a").send().await.assert_status(200);
}

/// Routes of each priority, one of which may be slow.
fn priorities(backend: &Upstream, server: &str) -> String {
    format!(
        "server: {{ listen: $LISTEN, threads: 2, {server} }}
admin: {{ listen: $ADMIN }}
services:
  a:
    base_url: \"http://{}\"
    routes: [{{ prefix: /low, priority: low }}, {{ prefix: /normal }}, {{ prefix: /high, priority: high }}]",
        backend.address
    )
}

async fn statuses(gateway: &Gateway) -> Vec<u16> {
    let mut statuses = Vec::new();
    for path in ["/low", "/normal", "/high"] {
        statuses.push(gateway.get(path).send().await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn when_descriptors_run_out_the_least_important_requests_go_first() {
    let backend = Upstream::echo().await;
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("narrow");
    let program = env!("CARGO_BIN_EXE_tollgate");
    std::fs::write(
        &script,
        format!("#!/bin/sh\nulimit -n 200\nexec {program} \"$@\"\n"),
    )
    .unwrap();
    let mut mode = std::fs::metadata(&script).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let config = priorities(&backend, "");
    let gateway = Gateway::start_as(&script, directory, &config, &[]).await;
    assert_eq!(statuses(&gateway).await, [200, 200, 200]);
    let mut open = Vec::new();
    let mut seen = Vec::new();
    while seen.last() != Some(&vec![503, 503, 200]) {
        assert!(open.len() < 200, "{seen:?}");
        // Most at once, for who asks nothing is not kept for long.
        for _ in 0..if open.is_empty() { 75 } else { 5 } {
            open.push(TcpStream::connect(gateway.address).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        let now = statuses(&gateway).await;
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    let expected: [Vec<u16>; 3] = [
        vec![200, 200, 200],
        vec![503, 200, 200],
        vec![503, 503, 200],
    ];
    assert_eq!(seen, expected);
    let answer = gateway.get("/low").send().await.assert_status(503);
    let kind = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
    assert_eq!(answer.json()["type"], kind);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait));
    assert_eq!(
        gateway.admin("/healthz").await.assert_status(200).text(),
        "ok\n"
    );
    assert_eq!(gateway.status().await["overload"], 2);
    let metrics = gateway.admin("/metrics").await.text();
    assert!(metrics.contains("tollgate_overload_level 2"), "{metrics}");
    assert!(gateway.process_log().contains("overload: level=2"));
    drop(open);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while statuses(&gateway).await != [200, 200, 200] {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            gateway.process_log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn all_services_together_may_be_bounded() {
    let (backend, release) = patient().await;
    let gateway = Gateway::start(&priorities(&backend, "limits: { requests: 2 }")).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| tokio::spawn(gateway.get("/low").send()))
        .collect();
    until(|| backend.connections() == 2).await;
    for path in ["/low", "/normal"] {
        gateway.get(path).send().await.assert_status(503);
    }
    let important = tokio::spawn(gateway.get("/high").send());
    until(|| backend.connections() == 3).await;
    release.send(true).unwrap();
    for answer in waiting.into_iter().chain([important]) {
        answer.await.unwrap().assert_status(200);
    }
    gateway.get("/normal").send().await.assert_status(200);
    let log = gateway.log(6).await;
    let is_shed = |line: &&serde_json::Value| line["flags"] == serde_json::json!(["shed"]);
    assert_eq!(log.iter().filter(is_shed).count(), 2);
}
