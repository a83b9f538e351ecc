//! WebSockets, over HTTP/1.1 and HTTP/2 (RFC 8441), by libraries of Python.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;

use super::support::Gateway;
use super::{PYTHON, Server, run, script, until};

async fn gateway(server: &Server, service: &str) -> Gateway {
    let config = format!(
        "server: {{ threads: 2, listen: {{ address: $LISTEN, http2: true }} }}
admin: {{ listen: $ADMIN }}
services:
  echo:
    base_url: http://{}
    routes: [{{ prefix: / }}, {{ prefix: /secret, auth: main }}]
    {service}
auth_providers: {{ main: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: 0123456789abcdef0123456789abcdef }} }} }} }}",
        server.address
    );
    Gateway::start(&config).await
}

async fn client(gateway: &Gateway, what: &str) {
    let address = gateway.address.to_string();
    run(PYTHON, &[&script("sockets.py"), &address, what]).await;
}

#[tokio::test]
async fn messages_pass_over_http1_and_http2_alike() {
    let server = Server::websocket();
    let gateway = gateway(&server, "").await;
    client(&gateway, "http1").await;
    client(&gateway, "http2").await;
    let log = gateway.log(2).await;
    for line in &log {
        assert_eq!(line["status"], 101, "{line}");
        assert_eq!(line["client"], "127.0.0.1", "{line}");
        assert!(line["flags"].to_string().contains("upgraded"), "{line}");
    }
    assert_eq!(log[1]["path"], "/ws/of/two", "{}", log[1]);
}

#[tokio::test]
async fn what_does_not_become_one_is_answered() {
    let server = Server::websocket();
    let gateway = gateway(&server, "").await;
    client(&gateway, "refused").await;
    let log = gateway.log(2).await;
    assert_eq!(log[1]["flags"], json!(["unauthorized"]), "{}", log[1]);
}

#[tokio::test]
async fn none_is_open_for_longer_than_it_may() {
    let server = Server::websocket();
    let gateway = gateway(&server, "timeouts: { websocket: 500ms }").await;
    client(&gateway, "limited").await;
    for line in gateway.log(2).await {
        assert_eq!(line["flags"], json!(["upgraded", "expired"]), "{line}");
    }
}

#[tokio::test]
async fn none_is_open_on_which_nothing_is_said() {
    let server = Server::websocket();
    let gateway = gateway(&server, "timeouts: { idle: 500ms }").await;
    client(&gateway, "silent").await;
    for line in gateway.log(2).await {
        assert_eq!(line["status"], 101, "{line}");
    }
}

#[tokio::test]
async fn those_that_are_open_are_counted() {
    let server = Server::websocket();
    let gateway = gateway(&server, "").await;
    let mut child = Command::new(PYTHON)
        .args([&script("sockets.py"), &gateway.address.to_string(), "held"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let output = child.stdout.as_mut().unwrap();
    BufReader::new(output).read_line(&mut said).unwrap();
    assert_eq!(said, "open\n");
    let count = async |name: &str| {
        let metrics = gateway.admin("/metrics").await.text();
        let line = format!("tollgate_websockets_{name}{{service=\"echo\",route=\"/\"}} ");
        let found = metrics.lines().find_map(|it| it.strip_prefix(&*line));
        found.map(ToOwned::to_owned)
    };
    assert_eq!(count("open").await.as_deref(), Some("1"));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let is_over = async || count("open").await.as_deref() == Some("0");
    until(is_over, "it is still open").await;
    assert_eq!(count("total").await.as_deref(), Some("1"));
}
