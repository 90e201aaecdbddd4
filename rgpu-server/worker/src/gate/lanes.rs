//! What is under way on one device, as far as it must be known: for each stream the places at which events of the gate's own tell how far it has come.

use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;
use std::ptr;
use std::time::{Duration, Instant};

use rgpu_proto::CudaError;

use super::busy::{Busy, Moment};
use super::cost::{Costs, Span, Work};
use crate::driver::Driver;

/// After so long an event is the new beginning of moments: they are f32 in the driver.
const REBASE_MS: f64 = 1000.0;
/// Events that are kept for the next marks.
const MOST_SPARE: usize = 256;
/// A stream that has been destroyed; no other has this number.
const GONE: usize = usize::MAX;
/// Streams that are kept apart; what goes to others is not followed.
const MOST_LANES: usize = 1024;

/// Why a stream may stand still at a mark although the device could go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    No,
    /// It waits for the program, or for somebody else.
    Surely,
    /// It does, if a function of the program's is under way.
    IfHost,
}

/// A place in a stream.
#[derive(Debug)]
struct Mark {
    event: usize,
    /// The work between the mark before and this one, where the device's time is the session's.
    span: Option<Span>,
    stand: Stand,
}

#[derive(Debug)]
pub struct Lane {
    pub stream: usize,
    /// The driver's, for who has another one current.
    pub context: usize,
    marks: VecDeque<Mark>,
    unmarked: Span,
    /// Since when there is something behind the last mark.
    unmarked_since: Option<Instant>,
    /// When the last mark was passed.
    passed: Option<Moment>,
    /// The last time at which it was known to have moved.
    moved: Instant,
}

impl Lane {
    fn is_idle(&self) -> bool {
        self.marks.is_empty() && self.unmarked.is_empty()
    }

    fn stands(&self, host_waits: bool) -> bool {
        self.marks.front().is_some_and(|mark| match mark.stand {
            Stand::No => false,
            Stand::Surely => true,
            Stand::IfHost => host_waits,
        })
    }

    fn nanos(&self) -> u64 {
        let marked = self.marks.iter().filter_map(|mark| mark.span.as_ref());
        let marked: u64 = marked.map(|span| span.nanos).sum();
        marked.saturating_add(self.unmarked.nanos)
    }
}

/// The time line of a context.
struct Line {
    base: usize,
    busy: Busy,
}

#[derive(Default)]
pub struct Lanes {
    pub costs: Costs,
    lanes: Vec<Lane>,
    lines: HashMap<usize, Line>,
    /// By context.
    spare: HashMap<usize, Vec<usize>>,
    used: Duration,
}

fn event(address: usize) -> *mut c_void {
    ptr::without_provenance_mut(address)
}

impl Lanes {
    /// Estimated nanoseconds of what the device has to do; what stands still is not counted.
    pub fn pending(&self, host_waits: bool) -> u64 {
        let lanes = self.lanes.iter().filter(|lane| !lane.stands(host_waits));
        lanes.map(Lane::nanos).sum()
    }

