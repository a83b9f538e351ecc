//! Gateways that share limits.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::Gateway;

/// Gateways of a fleet, unless a test needs another number.
pub const GATEWAYS: usize = 3;

/// Gateways with the same configuration.
pub struct Fleet(pub Vec<Gateway>);

/// A configuration with a route for each of these limits.
pub fn config(redis: &str, routes: &[(&str, &str)]) -> String {
    let route = |(path, limit): &(&str, &str)| {
        format!("{{ path: {path}, rate_limit: {limit}, respond: {{ body: ok }} }}")
    };
    let routes: Vec<String> = routes.iter().map(route).collect();
    let routes = routes.join(", ");
    format!("redis: {{ {redis} }}\nservices: {{ a: {{ routes: [{routes}] }} }}\n")
}

/// A shared limit, by what `X-Key` says.
pub fn limit(limit: usize, window: &str, rest: &str) -> String {
    format!("{{ limit: {limit}, window: {window}, by: \"header:X-Key\", store: redis, {rest} }}")
}

/// Where a store is, with so much patience that a busy machine is no failure.
pub fn at(address: SocketAddr) -> String {
    format!("url: \"redis://{address}\", connect_timeout: 2s, command_timeout: 1s")
}

/// Waits until something is so.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The value of a sample of `/metrics`; 0 if it is not there.
pub async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.admin("/metrics").await.assert_status(200).text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Waits until a gateway says that its store is up, or not.
pub async fn until_up(gateway: &Gateway, is_up: bool) {
    until("the store is as it should be", async || {
        metric(gateway, "tollgate_rate_limit_store_up").await == u64::from(is_up)
    })
    .await;
}

/// Lines of the process log that hold a text.
pub fn said(gateway: &Gateway, text: &str) -> usize {
    let log = gateway.process_log();
    log.lines().filter(|line| line.contains(text)).count()
}

impl Fleet {
    /// Gateways that know of each other.
    pub async fn start(config: &str) -> Self {
        let fleet = Self::begin(config).await;
        fleet.until_known(GATEWAYS).await;
        fleet
    }

    /// Gateways of which nobody knows what they know.
    pub async fn begin(config: &str) -> Self {
        let gateways = (0..GATEWAYS).map(|_| Gateway::start(config));
        Self(futures_util::future::join_all(gateways).await)
    }

    /// Waits until each gateway knows so many.
    pub async fn until_known(&self, count: usize) {
        for gateway in &self.0 {
            until("gateways know each other", async || {
                metric(gateway, "tollgate_rate_limit_gateways").await == count as u64
            })
            .await;
        }
    }

    pub async fn until_up(&self, is_up: bool) {
        for gateway in &self.0 {
            until_up(gateway, is_up).await;
        }
    }

    /// The sum of a metric.
    pub async fn sum(&self, name: &str) -> u64 {
        let mut sum = 0;
        for gateway in &self.0 {
            sum += metric(gateway, name).await;
        }
        sum
    }
}
