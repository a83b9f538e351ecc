//! Calls by gRPC, by a client and a server of grpcio.

use serde_json::json;

use super::support::{Gateway, free_port};
use super::{PYTHON, Server, run, script};

/// A gateway before the server, with more in its service and behind its services.
async fn gateway(server: &Server, service: &str, more: &str) -> Gateway {
    let config = format!(
        "server: {{ threads: 2, listen: {{ address: $LISTEN, http2: true }} }}
admin: {{ listen: $ADMIN }}
services:
  echo:
    base_url: http://{}
    protocol: http2
    routes: [{{ prefix: /test.Echo }}]
    {service}
{more}",
        server.address
    );
    Gateway::start(&config).await
}

async fn client(gateway: &Gateway, what: &str) {
    let address = gateway.address.to_string();
    run(PYTHON, &[&script("client.py"), &address, what]).await;
}

#[tokio::test]
async fn all_four_kinds_of_calls_pass_with_what_stands_behind_them() {
    let server = Server::grpc();
    let gateway = gateway(&server, "", "").await;
    client(&gateway, "kinds").await;
    let log = gateway.log(7).await;
    for line in &log {
        assert_eq!(line["grpc_status"], "OK", "{line}");
        assert_eq!(line["protocol"], "HTTP/2.0", "{line}");
    }
}

#[tokio::test]
async fn failures_of_a_server_are_its_clients_and_are_logged_and_counted() {
    let server = Server::grpc();
    let gateway = gateway(&server, "", "").await;
    client(&gateway, "failures").await;
    let log = gateway.log(4).await;
    let statuses: Vec<_> = log.iter().map(|line| line["grpc_status"].clone()).collect();
    assert_eq!(
        statuses,
        ["NOT_FOUND", "UNAVAILABLE", "DATA_LOSS", "ABORTED"]
    );
    let metrics = gateway.admin("/metrics").await.text();
    let count = |code: &str| {
        let line = format!(
            "tollgate_grpc_calls_total{{service=\"echo\",route=\"/test.Echo\",code=\"{code}\"}} "
        );
        let found = metrics.lines().find_map(|it| it.strip_prefix(&*line));
        found.map(ToOwned::to_owned)
    };
    assert_eq!(count("UNAVAILABLE").as_deref(), Some("1"), "{metrics}");
    assert_eq!(count("OK").as_deref(), Some("0"), "{metrics}");
}

#[tokio::test]
async fn a_deadline_is_the_clients_and_a_time_out_the_gateways() {
    let server = Server::grpc();
    let patient = gateway(&server, "", "").await;
    client(&patient, "deadline").await;
    let hasty = gateway(&server, "timeouts: { first_byte: 300ms }", "").await;
    client(&hasty, "late").await;
    let line = &hasty.log(1).await[0];
    assert_eq!(line["status"], 504, "{line}");
    assert_eq!(line["grpc_status"], "UNAVAILABLE", "{line}");
    assert_eq!(line["flags"], json!(["upstream_timeout"]), "{line}");
}

#[tokio::test]
async fn what_the_gateway_answers_itself_is_understood() {
    let server = Server::grpc();
    let dead = free_port();
    let more = format!(
        "  secret:
    base_url: http://{dead}
    protocol: http2
    auth: main
    routes: [{{ prefix: /secret.Service }}]
  denied:
    base_url: http://{dead}
    protocol: http2
    access: {{ deny: [0.0.0.0/0] }}
    routes: [{{ prefix: /denied.Service }}]
  dead:
    base_url: http://{dead}
    protocol: http2
    routes: [{{ prefix: /dead.Service }}]
auth_providers: {{ main: {{ jwt: {{ algorithms: [HS256], keys: {{ secret: 0123456789abcdef0123456789abcdef }} }} }} }}"
    );
    let limit = "rate_limit: { limit: 1, window: 1h, algorithm: fixed_window, by: client_ip }";
    let gateway = gateway(&server, limit, &more).await;
    client(&gateway, "own").await;
    let log = gateway.log(6).await;
    let ends: Vec<_> = log
        .iter()
        .map(|line| json!([line["status"], line["grpc_status"]]))
        .collect();
    assert_eq!(
        ends,
        [
            json!([404, "UNIMPLEMENTED"]),
            json!([401, "UNAUTHENTICATED"]),
            json!([403, "PERMISSION_DENIED"]),
            json!([502, "UNAVAILABLE"]),
            json!([200, "OK"]),
            json!([429, "UNAVAILABLE"]),
        ]
    );
}

#[tokio::test]
async fn a_server_that_says_it_is_unavailable_opens_the_circuit() {
    let server = Server::grpc();
    let breaker = "circuit_breaker: { minimum_requests: 8, open_for: 1m }\n    retry: off";
    let gateway = gateway(&server, breaker, "").await;
    client(&gateway, "unavailable").await;
    let log = gateway.log(9).await;
    assert_eq!(log[8]["flags"], json!(["circuit_open"]), "{}", log[8]);
}
