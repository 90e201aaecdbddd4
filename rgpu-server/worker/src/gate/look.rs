//! The thread that watches how far devices have come, and ends leases.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rgpu_proto::CudaError;
use rgpu_proto::control::FromWorker;

use super::lanes::Stand;
use super::{COME, Device, FREE, Gates, INSIDE, Inner, Lease, PER_THREAD, QUANTUM, address};

/// How often the thread looks whether a device is still at work that nobody waits for: alone, and with a lease that others wait for.
const LOOK_ALONE: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_micros(250);
/// How long a device may do nothing before a lease ends that others wait for: a program that goes on at once keeps it.
const IDLE: Duration = Duration::from_micros(300);
/// When what is behind the last mark of a stream gets one.
const MARK_AFTER: Duration = Duration::from_millis(1);
/// How long streams that may stand still are waited for.
const PATIENCE: Duration = Duration::from_millis(10);
/// After so long beyond its end a lease is one of several: the device is shared out by itself, and everything takes longer.
const OVERDUE: Duration = Duration::from_millis(50);
/// How often it is looked whether a kernel takes too long.
const LOOK_LIMIT: Duration = Duration::from_millis(1);

const RELAXED: u32 = 2;

/// A kernel has taken longer than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    pub limit: Duration,
}

/// What the thread does next.
#[derive(Clone, Copy)]
enum Next {
    Sleep,
    At(Instant),
    /// Waits for an event of a context.
    Event(usize, usize),
}

impl Next {
    fn sooner(self, other: Next) -> Next {
        match (self, other) {
            (Next::Sleep, other) | (other, Next::Sleep) => other,
            (Next::At(one), Next::At(other)) => Next::At(one.min(other)),
            // Several devices: none is waited for alone.
            _ => Next::At(Instant::now() + LOOK),
        }
    }
}

/// Which context is current in this thread.
struct Current(usize);

impl Current {
    fn make(&mut self, gates: &Gates, context: usize) -> bool {
        if self.0 == context {
            return true;
        }
        // SAFETY: a context of the driver's that has not ended: its lanes leave before.
        let made = unsafe { driver_call!(gates.driver.cuCtxSetCurrent(address(context))) };
        self.0 = match made {
            Ok(()) => context,
            Err(_) => 0,
        };
        made.is_ok()
    }
}

impl Gates {
    /// The broker grants a lease: for so long, or until it is asked back.
    pub fn granted(&self, device: u32, slice: Option<Duration>, shared: bool) {
        let mut inner = self.inner();
        let at = device as usize;
        let Some(it) = inner.devices.get_mut(at) else {
            return;
        };
        it.wanted = false;
        it.lease = Lease::Held {
            ends: slice.map(|slice| Instant::now() + slice),
            shared: shared || self.terms.limit.is_some(),
            closing: None,
        };
        it.idle = Some(Instant::now());
        if !shared && self.terms.limit.is_none() {
            self.words[at].state.fetch_or(FREE, Ordering::AcqRel);
        }
        drop(inner);
        self.moved.notify_all();
        self.news.notify_one();
    }

    /// The broker asks for the lease: when nothing is to do, or so much time has passed.
    pub fn asked(&self, device: u32, within: Duration) {
        let mut inner = self.inner();
        let Some(it) = inner.devices.get_mut(device as usize) else {
            return;
        };
        if let Lease::Held {
            ends,
            shared,
            closing,
        } = &mut it.lease
        {
            let now = Instant::now();
            // What is under way without being followed may be a lot: the lease ends as soon as it can.
            let within = if *shared { within } else { Duration::ZERO };
            let wanted = now + within;
            *ends = Some(ends.map_or(wanted, |before| before.min(wanted)));
            if within.is_zero() {
                closing.get_or_insert(now);
                self.words[device as usize]
                    .state
                    .fetch_and(!FREE, Ordering::AcqRel);
            }
        }
        // One that has just been given back is not asked for again.
        drop(inner);
        self.news.notify_one();
    }

