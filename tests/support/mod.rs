//! Starts the real gateway and real backends on loopback ports that the system picks, and ends them
//! with the test.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses a part of it"
)]

mod answer;
mod faulty;
mod gateway;
mod geoip;
mod key_server;
mod machine;
mod message_signer;
mod names;
mod pebble;
mod redis;
mod relay;
mod samples;
mod signer;
mod tls;
mod traffic;
mod upstream;

pub use answer::{Answer, Client, PATIENCE, Request};
pub use faulty::Fault;
pub use gateway::{Gateway, binary, check, free_port, run, send_signal};
pub use geoip::Database;
pub use key_server::{KeyServer, Mood};
pub use machine::Machine;
pub use message_signer::{MessageSigner, Signature, digest};
pub use names::NameServer;
pub use pebble::Pebble;
pub use redis::{Cluster, Redis, Sentinel, Setup};
pub use relay::Relay;
pub use samples::{Sample, Samples, documented_metrics};
pub use signer::Signer;
pub use tls::{Authority, Secure, dial, rsa_key, write_pair};
pub use traffic::Traffic;
pub use upstream::{Body, Seen, Upstream, converse, converse_by_http2, service_of};
