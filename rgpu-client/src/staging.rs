//! Large copies of pageable memory on one host: through a few pieces of memory that the device has too (`calls/zero_copy.rs`), so that its copies
//! and this process's overlap, and no bytes go over the wire.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use rgpu_proto::{CudaError, calls};
use zerocopy::IntoBytes;

use crate::calls::zero_copy;
use crate::send;
use crate::session::{Session, Sink};
use crate::transfer::When;
use crate::wire::Ticket;

/// Long enough that a round trip for each is nothing beside it, and short enough for the caches.
const PIECE: u64 = 1 << 20;
const PIECES: u64 = 4;
/// What is less goes over the wire.
pub const LEAST: u64 = PIECE;

/// Of a session: made when it is first used, and again when its context is gone.
#[derive(Default)]
pub struct Staging {
    /// Where it is, and the context that it ends with.
    pieces: Option<(u64, u64)>,
    /// It cannot be had.
    absent: bool,
}

impl Staging {
    fn base(&mut self, session: &Session) -> Option<u64> {
        if self.pieces.is_none() && !self.absent {
            let base = zero_copy::open(session, PIECE * PIECES);
            self.absent = base.is_none();
            self.pieces = base.map(|base| (base, session.owner()));
        }
        self.pieces.map(|(base, _)| base)
    }
}

/// The context is about to be destroyed.
pub fn leave_context(session: &Session, context: u64) -> Result<(), CudaError> {
    let mut staging = session.staging.lock();
    let staging = staging.as_mut().unwrap_or_else(|error| error.get_mut());
    match staging.pieces.take_if(|(_, of)| *of == context) {
        Some((base, _)) => zero_copy::release(session, base, PIECE * PIECES, context),
        None => Ok(()),
    }
}

/// A part of a copy that the device makes; its ticket says when it has.
struct Part<'a> {
    ticket: Ticket<'a>,
    offset: u64,
    stage: u64,
    bytes: u64,
}

#[derive(Clone, Copy)]
pub enum Way {
    /// From the program's memory.
    In,
    Out,
}

/// Copies and waits; `None`, and nothing is done, where there is no staging, or another thread uses it.
pub fn copy(
    session: &Session,
    way: Way,
    device: u64,
    host: u64,
    bytes: u64,
    when: When,
) -> Option<Result<(), CudaError>> {
    let mut staging = session.staging.try_lock().ok()?;
    let base = staging.base(session)?;
    session.stats.waits.fetch_add(1, Ordering::Relaxed);
    let mut under_way = VecDeque::new();
    let mut result = Ok(());
    for (number, offset) in (0..bytes).step_by(PIECE as usize).enumerate() {
        // A wait that may last until the program has done something must have nothing of this thread's behind it.
        let most = if session.stands() { 1 } else { PIECES };
        while under_way.len() as u64 >= most
            && let Some(part) = under_way.pop_front()
        {
            result = result.and(arrive(session, way, host, part));
        }
        let stage = base + number as u64 % PIECES * PIECE;
        let part = (offset, stage, PIECE.min(bytes - offset));
        match begin(session, way, device, host, part, when) {
            Ok(part) => under_way.push_back(part),
            Err(error) => {
                result = result.and(Err(error));
                break;
            }
        }
    }
    // Also after an error: the next copy uses the same pieces.
    for part in under_way {
        result = result.and(arrive(session, way, host, part));
    }
    Some(result)
}

fn begin<'a>(
    session: &'a Session,
    way: Way,
    device: u64,
    host: u64,
    (offset, stage, bytes): (u64, u64, u64),
    when: When,
) -> Result<Part<'a>, CudaError> {
    let (to, from) = match way {
        Way::In => {
            // SAFETY: the program's bytes (cuda.h), and a piece that nothing uses.
            unsafe { copy_bytes(stage, host + offset, bytes) };
            (device + offset, stage)
        }
        Way::Out => (stage, device + offset),
    };
    send::rgpuCopyDevice(session, to, from, bytes, when.stream, 0)?;
    let args = calls::cuStreamSynchronizeArgs {
        stream: when.stream.into(),
    };
    let op = calls::op::cuStreamSynchronize;
    let ticket = session.request(op, args.as_bytes(), &[], &mut [], Sink::None)?;
    Ok(Part {
        ticket,
        offset,
        stage,
        bytes,
    })
}

fn arrive(session: &Session, way: Way, host: u64, part: Part<'_>) -> Result<(), CudaError> {
    session.finish(part.ticket)?;
    if let Way::Out = way {
        // SAFETY: the program's place (cuda.h), and a piece whose copy is done.
        unsafe { copy_bytes(host + part.offset, part.stage, part.bytes) };
    }
    Ok(())
}

/// # Safety
/// So many bytes may be written to the one and read from the other, which do not overlap.
unsafe fn copy_bytes(to: u64, from: u64, bytes: u64) {
    // SAFETY: the same.
    unsafe {
        (to as *mut u8).copy_from_nonoverlapping(from as *const u8, bytes as usize);
    }
}
