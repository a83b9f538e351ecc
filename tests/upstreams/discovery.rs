//! Backends that are found by their names.

use std::time::{Duration, Instant};

use crate::support::{Gateway, NameServer, Upstream};
use bytes::Bytes;
use hickory_resolver::proto::op::ResponseCode;
use hyper::Response;

/// So many backends on addresses of their own, all on the same port; each answers with its address.
async fn on_one_port(count: u8) -> (Vec<Upstream>, u16) {
    'ports: loop {
        let first = named("127.0.0.1:0").await;
        let port = first.address.port();
        let mut all = vec![first];
        for number in 2..=count {
            let address = format!("127.0.0.{number}:{port}");
            // Somebody else may have the port there.
            if std::net::TcpListener::bind(&address).is_err() {
                continue 'ports;
            }
            all.push(named(&address).await);
        }
        return (all, port);
    }
}

async fn named(address: &str) -> Upstream {
    let name = address.split(':').next().unwrap().to_owned();
    Upstream::answering_at(address, move |_| Response::new(Bytes::from(name.clone()))).await
}

fn config(names: &NameServer, targets: &str) -> String {
    format!(
        "server: {{ listen: $LISTEN, threads: 2, nameservers: [\"{}\"] }}
admin: {{ listen: $ADMIN }}
services: {{ a: {{ targets: [{targets}], slow_start: off, routes: [{{ prefix: /a }}] }} }}",
        names.address
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

/// Waits until these answer and no others.
async fn until_answered_by(gateway: &Gateway, expected: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = answering(gateway, 12).await;
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{found:?} {}",
            gateway.process_log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn every_address_of_a_name_is_a_backend() {
    let (backends, port) = on_one_port(3).await;
    let names = NameServer::start().await;
    names.set("orders.test", &["127.0.0.1", "127.0.0.2"]);
    let gateway = Gateway::start(&config(&names, &format!("{{ dns: orders.test:{port} }}"))).await;
    assert_eq!(answering(&gateway, 12).await, ["127.0.0.1", "127.0.0.2"]);
    let host = format!("orders.test:{port}");
    assert_eq!(backends[0].last().header("host"), Some(&*host));
    // A backend comes, another goes, and no request fails.
    names.set("orders.test", &["127.0.0.2", "127.0.0.3"]);
    until_answered_by(&gateway, &["127.0.0.2", "127.0.0.3"]).await;
    let log = gateway.log(1).await;
    let first = format!("http://127.0.0.1:{port}");
    assert!(
        log.iter().any(|line| line["endpoint"] == first),
        "{:?}",
        log[0]
    );
}

#[tokio::test]
async fn the_last_answer_is_kept_while_there_is_no_other() {
    let (_backends, port) = on_one_port(2).await;
    let names = NameServer::start().await;
    names.set("orders.test", &["127.0.0.1"]);
    let target = format!("{{ dns: orders.test:{port}, refresh: 100ms }}");
    let gateway = Gateway::start(&config(&names, &target)).await;
    assert_eq!(answering(&gateway, 2).await, ["127.0.0.1"]);
    for code in [
        ResponseCode::ServFail,
        ResponseCode::NXDomain,
        ResponseCode::NoError,
    ] {
        names.fail(Some(code));
        let before = names.queries();
        while names.queries() < before + 4 {
            assert_eq!(answering(&gateway, 1).await, ["127.0.0.1"]);
        }
    }
    let said = "last addresses kept: name=http://orders.test";
    assert!(
        gateway.process_log().contains(said),
        "{}",
        gateway.process_log()
    );
    names.fail(None);
    names.set("orders.test", &["127.0.0.2"]);
    until_answered_by(&gateway, &["127.0.0.2"]).await;
    names.be_silent(true);
    let before = names.queries();
    while names.queries() < before + 2 {
        assert_eq!(answering(&gateway, 1).await, ["127.0.0.2"]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn answers_are_used_as_long_as_they_live() {
    let (_backends, port) = on_one_port(1).await;
    let names = NameServer::start().await;
    names.live_for(3600);
    names.set("orders.test", &["127.0.0.1"]);
    let gateway = Gateway::start(&config(&names, &format!("{{ dns: orders.test:{port} }}"))).await;
    let asked = names.queries();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(answering(&gateway, 1).await, ["127.0.0.1"]);
    assert_eq!(names.queries(), asked);
    names.live_for(1);
    let gateway = Gateway::start(&config(&names, &format!("{{ dns: orders.test:{port} }}"))).await;
    let asked = names.queries();
    let deadline = Instant::now() + Duration::from_secs(20);
    while names.queries() < asked + 2 {
        assert!(Instant::now() < deadline, "it is never asked again");
        answering(&gateway, 1).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn services_say_their_ports_and_weights() {
    let (one, two, spare) = (
        named("127.0.0.1:0").await,
        named("127.0.0.2:0").await,
        named("127.0.0.3:0").await,
    );
    let names = NameServer::start().await;
    let ports = [&one, &two, &spare].map(|it| it.address.port());
    names.set("one.test", &["127.0.0.1"]);
    names.set("two.test", &["127.0.0.2"]);
    names.set("spare.test", &["127.0.0.3"]);
    names.set_places(
        "_http._tcp.orders.test",
        &[
            (10, 30, ports[0], "one.test."),
            (10, 10, ports[1], "two.test."),
            (20, 10, ports[2], "spare.test."),
        ],
    );
    let target = "{ srv: _http._tcp.orders.test }";
    let gateway = Gateway::start(&config(&names, target)).await;
    for _ in 0..40 {
        gateway.get("/a").send().await.assert_status(200);
    }
    let seen = [&one, &two, &spare].map(|it| it.seen().len());
    assert_eq!(seen[0] + seen[1], 40);
    assert!((6..=14).contains(&seen[1]), "{seen:?}");
    let host = format!("one.test:{}", ports[0]);
    assert_eq!(one.last().header("host"), Some(&*host));
}

#[tokio::test]
async fn one_backend_may_have_several_addresses() {
    let (mut backends, port) = on_one_port(2).await;
    let names = NameServer::start().await;
    names.set("orders.test", &["127.0.0.1", "127.0.0.2"]);
    let url = format!("http://orders.test:{port}");
    let gateway = Gateway::start(&config(&names, &format!("\"{url}\""))).await;
    // It goes to one of them until that one fails.
    assert_eq!(answering(&gateway, 6).await.len(), 1);
    let gone = usize::from(backends[0].seen().is_empty());
    drop(backends.remove(gone));
    let left = format!("127.0.0.{}", 2 - gone);
    assert_eq!(answering(&gateway, 6).await, [&*left]);
}

#[tokio::test]
async fn a_name_without_an_answer_is_503_until_there_is_one() {
    let (_backends, port) = on_one_port(1).await;
    let names = NameServer::start().await;
    let gateway = Gateway::start(&config(&names, &format!("{{ dns: orders.test:{port} }}"))).await;
    let answer = gateway.get("/a").send().await.assert_status(503);
    assert_eq!(answer.json()["type"], "urn:tollgate:problem:no-endpoint");
    let said = "upstream name not resolved: name=http://orders.test";
    assert!(gateway.process_log().contains(said));
    names.set("orders.test", &["127.0.0.1"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while gateway.get("/a").send().await.status != 200 {
        assert!(Instant::now() < deadline, "it is never found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_reload_keeps_what_was_found() {
    let (_backends, port) = on_one_port(2).await;
    let names = NameServer::start().await;
    names.live_for(3600);
    names.set("orders.test", &["127.0.0.1"]);
    let gateway = Gateway::start(&config(&names, &format!("{{ dns: orders.test:{port} }}"))).await;
    assert_eq!(answering(&gateway, 2).await, ["127.0.0.1"]);
    names.be_silent(true);
    gateway.edit("prefix: /a", "prefix: /a, retry: off");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !gateway.process_log().contains("reloaded") {
        assert!(Instant::now() < deadline, "{}", gateway.process_log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(answering(&gateway, 2).await, ["127.0.0.1"]);
    // Another target is looked up before it gets requests.
    names.be_silent(false);
    names.set("orders.test", &["127.0.0.2"]);
    gateway.edit("dns: orders.test", "refresh: 1h, dns: orders.test");
    until_answered_by(&gateway, &["127.0.0.2"]).await;
}

#[tokio::test]
async fn ipv4_is_preferred_where_there_is_a_choice() {
    let (_backends, port) = on_one_port(1).await;
    let names = NameServer::start().await;
    names.set("orders.test", &["::1", "127.0.0.1"]);
    let gateway = Gateway::start(&config(&names, &format!("{{ dns: orders.test:{port} }}"))).await;
    assert_eq!(answering(&gateway, 4).await, ["127.0.0.1"]);
    let six = Upstream::answering_at("[::1]:0", |_| Response::new(Bytes::from("six"))).await;
    names.set("orders.test", &["::1"]);
    let target = format!("{{ dns: orders.test:{} }}", six.address.port());
    let gateway = Gateway::start(&config(&names, &target)).await;
    assert_eq!(answering(&gateway, 4).await, ["six"]);
    let endpoint = gateway.log(4).await[0]["endpoint"].clone();
    assert_eq!(endpoint, format!("http://[::1]:{}", six.address.port()));
}
