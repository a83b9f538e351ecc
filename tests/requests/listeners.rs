//! Where connections come in and go out beside plain addresses: sockets in the file system, IPv6, and load
//! balancers of TCP in front of the gateway and behind it (PROXY protocol).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Client, Gateway, PATIENCE, Upstream, check, free_port};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 about a client at 203.0.113.9.
fn v2_of_client() -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    // With a field that nobody knows.
    [V2, &[0x21, 0x11, 0, 17], &addresses, &[0xEE, 0, 2, 1, 2]].concat()
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, sent: &[u8]) -> String {
    // It may be closed before all is read.
    let _ = stream.write_all(sent).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(PATIENCE, read).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// A gateway in whose network load balancers stand at `from`; it limits clients by their addresses.
async fn behind_balancers(upstream: &Upstream, from: &str) -> Gateway {
    Gateway::start(&format!(
        "server: {{ listen: {{ address: $LISTEN, proxy_protocol: {{ from: [{from}], timeout: 300ms }} }} }}
admin: {{ listen: $ADMIN }}
services:
  a:
    base_url: http://{}
    routes: [/a, {{ path: /closed, access: {{ deny: [203.0.113.0/24] }} }}, {{ path: /once, rate_limit: {{ limit: 1, window: 1h, by: client_ip }} }}]\n",
        upstream.address
    ))
    .await
}

async fn ask(gateway: &Gateway, header: &[u8], path: &str) -> String {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let request = GET.replace("/a", path);
    exchange(stream, &[header, request.as_bytes()].concat()).await
}

#[tokio::test]
async fn the_client_is_who_the_load_balancer_says() {
    let upstream = Upstream::echo().await;
    let gateway = behind_balancers(&upstream, "127.0.0.1").await;
    let v1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 80\r\n";
    let mut logged = Vec::new();
    for header in [&v1[..], &v2_of_client()] {
        let answer = ask(&gateway, header, "/a").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(
            upstream.last().header("x-forwarded-for"),
            Some("203.0.113.9")
        );
        logged.push("203.0.113.9");
        let answer = ask(&gateway, header, "/closed").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        logged.push("203.0.113.9");
    }
    let v6 = b"PROXY TCP6 2001:db8::9 ::1 4660 80\r\n";
    assert!(ask(&gateway, v6, "/a").await.starts_with("HTTP/1.1 200 "));
    let forwarded = upstream.last();
    assert_eq!(forwarded.header("x-forwarded-for"), Some("2001:db8::9"));
    logged.push("2001:db8::9");
    // Limits count them apart.
    for (client, status) in [
        ("198.51.100.1", 200),
        ("198.51.100.2", 200),
        ("198.51.100.1", 429),
    ] {
        let header = format!("PROXY TCP4 {client} 10.0.0.1 1 80\r\n");
        let answer = ask(&gateway, header.as_bytes(), "/once").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        logged.push(client);
    }
    let log = gateway.log(logged.len()).await;
    let clients: Vec<_> = log
        .iter()
        .map(|line| line["client"].as_str().unwrap())
        .collect();
    assert_eq!(clients, logged);
}

#[tokio::test]
async fn what_a_load_balancer_asks_for_itself_comes_from_itself() {
    let upstream = Upstream::echo().await;
    let gateway = behind_balancers(&upstream, "127.0.0.0/8").await;
    let local = [V2, &[0x20, 0, 0, 0]].concat();
    let unspecified = [V2, &[0x21, 0, 0, 3, 1, 0, 0]].concat();
    for header in [&local[..], &unspecified, b"PROXY UNKNOWN\r\n"] {
        let answer = ask(&gateway, header, "/a").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(upstream.last().header("x-forwarded-for"), Some("127.0.0.1"));
    }
}

#[tokio::test]
async fn a_load_balancer_that_does_not_say_whom_it_brings_is_turned_away() {
    let upstream = Upstream::echo().await;
    let gateway = behind_balancers(&upstream, "127.0.0.1").await;
    let mut damaged = [
        V2,
        &[0x21, 0x11, 0, 19],
        &[203, 0, 113, 9, 10, 0, 0, 1, 0, 1, 0, 80],
    ]
    .concat();
    damaged.extend([3, 0, 4, 1, 2, 3, 4]);
    let endless = format!("PROXY UNKNOWN {}", "a".repeat(5000));
    let huge = [V2, &[0x20, 0, 0xff, 0xff], &[0; 70_000]].concat();
    let mut turned_away = 0;
    for header in [
        &b""[..],
        b"PROXY TCP4 203.0.113.9\r\n",
        endless.as_bytes(),
        &damaged,
        &huge,
    ] {
        let answer = ask(&gateway, header, "/a").await;
        assert_eq!(
            answer,
            "",
            "{}",
            header[..header.len().min(60)].escape_ascii()
        );
        turned_away += 1;
    }
    // One that says nothing has a deadline.
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    assert_eq!(exchange(stream, b"PROXY TCP4 203").await, "");
    turned_away += 1;
    assert_eq!(upstream.seen().len(), 0);
    let page = gateway.admin("/metrics").await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    // The harness has looked whether the port is open, too.
    let line = "tollgate_connections_total{result=\"unintroduced\"} ";
    let count = page.lines().find_map(|it| it.strip_prefix(line)).unwrap();
    assert!(count.parse::<usize>().unwrap() >= turned_away, "{count}");
}

#[tokio::test]
async fn nobody_else_may_say_who_he_is() {
    let upstream = Upstream::echo().await;
    let gateway = behind_balancers(&upstream, "192.0.2.1").await;
    let answer = ask(&gateway, b"", "/a").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(upstream.last().header("x-forwarded-for"), Some("127.0.0.1"));
    for header in [
        &b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 80\r\n"[..],
        &v2_of_client(),
    ] {
        let answer = ask(&gateway, header, "/a").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn the_header_stands_in_front_of_tls() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().unwrap();
    let authority = crate::support::Authority::new();
    authority.write(folder.path(), "a", &["a.example"]);
    let config = format!(
        "server: {{ listen: {{ address: $LISTEN, proxy_protocol: {{ from: 127.0.0.1 }}, tls: {{ certificates: {{ cert: a.pem, key: a.key }} }} }} }}\nadmin: off\nservices: {{ a: {{ base_url: \"http://{}\", routes: [/a] }} }}\n",
        upstream.address
    );
    let gateway = Gateway::start_in(folder, &config, &[]).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(&v2_of_client()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(authority.client(&["http/1.1"])));
    let name = "a.example".try_into().unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    let answer = exchange(
        stream,
        GET.replace("Host: a\r\n", "Host: a.example\r\n").as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(
        upstream.last().header("x-forwarded-for"),
        Some("203.0.113.9")
    );
}

/// A backend that wants to be told, and how often it was connected to with which header.
struct Told {
    address: std::net::SocketAddr,
    headers: Arc<Mutex<Vec<String>>>,
    _accepting: tokio::task::JoinHandle<()>,
}

/// Answers each request with the header that its connection began with.
async fn told() -> Told {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let headers: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = headers.clone();
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, kept.clone()));
        }
    });
    Told {
        address,
        headers,
        _accepting: accepting,
    }
}

