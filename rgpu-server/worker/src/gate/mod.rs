//! Work goes to a device only while the session holds the device's lease, which the broker grants.
//!
//! A session that is *alone* with a device keeps the lease until it is asked back: then the gate is two additions to a counter for each piece of work, and
//! nothing is recorded in streams. Where a device is *shared*, little is under way at once (a few milliseconds by estimate, or one long kernel), and events of the
//! gate's own in the streams tell how far the device has come: so a lease ends soon after it is to end, and the device time that it took is known exactly.
//!
//! What may never end is not waited for: a stream that stands at a function of the program's, a value, or another's event is at rest. Whatever lets it go on
//! takes a lease first.

mod busy;
mod cost;
mod lanes;
mod look;
mod play;

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rgpu_proto::CudaError;
use rgpu_proto::control::FromWorker;

pub use cost::{Key, Work};
pub use lanes::Stand;
pub use look::Overrun;
pub use play::play;

use crate::calls::capture;
use crate::driver::Driver;
use crate::handles::HandleTable;
use crate::hosts::HostCalls;
use crate::startup::Control;
use crate::state::State;
use lanes::Lanes;

/// A lease's length where others wait; the broker's.
const QUANTUM: Duration = Duration::from_millis(5);
/// Most estimated work under way on a shared device, in nanoseconds, unless a single piece is longer.
const MOST_PENDING: u64 = 6_000_000;
/// How much work, by estimate, is between two marks.
const MARK_EACH: u64 = 1_000_000;
/// How much longer than the lease its last work may take, by estimate.
const LATE: Duration = Duration::from_micros(500);

/// When what is under way and does not move may need what is kept back; sooner where streams may stand still.
const STUCK: Duration = Duration::from_secs(1);
const STANDS: Duration = Duration::from_millis(50);
const LOOK_STUCK: Duration = Duration::from_millis(20);

/// CU_STREAM_PER_THREAD: every thread's is another one.
const PER_THREAD: usize = 2;
/// No stream.
const NONE: usize = usize::MAX;

/// Of [`Word::state`]: who is between the gate and the driver, whether work may go on without a look, and how often work has come.
const ONE: u64 = 1;
const INSIDE: u64 = 0xffff;
const FREE: u64 = 1 << 16;
const COME: u64 = 1 << 20;

/// What is looked at for each piece of work.
struct Word {
    state: AtomicU64,
    /// Since when the device has had work that was put there without a look, in nanoseconds; 0: it has none.
    busy: AtomicU64,
    /// Where that went last.
    stream: AtomicUsize,
}

/// What the session has of a device.
#[derive(Clone, Copy, Debug)]
enum Lease {
    None,
    Held {
        /// When it is to end; `None`: it has not been asked back.
        ends: Option<Instant>,
        /// Others use the device too.
        shared: bool,
        /// It ends when what is under way is done; since when.
        closing: Option<Instant>,
    },
}

struct Device {
    lease: Lease,
    /// The broker has been told that a lease is wanted.
    wanted: bool,
    /// Threads that wait to put work on the device.
    waiting: usize,
    lanes: Lanes,
    /// Streams that work went to without a look, and their contexts.
    free: Vec<(usize, usize)>,
    /// How much work had come when it was looked at last.
    seen: u64,
    /// Since when nothing is under way.
    idle: Option<Instant>,
    /// Device time of this lease, and of those before.
    used: Duration,
    total: Duration,
}

struct Inner {
    devices: Vec<Device>,
    over: bool,
    /// The watching thread sleeps until it is woken.
    sleeps: bool,
    /// The context whose event the watching thread waits for; 0: none.
    waits_in: usize,
}

/// What the session may use of devices, and when.
pub struct Terms {
    pub devices: usize,
    /// Whether leases are asked for; if not, the session behaves as one that is alone.
    pub scheduled: bool,
    /// The longest that a kernel may take.
    pub limit: Option<Duration>,
}

pub struct Gates {
    driver: Arc<Driver>,
    handles: Arc<HandleTable>,
    hosts: Arc<HostCalls>,
    /// Of the session's: a stream may stand still.
    stands: Arc<AtomicBool>,
    /// The same, because of events of other sessions.
    foreign: AtomicBool,
    terms: Terms,
    control: OnceLock<Arc<Control>>,
    began: Instant,
    words: Box<[Word]>,
    inner: Mutex<Inner>,
    /// Something has changed for those who wait to put work on a device.
    moved: Condvar,
    /// Something has changed for the watching thread.
    news: Condvar,
}

