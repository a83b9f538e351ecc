//! The network between the gateway and a server, as slow and as broken as a test wants it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Passes on what comes to its address; ends when dropped.
pub struct Relay {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// How much later each byte arrives, in either direction.
    delay: Duration,
    passes: Passes,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Passes {
    #[default]
    All,
    /// Questions arrive, answers don't.
    Questions,
    Nothing,
    /// Connections are reset.
    Cut,
}

#[derive(Clone, Copy)]
enum Direction {
    There,
    Back,
}

impl State {
    fn passes(&self, direction: Direction) -> bool {
        match (self.passes, direction) {
            (Passes::All, _) | (Passes::Questions, Direction::There) => true,
            (Passes::Questions | Passes::Nothing | Passes::Cut, _) => false,
        }
    }
}

impl Relay {
    /// Between its own address and that of a server.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, seen) = watch::channel(State::default());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connect(stream, server, seen.clone()));
            }
        });
        Self {
            address,
            state,
            connections,
            accepting,
        }
    }

    /// Each byte takes so much longer, there and back again.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Connections stay open, and new ones open, but nothing passes any more.
    pub fn hang(&self) {
        self.pass(Passes::Nothing);
    }

    /// What is asked is done, but nobody hears of it.
    pub fn hold_answers(&self) {
        self.pass(Passes::Questions);
    }

    /// Connections are reset, and new ones at once.
    pub fn cut(&self) {
        self.pass(Passes::Cut);
    }

    /// All passes again, also what hung, as after packets were lost.
    pub fn mend(&self) {
        self.pass(Passes::All);
    }

    fn pass(&self, passes: Passes) {
        self.state.send_modify(|state| state.passes = passes);
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        // Its connections end as well.
        self.cut();
    }
}

async fn connect(mut client: TcpStream, server: SocketAddr, seen: watch::Receiver<State>) {
    let mut state = seen.clone();
    let passed = async {
        // Nothing goes out for a connection that hangs from its beginning.
        until(&mut seen.clone(), |state| state.passes(Direction::There)).await?;
        let mut server = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            ended = pump(from_client, to_server, Direction::There, seen.clone()) => ended,
            ended = pump(from_server, to_client, Direction::Back, seen.clone()) => ended,
        }
    };
    let is_cut = tokio::select! {
        _ = passed => false,
        _ = until(&mut state, |state| state.passes == Passes::Cut) => true,
    };
    if is_cut {
        let _ = client.set_zero_linger();
    }
}

/// An error when the relay is gone.
async fn until(
    state: &mut watch::Receiver<State>,
    holds: impl FnMut(&State) -> bool,
) -> io::Result<()> {
    state.wait_for(holds).await.map_err(io::Error::other)?;
    Ok(())
}

/// Until one side ends.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    mut seen: watch::Receiver<State>,
) -> io::Result<()> {
    let (sender, mut chunks) = mpsc::unbounded_channel();
    let state = seen.clone();
    let read = async {
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            let due = Instant::now() + state.borrow().delay;
            let _ = sender.send((due, Bytes::copy_from_slice(&buffer[..count])));
        }
    };
    let write = async {
        while let Some((due, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            until(&mut seen, |state| state.passes(direction)).await?;
            to.write_all(&chunk).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}