    pub fn is_idle(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Nothing is under way but what waits for something else than the device.
    pub fn rests(&self, host_waits: bool) -> bool {
        self.lanes.iter().all(|lane| lane.stands(host_waits))
    }

    pub fn stands(&self, stream: usize, host_waits: bool) -> bool {
        let lane = self.lanes.iter().find(|lane| lane.stream == stream);
        lane.is_some_and(|lane| lane.stands(host_waits))
    }

    /// The lane of a stream; `None` where there are too many.
    fn lane(&mut self, stream: usize, context: usize, now: Instant) -> Option<&mut Lane> {
        let same = |lane: &Lane| lane.stream == stream && lane.context == context;
        let at = match self.lanes.iter().position(same) {
            Some(at) => at,
            None if self.lanes.len() >= MOST_LANES => return None,
            None => {
                self.lanes.push(Lane {
                    stream,
                    context,
                    marks: VecDeque::new(),
                    unmarked: Span::default(),
                    unmarked_since: None,
                    passed: None,
                    moved: now,
                });
                self.lanes.len() - 1
            }
        };
        Some(&mut self.lanes[at])
    }

    /// Whether the next work on the stream begins a stretch of work, so that a mark comes before it.
    pub fn begins(&self, stream: usize, context: usize) -> bool {
        let same = |lane: &&Lane| lane.stream == stream && lane.context == context;
        self.lanes.iter().find(same).is_none_or(Lane::is_idle)
    }

    /// Work has been put on the stream. True: a mark is to follow.
    pub fn submitted(
        &mut self,
        stream: usize,
        context: usize,
        work: Work,
        each: u64,
        now: Instant,
    ) -> bool {
        let known = self.costs.estimate(work);
        let nanos = known.unwrap_or_else(|| self.costs.assumed(work));
        let Some(lane) = self.lane(stream, context, now) else {
            return false;
        };
        if lane.is_idle() {
            lane.moved = now;
        }
        lane.unmarked.add(work, nanos);
        lane.unmarked_since.get_or_insert(now);
        known.is_none() || lane.unmarked.nanos >= each
    }

    /// An event of the context that is current.
    pub fn event(&mut self, driver: &Driver, context: usize) -> Result<usize, CudaError> {
        if let Some(spare) = self.spare.get_mut(&context).and_then(Vec::pop) {
            return Ok(spare);
        }
        /// CU_EVENT_BLOCKING_SYNC: who waits sleeps.
        const BLOCKING: u32 = 1;
        let mut made = ptr::null_mut();
        // SAFETY: a place for the handle.
        unsafe { driver_call!(driver.cuEventCreate(&mut made, BLOCKING)) }?;
        Ok(made.addr())
    }

    /// The event has been recorded at the end of the stream. `stand`: the stream may stand still before it.
    pub fn marked(
        &mut self,
        stream: usize,
        context: usize,
        event: usize,
        stand: Stand,
        now: Instant,
    ) {
        let Some(lane) = self.lane(stream, context, now) else {
            self.keep(context, event);
            return;
        };
        let span = std::mem::take(&mut lane.unmarked);
        lane.unmarked_since = None;
        // A stretch in which the stream may stand still is nobody's time.
        let span = (!span.is_empty() && stand != Stand::Surely).then_some(span);
        lane.marks.push_back(Mark { event, span, stand });
    }

    /// No mark could be made: the stream is not followed any further.
    pub fn unmarkable(&mut self, stream: usize, context: usize, now: Instant) {
        if let Some(lane) = self.lane(stream, context, now) {
            lane.unmarked = Span::default();
            lane.unmarked_since = None;
        }
        self.lanes.retain(|lane| !lane.is_idle());
    }

    /// Streams with something behind their last mark, since before `before`.
    pub fn unmarked(&self, before: Instant) -> Vec<(usize, usize)> {
        let old = |lane: &&Lane| {
            lane.stream != GONE && lane.unmarked_since.is_some_and(|since| since <= before)
        };
        let lanes = self.lanes.iter().filter(old);
        lanes.map(|lane| (lane.stream, lane.context)).collect()
    }

    /// Whether something is behind the last mark of a stream.
    pub fn any_unmarked(&self) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.any(|lane| lane.unmarked_since.is_some())
    }

    /// The context and the event of a mark that the device comes to next.
    pub fn next(&self, host_waits: bool) -> Option<(usize, usize)> {
        let lanes = self.lanes.iter().filter(|lane| !lane.stands(host_waits));
        let mut marks = lanes.filter_map(|lane| Some((lane.context, lane.marks.front()?.event)));
        marks.next()
    }

    /// How long a stream has not moved that the device works for.
    pub fn still(&self, host_waits: bool, now: Instant) -> Duration {
        let lanes = self.lanes.iter().filter(|lane| !lane.stands(host_waits));
        let still = lanes.map(|lane| now.saturating_duration_since(lane.moved));
        still.max().unwrap_or_default()
    }

