//! Stands between a client and a server, and breaks connections when a test says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub struct Relay {
    pub address: SocketAddr,
    state: Arc<State>,
    serving: tokio::task::JoinHandle<()>,
}

struct State {
    server: SocketAddr,
    /// Bytes to the server, and to the client, before something happens.
    up: AtomicI64,
    down: AtomicI64,
    /// Nothing goes to the server any more.
    held: AtomicBool,
    reached: Notify,
}

impl Relay {
    /// After `up` bytes to the server nothing more goes there; after `down` bytes to the client its connection ends, once.
    pub async fn start(server: SocketAddr, up: i64, down: i64) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            server,
            up: AtomicI64::new(up),
            down: AtomicI64::new(down),
            held: AtomicBool::new(false),
            reached: Notify::new(),
        });
        let shared = state.clone();
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let state = shared.clone();
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(state.server).await else {
                        return;
                    };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::select! {
                        () = state.upwards(from_client, to_server) => {}
                        () = state.downwards(from_server, to_client) => {}
                    }
                });
            }
        });
        Relay {
            address,
            state,
            serving,
        }
    }

    /// Waits until as many bytes as were said have gone to the server.
    pub async fn reached(&self) {
        self.state.reached.notified().await;
    }

    /// Everything goes through from now on, on new connections.
    pub fn release(&self) {
        self.state.up.store(i64::MAX, Ordering::Relaxed);
        self.state.held.store(false, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl State {
    async fn upwards(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if self.up.fetch_sub(length as i64, Ordering::Relaxed) < length as i64 {
                self.held.store(true, Ordering::Relaxed);
                self.reached.notify_one();
            }
            if self.held.load(Ordering::Relaxed) {
                // The client may go on sending; the server hears nothing.
                while let Ok(1..) = from.read(&mut buffer).await {}
                return;
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }

    async fn downwards(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let left = self.down.fetch_sub(length as i64, Ordering::Relaxed);
            if (0..length as i64).contains(&left) {
                return;
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}
