//! How boxes of bytes move, whatever call asks for them: between two places on the device, to it, or from it, and in stream order or before
//! the call returns.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use rgpu_proto::frame::{LANDED, MAX_BULK};
use rgpu_proto::{CudaError, calls};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use crate::area::{Area, Memcpy3d, Side};
use crate::calls::memory::{Memory, Place};
use crate::calls::{capture, graph_host};
use crate::handles::Kind;
use crate::relay::Ends;
use crate::servers::{self, Of};
use crate::session::{Session, Sink};
use crate::staging::{self, LEAST, Way};
use crate::{ahead, send, thread};

/// When a copy happens: in stream order, or before the call returns (on the default stream).
#[derive(Clone, Copy)]
pub struct When {
    pub stream: u64,
    pub sync: u32,
}

impl When {
    /// What a call is about that is made then.
    pub fn of(self) -> Of {
        match self.sync {
            0 => Of::Handle(self.stream),
            _ => Of::Current,
        }
    }
}

pub const NOW: When = When { stream: 0, sync: 1 };

pub fn ordered(stream: u64) -> When {
    When { stream, sync: 0 }
}

/// What one frame of a large copy has: so little that both sides use the same memory again and again, which their caches have.
const PIECE: u64 = 1 << 20;
/// Replies under way at once: enough for a wire that is fast and long. The server has one of them at a time.
const AHEAD: usize = 32;
/// The same where other threads' calls stand behind them.
const AHEAD_OF_OTHERS: usize = 8;

/// A copy that was found to be possible.
pub struct Transfer {
    area: Area,
    to: Place,
    from: Place,
    /// Bytes from the first to the last that is read.
    read: u64,
    reads_shared: bool,
    /// The source is memory of CUDA's.
    pinned: bool,
    may_land: bool,
    /// One of the sides is the device's and the program's own.
    zero_copy: bool,
    reads_zero_copy: bool,
    /// Where the sides are, if they are not the session's alone.
    ends: Option<Ends>,
    /// As the program described it, where that is more than two addresses and a length.
    params: Option<Memcpy3d>,
}

/// Where one side is that a call names so. `elsewhere`: as [`pinned_elsewhere`] found it.
fn place(
    memory: &Memory,
    area: &Area,
    side: &Side,
    named: Place,
    elsewhere: Option<Place>,
) -> Result<(Place, u64), CudaError> {
    if side.is_array() {
        return Ok((Place::Device, 0));
    }
    let reach = area.reach(side)?;
    let place = match elsewhere {
        Some(place) => place,
        None => memory.side(named, side.at, reach)?,
    };
    Ok((place, reach))
}

/// Memory that was pinned with another server: it is so for all.
fn pinned_elsewhere(
    session: &Session,
    area: &Area,
    side: &Side,
    named: Place,
) -> Result<Option<Place>, CudaError> {
    if side.is_array() {
        return Ok(None);
    }
    let reach = area.reach(side)?;
    let found = servers::others(session).find_map(|other| {
        let memory = other.memory();
        memory.host.find(side.at)?;
        let there = memory.side(named, side.at, reach);
        Some(there.map(|_| Place::Host))
    });
    found.transpose()
}