/// A piece of work on its way to the driver. It is there when this is dropped.
#[must_use]
pub struct Turn<'a> {
    gates: &'a Gates,
    way: Way,
}

enum Way {
    /// It is no work of the device's.
    Aside,
    /// Nothing is noted but that it is on its way.
    Free {
        device: usize,
        stream: usize,
        waits: Option<u64>,
    },
    Followed {
        device: usize,
        stream: usize,
        context: usize,
        work: Work,
        stand: Stand,
    },
}

impl Gates {
    pub fn new(
        driver: Arc<Driver>,
        handles: Arc<HandleTable>,
        hosts: Arc<HostCalls>,
        stands: Arc<AtomicBool>,
        terms: Terms,
    ) -> Arc<Gates> {
        let lease = match terms.scheduled {
            true => Lease::None,
            false => Lease::Held {
                ends: None,
                shared: terms.limit.is_some(),
                closing: None,
            },
        };
        let free = !terms.scheduled && terms.limit.is_none();
        let word = || Word {
            state: AtomicU64::new(if free { FREE } else { 0 }),
            busy: AtomicU64::new(0),
            stream: AtomicUsize::new(NONE),
        };
        let device = || Device {
            lease,
            wanted: false,
            waiting: 0,
            lanes: Lanes::default(),
            free: Vec::new(),
            seen: 0,
            idle: None,
            used: Duration::ZERO,
            total: Duration::ZERO,
        };
        // Where a driver has no device, nothing is ever put on one.
        let count = terms.devices.max(1);
        Arc::new(Gates {
            driver,
            handles,
            hosts,
            stands,
            foreign: AtomicBool::new(false),
            terms,
            control: OnceLock::new(),
            began: Instant::now(),
            words: (0..count).map(|_| word()).collect(),
            inner: Mutex::new(Inner {
                devices: (0..count).map(|_| device()).collect(),
                over: false,
                sleeps: false,
                waits_in: 0,
            }),
            moved: Condvar::new(),
            news: Condvar::new(),
        })
    }

    /// Whom to ask for leases.
    pub fn connect(&self, control: Arc<Control>) {
        // A failed exchange: a session has one.
        let _ = self.control.set(control);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds that are never 0.
    fn nanos(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64 | 1
    }

    /// Streams may stand still for reasons that only the program, or others, can end.
    pub fn may_stand(&self) -> bool {
        self.stands.load(Ordering::Relaxed) || self.foreign.load(Ordering::Relaxed)
    }

    /// Nothing is under way on any device, as far as it is known here, and nothing stands still.
    pub fn rests(&self) -> bool {
        let inner = self.inner();
        let mut devices = inner.devices.iter().zip(self.words.iter());
        let at_rest = devices.all(|(it, word)| {
            let inside = word.state.load(Ordering::Acquire) & INSIDE;
            inside == 0 && word.busy.load(Ordering::Relaxed) == 0 && it.lanes.is_idle()
        });
        at_rest && !self.hosts.is_waiting()
    }

    /// The session waits for events of others from now on.
    pub fn expect_others(&self) {
        self.foreign.store(true, Ordering::Relaxed);
    }

    /// Wakes the watching thread, if it sleeps until it is woken.
    fn wake(&self, inner: &Inner) {
        if inner.sleeps {
            self.news.notify_one();
        }
    }

    /// Device time that the session has used, all in all.
    pub fn used(&self) -> Duration {
        let inner = self.inner();
        let of_one = |(at, device): (usize, &Device)| {
            let since = self.words[at].busy.load(Ordering::Relaxed);
            let free = match since {
                0 => Duration::ZERO,
                since => Duration::from_nanos(self.nanos().saturating_sub(since)),
            };
            device.total + device.used + device.lanes.used() + free
        };
        inner.devices.iter().enumerate().map(of_one).sum()
    }

    /// The session is over: nobody waits any more, nor sees the end of what is under way, which has used the device all the same.
    pub fn close(&self) {
        let host_waits = self.hosts.is_waiting();
        let now = Instant::now();
        let mut inner = self.inner();
        if !std::mem::replace(&mut inner.over, true) {
            for device in &mut inner.devices {
                device.total += look::under_way(device, host_waits, now);
            }
        }
        drop(inner);
        self.moved.notify_all();
        self.news.notify_all();
    }

    // Playing threads.

    /// Waits until this work may go to the device of the current context. `waits`: the call returns when the stream is done.
    pub fn enter(
        &self,
        state: &State,
        stream: *mut c_void,
        work: Work,
        waits: bool,
    ) -> Result<Turn<'_>, CudaError> {
        let device = self.device(state);
        let stream = stream.addr();
        let word = &self.words[device];
        let before = word.state.fetch_add(ONE | COME, Ordering::AcqRel);
        if before & FREE != 0 && stream != PER_THREAD {
            let known = word.stream.load(Ordering::Relaxed) == stream;
            if !known || word.busy.load(Ordering::Relaxed) == 0 {
                let context = state.handles.current();
                self.touch(&mut self.inner(), device, stream, context);
            }
            let waits = waits.then_some(before / COME + 1);
            let way = Way::Free {
                device,
                stream,
                waits,
            };
            return Ok(Turn { gates: self, way });
        }
        self.leave(device);
        self.enter_followed(state, device, stream, work, waits)
    }