    /// The broker is gone, and nobody says whose turn it is. The session keeps what it has, and the rest is for all, with little under way at once.
    pub fn orphaned(&self) {
        if !self.terms.scheduled {
            return;
        }
        let mut inner = self.inner();
        for (at, it) in inner.devices.iter_mut().enumerate() {
            let shared = match it.lease {
                Lease::Held { shared, .. } => shared,
                Lease::None => true,
            };
            it.wanted = false;
            it.lease = Lease::Held {
                ends: None,
                shared,
                closing: None,
            };
            it.idle = Some(Instant::now());
            if !shared {
                self.words[at].state.fetch_or(FREE, Ordering::AcqRel);
            }
        }
        drop(inner);
        self.moved.notify_all();
        self.news.notify_one();
    }

    /// Another broker has come, which knows of no lease: what is held ends, and with that it hears what is wanted. Nothing is asked for before: what it
    /// grants must not cross the end of what it has not granted.
    pub fn adopted(&self) {
        if !self.terms.scheduled {
            return;
        }
        let now = Instant::now();
        let mut inner = self.inner();
        for (at, it) in inner.devices.iter_mut().enumerate() {
            if let Lease::Held { ends, closing, .. } = &mut it.lease {
                *ends = Some(now);
                closing.get_or_insert(now);
                self.words[at].state.fetch_and(!FREE, Ordering::AcqRel);
            }
        }
        drop(inner);
        self.news.notify_one();
    }

