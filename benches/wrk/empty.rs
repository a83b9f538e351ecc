//! An empty proxy on the framework, as its quick start shows one: one backend, no policy, no log, every
//! setting at its default.
//!
//! usage: empty LISTEN BACKEND
#![allow(missing_docs, reason = "a program of the benchmark")]

use async_trait::async_trait;
use pingora::Result;
use pingora::server::Server;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Empty(String);

#[async_trait]
impl ProxyHttp for Empty {
    type CTX = ();
    fn new_ctx(&self) {}
    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(&self.0, false, String::new())))
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(backend)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: empty LISTEN BACKEND");
        std::process::exit(2);
    };
    let mut server = Server::new(None).expect("no configuration is read");
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Empty(backend));
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