async fn converse(mut stream: TcpStream, headers: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    let mut header = None;
    while let Ok(1..) = stream.read_buf(&mut bytes).await {
        if header.is_none() {
            let length = match bytes[0] {
                b'P' => bytes.windows(2).position(|it| it == b"\r\n").unwrap() + 2,
                _ => 16 + usize::from(bytes[15]),
            };
            let said: Vec<u8> = bytes.drain(..length).collect();
            let said = said.escape_ascii().to_string();
            headers.lock().unwrap().push(said.clone());
            header = Some(said);
        }
        while let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let request: Vec<u8> = bytes.drain(..end + 4).collect();
            let said = header.as_deref().unwrap();
            let is_switch = request
                .windows(9)
                .any(|it| it.eq_ignore_ascii_case(b"upgrade: "));
            let answer = match is_switch {
                true => format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n{said}"
                ),
                false => format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}",
                    said.len()
                ),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            if is_switch {
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_backend_is_told_for_whom_a_connection_is_and_no_two_clients_share_one() {
    for version in ["v1", "v2"] {
        let backend = told().await;
        let gateway = Gateway::start(&format!(
            "server: {{ listen: $LISTEN, trusted_proxies: [127.0.0.3] }}\nadmin: off\nservices: {{ a: {{ base_url: \"http://{}\", proxy_protocol: {version}, routes: [/a] }} }}\n",
            backend.address
        ))
        .await;
        let to = gateway.address;
        let expected = |ip: [u8; 4], port: u16| {
            let ip = std::net::Ipv4Addr::from(ip);
            match version {
                "v1" => format!("PROXY TCP4 {ip} 127.0.0.1 {port} {}\\r\\n", to.port()),
                _ => {
                    let addresses = [
                        &ip.octets()[..],
                        &[127, 0, 0, 1],
                        &port.to_be_bytes(),
                        &to.port().to_be_bytes(),
                    ];
                    [V2, &[0x21, 0x11, 0, 12], &addresses.concat()]
                        .concat()
                        .escape_ascii()
                        .to_string()
                }
            }
        };
        // Two clients in turn, each on one connection: the pool would give each the other's.
        let mut clients = Vec::new();
        for last in [1, 2] {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, last], 0).into()).unwrap();
            let stream = socket.connect(to).await.unwrap();
            let port = stream.local_addr().unwrap().port();
            let client = Client::over(stream, "a").await;
            clients.push((client, expected([127, 0, 0, last], port)));
        }
        for _ in 0..3 {
            for (client, expected) in &mut clients {
                let answer = client.get("/a").await;
                assert_eq!(answer.body, expected.as_bytes());
            }
        }
        // The same client again has the same connection.
        assert_eq!(backend.headers.lock().unwrap().len(), 2);
        // Of a client that a trusted proxy tells of, the port is not known.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 3], 0).into()).unwrap();
        let stream = socket.connect(to).await.unwrap();
        let request = GET.replace("Host", "X-Forwarded-For: 203.0.113.9\r\nHost");
        let answer = exchange(stream, request.as_bytes()).await;
        assert!(answer.ends_with(&expected([203, 0, 113, 9], 0)), "{answer}");
        // A WebSocket begins in the same way.
        let stream = TcpStream::connect(to).await.unwrap();
        let port = stream.local_addr().unwrap().port();
        let request = GET.replace(
            "Connection: close",
            "Connection: Upgrade\r\nUpgrade: websocket",
        );
        let answer = exchange(stream, request.as_bytes()).await;
        assert!(
            answer.ends_with(&expected([127, 0, 0, 1], port)),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn health_checks_are_the_gateways_own_affair() {
    let backend = told().await;
    let _gateway = Gateway::start(&format!(
        "services: {{ a: {{ base_url: \"http://{}\", proxy_protocol: v2, health_check: {{ path: /a, interval: 100ms }}, routes: [/a] }} }}",
        backend.address
    ))
    .await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while backend.headers.lock().unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "nobody asks");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let local = [V2, &[0x20, 0, 0, 0]].concat().escape_ascii().to_string();
    assert!(
        backend
            .headers
            .lock()
            .unwrap()
            .iter()
            .all(|it| *it == local)
    );
}

