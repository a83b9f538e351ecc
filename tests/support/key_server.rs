//! An identity provider: publishes keys over HTTPS, signs tokens with them, and does badly when told to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::answer::PATIENCE;
use super::signer::Signer;
use super::tls::{Authority, Secure};
use super::upstream::{Body, converse};

/// An identity provider; ends when dropped.
pub struct KeyServer {
    pub address: SocketAddr,
    pub authority: Authority,
    secure: Secure,
    shared: Arc<Shared>,
    /// Bound, so that nobody else is given the port while the provider is dead.
    _port: TcpSocket,
    accepting: Option<JoinHandle<()>>,
}

/// How it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Not at all, until it is in another mood.
    Hangs,
    Says(u16),
    Redirects(String),
    Garbles,
    /// Half a set.
    Truncates,
    /// A set without keys.
    Empties,
    /// More than a set can hold.
    Overflows,
    /// With the metadata of somebody else.
    Poses,
}

struct Shared {
    issuer: String,
    signer: Signer,
    mood: watch::Sender<Mood>,
    cache_control: Mutex<Option<HeaderValue>>,
    discoveries: AtomicUsize,
    fetches: AtomicUsize,
}

impl KeyServer {
    /// A provider that is called `localhost` and publishes the key `a`.
    pub async fn start() -> Self {
        Self::start_as("localhost").await
    }

    /// The same with a certificate for another name.
    pub async fn start_as(name: &str) -> Self {
        let port = socket();
        port.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = port.local_addr().unwrap();
        let authority = Authority::new();
        let mut server = Self {
            address,
            secure: authority.certify(name),
            authority,
            shared: Arc::new(Shared {
                issuer: format!("https://localhost:{}", address.port()),
                signer: Signer::default(),
                mood: watch::Sender::new(Mood::Well),
                cache_control: Mutex::default(),
                discoveries: AtomicUsize::new(0),
                fetches: AtomicUsize::new(0),
            }),
            _port: port,
            accepting: None,
        };
        server.publish(&["a"]);
        server.revive();
        server
    }

    /// What is in `iss`.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Where its keys are.
    pub fn url(&self) -> String {
        format!("{}/jwks", self.shared.issuer)
    }

    /// Makes these its keys, those that it had and new ones.
    pub fn publish(&self, ids: &[&str]) {
        self.shared.signer.publish(ids);
    }

    /// Its keys as it publishes them.
    pub fn set(&self) -> Value {
        self.shared.signer.set()
    }

    /// A token unlike any other, signed with a key that need not be published.
    pub fn token(&self, key: &str) -> String {
        self.shared.token(key, &json!({}))
    }

    /// The same with more claims, or others.
    pub fn token_with(&self, key: &str, more: &Value) -> String {
        self.shared.token(key, more)
    }

    /// The fields of requests that have a token of their own each.
    pub fn bearers(&self, key: &'static str) -> impl Fn() -> HeaderMap + Clone + Send + use<> {
        let shared = self.shared.clone();
        move || {
            let bearer = format!("Bearer {}", shared.token(key, &json!({})));
            HeaderMap::from_iter([(AUTHORIZATION, bearer.parse().unwrap())])
        }
    }

    /// What is said of how long its keys are fresh.
    pub fn say_cache_control(&self, value: &'static str) {
        *self.shared.cache_control.lock().unwrap() = Some(HeaderValue::from_static(value));
    }

    pub fn be(&self, mood: Mood) {
        self.shared.mood.send_replace(mood);
    }

    /// Refuses connections and ends those it has.
    pub async fn die(&mut self) {
        let accepting = self.accepting.take().expect("it is alive");
        accepting.abort();
        let _ = accepting.await;
    }

    /// Takes connections at the address that it always had.
    pub fn revive(&mut self) {
        let socket = socket();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(1024).unwrap();
        let (secure, shared) = (self.secure.clone(), self.shared.clone());
        self.accepting = Some(tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (secure, shared) = (secure.clone(), shared.clone());
                open.spawn(async move {
                    let Some(stream) = secure.accept(stream).await else {
                        return;
                    };
                    let answer = |request: Request<Incoming>| shared.answer(request.uri().path());
                    converse(stream, answer).await;
                });
            }
        }));
    }

    /// How often its keys were asked for.
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// How often it was asked where they are.
    pub fn discoveries(&self) -> usize {
        self.shared.discoveries.load(Ordering::SeqCst)
    }

    /// Waits until its keys have been asked for so often.
    pub async fn until_fetched(&self, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.fetches() < times {
            assert!(Instant::now() < deadline, "only {} times", self.fetches());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

impl Shared {
    fn token(&self, key: &str, more: &Value) -> String {
        self.signer.token(key, &self.issuer, more)
    }

    fn answer(&self, path: &str) -> impl Future<Output = Response<Body>> + use<> {
        let document = match path {
            "/jwks" => {
                self.fetches.fetch_add(1, Ordering::SeqCst);
                self.signer.set()
            }
            "/.well-known/openid-configuration" => {
                self.discoveries.fetch_add(1, Ordering::SeqCst);
                let issuer = match *self.mood.borrow() {
                    Mood::Poses => "https://id.example.com",
                    _ => &self.issuer,
                };
                json!({"issuer": issuer, "jwks_uri": format!("{}/jwks", self.issuer)})
            }
            other => panic!("nobody asks for {other}"),
        };
        let is_set = path == "/jwks";
        let cache_control = self.cache_control.lock().unwrap().clone();
        let mut mood = self.mood.subscribe();
        async move {
            let mood = mood.wait_for(|mood| *mood != Mood::Hangs).await;
            let mood = mood.expect("it is never dropped").clone();
            let text = document.to_string();
            let mut response = Response::builder();
            let body = match mood {
                Mood::Says(status) => {
                    response = response.status(status);
                    text
                }
                Mood::Redirects(to) => {
                    response = response.status(302).header("location", to);
                    text
                }
                Mood::Garbles => "\u{0}<html>what is this".to_owned(),
                Mood::Truncates if is_set => text[..text.len() / 2].to_owned(),
                Mood::Empties if is_set => json!({"keys": []}).to_string(),
                Mood::Overflows if is_set => {
                    let many = vec![document["keys"][0].clone(); 4000];
                    json!({ "keys": many }).to_string()
                }
                _ => text,
            };
            if let Some(value) = cache_control {
                response = response.header("cache-control", value);
            }
            response.body(Full::new(Bytes::from(body)).boxed()).unwrap()
        }
    }
}

/// What can be bound although another one is, as long as neither listens.
fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket
}
