//! The session's threads. One OS thread plays each client thread, because current contexts and default streams are thread state; one of
//! them at a time holds the [`Reader`] and with it the turn, so that commands begin in the order in which the client gave them.
//!
//! A thread that reads a frame of another client thread hands the reader on, frame included. A call that may block gives the reader away first,
//! to a spare thread that only reads; where other client threads are not at work, it only parks it there, since a call that ends soon
//! then goes on without waking anybody.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, CallInfo};
use rgpu_proto::compressed::{self, Attempts};
use rgpu_proto::control::{FromWorker, reason};
use rgpu_proto::frame::{
    FLAG_COMPRESSED, FLAG_MAY_COMPRESS, FrameError, Header, LANDS_LATER, Print,
};
use rgpu_proto::handshake::{MAX_THREADS, VERSION_5, VERSION_STDERR};
use rgpu_transport::{Interest, Pipe, Progress};
use zerocopy::IntoBytes;

mod hearing;

use crate::bulk::Lane;
use crate::charge::changes_memory;
use crate::content::{Contents, Left};
use crate::gate;
use crate::mailbox::Mailbox;
use crate::printed;
use crate::reader::{ReadError, Reader};
use crate::startup::Control;
use crate::state::{Shared, State};
use crate::swap;
use crate::threads::spawn;

/// So many commands of one thread without one of another: the others are not at work.
const ALONE: u32 = 64;
/// A reply's buffer that is longer than this is given up after use.
const KEEP_REPLY: usize = 64 << 10;
/// How often a thread that cannot write looks whether the session has ended.
const WRITE_LOOK: Duration = Duration::from_millis(250);
/// How long the end of a session may take to be told.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the worker listens to a client that does not close after the end.
const LINGER: Duration = Duration::from_millis(500);
/// How long after the client has gone the end waits for a command that is being played.
const GRACE: Duration = Duration::from_secs(5);
/// Time between two reports of usage.
const USAGE_EVERY: Duration = Duration::from_secs(2);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call of a later client's, which is refused as CUDA refuses what it does not serve. No call has this number.
static LATER: calls::CallInfo = calls::CallInfo {
    name: "a later version's",
    op: 0,
    waits: None,
    blocks: false,
    no_context: true,
    reaped: false,
};

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// CUresult; 0 if the client closed in good order.
    pub result: u32,
    pub reason: String,
}

impl End {
    fn broken(why: impl std::fmt::Display) -> End {
        End {
            result: CudaError::UNKNOWN.0,
            reason: reason(why.to_string()),
        }
    }

    fn unavailable(why: impl std::fmt::Display) -> End {
        End {
            result: CudaError::DEVICE_UNAVAILABLE.0,
            reason: reason(why.to_string()),
        }
    }

