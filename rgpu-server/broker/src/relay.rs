//! The relay of a quic:// or rdma:// address: a process that has the UDP socket and TLS, or the RDMA device, and hands each client's stream over as a
//! socket. One that dies takes its sessions with it, and is followed by another.

#[cfg(feature = "rdma")]
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rgpu_relay::Channel;
use rgpu_relay::server::{MAX_PEER, Setup};
use rgpu_relay::tls::Identity;
use rgpu_transport::{Endpoint, send_with_fd};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::settings::{Settings, TlsFiles};

/// Connections beside those of sessions: greetings, and programs that watch.
const SPARE: u32 = 256;
/// How long one that has ended soon after its start is waited for before the next.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a relay may take for its end once the sessions have theirs.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a port that is in use is waited for: an rgpud that was killed leaves its relay, which may take so long for its end.
const LEFT_BEHIND: Duration = Duration::from_secs(7);
/// How often it is tried meanwhile.
const RETRY: Duration = Duration::from_millis(100);

/// Relay processes of this daemon that run, and how many have died, for metrics.
static RUNNING: AtomicU32 = AtomicU32::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

/// Relays that run, and that have died since the daemon's start.
pub fn counts() -> (u32, u64) {
    (
        RUNNING.load(Ordering::Relaxed),
        LOST.load(Ordering::Relaxed),
    )
}

/// Counts one process while it lives.
struct Counted;

impl Counted {
    fn new() -> Counted {
        RUNNING.fetch_add(1, Ordering::Relaxed);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one process after the other is given.
enum Way {
    Quic {
        udp: UdpSocket,
        setup: Vec<u8>,
    },
    #[cfg(feature = "rdma")]
    Rdma {
        address: SocketAddr,
        connections: u32,
    },
}

pub struct Relay {
    way: Way,
    address: String,
    running: Option<Running>,
    started: Instant,
}

struct Running {
    child: Child,
    channel: Channel,
    _counted: Counted,
}

impl Relay {
    /// Opens the UDP socket and starts the first process.
    pub async fn bind(host: &str, port: u16, settings: &Settings) -> Result<Relay> {
        let identity = match &settings.tls {
            TlsFiles::Both { certificate, key } => Identity::load(certificate, key)?,
            TlsFiles::None => Identity::generate()?,
        };
        let udp = bind_udp(host, port).await?;
        udp.set_nonblocking(true)?;
        let address = Endpoint::Quic {
            host: udp.local_addr()?.ip().to_string(),
            port: udp.local_addr()?.port(),
            pin: Some(identity.pin()),
        };
        let mut reset_key = [0; 32];
        rustix::rand::getrandom(&mut reset_key[..], rustix::rand::GetRandomFlags::empty())?;
        let setup = Setup {
            identity,
            reset_key,
            connections: settings.max_sessions.saturating_add(SPARE),
        };
        let setup = setup.encode()?;
        let mut relay = Relay {
            way: Way::Quic { udp, setup },
            address: address.to_string(),
            running: None,
            started: Instant::now(),
        };
        relay.running = Some(relay.start().context("the relay does not start")?);
        Ok(relay)
    }

    /// Starts the first process of an address that an RDMA device has. It chooses the port, if none is given; those that follow have the same.
    #[cfg(feature = "rdma")]
    pub fn bind_rdma(host: &str, port: u16, settings: &Settings) -> Result<Relay> {
        use std::net::ToSocketAddrs;
        let mut addresses = (host, port).to_socket_addrs()?;
        let address = addresses.next().context("the host has no address")?;
        // A session has up to three: data, bulk and control.
        let connections = settings
            .max_sessions
            .saturating_mul(3)
            .saturating_add(SPARE);
        let mut relay = Relay {
            way: Way::Rdma {
                address,
                connections,
            },
            address: String::new(),
            running: None,
            started: Instant::now(),
        };
        let running = relay.start().context("the relay does not start")?;
        let port = first_word(&running)?;
        if let Way::Rdma { address, .. } = &mut relay.way {
            address.set_port(port);
        }
        let host = address.ip().to_string();
        relay.address = Endpoint::Rdma { host, port }.to_string();
        relay.running = Some(running);
        Ok(relay)
    }

    /// For the log.
    pub fn scheme(&self) -> &'static str {
        match self.way {
            Way::Quic { .. } => "quic",
            #[cfg(feature = "rdma")]
            Way::Rdma { .. } => "rdma",
        }
    }

    /// As clients write it, with what they may expect of the server.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    fn start(&self) -> Result<Running> {
        let (ours, theirs) = rgpu_transport::relay::channel()?;
        let log = std::env::var_os("RGPUD_LOG").map(|filter| ("RGPUD_LOG", filter));
        let mut command = Command::new(PathBuf::from("/proc/self/exe"));
        command
            .arg0("rgpud")
            .env_clear()
            .envs(log)
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .process_group(0);
        let setup = match &self.way {
            Way::Quic { udp, setup } => {
                let udp = OwnedFd::from(udp.try_clone()?);
                command.arg("relay").stdout(Stdio::from(udp));
                Some(setup)
            }
            #[cfg(feature = "rdma")]
            Way::Rdma {
                address,
                connections,
            } => {
                let numbers = [address.to_string(), connections.to_string()];
                command
                    .arg("rdma-relay")
                    .args(numbers)
                    .stdout(Stdio::null());
                None
            }
        };
        let child = command.spawn()?;
        if let Some(setup) = setup {
            send_with_fd(ours.as_fd(), setup, None)?;
        }
        Ok(Running {
            child,
            channel: Channel::new(ours)?,
            _counted: Counted::new(),
        })
    }

