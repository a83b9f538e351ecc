//! Load from wrk, and what it says of it.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What wrk measured.
#[derive(Debug)]
pub struct Measured {
    pub requests: u64,
    /// Milliseconds in which 99 of 100 answers came.
    pub p99: f64,
    /// Lines about failures; there should be none.
    pub complaints: Vec<String>,
}

/// Runs wrk to its end.
pub async fn run(to: SocketAddr, connections: u32, time: Duration) -> Measured {
    let mut command = Command::new("wrk");
    command
        .args(["--threads", "1", "--latency"])
        .args(["--connections", &connections.to_string()])
        .args(["--duration", &format!("{}s", time.as_secs())])
        .arg(format!("http://{to}/bytes/1/1000"))
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().expect("wrk runs"));
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    read(&text)
}

/// Reads what wrk prints: `99%    1.02ms`, `1234 requests in 5.00s, …`, `Socket errors: …`,
/// `Non-2xx or 3xx responses: …`.
fn read(text: &str) -> Measured {
    let words = |line: &'static str| {
        let line = text.lines().find(|it| it.contains(line));
        line.unwrap_or_else(|| panic!("no {text}"))
            .split_whitespace()
    };
    let p99 = words("99%").nth(1).unwrap();
    let unit = p99.trim_start_matches(|it: char| it.is_ascii_digit() || it == '.');
    let number: f64 = p99.trim_end_matches(unit).parse().unwrap();
    let complaints = text
        .lines()
        .filter(|line| line.contains("Socket errors") || line.contains("Non-2xx"))
        .map(|line| line.trim().to_owned())
        .collect();
    Measured {
        requests: words("requests in").next().unwrap().parse().unwrap(),
        p99: match unit {
            "us" => number / 1000.0,
            "ms" => number,
            "s" => number * 1000.0,
            _ => panic!("{p99}"),
        },
        complaints,
    }
}
