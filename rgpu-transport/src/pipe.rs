//! A connected stream socket, non-blocking, with the options that every connection here has.

use crate::endpoint::Endpoint;
use crate::pass::{receive_with_fds, send_slices};
use crate::relay::{self, Relay};
use crate::rings::{Invitation, Offer, Rings};
use crate::simulated::{self, Link, Simulated};
use crate::wait::{self, Interest, Ready, WaitPolicy};
use rgpu_proto::handshake::{JOINED, NOT_JOINED};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
    sockopt,
};
use std::io::{self, IoSlice};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a peer may be silent, when it owes an acknowledgement, before its connection counts as dead.
pub const DEAD_PEER: Duration = Duration::from_secs(20);

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// A unix stream socket.
    Unix,
    /// A TCP connection.
    Tcp,
    /// A stream of a relay's connection (QUIC, RDMA), behind a unix socket.
    Relayed,
    /// Rings in memory that both ends map, beside a unix socket.
    Shm,
}

impl TransportKind {
    /// Whether a network is between the ends.
    pub fn is_network(self) -> bool {
        matches!(self, TransportKind::Tcp | TransportKind::Relayed)
    }
}

/// What the layers above may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// What carries the bytes.
    pub kind: TransportKind,
    /// The peer is on this machine (unix socket, or TCP between equal addresses).
    pub same_host: bool,
    /// Descriptors can travel beside the bytes.
    pub passes_fds: bool,
}

/// What a read or write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many bytes, at least one (a write of nothing gives 0).
    Bytes(usize),
    /// Nothing can be done now: wait.
    WouldBlock,
    /// Reads only: the peer has ended its direction in good order.
    Closed,
}

/// A connection that did not come about, with what to check.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No such host.
    #[error(
        "{endpoint}: the host name cannot be resolved: {source}; check its spelling and the name service"
    )]
    Resolve {
        /// Where to.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("{endpoint}: no answer within {} ms; check the address, the network and any firewall between", waited.as_millis())]
    TimedOut {
        /// Where to.
        endpoint: Endpoint,
        /// How long was waited.
        waited: Duration,
    },
    /// The system refused.
    #[error("{endpoint}: {source}; {}", advice(source))]
    Failed {
        /// Where to.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// The relay, which would carry the bytes, says why it does not; or there is none.
    #[error("{endpoint}: {why}")]
    Relayed {
        /// Where to.
        endpoint: Endpoint,
        /// Why, and what to do.
        why: String,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "is rgpud running there, and is the address one that it printed when it started?"
        }
        io::ErrorKind::NotFound => {
            "no such socket file: is rgpud running with this --listen path, and is the path visible in this container?"
        }
        io::ErrorKind::PermissionDenied => {
            "the socket file's owner or mode does not let this user connect"
        }
        _ => "check the address and the network",
    }
}

/// Where a pipe leads to, for another one.
#[derive(Clone, Debug)]
pub enum Peer {
    /// By a socket file.
    Unix(SocketAddrUnix),
    /// By the address that the other one has.
    Tcp(SocketAddrAny),
}

/// A connected, non-blocking byte pipe. All methods take `&self`: one thread may read while another writes.
#[derive(Debug)]
pub struct Pipe {
    fd: OwnedFd,
    capabilities: Capabilities,
    policy: WaitPolicy,
    rings: Option<Rings>,
    simulated: Option<Simulated>,
    relay: Option<Arc<Relay>>,
}