    /// The next stream of a client's, with the client's address.
    pub async fn accept(&mut self) -> std::io::Result<(UnixStream, String)> {
        loop {
            if self.running.is_none() {
                let pause = AGAIN.saturating_sub(self.started.elapsed());
                sleep(pause).await;
                self.started = Instant::now();
                self.running = Some(self.start().map_err(std::io::Error::other)?);
            }
            let Some(running) = &mut self.running else {
                continue;
            };
            if let Some((socket, peer)) = running.receive().await? {
                return Ok((socket, peer));
            }
            let status = match timeout(PATIENCE, running.child.wait()).await {
                Ok(status) => status?.to_string(),
                Err(_) => {
                    running.child.start_kill()?;
                    "it closed its socket".to_owned()
                }
            };
            tracing::error!(
                address = self.address,
                status,
                "the relay has ended, and its sessions with it; another is started"
            );
            LOST.fetch_add(1, Ordering::Relaxed);
            self.running = None;
        }
    }

    /// No more streams are wanted. Those that there are go on.
    pub fn stop(&mut self) {
        if let Some(running) = &self.running {
            let _ = running.channel.shutdown_write();
        }
    }

    /// Waits for its end, which comes when all streams have ended.
    pub async fn ended(&mut self) {
        if let Some(running) = &mut self.running
            && timeout(PATIENCE, running.child.wait()).await.is_err()
        {
            let _ = running.child.kill().await;
        }
    }
}

async fn bind_udp(host: &str, port: u16) -> std::io::Result<UdpSocket> {
    let began = Instant::now();
    let mut is_told = false;
    loop {
        match UdpSocket::bind((host, port)) {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && began.elapsed() < LEFT_BEHIND =>
            {
                if !is_told {
                    tracing::warn!(
                        "UDP port {port} is in use, perhaps by the relay of an rgpud that was killed: its end is waited for, {} s at most",
                        LEFT_BEHIND.as_secs()
                    );
                    is_told = true;
                }
                sleep(RETRY).await;
            }
            done => return done,
        }
    }
}

impl Running {
    /// `None`: the relay has ended.
    async fn receive(&mut self) -> std::io::Result<Option<(UnixStream, String)>> {
        let mut packet = [0; MAX_PEER];
        let (count, socket) = loop {
            match self.channel.receive(&mut packet).await {
                Ok((count, Some(socket))) => break (count, socket),
                Ok((0, None)) => return Ok(None),
                // One that follows another says its port, which is known, or why it has none, and ends.
                Ok((count, None)) => {
                    let word = String::from_utf8_lossy(&packet[..count]);
                    tracing::debug!(%word, "a relay's first word");
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        };
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let peer = String::from_utf8_lossy(&packet[..count]);
        let peer = peer.chars().filter(|c| !c.is_control()).collect();
        Ok(Some((UnixStream::from_std(socket)?, peer)))
    }
}

/// The port of a new relay for RDMA, or its words for why it has none.
#[cfg(feature = "rdma")]
fn first_word(running: &Running) -> Result<u16> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let patience = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::from_borrowed_fd(
        running.channel.as_fd(),
        PollFlags::IN,
    )];
    let ready = poll(&mut fds, Some(&patience))?;
    anyhow::ensure!(ready > 0, "the relay says nothing");
    let mut packet = [0; 512];
    let (count, _) = rgpu_transport::receive_with_fd(running.channel.as_fd(), &mut packet)?;
    let word = String::from_utf8_lossy(&packet[..count]);
    word.parse().map_err(|_| anyhow::anyhow!("{word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_becomes_free_is_taken() {
        let before = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = before.local_addr().unwrap().port();
        let mut next = std::pin::pin!(bind_udp("127.0.0.1", port));
        // It has looked once, and in vain.
        assert!(timeout(Duration::ZERO, &mut next).await.is_err());
        drop(before);
        assert_eq!(next.await.unwrap().local_addr().unwrap().port(), port);
    }
}
