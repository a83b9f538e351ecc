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
use super::refusal::Refused;
use super::stream::{Encrypted, FAREWELL};

/// How a record with a message of a handshake begins (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// What a client is told that does not encrypt.
const NOT_ENCRYPTED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 43\r\n\r\n\
    this port speaks TLS: ask with https://...\n";
/// Bytes of its request that are read, so that it reads the answer.
const LARGEST_REQUEST: u64 = 64 * 1024;

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
                return Err(error.into());
            }
        };
        if let Some(config) = self.challenges.answer(&hello.client_hello()) {
            let mut proved = hello.into_stream(config).await.map_err(Refused::from)?;
            proved.shutdown().await.map_err(Refused::Gone)?;
            return Err(Refused::Proved);
        }
        let number = self.verifications.find(hello.client_hello().server_name());
        let config = number.map_or(&self.config, |number| &self.verifying[number]);
        let config = config.of(hello.client_hello().cipher_suites());
        let mut rest = std::pin::pin!(hello.into_stream(config.clone()).into_fallible());
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
                let connection = encrypted.get_ref().1;
                let channel = Channel::of(connection, (self, number));
                let mut stream = Box::new(Encrypted(encrypted));
                // A session is taken up without a look at the certificate, which may have expired meanwhile.
                if channel.is_resumed {
                    let verified = {
                        let _turn = turns.acquire().await;
                        channel.verify_again()
                    };
                    if let Err(error) = verified {
                        stream.end().await;
                        return Err(error.into());
                    }
                }
                Ok((stream, channel))
            }
            Err((error, socket)) => {
                tell(Some(socket)).await;
                Err(error.into())
            }
        }
    }
}

/// Sends the alert that says why. With a request unread that came right behind the handshake, the system would
/// take it back.
async fn tell(socket: Option<Socket>) {
    let Some(mut socket) = socket else { return };
    let told = async {
        socket.flush().await?;
        socket.shutdown().await?;
        let mut request = socket.take(LARGEST_REQUEST);
        tokio::io::copy(&mut request, &mut tokio::io::sink()).await
    };
    match tokio::time::timeout(FAREWELL, told).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            log::debug!("a client was not told why its handshake failed: {error}");
        }
        Err(_) => log::debug!("a client did not read why its handshake failed"),
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
