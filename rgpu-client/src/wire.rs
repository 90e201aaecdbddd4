//! The ordered stream to the worker. Writers go straight through; whoever waits for a reply reads the wire itself and hands out what
//! belongs to others.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rgpu_proto::compressed;
use rgpu_proto::frame::{
    BulkHeader, FLAG_BULK_IN, FLAG_BULK_OUT, FLAG_COMPRESSED, FLAG_MAY_COMPRESS, FLAG_WANTS_REPLY,
    HEADER_LEN, Header, LANDS_LATER, Print,
};
use rgpu_transport::{Interest, Pipe, Progress};
use rustc_hash::FxHashMap;
use zerocopy::IntoBytes;

use crate::bulk::{Connection, Lane};
use crate::compression::{Compression, Packed};
use crate::control::Control;
use printed::print;
pub use reader::Reader;
use reader::{Bulk, Done, Own, Pending, Place};

mod printed;
mod reader;

/// Where the bulk bytes of a reply go.
pub enum Sink<'a> {
    None,
    /// Exactly these; a successful reply fills them.
    Exact(&'a mut [u8]),
    Append(&'a mut Vec<u8>),
}

/// Why the connection is over.
#[derive(Clone, Debug)]
pub enum Lost {
    /// The worker said so.
    Ended { result: u32, reason: String },
    /// The wire broke.
    Broken(String),
}

/// A reply's verdicts: the call's own result, and the first error of an earlier one-way command.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    pub status: u32,
    pub deferred: u32,
    /// Bytes of it whose number was not known before.
    pub collected: usize,
}

#[derive(Default)]
struct Replies {
    pending: FxHashMap<u64, Pending>,
    done: FxHashMap<u64, Done>,
    /// Where replies that nobody waits for are written to: address and length.
    landings: FxHashMap<u64, (u64, u64)>,
    /// Threads that sleep until another has read.
    sleepers: usize,
}

/// What lands in a part of memory, and altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landings {
    /// Bytes altogether.
    pub bytes: u64,
    /// Copies altogether that say when they land by themselves.
    pub later: usize,
    pub any_there: bool,
    /// Some of those there say when they land by themselves: their order among others is not known.
    pub any_later_there: bool,
}

impl Replies {
    fn landing_in(&self, address: u64, bytes: u64) -> Vec<u64> {
        let end = address.saturating_add(bytes);
        let inside = |(at, len): (u64, u64)| at < end && address < at + len;
        let all = self.landings.iter().filter(|(_, place)| inside(**place));
        all.map(|(seq, _)| *seq).collect()
    }
}

/// A reply that is expected. It borrows the places that the reply is written to.
pub struct Ticket<'a> {
    seq: u64,
    by_bulk: bool,
    /// When it was asked for, if that is of use.
    began: Option<Instant>,
    sink: Option<&'a mut Vec<u8>>,
    places: std::marker::PhantomData<&'a mut [u8]>,
}

impl Ticket<'_> {
    /// Of a reply that says only how it went.
    fn verdict(seq: u64) -> Ticket<'static> {
        Ticket {
            seq,
            by_bulk: false,
            began: None,
            sink: None,
            places: std::marker::PhantomData,
        }
    }

    /// The command's.
    pub fn number(&self) -> u64 {
        self.seq
    }

    fn end(self, mut done: Done) -> Verdict {
        if let (Some(sink), Some(bytes)) = (self.sink, done.collected) {
            done.verdict.collected = bytes.len();
            sink.extend_from_slice(&bytes);
        }
        done.verdict
    }
}

/// What has become of a command that nobody was to wait for.
pub enum Sent {
    Written {
        seq: u64,
        bytes: usize,
    },
    /// It must be waited for, and is not sent.
    Not,
    /// It must be waited for, and is sent.
    Asked {
        ticket: Ticket<'static>,
        bytes: usize,
    },
}

/// A command before it has its number.
#[derive(Clone, Copy)]
pub struct Command<'a> {
    pub op: u16,
    pub thread: u32,
    pub context: u64,
    pub args: &'a [u8],
    pub segments: &'a [&'a [u8]],
    /// Goes with its bytes, over a unix socket.
    pub descriptor: Option<BorrowedFd<'a>>,
}

