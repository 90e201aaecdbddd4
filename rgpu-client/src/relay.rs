//! What happens between two servers, in the order of a stream: a wait for an event of the other's, and copies. The client does it, since the
//! servers do not know each other.
//!
//! At the call, as a rule: the thread waits for what comes before, and then does it. Where streams stand until the program does something (runs a
//! function, writes a value), what comes before may wait for this very thread. Then the stream is held by a value in its device's
//! memory, which a thread of the client's writes when it is done; the call returns at once.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};

use rgpu_proto::CudaError;
use rgpu_proto::frame::MAX_BULK;

use crate::area::{Area, Side};
use crate::calls::memory::{Found, Owner, Place, allocate_for};
use crate::calls::{capture, context, host, memop, stream};
use crate::handles::Kind;
use crate::heap::Tag;
use crate::session::Session;
use crate::transfer::{When, copy_in, copy_out, ordered};
use crate::{log, send, servers, thread};

const NON_BLOCKING: u32 = 1;
const NO_TIMING: u32 = 2;
/// Streams that are held at a time. Beyond it calls wait, as they do when a driver's queue is full.
const MOST_HOLDS: usize = 32;

/// Nothing of two servers can be captured. The driver says so, and ends the capture as it does at any such call.
pub fn refuse_capture(session: &Session, stream: u64) -> Result<(), CudaError> {
    if capture::status(session, stream)? == capture::NONE {
        return Ok(());
    }
    log::error(
        "a capture is of one server: waits for another's events, and copies between servers, cannot be captured",
    );
    send::cuStreamSynchronize(session, stream)?;
    Err(CudaError::STREAM_CAPTURE_UNSUPPORTED)
}

/// Whether a wait at the call might be one for the calling thread.
fn must_hold() -> bool {
    let all = servers::existing().map_or(&[][..], |servers| servers.all());
    all.iter().any(Session::stands)
}

/// Makes a stream wait for an event of another server's, which is not over.
pub fn wait(
    session: &Session,
    stream: u64,
    other: &'static Session,
    owner: u64,
    event: u64,
) -> Result<(), CudaError> {
    let Some(hold) = must_hold()
        .then(|| Hold::new(session, stream))
        .transpose()?
        .flatten()
    else {
        return thread::within(owner, || send::cuEventSynchronize(other, event));
    };
    // As the event is now: the program may record it anew.
    let point = Point::new(other, owner, |lane| {
        send::cuStreamWaitEvent(other, lane, event, 0)
    });
    hold.run(move || point?.reach())
}

/// A place in a stream that can be waited for.
struct Point {
    session: &'static Session,
    context: u64,
    event: u64,
}

impl Point {
    /// Behind what `lead` puts into a stream of its own.
    fn new(
        session: &'static Session,
        context: u64,
        lead: impl FnOnce(u64) -> Result<(), CudaError>,
    ) -> Result<Point, CudaError> {
        let lane = Lane::new(session, context)?;
        thread::within(context, || lead(lane.stream))?;
        Point::at(session, context, lane.stream)
    }

    fn at(session: &'static Session, context: u64, stream: u64) -> Result<Point, CudaError> {
        let event = session.handles.make(Kind::Event, context);
        thread::within(context, || {
            send::cuEventCreate(session, event, NO_TIMING)?;
            send::cuEventRecord(session, event, stream)
        })?;
        Ok(Point {
            session,
            context,
            event,
        })
    }

    fn reach(self) -> Result<(), CudaError> {
        thread::within(self.context, || {
            let reached = send::cuEventSynchronize(self.session, self.event);
            if self
                .session
                .handles
                .consume(Kind::Event, self.event)
                .is_ok()
            {
                send::cuEventDestroy_v2(self.session, self.event)?;
            }
            reached
        })
    }
}

/// A stream of the client's that waits for no other.
struct Lane {
    session: &'static Session,
    context: u64,
    stream: u64,
}

impl Lane {
    fn new(session: &'static Session, context: u64) -> Result<Lane, CudaError> {
        let stream = session.handles.make(Kind::Stream, context);
        let made = thread::within(context, || {
            send::cuStreamCreate(session, stream, NON_BLOCKING)
        });
        let lane = Lane {
            session,
            context,
            stream,
        };
        made.map(|()| lane)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self
            .session
            .handles
            .consume(Kind::Stream, self.stream)
            .is_ok()
        {
            let (session, stream) = (self.session, self.stream);
            // The session may be over: then the stream is, too.
            let _ = thread::within(self.context, || send::cuStreamDestroy_v2(session, stream));
        }
    }
}

