//! A far and lossy network for UDP on this machine: a relay of datagrams that keeps each for a while and drops some, by a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

/// What happens to a datagram on its way.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// One way.
    pub delay: Duration,
    /// Of a million.
    pub lost: u32,
    pub seed: u64,
}

/// Ends with this value.
pub struct Far {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    /// Asks for another port towards the server.
    moves: AtomicBool,
    /// Of a million; changed on the way.
    lost: AtomicU32,
    dropped: AtomicU64,
    /// How often it has moved.
    moved: AtomicU64,
}

/// How long a wish may wait to be seen, when nothing is on the way.
const LOOK: Duration = Duration::from_millis(20);

impl Far {
    /// Between clients and one server. Replies go to the client that has sent last.
    pub fn to(server: SocketAddr, way: Way) -> io::Result<Far> {
        eprintln!("the way to {server}: {way:?}");
        let near = bound()?;
        let shared = Arc::new(Shared::default());
        shared.lost.store(way.lost, Ordering::Relaxed);
        let mut carrier = Carrier {
            address: server,
            server: bound()?,
            client: None,
            near: near.try_clone()?,
            random: way.seed | 1,
            way,
            under_way: BinaryHeap::new(),
            count: 0,
            shared: shared.clone(),
        };
        Ok(Far {
            address: near.local_addr()?,
            shared,
            thread: Some(std::thread::spawn(move || carrier.run())),
        })
    }

    /// From now on the server sees another port: what a client does to it that comes to another network.
    pub fn change_address(&self) {
        let before = self.shared.moved.load(Ordering::Acquire);
        self.shared.moves.store(true, Ordering::Release);
        while self.shared.moved.load(Ordering::Acquire) == before {
            std::thread::yield_now();
        }
    }

    /// Nothing arrives any more.
    pub fn cut(&self) {
        self.shared.lost.store(1_000_000, Ordering::Release);
    }

    /// Datagrams that did not arrive.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bound() -> io::Result<UdpSocket> {
    const BUFFER: usize = 4 << 20;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    // Only the seed is to say what is lost.
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    Ok(socket)
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    due: Instant,
    /// Those that are due at once keep their order.
    number: u64,
    to_server: bool,
    bytes: Vec<u8>,
}

struct Carrier {
    address: SocketAddr,
    server: UdpSocket,
    client: Option<SocketAddr>,
    near: UdpSocket,
    random: u64,
    way: Way,
    under_way: BinaryHeap<Reverse<Datagram>>,
    count: u64,
    shared: Arc<Shared>,
}

impl Carrier {
    fn run(&mut self) -> io::Result<()> {
        while !self.shared.ends.load(Ordering::Acquire) {
            if self.shared.moves.swap(false, Ordering::AcqRel) {
                self.server = bound()?;
                self.shared.moved.fetch_add(1, Ordering::AcqRel);
            }
            let now = Instant::now();
            let next = self.under_way.peek().map(|next| next.0.due);
            let patience = next.map_or(LOOK, |due| due.saturating_duration_since(now).min(LOOK));
            let patience = Timespec {
                tv_sec: 0,
                tv_nsec: patience.subsec_nanos().into(),
            };
            let mut fds = [self.near.as_fd(), self.server.as_fd()]
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            poll(&mut fds, Some(&patience))?;
            self.take_in(true);
            self.take_in(false);
            self.pass_on();
        }
        Ok(())
    }

    fn take_in(&mut self, to_server: bool) {
        let mut buffer = [0; 65536];
        loop {
            let socket = if to_server { &self.near } else { &self.server };
            let Ok((count, from)) = socket.recv_from(&mut buffer) else {
                return;
            };
            if to_server {
                self.client = Some(from);
            }
            // xorshift64
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            if self.random % 1_000_000 < self.shared.lost.load(Ordering::Acquire).into() {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.count += 1;
            self.under_way.push(Reverse(Datagram {
                due: Instant::now() + self.way.delay,
                number: self.count,
                to_server,
                bytes: buffer[..count].to_vec(),
            }));
        }
    }

    fn pass_on(&mut self) {
        let now = Instant::now();
        while let Some(Reverse(next)) = self.under_way.peek()
            && next.due <= now
        {
            // A full socket loses it, as a network does.
            let _ = match (next.to_server, self.client) {
                (true, _) => self.server.send_to(&next.bytes, self.address),
                (false, Some(client)) => self.near.send_to(&next.bytes, client),
                (false, None) => Ok(0),
            };
            self.under_way.pop();
        }
    }
}
