//! A byte pipe through memory that both ends map, beside the unix socket by which they met. While both are at work no byte needs a system
//! call. A reader that has waited long enough parks on the socket, where one byte wakes it; so the end of the peer is seen there, too, and
//! descriptors come by it. A writer that lacks room parks on a second pair of sockets, so that neither takes the other's bell.

mod memory;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::pass::{receive_with_fds, send_slices};
use crate::pipe::Progress;
use crate::wait::{DEAD, Interest, READS, Ready, WaitPolicy, left};
use memory::{CAPACITY, Memory, Side};

/// The peer may read while we still write, and the reverse: positions are told so often.
const STEP: usize = 64 << 10;
/// Looks before the first system call while the peer is at work on another core: some microseconds.
const SPINS: u32 = 300;
/// Descriptors that may wait to be asked for; a peer that sends more has lost them.
const MAX_DESCRIPTORS: usize = 16;
/// How often the socket is read at a time, whatever the peer sends.
const MAX_HEARD: usize = 64;

/// One end.
#[derive(Debug)]
pub struct Rings {
    memory: Memory,
    /// The end of the sockets by which writers are told of room.
    room: OwnedFd,
    /// The direction that this end writes in.
    ours: usize,
    /// Bytes ever written and read here: the peer's word is measured by these.
    sent: AtomicU64,
    received: AtomicU64,
    descriptors: AtomicU32,
    arrived: Mutex<VecDeque<OwnedFd>>,
    /// Whether there are any.
    any_arrived: AtomicBool,
    /// Held while the ring is read: at a session's end two may.
    reading: Mutex<()>,
    /// The socket has something to read.
    rung: AtomicBool,
    /// Nothing more comes.
    ended: AtomicBool,
    /// Nobody reads any more, or this end has ended its direction.
    closed: AtomicBool,
}

/// What the other end needs to join: the rings' file and its end of the second pair of sockets.
pub type Invitation = [OwnedFd; 2];

fn broken() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the peer has broken the shared memory's positions",
    )
}

/// Rings of which the peer has yet to hear.
#[derive(Debug)]
pub struct Offer {
    pub(crate) rings: Rings,
    pub(crate) invitation: Invitation,
}

impl Offer {
    pub fn new() -> io::Result<Offer> {
        let (memory, file) = Memory::create()?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok(Offer {
            rings: Rings::new(memory, ours, 0),
            invitation: [file, theirs],
        })
    }
}

impl Rings {
    /// Takes part in those of the peer's.
    pub fn join([file, room]: Invitation) -> io::Result<Rings> {
        if rustix::net::sockopt::socket_type(&room)? != SocketType::STREAM {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no socket"));
        }
        rustix::io::fcntl_setfd(&room, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&room, true)?;
        Ok(Rings::new(Memory::join(file.as_fd())?, room, 1))
    }

    fn new(memory: Memory, room: OwnedFd, ours: usize) -> Rings {
        Rings {
            memory,
            room,
            ours,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            descriptors: AtomicU32::new(0),
            arrived: Mutex::default(),
            any_arrived: AtomicBool::new(false),
            reading: Mutex::default(),
            rung: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// The descriptor beside the connection's own.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.room.as_fd()
    }

    fn out(&self) -> &Side {
        self.memory.side(self.ours)
    }

    fn incoming(&self) -> &Side {
        self.memory.side(1 - self.ours)
    }

    fn room_left(&self) -> io::Result<usize> {
        let read = self.out().read.bytes.load(Ordering::Acquire);
        let under_way = self.sent.load(Ordering::Relaxed).wrapping_sub(read);
        match usize::try_from(under_way) {
            Ok(bytes) if bytes <= CAPACITY => Ok(CAPACITY - bytes),
            _ => Err(broken()),
        }
    }

    fn bytes_there(&self) -> io::Result<usize> {
        let written = self.incoming().written.bytes.load(Ordering::Acquire);
        let there = written.wrapping_sub(self.received.load(Ordering::Relaxed));
        match usize::try_from(there) {
            Ok(bytes) if bytes <= CAPACITY => Ok(bytes),
            _ => Err(broken()),
        }
    }

    /// This end writes no more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Writes what there is room for. `fds`, one at most, goes ahead of it.
    pub fn write(
        &self,
        socket: BorrowedFd<'_>,
        slices: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<Progress> {
        if self.closed.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut room = self.room_left()?;
        if room == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Ok(Progress::WouldBlock);
        }
        if !fds.is_empty() {
            // A peer that does not read its bells for so long that there is no room for one is none.
            send_slices(socket, &[IoSlice::new(&[0])], fds).inspect_err(|_| self.close())?;
            self.out()
                .written
                .descriptors
                .fetch_add(1, Ordering::Relaxed);
        }
        let mut sent = self.sent.load(Ordering::Relaxed);
        let (first, mut untold) = (sent, 0);
        for slice in slices {
            let mut rest = &slice[..slice.len().min(room)];
            room -= rest.len();
            while !rest.is_empty() {
                let (part, others) = rest.split_at(rest.len().min(STEP));
                self.memory.put(self.ours, sent, part);
                sent += part.len() as u64;
                untold += part.len();
                rest = others;
                if untold >= STEP {
                    self.tell_written(socket, sent);
                    untold = 0;
                }
            }
            if room == 0 {
                break;
            }
        }
        if untold > 0 {
            self.tell_written(socket, sent);
        }
        Ok(Progress::Bytes((sent - first) as usize))
    }

    fn tell_written(&self, socket: BorrowedFd<'_>, sent: u64) {
        self.sent.store(sent, Ordering::Relaxed);
        let out = self.out();
        out.written.bytes.store(sent, Ordering::Release);
        self.wake(&out.read.parked, socket);
    }

    /// Wakes who is parked there, once a position has been told. One that has not read its bells has enough of them.
    fn wake(&self, parked: &AtomicU32, socket: BorrowedFd<'_>) {
        // Whoever parks says so first and looks again then: one of both sees the other.
        fence(Ordering::SeqCst);
        if parked.load(Ordering::Relaxed) == 0 || parked.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::io::retry_on_intr(|| rustix::net::send(socket, &[0], flags)) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(_) => self.close(),
        }
    }