    fn device(&self, state: &State) -> usize {
        match self.words.len() {
            1 => 0,
            count => (state.device() as usize).min(count - 1),
        }
    }

    /// Notes where work goes that is not followed.
    fn touch(&self, inner: &mut Inner, device: usize, stream: usize, context: usize) {
        let word = &self.words[device];
        word.stream.store(stream, Ordering::Relaxed);
        let it = &mut inner.devices[device];
        if !it.free.contains(&(stream, context)) {
            it.free.push((stream, context));
        }
        it.idle = None;
        if word.busy.load(Ordering::Relaxed) == 0 {
            word.busy.store(self.nanos(), Ordering::Relaxed);
            self.wake(inner);
        }
    }

    /// One less is on its way. Whoever ends the lease waits for that.
    fn leave(&self, device: usize) {
        let before = self.words[device].state.fetch_sub(ONE, Ordering::AcqRel);
        if before & FREE == 0 && before & INSIDE == 1 {
            // Under the lock: it may be about to wait.
            let inner = self.inner();
            let closing = matches!(
                inner.devices[device].lease,
                Lease::Held {
                    closing: Some(_),
                    ..
                }
            );
            if closing {
                self.news.notify_one();
            }
        }
    }

    fn enter_followed(
        &self,
        state: &State,
        device: usize,
        stream: usize,
        work: Work,
        waits: bool,
    ) -> Result<Turn<'_>, CudaError> {
        let handle: *mut c_void = std::ptr::without_provenance_mut(stream);
        if capture::graph_of(state, handle).is_some() {
            return Ok(Turn {
                gates: self,
                way: Way::Aside,
            });
        }
        let context = state.handles.current();
        let word = &self.words[device];
        let mut inner = self.inner();
        loop {
            if inner.over {
                return Err(CudaError::DEINITIALIZED);
            }
            let now = Instant::now();
            let it = &mut inner.devices[device];
            match it.lease {
                Lease::Held {
                    shared: false,
                    closing: None,
                    ..
                } if stream != PER_THREAD => {
                    let come = word.state.fetch_add(ONE | COME, Ordering::AcqRel) / COME + 1;
                    self.touch(&mut inner, device, stream, context);
                    let waits = waits.then_some(come);
                    let way = Way::Free {
                        device,
                        stream,
                        waits,
                    };
                    return Ok(Turn { gates: self, way });
                }
                Lease::Held { ends, closing, .. } => {
                    let host_waits = self.hosts.is_waiting();
                    let room = || it.has_room(stream, work, ends, host_waits, now);
                    if (closing.is_none() && room()) || self.is_stuck(it, host_waits, now) {
                        break;
                    }
                }
                Lease::None => self.want(it, device),
            }
            inner = self.wait(inner, device);
        }
        word.state.fetch_add(ONE | COME, Ordering::AcqRel);
        let it = &mut inner.devices[device];
        it.idle = None;
        let begins = it.lanes.begins(stream, context);
        drop(inner);
        if begins {
            self.mark(device, stream, context, Stand::No);
        }
        let stand = Stand::No;
        let way = Way::Followed {
            device,
            stream,
            context,
            work,
            stand,
        };
        Ok(Turn { gates: self, way })
    }

    /// Waits until something has moved on the device, or nothing has for a while.
    fn wait<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        device: usize,
    ) -> MutexGuard<'a, Inner> {
        inner.devices[device].waiting += 1;
        self.news.notify_one();
        let waited = self.moved.wait_timeout(inner, LOOK_STUCK);
        let mut inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        inner.devices[device].waiting -= 1;
        inner
    }

    /// What is under way has not moved for so long that it may need what is to come: kernels may wait for others'. That goes on then, whatever the lease
    /// says, and the time is the session's.
    fn is_stuck(&self, it: &Device, host_waits: bool, now: Instant) -> bool {
        let most = match self.may_stand() {
            true => STANDS,
            false => STUCK,
        };
        let closing = match it.lease {
            Lease::Held { closing, .. } => closing,
            Lease::None => None,
        };
        let still = closing.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        still.max(it.lanes.still(host_waits, now)) >= most
    }

    /// Tells the broker, once.
    fn want(&self, it: &mut Device, device: usize) {
        if it.wanted {
            return;
        }
        it.wanted = true;
        self.tell(&FromWorker::Want {
            device: device as u32,
        });
    }

    fn tell(&self, message: &FromWorker) {
        let told = self
            .control
            .get()
            .map(|control| control.send(message, None));
        if let Some(Err(error)) = told {
            // The thread that reads from the broker learns of its end too.
            tracing::debug!(%error, "the broker is not told of a lease");
        }
    }

    /// Records an event of the gate's at the end of the stream, in the context that is current.
    fn mark(&self, device: usize, stream: usize, context: usize, stand: Stand) {
        let event = self.inner().devices[device]
            .lanes
            .event(&self.driver, context);
        let recorded = event.and_then(|event| {
            let (at, stream) = (address(event), address(stream));
            // SAFETY: the gate's own event, and a stream of the driver's.
            unsafe { driver_call!(self.driver.cuEventRecord(at, stream)) }.map(|()| event)
        });
        let mut inner = self.inner();
        let lanes = &mut inner.devices[device].lanes;
        match recorded {
            Ok(event) => lanes.marked(stream, context, event, stand, Instant::now()),
            Err(error) => {
                tracing::debug!(%error, "a stream is not followed");
                lanes.unmarkable(stream, context, Instant::now());
            }
        }
        // Otherwise who waits for it looks, or has it looked at.
        if self.terms.limit.is_some() {
            self.wake(&inner);
        }
    }

    /// The work is with the driver.
    fn submitted(&self, device: usize, stream: usize, context: usize, work: Work, stand: Stand) {
        // What others cannot record at, or might be kept at, is marked here and now.
        let here = stream <= PER_THREAD || self.may_stand() || stand != Stand::No;
        let each = match here {
            true => 0,
            false => MARK_EACH,
        };
        let marks = {
            let lanes = &mut self.inner().devices[device].lanes;
            lanes.submitted(stream, context, work, each, Instant::now())
        };
        if marks {
            self.mark(device, stream, context, stand);
        }
    }

    /// Puts something on a stream at which that may stand still.
    pub fn stand<T>(
        &self,
        state: &State,
        stream: *mut c_void,
        stand: Stand,
        put: impl FnOnce() -> T,
    ) -> T {
        let device = self.device(state);
        let is_free = self.words[device].state.load(Ordering::Acquire) & FREE != 0;
        if (is_free && stream.addr() != PER_THREAD) || capture::graph_of(state, stream).is_some() {
            return put();
        }
        let context = state.handles.current();
        self.mark(device, stream.addr(), context, Stand::No);
        let done = put();
        self.mark(device, stream.addr(), context, stand);
        done
    }

    /// Ahead of a call that waits for a stream (`None`: for the current context), or that destroys it: what it waits for has an end that is seen.
    fn mark_ends(&self, state: &State, stream: Option<usize>) {
        let device = self.device(state);
        if self.words[device].state.load(Ordering::Acquire) & FREE != 0 {
            return;
        }
        let context = state.handles.current();
        let unmarked = match &self.inner().devices[device].lanes {
            lanes if !lanes.any_unmarked() => return,
            lanes => lanes.unmarked(Instant::now()),
        };
        for (at, of) in unmarked {
            // A default stream has been marked with each piece of work.
            if of == context
                && stream.is_none_or(|stream| stream == at)
                && !self.handles.is_capturing()
            {
                self.mark(device, at, of, Stand::No);
            }
        }
    }

    /// A call has waited for this stream (`None`: for all of the context), after so much work had come.
    fn waited(&self, state: &State, stream: Option<usize>, come: u64) {
        let device = self.device(state);
        self.waited_on(device, stream, state.handles.current(), come);
    }

    fn waited_on(&self, device: usize, stream: Option<usize>, context: usize, come: u64) {
        let word = &self.words[device];
        let state = word.state.load(Ordering::Acquire);
        if state & FREE == 0 {
            self.look_now(device, context);
            return;
        }
        if word.busy.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut inner = self.inner();
        let it = &mut inner.devices[device];
        let done =
            |(at, of): &(usize, usize)| *of == context && stream.is_none_or(|stream| stream == *at);
        // Nothing has come since.
        if word.state.load(Ordering::Acquire) / COME == come && it.free.iter().all(done) {
            self.rest(it, device);
        }
    }

    /// What was put on the device without a look is done.
    fn rest(&self, it: &mut Device, device: usize) {
        let word = &self.words[device];
        it.free.clear();
        word.stream.store(NONE, Ordering::Relaxed);
        let since = word.busy.swap(0, Ordering::Relaxed);
        if since != 0 {
            it.used += Duration::from_nanos(self.nanos().saturating_sub(since));
        }
        it.idle = Some(Instant::now());
    }

    /// Looks how far the device has come, in a thread in which the context is current whose work was waited for.
    fn look_now(&self, device: usize, context: usize) {
        // A question would break a capture of this thread's.
        if self.handles.is_capturing() {
            return;
        }
        let mut inner = self.inner();
        let it = &mut inner.devices[device];
        if it.lanes.is_idle() {
            return;
        }
        // Others' events are looked at by the thread that watches.
        let now = Instant::now();
        let any = it.lanes.look(&self.driver, |of| of == context, now);
        if it.lanes.is_idle() {
            it.idle.get_or_insert(now);
        }
        drop(inner);
        if any {
            self.moved.notify_all();
        }
    }

    /// Whether work goes to the device without a look.
    fn is_free(&self, state: &State) -> bool {
        self.words[self.device(state)].state.load(Ordering::Acquire) & FREE != 0
    }

    /// What a call that waits does with the gate.
    pub fn waiting<T>(
        &self,
        state: &State,
        stream: Option<*mut c_void>,
        wait: impl FnOnce() -> Result<T, CudaError>,
    ) -> Result<T, CudaError> {
        let stream = stream.map(|stream| stream.addr());
        self.mark_ends(state, stream);
        let word = &self.words[self.device(state)];
        let come = word.state.load(Ordering::Acquire) / COME;
        let waited = wait()?;
        self.waited(state, stream, come);
        Ok(waited)
    }

    /// An event is recorded in the stream: who waits for that will have it that what is before it has ended.
    pub fn recorded(&self, state: &State, stream: *mut c_void) {
        self.mark_ends(state, Some(stream.addr()));
    }

    /// The stream is about to be destroyed. Nobody asks for it after this.
    pub fn end_stream(&self, state: &State, stream: *mut c_void) {
        self.mark_ends(state, Some(stream.addr()));
        let mut inner = self.inner();
        for (at, it) in inner.devices.iter_mut().enumerate() {
            it.lanes.end_stream(stream.addr());
            it.free.retain(|(known, _)| *known != stream.addr());
            let word = &self.words[at];
            let _ = word.stream.compare_exchange(
                stream.addr(),
                NONE,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    /// While this lives, the watching thread asks for no stream: one is about to capture. The gate is not used meanwhile.
    pub fn quiet(&self) -> Quiet<'_> {
        Quiet {
            _inner: self.inner(),
        }
    }

    /// Lets a stream go on that stands still: it may use the device.
    pub fn let_go(&self, device: u32, go: impl FnOnce()) {
        let device = (device as usize).min(self.words.len() - 1);
        let word = &self.words[device];
        let before = word.state.fetch_add(ONE | COME, Ordering::AcqRel);
        if before & FREE == 0 {
            self.leave(device);
            let mut inner = self.inner();
            while !inner.over {
                let now = Instant::now();
                let it = &mut inner.devices[device];
                match it.lease {
                    Lease::Held { ends, closing, .. } => {
                        let open = closing.is_none() && ends.is_none_or(|ends| now < ends);
                        if open || self.is_stuck(it, true, now) {
                            break;
                        }
                    }
                    Lease::None => self.want(it, device),
                }
                inner = self.wait(inner, device);
            }
            inner.devices[device].idle = None;
            word.state.fetch_add(ONE | COME, Ordering::AcqRel);
        }
        go();
        self.leave(device);
    }

    /// Another executable graph may be at this address later.
    pub fn forget(&self, key: Key) {
        for it in &mut self.inner().devices {
            it.lanes.costs.forget(key);
        }
    }
}

/// See [`Gates::quiet`].
pub struct Quiet<'a> {
    _inner: MutexGuard<'a, Inner>,
}