impl Transfer {
    /// `None`: there is nothing to copy. `to` and `from`: how the call names memory; `named`: the contexts of both, where it names such.
    pub fn judge(
        session: &Session,
        area: Area,
        to: Place,
        from: Place,
        named: (u64, u64),
        params: Option<Memcpy3d>,
    ) -> Result<Option<Transfer>, CudaError> {
        if area.is_empty() {
            return Ok(None);
        }
        let ends = Ends::of(session, &area, (to, from), named)?;
        if ends.is_some() {
            return Ok(Some(Transfer {
                area,
                to,
                from,
                read: 0,
                reads_shared: false,
                pinned: false,
                may_land: false,
                zero_copy: false,
                reads_zero_copy: false,
                ends,
                params,
            }));
        }
        let reads_pinned = pinned_elsewhere(session, &area, &area.from, from)?;
        let writes_pinned = pinned_elsewhere(session, &area, &area.to, to)?;
        // Their own copies may still write there, without that anything is known of it here.
        let others_write = reads_pinned.is_some()
            && servers::others(session).any(|other| other.memory().host.is_zero_copy(area.from.at));
        let memory = session.memory();
        let (from, read) = place(&memory, &area, &area.from, from, reads_pinned)?;
        let (to, _) = place(&memory, &area, &area.to, to, writes_pinned)?;
        let is_zero_copy = |side: &Side| !side.is_array() && memory.host.is_zero_copy(side.at);
        let (to_zero_copy, from_zero_copy) = (is_zero_copy(&area.to), is_zero_copy(&area.from));
        // Beside pageable memory it is the host's as well, whose copies need no wire.
        let (to, from) = match (to, from) {
            (_, Place::Host) if to_zero_copy => (Place::Host, from),
            (Place::Host, _) if from_zero_copy => (to, Place::Host),
            both => both,
        };
        let is_shared = |side: &Side| memory.host.device_address(side.at).is_some();
        let is_known = |side: &Side| !side.is_array() && memory.find(side.at).is_some();
        Ok(Some(Transfer {
            reads_shared: others_write || !area.from.is_array() && is_shared(&area.from),
            pinned: reads_pinned.is_some() || is_known(&area.from),
            may_land: writes_pinned.is_some() || is_known(&area.to) && !is_shared(&area.to),
            zero_copy: to_zero_copy || from_zero_copy,
            reads_zero_copy: from_zero_copy,
            ends: None,
            area,
            to,
            from,
            read,
            params,
        }))
    }

    /// The program's memory is read before the call returns, whatever still comes to it in the stream's order.
    pub fn reading_now(mut self) -> Transfer {
        if self.reads_zero_copy {
            self.from = Place::Host;
            self.reads_shared = false;
        }
        self
    }

    pub fn perform(&self, session: &Session, when: When) -> Result<(), CudaError> {
        if let Some(ends) = &self.ends {
            return ends.perform(session, &self.area, when);
        }
        if when.sync == 0 && self.is_captured(session, when.stream)? {
            return Ok(());
        }
        session.before_work()?;
        let area = &self.area;
        match (self.to, self.from) {
            (Place::Device, Place::Device) => within_device(session, area, when),
            (Place::Device, _) => {
                // An earlier copy that has not landed yet, a kernel, or a function of the program's writes what this one reads.
                if self.reads_shared
                    || session.standing.has_functions()
                    || session.lands_in(area.from.at, self.read)
                    || servers::others(session).any(|other| other.lands_in(area.from.at, self.read))
                {
                    send::cuStreamSynchronize(session, when.stream)?;
                }
                // From pageable memory, CUDA too returns when it has read the bytes; the worker's copy of pinned memory is pageable.
                let sync = match when.sync {
                    0 => 0,
                    _ if self.pinned => LANDED,
                    sync => sync,
                };
                let staged = self.staged(session, Way::In, when);
                staged.unwrap_or_else(|| copy_in(session, area, When { sync, ..when }))
            }
            (_, Place::Device) => {
                let may_land = when.sync == 0 && self.may_land;
                if may_land
                    && area.is_packed(&area.to)
                    && session.may_land(area.to.at, area.bytes())
                {
                    land(session, area, when.stream)
                } else {
                    let staged = self.staged(session, Way::Out, when);
                    staged.unwrap_or_else(|| copy_out(session, area, when))
                }
            }
            _ => within_host(session, area, when),
        }?;
        after(
            session,
            when,
            self.zero_copy || session.shares_at(area.to.at),
        )
    }