/// Holds by the contexts of their streams.
static HOLDS: Mutex<Option<HashMap<u64, usize>>> = Mutex::new(None);
static RELEASED: Condvar = Condvar::new();

fn holds() -> MutexGuard<'static, Option<HashMap<u64, usize>>> {
    HOLDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no stream of a context's is held: it is about to end.
pub fn settle(context: u64) {
    let mut held = holds();
    while held
        .as_ref()
        .is_some_and(|held| held.contains_key(&context))
    {
        held = RELEASED.wait(held).unwrap_or_else(PoisonError::into_inner);
    }
}

/// A stream that will stand until the client has done something.
struct Hold {
    session: &'static Session,
    stream: u64,
    context: u64,
}

impl Hold {
    /// `None` if there are too many.
    fn new(session: &Session, stream: u64) -> Result<Option<Hold>, CudaError> {
        let owner = session.base_of(stream::context_of(session, stream)?);
        let session = servers::lasting(session)?;
        let mut held = holds();
        let held = held.get_or_insert_default();
        if held.values().sum::<usize>() >= MOST_HOLDS {
            return Ok(None);
        }
        *held.entry(owner).or_default() += 1;
        Ok(Some(Hold {
            session,
            stream,
            context: owner,
        }))
    }

    /// The stream goes on when `work` is done, on a thread of its own. Its error is told as one of earlier work.
    fn run(
        self,
        work: impl FnOnce() -> Result<(), CudaError> + Send + 'static,
    ) -> Result<(), CudaError> {
        let (session, context) = (self.session, self.context);
        let device = context::device_of(session, context)? as usize;
        let (lane, held) = (Lane::new(session, context)?, self.stream);
        let flag = thread::within(context, || {
            let at = allocate_for(session, device, context, 4, Tag::default())?;
            // In a stream that no other keeps back.
            send::rgpuMemset(session, at, 4, 0, 1, lane.stream, 0)?;
            send::cuStreamSynchronize(session, lane.stream)?;
            Ok(at)
        })?;
        let (go, stands) = mpsc::channel();
        let body = move || {
            if stands.recv().is_err() {
                return;
            }
            if let Err(error) = work() {
                log::error(&format!("between servers: {error}"));
                session.defer(error);
            }
            thread::within(context, || {
                // If that fails, the session is over.
                let one = 1_u32.to_le_bytes();
                let _ = send::rgpuCopyIn(session, flag, lane.stream, 0, &one);
                let _ = session.memory().free_now(session, flag);
            });
            drop((lane, self));
        };
        thread::spawn("rgpu-relay", body)?;
        memop::wait_for(session, held, flag)?;
        // It waits for nothing else.
        let _ = go.send(());
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = holds();
        let counts = held.get_or_insert_default();
        if let Some(count) = counts.get_mut(&self.context) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.context);
            }
        }
        RELEASED.notify_all();
    }
}

/// Where the device has one side of a copy.
#[derive(Clone, Copy)]
struct End {
    session: &'static Session,
    context: u64,
}

/// The sides of a copy that is not one server's alone; `None` is the program's memory.
#[derive(Clone, Copy)]
pub struct Ends {
    to: Option<End>,
    from: Option<End>,
}

/// A context in which that memory can be copied.
fn context_of(session: &Session, found: &Found) -> Result<u64, CudaError> {
    let (device, known) = match found.owner {
        Owner::Allocated {
            device, context, ..
        }
        | Owner::Imported {
            device, context, ..
        } => (Some(device as i32), context),
        Owner::Mapped { device, .. } => (Some(device as i32), 0),
        Owner::Variable { owner, .. } => (None, session.handles.home(owner)),
        Owner::Host { context, .. } => (None, context),
    };
    let contexts = session.contexts();
    let on_device = |context: &u64| device.is_none() || contexts.device(*context) == device;
    match contexts.check(known) {
        Ok(()) => Ok(known),
        // Memory of a pool's, and what the program has mapped, are their device's; that of graphs is nobody's.
        Err(_) => contexts
            .all()
            .into_iter()
            .find(on_device)
            .ok_or(CudaError::INVALID_CONTEXT),
    }
}

