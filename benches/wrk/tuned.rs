//! The empty proxy with Tollgate's settings: its allocator, its buffers, unused modules switched off.
//! What is left between the two is what Tollgate's own work costs. Without a backend it answers itself, always the
//! same 128 bytes: what is left to a cache on the framework.
//!
//! usage: tuned LISTEN [BACKEND]
#![allow(missing_docs, reason = "a program of the benchmark")]

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::modules::http::HttpModules;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LENGTH: usize = 128;

struct Tuned {
    backend: Option<HttpPeer>,
    answer: ResponseHeader,
}

#[async_trait]
impl ProxyHttp for Tuned {
    type CTX = ();
    fn new_ctx(&self) {}
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}
    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> Result<bool> {
        let is_answered = self.backend.is_none();
        if is_answered {
            let header = Box::new(self.answer.clone());
            session.write_response_header(header, false).await?;
            let body = Bytes::from_static(&[b'x'; LENGTH]);
            session.write_response_body(Some(body), true).await?;
        }
        Ok(is_answered)
    }
    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let backend = self.backend.clone().map(Box::new);
        backend.ok_or_else(|| Error::explain(pingora::InternalError, "there is no backend"))
    }
}

fn answer() -> Result<ResponseHeader> {
    let mut answer = ResponseHeader::build(200, Some(4))?;
    answer.insert_header("Content-Type", "application/json")?;
    answer.insert_header("Content-Length", LENGTH.to_string())?;
    answer.insert_header("Cache-Control", "public, max-age=3600")?;
    answer.insert_header("Age", "0")?;
    Ok(answer)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(listen) = arguments.next() else {
        eprintln!("usage: tuned LISTEN [BACKEND]");
        std::process::exit(2);
    };
    let backend = arguments.next();
    let configuration = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let tuned = Tuned {
        backend: backend.map(|it| HttpPeer::new(it, false, String::new())),
        answer: answer().expect("the header is sound"),
    };
    let mut service = http_proxy_service(&server.configuration, tuned);
    let buffers = L4BufferSettings::new(8 * 1024, 16 * 1024);
    service.add_listener(ListenerConfig::tcp(listen).l4_buffer(buffers));
    server.add_service(service);
    server.run_forever();
}