/// A backend behind a socket in the file system, that tells what it was asked.
async fn socket_backend(path: &Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        // They end with it.
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut bytes = Vec::new();
                while let Ok(1..) = stream.read_buf(&mut bytes).await {
                    while let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
                        let request: Vec<u8> = bytes.drain(..end + 4).collect();
                        let request = String::from_utf8(request).unwrap();
                        let host = request.lines().find(|it| it.starts_with("Host: ")).unwrap();
                        let answer = if request.contains("websocket") {
                            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nswitched".to_owned()
                        } else {
                            format!(
                                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{host}",
                                host.len()
                            )
                        };
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        if request.contains("websocket") {
                            return;
                        }
                    }
                }
            });
        }
    })
}

fn sock(gateway: &Gateway, name: &str) -> PathBuf {
    gateway.directory.path().join(name)
}

#[tokio::test]
async fn a_backend_may_be_a_socket_in_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let backend = socket_backend(&path).await;
    let config = format!(
        "services: {{ a: {{ base_url: \"unix:{}\", retry: off, health_check: {{ path: /a, interval: 100ms }}, routes: [/a] }} }}",
        path.display()
    );
    let gateway = Gateway::start_in(folder, &config, &[]).await;
    for _ in 0..3 {
        let answer = gateway.get("/a").send().await.assert_status(200);
        assert_eq!(answer.body, &b"Host: localhost"[..]);
    }
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let request = GET.replace(
        "Connection: close",
        "Connection: Upgrade\r\nUpgrade: websocket",
    );
    let answer = exchange(stream, request.as_bytes()).await;
    assert!(answer.ends_with("\r\n\r\nswitched"), "{answer}");
    let log = gateway.log(4).await;
    assert_eq!(log[0]["endpoint"], format!("unix:{}", path.display()));
    backend.abort();
    let _ = backend.await;
    std::fs::remove_file(&path).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    // 502 to whom it happens to, or 503 once the checks have found out.
    let status = loop {
        let status = gateway.get("/a").send().await.status;
        if status != 200 {
            break status;
        }
        assert!(std::time::Instant::now() < deadline, "it goes on");
    };
    assert!(status == 502 || status == 503, "{status}");
}

