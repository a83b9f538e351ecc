//! The empty proxy with Tollgate's settings: its allocator, its buffers, unused modules switched off.
//! What is left between the two is what Tollgate's own work costs.
//!
//! usage: tuned LISTEN BACKEND
#![allow(missing_docs, reason = "a program of the benchmark")]

use async_trait::async_trait;
use pingora::Result;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::modules::http::HttpModules;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Tuned(HttpPeer);

#[async_trait]
impl ProxyHttp for Tuned {
    type CTX = ();
    fn new_ctx(&self) {}
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}
    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(backend)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: tuned LISTEN BACKEND");
        std::process::exit(2);
    };
    let configuration = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let peer = HttpPeer::new(backend, false, String::new());
    let mut service = http_proxy_service(&server.configuration, Tuned(peer));
    let buffers = L4BufferSettings::new(8 * 1024, 16 * 1024);
    service.add_listener(ListenerConfig::tcp(listen).l4_buffer(buffers));
    server.add_service(service);
    server.run_forever();
}
