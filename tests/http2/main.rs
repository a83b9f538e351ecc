//! HTTP/2 without TLS, to backends, and what is spoken over it: gRPC and gRPC-Web. Other people's clients and
//! servers, those of grpcio and nghttp2, are at both ends.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod backends;
mod calls;
mod clients;
mod web;
mod websockets;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What Debian's packages are installed for.
const PYTHON: &str = "/usr/bin/python3";

/// A server in Python; ends when dropped.
struct Server {
    address: SocketAddr,
    child: Child,
}

fn script(name: &str) -> String {
    format!("{}/tests/http2/{name}", env!("CARGO_MANIFEST_DIR"))
}

impl Server {
    /// A gRPC server by grpcio.
    fn grpc() -> Self {
        Self::start("server.py")
    }

    /// A WebSocket server that sends back what it gets.
    fn websocket() -> Self {
        Self::start("echo.py")
    }

    fn start(name: &str) -> Self {
        let mut child = Command::new(PYTHON)
            .arg(script(name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let output = child.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut port).unwrap();
        let port = port.trim().parse().expect("a port");
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, which must be a good one.
async fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let Output {
        status,
        stdout,
        stderr,
    } = output.await.unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{program} {arguments:?}: {said}");
    said
}

/// Waits until something is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
