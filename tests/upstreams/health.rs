//! Backends are asked whether they are well.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Gateway, Upstream};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

/// A backend that answers requests with its name, and checks with a status that can be changed.
async fn checked(name: &'static str) -> (Upstream, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let its = status.clone();
    let backend = Upstream::answering(move |seen| {
        let mut response = Response::new(Bytes::from_static(name.as_bytes()));
        if seen.target.starts_with("/healthz") {
            *response.status_mut() = its.load(Ordering::Relaxed).try_into().unwrap();
        }
        response
    })
    .await;
    (backend, status)
}

fn config(targets: &[&Upstream], check: &str) -> String {
    let targets: Vec<_> = targets
        .iter()
        .map(|it| format!("\"http://{}\"", it.address))
        .collect();
    format!(
        "services: {{ a: {{ targets: [{}], routes: [{{ prefix: /a }}], slow_start: off,
         health_check: {{ {check}, interval: 300ms, timeout: 300ms }} }} }}",
        targets.join(", ")
    )
}

/// Who answers, of so many requests.
async fn answering(gateway: &Gateway, requests: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..requests {
        names.push(gateway.get("/a").send().await.assert_status(200).text());
    }
    names.sort_unstable();
    names.dedup();
    names
}

async fn until(gateway: &Gateway, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !gateway.process_log().contains(what) {
        assert!(
            Instant::now() < deadline,
            "{what}: {}",
            gateway.process_log()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_backend_that_is_down_gets_no_requests_until_it_is_up() {
    let ((one, status), (two, _)) = (checked("one").await, checked("two").await);
    let gateway = Gateway::start(&config(&[&one, &two], "path: /healthz?deep")).await;
    assert_eq!(answering(&gateway, 8).await, ["one", "two"]);
    status.store(503, Ordering::Relaxed);
    let name = format!("service=a endpoint=http://{}", one.address);
    until(
        &gateway,
        &format!("endpoint down: {name} reason=it answered 503"),
    )
    .await;
    assert_eq!(answering(&gateway, 8).await, ["two"]);
    let expected = json!([{ "service": "a", "circuit": "closed", "circuit_is": "automatic", "ejected": [],
        "down": [format!("http://{}", one.address)], "drained": [] }]);
    assert_eq!(gateway.status().await["impaired"], expected);
    let metrics = gateway.admin("/metrics").await.text();
    assert!(
        metrics.contains("tollgate_endpoints_down{service=\"a\"} 1"),
        "{metrics}"
    );
    status.store(204, Ordering::Relaxed);
    until(&gateway, &format!("endpoint up: {name}")).await;
    assert_eq!(answering(&gateway, 8).await, ["one", "two"]);
    assert_eq!(gateway.status().await["impaired"], json!([]));
    let check = one
        .seen()
        .into_iter()
        .find(|it| it.target == "/healthz?deep");
    let check = check.unwrap();
    assert_eq!(check.method, "GET");
    assert_eq!(check.header("host"), Some(&*one.address.to_string()));
    assert!(
        check
            .header("user-agent")
            .unwrap()
            .starts_with("tollgate-health-check/")
    );
}

#[tokio::test]
async fn what_means_well_can_be_said() {
    let ((one, status), (two, _)) = (checked("one").await, checked("two").await);
    status.store(404, Ordering::Relaxed);
    let check = "path: /healthz, statuses: [200, 404]";
    let gateway = Gateway::start(&config(&[&one, &two], check)).await;
    status.store(204, Ordering::Relaxed);
    until(&gateway, "reason=it answered 204").await;
    assert_eq!(answering(&gateway, 8).await, ["two"]);
}

#[tokio::test]
async fn silence_and_closed_ports_are_found_out() {
    let (well, _) = checked("well").await;
    let (silent, closed) = (
        Upstream::raw(|stream| async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(stream);
        })
        .await,
        Upstream::echo().await,
    );
    let gateway = Gateway::start(&config(&[&well, &silent], "path: /")).await;
    until(&gateway, "reason=no answer within 300ms").await;
    assert_eq!(answering(&gateway, 8).await, ["well"]);
    let config = config(&[&well, &closed], "protocol: tcp");
    let gateway = Gateway::start(&config).await;
    let address = closed.address;
    drop(closed);
    until(
        &gateway,
        &format!("endpoint down: service=a endpoint=http://{address}"),
    )
    .await;
    assert_eq!(answering(&gateway, 8).await, ["well"]);
}

#[tokio::test]
async fn when_all_are_down_all_are_tried() {
    let ((one, first), (two, second)) = (checked("one").await, checked("two").await);
    let gateway = Gateway::start(&config(&[&one, &two], "path: /healthz")).await;
    for status in [first, second] {
        status.store(500, Ordering::Relaxed);
    }
    for backend in [&one, &two] {
        until(
            &gateway,
            &format!(
                "endpoint down: service=a endpoint=http://{}",
                backend.address
            ),
        )
        .await;
    }
    assert_eq!(answering(&gateway, 8).await, ["one", "two"]);
}

#[tokio::test]
async fn a_reload_without_checks_forgets_them() {
    let ((one, status), (two, _)) = (checked("one").await, checked("two").await);
    let checks = config(&[&one, &two], "path: /healthz");
    let gateway = Gateway::start(&checks).await;
    status.store(500, Ordering::Relaxed);
    until(&gateway, "endpoint down").await;
    let section = &checks[checks.find("health_check").unwrap()..checks.len() - 4];
    gateway.edit(section, "");
    until(&gateway, "reloaded").await;
    assert_eq!(answering(&gateway, 8).await, ["one", "two"]);
}

/// A gRPC server that serves HTTP/2 in clear, and answers checks with this status.
async fn grpc(status: Arc<AtomicU64>, asked: Arc<std::sync::Mutex<Vec<Bytes>>>) -> Upstream {
    Upstream::raw(move |stream| {
        let (status, asked) = (status.clone(), asked.clone());
        async move {
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let (status, asked) = (status.clone(), asked.clone());
                async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    asked.lock().unwrap().push(body);
                    let message = vec![0, 0, 0, 0, 2, 8, status.load(Ordering::Relaxed) as u8];
                    let response = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, Infallible>(response.body(Full::new(Bytes::from(message))).unwrap())
                }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        }
    })
    .await
}

#[tokio::test]
async fn grpc_servers_are_asked_in_their_protocol() {
    let (status, asked) = (Arc::new(AtomicU64::new(1)), Arc::default());
    let backend = grpc(status.clone(), Arc::clone(&asked)).await;
    let (other, _) = checked("other").await;
    let check = "protocol: grpc, service: shop.Orders";
    let gateway = Gateway::start(&config(&[&backend, &other], check)).await;
    // The other one speaks no HTTP/2.
    until(
        &gateway,
        &format!("endpoint down: service=a endpoint=http://{}", other.address),
    )
    .await;
    let down = format!(
        "endpoint down: service=a endpoint=http://{}",
        backend.address
    );
    assert!(!gateway.process_log().contains(&down));
    status.store(2, Ordering::Relaxed);
    until(
        &gateway,
        &format!("{down} reason=it says that it is not serving"),
    )
    .await;
    let asked = asked.lock().unwrap()[0].clone();
    assert_eq!(
        asked,
        [&[0, 0, 0, 0, 13, 10, 11], &b"shop.Orders"[..]].concat()
    );
}