    fn closed() -> End {
        End {
            result: 0,
            reason: "the client closed".into(),
        }
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> End {
        End::broken(error)
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> End {
        ReadError::from(error).into()
    }
}

pub struct Session {
    shared: Arc<Shared>,
    /// Whether the client knows what is printed on stderr.
    takes_stderr: bool,
    /// Whether it may have been told that bodies can be compressed.
    may_compress: bool,
    attempts: Mutex<Attempts>,
    /// Copies under way to the client's pinned memory whose bytes may go compressed, by their numbers.
    lands_compressed: Mutex<HashSet<u64>>,
    pipe: Arc<Pipe>,
    control: Arc<Control>,
    bulk: Arc<Lane>,
    /// Held while a frame is written; false once a frame could not be written whole.
    intact: Mutex<bool>,
    threads: Mutex<HashMap<u32, Arc<Mailbox>>>,
    thread_count: AtomicUsize,
    /// Who played last, and how many commands in a row.
    last_thread: AtomicU32,
    in_a_row: AtomicU32,
    spare: Mailbox,
    over: AtomicBool,
    end: Mutex<Option<End>>,
    ended: Condvar,
    began: Instant,
    /// Milliseconds after `began` when usage was reported last.
    reported: AtomicU64,
}

impl Session {
    /// `version`: of the protocol, as it was agreed on.
    pub fn new(
        shared: Arc<Shared>,
        pipe: Arc<Pipe>,
        control: Arc<Control>,
        version: u16,
    ) -> Arc<Session> {
        shared.borrowing.connect(control.clone());
        Arc::new(Session {
            shared,
            pipe,
            control,
            bulk: Arc::default(),
            takes_stderr: version >= VERSION_STDERR,
            may_compress: version >= VERSION_5,
            attempts: Mutex::default(),
            lands_compressed: Mutex::default(),
            intact: Mutex::new(true),
            threads: Mutex::default(),
            thread_count: AtomicUsize::new(0),
            last_thread: AtomicU32::new(0),
            in_a_row: AtomicU32::new(0),
            spare: Mailbox::default(),
            over: AtomicBool::new(false),
            end: Mutex::new(None),
            ended: Condvar::new(),
            began: Instant::now(),
            reported: AtomicU64::new(0),
        })
    }

    /// Serves the client until the session is over; then everything about the end has been told. Threads that are inside the driver may
    /// still be there: the process must end.
    pub fn serve(self: &Arc<Session>, reader: Reader) -> End {
        let started = self
            .start("control", |session| session.watch_control())
            .and_then(|()| self.start("hang-up", |session| session.watch_client()))
            .and_then(|()| self.start("gate", |session| session.watch_devices()))
            .and_then(|()| match self.shared.swap.get() {
                Some(_) => self.start("memory", |session| session.move_memory()),
                None => Ok(()),
            })
            .and_then(|()| self.start("reader", |session| session.read_for_others()));
        if let Err(end) = started {
            self.finish(end);
        }
        self.spare.put(Box::new(reader));
        let end = self.wait_end();
        self.drain();
        end
    }

    /// Starts a thread; a panic in it ends the session.
    fn start(
        self: &Arc<Session>,
        name: &str,
        body: impl FnOnce(&Arc<Session>) + Send + 'static,
    ) -> Result<(), End> {
        let (session, what) = (self.clone(), name.to_owned());
        spawn(name, move || {
            if let Err(end) = guarded(&what, || body(&session)) {
                session.finish(end);
            }
        })
        .map(drop)
        .map_err(|error| End::broken(format_args!("the worker gets no thread: {error}")))
    }

    fn wait_end(&self) -> End {
        let mut end = lock(&self.end);
        loop {
            match &*end {
                Some(end) => return end.clone(),
                None => {
                    end = self.ended.wait(end).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Throws away what the client still sends, for a short time: a client that is stuck in a write would not come to read why
    /// the session ended, and unread bytes would turn the end of the connection into a reset.
    fn drain(&self) {
        let deadline = Instant::now() + LINGER;
        let mut bytes = [0; 16 << 10];
        while Instant::now() < deadline {
            match self.pipe.try_read(&mut bytes) {
                Ok(Progress::Bytes(_)) => {}
                Ok(Progress::WouldBlock) => {
                    if self.pipe.wait(Interest::Read, Some(deadline)).is_err() {
                        return;
                    }
                }
                Ok(Progress::Closed) | Err(_) => return,
            }
        }
    }

    /// The spare thread: it reads while the others are busy, and never plays a command itself.
    fn read_for_others(self: &Arc<Session>) {
        while let Some(mut reader) = self.spare.take() {
            let passed_on = match reader.next() {
                Ok(true) => self.hand_over(reader),
                Ok(false) => Err(End::closed()),
                Err(error) => Err(error.into()),
            };
            if let Err(end) = passed_on {
                self.finish(end);
            }
        }
    }

    /// Gives the turn to the thread that the reader's frame belongs to.
    fn hand_over(self: &Arc<Session>, reader: Box<Reader>) -> Result<(), End> {
        let thread = reader.header().thread.get();
        let known = lock(&self.threads).get(&thread).cloned();
        let mailbox = match known {
            Some(mailbox) => mailbox,
            None => self.start_thread(thread)?,
        };
        mailbox.put(reader);
        Ok(())
    }

    fn start_thread(self: &Arc<Session>, thread: u32) -> Result<Arc<Mailbox>, End> {
        let mailbox = Arc::new(Mailbox::default());
        let mut threads = lock(&self.threads);
        if self.over.load(Ordering::Acquire) {
            mailbox.close();
            return Ok(mailbox);
        }
        if threads.len() >= MAX_THREADS as usize {
            return Err(End::broken(format_args!(
                "the client uses more than {MAX_THREADS} threads"
            )));
        }
        threads.insert(thread, mailbox.clone());
        self.thread_count.store(threads.len(), Ordering::Relaxed);
        drop(threads);
        let own = mailbox.clone();
        self.start(&format!("client-{thread}"), move |session| {
            session.play(thread, &own)
        })?;
        Ok(mailbox)
    }

    /// A client thread's life.
    fn play(self: &Arc<Session>, thread: u32, mailbox: &Mailbox) {
        let state = State::new(self.shared.clone());
        let mut reply = Vec::new();
        while let Some(reader) = mailbox.take() {
            if let Err(end) = self.turn(&state, thread, reader, &mut reply) {
                self.finish(end);
            }
        }
    }

    /// Plays the reader's frame and those of the same thread that follow it, until the turn goes on.
    fn turn(
        self: &Arc<Session>,
        state: &State,
        thread: u32,
        mut reader: Box<Reader>,
        reply: &mut Vec<u8>,
    ) -> Result<(), End> {
        // What still comes after the end is not played.
        while !self.over.load(Ordering::Acquire) {
            let header = reader.header();
            let op = header.op.get();
            let call = match calls::info(op) {
                Some(call) => call,
                None if op == LATER.op => return Err(FrameError::UnknownOp { op }.into()),
                None => &LATER,
            };
            let apart = self.body_apart(header, reader.body())?;
            let alone = self.is_alone(thread);
            // Where streams wait for the client, any call may be kept until a later command is played. A client that knows of such streams
            // waits for every reply, and so sends nothing behind the call that would have to come after it.
            let may_be_kept = header.wants_reply() && self.shared.stands.load(Ordering::Relaxed);
            if call.blocks || may_be_kept {
                let body = apart.unwrap_or_else(|| reader.body().to_vec());
                // While this thread has the turn: a later command cannot come first.
                let context = if call.no_context { 0 } else { header.aux.get() };
                state.handles.pin(context);
                if alone {
                    self.spare.park(reader);
                } else {
                    self.spare.put(reader);
                }
                let performed = self.perform(state, call, header, &body, reply);
                state.handles.unpin();
                performed?;
                match self.spare.unpark() {
                    Some(back) => reader = back,
                    None => return Ok(()),
                }
            } else {
                let body = apart.as_deref().unwrap_or_else(|| reader.body());
                self.perform(state, call, header, body, reply)?;
            }
            if !reader.next()? {
                return Err(End::closed());
            }
            if reader.header().thread.get() != thread {
                return self.hand_over(reader);
            }
        }
        Ok(())
    }

    /// A command's body, if it is another than its frame has: it has come by the bulk connection, or compressed, or both.
    fn body_apart(&self, header: Header, framed: &[u8]) -> Result<Option<Vec<u8>>, End> {
        let of_compression = FLAG_COMPRESSED | FLAG_MAY_COMPRESS;
        if header.flags.get() & of_compression != 0 && !self.may_compress {
            return Err(FrameError::Flags(header.flags.get()).into());
        }
        let by_bulk = match header.is_bulk_in() {
            true => Some(self.bulk_body(framed)?),
            false => None,
        };
        if !header.is_compressed() {
            return Ok(by_bulk);
        }
        let body = by_bulk.as_deref().unwrap_or(framed);
        Ok(Some(compressed::decompress(body)?))
    }

    /// The body that a command names by its number on the bulk connection.
    fn bulk_body(&self, number: &[u8]) -> Result<Vec<u8>, End> {
        let number = number.try_into().map_err(|_| {
            End::broken("a command names no body of the bulk connection where it says so")
        })?;
        self.bulk
            .take(u64::from_le_bytes(number))
            .map_err(End::broken)
    }

    /// Counts a command of this thread; whether other threads have not been at work lately.
    fn is_alone(&self, thread: u32) -> bool {
        let in_a_row = if self.last_thread.swap(thread, Ordering::Relaxed) == thread {
            self.in_a_row.load(Ordering::Relaxed).saturating_add(1)
        } else {
            0
        };
        self.in_a_row.store(in_a_row, Ordering::Relaxed);
        in_a_row >= ALONE || self.thread_count.load(Ordering::Relaxed) <= 1
    }

    /// Plays one command, and answers it if the client waits.
    fn perform(
        &self,
        state: &State,
        call: &CallInfo,
        header: Header,
        body: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<(), End> {
        reply.clear();
        state.seq.set(header.seq.get());
        state.wants_reply.set(header.wants_reply());
        self.note_landing(header);
        let result = guarded(call.name, || {
            // What the call may have to do with stays where it is until it is over.
            let swap = self.shared.swap.get();
            let touches = swap::touches(call.op) || self.shared.clearing.is_due();
            let _here = match swap.filter(|_| touches).map(|swap| swap.enter()) {
                Some(Err(error)) => return Ok(Err(error)),
                Some(Ok(here)) => Some(here),
                None => None,
            };
            if !call.no_context
                && let Err(error) = state.make_current(header.aux.get())
            {
                return Ok(Err(error));
            }
            if call.op == LATER.op {
                tracing::debug!(
                    op = header.op.get(),
                    "a call that this version does not know"
                );
                return Ok(Err(CudaError::NOT_SUPPORTED));
            }
            let _changing = changes_memory(call.op).then(|| self.shared.changing());
            gate::play(state, call.op, body, reply)
        })??;
        if let Some(swap) = self.shared.swap.get()
            && changes_memory(call.op)
        {
            swap.tell_beside();
        }
        if result.is_err() && header.may_compress() {
            // Nothing lands.
            lock(&self.lands_compressed).remove(&header.seq.get());
        }
        let counters = &self.shared.counters;
        counters.calls.fetch_add(1, Ordering::Relaxed);
        let bytes_in = size_of::<Header>() + body.len();
        counters
            .bytes_in
            .fetch_add(bytes_in as u64, Ordering::Relaxed);
        if header.wants_reply() {
            // A client asks for a reply by the other connection only when all that has landed before is there.
            let landed = match header.is_bulk_out() {
                true => None,
                false => Some(self.deliver(header.thread.get())?),
            };
            let deferred = self.shared.take_deferred();
            let says = result.is_err() || deferred != 0;
            if says || self.shared.prints.load(Ordering::Relaxed) || printed::is_there() {
                self.print()?;
            }
            counters.waits.fetch_add(1, Ordering::Relaxed);
            let may_compress = header.may_compress() && result.is_ok();
            let flags = match self.compressed(may_compress, reply) {
                Some(packed) => {
                    *reply = packed;
                    FLAG_COMPRESSED
                }
                None => 0,
            };
            let bytes_out = size_of::<Header>() + reply.len();
            counters
                .bytes_out
                .fetch_add(bytes_out as u64, Ordering::Relaxed);
            let answer = Header::reply(
                header.op.get(),
                header.thread.get(),
                header.seq.get(),
                result.err().map_or(0, |error| error.0),
                deferred,
                reply.len(),
            )
            .with(flags);
            let untaken =
                |error| End::broken(format_args!("the client does not take a reply: {error}"));
            if let Some((little, _turn)) = landed {
                self.write(&[&little, answer.as_bytes(), reply], None)
                    .map_err(untaken)?;
            } else {
                let reply = std::mem::take(reply);
                self.bulk.reply(answer, reply).map_err(End::broken)?;
            }
            if reply.capacity() > KEEP_REPLY {
                *reply = Vec::new();
            }
            self.report_usage();
        } else if let Err(error) = result {
            tracing::debug!(%error, call = call.name, "a one-way call failed");
            self.shared.defer(error);
        }
        Ok(())
    }

    /// A command whose bytes land later says now whether they may be compressed.
    fn note_landing(&self, header: Header) {
        let lands = matches!(
            header.op.get(),
            calls::op::rgpuBoxLand | calls::op::rgpuArrayLand
        );
        if lands && header.may_compress() {
            lock(&self.lands_compressed).insert(header.seq.get());
        }
    }

    /// Bytes for the client, if they go compressed.
    fn compressed(&self, may: bool, bytes: &[u8]) -> Option<Vec<u8>> {
        if !may || bytes.len() < compressed::LEAST || !lock(&self.attempts).is_due() {
            return None;
        }
        let packed = compressed::compress(bytes, &[]);
        lock(&self.attempts).note(packed.is_some());
        packed
    }

    /// Sends the bytes that have landed for the client's pinned memory, in order. The last of them are returned if they are little, to go with the reply in
    /// one write; until then nobody else's reply goes, which may tell of the same work.
    fn deliver(&self, thread: u32) -> Result<(Vec<u8>, MutexGuard<'_, ()>), End> {
        const LITTLE: usize = 4 << 10;
        let op = calls::op::rgpuBoxLand;
        let mut little = Vec::new();
        let send = |seq, landed: Result<&[u8], CudaError>| {
            let status = landed.err().map_or(0, |error| error.0);
            let bytes = landed.unwrap_or_default();
            let may_compress = lock(&self.lands_compressed).remove(&(seq & !LANDS_LATER));
            let packed = self.compressed(may_compress, bytes);
            let flags = packed.as_ref().map_or(0, |_| FLAG_COMPRESSED);
            let bytes = packed.as_deref().unwrap_or(bytes);
            let answer = Header::reply(op, thread, seq, status, 0, bytes.len()).with(flags);
            let bytes_out = size_of::<Header>() + bytes.len();
            let counter = &self.shared.counters.bytes_out;
            counter.fetch_add(bytes_out as u64, Ordering::Relaxed);
            if little.len() + bytes_out <= LITTLE {
                little.extend_from_slice(answer.as_bytes());
                little.extend_from_slice(bytes);
                return Ok(());
            }
            let written = self.write(&[&little, answer.as_bytes(), bytes], None);
            little.clear();
            written
        };
        let turn = self
            .shared
            .landings
            .deliver(&self.shared.driver, send)
            .map_err(|error| {
                End::broken(format_args!("the client does not take its bytes: {error}"))
            })?;
        Ok((little, turn))
    }

    /// Sends what kernels have printed.
    fn print(&self) -> Result<(), End> {
        for (on, printed) in Print::ALL.into_iter().zip(printed::take()) {
            let takes = on == Print::Stdout || self.takes_stderr;
            if printed.is_empty() || !takes {
                continue;
            }
            let counter = &self.shared.counters.bytes_out;
            let bytes_out = size_of::<Header>() + printed.len();
            counter.fetch_add(bytes_out as u64, Ordering::Relaxed);
            let header = Header::printed(on, printed.len());
            self.write(&[header.as_bytes(), &printed], None)
                .map_err(|error| {
                    End::broken(format_args!(
                        "the client does not take what is printed: {error}"
                    ))
                })?;
        }
        Ok(())
    }

    /// Writes whole frames. Gives up at the deadline; without one, when the session is over: its last frame has a deadline.
    fn write(&self, parts: &[&[u8]], deadline: Option<Instant>) -> io::Result<()> {
        let mut intact = lock(&self.intact);
        if !*intact || (deadline.is_none() && self.over.load(Ordering::Acquire)) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut sent = 0;
        while sent < len {
            let mut left = [IoSlice::new(&[]); 3];
            let mut before = sent;
            for (slice, part) in left.iter_mut().zip(parts) {
                *slice = IoSlice::new(&part[before.min(part.len())..]);
                before = before.saturating_sub(part.len());
            }
            match self.pipe.try_write_vectored(&left) {
                Ok(Progress::Bytes(count)) => sent += count,
                Ok(_) => {
                    let look = Instant::now() + WRITE_LOOK;
                    let waited = self.pipe.wait(
                        Interest::Write,
                        Some(deadline.map_or(look, |deadline| deadline.min(look))),
                    );
                    let give_up = match deadline {
                        Some(deadline) => Instant::now() >= deadline,
                        None => self.over.load(Ordering::Acquire),
                    };
                    match waited {
                        Ok(ready) if ready.timed_out() && give_up => {
                            *intact = sent == 0;
                            return Err(io::ErrorKind::TimedOut.into());
                        }
                        Ok(_) => {}
                        Err(error) => {
                            *intact = false;
                            return Err(error);
                        }
                    }
                }
                Err(error) => {
                    *intact = false;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn report_usage(&self) {
        let now = self.began.elapsed().as_millis() as u64;
        let last = self.reported.load(Ordering::Relaxed);
        if now.saturating_sub(last) < USAGE_EVERY.as_millis() as u64
            || self
                .reported
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        self.tell_usage();
    }

    fn tell_usage(&self) {
        if let Err(error) = self
            .control
            .send(&FromWorker::Usage(self.shared.usage()), None)
        {
            // The thread that reads from the broker learns of its end too.
            tracing::debug!(%error, "usage cannot be reported");
        }
    }

    /// Ends the session: tells the client and the broker why. Only the first end counts.
    pub fn finish(&self, end: End) {
        if self.over.swap(true, Ordering::AcqRel) {
            return;
        }
        if end.result == 0 {
            tracing::info!(reason = end.reason, "session ends");
        } else {
            tracing::warn!(result = end.result, reason = end.reason, "session ends");
        }
        let body = end.reason.as_bytes();
        let told = self.write(
            &[Header::ended(end.result, body.len()).as_bytes(), body],
            Some(Instant::now() + FAREWELL),
        );
        if let Err(error) = told {
            tracing::debug!(%error, "the client is not there to be told");
        }
        self.leave();
        if let Some(gates) = self.shared.gates.get() {
            gates.close();
        }
        self.tell_end(&end);
        // What the client has sent and nobody reads must not turn the farewell into a reset: end only this direction.
        let _ = self.pipe.shutdown_write();
        self.bulk.close();
        self.spare.close();
        for mailbox in lock(&self.threads).values() {
            mailbox.close();
        }
        self.shared.reaper.close();
        self.shared.hosts.close();
        if let Some(swap) = self.shared.swap.get() {
            swap.close();
        }
        *lock(&self.end) = Some(end);
        self.ended.notify_all();
    }

    fn tell_end(&self, end: &End) {
        let ended = FromWorker::Ended {
            result: end.result,
            reason: end.reason.clone(),
        };
        for message in [FromWorker::Usage(self.shared.usage()), ended] {
            if let Err(error) = self.control.send(&message, None) {
                tracing::debug!(%error, "the broker is not there to be told");
            }
        }
    }

    /// What later sessions need not send again.
    fn leave(&self) {
        let Some(Left { segment, used }) = self.shared.content.get().map(Contents::end) else {
            return;
        };
        let message = FromWorker::Left {
            used,
            kept: segment.is_some(),
        };
        if let Err(error) = self
            .control
            .send(&message, segment.as_ref().map(AsFd::as_fd))
        {
            tracing::debug!(%error, "what the session leaves is not taken");
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a panic without words"
    }
}

/// A panic ends this session, and says where.
fn guarded<T>(what: &str, body: impl FnOnce() -> T) -> Result<T, End> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
        End::broken(format_args!(
            "the worker broke in {what}: {}",
            panic_text(panic.as_ref())
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_sessions_end() {
        assert_eq!(guarded("cuName", || 5), Ok(5));
        let end = guarded("cuName", || panic!("number {}", 7)).unwrap_err();
        assert_eq!(end.result, 999);
        assert_eq!(end.reason, "the worker broke in cuName: number 7");
    }
}
