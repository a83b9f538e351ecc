//! The handshake: from a connection to an encrypted one.
//!
//! What is costly about it is the gateway's signature, which follows the client's first message. However many
//! clients come at once, only some are signed for at the same time, so that what else there is to do gets
//! its turn between them. Nobody waits for clients that are slow.

use std::io;

use futures_util::poll;
use pingora::protocols::l4::stream::Stream as Socket;
use pingora::protocols::{Peek, Stream};
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;

use super::Tls;
use super::channel::Channel;
use super::stream::Encrypted;

/// How a record with a message of a handshake begins (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// What a client is told that does not encrypt.
const NOT_ENCRYPTED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 43\r\n\r\n\
    this port speaks TLS: ask with https://...\n";
/// Bytes of its request that are read, so that it reads the answer.
const LARGEST_REQUEST: u64 = 64 * 1024;

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The client took too long.
    #[error("it took too long")]
    Slow,
    /// It went away.
    #[error("the client went away: {0}")]
    Gone(io::Error),
    /// What it sent was no beginning of a handshake.
    #[error("the client does not speak TLS")]
    NotTls,
    /// It was an authority's look for a proof that a name is the gateway's, which it got.
    #[error("it was a look for a proof")]
    Proved,
    /// They have no version, cipher or name in common, or what the client sent was wrong.
    #[error("{0}")]
    Failed(io::Error),
}

impl Tls {
    /// Encrypts a connection, with one of `turns` for a signature.
    ///
    /// # Errors
    /// Why it is not encrypted. The client has been told, as far as it listens.
    pub async fn accept(
        &self,
        stream: Stream,
        turns: &Semaphore,
    ) -> Result<(Stream, Channel), Refused> {
        let work = self.shake_hands(stream, turns);
        let done = tokio::time::timeout(self.handshake_timeout, work).await;
        done.unwrap_or(Err(Refused::Slow))
    }

    async fn shake_hands(
        &self,
        stream: Stream,
        turns: &Semaphore,
    ) -> Result<(Stream, Channel), Refused> {
        let socket = stream.into_any().downcast::<Socket>();
        let mut socket = *socket.map_err(|_| Refused::Failed(io::ErrorKind::Unsupported.into()))?;
        let mut first = [0];
        socket.try_peek(&mut first).await.map_err(Refused::Gone)?;
        if first[0] != HANDSHAKE {
            if first[0].is_ascii_uppercase() {
                tell_unencrypted(socket).await;
            }
            return Err(Refused::NotTls);
        }
        let mut hello = LazyConfigAcceptor::new(Acceptor::default(), socket);
        let hello = match (&mut hello).await {
            Ok(hello) => hello,
            Err(error) => {
                tell(hello.take_io()).await;
                return Err(refusal(error));
            }
        };
        if let Some(config) = self.challenges.answer(&hello.client_hello()) {
            let mut proved = hello.into_stream(config).await.map_err(refusal)?;
            proved.shutdown().await.map_err(Refused::Gone)?;
            return Err(Refused::Proved);
        }
        let mut rest = std::pin::pin!(hello.into_stream(self.config.clone()).into_fallible());
        let signed = {
            let _turn = turns.acquire().await;
            poll!(rest.as_mut())
        };
        let done = match signed {
            std::task::Poll::Ready(done) => done,
            std::task::Poll::Pending => rest.await,
        };
        match done {
            Ok(encrypted) => {
                let channel = Channel::of(encrypted.get_ref().1, &self.certificates);
                Ok((Box::new(Encrypted(encrypted)), channel))
            }
            Err((error, socket)) => {
                tell(Some(socket)).await;
                Err(refusal(error))
            }
        }
    }
}

fn refusal(error: io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::InvalidData => Refused::Failed(error),
        _ => Refused::Gone(error),
    }
}

/// Sends the alert that says why.
async fn tell(socket: Option<Socket>) {
    if let Some(mut socket) = socket
        && let Err(error) = socket.flush().await
    {
        log::debug!("a client was not told why its handshake failed: {error}");
    }
}

/// Tells a client that it must encrypt. With its request unread, the system would take the answer back.
async fn tell_unencrypted(mut socket: Socket) {
    let told = async {
        socket.write_all(NOT_ENCRYPTED).await?;
        socket.shutdown().await?;
        let mut request = socket.take(LARGEST_REQUEST);
        tokio::io::copy(&mut request, &mut tokio::io::sink()).await
    };
    if let Err(error) = told.await {
        log::debug!("a client that does not encrypt was not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_long_as_it_says() {
        let answer = std::str::from_utf8(NOT_ENCRYPTED).unwrap();
        let (header, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            header.ends_with(&format!("Content-Length: {}", body.len())),
            "{header}"
        );
    }
}
