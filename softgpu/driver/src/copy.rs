//! Copies and fills, of host and device memory alike: device addresses are addresses of the process.

mod params;

use std::sync::Arc;

use crate::abi::{In, Memcpy3d, MemsetNode};
use crate::capture;
use crate::error::{Error, Result};
use crate::graph::{CopyNode, FillNode, Operation};
use crate::memory::{Block, Kind};
use crate::pool::MemPool;
use crate::runtime::Runtime;
use crate::say;
use crate::stream::Stream;
use crate::task::{Task, Work};

pub use params::in_line;

/// Copies that are not worth a hand-over to another thread, when nothing is in front of them.
const INLINE: u64 = 64 << 10;
/// Pageable memory that is read before the call returns, while the copy itself waits.
const STAGED: u64 = 32 << 20;
/// How long other threads wait for pages to be taken away: as long as this many bytes take.
const STEP: u64 = 4 << 20;

/// `depth` slices of `height` rows of `width` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    pub from: u64,
    pub to: u64,
    pub width: u64,
    pub height: u64,
    pub depth: u64,
    pub from_pitch: u64,
    pub to_pitch: u64,
    pub from_slice: u64,
    pub to_slice: u64,
    /// The source, and the target, is memory of CUDA's, which must still be there when the copy runs: a graph may be
    /// launched after the program has freed what its nodes use.
    from_ours: bool,
    to_ours: bool,
}

/// `height` rows of `width` elements.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    pub to: u64,
    pub pitch: u64,
    pub value: u32,
    pub element: u64,
    pub width: u64,
    pub height: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Device,
    Host,
    /// By its address.
    Any,
    /// In an array, whose bounds were checked.
    Array,
}

