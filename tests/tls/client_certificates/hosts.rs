//! Hosts for which clients are verified, beside others for which they are not.

use std::sync::Arc;

use hyper::HeaderMap;

use super::super::http2::{ask, connect, get};
use super::super::support::{Client, dial};
use super::World;

fn host(name: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", name.parse().unwrap());
    headers
}

const BELOW: &str = "{ ca: clients.pem, hosts: '*.b.example' }";

#[tokio::test]
async fn clients_are_asked_only_for_the_hosts_that_are_named() {
    let world = World::new().await;
    let gateway = world.gateway(BELOW).await;
    let mut anybody = world.connect(&gateway, None, "a.example").await.unwrap();
    anybody.get("/").await.assert_status(200);
    let mut device = world
        .connect(&gateway, Some("device"), "x.b.example")
        .await
        .unwrap();
    device.get("/").await.assert_status(200);
    device.get("/who").await.assert_status(200);
    // In TLS 1.3 a client learns of it when it reads.
    let nobody = world.connect(&gateway, None, "X.b.example").await;
    if let Ok(mut nobody) = nobody {
        assert!(nobody.try_get("/").await.is_none());
    }
    // Where nobody is asked, a certificate is not shown.
    let mut device = world
        .connect(&gateway, Some("device"), "a.example")
        .await
        .unwrap();
    device.get("/who").await.assert_status(401);
}

#[tokio::test]
async fn no_way_leads_to_a_verified_host_on_a_connection_for_another() {
    let world = World::new().await;
    let gateway = world.gateway(BELOW).await;
    let spellings = [
        "x.b.example",
        "X.B.example:8443",
        "x.b.example.",
        "y.x.b.example",
        "[a.example]x.b.example",
        "a.example:1]x.b.example",
        "a.example:1]x.b.example:8443",
    ];
    let anybody = async || world.connect(&gateway, None, "a.example").await.unwrap();
    let mut client = anybody().await;
    for spelling in spellings {
        let answer = client.try_get_with("/", &host(spelling)).await;
        let status = answer.map(|it| it.status.as_u16());
        assert!(
            matches!(status, None | Some(400 | 421)),
            "{spelling}: {status:?}"
        );
        if status != Some(421) {
            client = anybody().await;
        }
    }
    // Nor does one that asks for no name.
    let config = Arc::new(world.servers.client(&["http/1.1"]));
    for spelling in spellings {
        let stream = dial(gateway.address, "127.0.0.1", &config).await.unwrap();
        let mut client = Client::over(stream, "localhost").await;
        let answer = client.try_get_with("/", &host(spelling)).await;
        let status = answer.map(|it| it.status.as_u16());
        assert!(
            matches!(status, None | Some(400 | 421)),
            "{spelling}: {status:?}"
        );
    }
    let sender = connect(gateway.address, &world.servers, "a.example").await;
    assert_eq!(
        ask(sender.clone(), get("https://x.b.example/")).await.0,
        421
    );
    assert_eq!(ask(sender, get("https://a.example/")).await.0, 200);
    assert_eq!(world.upstream.seen().len(), 1);
    // And who is verified for one host is not taken for somebody at another, where others vouch.
    let mut device = world
        .connect(&gateway, Some("device"), "x.b.example")
        .await
        .unwrap();
    let answer = device.get_with("/", &host("a.example")).await;
    answer.assert_status(421);
    device
        .get_with("/", &host("y.b.example"))
        .await
        .assert_status(200);
}

#[tokio::test]
async fn hosts_may_be_verified_by_different_authorities() {
    let world = World::new().await;
    let section = "[{ ca: clients.pem }, { ca: [strangers.pem], hosts: [x.b.example] }]";
    let directory = world.gateway("{ ca: clients.pem }").await;
    std::fs::write(
        directory.directory.path().join("strangers.pem"),
        world.strangers.pem(),
    )
    .unwrap();
    directory.edit(
        "client_certificates: { ca: clients.pem }",
        &format!("client_certificates: {section}"),
    );
    let (code, _, said) = directory.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    for (certificate, name, comes_in) in [
        ("device", "a.example", true),
        ("device", "y.b.example", true),
        ("device", "x.b.example", false),
        ("stranger", "x.b.example", true),
        ("stranger", "a.example", false),
    ] {
        let client = world.connect(&directory, Some(certificate), name).await;
        let answer = match client {
            Ok(mut client) => client.try_get("/").await,
            Err(_) => None,
        };
        assert_eq!(answer.is_some(), comes_in, "{certificate} at {name}");
    }
    // Each of them is somebody at its own host only.
    let mut device = world
        .connect(&directory, Some("device"), "a.example")
        .await
        .unwrap();
    device
        .get_with("/", &host("x.b.example"))
        .await
        .assert_status(421);
}

#[tokio::test]
async fn a_host_that_is_verified_from_now_on_is_so_on_open_connections_too() {
    let world = World::new().await;
    let gateway = world.gateway("{ ca: clients.pem, hosts: a.example }").await;
    let config = Arc::new(world.servers.client(&["http/1.1"]));
    let stream = dial(gateway.address, "127.0.0.1", &config).await.unwrap();
    let mut nameless = Client::over(stream, "127.0.0.1").await;
    let mut named = world.connect(&gateway, None, "y.b.example").await.unwrap();
    for client in [&mut nameless, &mut named] {
        let answer = client.get_with("/", &host("x.b.example")).await;
        answer.assert_status(200);
    }
    gateway.edit("hosts: a.example", "hosts: [a.example, x.b.example]");
    let (code, _, said) = gateway.command(&["reload"]).await;
    assert_eq!(code, 0, "{said}");
    for client in [&mut nameless, &mut named] {
        let answer = client.get_with("/", &host("x.b.example")).await;
        answer.assert_status(421);
        let answer = client.get_with("/", &host("y.b.example")).await;
        answer.assert_status(200);
    }
}