    /// A large copy of the program's pageable memory, on one host.
    fn staged(&self, session: &Session, way: Way, when: When) -> Option<Result<(), CudaError>> {
        let area = &self.area;
        let (device, host) = match way {
            // One in stream order must not wait for what is before it.
            Way::In if when.sync == 0 || self.pinned => return None,
            Way::In => (&area.to, &area.from),
            Way::Out => (&area.from, &area.to),
        };
        let plain = !device.is_array() && area.is_packed(device) && area.is_packed(host);
        let can = session.passes_descriptors() && !session.standing.is_capturing();
        if !plain || area.bytes() < LEAST || !can {
            return None;
        }
        let copied = staging::copy(session, way, device.at, host.at, area.bytes(), when)?;
        Some(copied.and_then(|()| heard(session)))
    }

    /// Whether a capture has taken the copy, which reads or writes the program's memory whenever its graph runs.
    fn is_captured(&self, session: &Session, stream: u64) -> Result<bool, CudaError> {
        let area = &self.area;
        let (to_device, device, host) = match (self.to, self.from) {
            (Place::Device, Place::Device) => return Ok(false),
            (Place::Device, _) => (true, &area.to, &area.from),
            (_, Place::Device) => (false, &area.from, &area.to),
            _ => return Ok(false),
        };
        match &self.params {
            Some(params) if !area.is_packed(device) || !area.is_packed(host) => {
                capture::takes_box(session, stream, params)
            }
            _ => capture::takes_copy(session, stream, to_device, device.at, host.at, area.bytes()),
        }
    }
}

/// Judges a copy and makes it.
pub fn transfer(
    session: &Session,
    area: Area,
    to: Place,
    from: Place,
    when: When,
    named: (u64, u64),
    params: Option<Memcpy3d>,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, when.stream)?;
    match Transfer::judge(session, area, to, from, named, params)? {
        Some(transfer) => transfer.perform(session, when),
        None => Ok(()),
    }
}

/// The device's copy of memory that is shared may have changed; the host sees that when the call returns, if that is when it happens.
/// `seen`: the program can look at the place itself, while the driver fills and copies within the device behind its calls.
pub fn after(session: &Session, when: When, seen: bool) -> Result<(), CudaError> {
    session.note_change();
    match when.sync {
        0 => Ok(()),
        _ if seen => send::cuStreamSynchronize(session, when.stream),
        _ => session.after_wait(None),
    }
}

/// Copies to the device. The bytes are read before the call returns.
pub fn copy_in(session: &Session, area: &Area, when: When) -> Result<(), CudaError> {
    let mut left = area.bytes();
    // Where each waits for its reply, few do.
    let most = match session.is_at_once_for(calls::op::rgpuCopyIn) {
        true => MAX_BULK as u64,
        false => PIECE,
    };
    for piece in area.pieces(most) {
        let Area { to, from, .. } = piece;
        left -= piece.bytes();
        let gathered;
        // SAFETY (both): no memory of CUDA's, or pinned memory that was found to be large enough; else the program's own, whose
        // bytes it promises (cuda.h).
        let data = if piece.is_packed(&from) {
            // SAFETY: see above.
            unsafe { std::slice::from_raw_parts(from.at as *const u8, piece.bytes() as usize) }
        } else {
            // SAFETY: see above.
            gathered = unsafe { piece.gather() };
            &gathered
        };
        let When { stream, sync } = when;
        // Who has waited for the last piece has waited for those before it.
        let sync = if left > 0 { sync.min(NOW.sync) } else { sync };
        let (width, height, depth) = (piece.width, piece.height, piece.depth);
        if to.is_array() {
            let [x, y, z] = to.corner();
            send::rgpuArrayIn(
                session, to.array, x, y, z, width, height, depth, stream, sync, data,
            )?;
        } else if piece.is_packed(&to) {
            match session.content.piece(data) {
                Some(known) => send::rgpuCopyInKnown(session, to.at, stream, sync, known)?,
                None => send::rgpuCopyIn(session, to.at, stream, sync, data)?,
            }
        } else {
            let Side {
                at, pitch, rows, ..
            } = to;
            send::rgpuBoxIn(
                session, at, pitch, rows, width, height, depth, stream, sync, data,
            )?;
        }
    }
    Ok(())
}

