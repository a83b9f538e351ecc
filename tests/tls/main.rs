//! TLS with clients, driven by OpenSSL's `s_client`, curl, and clients on rustls.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod access;
mod acme;
mod client_certificates;
mod hosts;
mod http2;
mod renewal;
mod scan;
mod sessions;
mod upgrade;

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Authority, Gateway, Upstream};

/// A gateway whose listener has certificates for `a.example`, `*.b.example` and `127.0.0.1`, with more in its
/// `tls` section.
async fn gateway(authority: &Authority, upstream: &Upstream, tls: &str) -> Gateway {
    gateway_with(authority, upstream, tls, "").await
}

/// The same with more in its service.
async fn gateway_with(
    authority: &Authority,
    upstream: &Upstream,
    tls: &str,
    service: &str,
) -> Gateway {
    let directory = tempfile::tempdir().unwrap();
    authority.write(
        directory.path(),
        "a",
        &["a.example", "localhost", "127.0.0.1"],
    );
    authority.write(directory.path(), "b", &["*.b.example"]);
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    let config = format!(
        "server:
  threads: 2
  listen:
    address: $LISTEN
    tls:
      certificates: [{{ cert: a.pem, key: a.key }}, {{ cert: b.pem, key: b.key }}]
      {tls}
admin: {{ listen: $ADMIN }}
services: {{ a: {{ base_url: \"http://{}\", routes: [{{ prefix: / }}], {service} }} }}
",
        upstream.address
    );
    Gateway::start_in(directory, &config, &[]).await
}

/// What `openssl s_client` says, which sends `input`; it verifies nothing.
async fn s_client(to: SocketAddr, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &to.to_string()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The name of the certificate in what `s_client` says, and the kind of key it has.
fn subject(said: &str) -> Option<&str> {
    let subject = said.lines().find(|line| line.starts_with("subject="))?;
    subject.split("CN = ").nth(1)
}

/// Waits until something is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
