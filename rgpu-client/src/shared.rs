//! Memory that host and device share: managed memory and variables, and host memory that is mapped for the device. Each side has a copy,
//! and they are made the same where CUDA says that one sees what the other wrote.
//!
//! A shadow holds what both sides had when they were last the same. Before work is sent, pages of the host's that differ from it go out;
//! after a wait for work, pages come back, but for those that the host has changed meanwhile: the program may not do that with memory that
//! the work uses (no concurrent managed access), so they are none of the work's.

use std::collections::{BTreeMap, HashMap};

use rgpu_proto::frame::{LANDED, MAX_BULK};
use rgpu_proto::{CudaError, calls};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use crate::handles::Kind;
use crate::pages::Pages;
use crate::send;
use crate::session::{Session, Sink};

pub const PAGE: u64 = 4096;

pub struct Range {
    /// Where the host has it, and where the device: the same, but for registered memory.
    pub host: u64,
    pub device: u64,
    pub bytes: u64,
    /// The context that it ends with; of a variable, the module or library.
    owner: u64,
    is_variable: bool,
    shadow: Vec<u8>,
}

impl Range {
    /// Whether it lies in the client's own window.
    pub fn is_in_window(&self) -> bool {
        self.host == self.device && !self.is_variable
    }
}

#[derive(Default)]
pub struct SharedMemory {
    /// By the device's address.
    ranges: BTreeMap<u64, Range>,
    /// Of the variables among them.
    pages: Pages,
    /// Number of the last command that may have changed the device's copy, if they have not been made the same behind it.
    changed: Option<u64>,
    /// A stream of each context for the way back, which waits for no other.
    streams: HashMap<u64, u64>,
}

/// Work that reads or writes device memory: launches of kernels and of graphs.
pub fn is_work(op: u16) -> bool {
    matches!(op >> 8, 0x06) || op == calls::op::rgpuGraphLaunch
}

/// What tells the program that work is done.
pub fn is_wait(op: u16) -> bool {
    use calls::op;
    matches!(
        op,
        op::cuStreamSynchronize
            | op::cuStreamQuery
            | op::cuEventSynchronize
            | op::cuEventQuery
            | op::rgpuContextSynchronize
    )
}

impl SharedMemory {
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn holds(&self, device: u64) -> bool {
        let before = self.ranges.range(..=device).next_back();
        before.is_some_and(|(base, range)| device - base < range.bytes)
    }

    /// Both sides are zero at first, or the host's bytes are news to the device.
    pub fn add(&mut self, host: u64, device: u64, bytes: u64, context: u64) {
        let range = Range {
            host,
            device,
            bytes,
            owner: context,
            is_variable: false,
            shadow: vec![0; bytes as usize],
        };
        self.ranges.insert(device, range);
    }

    /// Gives the host pages where the driver has a variable, with what is there. NOT_SUPPORTED if the program has something there.
    pub fn add_variable(
        &mut self,
        session: &Session,
        at: u64,
        bytes: u64,
        owner: u64,
    ) -> Result<(), CudaError> {
        if self.ranges.contains_key(&at) {
            return Ok(());
        }
        self.pages.open(at, bytes)?;
        let mut range = Range {
            host: at,
            device: at,
            bytes,
            owner,
            is_variable: true,
            shadow: vec![0; bytes as usize],
        };
        let read = self
            .stream(session)
            .and_then(|stream| fetch(session, &mut range, stream));
        if let Err(error) = read {
            self.pages.close(at);
            return Err(error);
        }
        self.ranges.insert(at, range);
        // Work that was sent before may still change it.
        self.changed(session.sent());
        Ok(())
    }

    /// As [`Self::add`], where the device's bytes are any: all of the host's are news to it.
    pub fn add_news(&mut self, host: u64, device: u64, bytes: u64, context: u64) {
        self.add(host, device, bytes, context);
        if let Some(range) = self.ranges.get_mut(&device) {
            // SAFETY: memory of the program's that is there as long as the range is.
            let host = unsafe { std::slice::from_raw_parts(host as *const u8, bytes as usize) };
            for (shadow, byte) in range.shadow.iter_mut().zip(host) {
                *shadow = !byte;
            }
        }
    }

    pub fn remove(&mut self, device: u64) -> Option<Range> {
        let range = self.ranges.remove(&device)?;
        if range.is_variable {
            self.pages.close(device);
        }
        Some(range)
    }

    /// Takes out what a context, a module or a library had.
    pub fn end(&mut self, owner: u64) -> Vec<Range> {
        self.streams.remove(&owner);
        let of_it = self.ranges.values().filter(|range| range.owner == owner);
        let ended: Vec<u64> = of_it.map(|range| range.device).collect();
        ended.iter().filter_map(|at| self.remove(*at)).collect()
    }