/// Copies from the device and waits: several pieces are asked for before the first is waited for.
pub fn copy_out(session: &Session, area: &Area, when: When) -> Result<(), CudaError> {
    if !area.from.is_array() && area.is_packed(&area.from) && area.is_packed(&area.to) {
        let bytes = area.bytes() as usize;
        let place = ahead::Place {
            at: area.from.at,
            bytes,
        };
        if let Some(data) = session.ahead.take(place, session.sent()) {
            // SAFETY: the program's bytes (cuda.h), as many as these.
            unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), area.to.at as *mut u8, bytes) };
            return heard(session);
        }
    }
    session.stats.waits.fetch_add(1, Ordering::Relaxed);
    let mut under_way = VecDeque::new();
    let mut result = Ok(());
    for piece in area.pieces(PIECE) {
        // A piece that may be kept until the program has done something must have nothing of this thread's behind it.
        let most = match session.stands() {
            true => 1,
            false if thread::are_many() => AHEAD_OF_OTHERS,
            false => AHEAD,
        };
        while under_way.len() >= most
            && let Some(earlier) = under_way.pop_front()
        {
            result = result.and(arrive(session, earlier));
        }
        let bytes = piece.bytes() as usize;
        let mut packed = Vec::new();
        let place = if piece.is_packed(&piece.to) {
            piece.to.at as *mut u8
        } else {
            packed.reserve_exact(bytes);
            packed.as_mut_ptr()
        };
        // SAFETY: the program's bytes (cuda.h), or a buffer that is kept, untouched, until its reply is there.
        let place = unsafe { std::slice::from_raw_parts_mut(place, bytes) };
        match ask(session, &piece, when, place) {
            Ok(ticket) => under_way.push_back((ticket, piece, packed)),
            Err(error) => {
                result = result.and(Err(error));
                break;
            }
        }
    }
    // Every reply is waited for, also after an error: they write into the program's memory.
    for earlier in under_way {
        result = result.and(arrive(session, earlier));
    }
    result?;
    heard(session)
}

/// The program hears of the end of work.
fn heard(session: &Session) -> Result<(), CudaError> {
    graph_host::deliver(session)?;
    session.tell_deferred()
}

/// Copies from the device to pinned memory, in stream order, and waits for nothing. Whoever gives the memory up waits.
fn land(session: &Session, area: &Area, stream: u64) -> Result<(), CudaError> {
    for piece in area.pieces(MAX_BULK as u64) {
        let (from, bytes) = (piece.from, piece.bytes() as usize);
        let (width, height, depth) = (
            U64::new(piece.width),
            U64::new(piece.height),
            U64::new(piece.depth),
        );
        let stream = U64::new(stream);
        let land = |op: u16, args: &[u8]| {
            // SAFETY: pinned memory, which `host::settle` looks after.
            unsafe { session.land(op, args, piece.to.at, bytes) }
        };
        if from.is_array() {
            let [x, y, z] = from.corner().map(U64::new);
            let args = calls::rgpuArrayLandArgs {
                array: U64::new(from.array),
                x,
                y,
                z,
                width,
                height,
                depth,
                stream,
            };
            land(calls::op::rgpuArrayLand, args.as_bytes())?;
        } else {
            let args = calls::rgpuBoxLandArgs {
                src: U64::new(from.at),
                pitch: U64::new(from.pitch),
                rows: U64::new(from.rows),
                width,
                height,
                depth,
                stream,
            };
            land(calls::op::rgpuBoxLand, args.as_bytes())?;
        }
    }
    Ok(())
}

