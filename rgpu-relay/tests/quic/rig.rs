//! A server's relay with the test as its broker, and clients' relays with the test as their program.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Instant;

use rgpu_relay::server::Setup;
use rgpu_relay::tls::Identity;
use rgpu_transport::relay::{Relay, channel};
use rgpu_transport::{Endpoint, Pipe, TransportKind, receive_with_fd};
use rustix::event::{PollFd, PollFlags, poll};

use crate::suite::{PATIENCE, Pair};

pub struct Server {
    udp: UdpSocket,
    identity: Identity,
    channel: Option<OwnedFd>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Server {
    /// `None`: the machine has no such address.
    pub fn start(host: &str) -> Option<Server> {
        let udp = UdpSocket::bind((host, 0)).ok()?;
        udp.set_nonblocking(true).unwrap();
        // Keys take a while to make.
        static IDENTITY: OnceLock<Identity> = OnceLock::new();
        let identity = IDENTITY.get_or_init(|| Identity::generate().unwrap());
        let mut server = Server {
            udp,
            identity: identity.clone(),
            channel: None,
            thread: None,
        };
        server.again();
        Some(server)
    }

    /// With this certificate.
    pub fn with(identity: Identity) -> Server {
        let mut server = Server::start("127.0.0.1").unwrap();
        server.identity = identity;
        server.again();
        server
    }

    fn again(&mut self) {
        let (ours, theirs) = channel().unwrap();
        self.channel = Some(ours);
        if let Some(before) = self.thread.take() {
            before.join().unwrap().unwrap();
        }
        let udp = self.udp.try_clone().unwrap();
        let setup = Setup {
            identity: self.identity.clone(),
            reset_key: [5; 32],
            connections: 8,
        };
        self.thread = Some(std::thread::spawn(move || {
            rgpu_relay::server::serve(theirs, udp, &setup, || Ok(()))
        }));
    }

    pub fn udp(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }

    pub fn address(&self) -> Endpoint {
        self.address_at(self.udp())
    }

    /// By another way.
    pub fn address_at(&self, place: SocketAddr) -> Endpoint {
        Endpoint::Quic {
            host: place.ip().to_string(),
            port: place.port(),
            pin: Some(self.identity.pin()),
        }
    }

    /// The next stream.
    pub fn accept(&self) -> Pipe {
        let channel = self.channel.as_ref().unwrap();
        assert!(readable(channel), "no stream came");
        let mut peer = [0; 128];
        let (count, socket) = receive_with_fd(channel.as_fd(), &mut peer).unwrap();
        let peer: SocketAddr = std::str::from_utf8(&peer[..count])
            .unwrap()
            .parse()
            .unwrap();
        assert!(peer.ip().is_loopback());
        Pipe::from_relayed_fd(socket.unwrap()).unwrap()
    }

    /// Whether nothing has come.
    pub fn is_idle(&self) -> bool {
        let channel = self.channel.as_ref().unwrap();
        let mut peer = [0; 128];
        receive_with_fd(channel.as_fd(), &mut peer)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Its broker wants no more, and waits for its end.
    pub fn stop(&mut self) {
        let channel = self.channel.as_ref().unwrap();
        rustix::net::shutdown(channel, rustix::net::Shutdown::Write).unwrap();
        self.join();
    }

    /// Its broker is gone.
    pub fn lose_broker(&mut self) {
        self.channel = None;
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.channel = None;
        // It ends soon; a test that fails need not wait.
    }
}

fn readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    let patience = rustix::time::Timespec {
        tv_sec: PATIENCE.as_secs() as i64,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&patience)).unwrap() == 1
}

pub fn client(address: &Endpoint) -> Relay {
    client_with(address, None)
}

pub fn client_with(address: &Endpoint, authorities: Option<PathBuf>) -> Relay {
    let (ours, theirs) = channel().unwrap();
    let address = address.clone();
    std::thread::spawn(move || rgpu_relay::client::serve(theirs, &address, authorities));
    Relay::over(ours)
}

pub fn open(relay: &Relay) -> Result<Pipe, String> {
    let socket = relay.open(Instant::now() + PATIENCE)?;
    Ok(Pipe::from_relayed_fd(socket).unwrap())
}

pub fn pair(relay: &Relay, server: &Server) -> Pair {
    let client = open(relay).unwrap();
    let server = server.accept();
    for pipe in [&client, &server] {
        let capabilities = pipe.capabilities();
        assert_eq!(capabilities.kind, TransportKind::Relayed);
        assert!(!capabilities.same_host && !capabilities.passes_fds);
    }
    Pair { client, server }
}
