//! From names to addresses, in the background: no worker ever waits for DNS.

mod name;
mod resolver;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Service;
use name::LookUp;
pub(super) use name::{Discovered, Name, Question};
pub use resolver::Resolver;

/// Look-ups under way at most.
const MOST_AT_ONCE: usize = 64;
/// How long the first look-ups may take all together, before requests are served without them.
const FIRST_LOOKUPS: Duration = Duration::from_secs(5);

/// Looks names up again and again, each when its answer has expired.
#[derive(Debug, Default)]
pub struct Discovery(JoinSet<()>);

impl Discovery {
    /// Begins the look-ups that are due, and lets services know what was found.
    pub fn tick(&mut self, services: &[Arc<Service>], resolver: impl Fn() -> Resolver) {
        while self.0.try_join_next().is_some() {}
        let mut made = None;
        for service in services {
            for name in service.names() {
                if self.0.len() >= MOST_AT_ONCE {
                    break;
                }
                if let Some(begun) = name.begin(name.now()) {
                    let made = made.get_or_insert_with(|| Arc::new(resolver()));
                    self.0.spawn(look_up(begun, made.clone()));
                }
            }
            service.follow_names();
        }
    }
}

/// Looks up what was never looked up, all at once, and waits for it.
pub async fn discover(services: &[Arc<Service>], resolver: impl Fn() -> Resolver) {
    let mut lookups = JoinSet::new();
    let mut made = None;
    for name in services.iter().flat_map(|service| service.names()) {
        if !name.is_new() {
            continue;
        }
        if let Some(begun) = name.begin(name.now()) {
            let made = made.get_or_insert_with(|| Arc::new(resolver()));
            lookups.spawn(look_up(begun, made.clone()));
        }
    }
    let all = async { while lookups.join_next().await.is_some() {} };
    // Who is late is asked again in the background.
    let _ = tokio::time::timeout(FIRST_LOOKUPS, all).await;
    for service in services {
        service.follow_names();
    }
}

async fn look_up(begun: LookUp, resolver: Arc<Resolver>) {
    let answer = resolver.ask(begun.question()).await;
    begun.learn(answer);
}
