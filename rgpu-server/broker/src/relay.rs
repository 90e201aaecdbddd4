//! The relay of a quic:// address: a process that has the UDP socket and TLS, and hands each client's stream over as a socket. One that dies takes
//! its sessions with it, and is followed by another.

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
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

pub struct Relay {
    udp: UdpSocket,
    address: String,
    setup: Vec<u8>,
    running: Option<Running>,
    started: Instant,
}

struct Running {
    child: Child,
    channel: Channel,
}

impl Relay {
    /// Opens the UDP socket and starts the first process.
    pub fn bind(host: &str, port: u16, settings: &Settings) -> Result<Relay> {
        let identity = match &settings.tls {
            TlsFiles::Both { certificate, key } => Identity::load(certificate, key)?,
            TlsFiles::None => Identity::generate()?,
        };
        let udp = UdpSocket::bind((host, port))?;
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
        let mut relay = Relay {
            udp,
            address: address.to_string(),
            setup: setup.encode()?,
            running: None,
            started: Instant::now(),
        };
        relay.running = Some(relay.start().context("the relay does not start")?);
        Ok(relay)
    }

    /// As clients write it, with what they may expect of the server.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    fn start(&self) -> Result<Running> {
        let (ours, theirs) = rgpu_transport::relay::channel()?;
        let log = std::env::var_os("RGPUD_LOG").map(|filter| ("RGPUD_LOG", filter));
        let child = Command::new(PathBuf::from("/proc/self/exe"))
            .arg0("rgpud")
            .arg("relay")
            .env_clear()
            .envs(log)
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(OwnedFd::from(self.udp.try_clone()?)))
            .process_group(0)
            .spawn()?;
        send_with_fd(ours.as_fd(), &self.setup, None)?;
        Ok(Running {
            child,
            channel: Channel::new(ours)?,
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

impl Running {
    /// `None`: the relay has ended.
    async fn receive(&mut self) -> std::io::Result<Option<(UnixStream, String)>> {
        let mut packet = [0; MAX_PEER];
        let (count, socket) = match self.channel.receive(&mut packet).await {
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(socket) = socket else {
            return Ok(None);
        };
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let peer = String::from_utf8_lossy(&packet[..count]);
        let peer = peer.chars().filter(|c| !c.is_control()).collect();
        Ok(Some((UnixStream::from_std(socket)?, peer)))
    }
}