impl Pipe {
    /// Connects within `timeout` (the name service's own time is not counted).
    pub fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Pipe, ConnectError> {
        let deadline = Instant::now() + timeout;
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::TimedOut => ConnectError::TimedOut {
                endpoint: endpoint.clone(),
                waited: timeout,
            },
            _ => ConnectError::Failed {
                endpoint: endpoint.clone(),
                source,
            },
        };
        let fd = match endpoint {
            Endpoint::Quic { .. } | Endpoint::Rdma { .. } => {
                let (fd, relay) = relay::connect(endpoint, timeout)?;
                let mut pipe = Pipe::from_relayed_fd(fd).map_err(fail)?;
                pipe.relay = Some(relay);
                return Ok(pipe);
            }
            Endpoint::Unix(path) => connect_unix(path, deadline).map_err(fail)?,
            Endpoint::Tcp { host, port } => {
                let addresses = (host.as_str(), *port).to_socket_addrs().map_err(|source| {
                    ConnectError::Resolve {
                        endpoint: endpoint.clone(),
                        source,
                    }
                })?;
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                let mut connected = None;
                for address in addresses {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        last = io::ErrorKind::TimedOut.into();
                        break;
                    }
                    match TcpStream::connect_timeout(&address, left) {
                        Ok(stream) => {
                            connected = Some(OwnedFd::from(stream));
                            break;
                        }
                        Err(e) => last = e,
                    }
                }
                connected.ok_or(last).map_err(fail)?
            }
        };
        Pipe::from_fd(fd).map_err(fail)
    }

    /// Where another connection to the same peer goes. `endpoint`: where this one leads to. `None` where a relay carries it.
    pub fn peer(&self, endpoint: &Endpoint) -> Option<Peer> {
        match endpoint {
            Endpoint::Unix(path) => Some(Peer::Unix(SocketAddrUnix::new(path).ok()?)),
            // The name service may take long, and may name another host.
            Endpoint::Tcp { .. } => Some(Peer::Tcp(rustix::net::getpeername(&self.fd).ok()??)),
            Endpoint::Quic { .. } | Endpoint::Rdma { .. } => None,
        }
    }

    /// Begins a connection without a wait: a write says `WouldBlock` until it is there, and an error where it does not come about.
    pub fn begin(peer: &Peer) -> io::Result<Pipe> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = match peer {
            Peer::Unix(_) => AddressFamily::UNIX,
            Peer::Tcp(address) => address.address_family(),
        };
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        let begun = match peer {
            Peer::Unix(address) => rustix::net::connect(&fd, address),
            Peer::Tcp(address) => rustix::net::connect(&fd, address),
        };
        match begun {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Pipe::from_fd(fd),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a connected unix or TCP stream socket, and sets what every pipe has: non-blocking, CLOEXEC, and for TCP no Nagle and keepalive.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Pipe> {
        if sockopt::socket_type(&fd)? != SocketType::STREAM {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no stream socket",
            ));
        }
        let kind = match sockopt::socket_domain(&fd)? {
            AddressFamily::UNIX => TransportKind::Unix,
            AddressFamily::INET | AddressFamily::INET6 => TransportKind::Tcp,
            other => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("a socket of family {other:?}"),
                ));
            }
        };
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        let same_host = match kind {
            TransportKind::Unix | TransportKind::Shm => true,
            TransportKind::Relayed => false,
            TransportKind::Tcp => {
                sockopt::set_tcp_nodelay(&fd, true)?;
                keep_alive(fd.as_fd())?;
                bound_unacknowledged(fd.as_fd(), None)?;
                same_address(fd.as_fd())
            }
        };
        let capabilities = Capabilities {
            kind,
            same_host,
            passes_fds: kind == TransportKind::Unix,
        };
        Ok(Pipe {
            fd,
            capabilities,
            policy: WaitPolicy::default(),
            rings: None,
            simulated: None,
            relay: None,
        })
    }

    /// Takes a unix socket behind which a relay carries the bytes on: the peer is elsewhere, and no descriptor reaches it.
    pub fn from_relayed_fd(fd: OwnedFd) -> io::Result<Pipe> {
        let mut pipe = Pipe::from_fd(fd)?;
        pipe.capabilities = Capabilities {
            kind: TransportKind::Relayed,
            same_host: false,
            passes_fds: false,
        };
        Ok(pipe)
    }

    /// Why the network connection below is gone, if it is and a relay knows.
    pub fn why_lost(&self) -> Option<String> {
        self.relay.as_ref()?.why_lost()
    }

    /// Tells the peer of rings with `bytes`, and waits until it has said whether it has them. A unix socket only.
    pub fn invite(&mut self, offer: Offer, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let [file, room] = &offer.invitation;
        self.write_all_with_fds(bytes, &[file.as_fd(), room.as_fd()], deadline)?;
        let mut answer = [NOT_JOINED];
        loop {
            match self.try_read(&mut answer)? {
                Progress::Bytes(_) => break,
                Progress::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
                Progress::WouldBlock => {
                    if self.wait(Interest::Read, Some(deadline))?.timed_out() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
            }
        }
        if answer == [JOINED] {
            self.use_rings(offer.rings);
        }
        Ok(())
    }

    /// Goes on in the rings that the peer has made, and tells it; by the socket where they have not come through, or cannot be mapped here.
    pub fn accept(&mut self, invitation: Vec<OwnedFd>, deadline: Instant) -> io::Result<()> {
        let invitation = Invitation::try_from(invitation).ok();
        let rings = invitation.and_then(|invitation| Rings::join(invitation).ok());
        let answer = if rings.is_some() { JOINED } else { NOT_JOINED };
        self.write_all(&[answer], deadline)?;
        if let Some(rings) = rings {
            self.use_rings(rings);
        }
        Ok(())
    }

    fn use_rings(&mut self, rings: Rings) {
        self.rings = Some(rings);
        self.capabilities.kind = TransportKind::Shm;
    }

    /// From here on bytes take the time that they would on this link. The peer must do the same at the same byte; a network's pipe only.
    pub fn simulate(&mut self, link: Link) {
        if self.capabilities.kind == TransportKind::Tcp {
            self.simulated = Some(Simulated::new(link));
            self.capabilities.same_host = false;
        }
    }

    /// [`Self::simulate`], where the environment asks for a link, which is returned. The error says what is wrong with it.
    pub fn simulate_as_asked(&mut self) -> Result<Option<Link>, String> {
        let link = Link::from_environment()?;
        link.into_iter().for_each(|link| self.simulate(link));
        Ok(link)
    }

    /// Whether it pretends to be another link.
    pub fn is_simulated(&self) -> bool {
        self.simulated.is_some()
    }

    /// Changes how [`Self::wait`] waits.
    pub fn set_wait_policy(&mut self, policy: WaitPolicy) {
        self.policy = policy;
    }

    /// For a connection whose peer always reads (a control connection): bounds the time that sent bytes may stay unacknowledged by
    /// [`DEAD_PEER`]. See [`bound_unacknowledged`] for why data connections do without.
    pub fn expect_prompt_peer(&self) -> io::Result<()> {
        match self.capabilities.kind {
            TransportKind::Tcp => bound_unacknowledged(self.fd.as_fd(), Some(DEAD_PEER)),
            // Relays ask by themselves.
            TransportKind::Unix | TransportKind::Shm | TransportKind::Relayed => Ok(()),
        }
    }

    /// For what is written without end: the system takes little of it beyond what is under way on a network, so that what is written later is
    /// not long behind.
    pub fn keep_little_unsent(&self) -> io::Result<()> {
        const UNSENT: u32 = 256 << 10;
        match self.capabilities.kind {
            TransportKind::Tcp => socket2::SockRef::from(&self.fd).set_tcp_notsent_lowat(UNSENT),
            // Streams of QUIC take turns.
            TransportKind::Unix | TransportKind::Shm | TransportKind::Relayed => Ok(()),
        }
    }

    /// Reads what is there, at most `buffer.len()` bytes (which must not be 0).
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Progress> {
        if let Some(rings) = &self.rings {
            let progress = rings.read(self.fd.as_fd(), buffer);
            rings.drop_descriptors();
            return progress;
        }
        match &self.simulated {
            Some(link) => {
                let peek = |place: &mut [u8]| {
                    let peeked = rustix::net::recv(&self.fd, place, RecvFlags::PEEK);
                    peeked.map_or(0, |(count, _)| count)
                };
                link.read(buffer, simulated::now, |part| self.receive(part), peek)
            }
            None => self.receive(buffer),
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Progress> {
        match rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::empty())
        }) {
            Ok((0, _)) if !buffer.is_empty() => Ok(Progress::Closed),
            Ok((count, _)) => Ok(Progress::Bytes(count)),
            Err(Errno::AGAIN) => Ok(Progress::WouldBlock),
            Err(e) => Err(e.into()),
        }
    }

    /// As [`Self::try_read`], with the descriptors that came with these bytes, if any: only where [`Capabilities::passes_fds`].
    pub fn try_read_with_fds(&self, buffer: &mut [u8]) -> io::Result<(Progress, Vec<OwnedFd>)> {
        if let Some(rings) = &self.rings {
            let progress = rings.read(self.fd.as_fd(), buffer)?;
            return Ok((progress, rings.descriptors(self.fd.as_fd())?));
        }
        if !self.capabilities.passes_fds {
            return Ok((self.try_read(buffer)?, Vec::new()));
        }
        match receive_with_fds(self.fd.as_fd(), buffer) {
            Ok((0, _)) if !buffer.is_empty() => Ok((Progress::Closed, Vec::new())),
            Ok((count, fds)) => Ok((Progress::Bytes(count), fds.unwrap_or_default())),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Ok((Progress::WouldBlock, Vec::new()))
            }
            Err(e) => Err(e),
        }
    }

    /// Writes what fits of the slices, in order. Slices beyond the system's bound on their number (1024) are left for the next call.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<Progress> {
        self.try_write_with_fd(slices, None)
    }

    /// The same, and `fd` goes with the first byte: only where [`Capabilities::passes_fds`].
    pub fn try_write_with_fd(
        &self,
        slices: &[IoSlice<'_>],
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<Progress> {
        self.try_write_with_fds(slices, fd.as_slice())
    }

    fn try_write_with_fds(
        &self,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<Progress> {
        const IOV_MAX: usize = 1024;
        if let Some(rings) = &self.rings {
            return rings.write(self.fd.as_fd(), slices, fds);
        }
        let slices = &slices[..slices.len().min(IOV_MAX)];
        let send = |slices: &[IoSlice<'_>]| match send_slices(self.fd.as_fd(), slices, fds) {
            Ok(count) => Ok(Progress::Bytes(count)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Progress::WouldBlock),
            Err(e) => Err(e),
        };
        match &self.simulated {
            Some(link) => link.write(
                &slices[..slices.len().min(IOV_MAX - 1)],
                simulated::now(),
                send,
            ),
            None => send(slices),
        }
    }

    /// Fills the buffer, waiting for the peer to write; false at the end of the stream, if it comes ahead of the first byte.
    pub fn read_all(&self, mut buffer: &mut [u8]) -> io::Result<bool> {
        let mut begun = false;
        while !buffer.is_empty() {
            match self.try_read(buffer)? {
                Progress::Bytes(count) => {
                    begun = true;
                    buffer = &mut buffer[count..];
                }
                Progress::Closed if !begun => return Ok(false),
                Progress::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
                Progress::WouldBlock => drop(self.wait(Interest::Read, None)?),
            }
        }
        Ok(true)
    }

    /// Writes all of it, waiting for the peer to read until the deadline; then `TimedOut`.
    pub fn write_all(&self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.write_all_with_fds(bytes, &[], deadline)
    }

    /// The same, with descriptors that go with the first byte.
    fn write_all_with_fds(
        &self,
        mut bytes: &[u8],
        mut fds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write_with_fds(&[IoSlice::new(bytes)], fds)? {
                Progress::Bytes(count) => (bytes, fds) = (&bytes[count..], &[]),
                _ if self.wait(Interest::Write, Some(deadline))?.timed_out() => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until the pipe is ready for `interest` or the deadline has passed (then [`Ready::timed_out`]).
    pub fn wait(&self, interest: Interest, deadline: Option<Instant>) -> io::Result<Ready> {
        self.wait_beside(interest, None, deadline)
    }

    /// As [`Self::wait`], and until `beside` has something to read ([`Ready::beside`]), seen once the thread is parked.
    pub fn wait_beside(
        &self,
        interest: Interest,
        beside: Option<&Pipe>,
        deadline: Option<Instant>,
    ) -> io::Result<Ready> {
        let beside = beside.map(|pipe| pipe.fd.as_fd());
        if let Some(rings) = &self.rings {
            return rings.wait(self.fd.as_fd(), interest, beside, deadline, self.policy);
        }
        match &self.simulated {
            Some(link) if interest != Interest::Write => {
                self.wait_for_time(link, interest, beside, deadline)
            }
            _ => wait::wait(self.fd.as_fd(), interest, beside, deadline, self.policy),
        }
    }

    /// Waits at a simulated link: what has come is there when its time is.
    fn wait_for_time(
        &self,
        link: &Simulated,
        interest: Interest,
        beside: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> io::Result<Ready> {
        loop {
            let until = || link.until(simulated::now());
            if let Some(ready) = wait::for_time(self.fd.as_fd(), interest, beside, deadline, until)?
            {
                return Ok(ready);
            }
            let ready = wait::wait(self.fd.as_fd(), interest, beside, deadline, self.policy)?;
            if !ready.read {
                return Ok(ready);
            }
            // What stands in front of the bytes says when their time is.
            let begun = link.begin(|part| self.receive(part));
            let read = begun.is_err() || until().is_none();
            if read || ready.write || ready.beside {
                return Ok(Ready { read, ..ready });
            }
        }
    }

    /// Ends this side's direction: the peer reads what is under way, then the end.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.rings.iter().for_each(Rings::close);
        Ok(rustix::net::shutdown(&self.fd, Shutdown::Write)?)
    }

    /// Ends both directions, also for threads that wait on the pipe.
    pub fn shutdown(&self) -> io::Result<()> {
        self.rings.iter().for_each(Rings::close);
        Ok(rustix::net::shutdown(&self.fd, Shutdown::Both)?)
    }

    /// What the layers above may rely on.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The descriptors of the pipe, for a forked child to close.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let rings = self.rings.iter().map(Rings::as_fd);
        let relay = self.relay.iter().map(|relay| relay.as_fd());
        std::iter::once(self.fd.as_fd()).chain(rings).chain(relay)
    }

    /// The socket itself. Only of a pipe without rings.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes an idle TCP connection notice within [`DEAD_PEER`] that its peer is gone without a word. Harmless for connections that are busy.
pub fn keep_alive(fd: BorrowedFd<'_>) -> io::Result<()> {
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, Duration::from_secs(5))?;
    sockopt::set_tcp_keepintvl(fd, Duration::from_secs(5))?;
    sockopt::set_tcp_keepcnt(fd, 3)?;
    Ok(())
}

/// Also bounds how long sent bytes may wait for their acknowledgement (TCP_USER_TIMEOUT); `None`: the system's bound, about 15 minutes.
///
/// Only for connections whose peer always reads, such as a control connection: Linux counts a *live* peer that does not read for that long (its
/// window is zero) as dead too. A data connection must not have it, since a device may be busy, or a client stopped, for any time.
pub fn bound_unacknowledged(fd: BorrowedFd<'_>, bound: Option<Duration>) -> io::Result<()> {
    let millis = bound.map_or(0, |bound| {
        u32::try_from(bound.as_millis()).unwrap_or(u32::MAX)
    });
    Ok(sockopt::set_tcp_user_timeout(fd, millis)?)
}

fn same_address(fd: BorrowedFd<'_>) -> bool {
    let Ok(fd) = fd.try_clone_to_owned() else {
        return false;
    };
    let stream = TcpStream::from(fd);
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(ours), Ok(theirs)) if ours.ip() == theirs.ip())
}

fn connect_unix(path: &Path, deadline: Instant) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&fd, &address) {
            Ok(()) => return Ok(fd),
            // The server's queue of connections is full; there is no event for room in it.
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2))
            }
            Err(Errno::AGAIN | Errno::INTR) => return Err(io::ErrorKind::TimedOut.into()),
            Err(e) => return Err(e.into()),
        }
    }
}