impl Device {
    /// Whether the work may go to a shared device now: by what is under way, and by what is left of the lease.
    fn has_room(
        &self,
        stream: usize,
        work: Work,
        ends: Option<Instant>,
        host_waits: bool,
        now: Instant,
    ) -> bool {
        if ends.is_some_and(|ends| now >= ends) {
            return false;
        }
        // What is behind something that stands still does not use the device, and must not keep back what lets it go on.
        if self.lanes.stands(stream, host_waits) {
            return true;
        }
        let pending = self.lanes.pending(host_waits);
        if pending == 0 {
            return true;
        }
        let nanos = pending.saturating_add(self.lanes.costs.assumed(work));
        let late = |ends: Instant| now + Duration::from_nanos(nanos) > ends + LATE;
        nanos <= MOST_PENDING && !ends.is_some_and(late)
    }
}

fn address(address: usize) -> *mut c_void {
    std::ptr::without_provenance_mut(address)
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let gates = self.gates;
        match self.way {
            Way::Aside => {}
            Way::Free {
                device,
                stream,
                waits,
            } => {
                if let Some(come) = waits {
                    let context = gates.context_of(device, stream);
                    gates.waited_on(device, Some(stream), context, come);
                }
                gates.leave(device);
            }
            Way::Followed {
                device,
                stream,
                context,
                work,
                stand,
            } => {
                gates.submitted(device, stream, context, work, stand);
                gates.leave(device);
            }
        }
    }
}

