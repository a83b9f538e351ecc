//! The Redis servers that other tests start: that they can be broken as these want them.

use std::time::{Duration, Instant};

use crate::support::{Authority, Redis, Relay, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_killed_server_forgets_all_unless_it_is_persistent() {
    for (setup, kept) in [(Setup::new(), ""), (Setup::new().persistent(), "1")] {
        let mut redis = setup.start().await;
        redis.command(&["SET", "key", "1"]).await;
        redis.kill();
        assert!(redis.ask(&["PING"]).await.is_err());
        let address = redis.address;
        redis.restart().await;
        assert_eq!(redis.address, address);
        assert_eq!(redis.command(&["GET", "key"]).await, kept);
    }
}

#[tokio::test]
async fn a_flushed_server_has_neither_keys_nor_scripts() {
    let redis = Redis::start().await;
    let script = redis.command(&["SCRIPT", "LOAD", "return 7"]).await;
    redis.command(&["SET", "key", "1"]).await;
    redis.flush().await;
    assert_eq!(redis.command(&["DBSIZE"]).await, "0");
    let answer = redis.ask(&["EVALSHA", &script, "0"]).await.unwrap();
    assert!(answer.unwrap_err().starts_with("NOSCRIPT"));
}

#[tokio::test]
async fn commands_are_counted() {
    let redis = Redis::start().await;
    redis.command(&["GET", "key"]).await;
    redis.forget_commands().await;
    redis.command(&["GET", "key"]).await;
    redis.command(&["MSET", "a", "1", "b", "2"]).await;
    assert_eq!(redis.command(&["MGET", "a", "c", "b"]).await, "1\n\n2");
    let counts = redis.count_commands().await;
    assert_eq!((counts["get"], counts["mset"], counts["mget"]), (1, 1, 1));
}

#[tokio::test]
async fn a_paused_server_answers_when_it_is_resumed() {
    let redis = Redis::start().await;
    redis.pause();
    let mut answer = Box::pin(redis.command(&["PING"]));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut answer).await;
    assert!(early.is_err());
    redis.resume();
    assert_eq!(answer.await, "PONG");
}

#[tokio::test]
async fn passwords_users_and_certificates_are_asked_for() {
    let authority = Authority::new();
    let setup = Setup::new()
        .password("secret")
        .user("gateway", "hers", "~limits:* +@all")
        .mutual_tls(&authority);
    let redis = setup.start().await;
    assert_eq!(redis.command(&["ACL", "WHOAMI"]).await, "default");
    let other = redis.command(&["AUTH", "gateway", "hers"]).await;
    assert_eq!(other, "OK");
    let refused = redis.ask(&["AUTH", "gateway", "his"]).await.unwrap();
    assert!(refused.unwrap_err().starts_with("WRONGPASS"));
    // Without TLS there is no answer.
    let mut plain = TcpStream::connect(redis.address).await.unwrap();
    plain.write_all(b"PING\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = plain.read_to_string(&mut answer).await;
    assert!(!answer.contains("PONG"), "{answer}");
}

#[tokio::test]
async fn a_relay_delays_holds_and_cuts() {
    let redis = Redis::start().await;
    let relay = Relay::to(redis.address).await;
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    let mut answer = [0; 4];
    stream.write_all(b"INCR key\r\n").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b":1\r\n");

    relay.delay(Duration::from_millis(60));
    let asked = Instant::now();
    stream.write_all(b"INCR key\r\n").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(120));
    relay.delay(Duration::ZERO);

    relay.hold_answers();
    stream.write_all(b"INCR key\r\n").await.unwrap();
    until_equal(&redis, "key", "3").await;
    relay.hang();
    stream.write_all(b"INCR key\r\n").await.unwrap();
    let mut other = TcpStream::connect(relay.address).await.unwrap();
    other.write_all(b"INCR key\r\n").await.unwrap();
    let silence = Duration::from_millis(50);
    let early = tokio::time::timeout(silence, stream.read_exact(&mut answer)).await;
    assert!(early.is_err());
    assert_eq!(redis.command(&["GET", "key"]).await, "3");
    relay.mend();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b":3\r\n");
    other.read_exact(&mut answer).await.unwrap();
    until_equal(&redis, "key", "5").await;

    relay.cut();
    assert!(!matches!(other.read(&mut answer).await, Ok(1..)));
    let mut refused = TcpStream::connect(relay.address).await.unwrap();
    assert!(!matches!(refused.read(&mut answer).await, Ok(1..)));
    assert_eq!(relay.connections(), 3);
}

async fn until_equal(redis: &Redis, key: &str, value: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while redis.command(&["GET", key]).await != value {
        assert!(Instant::now() < deadline, "{key} is not {value}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn sentinels_promote_the_replica() {
    let authority = Authority::new();
    let setup = Setup::new()
        .password("secret")
        .sentinel_password("other")
        .tls(&authority);
    let mut set = setup.start_sentinel().await;
    let first = set.master().address;
    set.master().command(&["SET", "key", "1"]).await;
    set.fail_over().await;
    assert_ne!(set.master().address, first);
    let refused = set.replica().ask(&["SET", "key", "2"]).await.unwrap();
    assert!(refused.unwrap_err().starts_with("READONLY"));
    set.lose_master().await;
    assert_eq!(set.master().address, first);
    assert_eq!(set.master().command(&["GET", "key"]).await, "1");
    set.recover().await;
}

#[tokio::test]
async fn a_cluster_moves_slots_and_knows_when_one_is_lost() {
    let mut cluster = Setup::new().password("secret").start_cluster().await;
    let slot = cluster.slot_of("{tag}a").await;
    let from = cluster.owner_of(slot).await;
    let to = (from + 1) % cluster.nodes.len();
    cluster.nodes[from].command(&["SET", "{tag}a", "1"]).await;

    let says = async |cluster: &crate::support::Cluster, node: usize, key: &str| {
        let answer = cluster.nodes[node].ask(&["GET", key]).await.unwrap();
        answer.unwrap_or_else(|error| error.split(' ').next().unwrap().to_owned())
    };
    assert_eq!(says(&cluster, to, "{tag}a").await, "MOVED");
    cluster.begin_moving(slot, to).await;
    assert_eq!(says(&cluster, from, "{tag}a").await, "1");
    assert_eq!(says(&cluster, from, "{tag}b").await, "ASK");
    cluster.finish_moving(slot, to).await;
    assert_eq!(cluster.owner_of(slot).await, to);
    assert_eq!(says(&cluster, from, "{tag}a").await, "MOVED");
    assert_eq!(says(&cluster, to, "{tag}a").await, "1");

    let lost = (to + 1) % cluster.nodes.len();
    cluster.lose(lost).await;
    assert_eq!(says(&cluster, to, "{tag}a").await, "CLUSTERDOWN");
    cluster.recover(lost).await;
    assert_eq!(says(&cluster, to, "{tag}a").await, "1");
}