impl Command<'_> {
    /// Bytes of its segments.
    fn bulk_bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.len()).sum()
    }

    /// Bytes behind its header.
    fn body(&self) -> usize {
        self.args.len() + self.bulk_bytes()
    }

    /// Its header, as long as nothing stands for its body.
    fn header(&self, seq: u64, flags: u16) -> Header {
        let body = self.body();
        Header::command(self.op, self.thread, self.context, seq, body, false).with(flags)
    }

    fn body_as_it_is(&self) -> Body<'_> {
        Body {
            command: self,
            packed: None,
        }
    }
}

/// A command's body as it goes: as the command has it, or compressed.
#[derive(Clone, Copy)]
struct Body<'a> {
    command: &'a Command<'a>,
    packed: Option<&'a Packed>,
}

impl<'a> Body<'a> {
    fn len(&self) -> usize {
        match self.packed {
            Some(packed) => packed.body.len(),
            None => self.command.body(),
        }
    }

    fn parts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (first, rest) = match self.packed {
            Some(packed) => (&packed.body[..], &[][..]),
            None => (self.command.args, self.command.segments),
        };
        std::iter::once(first).chain(rest.iter().copied())
    }

    fn flags(&self) -> u16 {
        self.packed.map_or(0, |_| FLAG_COMPRESSED)
    }
}

pub struct Wire {
    pipe: Pipe,
    bulk: Connection,
    control: Control,
    compression: Compression,
    /// Whoever holds it writes. Whole commands are in it that go with the next one.
    writer: Mutex<Vec<u8>>,
    /// The last sequence number; only the writer makes a new one.
    last: AtomicU64,
    reader: Mutex<Reader>,
    /// What kernels have printed and this process has not.
    printed: Mutex<Vec<(Print, Vec<u8>)>>,
    prints: AtomicBool,
    printing: Mutex<()>,
    replies: Mutex<Replies>,
    arrived: Condvar,
    broken: AtomicBool,
    lost: Mutex<Option<Lost>>,
}

