//! Requests to a gateway and its answers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

/// Nothing in a test takes longer; what does hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A client connection that is kept.
pub struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
}

/// A request to be sent.
pub struct Request {
    to: SocketAddr,
    from: Option<IpAddr>,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    pub async fn connect(to: SocketAddr, from: Option<IpAddr>) -> Self {
        let stream = match from {
            None => TcpStream::connect(to).await.unwrap(),
            Some(address) => {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(SocketAddr::new(address, 0)).unwrap();
                socket.connect(to).await.unwrap()
            }
        };
        stream.set_nodelay(true).unwrap();
        Self::over(stream, &to.to_string()).await
    }

    /// A client on a connection that is there already.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        host: &str,
    ) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        Self {
            sender,
            host: host.to_owned(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.get_with(path, &HeaderMap::new()).await
    }

    pub async fn get_with(&mut self, path: &str, fields: &HeaderMap) -> Answer {
        self.send(Method::GET, path, fields, Bytes::new()).await
    }

    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Answer {
        let mut request = hyper::Request::builder().method(method).uri(path);
        if !headers.contains_key("host") {
            request = request.header("host", &self.host);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).unwrap();
        let work = async {
            self.sender.ready().await.unwrap();
            let response = self.sender.send_request(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer {
                status: parts.status,
                headers: parts.headers,
                body,
            }
        };
        tokio::time::timeout(PATIENCE, work)
            .await
            .expect("an answer comes")
    }

    /// As [`Client::get`]; `None` if the gateway closes the connection instead of answering.
    pub async fn try_get(&mut self, path: &str) -> Option<Answer> {
        self.try_get_with(path, &HeaderMap::new()).await
    }

    pub async fn try_get_with(&mut self, path: &str, fields: &HeaderMap) -> Option<Answer> {
        let mut request = hyper::Request::get(path).header("host", &self.host);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let work = async {
            self.sender.ready().await.ok()?;
            let (parts, body) = self.sender.send_request(request).await.ok()?.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            Some(Answer {
                status: parts.status,
                headers: parts.headers,
                body,
            })
        };
        tokio::time::timeout(PATIENCE, work)
            .await
            .expect("an answer or an end comes")
    }

    /// Whether the connection can take another request.
    pub async fn is_open(&mut self) -> bool {
        tokio::time::timeout(Duration::from_secs(5), self.sender.ready())
            .await
            .is_ok_and(|it| it.is_ok())
    }
}

impl Request {
    pub fn new(to: SocketAddr, method: Method, path: &str) -> Self {
        Self {
            to,
            from: None,
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub fn from(mut self, address: &str) -> Self {
        self.from = Some(address.parse().unwrap());
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers
            .append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub async fn send(self) -> Answer {
        let mut client = Client::connect(self.to, self.from).await;
        client
            .send(self.method, &self.path, &self.headers, self.body)
            .await
    }
}

impl Answer {
    #[track_caller]
    pub fn assert_status(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn assert_header(self, name: &str, value: &str) -> Self {
        assert_eq!(self.header(name), Some(value), "{name} of {self:?}");
        self
    }

    #[track_caller]
    pub fn assert_no_header(self, name: &str) -> Self {
        assert_eq!(self.header(name), None, "{name} of {self:?}");
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