    /// Looks which marks have been passed; whether any has. `make_current` comes before events of a context are asked for.
    pub fn look(
        &mut self,
        driver: &Driver,
        mut make_current: impl FnMut(usize) -> bool,
        now: Instant,
    ) -> bool {
        let mut any = false;
        for at in 0..self.lanes.len() {
            let context = self.lanes[at].context;
            while let Some(mark) = self.lanes[at].marks.front() {
                if !make_current(context) {
                    break;
                }
                // SAFETY: an event of the gate's, whose context has not ended: its lanes leave before.
                let passed = unsafe { driver_call!(driver.cuEventQuery(event(mark.event))) };
                if passed == Err(CudaError::NOT_READY) {
                    break;
                }
                any = true;
                if let Some(mark) = self.lanes[at].marks.pop_front() {
                    self.pass(driver, at, mark, passed.is_ok());
                }
                self.lanes[at].moved = now;
            }
        }
        self.lanes.retain(|lane| !lane.is_idle());
        if self.lanes.is_empty() {
            self.end_lines();
        }
        any
    }

    /// A mark has been passed, well or with the context's error.
    fn pass(&mut self, driver: &Driver, at: usize, mark: Mark, well: bool) {
        let context = self.lanes[at].context;
        let base = self.lines.get(&context).map(|line| line.base);
        let moment = match base {
            None => Some(0.0),
            Some(base) => {
                let mut millis = 0_f32;
                // SAFETY: a place for the time; both events are the gate's, and lie behind the device.
                unsafe {
                    driver_call!(driver.cuEventElapsedTime(
                        &mut millis,
                        event(base),
                        event(mark.event)
                    ))
                }
                .ok()
                .map(|()| f64::from(millis))
            }
        };
        let Some(moment) = moment.filter(|_| well) else {
            self.lanes[at].passed = None;
            self.keep(context, mark.event);
            return;
        };
        let line = self.lines.entry(context).or_insert_with(|| Line {
            base: mark.event,
            busy: Busy::new(),
        });
        let mut from = self.lanes[at].passed;
        if let (Some(span), Some(from)) = (&mark.span, from) {
            line.busy.add(from, moment);
            self.used += line.busy.take();
            self.costs
                .learn(span, ((moment - from).max(0.0) * 1e6) as u64);
        }
        from = Some(moment);
        let is_base = base.is_none_or(|base| base == mark.event);
        let mut gone = (!is_base).then_some(mark.event);
        if moment > REBASE_MS {
            gone = Some(std::mem::replace(&mut line.base, mark.event));
            line.busy.rebase(moment);
            let same = |lane: &&mut Lane| lane.context == context;
            for lane in self.lanes.iter_mut().filter(same) {
                lane.passed = lane.passed.map(|passed| passed - moment);
            }
            from = Some(0.0);
        }
        self.lanes[at].passed = from;
        if let Some(gone) = gone {
            self.keep(context, gone);
        }
    }

    fn keep(&mut self, context: usize, event: usize) {
        let spare = self.spare.entry(context).or_default();
        if spare.len() < MOST_SPARE {
            spare.push(event);
        }
    }

    /// Nothing is under way: moments begin anew.
    fn end_lines(&mut self) {
        for (context, line) in std::mem::take(&mut self.lines) {
            self.keep(context, line.base);
        }
    }

    /// The stream is about to end, and is named no more; what it still has to do is seen to its end.
    pub fn end_stream(&mut self, stream: usize) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.stream == stream) {
            lane.stream = GONE;
            // Nothing can tell of its end any more.
            lane.unmarked = Span::default();
            lane.unmarked_since = None;
        }
    }

    /// The context is about to end, its streams and events with it.
    pub fn end_context(&mut self, context: usize) {
        self.lanes.retain(|lane| lane.context != context);
        self.lines.remove(&context);
        self.spare.remove(&context);
    }

    /// Takes out the device time that was used.
    pub fn take_used(&mut self) -> Duration {
        std::mem::take(&mut self.used)
    }

    pub fn used(&self) -> Duration {
        self.used
    }
}