    /// Watches until the session is over, or a kernel has taken too long.
    pub fn watch(&self) -> Option<Overrun> {
        let mut mode = RELAXED;
        // SAFETY: the mode is read and written. A question would break a capture of another thread's otherwise.
        let _ = unsafe { driver_call!(self.driver.cuThreadExchangeStreamCaptureMode(&mut mode)) };
        let mut current = Current(0);
        let mut inner = self.inner();
        loop {
            if inner.over {
                return None;
            }
            let mut next = Next::Sleep;
            for at in 0..inner.devices.len() {
                match self.look_at(&mut inner, at, &mut current) {
                    Ok(then) => next = next.sooner(then),
                    Err(overrun) => return Some(overrun),
                }
            }
            match next {
                Next::Sleep => {
                    inner.sleeps = true;
                    let woken = self.news.wait(inner);
                    inner = woken.unwrap_or_else(PoisonError::into_inner);
                    inner.sleeps = false;
                }
                Next::At(at) => {
                    let time = at.saturating_duration_since(Instant::now());
                    let woken = self.news.wait_timeout(inner, time);
                    inner = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Event(context, event) => {
                    inner.waits_in = context;
                    drop(inner);
                    if current.make(self, context) {
                        // SAFETY: the gate's own event; its context does not end while it is waited for here.
                        let _ =
                            unsafe { driver_call!(self.driver.cuEventSynchronize(address(event))) };
                    }
                    inner = self.inner();
                    inner.waits_in = 0;
                    self.moved.notify_all();
                }
            }
            // A context that ends while this thread does not look may have its address used again.
            current.0 = 0;
        }
    }

    fn look_at(
        &self,
        inner: &mut Inner,
        at: usize,
        current: &mut Current,
    ) -> Result<Next, Overrun> {
        let host_waits = self.hosts.is_waiting();
        let now = Instant::now();
        let it = &mut inner.devices[at];
        let make_current = |context| current.make(self, context);
        let any = !it.lanes.is_idle() && it.lanes.look(&self.driver, make_current, now);
        if any {
            self.moved.notify_all();
        }
        self.check_limit(it, host_waits, now)?;
        let is_inside = self.words[at].state.load(Ordering::Acquire) & INSIDE != 0;
        let is_free = self.words[at].busy.load(Ordering::Relaxed) != 0;
        if it.lanes.rests(host_waits) && !is_inside && !is_free {
            it.idle.get_or_insert(now);
        } else {
            it.idle = None;
        }
        match it.lease {
            Lease::None => Ok(self.without_lease(it, at, host_waits, now)),
            Lease::Held {
                ends,
                closing: None,
                shared,
            } => {
                let over = ends.is_some_and(|ends| now >= ends);
                let idle = it.idle.is_some_and(|since| now >= since + IDLE) && it.waiting == 0;
                if over || (ends.is_some() && idle) {
                    self.words[at].state.fetch_and(!FREE, Ordering::AcqRel);
                    it.lease = Lease::Held {
                        ends,
                        shared,
                        closing: Some(now),
                    };
                    return self.look_at(inner, at, current);
                }
                let next = self.follow(it, at, host_waits, now, current);
                let idle_ends = it.idle.filter(|_| ends.is_some() && it.waiting == 0);
                let idle_ends = idle_ends.map(|since| Next::At(since + IDLE));
                // While an event is waited for nothing else is to be done: the lease cannot end before the event.
                Ok(match (next, ends) {
                    (Next::Event(..), _) => next,
                    (next, Some(ends)) => next
                        .sooner(Next::At(ends))
                        .sooner(idle_ends.unwrap_or(Next::Sleep)),
                    (next, None) => next,
                })
            }
            Lease::Held {
                closing: Some(since),
                ..
            } => Ok(self.close_lease(it, at, since, host_waits, now, current)),
        }
    }

    /// What a kernel may take at most. One that takes longer is not seen to its end: it has used the device until now.
    fn check_limit(&self, it: &mut Device, host_waits: bool, now: Instant) -> Result<(), Overrun> {
        let Some(limit) = self.terms.limit else {
            return Ok(());
        };
        match under_way(it, host_waits, now) > limit {
            true => Err(Overrun { limit }),
            false => Ok(()),
        }
    }

    /// While the lease is held: when to look again.
    fn follow(
        &self,
        it: &mut Device,
        at: usize,
        host_waits: bool,
        now: Instant,
        current: &mut Current,
    ) -> Next {
        let word = &self.words[at];
        if word.state.load(Ordering::Acquire) & FREE != 0 {
            let since = word.busy.load(Ordering::Relaxed);
            let is_old = since != 0 && self.nanos() - since > LOOK_ALONE.as_nanos() as u64 / 2;
            if is_old && self.ask_streams(it, at, current) {
                self.rest(it, at);
            }
            // Only one who has done nothing for a while has to wake this thread when it goes on.
            let come = word.state.load(Ordering::Acquire) / COME;
            let before = std::mem::replace(&mut it.seen, come);
            let next = match since != 0 || come != before {
                true => Next::At(now + LOOK_ALONE),
                false => Next::Sleep,
            };
            // Threads' own default streams are followed all the same.
            return match it.lanes.is_idle() {
                true => next,
                false => next.sooner(Next::At(now + LOOK)),
            };
        }
        self.mark_old(it, now.checked_sub(MARK_AFTER).unwrap_or(now), current);
        self.next_mark(it, host_waits, now)
    }

    fn next_mark(&self, it: &Device, host_waits: bool, now: Instant) -> Next {
        let next = match it.lanes.next(host_waits) {
            Some(_) if self.terms.limit.is_some() => Next::At(now + LOOK_LIMIT),
            Some(_) if self.may_stand() => Next::At(now + LOOK),
            Some((context, event)) => return Next::Event(context, event),
            None => Next::Sleep,
        };
        match it.lanes.any_unmarked() {
            true => next.sooner(Next::At(now + MARK_AFTER)),
            false if !it.lanes.is_idle() => next.sooner(Next::At(now + LOOK)),
            false => next,
        }
    }

    /// Puts marks at the ends of streams that have none and to which nothing has come lately.
    fn mark_old(&self, it: &mut Device, before: Instant, current: &mut Current) {
        if self.handles.is_capturing() {
            return;
        }
        for (stream, context) in it.lanes.unmarked(before) {
            // Where it could be kept, it is the playing thread that marks.
            if stream <= PER_THREAD || self.may_stand() || !current.make(self, context) {
                continue;
            }
            let event = it.lanes.event(&self.driver, context);
            let recorded = event.and_then(|event| {
                // SAFETY: the gate's own event, and a stream that does not end while the gate is locked.
                unsafe { driver_call!(self.driver.cuEventRecord(address(event), address(stream))) }
                    .map(|()| event)
            });
            let now = Instant::now();
            match recorded {
                Ok(event) => it.lanes.marked(stream, context, event, Stand::No, now),
                Err(_) => it.lanes.unmarkable(stream, context, now),
            }
        }
    }

    /// Whether all streams that work was put on without a look are done.
    fn ask_streams(&self, it: &mut Device, at: usize, current: &mut Current) -> bool {
        if self.handles.is_capturing() {
            return false;
        }
        let word = &self.words[at].state;
        let come = word.load(Ordering::Acquire);
        for (stream, context) in it.free.clone() {
            if !current.make(self, context) {
                continue;
            }
            // SAFETY: a stream that does not end while the gate is locked.
            let done = unsafe { driver_call!(self.driver.cuStreamQuery(address(stream))) };
            if done == Err(CudaError::NOT_READY) {
                return false;
            }
        }
        // Nothing is on its way, and nothing has come since.
        come & INSIDE == 0 && word.load(Ordering::Acquire) == come
    }

    /// The lease is to end: it does when the device has done what it was given.
    fn close_lease(
        &self,
        it: &mut Device,
        at: usize,
        since: Instant,
        host_waits: bool,
        now: Instant,
        current: &mut Current,
    ) -> Next {
        let tired = self.may_stand() && now >= since + PATIENCE;
        let is_inside = self.words[at].state.load(Ordering::Acquire) & INSIDE != 0;
        if self.words[at].busy.load(Ordering::Relaxed) != 0 {
            let unknown = self.handles.is_capturing();
            if tired || unknown || self.ask_streams(it, at, current) {
                self.rest(it, at);
            } else {
                return Next::At(now + LOOK);
            }
        }
        self.mark_old(it, now, current);
        let rests = it.lanes.rests(host_waits)
            || (self.handles.is_capturing() && it.lanes.next(host_waits).is_none());
        if (is_inside && !tired) || !rests {
            return match self.next_mark(it, host_waits, now) {
                Next::Sleep => Next::At(now + LOOK),
                // Of those that are on their way nothing is heard while an event is waited for, which comes first.
                next => next,
            };
        }
        let used = it.used + it.lanes.take_used();
        it.used = Duration::ZERO;
        it.total += used;
        it.lease = Lease::None;
        it.wanted = it.waiting > 0;
        self.tell(&FromWorker::Yielded {
            device: at as u32,
            used_us: used.as_micros() as u64,
            wants: it.wanted,
        });
        self.without_lease(it, at, host_waits, now)
    }

    /// What stood still when the lease ended, and goes on by itself, wants one.
    fn without_lease(&self, it: &mut Device, at: usize, host_waits: bool, now: Instant) -> Next {
        if it.lanes.is_idle() {
            return Next::Sleep;
        }
        if !it.lanes.rests(host_waits) {
            self.want(it, at);
        }
        Next::At(now + QUANTUM)
    }
}

/// What the device has done so far of what it is at.
pub(super) fn under_way(it: &Device, host_waits: bool, now: Instant) -> Duration {
    let beside_others = match it.lease {
        Lease::Held {
            ends: Some(ends), ..
        } => now.saturating_duration_since(ends + OVERDUE),
        _ => Duration::ZERO,
    };
    let still = it.lanes.still(host_waits, now);
    still.saturating_sub(beside_others / 2)
}