/// Most bytes of commands that go with the next one: all of them fit one packet of a network.
const HELD: usize = 1 << 10;
/// Most bytes that a copy out asks for which goes with the next command: they cost the device next to no time.
const LITTLE: usize = 64 << 10;
/// How often a thread that is kept from writing looks whether it has to read.
const LOOK: Duration = Duration::from_millis(2);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// `leftover`: bytes that came behind the welcome.
    pub fn new(
        pipe: Pipe,
        leftover: Vec<u8>,
        bulk: Connection,
        control: Control,
        compression: Compression,
    ) -> Wire {
        Wire {
            pipe,
            bulk,
            control,
            compression,
            writer: Mutex::default(),
            last: AtomicU64::new(0),
            reader: Mutex::new(Reader::new(leftover)),
            printed: Mutex::default(),
            prints: AtomicBool::new(false),
            printing: Mutex::default(),
            replies: Mutex::default(),
            arrived: Condvar::new(),
            broken: AtomicBool::new(false),
            lost: Mutex::new(None),
        }
    }

    /// The broker's reason for the session's end.
    pub fn last_words(&self) -> Option<(u32, String)> {
        self.control.last_words()
    }

    /// Why the connection is over, if it is.
    pub fn lost(&self) -> Option<Lost> {
        if !self.broken.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.lost).clone()
    }

    /// The number of the command that was begun last: what is sent later comes behind it.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// The number of what is written next, for whoever has the turn to write.
    fn number(&self, _turn: &MutexGuard<'_, Vec<u8>>) -> u64 {
        self.last.fetch_add(1, Ordering::Release) + 1
    }

    /// Whether a network is between.
    pub fn is_far(&self) -> bool {
        self.pipe.capabilities().kind.is_network()
    }

    /// Whether descriptors can go with commands.
    pub fn passes_descriptors(&self) -> bool {
        self.pipe.capabilities().passes_fds
    }

    /// Why the network connection below is gone, if a relay knows.
    pub fn why_lost(&self) -> Option<String> {
        self.pipe.why_lost()
    }

    /// Sends a command that nobody waits for, unless `unless` says when it is this command's turn that its reply must be waited for.
    pub fn send(&self, command: &Command<'_>, unless: impl Fn() -> bool) -> Result<Sent, Lost> {
        let may = command.body() >= compressed::LEAST && !unless();
        let packed = may.then(|| self.compression.pack(command.args, command.segments));
        let packed = packed.flatten();
        let body = Body {
            command,
            packed: packed.as_ref(),
        };
        let lane = self.bulk.lane(command.bulk_bytes());
        if let Some(lane) = lane.filter(|_| !unless()) {
            return self.send_by(lane, body, unless);
        }
        let mut turn = lock(&self.writer);
        if unless() {
            return Ok(Sent::Not);
        }
        let seq = self.number(&turn);
        let bytes = self.write(&mut turn, body, seq, 0)?;
        Ok(Sent::Written { seq, bytes })
    }

    /// The body goes ahead of the command's turn, so that the others' commands go on meanwhile.
    fn send_by(
        &self,
        lane: &Lane,
        body: Body<'_>,
        unless: impl Fn() -> bool,
    ) -> Result<Sent, Lost> {
        let (number, ahead) = self.write_ahead(lane, body)?;
        let flags = body.flags() | FLAG_BULK_IN;
        let command = Command {
            args: &number.to_le_bytes(),
            segments: &[],
            ..*body.command
        };
        let mut turn = lock(&self.writer);
        let seq = self.number(&turn);
        if !unless() {
            let bytes = ahead + self.write(&mut turn, command.body_as_it_is(), seq, flags)?;
            return Ok(Sent::Written { seq, bytes });
        }
        // The body is there: a command must take it.
        lock(&self.replies).pending.insert(seq, Pending::verdict());
        let flags = flags | FLAG_WANTS_REPLY;
        let written = self.write(&mut turn, command.body_as_it_is(), seq, flags);
        let written = written.inspect_err(|_| self.withdraw(seq))?;
        Ok(Sent::Asked {
            ticket: Ticket::verdict(seq),
            bytes: ahead + written,
        })
    }

    /// Sends a command whose reply the caller will wait for.
    pub fn request<'a>(
        &self,
        command: &Command<'_>,
        fixed: &'a mut [u8],
        sink: Sink<'a>,
    ) -> Result<(Ticket<'a>, usize), Lost> {
        let expected = match &sink {
            Sink::Exact(bytes) => bytes.len(),
            _ => 0,
        };
        let lane = self.bulk.lane(expected);
        let packed = self.compression.pack(command.args, command.segments);
        let body = Body {
            command,
            packed: packed.as_ref(),
        };
        let mut turn = lock(&self.writer);
        let seq = self.number(&turn);
        // Bytes that land ahead of this reply come by the first connection, and must not come behind it.
        let by_bulk = lane.is_some() && lock(&self.replies).landings.is_empty();
        let may_compress = self.compression.asks(expected);
        let flags = if by_bulk { FLAG_BULK_OUT } else { 0 };
        let flags = flags | if may_compress { FLAG_MAY_COMPRESS } else { 0 };
        let (bulk, sink) = match sink {
            Sink::None => (Bulk::None, None),
            Sink::Exact(bytes) => (
                Bulk::Exact(Place {
                    at: bytes.as_mut_ptr(),
                    len: bytes.len(),
                }),
                None,
            ),
            Sink::Append(vec) => (Bulk::Collect(Vec::new()), Some(vec)),
        };
        let fixed = Place {
            at: fixed.as_mut_ptr(),
            len: fixed.len(),
        };
        lock(&self.replies).pending.insert(
            seq,
            Pending {
                fixed,
                bulk,
                lands: false,
                may_compress,
            },
        );
        let began = self.compression.began();
        match self.write(&mut turn, body, seq, FLAG_WANTS_REPLY | flags) {
            Ok(bytes) => Ok((
                Ticket {
                    seq,
                    by_bulk,
                    began,
                    sink,
                    places: std::marker::PhantomData,
                },
                bytes,
            )),
            Err(lost) => {
                self.withdraw(seq);
                Err(lost)
            }
        }
    }

    /// Sends a command whose reply comes ahead of that to any later command which tells that the work is done; nobody waits for it.
    /// The place must be there until [`Self::lands_in`] says that nothing is on its way there, or [`Self::forget_landings`] has been called.
    ///
    /// With a ticket, if `later` says so when it is this command's turn: its reply says that the copy is under way.
    pub fn expect(
        &self,
        command: &Command<'_>,
        address: u64,
        bytes: usize,
        later: impl FnOnce() -> bool,
    ) -> Result<(u64, usize, Option<Ticket<'static>>), Lost> {
        let mut turn = lock(&self.writer);
        let seq = self.number(&turn);
        let later = later();
        let landing = if later { seq | LANDS_LATER } else { seq };
        let may_compress = self.compression.asks(bytes);
        let pending = Pending {
            fixed: Place::none(),
            bulk: Bulk::Exact(Place {
                at: address as *mut u8,
                len: bytes,
            }),
            lands: true,
            may_compress,
        };
        {
            let mut replies = lock(&self.replies);
            replies.pending.insert(landing, pending);
            replies.landings.insert(landing, (address, bytes as u64));
            if later {
                replies.pending.insert(seq, Pending::verdict());
            }
        }
        let ticket = later.then(|| Ticket::verdict(seq));
        let flags = if later { FLAG_WANTS_REPLY } else { 0 };
        let flags = flags | if may_compress { FLAG_MAY_COMPRESS } else { 0 };
        // Its bytes come with a reply to a later command, so it is soon enough if it goes with that: a packet less.
        let len = HEADER_LEN + command.body();
        let has_room = bytes <= LITTLE && turn.len() + len <= HELD;
        if !later && self.is_far() && has_room && self.lost().is_none() {
            turn.extend_from_slice(command.header(seq, flags).as_bytes());
            turn.extend_from_slice(command.args);
            return Ok((seq, len, None));
        }
        self.write(&mut turn, command.body_as_it_is(), seq, flags)
            .map(|written| (seq, written, ticket))
            .inspect_err(|_| {
                self.withdraw(seq);
                self.withdraw(landing);
            })
    }

    /// Whether bytes are on their way to this part of memory.
    pub fn lands_in(&self, address: u64, bytes: u64) -> bool {
        let replies = lock(&self.replies);
        !replies.landings.is_empty() && !replies.landing_in(address, bytes).is_empty()
    }

    /// What is on its way to places where nobody waits for it, and to this one.
    pub fn landings(&self, address: u64, bytes: u64) -> Landings {
        let replies = lock(&self.replies);
        if replies.landings.is_empty() {
            return Landings::default();
        }
        let is_later = |seq: &u64| seq & LANDS_LATER != 0;
        let there = replies.landing_in(address, bytes);
        Landings {
            bytes: replies.landings.values().map(|(_, bytes)| bytes).sum(),
            later: replies.landings.keys().filter(|seq| is_later(seq)).count(),
            any_there: !there.is_empty(),
            any_later_there: there.iter().any(is_later),
        }
    }

    /// Afterwards nobody writes to this part of memory: what still comes is thrown away.
    pub fn forget_landings(&self, address: u64, bytes: u64) {
        loop {
            let mut replies = lock(&self.replies);
            for seq in replies.landing_in(address, bytes) {
                if let Some(pending) = replies.pending.get_mut(&seq) {
                    pending.bulk = Bulk::Discard(match &pending.bulk {
                        Bulk::Exact(place) => place.len,
                        _ => 0,
                    });
                    replies.landings.remove(&seq);
                }
            }
            // The rest is being read at this moment.
            let Some(&seq) = replies.landing_in(address, bytes).first() else {
                return;
            };
            drop(replies);
            if self.lost().is_some() {
                self.withdraw(seq);
            } else {
                std::thread::sleep(LOOK);
            }
        }
    }

    /// Waits for a reply.
    pub fn wait(&self, ticket: Ticket<'_>) -> Result<Verdict, Lost> {
        let began = ticket.began;
        let verdict = self.wait_for(ticket)?;
        self.compression.waited(began);
        Ok(verdict)
    }

    fn wait_for(&self, ticket: Ticket<'_>) -> Result<Verdict, Lost> {
        loop {
            let mut replies = lock(&self.replies);
            if let Some(done) = replies.done.remove(&ticket.seq) {
                drop(replies);
                self.print();
                return Ok(ticket.end(done));
            }
            if let Some(lost) = self.lost() {
                drop(replies);
                self.withdraw(ticket.seq);
                return Err(lost);
            }
            let lane = self.bulk.existing().filter(|_| ticket.by_bulk);
            let (reader, pipe) = match lane {
                Some(lane) => (&lane.reader, &lane.pipe),
                None => (&self.reader, &self.pipe),
            };
            match reader.try_lock() {
                Ok(mut reader) => {
                    drop(replies);
                    let mut own = Own {
                        seq: ticket.seq,
                        done: None,
                    };
                    let result = reader.read(self, pipe, Some(&mut own));
                    drop(reader);
                    self.print();
                    if let Err(lost) = result {
                        // Why, the first connection may know.
                        let words = lane.and_then(|_| self.read_last_words());
                        self.lose(words.unwrap_or(lost));
                    }
                    self.wake();
                    if let Some(done) = own.done {
                        if lane.is_some() {
                            self.look_at_first();
                        }
                        return Ok(ticket.end(done));
                    }
                }
                Err(_) => {
                    replies.sleepers += 1;
                    replies = self
                        .arrived
                        .wait(replies)
                        .unwrap_or_else(PoisonError::into_inner);
                    replies.sleepers -= 1;
                }
            }
        }
    }

    /// Takes in what has come by the first connection, such as what kernels have printed, once a reply has come by the other.
    fn look_at_first(&self) {
        if let Ok(mut reader) = self.reader.try_lock() {
            let result = reader.read(self, &self.pipe, None);
            drop(reader);
            if let Err(lost) = result {
                self.lose(lost);
            }
            self.wake();
        }
        self.print();
    }

    /// Wakes those that sleep. A waiter that saw the reader busy has been counted by then, since it held the lock.
    fn wake(&self) {
        if lock(&self.replies).sleepers > 0 {
            self.arrived.notify_all();
        }
    }

    /// Prints what has come, with no lock held that the rest of the wire needs: a program may call CUDA while it has locked its streams.
    fn print(&self) {
        if !self.prints.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(_one) = self.printing.try_lock() {
            self.prints.store(false, Ordering::Relaxed);
            let printed = std::mem::take(&mut *lock(&self.printed));
            for (on, text) in printed {
                print(on, &text);
            }
        }
    }

    /// Gives up a reply: afterwards nobody writes to its places.
    fn withdraw(&self, seq: u64) {
        // The wire is broken: whoever reads stops at once, and then no reader is left that could hold the places.
        let mut by_bulk = self.bulk.existing().map(|lane| lock(&lane.reader));
        if let Some(reader) = &mut by_bulk {
            reader.abandon(seq);
        }
        let mut reader = lock(&self.reader);
        reader.abandon(seq);
        let mut replies = lock(&self.replies);
        replies.pending.remove(&seq);
        replies.done.remove(&seq);
        replies.landings.remove(&seq);
    }

    fn lose(&self, why: Lost) {
        {
            let mut lost = lock(&self.lost);
            if lost.is_none() {
                *lost = Some(why);
            }
        }
        self.broken.store(true, Ordering::Release);
        let _ = self.pipe.shutdown();
        if let Some(lane) = self.bulk.existing() {
            let _ = lane.pipe.shutdown();
        }
        self.wake();
    }

    /// Writes a command's body to the bulk connection; its number there, and the bytes written.
    fn write_ahead(&self, lane: &Lane, body: Body<'_>) -> Result<(u64, usize), Lost> {
        let mut last = lock(&lane.writer);
        if let Some(lost) = self.lost() {
            return Err(lost);
        }
        *last += 1;
        let header = BulkHeader {
            number: (*last).into(),
            len: (body.len() as u32).into(),
        };
        let bytes = self.write_parts(&lane.pipe, [&[], header.as_bytes()], body)?;
        Ok((*last, bytes))
    }

    /// Writes a frame whole, behind what was to go with it; bytes of the frame. While the wire is full it also reads, so that two sides that both write cannot block each other.
    fn write(
        &self,
        held: &mut Vec<u8>,
        body: Body<'_>,
        seq: u64,
        flags: u16,
    ) -> Result<usize, Lost> {
        if let Some(lost) = self.lost() {
            return Err(lost);
        }
        let mut header = body.command.header(seq, flags | body.flags());
        header.len.set(body.len() as u32);
        let written = self.write_parts(&self.pipe, [held, header.as_bytes()], body)?;
        let bytes = written - held.len();
        held.clear();
        Ok(bytes)
    }

    /// Bytes written: of the body, and of what is ahead of it.
    fn write_parts(&self, pipe: &Pipe, ahead: [&[u8]; 2], body: Body<'_>) -> Result<usize, Lost> {
        let write = || self.write_whole(pipe, ahead, body);
        self.compression
            .write(body.command.body(), body.packed, write)
    }

    fn write_whole(&self, pipe: &Pipe, ahead: [&[u8]; 2], body: Body<'_>) -> Result<usize, Lost> {
        let total = ahead[0].len() + ahead[1].len() + body.len();
        let mut written = 0;
        while written < total {
            let mut parts = [IoSlice::new(&[]); 7];
            let mut used = 0;
            let mut skip = written;
            for part in ahead.into_iter().chain(body.parts()) {
                if skip >= part.len() {
                    skip -= part.len();
                    continue;
                }
                parts[used] = IoSlice::new(&part[skip..]);
                skip = 0;
                used += 1;
            }
            let descriptor = body.command.descriptor.filter(|_| written == 0);
            match pipe.try_write_with_fd(&parts[..used], descriptor) {
                Ok(Progress::Bytes(count)) => written += count,
                Ok(_) => self.wait_for_room(pipe).map_err(|why| self.told(why))?,
                Err(error) => {
                    // The worker may have said why before it closed.
                    let why = self
                        .read_last_words()
                        .unwrap_or(Lost::Broken(error.to_string()));
                    return Err(self.told(why));
                }
            }
        }
        Ok(total)
    }

    fn told(&self, why: Lost) -> Lost {
        self.lose(why.clone());
        self.lost().unwrap_or(why)
    }

    fn wait_for_room(&self, pipe: &Pipe) -> Result<(), Lost> {
        if !std::ptr::eq(pipe, &self.pipe) {
            // Its other direction has readers of its own; of the first connection this thread reads, as any that is kept from writing.
            let ready = self.control.wait_for(pipe, Interest::Write, Some(LOOK))?;
            if ready.timed_out()
                && let Ok(mut reader) = self.reader.try_lock()
            {
                reader.read(self, &self.pipe, None)?;
                drop(reader);
                self.wake();
            }
            return Ok(());
        }
        // Another thread that reads may take the word that there is something to read, and leave: so this one looks again by itself.
        let ready = self
            .control
            .wait_for(&self.pipe, Interest::Both, Some(LOOK))?;
        if ready.write || ready.timed_out() {
            return Ok(());
        }
        match self.reader.try_lock() {
            Ok(mut reader) => {
                reader.read(self, &self.pipe, None)?;
                drop(reader);
                self.wake();
            }
            // Another thread reads. It may stop, to write itself, and waits for this thread's turn then: the next look is soon.
            Err(_) => {
                self.control
                    .wait_for(&self.pipe, Interest::Write, Some(LOOK))?;
            }
        }
        Ok(())
    }

    fn read_last_words(&self) -> Option<Lost> {
        let mut reader = self.reader.try_lock().ok()?;
        reader.read(self, &self.pipe, None).err()
    }
}

#[cfg(test)]
mod tests;