    /// Reads what is there.
    pub fn read(&self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Progress> {
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut there = self.bytes_there()?;
        if there == 0 && self.rung.swap(false, Ordering::Relaxed) {
            self.hear(socket)?;
            there = self.bytes_there()?;
        }
        if there == 0 {
            if !self.ended.load(Ordering::Acquire) {
                return Ok(Progress::WouldBlock);
            }
            // What came ahead of the end.
            there = self.bytes_there()?;
            if there == 0 {
                return Ok(Progress::Closed);
            }
        }
        let mut received = self.received.load(Ordering::Relaxed);
        let take = there.min(buffer.len());
        for part in buffer[..take].chunks_mut(STEP) {
            self.memory.get(1 - self.ours, received, part);
            received += part.len() as u64;
            self.received.store(received, Ordering::Relaxed);
            let incoming = self.incoming();
            incoming.read.bytes.store(received, Ordering::Release);
            self.wake(&incoming.written.parked, self.room.as_fd());
        }
        Ok(Progress::Bytes(take))
    }

    /// Those that were sent ahead of what has been read last.
    pub fn descriptors(&self, socket: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
        let sent = self.incoming().written.descriptors.load(Ordering::Acquire);
        if sent != self.descriptors.load(Ordering::Relaxed) {
            self.hear(socket)?;
        }
        Ok(match self.takes_arrived() {
            true => self.arrived().drain(..).collect(),
            false => Vec::new(),
        })
    }

    /// For who takes none.
    pub fn drop_descriptors(&self) {
        if self.takes_arrived() {
            self.arrived().clear();
        }
    }

    fn takes_arrived(&self) -> bool {
        self.any_arrived.load(Ordering::Relaxed) && self.any_arrived.swap(false, Ordering::Relaxed)
    }

    fn arrived(&self) -> MutexGuard<'_, VecDeque<OwnedFd>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the socket has: bells, descriptors and the end. Only for who reads.
    fn hear(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut bells = [0; 64];
        for _ in 0..MAX_HEARD {
            match receive_with_fds(socket, &mut bells) {
                Ok((0, _)) => {
                    self.ended.store(true, Ordering::Release);
                    return Ok(());
                }
                Ok((_, fds)) => {
                    for fd in fds.into_iter().flatten() {
                        self.descriptors.fetch_add(1, Ordering::Relaxed);
                        let mut arrived = self.arrived();
                        arrived.push_back(fd);
                        if arrived.len() > MAX_DESCRIPTORS {
                            arrived.pop_front();
                        }
                        self.any_arrived.store(true, Ordering::Relaxed);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    self.close();
                    self.ended.store(true, Ordering::Release);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        // There may be more.
        self.rung.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Looking again and again only keeps a peer from answering that shares the core.
    fn spins(&self) -> u32 {
        let core = rustix::thread::sched_getcpu() as u32 + 1;
        self.out().written.core.store(core, Ordering::Relaxed);
        match self.incoming().written.core.load(Ordering::Relaxed) {
            0 => 0,
            peer if peer == core => 0,
            _ => SPINS,
        }
    }

    /// What there is, without a system call.
    fn look(&self, interest: Interest) -> Option<Ready> {
        let something = |bytes: io::Result<usize>| !bytes.is_ok_and(|bytes| bytes == 0);
        let reads = || something(self.bytes_there()) || self.ended.load(Ordering::Acquire);
        let writes = || something(self.room_left()) || self.closed.load(Ordering::Acquire);
        let ready = Ready {
            read: interest != Interest::Write && reads(),
            write: interest != Interest::Read && writes(),
            beside: false,
        };
        (!ready.timed_out()).then_some(ready)
    }

    /// As `wait::wait`. A wait for both may find that another thread has read already.
    pub fn wait(
        &self,
        socket: BorrowedFd<'_>,
        interest: Interest,
        beside: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
        policy: WaitPolicy,
    ) -> io::Result<Ready> {
        for _ in 0..self.spins() {
            if let Some(ready) = self.look(interest) {
                return Ok(ready);
            }
            std::hint::spin_loop();
        }
        for _ in 0..policy.yields {
            if let Some(ready) = self.look(interest) {
                return Ok(ready);
            }
            std::thread::yield_now();
        }
        loop {
            if let Some(ready) = self.park(socket, interest, beside, deadline)? {
                return Ok(ready);
            }
        }
    }

    /// Sleeps until there may be something. `None`: look again.
    fn park(
        &self,
        socket: BorrowedFd<'_>,
        interest: Interest,
        beside: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> io::Result<Option<Ready>> {
        let (reads, writes) = (interest != Interest::Write, interest != Interest::Read);
        // A reader's word stays until the writer has taken it: two threads may have given it.
        if reads {
            self.incoming().read.parked.store(1, Ordering::Relaxed);
        }
        if writes {
            self.out().written.parked.store(1, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        if let Some(ready) = self.look(interest) {
            // Bells that come for nothing are taken in by the next read that finds nothing.
            self.rung.store(true, Ordering::Relaxed);
            return Ok(Some(ready));
        }
        let (timeout, over) = left(deadline);
        let on_socket = if reads { READS } else { PollFlags::empty() };
        let mut fds = [
            PollFd::from_borrowed_fd(socket, on_socket),
            PollFd::from_borrowed_fd(self.room.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(beside.unwrap_or(socket), READS),
        ];
        // The writer's place and the one beside are there only if they are asked for.
        if !writes {
            fds.swap(1, 2);
        }
        let count = 1 + usize::from(writes) + usize::from(beside.is_some());
        match poll(&mut fds[..count], timeout.as_ref()) {
            Ok(0) if over => return Ok(Some(Ready::default())),
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        if !writes {
            fds.swap(1, 2);
        }
        let [on_socket, on_room, on_beside] = fds.map(|fd| fd.revents());
        if (on_socket | on_room | on_beside).contains(PollFlags::NVAL) {
            return Err(Errno::BADF.into());
        }
        if on_socket.intersects(DEAD) {
            self.close();
        }
        if writes && !on_room.is_empty() {
            let mut bells = [0; 64];
            let flags = RecvFlags::DONTWAIT;
            if let Ok((0, _)) = rustix::net::recv(&self.room, &mut bells, flags) {
                self.close();
            }
        }
        match interest {
            Interest::Read if !on_socket.is_empty() => {
                self.hear(socket)?;
                // Whoever reads must take them, above all if one is the peer's own end, which would keep it from ending.
                if self.any_arrived.load(Ordering::Relaxed) {
                    return Ok(Some(Ready {
                        read: true,
                        ..Ready::default()
                    }));
                }
            }
            Interest::Both if on_socket.intersects(READS | DEAD) => {
                self.rung.store(true, Ordering::Relaxed);
                return Ok(Some(Ready {
                    read: true,
                    write: self.closed.load(Ordering::Acquire),
                    beside: false,
                }));
            }
            _ => {}
        }
        let beside = beside.is_some() && on_beside.intersects(READS | DEAD);
        Ok(match self.look(interest) {
            Some(ready) => Some(ready),
            None if beside => Some(Ready {
                beside,
                ..Ready::default()
            }),
            None => over.then(Ready::default),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ours, and the same memory as a peer has it that may do anything with it.
    fn with_peer() -> (Rings, Memory, OwnedFd, OwnedFd) {
        let Offer { rings, invitation } = Offer::new().unwrap();
        let [file, room] = invitation;
        let peer = Memory::join(file.as_fd()).unwrap();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        std::mem::forget(room);
        (rings, peer, socket, theirs)
    }

    #[test]
    fn a_peer_that_invents_positions_is_refused() {
        let (rings, peer, socket, _theirs) = with_peer();
        let socket = socket.as_fd();
        let mut buffer = [0; 64];
        assert_eq!(
            rings.read(socket, &mut buffer).unwrap(),
            Progress::WouldBlock
        );
        for written in [CAPACITY as u64 + 1, u64::MAX, 1 << 63] {
            peer.side(1).written.bytes.store(written, Ordering::Release);
            let error = rings.read(socket, &mut buffer).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            // Who waits is told, and does not wait.
            let ready = rings.wait(socket, Interest::Read, None, None, WaitPolicy::default());
            assert!(ready.unwrap().read);
        }
        // Going back is the same as going too far.
        peer.side(1).written.bytes.store(10, Ordering::Release);
        assert_eq!(
            rings.read(socket, &mut buffer).unwrap(),
            Progress::Bytes(10)
        );
        peer.side(1).written.bytes.store(9, Ordering::Release);
        assert!(rings.read(socket, &mut buffer).is_err());
        for read in [1, 1 << 40] {
            peer.side(0).read.bytes.store(read, Ordering::Release);
            assert!(rings.write(socket, &[IoSlice::new(b"x")], &[]).is_err());
        }
    }

    #[test]
    fn a_peer_that_claims_descriptors_and_never_reads_bells_costs_nothing() {
        let (rings, peer, socket, theirs) = with_peer();
        let socket = socket.as_fd();
        peer.side(1).written.descriptors.store(7, Ordering::Release);
        assert!(rings.descriptors(socket).unwrap().is_empty());
        for _ in 0..10_000 {
            peer.side(0).read.parked.store(1, Ordering::Release);
            let progress = rings.write(socket, &[IoSlice::new(b"x")], &[]).unwrap();
            assert_eq!(progress, Progress::Bytes(1));
        }
        drop(theirs);
        peer.side(0).read.parked.store(1, Ordering::Release);
        // The bell finds nobody; from then on writes say so.
        rings.write(socket, &[IoSlice::new(b"x")], &[]).unwrap();
        let error = rings.write(socket, &[IoSlice::new(b"x")], &[]);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    /// One that is kept here would keep the peer from ever being seen to end.
    #[test]
    fn a_descriptor_without_bytes_is_handed_on_at_once() {
        let (rings, _peer, socket, theirs) = with_peer();
        let own_end = [theirs.as_fd()];
        send_slices(theirs.as_fd(), &[IoSlice::new(&[0])], &own_end).unwrap();
        let ready = rings.wait(
            socket.as_fd(),
            Interest::Read,
            None,
            None,
            WaitPolicy { yields: 0 },
        );
        assert!(ready.unwrap().read);
        let nothing = rings.read(socket.as_fd(), &mut [0; 8]).unwrap();
        assert_eq!(nothing, Progress::WouldBlock);
        drop((rings.descriptors(socket.as_fd()).unwrap(), theirs));
        let ready = rings.wait(
            socket.as_fd(),
            Interest::Read,
            None,
            None,
            WaitPolicy::default(),
        );
        assert!(ready.unwrap().read);
        assert_eq!(
            rings.read(socket.as_fd(), &mut [0; 8]).unwrap(),
            Progress::Closed
        );
    }

    #[test]
    fn a_flood_of_bells_ends_no_deadline() {
        let (rings, _peer, socket, theirs) = with_peer();
        let deadline = Some(Instant::now() + std::time::Duration::from_millis(20));
        let full = [IoSlice::new(&[0; CAPACITY])];
        rings.write(socket.as_fd(), &full, &[]).unwrap();
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let send = || rustix::net::send(&theirs, &[0; 64], SendFlags::NOSIGNAL);
                while matches!(send(), Ok(_) | Err(Errno::AGAIN)) {
                    std::thread::yield_now();
                }
            });
            for interest in [Interest::Read, Interest::Write] {
                let ready = rings.wait(
                    socket.as_fd(),
                    interest,
                    None,
                    deadline,
                    WaitPolicy::default(),
                );
                assert!(ready.unwrap().timed_out());
            }
            rustix::net::shutdown(&socket, rustix::net::Shutdown::Both).unwrap();
            flood.join().unwrap();
        });
    }

    #[test]
    fn memory_that_could_shrink_is_no_invitation() {
        let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("open", flags).unwrap();
        rustix::fs::ftruncate(&file, 4096 + 2 * CAPACITY as u64).unwrap();
        assert!(Memory::join(file.as_fd()).is_err());
        let (good, file) = Memory::create().unwrap();
        drop(good);
        assert!(rustix::fs::ftruncate(&file, 0).is_err());
        assert!(Memory::join(file.as_fd()).is_ok());
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Memory::join(socket.as_fd()).is_err());
    }

    #[test]
    fn bytes_wrap_around() {
        let (ours, file) = Memory::create().unwrap();
        let theirs = Memory::join(file.as_fd()).unwrap();
        let text: Vec<u8> = (0..=255).collect();
        for position in [0, CAPACITY as u64 - 100, 7 * CAPACITY as u64 - 1] {
            ours.put(1, position, &text);
            let mut got = vec![0; text.len()];
            theirs.get(1, position, &mut got);
            assert_eq!(got, text);
        }
    }
}
