//! Clients that take their time on purpose, by slowhttptest: headers and bodies that trickle in, answers that are
//! hardly read. They are let go in time, cost little, and nobody else notices.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Gateway, PATIENCE, Upstream};
use bytes::Bytes;
use hyper::Response;

/// Connections of each attack.
const CONNECTIONS: &str = "300";
/// What the backend sends to each of those who hardly read: ten times as much as may be kept for them.
const LARGE: usize = 16 << 20;
/// Bytes that the gateway may grow by: for a slow reader the framework keeps several parts of 64 KiB, for the
/// others their buffers.
const MOST_MEMORY: u64 = 300 * ((1 << 20) + 2 * (256 << 10));

/// Attacks for some seconds with what each way needs.
fn attack(gateway: &Gateway, way: &[&str], path: &str) -> std::process::Child {
    Command::new("slowhttptest")
        .args(way)
        .args(["-c", CONNECTIONS, "-r", "150", "-l", "4", "-p", "2"])
        .args(["-u", &format!("http://{}{path}", gateway.address)])
        .stdout(Stdio::null())
        .spawn()
        .expect("slowhttptest is installed by `make test`")
}

async fn open_connections(gateway: &Gateway) -> usize {
    let page = gateway.admin("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("tollgate_connections_open "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_let_go_and_cost_little() {
    let large = Bytes::from(vec![b'a'; LARGE]);
    let upstream = Upstream::answering(move |seen| match &*seen.target {
        "/large" => Response::new(large.clone()),
        _ => Response::new(Bytes::from_static(b"ok")),
    })
    .await;
    let gateway = Gateway::start(&format!(
        "server: {{ listen: $LISTEN, threads: 2, overload: off, timeouts: {{ request_header: 2s, request_body: 1s, response: 1s }} }}
admin: {{ listen: $ADMIN }}
services: {{ a: {{ base_url: \"http://{}\", retry: off, circuit_breaker: off, outlier_detection: off, timeouts: {{ connect: 20s }}, routes: [/a, /large] }} }}\n",
        upstream.address
    ))
    .await;
    gateway.get("/large").send().await.assert_status(200);
    let before = gateway.resident();
    let mut attacks = [
        attack(&gateway, &["-H", "-i", "2"], "/a"),
        attack(
            &gateway,
            &["-B", "-i", "2", "-s", "8192", "-t", "POST"],
            "/a",
        ),
        attack(
            &gateway,
            &["-X", "-w", "10", "-y", "20", "-n", "2", "-z", "8"],
            "/large",
        ),
    ];
    let mut most = (0, 0);
    while attacks
        .iter_mut()
        .any(|it| it.try_wait().unwrap().is_none())
    {
        gateway.get("/a").send().await.assert_status(200);
        let open = open_connections(&gateway).await;
        most = (most.0.max(open), most.1.max(gateway.resident()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(most.0 > 300, "there was no attack: {} connections", most.0);
    let grown = most.1.saturating_sub(before);
    assert!(grown < MOST_MEMORY, "it grew by {grown} bytes");
    let deadline = Instant::now() + PATIENCE;
    while open_connections(&gateway).await > 5 {
        assert!(Instant::now() < deadline, "some are never let go");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = gateway.log(2).await;
    let late = log.iter().filter(|line| line["status"] == 408).count();
    assert!(late > 0, "no slow body was answered");
}
