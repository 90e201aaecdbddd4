//! A session with one server: the connection, and the mirror of what the worker holds.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use rgpu_proto::CudaError;
use rgpu_proto::calls;
use rgpu_proto::handshake::{Hello, Limits, Purpose, Welcome, credit_parts};
use rgpu_transport::{GreetError, greet};
use rustc_hash::FxHashMap;
use zerocopy::IntoBytes;

use crate::ahead::{Ahead, Place};
use crate::arrays::Arrays;
use crate::bulk::Connection;
use crate::calls::context::Contexts;
use crate::calls::graph::Graphs;
use crate::calls::green::Greens;
use crate::calls::linker::Links;
use crate::calls::memory::Memory;
use crate::calls::module::Modules;
use crate::calls::texture::Objects;
use crate::compression::Compression;
use crate::config::Config;
use crate::content::Contents;
use crate::control::{Control, Way};
use crate::device::Devices;
use crate::finished::{self, Finished};
use crate::greeting::{CONNECT, Greeting};
use crate::handles::{Handles, mark, server_of};
use crate::references::References;
use crate::shared::{self, SharedMemory};
use crate::staging::Staging;
use crate::standing::Standing;
use crate::stats::Stats;
use crate::wire::{Command, Lost, Sent, Verdict, Wire};
use crate::{ipc, log, process, thread, trace};

pub use crate::wire::Sink;

pub struct Session {
    /// Its place among the process's sessions, which its ids tell.
    pub number: usize,
    wire: Wire,
    pub handles: Handles,
    pub devices: Devices,
    /// What need not be sent again.
    pub content: Contents,
    pub limits: Limits,
    pub memory: Mutex<Memory>,
    /// What host and device share; taken before the lock of `memory`, and held while it moves.
    shared: Mutex<SharedMemory>,
    /// Whether there is any.
    shares: AtomicBool,
    pub modules: Mutex<Modules>,
    arrays: Mutex<Arrays>,
    objects: Mutex<Objects>,
    references: Mutex<References>,
    links: Mutex<Links>,
    pub contexts: Mutex<Contexts>,
    /// Primary contexts by the contexts that stand for their green ones.
    bases: RwLock<FxHashMap<u64, u64>>,
    greens: Mutex<Greens>,
    pub graphs: Mutex<Graphs>,
    pub standing: Standing,
    pub finished: Finished,
    pub ahead: Ahead,
    pub staging: Mutex<Staging>,
    /// Held while a primary context begins or ends, on both sides.
    primaries: Mutex<()>,
    /// Held while memory of another process is opened.
    opening: Mutex<()>,
    /// Whether other processes have handles of this one's, or this one has opened theirs.
    others: AtomicBool,
    /// As the server counts its sessions.
    pub served_as: u64,
    pub stats: Arc<Stats>,
    server: String,
    launch_blocking: bool,
    /// Number of the last command that nobody waited for.
    work: AtomicU64,
    /// All commands up to this number are done.
    done: AtomicU64,
    /// The first error of a one-way command that the program has not been told yet, 0 for none.
    deferred: AtomicU32,
    /// The sticky error of the session's contexts, 0 for none.
    fault: AtomicU32,
    /// What every call returns since the connection is gone, 0 while it is not.
    gone: OnceLock<CudaError>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Greeting {
    /// Attaches the control connection. `slots`: for each device of the program the server's ordinal, if it is this server's.
    pub fn begin(
        self,
        config: &Config,
        number: usize,
        slots: &[Option<usize>],
        stats: Arc<Stats>,
    ) -> Session {
        let Greeting {
            endpoint,
            pipe,
            leftover,
            welcome,
            version,
            windows: proposed,
            moved,
        } = self;
        stats.moved(moved);
        let Welcome {
            session,
            secret,
            snapshot,
            limits,
            windows,
            known,
            ..
        } = welcome;
        let purpose = Purpose::Control { session, secret };
        let way = Way::beside(&pipe, &endpoint, &purpose, number);
        let control = match greet(&endpoint, &Hello::about(purpose), CONNECT) {
            Ok(greeted) => {
                stats.moved(greeted.moved);
                Control::new(greeted.pipe, &greeted.leftover, way)
            }
            Err(error) => {
                log::error(&format!("{error}; going on without a control connection"));
                let is_refused = matches!(error, GreetError::Refused { .. });
                Control::absent(way.filter(|_| !is_refused))
            }
        };
        process::remember_sockets(number, &pipe);
        control.remember(number);
        let devices = Devices::new(snapshot, slots);
        let spare = proposed[windows.len().min(proposed.len())..].to_vec();
        let credit: Vec<u64> = credit_parts(limits.memory_credit, version).collect();
        let memory = Memory::new(devices.slots(), &windows, spare, &credit, mark(number));
        log::info(|| {
            let names: Vec<&str> = devices
                .iter()
                .map(|device| device.snapshot.name.as_str())
                .collect();
            format!("{endpoint}: session {session}: {}", names.join(", "))
        });
        let bulk = Connection::new(endpoint.clone(), &pipe, version, number, (session, secret));
        let compression = Compression::new(
            config.compression,
            &pipe,
            version,
            !endpoint.is_local(),
            stats.clone(),
        );
        let waits = 1 + u64::from(control.is_attached());
        stats.connect_waits.fetch_add(waits, Ordering::Relaxed);
        Session {
            number,
            wire: Wire::new(pipe, leftover, bulk, control, compression),
            content: Contents::new(known),
            handles: Handles::of(number),
            contexts: Mutex::new(Contexts::new(devices.count())),
            bases: RwLock::default(),
            greens: Mutex::default(),
            primaries: Mutex::default(),
            opening: Mutex::default(),
            others: AtomicBool::new(false),
            served_as: session,
            devices,
            limits,
            memory: Mutex::new(memory),
            shared: Mutex::default(),
            shares: AtomicBool::new(false),
            modules: Mutex::default(),
            arrays: Mutex::default(),
            objects: Mutex::default(),
            references: Mutex::default(),
            graphs: Mutex::default(),
            standing: Standing::default(),
            finished: Finished::default(),
            ahead: Ahead::default(),
            staging: Mutex::default(),
            links: Mutex::default(),
            stats,
            server: endpoint.to_string(),
            launch_blocking: config.launch_blocking,
            work: AtomicU64::new(0),
            done: AtomicU64::new(0),
            deferred: AtomicU32::new(0),
            fault: AtomicU32::new(0),
            gone: OnceLock::new(),
        }
    }
}

impl Session {
    /// The calling thread's current context, 0 for none of this server's.
    pub fn context(&self) -> u64 {
        let current = thread::context();
        if server_of(current) == self.number {
            current
        } else {
            0
        }
    }

