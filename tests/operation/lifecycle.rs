//! Starting and ending: what a supervisor sees.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Gateway, Upstream};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;

/// A backend that answers when it is told to.
async fn waiting() -> (Upstream, tokio::sync::watch::Sender<bool>) {
    let (release, released) = tokio::sync::watch::channel(false);
    let upstream = Upstream::serving(move |_| {
        let mut released = released.clone();
        async move {
            let _ = released.wait_for(|is_released| *is_released).await;
            Response::new(Full::new(Bytes::from_static(b"at last")).boxed())
        }
    })
    .await;
    (upstream, release)
}

fn config(upstream: &Upstream, shutdown: &str) -> String {
    format!(
        "server: {{ listen: $LISTEN, shutdown: {{ {shutdown} }} }}\nadmin: {{ listen: $ADMIN }}\nservices: {{ a: {{ base_url: \"http://{}\", routes: [/a] }} }}\n",
        upstream.address
    )
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never comes true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_last_request_ends_before_the_process_does() {
    let (upstream, release) = waiting().await;
    let mut gateway = Gateway::start(&config(&upstream, "deadline: 60s")).await;
    let request = tokio::spawn(gateway.get("/a").send());
    until(async || upstream.connections() == 1).await;
    gateway.signal("TERM");
    until(async || std::net::TcpStream::connect(gateway.address).is_err()).await;
    release.send(true).unwrap();
    let answer = request.await.unwrap().assert_status(200);
    assert_eq!(answer.text(), "at last");
    assert!(gateway.wait().await.success());
    assert_eq!(gateway.log(1).await[0]["status"], 200);
    assert!(
        gateway.process_log().contains("stopped"),
        "{}",
        gateway.process_log()
    );
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (upstream, _release) = waiting().await;
    let mut gateway = Gateway::start(&config(&upstream, "deadline: 1h")).await;
    let request = tokio::spawn({
        let address = gateway.address;
        async move {
            let mut client = crate::support::Client::connect(address, None).await;
            client.try_get("/a").await
        }
    });
    until(async || upstream.connections() == 1).await;
    gateway.signal("TERM");
    until(async || gateway.process_log().contains("stopping")).await;
    gateway.signal("TERM");
    gateway.wait().await;
    assert!(request.await.unwrap().is_none());
}

#[tokio::test]
async fn requests_in_flight_are_cut_at_the_deadline() {
    let (upstream, _release) = waiting().await;
    let mut gateway = Gateway::start(&config(&upstream, "deadline: 300ms")).await;
    let mut client = gateway.connect().await;
    let request = tokio::spawn(async move { client.try_get("/a").await });
    until(async || upstream.connections() == 1).await;
    gateway.signal("TERM");
    gateway.wait().await;
    assert!(request.await.unwrap().is_none());
    assert!(
        gateway.process_log().contains("cut_connections=1"),
        "{}",
        gateway.process_log()
    );
}

#[tokio::test]
async fn readiness_fails_first_and_requests_still_pass() {
    let upstream = Upstream::echo().await;
    let mut gateway = Gateway::start(&config(&upstream, "grace: 30s")).await;
    let mut kept = gateway.connect().await;
    kept.get("/a")
        .await
        .assert_status(200)
        .assert_header("connection", "keep-alive");
    gateway.signal("TERM");
    until(async || gateway.admin("/readyz").await.status == 503).await;
    gateway.admin("/healthz").await.assert_status(200);
    gateway.admin("/startupz").await.assert_status(200);
    gateway.get("/a").send().await.assert_status(200);
    // Clients that stay are asked to go.
    kept.get("/a")
        .await
        .assert_status(200)
        .assert_header("connection", "close");
    gateway.signal("TERM");
    gateway.wait().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_said_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "server: {{ listen: \"{}\" }}\nadmin: off\nservices: {{ a: {{ routes: [{{ path: /a, respond: {{ body: x }} }}] }} }}\n",
        taken.local_addr().unwrap()
    );
    std::fs::write(directory.path().join("t.yaml"), config).unwrap();
    let output = crate::support::run(&["run", "-c", "t.yaml"], directory.path());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("can't listen on 127.0.0.1:") && said.contains("another process"),
        "{said}"
    );
}

#[tokio::test]
async fn a_backend_name_that_does_not_resolve_is_503_until_it_does() {
    let gateway = Gateway::start(
        "services: { a: { base_url: \"http://no-such-host.invalid:1\", routes: [/a] } }",
    )
    .await;
    let answer = gateway.get("/a").send().await.assert_status(503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(
        gateway.log(1).await[0]["flags"],
        serde_json::json!(["no_endpoint"])
    );
    assert!(
        gateway.process_log().contains("no-such-host.invalid"),
        "{}",
        gateway.process_log()
    );
}

#[tokio::test]
async fn the_process_becomes_the_user_that_is_configured_and_so_do_its_successors() {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let directory = tempfile::tempdir().unwrap();
    // Another user has to be able to read it.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let config = "server: { listen: $LISTEN, user: nobody }\nadmin: { listen: $ADMIN }\n\
                  log: { access: { output: requests.log } }\n\
                  services: { a: { routes: [{ path: /a, respond: { body: a } }] } }";
    if !is_root {
        let (code, said) = refused_start(config).await;
        assert_eq!(code, 1);
        assert!(said.contains("only a process that root started"), "{said}");
        return;
    }
    // So has the program.
    let program = directory.path().join("tollgate");
    std::fs::copy(env!("CARGO_BIN_EXE_tollgate"), &program).unwrap();
    let mut gateway = Gateway::start_as(&program, directory, config, &[]).await;
    let id = |flag: &str| {
        let output = Command::new("id").args([flag, "nobody"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let owner = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = |name: &str| {
            let found = status.lines().find(|line| line.starts_with(name));
            found
                .unwrap()
                .split_whitespace()
                .skip(1)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        (line("Uid:"), line("Gid:"))
    };
    let expected = (vec![id("-u"); 4], vec![id("-g"); 4]);
    assert_eq!(owner(gateway.pid()), expected);
    let pid = gateway.upgrade().await;
    assert_eq!(owner(pid), expected);
    gateway.get("/a").send().await.assert_status(200);
    gateway.edit("user: nobody", "user: daemon");
    let (code, printed, _) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0);
    assert!(printed.contains("! server.user changes only"), "{printed}");
    let (code, _, said) = gateway.command(&["upgrade"]).await;
    assert_eq!(code, 1);
    assert!(said.contains("step `listeners`"), "{said}");
    assert!(said.contains("can't become the user `daemon`"), "{said}");
    gateway.get("/a").send().await.assert_status(200);
}

#[tokio::test]
async fn a_user_that_does_not_exist_is_said_so() {
    let config = "server: { listen: $LISTEN, user: nobody-at-all }\n\
                  services: { a: { routes: [{ path: /a, respond: { body: a } }] } }";
    let (code, said) = refused_start(config).await;
    assert_eq!(code, 1);
    assert!(said.contains("no such user (`server.user`)"), "{said}");
}

/// Exit code and words of a gateway that can't start.
async fn refused_start(config: &str) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let config = config
        .replace("$LISTEN", &crate::support::free_port().to_string())
        .replace("$ADMIN", &crate::support::free_port().to_string());
    std::fs::write(directory.path().join("gateway.yaml"), config).unwrap();
    let run = move || crate::support::run(&["run", "-c", "gateway.yaml"], directory.path());
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
