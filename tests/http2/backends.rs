//! Backends that speak HTTP/2: by choice with TLS, and because they are known to.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::support::{Authority, Gateway, Upstream};

/// Answers with how it was asked, and with what it was sent.
async fn tell(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let authority = parts.uri.authority().map_or("none", |it| it.as_str());
    let response = Response::builder()
        .header("x-version", format!("{:?}", parts.version))
        .header("x-authority", authority)
        .header("x-path", parts.uri.path())
        .header(
            "x-via",
            parts
                .headers
                .get("via")
                .cloned()
                .unwrap_or(HeaderValue::from_static("none")),
        );
    Ok(response.body(Full::new(body)).unwrap())
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(stream), service_fn(tell));
    let _ = served.await;
}

async fn gateway(upstream: &Upstream, service: &str) -> Gateway {
    let config = format!(
        "services: {{ a: {{ base_url: \"http://{}/base\", protocol: http2, routes: [{{ prefix: / }}], {service} }} }}",
        upstream.address
    );
    Gateway::start(&config).await
}

#[tokio::test]
async fn requests_pass_one_after_another_on_a_connection_that_is_kept() {
    let upstream = Upstream::raw(converse).await;
    let gateway = gateway(&upstream, "").await;
    let mut client = gateway.connect().await;
    for size in [0, 1, 70_000, 3_000_000] {
        let body: Bytes = (0..size).map(|it| it as u8).collect::<Vec<u8>>().into();
        let fields = hyper::HeaderMap::new();
        let answer = client.send(hyper::Method::POST, "/x", &fields, body.clone());
        let answer = answer.await.assert_status(200);
        assert!(answer.body == body, "{size}: {}", answer.body.len());
        assert_eq!(answer.header("x-version"), Some("HTTP/2.0"));
        assert_eq!(answer.header("x-path"), Some("/base/x"));
        assert_eq!(answer.header("x-via"), Some("1.1 tollgate"));
        let authority = upstream.address.to_string();
        assert_eq!(answer.header("x-authority"), Some(&*authority));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_backend_with_tls_is_spoken_to_as_it_prefers() {
    let authority = Authority::new();
    let http2 = authority.certify_http2("localhost");
    let newer = Upstream::raw(move |stream| {
        let http2 = http2.clone();
        async move {
            if let Some(stream) = http2.accept(stream).await {
                converse(stream).await;
            }
        }
    })
    .await;
    let older = Upstream::serving_securely(authority.certify("localhost"), |request| async move {
        let version = format!("{:?}", request.version());
        let response = Response::builder().header("x-version", version);
        response.body(Full::default().boxed()).unwrap()
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    let service = |name: &str, upstream: &Upstream, rest: &str| {
        let port = upstream.address.port();
        format!(
            "  {name}: {{ base_url: \"https://localhost:{port}\", tls: {{ ca: ca.pem }}, routes: [/{name}], {rest} }}\n"
        )
    };
    let config = "services:\n".to_owned()
        + &service("newer", &newer, "protocol: auto")
        + &service("older", &older, "protocol: auto")
        + &service("only", &newer, "protocol: http2")
        + &service("not", &older, "");
    let gateway = Gateway::start_in(directory, &config, &[]).await;
    for (path, version) in [
        ("/newer", "HTTP/2.0"),
        ("/older", "HTTP/1.1"),
        ("/only", "HTTP/2.0"),
        ("/not", "HTTP/1.1"),
    ] {
        for _ in 0..2 {
            let answer = gateway.get(path).send().await.assert_status(200);
            assert_eq!(answer.header("x-version"), Some(version), "{path}");
        }
    }
}

/// A backend that refuses its first streams, as many as it is told.
async fn refusing(count: usize, refused: Arc<AtomicUsize>) -> Upstream {
    Upstream::raw(move |stream| {
        let refused = refused.clone();
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else {
                return;
            };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if refused.fetch_add(1, Ordering::Relaxed) < count {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    let mut body = request.into_body();
                    tokio::spawn(async move {
                        while body.data().await.is_some() {}
                        let _ = respond.send_response(Response::new(()), true);
                    });
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_stream_that_was_refused_is_sent_again_whatever_its_method() {
    let asked = Arc::new(AtomicUsize::new(0));
    let upstream = refusing(1, asked.clone()).await;
    let gateway = gateway(&upstream, "").await;
    let answer = gateway.post("/x").body("once").send().await;
    let line = &gateway.log(1).await[0];
    assert_eq!(answer.status, StatusCode::OK, "{line}");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(line["attempts"], 2);
}

#[tokio::test]
async fn a_backend_that_refuses_all_is_not_asked_for_ever() {
    let asked = Arc::new(AtomicUsize::new(0));
    let upstream = refusing(usize::MAX, asked.clone()).await;
    let gateway = gateway(&upstream, "retry: { attempts: 3 }").await;
    gateway.post("/x").send().await.assert_status(502);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    let line = &gateway.log(1).await[0];
    assert!(
        line["flags"].to_string().contains("upstream_reset"),
        "{line}"
    );
}

#[tokio::test]
async fn a_connection_whose_backend_says_goodbye_costs_no_request() {
    let upstream = Upstream::raw(|stream| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else {
            return;
        };
        // One request a connection, and the next one comes after its end.
        if let Some(Ok((request, mut respond))) = connection.accept().await {
            let mut body = request.into_body();
            tokio::spawn(async move {
                while body.data().await.is_some() {}
                let _ = respond.send_response(Response::new(()), true);
            });
            connection.graceful_shutdown();
            while connection.accept().await.is_some() {}
        }
    })
    .await;
    let gateway = gateway(&upstream, "").await;
    let mut client = gateway.connect().await;
    for _ in 0..20 {
        let fields = hyper::HeaderMap::new();
        let answer = client.send(hyper::Method::POST, "/x", &fields, "once".into());
        answer.await.assert_status(200);
    }
}

#[tokio::test]
async fn a_backend_that_is_late_is_cut_off_without_harm_to_others() {
    let upstream = Upstream::raw(|stream| async move {
        let answer = service_fn(|request: Request<Incoming>| async move {
            if request.uri().path() == "/base/never" {
                std::future::pending::<()>().await;
            }
            tell(request).await
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
    })
    .await;
    let gateway = gateway(&upstream, "timeouts: { first_byte: 300ms }, retry: off").await;
    let late = gateway.post("/never").body("x").send();
    let others = async {
        for _ in 0..50 {
            gateway.get("/x").send().await.assert_status(200);
        }
    };
    let (late, ()) = tokio::join!(late, others);
    assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT);
    gateway.get("/x").send().await.assert_status(200);
    let log = gateway.log(52).await;
    let line = log.iter().find(|line| line["status"] == 504).unwrap();
    assert_eq!(line["flags"], serde_json::json!(["upstream_timeout"]));
}

#[tokio::test]
async fn who_does_not_speak_it_is_found_out() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, "retry: off").await;
    gateway.get("/x").send().await.assert_status(502);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn checks_speak_it_too() {
    let upstream = Upstream::raw(converse).await;
    let other = Upstream::raw(|stream| async move {
        let answer = service_fn(|request: Request<Incoming>| async move {
            assert_eq!(request.version(), Version::HTTP_2);
            let response = Response::builder().status(500);
            Ok::<_, Infallible>(response.body(Full::<Bytes>::default()).unwrap())
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
    })
    .await;
    let check = "health_check: { path: /healthz, interval: 100ms, unhealthy_after: 2 }";
    let config = format!(
        "services: {{ a: {{ targets: [\"http://{}\", \"http://{}\"], protocol: http2, {check}, routes: [/x] }} }}",
        upstream.address, other.address
    );
    let gateway = Gateway::start(&config).await;
    let down = format!(
        "endpoint down: service=a endpoint=http://{} reason=it answered 500",
        other.address
    );
    super::until(async || gateway.process_log().contains(&down), &down).await;
    let well = format!("endpoint=http://{}", upstream.address);
    assert!(
        !gateway.process_log().contains(&well),
        "{}",
        gateway.process_log()
    );
}

#[tokio::test]
async fn a_wish_for_another_protocol_is_ignored() {
    let upstream = Upstream::raw(converse).await;
    let gateway = gateway(&upstream, "").await;
    let request = gateway.get("/x").header("connection", "upgrade");
    let answer = request.header("upgrade", "websocket").send().await;
    let answer = answer.assert_status(200);
    assert_eq!(answer.header("x-version"), Some("HTTP/2.0"));
}
