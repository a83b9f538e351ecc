//! Commands to a Redis server, and its replies as text (RESP 2).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use openssl::ssl::{SslConnector, SslMethod};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection of its own to a server.
pub struct Connection(BufReader<Box<dyn Stream>>);

/// What a server says: lines as `redis-cli` prints them, or its error.
pub type Reply = Result<String, String>;

impl Connection {
    /// Connects, over TLS if there is a connector.
    pub async fn open(to: SocketAddr, tls: Option<&SslConnector>) -> io::Result<Self> {
        let plain = TcpStream::connect(to).await?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(plain),
            Some(connector) => {
                let ssl = connector.configure()?.into_ssl(&to.ip().to_string())?;
                let mut stream = SslStream::new(ssl, plain)?;
                let connected = Pin::new(&mut stream).connect().await;
                connected.map_err(io::Error::other)?;
                Box::new(stream)
            }
        };
        Ok(Self(BufReader::new(stream)))
    }

    pub async fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.write_all(command.as_bytes()).await?;
        self.0.flush().await?;
        self.reply().await
    }

    /// Lists in lists become one list. After an error within a list the connection is of no use.
    async fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        let mut awaited = 1;
        while awaited > 0 {
            awaited -= 1;
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
            let length = || rest.parse::<i64>().map_err(io::Error::other);
            match kind {
                "-" => return Ok(Err(rest.to_owned())),
                "*" => awaited += length()?.max(0),
                "$" => {
                    // A length below zero stands for a value that there isn't.
                    let mut value = match usize::try_from(length()?) {
                        Ok(length) => vec![0; length + 2],
                        Err(_) => Vec::new(),
                    };
                    self.0.read_exact(&mut value).await?;
                    value.truncate(value.len().saturating_sub(2));
                    lines.push(String::from_utf8_lossy(&value).into_owned());
                }
                _ => lines.push(rest.to_owned()),
            }
        }
        Ok(Ok(lines.join("\n")))
    }
}

/// Trusts `authority`, and shows a certificate of its own.
pub fn connector(authority: &str, certificate: &str, key: &str) -> SslConnector {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    let authority = openssl::x509::X509::from_pem(authority.as_bytes()).unwrap();
    builder.cert_store_mut().add_cert(authority).unwrap();
    let certificate = openssl::x509::X509::from_pem(certificate.as_bytes()).unwrap();
    builder.set_certificate(&certificate).unwrap();
    let key = openssl::pkey::PKey::private_key_from_pem(key.as_bytes()).unwrap();
    builder.set_private_key(&key).unwrap();
    builder.build()
}