    /// What memory, code and events belong to that the calling thread makes: of a green context the primary one.
    pub fn owner(&self) -> u64 {
        self.base_of(self.context())
    }

    /// The primary context of a green one's, or the context itself.
    pub fn base_of(&self, context: u64) -> u64 {
        let bases = self.bases.read().unwrap_or_else(PoisonError::into_inner);
        bases.get(&context).copied().unwrap_or(context)
    }

    pub fn set_base(&self, context: u64, base: Option<u64>) {
        let mut bases = self.bases.write().unwrap_or_else(PoisonError::into_inner);
        match base {
            Some(base) => bases.insert(context, base),
            None => bases.remove(&context),
        };
    }

    /// The error that makes every call fail: the connection is gone.
    pub fn gone(&self) -> Option<CudaError> {
        self.gone.get().copied()
    }

    /// The sticky error of the session's contexts.
    pub fn fault(&self) -> Result<(), CudaError> {
        CudaError::check(self.fault.load(Ordering::Relaxed))
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    pub fn modules(&self) -> MutexGuard<'_, Modules> {
        lock(&self.modules)
    }

    pub fn arrays(&self) -> MutexGuard<'_, Arrays> {
        lock(&self.arrays)
    }

    /// Texture and surface objects.
    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        lock(&self.objects)
    }

    /// Texture and surface references.
    pub fn references(&self) -> MutexGuard<'_, References> {
        lock(&self.references)
    }

    pub fn links(&self) -> MutexGuard<'_, Links> {
        lock(&self.links)
    }

    /// Retaining and releasing primary contexts, one at a time; taken before every other lock.
    pub fn primaries_turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.primaries)
    }

    /// Opening memory of other processes, one at a time; taken before every other lock.
    pub fn opening_turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.opening)
    }

    /// From now on other processes may count on what this one has done.
    pub fn note_others(&self) {
        self.others.store(true, Ordering::Release);
    }

    pub fn graphs(&self) -> MutexGuard<'_, Graphs> {
        lock(&self.graphs)
    }

    pub fn greens(&self) -> MutexGuard<'_, Greens> {
        lock(&self.greens)
    }

    pub fn contexts(&self) -> MutexGuard<'_, Contexts> {
        lock(&self.contexts)
    }

    /// Host and device have this memory both, from now on.
    pub fn share(&self, host: u64, device: u64, bytes: u64) {
        let mut shared = lock(&self.shared);
        shared.add(host, device, bytes, self.context());
        self.shares.store(true, Ordering::Release);
    }

    /// The same for a variable of a module's or a library's, where the driver has it.
    pub fn share_variable(&self, at: u64, bytes: u64, owner: u64) -> Result<(), CudaError> {
        let mut shared = lock(&self.shared);
        shared.add_variable(self, at, bytes, owner)?;
        self.shares.store(true, Ordering::Release);
        Ok(())
    }

    /// The same, where the device's bytes are any: all of the host's are news to it.
    pub fn share_news(&self, host: u64, device: u64, bytes: u64) {
        let mut shared = lock(&self.shared);
        shared.add_news(host, device, bytes, thread::context());
        self.shares.store(true, Ordering::Release);
    }

    pub fn unshare(&self, device: u64) -> Option<shared::Range> {
        let mut shared = lock(&self.shared);
        let range = shared.remove(device);
        self.shares.store(!shared.is_empty(), Ordering::Release);
        range
    }

    /// Takes out what a context, a module or a library shared.
    pub fn end_shared(&self, owner: u64) -> Vec<shared::Range> {
        let mut shared = lock(&self.shared);
        let ranges = shared.end(owner);
        self.shares.store(!shared.is_empty(), Ordering::Release);
        ranges
    }

    /// Whether host and device share what is at this address of the device's.
    pub fn shares_at(&self, device: u64) -> bool {
        self.shares.load(Ordering::Acquire) && lock(&self.shared).holds(device)
    }

    fn shares_now(&self) -> bool {
        self.shares.load(Ordering::Acquire) && !self.standing.is_capturing()
    }

    /// Before work that may read what the host has written. What is captured runs later, and these copies would break the capture.
    pub fn before_work(&self) -> Result<(), CudaError> {
        match self.shares_now() {
            true => lock(&self.shared).flush(self),
            false => Ok(()),
        }
    }

    /// What was sent last may write what the host reads later.
    pub fn note_change(&self) {
        if self.shares.load(Ordering::Acquire) {
            lock(&self.shared).changed(self.sent());
        }
    }

    /// The program hears of the end of work: of all up to a command, or of some.
    pub fn after_wait(&self, all_before: Option<u64>) -> Result<(), CudaError> {
        match self.shares_now() {
            true => lock(&self.shared).fetch(self, all_before),
            false => Ok(()),
        }
    }

    /// Sends a command that nobody waits for; its error comes with a later reply.
    pub fn one_way(&self, op: u16, args: &[u8], segments: &[&[u8]]) -> Result<(), CudaError> {
        let works = shared::is_work(op);
        if works {
            self.before_work()?;
        }
        let sent = self.send(op, args, segments);
        if works {
            self.note_change();
            if self.launch_blocking {
                self.after_wait(None)?;
            }
        }
        sent
    }

    fn send(&self, op: u16, args: &[u8], segments: &[&[u8]]) -> Result<(), CudaError> {
        let command = Command {
            op,
            thread: thread::number(),
            context: self.context(),
            args,
            segments,
            descriptor: None,
        };
        let sent = self
            .wire
            .send(&command, || self.is_at_once() || self.is_seen(op))
            .map_err(|lost| self.explain(lost))?;
        let (seq, bytes, asked) = match sent {
            Sent::Not => {
                let result = self.call(op, args, segments, &mut [], Sink::None);
                self.note_work();
                self.finished.note(op, args, self.sent());
                return result;
            }
            Sent::Written { seq, bytes } => (seq, bytes, None),
            Sent::Asked { ticket, bytes } => (ticket.number(), bytes, Some(ticket)),
        };
        self.stats.count(op);
        self.work.fetch_max(seq, Ordering::Relaxed);
        self.finished.note(op, args, seq);
        self.moved(bytes, 0);
        log::debug(|| format!("{}: {bytes} bytes", name(op)));
        match asked {
            Some(ticket) => {
                self.stats.waits.fetch_add(1, Ordering::Relaxed);
                self.finish(ticket)?;
                self.tell_deferred()
            }
            None => Ok(()),
        }
    }

    /// A command has gone out, and its reply, if there is one, will have so many bytes.
    fn moved(&self, sent: usize, expected: usize) {
        self.stats.moved((sent, expected));
        trace::moved(sent, expected);
    }

    /// Whether every command waits for its reply.
    fn is_at_once(&self) -> bool {
        self.launch_blocking
            || thread::is_at_once()
            || self.standing.is_needed(self.done.load(Ordering::Relaxed))
    }

    /// Whether each such command waits for its reply.
    pub fn is_at_once_for(&self, op: u16) -> bool {
        self.is_at_once() || self.is_seen(op)
    }

    /// Whether another process may count on it that the server has played such a command.
    fn is_seen(&self, op: u16) -> bool {
        self.others.load(Ordering::Acquire) && ipc::is_seen(op)
    }

    /// Sends a command whose reply's bytes land at this address by the time that the program hears of the end of its work.
    ///
    /// # Safety
    /// The place is there until [`Self::lands_in`] denies it, or [`Self::forget_landings`] has been called for it.
    pub unsafe fn land(
        &self,
        op: u16,
        args: &[u8],
        address: u64,
        bytes: usize,
    ) -> Result<(), CudaError> {
        self.stats.count(op);
        let command = Command {
            op,
            thread: thread::number(),
            context: self.context(),
            args,
            segments: &[],
            descriptor: None,
        };
        let (seq, sent, ticket) = self
            .wire
            .expect(&command, address, bytes, || self.is_at_once())
            .map_err(|lost| self.explain(lost))?;
        self.work.fetch_max(seq, Ordering::Relaxed);
        self.moved(sent, rgpu_proto::frame::HEADER_LEN + bytes);
        match ticket {
            Some(ticket) => self.finish(ticket),
            None => Ok(()),
        }
    }

    /// Whether so many more bytes may be on their way to this address, where nobody waits for them.
    pub fn may_land(&self, address: u64, bytes: u64) -> bool {
        /// Less than half of what the server has room for, in powers of two.
        const MOST: u64 = 24 << 20;
        /// Of those that are looked at one by one.
        const MOST_LATER: usize = 512;
        if self.launch_blocking || thread::is_at_once() || self.standing.is_capturing() {
            return false;
        }
        let landings = self.wire.landings(address, bytes);
        // They are ordered among each other only if all have host functions behind them.
        let unordered = landings.any_later_there || landings.any_there && self.is_at_once();
        !unordered && landings.bytes + bytes <= MOST && landings.later < MOST_LATER
    }

    pub fn lands_in(&self, address: u64, bytes: u64) -> bool {
        self.wire.lands_in(address, bytes)
    }

    pub fn forget_landings(&self, address: u64, bytes: u64) {
        self.wire.forget_landings(address, bytes);
    }

    /// A command that was waited for has given a stream something to do.
    pub fn note_work(&self) {
        self.work.fetch_max(self.wire.last(), Ordering::Relaxed);
    }

    /// What is sent from now on comes behind the command of this number.
    pub fn sent(&self) -> u64 {
        self.wire.last()
    }

    /// Whether all that was sent, in every context, is done. Only what the calling thread, and threads before it, have sent can be asked for so.
    pub fn is_idle(&self) -> bool {
        self.work.load(Ordering::Relaxed) <= self.done.load(Ordering::Relaxed)
    }

    /// Every command up to this number is done, in all contexts.
    pub fn note_done(&self, seq: u64) {
        self.done.fetch_max(seq, Ordering::Relaxed);
    }

    /// Whether streams stand until the program, or the client for it, does something.
    pub fn stands(&self) -> bool {
        self.standing
            .waits_for_host(self.done.load(Ordering::Relaxed))
    }

    /// Keeps the error of earlier work for the next call that may tell it.
    pub fn defer(&self, error: CudaError) {
        let _ = self
            .deferred
            .compare_exchange(0, error.0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Tells the error of an earlier one-way command, once.
    pub fn tell_deferred(&self) -> Result<(), CudaError> {
        CudaError::check(self.deferred.swap(0, Ordering::Relaxed))
    }

    /// Sends a command and waits for its reply. The error of an earlier one-way command comes out here.
    pub fn call(
        &self,
        op: u16,
        args: &[u8],
        segments: &[&[u8]],
        reply: &mut [u8],
        sink: Sink<'_>,
    ) -> Result<(), CudaError> {
        let subject = finished::subject(op, args, self.context(), thread::number());
        let (work, sent) = (self.work.load(Ordering::Relaxed), self.sent());
        if subject.is_some_and(|subject| self.tells_nothing_new(subject, work)) {
            return self.tell_deferred();
        }
        let all_before = (op == calls::op::rgpuContextSynchronize && self.contexts().count() <= 1)
            .then_some(sent);
        self.call_making(op, args, segments, reply, sink)?;
        if shared::is_wait(op) {
            crate::calls::graph_host::deliver(self)?;
            self.after_wait(all_before)?;
        }
        if let Some(subject) = subject {
            self.finished.learn(subject, work, sent);
        }
        self.tell_deferred()
    }

    /// Waits for the current context's work, and reads with that what the program will probably copy out next. `only`: there is no other context.
    pub fn wait_for_context(&self, only: bool) -> Result<(), CudaError> {
        let op = calls::op::rgpuContextSynchronize;
        let expected = if only { self.reads_ahead() } else { None };
        let Some(place) = expected else {
            self.call(op, &[], &[], &mut [], Sink::None)?;
            self.ahead.waited(self.sent(), None);
            return Ok(());
        };
        self.tell_unused();
        let sent = self.sent();
        let mut data = vec![0; place.bytes];
        let args = calls::rgpuCopyOutArgs {
            src: place.at.into(),
            bytes: (place.bytes as u64).into(),
            stream: 0.into(),
            sync: 1.into(),
        };
        let wait = self.request(op, &[], &[], &mut [], Sink::None)?;
        let sink = Sink::Exact(&mut data);
        let copy_out = calls::op::rgpuCopyOut;
        let copy = self.request(copy_out, args.as_bytes(), &[], &mut [], sink);
        self.stats.waits.fetch_add(1, Ordering::Relaxed);
        let waited = self.finish(wait);
        // Always waited for, since it writes; what the program has not asked for it is not told of.
        let copied = copy.and_then(|copy| {
            let number = copy.number();
            self.finish(copy).map(|()| number)
        });
        waited?;
        match copied {
            Ok(number) => self.ahead.waited(number, Some((place, data))),
            Err(_) => self.ahead.waited(self.sent(), None),
        }
        crate::calls::graph_host::deliver(self)?;
        self.after_wait(Some(sent))?;
        self.tell_deferred()
    }

    /// What to read with the next wait for the context.
    fn reads_ahead(&self) -> Option<Place> {
        let place = self.ahead.expected()?;
        let alone = !self.shares.load(Ordering::Acquire) && !self.others.load(Ordering::Acquire);
        // Behind a wait of this thread's nobody hears what another thread sends, which the wait may be for.
        let alone = alone && !thread::are_many();
        let may = self.wire.is_far() && alone && !self.is_at_once();
        (may && self.memory().is_allocated(place.at, place.bytes as u64)).then_some(place)
    }

    /// Whether it is known that this is done, and nothing could have come with the answer.
    fn tells_nothing_new(&self, subject: finished::Subject, work: u64) -> bool {
        !self.shares.load(Ordering::Acquire)
            && !self.others.load(Ordering::Acquire)
            && !self.standing.results.load(Ordering::Acquire)
            && !self.is_at_once()
            && self.finished.knows(subject, work)
    }

    /// As [`Self::call`], for a command that makes something: its result is its own, so that both sides agree on what there is; an
    /// earlier command's error is kept for the next call.
    pub fn call_making(
        &self,
        op: u16,
        args: &[u8],
        segments: &[&[u8]],
        reply: &mut [u8],
        sink: Sink<'_>,
    ) -> Result<(), CudaError> {
        self.tell_unused();
        let began = log::enabled(log::Level::Debug).then(Instant::now);
        let ticket = self.request(op, args, segments, reply, sink)?;
        self.stats.waits.fetch_add(1, Ordering::Relaxed);
        let result = self.finish(ticket);
        if let Some(began) = began {
            let code = result.err().map_or(0, |error| error.0);
            log::debug(|| format!("{}: result {code} after {:.1?}", name(op), began.elapsed()));
        }
        result
    }

    /// Tells the server what changed about memory that the program does not use, so that whoever watches sees what the program sees.
    fn tell_unused(&self) {
        // Whoever holds the lock changes it now, and tells it with its next call.
        let Ok(mut memory) = self.memory.try_lock() else {
            return;
        };
        for (device, bytes) in memory.untold() {
            let args = calls::rgpuMemoryUnusedArgs {
                device: device.into(),
                bytes: bytes.into(),
            };
            // It is no work that anyone could wait for, and a lost connection shows at the call that follows.
            let _ = self.wire.send(
                &Command {
                    op: calls::op::rgpuMemoryUnused,
                    thread: thread::number(),
                    context: self.context(),
                    args: args.as_bytes(),
                    segments: &[],
                    descriptor: None,
                },
                || false,
            );
        }
    }

    /// Sends a command whose reply [`Session::finish`] waits for.
    pub fn request<'a>(
        &self,
        op: u16,
        args: &[u8],
        segments: &[&[u8]],
        reply: &'a mut [u8],
        sink: Sink<'a>,
    ) -> Result<crate::wire::Ticket<'a>, CudaError> {
        self.request_with(op, args, segments, None, reply, sink)
    }

    /// Sends a command with a descriptor, and waits. Only where [`Session::passes_descriptors`].
    pub fn call_with(
        &self,
        op: u16,
        args: &[u8],
        descriptor: BorrowedFd<'_>,
    ) -> Result<(), CudaError> {
        self.stats.waits.fetch_add(1, Ordering::Relaxed);
        let ticket = self.request_with(op, args, &[], Some(descriptor), &mut [], Sink::None)?;
        self.finish(ticket)
    }

    pub fn passes_descriptors(&self) -> bool {
        self.wire.passes_descriptors()
    }

    fn request_with<'a>(
        &self,
        op: u16,
        args: &[u8],
        segments: &[&[u8]],
        descriptor: Option<BorrowedFd<'_>>,
        reply: &'a mut [u8],
        sink: Sink<'a>,
    ) -> Result<crate::wire::Ticket<'a>, CudaError> {
        self.stats.count(op);
        let expected = reply.len()
            + if let Sink::Exact(bytes) = &sink {
                bytes.len()
            } else {
                0
            };
        let command = Command {
            op,
            thread: thread::number(),
            context: self.context(),
            args,
            segments,
            descriptor,
        };
        let (ticket, bytes) = self
            .wire
            .request(&command, reply, sink)
            .map_err(|lost| self.explain(lost))?;
        log::debug(|| format!("{}: {bytes} bytes, answer expected", name(op)));
        self.moved(bytes, rgpu_proto::frame::HEADER_LEN + expected);
        Ok(ticket)
    }

    /// Waits for the reply; its own result.
    pub fn finish(&self, ticket: crate::wire::Ticket<'_>) -> Result<(), CudaError> {
        let Verdict {
            status,
            deferred,
            collected,
        } = trace::waiting(|| self.wire.wait(ticket)).map_err(|lost| self.explain(lost))?;
        if collected > 0 {
            self.moved(0, collected);
        }
        for code in [status, deferred] {
            if CudaError(code).is_sticky() {
                let _ = self
                    .fault
                    .compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
        if deferred != 0 {
            self.defer(CudaError(deferred));
        }
        CudaError::check(status)
    }

    /// Turns a broken connection into the error that every later call returns, and says once what happened.
    fn explain(&self, lost: Lost) -> CudaError {
        *self.gone.get_or_init(|| {
            let (result, reason) = match lost {
                Lost::Ended { result, reason } => (result, reason),
                Lost::Broken(what) => match self.wire.last_words() {
                    Some((result, reason)) => (result, reason),
                    None => (
                        0,
                        self.wire.why_lost().unwrap_or_else(|| {
                            format!("{what}; is rgpud still running there, and the network up?")
                        }),
                    ),
                },
            };
            log::error(&format!("{}: the session is over: {reason}", self.server));
            if result == 0 {
                CudaError::DEVICE_UNAVAILABLE
            } else {
                CudaError(result)
            }
        })
    }
}

/// A command's name, for the log.
fn name(op: u16) -> &'static str {
    calls::info(op).map_or("?", |call| call.name)
}