#[tokio::test]
async fn clients_may_come_in_by_a_socket_in_the_file_system_before_and_after_an_upgrade() {
    let upstream = Upstream::echo().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.sock");
    // Of a process that has ended.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let config = format!(
        "server: {{ listen: [$LISTEN, {{ address: \"unix:{}\", mode: \"0600\" }}] }}\nadmin: {{ listen: $ADMIN }}\nservices: {{ a: {{ base_url: \"http://{}\", routes: [/a] }} }}\n",
        path.display(),
        upstream.address
    );
    let mut gateway = Gateway::start_in(folder, &config, &[]).await;
    let ask = async || exchange(UnixStream::connect(&path).await.unwrap(), GET.as_bytes()).await;
    let answer = ask().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(upstream.last().header("x-forwarded-for"), Some("127.0.0.1"));
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    gateway.admin("/readyz").await.assert_status(200);
    gateway.upgrade().await;
    let answer = ask().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(mode(), 0o600);
    assert_eq!(gateway.left_behind().await, Vec::<u32>::new());
    let answer = ask().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_socket_in_the_file_system_may_be_where_a_load_balancer_comes_in() {
    let upstream = Upstream::echo().await;
    let config = format!(
        "server: {{ listen: [$LISTEN, {{ address: \"unix:$SOCKET\", proxy_protocol: {{ from: 127.0.0.1 }} }}] }}\nadmin: off\nservices: {{ a: {{ base_url: \"http://{}\", routes: [/a] }} }}\n",
        upstream.address
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.sock");
    let config = config.replace("$SOCKET", &path.display().to_string());
    let gateway = Gateway::start_in(folder, &config, &[]).await;
    let stream = UnixStream::connect(sock(&gateway, "in.sock"))
        .await
        .unwrap();
    let sent = [&v2_of_client()[..], GET.as_bytes()].concat();
    let answer = exchange(stream, &sent).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(
        upstream.last().header("x-forwarded-for"),
        Some("203.0.113.9")
    );
    // The other listener takes clients as they are.
    let answer = ask(&gateway, b"", "/a").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_socket_at_which_another_process_listens_is_not_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.sock");
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let config = format!(
        "server: {{ listen: \"unix:{}\" }}\nadmin: off\nservices: {{ a: {{ routes: [{{ path: /a, respond: {{ body: a }} }}] }} }}\n",
        path.display()
    );
    std::fs::write(folder.path().join("gateway.yaml"), config).unwrap();
    let output = crate::support::run(&["run", "-c", "gateway.yaml"], folder.path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        said.contains(&format!("can't listen on unix:{}", path.display())),
        "{said}"
    );
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
}

#[tokio::test]
async fn ipv6_comes_in_and_goes_out_and_an_address_for_all_takes_ipv4_too() {
    let upstream = crate::support::Upstream::echo_at("[::1]:0").await;
    let port = free_port().port();
    let gateway = Gateway::start(&format!(
        "server: {{ listen: [$LISTEN, \"[::]:{port}\"] }}\nadmin: off\nservices: {{ a: {{ base_url: \"http://{}\", routes: [/a] }} }}\n",
        upstream.address
    ))
    .await;
    assert!(gateway.address.is_ipv4());
    for (address, client) in [("[::1]", "::1"), ("127.0.0.1", "127.0.0.1")] {
        let stream = TcpStream::connect(format!("{address}:{port}"))
            .await
            .unwrap();
        let answer = exchange(stream, GET.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let seen = upstream.last();
        assert_eq!(seen.header("x-forwarded-for"), Some(client));
        assert_eq!(seen.header("host"), Some(&*upstream.address.to_string()));
    }
    let forwarded = upstream.seen()[0].header("forwarded").unwrap().to_owned();
    assert!(forwarded.starts_with("for=\"[::1]\";"), "{forwarded}");
}

/// Processor time of the threads that serve, in ticks.
fn work_of_threads(gateway: &Gateway) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let ticks = |stat: String| {
        let rest = stat.split_once(" (clients) ")?.1;
        let mut times = rest
            .split(' ')
            .skip(11)
            .map(|it| it.parse::<u64>().unwrap());
        Some(times.next()? + times.next()?)
    };
    stats.filter_map(ticks).collect()
}

async fn answering(threads: usize) -> Gateway {
    Gateway::start(&format!(
        "server: {{ threads: {threads}, listen: $LISTEN }}
admin: {{ listen: $ADMIN }}
log: {{ access: off }}
services: {{ a: {{ routes: [{{ path: /a, respond: {{ body: hello }} }}] }} }}
"
    ))
    .await
}

/// Opens so many connections at once, one after the other of each, with a request on each.
async fn connect_often(gateway: &Gateway, at_once: usize, each: usize) {
    let address = gateway.address;
    let clients = (0..at_once).map(|_| async move {
        for _ in 0..each {
            let stream = TcpStream::connect(address).await.unwrap();
            let answer = exchange(stream, GET.as_bytes()).await;
            assert!(answer.ends_with("hello"), "{answer}");
        }
    });
    futures_util::future::join_all(clients).await;
}

#[tokio::test]
async fn every_worker_serves_connections_of_one_socket() {
    let gateway = answering(4).await;
    let deadline = tokio::time::Instant::now() + 3 * PATIENCE;
    loop {
        connect_often(&gateway, 16, 20).await;
        let work = work_of_threads(&gateway);
        assert_eq!(work.len(), 4, "{work:?}");
        if work.iter().all(|ticks| *ticks >= 3) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{work:?}");
    }
}

/// With so many workers that one loop does not accept for all of them.
#[tokio::test]
async fn several_loops_accept_before_and_after_an_upgrade() {
    let mut gateway = answering(17).await;
    connect_often(&gateway, 16, 10).await;
    gateway.upgrade().await;
    connect_often(&gateway, 16, 10).await;
}

#[test]
fn a_socket_is_checked_before_anything_is_bound() {
    let (code, _, report) = check(
        "server: { listen: { address: \"unix:in.sock\" } }\nservices: { a: { base_url: \"unix:app.sock\", routes: [/a] } }\n",
    );
    assert_eq!(code, 78);
    assert_eq!(
        report.matches("has no absolute path").count(),
        2,
        "{report}"
    );
}