/// Where one side is. `named`: the context that the call names for it, 0 for none.
fn end(
    session: &Session,
    area: &Area,
    side: &Side,
    place: Place,
    named: u64,
) -> Result<Option<End>, CudaError> {
    if side.is_array() {
        let owner = servers::of_id(side.array).ok_or(CudaError::INVALID_HANDLE)?;
        let context = owner.arrays().context(side.array)?;
        return Ok(Some(End {
            session: owner,
            context,
        }));
    }
    let first = match named {
        0 => session,
        context => servers::of_id(context).unwrap_or(session),
    };
    let reach = area.reach(side)?;
    let Some((owner, found)) = servers::find(first, side.at) else {
        session.memory().side(place, side.at, reach)?;
        return Ok(None);
    };
    owner.memory().side(place, side.at, reach)?;
    if !found.is_on_device() {
        return Ok(None);
    }
    let context = match owner.number == session.number {
        // An address is the same in all contexts.
        true => session.owner(),
        false => context_of(owner, &found)?,
    };
    Ok(Some(End {
        session: servers::lasting(owner)?,
        context,
    }))
}

impl Ends {
    /// `None`: it is one for this session alone. `named`: contexts that the call names, of the target and the source.
    pub fn of(
        session: &Session,
        area: &Area,
        (to, from): (Place, Place),
        (to_context, from_context): (u64, u64),
    ) -> Result<Option<Ends>, CudaError> {
        if servers::others(session).next().is_none() {
            return Ok(None);
        }
        let ends = Ends {
            to: end(session, area, &area.to, to, to_context)?,
            from: end(session, area, &area.from, from, from_context)?,
        };
        let is_elsewhere =
            |end: &Option<End>| end.is_some_and(|end| end.session.number != session.number);
        Ok((is_elsewhere(&ends.to) || is_elsewhere(&ends.from)).then_some(ends))
    }

    /// What cuMemcpyPeer says: behind all work in the contexts that have a part in it.
    fn synchronize(&self, session: &Session) -> Result<(), CudaError> {
        context::synchronize(session)?;
        for end in [self.from, self.to].into_iter().flatten() {
            thread::within(end.context, || context::synchronize(end.session))?;
        }
        Ok(())
    }

    /// Copies in pieces, each of which is read whole before it is written; while it is, the next is read.
    fn carry(&self, area: &Area) -> Result<(), CudaError> {
        let lane = |end: End| Lane::new(end.session, end.context);
        let (from, to) = (
            self.from.map(lane).transpose()?,
            self.to.map(lane).transpose()?,
        );
        for lane in [&from, &to].into_iter().flatten() {
            thread::within(lane.context, || lane.session.before_work())?;
        }
        for piece in area.pieces(MAX_BULK as u64) {
            let mut buffer = Vec::new();
            let packed = |at: u64| Side {
                at,
                pitch: piece.width,
                rows: piece.height,
                array: 0,
            };
            let mut within = piece;
            if from.is_some() && to.is_some() {
                buffer.resize(piece.bytes() as usize, 0);
            }
            if let Some(lane) = &from {
                if to.is_some() {
                    within.to = packed(buffer.as_mut_ptr() as u64);
                }
                thread::within(lane.context, || {
                    copy_out(lane.session, &within, ordered(lane.stream))
                })?;
            }
            if let Some(lane) = &to {
                within = piece;
                if from.is_some() {
                    within.from = packed(buffer.as_ptr() as u64);
                }
                thread::within(lane.context, || {
                    copy_in(lane.session, &within, ordered(lane.stream))
                })?;
            }
        }
        let Some(lane) = &to else {
            return Ok(());
        };
        thread::within(lane.context, || {
            send::cuStreamSynchronize(lane.session, lane.stream)?;
            lane.session.note_change();
            lane.session.after_wait(None)
        })
    }

    pub fn perform(&self, session: &Session, area: &Area, when: When) -> Result<(), CudaError> {
        if self.from.is_none() {
            // What has yet to land there is to be read.
            host::land(area.from.at, area.reach(&area.from)?);
        }
        if when.sync != 0 {
            self.synchronize(session)?;
            return self.carry(area);
        }
        refuse_capture(session, when.stream)?;
        // Of the program's memory CUDA, too, may wait at the call.
        let between = self.from.is_some() && self.to.is_some();
        let hold = (between && must_hold()).then(|| Hold::new(session, when.stream));
        let Some(hold) = hold.transpose()?.flatten() else {
            send::cuStreamSynchronize(session, when.stream)?;
            return self.carry(area);
        };
        let point = Point::at(hold.session, hold.context, when.stream);
        let (ends, area) = (*self, *area);
        hold.run(move || {
            point?.reach()?;
            ends.carry(&area)
        })
    }
}
