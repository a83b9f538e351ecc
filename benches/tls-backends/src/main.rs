//! A listener of the framework with one of its own TLS backends, which answers every request with `ok`.
//!
//! usage: tls-backend LISTEN CERT KEY [clients CA | other CERT KEY | tls1.3]
//!
//! `clients` asks for certificates by an authority, `other` has a second certificate for [`OTHER`] whose files are
//! read at each handshake, and `tls1.3` is the only version: as far as the backend can be told so.

use async_trait::async_trait;
use pingora::apps::http_app::ServeHttp;
use pingora::listeners::ListenerConfig;
use pingora::protocols::http::ServerSession;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;

#[cfg(any(feature = "openssl", feature = "boringssl"))]
#[path = "openssl.rs"]
mod backend;
#[cfg(feature = "rustls")]
#[path = "rustls.rs"]
mod backend;
#[cfg(feature = "s2n")]
#[path = "s2n.rs"]
mod backend;

/// The name that the second certificate is for.
#[cfg(not(feature = "s2n"))]
pub const OTHER: &str = "other.localhost";

/// A certificate's file and its key's.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

/// What is asked of a backend beyond one certificate.
pub enum Extra {
    Nothing,
    Clients(String),
    Other(Pair),
    Tls13,
}

struct Answer;

#[async_trait]
impl ServeHttp for Answer {
    async fn response(&self, _session: &mut ServerSession) -> http::Response<Vec<u8>> {
        let answer = http::Response::builder().header("Content-Length", 3);
        answer.body(b"ok\n".to_vec()).expect("the header is valid")
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [listen, cert, key, rest @ ..] = &words[..] else {
        usage()
    };
    let extra = match rest {
        [] => Extra::Nothing,
        ["clients", ca] => Extra::Clients((*ca).into()),
        ["other", cert, key] => Extra::Other(pair(cert, key)),
        ["tls1.3"] => Extra::Tls13,
        _ => usage(),
    };
    let settings = match backend::settings(pair(cert, key), extra) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    };
    // Nothing is under way that would have to be waited for.
    let configuration = ServerConf {
        threads: 1,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let mut service = Service::new("answers".to_string(), Answer);
    service.add_listener(ListenerConfig::tcp(*listen).tls(settings));
    server.add_service(service);
    server.run_forever();
}

fn pair(cert: &str, key: &str) -> Pair {
    Pair {
        cert: cert.into(),
        key: key.into(),
    }
}

fn usage() -> ! {
    eprintln!("usage: tls-backend LISTEN CERT KEY [clients CA | other CERT KEY | tls1.3]");
    std::process::exit(2);
}