/// What a copy touches on one side.
fn side(runtime: &Runtime, place: Place, address: u64, bytes: u64) -> Result<Option<Kind>> {
    let kind = runtime.memory.classify(address, bytes)?;
    match (place, kind) {
        (Place::Array, Some(Kind::Array)) => Ok(kind),
        // Memory of an array is nobody's but the array's.
        (Place::Array, _) | (_, Some(Kind::Array)) => Err(Error::ERROR_INVALID_VALUE),
        (_, Some(_)) => Ok(kind),
        (Place::Host | Place::Any, None) if address != 0 && !runtime.memory.in_window(address) => {
            Ok(None)
        }
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

impl Copy {
    pub fn line(to: u64, from: u64, bytes: u64) -> Copy {
        Copy {
            from,
            to,
            width: bytes,
            height: 1,
            depth: 1,
            from_pitch: bytes,
            to_pitch: bytes,
            from_slice: bytes,
            to_slice: bytes,
            from_ours: false,
            to_ours: false,
        }
    }

    fn reach(&self, pitch: u64, slice: u64) -> Option<u64> {
        (self.depth - 1)
            .checked_mul(slice)?
            .checked_add((self.height - 1).checked_mul(pitch)?)?
            .checked_add(self.width)
    }

    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0 || self.depth == 0
    }

    pub fn bytes(&self) -> u64 {
        self.width
            .saturating_mul(self.height)
            .saturating_mul(self.depth)
    }

    /// The kinds of source and destination, if the program may touch both.
    pub fn check(
        &mut self,
        runtime: &Runtime,
        from: Place,
        to: Place,
    ) -> Result<(Option<Kind>, Option<Kind>)> {
        if self.is_empty() {
            return Ok((None, None));
        }
        let invalid = Error::ERROR_INVALID_VALUE;
        let read = self
            .reach(self.from_pitch, self.from_slice)
            .ok_or(invalid)?;
        let written = self.reach(self.to_pitch, self.to_slice).ok_or(invalid)?;
        let source = side(runtime, from, self.from, read)?;
        let target = side(runtime, to, self.to, written)?;
        (self.from_ours, self.to_ours) = (source.is_some(), target.is_some());
        Ok((source, target))
    }

    pub fn run(&self, runtime: &Runtime) -> Result {
        for z in 0..self.depth {
            let (from, to) = (self.from + z * self.from_slice, self.to + z * self.to_slice);
            if self.width == self.from_pitch && self.width == self.to_pitch {
                self.bytes_of(runtime, to, from, self.width * self.height)?;
                continue;
            }
            for y in 0..self.height {
                let (from, to) = (from + y * self.from_pitch, to + y * self.to_pitch);
                self.bytes_of(runtime, to, from, self.width)?;
            }
        }
        Ok(())
    }

    fn bytes_of(&self, runtime: &Runtime, to: u64, from: u64, len: u64) -> Result {
        // Overlapping (undefined for CUDA): in one go, as memmove does it.
        let overlaps = from < to && to - from < len;
        let step = if overlaps { len } else { STEP };
        for at in (0..len).step_by(step as usize) {
            let (from, to, len) = (from + at, to + at, step.min(len - at));
            runtime.access(|| {
                let space = &runtime.memory.space;
                let gone = |ours: bool, at: u64| ours && !space.check(at, len);
                if gone(self.from_ours, from) || gone(self.to_ours, to) {
                    return Err(Error::ERROR_ILLEGAL_ADDRESS);
                }
                // SAFETY: CUDA's memory was found to be there and stays during `access`; for other memory the C caller
                // vouches. Kernels may race with this, as on a GPU.
                unsafe { std::ptr::copy(from as *const u8, to as *mut u8, len as usize) };
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Writes bytes that the library owns to device memory.
pub fn write(runtime: &Runtime, to: u64, from: &[u8]) -> Result {
    let mut copy = Copy::line(to, from.as_ptr() as u64, from.len() as u64);
    copy.to_ours = true;
    copy.run(runtime)
}

impl Fill {
    pub fn new(runtime: &Runtime, node: &MemsetNode) -> Result<Fill> {
        let (element, width, height) = (
            u64::from(node.element_size),
            node.width as u64,
            node.height as u64,
        );
        let fill = Fill {
            to: node.dst,
            pitch: node.pitch as u64,
            value: node.value,
            element,
            width,
            height,
        };
        if !matches!(element, 1 | 2 | 4) || !node.dst.is_multiple_of(element) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        if fill.is_empty() {
            return Ok(fill);
        }
        let invalid = Error::ERROR_INVALID_VALUE;
        let row = width.checked_mul(element).ok_or(invalid)?;
        if height > 1 && (fill.pitch < row || !fill.pitch.is_multiple_of(element)) {
            return Err(invalid);
        }
        let reach = (height - 1)
            .checked_mul(fill.pitch)
            .and_then(|rows| rows.checked_add(row))
            .ok_or(invalid)?;
        side(runtime, Place::Device, fill.to, reach)?;
        Ok(fill)
    }

    /// Of one value of four bytes, in a place that was checked.
    pub fn word(to: u64, value: u32) -> Fill {
        Fill {
            to,
            pitch: 4,
            value,
            element: 4,
            width: 1,
            height: 1,
        }
    }

    fn params(&self) -> MemsetNode {
        MemsetNode {
            dst: self.to,
            pitch: self.pitch as usize,
            value: self.value,
            element_size: self.element as u32,
            width: self.width as usize,
            height: self.height as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    pub fn bytes(&self) -> u64 {
        self.width
            .saturating_mul(self.element)
            .saturating_mul(self.height)
    }

    pub fn run(&self, runtime: &Runtime) -> Result {
        let bytes = self.value.to_le_bytes();
        let pattern = &bytes[..self.element as usize];
        let same = pattern.iter().all(|&byte| byte == bytes[0]);
        let step = STEP / self.element;
        for y in 0..self.height {
            let row = self.to + y * self.pitch;
            for x in (0..self.width).step_by(step as usize) {
                let (at, count) = (row + x * self.element, step.min(self.width - x) as usize);
                let len = count * self.element as usize;
                runtime.access(|| {
                    if !runtime.memory.space.check(at, len as u64) {
                        return Err(Error::ERROR_ILLEGAL_ADDRESS);
                    }
                    // SAFETY: the memory is there and stays during `access`; `to` and the pitch are multiples of the
                    // element's size. Kernels may race with this, as on a GPU.
                    unsafe {
                        match self.element {
                            _ if same => std::ptr::write_bytes(at as *mut u8, bytes[0], len),
                            2 => (0..count)
                                .for_each(|i| (at as *mut u16).add(i).write(self.value as u16)),
                            _ => (0..count).for_each(|i| (at as *mut u32).add(i).write(self.value)),
                        }
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

/// Waits for what a synchronous operation on this stream has to follow.
fn settle(stream: &Stream) -> Result {
    let before = stream.before();
    before.iter().for_each(|task| task.wait());
    stream.context.check()
}

/// Waits for what may still write pageable memory that the copy reads in stream order.
pub fn settle_pageable(runtime: &Runtime, stream: &Stream, copy: &Copy) -> Result {
    match runtime.memory.classify(copy.from, copy.width)? {
        None if stream.capture().is_none() => settle(stream),
        _ => Ok(()),
    }
}

/// A copy whose effects are there when the call returns.
pub fn now(runtime: &Runtime, stream: &Stream, mut copy: Copy, from: Place, to: Place) -> Result {
    copy.check(runtime, from, to)?;
    capture::forbid(stream)?;
    if copy.is_empty() {
        return Ok(());
    }
    settle(stream)?;
    copy.run(runtime)
}

/// A copy in stream order.
pub fn enqueue(runtime: &Runtime, stream: &Stream, copy: Copy, from: Place, to: Place) -> Result {
    enqueue_as(runtime, stream, copy, from, to, || copy.params(from, to))
}

/// The same, with what a capture remembers of it.
pub fn enqueue_as(
    runtime: &Runtime,
    stream: &Stream,
    mut copy: Copy,
    from: Place,
    to: Place,
    params: impl Fn() -> Memcpy3d,
) -> Result {
    let (source, target) = copy.check(runtime, from, to)?;
    let node = || {
        let params = params();
        Ok(Operation::Copy(CopyNode { copy, params }))
    };
    if copy.is_empty() || capture::takes(runtime, stream, node)? {
        return Ok(());
    }
    // To pageable memory, a copy has ended when the call returns.
    if target.is_none() {
        settle(stream)?;
        return copy.run(runtime);
    }
    let idle = stream.before().is_empty();
    if source.is_none() {
        // From pageable memory, the program may change the source at once.
        let flat = copy.height == 1 && copy.depth == 1;
        if idle || !flat || copy.width > STAGED {
            settle(stream)?;
            copy.run(runtime)?;
        } else {
            // SAFETY: the C caller vouches for the source for the time of the call.
            let bytes = unsafe { In::<std::ffi::c_void>::at(copy.from) }
                .bytes(copy.width as usize)?
                .into();
            stream.enqueue(Work::Staged { to: copy.to, bytes }, &[]);
        }
        return Ok(());
    }
    if idle && copy.bytes() <= INLINE {
        copy.run(runtime)?;
    } else {
        stream.enqueue(Work::Copy(copy), &[]);
    }
    Ok(())
}

pub fn fill_now(runtime: &Runtime, stream: &Stream, fill: Fill) -> Result {
    capture::forbid(stream)?;
    if !fill.is_empty() {
        settle(stream)?;
        fill.run(runtime)?;
    }
    Ok(())
}

pub fn fill_enqueue(runtime: &Runtime, stream: &Stream, fill: Fill) -> Result {
    let node = || {
        let params = fill.params();
        Ok(Operation::Fill(FillNode { fill, params }))
    };
    if fill.is_empty() || capture::takes(runtime, stream, node)? {
        return Ok(());
    }
    if fill.bytes() <= INLINE && stream.before().is_empty() {
        fill.run(runtime)?;
    } else {
        stream.enqueue(Work::Fill(fill), &[]);
    }
    Ok(())
}

/// Takes back memory that nothing uses any more.
pub fn release(runtime: &Runtime, pool: Option<Arc<MemPool>>, block: Block) {
    match pool {
        Some(pool) => pool.give(runtime, block),
        None => runtime.still(|| runtime.memory.release(block)),
    }
}

/// Runs work other than kernels, on an executor thread.
pub fn run_work(runtime: &Runtime, task: &Task, work: Work) {
    // A failed context still gives its memory back.
    if let Work::Release(pool, block) = work {
        return release(runtime, pool, block);
    }
    if task.context.has_failed() {
        return;
    }
    let result = match work {
        Work::Copy(copy) => copy.run(runtime),
        Work::Staged { to, bytes } => write(runtime, to, &bytes),
        Work::Fill(fill) => fill.run(runtime),
        Work::Join
        | Work::Event(_)
        | Work::Kernel(_)
        | Work::Release(..)
        | Work::Keep(_)
        | Work::Await(_)
        | Work::Host(_)
        | Work::Conditional(_) => Ok(()),
    };
    if let Err(error) = result {
        say!("a copy or fill in a stream uses memory that was freed since it was asked for");
        task.context.fail(error);
    }
}