type UnderWay<'a> = (crate::wire::Ticket<'a>, Area, Vec<u8>);

fn arrive(session: &Session, (ticket, piece, mut packed): UnderWay<'_>) -> Result<(), CudaError> {
    session.finish(ticket)?;
    if !piece.is_packed(&piece.to) {
        // SAFETY: the reply has filled them, and the target is the program's (cuda.h).
        unsafe {
            packed.set_len(piece.bytes() as usize);
            piece.scatter(&packed);
        }
    }
    Ok(())
}

fn ask<'a>(
    session: &Session,
    piece: &Area,
    when: When,
    bytes: &'a mut [u8],
) -> Result<crate::wire::Ticket<'a>, CudaError> {
    let from = piece.from;
    let (stream, sync) = (U64::new(when.stream), U32::new(when.sync));
    let (width, height, depth) = (
        U64::new(piece.width),
        U64::new(piece.height),
        U64::new(piece.depth),
    );
    let request = |op: u16, args: &[u8], bytes: &'a mut [u8]| {
        session.request(op, args, &[], &mut [], Sink::Exact(bytes))
    };
    if from.is_array() {
        let [x, y, z] = from.corner().map(U64::new);
        let args = calls::rgpuArrayOutArgs {
            array: U64::new(from.array),
            x,
            y,
            z,
            width,
            height,
            depth,
            stream,
            sync,
        };
        return request(calls::op::rgpuArrayOut, args.as_bytes(), bytes);
    }
    if piece.is_packed(&from) {
        let args = calls::rgpuCopyOutArgs {
            src: U64::new(from.at),
            bytes: U64::new(piece.bytes()),
            stream,
            sync,
        };
        return request(calls::op::rgpuCopyOut, args.as_bytes(), bytes);
    }
    let args = calls::rgpuBoxOutArgs {
        src: U64::new(from.at),
        pitch: U64::new(from.pitch),
        rows: U64::new(from.rows),
        width,
        height,
        depth,
        stream,
        sync,
    };
    request(calls::op::rgpuBoxOut, args.as_bytes(), bytes)
}

fn within_device(session: &Session, area: &Area, when: When) -> Result<(), CudaError> {
    let Area {
        to,
        from,
        width,
        height,
        depth,
    } = *area;
    let When { stream, sync } = when;
    if to.is_array() && from.is_array() {
        let ([tx, ty, tz], [fx, fy, fz]) = (to.corner(), from.corner());
        return send::rgpuArrayArray(
            session, to.array, tx, ty, tz, from.array, fx, fy, fz, width, height, depth, stream,
            sync,
        );
    }
    if to.is_array() || from.is_array() {
        let (array, memory) = if to.is_array() {
            (to, from)
        } else {
            (from, to)
        };
        let ([x, y, z], to_array) = (array.corner(), u32::from(to.is_array()));
        let Side {
            at, pitch, rows, ..
        } = memory;
        return send::rgpuArrayDevice(
            session,
            array.array,
            x,
            y,
            z,
            at,
            pitch,
            rows,
            width,
            height,
            depth,
            to_array,
            stream,
            sync,
        );
    }
    if area.is_packed(&to) && area.is_packed(&from) {
        return send::rgpuCopyDevice(session, to.at, from.at, area.bytes(), stream, sync);
    }
    send::rgpuBoxDevice(
        session, to.at, to.pitch, to.rows, from.at, from.pitch, from.rows, width, height, depth,
        stream, sync,
    )
}

/// Between host buffers CUDA copies synchronously, in stream order.
fn within_host(session: &Session, area: &Area, when: When) -> Result<(), CudaError> {
    send::cuStreamSynchronize(session, when.stream)?;
    for (to, from) in area.rows() {
        // SAFETY: the program's own memory (cuda.h), or pinned memory that was found to be large enough; `copy` allows them to overlap.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, area.width as usize) };
    }
    Ok(())
}