impl Turn<'_> {
    /// The stream may stand still within this work, at a function of the program's.
    pub fn has_hosts(&mut self) {
        if let Way::Followed { stand, .. } = &mut self.way {
            *stand = Stand::IfHost;
        }
    }
}

impl Gates {
    /// The context in which work went to the stream last.
    fn context_of(&self, device: usize, stream: usize) -> usize {
        let inner = self.inner();
        let free = &inner.devices[device].free;
        let known = free.iter().find(|(at, _)| *at == stream);
        known.map_or(0, |(_, context)| *context)
    }
}

/// A context's events that are about to go with it.
pub struct Leaving {
    gates: Arc<Gates>,
    context: usize,
}

impl Gates {
    /// The context is about to end. What is returned is to be dropped when its work is done, and before it ends.
    pub fn end_context(self: &Arc<Gates>, context: *mut c_void) -> Leaving {
        let context = context.addr();
        let mut inner = self.inner();
        for (at, it) in inner.devices.iter_mut().enumerate() {
            it.lanes.end_context(context);
            let before = it.free.len();
            it.free.retain(|(_, of)| *of != context);
            if before > 0 && it.free.is_empty() {
                self.rest(it, at);
            }
        }
        drop(inner);
        self.moved.notify_all();
        Leaving {
            gates: self.clone(),
            context,
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut inner = self.gates.inner();
        while inner.waits_in == self.context && !inner.over {
            // It is about to return: the work is done.
            let waited = self.gates.moved.wait(inner);
            inner = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