    /// Sends what the host has changed. It is in the device's memory before anything that is sent later is played.
    pub fn flush(&mut self, session: &Session) -> Result<(), CudaError> {
        for range in self.ranges.values_mut() {
            // Where a run of changed pages begins.
            let mut run = None;
            for at in (0..range.bytes).step_by(PAGE as usize) {
                let end = (at + PAGE).min(range.bytes);
                let shadow = &mut range.shadow[at as usize..end as usize];
                // SAFETY: memory of the program's that is there as long as the range is.
                let host = unsafe {
                    std::slice::from_raw_parts((range.host + at) as *const u8, shadow.len())
                };
                if shadow != host {
                    shadow.copy_from_slice(host);
                    run.get_or_insert(at);
                } else if let Some(begin) = run.take() {
                    give(session, range, begin, at)?;
                }
            }
            if let Some(begin) = run {
                give(session, range, begin, range.bytes)?;
            }
        }
        Ok(())
    }

    /// The command of this number may change the device's copy.
    pub fn changed(&mut self, seq: u64) {
        self.changed = Some(seq);
    }

    /// Brings back what the device has changed. `all_before`: all work up to the command of that number is done.
    pub fn fetch(&mut self, session: &Session, all_before: Option<u64>) -> Result<(), CudaError> {
        let Some(changed) = self.changed else {
            return Ok(());
        };
        let stream = self.stream(session)?;
        for range in self.ranges.values_mut() {
            fetch(session, range, stream)?;
        }
        if all_before.is_some_and(|done| changed <= done) {
            self.changed = None;
        }
        Ok(())
    }

    fn stream(&mut self, session: &Session) -> Result<u64, CudaError> {
        const NON_BLOCKING: u32 = 1;
        let context = session.context();
        if let Some(stream) = self.streams.get(&context) {
            return Ok(*stream);
        }
        let stream = session.handles.make(Kind::Stream, context);
        send::cuStreamCreate(session, stream, NON_BLOCKING)?;
        self.streams.insert(context, stream);
        Ok(stream)
    }
}

/// Sends a part of the shadow.
fn give(session: &Session, range: &Range, begin: u64, end: u64) -> Result<(), CudaError> {
    const LEGACY: u64 = 0;
    let mut at = range.device + begin;
    for piece in range.shadow[begin as usize..end as usize].chunks(MAX_BULK) {
        send::rgpuCopyIn(session, at, LEGACY, LANDED, piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Brings a range back.
fn fetch(session: &Session, range: &mut Range, stream: u64) -> Result<(), CudaError> {
    for at in (0..range.bytes).step_by(MAX_BULK) {
        let mut back = vec![0; (range.bytes - at).min(MAX_BULK as u64) as usize];
        let args = calls::rgpuCopyOutArgs {
            src: U64::new(range.device + at),
            bytes: U64::new(back.len() as u64),
            stream: U64::new(stream),
            sync: U32::new(0),
        };
        let (op, sink) = (calls::op::rgpuCopyOut, Sink::Exact(&mut back));
        let ticket = session.request(op, args.as_bytes(), &[], &mut [], sink)?;
        session.finish(ticket)?;
        merge(range, at, &back);
    }
    Ok(())
}

/// Puts the device's bytes where the host has changed nothing.
fn merge(range: &mut Range, at: u64, back: &[u8]) {
    for (number, new) in back.chunks(PAGE as usize).enumerate() {
        let offset = at as usize + number * PAGE as usize;
        let shadow = &mut range.shadow[offset..offset + new.len()];
        if shadow == new {
            continue;
        }
        let place = (range.host + offset as u64) as *mut u8;
        // SAFETY: memory of the program's that is there as long as the range is.
        let host = unsafe { std::slice::from_raw_parts_mut(place, new.len()) };
        if host == shadow {
            host.copy_from_slice(new);
            shadow.copy_from_slice(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_has_changed_is_not_overwritten() {
        let mut host = vec![0u8; 3 * PAGE as usize];
        let mut shared = SharedMemory::default();
        shared.add(host.as_mut_ptr() as u64, 0x1000, host.len() as u64, 1);
        let mut range = shared.remove(0x1000).unwrap();
        host[PAGE as usize + 5] = 7;
        merge(&mut range, 0, &vec![9; host.len()]);
        assert_eq!((host[0], host[2 * PAGE as usize]), (9, 9));
        assert_eq!((host[PAGE as usize], host[PAGE as usize + 5]), (0, 7));
        // The device's are the same now, and the host's change still is one.
        assert_eq!(range.shadow[0], 9);
        assert_ne!(range.shadow[PAGE as usize + 5], 7);
    }
}
