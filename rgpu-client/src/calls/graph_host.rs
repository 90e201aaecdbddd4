//! What of the program's a graph needs while it runs: bytes of its memory go to the worker before each launch, results come back when the
//! program has waited for the launch, and functions run here.
//!
//! The worker keeps a buffer for each copy. Where a graph has both functions and copies, the function may read what a copy before it has
//! brought, or write what one behind it takes: so results come, and bytes go, around the function too.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuGraphFetchReply;
use rgpu_proto::frame::MAX_BULK;

use super::capture;
use crate::entry::Needs;
use crate::handles::Kind;
use crate::servers::Of;
use crate::session::Session;
use crate::{send, thread};

#[derive(Default)]
pub struct Hosts {
    /// Whether any graph of the session needs something.
    pub used: bool,
    /// Executable graphs that do.
    execs: HashMap<u64, Arc<Wants>>,
    /// Launches that may not be done, or whose results are not here, each once.
    running: Vec<Arc<Wants>>,
}

struct Copy {
    to_device: bool,
    /// The worker's number.
    number: u64,
    host: u64,
    bytes: u64,
}

struct Wants {
    /// The context that asks for it; the thread that runs functions has none of its own.
    context: u64,
    functions: u64,
    copies: Vec<Copy>,
}

fn overlap(a: &Copy, b: &Copy) -> bool {
    a.host < b.host.saturating_add(b.bytes) && b.host < a.host.saturating_add(a.bytes)
}

impl Wants {
    fn parse(context: u64, bytes: &[u8]) -> Option<Wants> {
        let (words, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (functions, rest) = words.split_first()?;
        let (copies, []) = rest.as_chunks::<4>() else {
            return None;
        };
        let copies = copies
            .iter()
            .map(|&[to_device, number, host, bytes]| Copy {
                to_device: to_device != 0,
                number,
                host,
                bytes,
            })
            .collect();
        Some(Wants {
            context,
            functions: *functions,
            copies,
        })
    }

    /// A copy that would read what another has just written to the program's memory: that stays on the worker until the launch is over.
    fn is_circular(&self) -> bool {
        let of = |to_device: bool| {
            self.copies
                .iter()
                .filter(move |copy| copy.to_device == to_device)
        };
        of(true).any(|read| of(false).any(|written| overlap(read, written)))
    }
}

/// Asks what an executable graph needs, which was made or changed.
pub fn learn(session: &Session, exec: u64) -> Result<(), CudaError> {
    if !session.graphs().hosts.used {
        return Ok(());
    }
    let mut bytes = Vec::new();
    send::rgpuGraphHosts(session, exec, &mut bytes)?;
    let wants = Wants::parse(session.context(), &bytes).ok_or(CudaError::UNKNOWN)?;
    if wants.is_circular() {
        return Err(super::device::refuse(
            "a graph that copies to the program's memory and from there",
        ));
    }
    let mut graphs = session.graphs();
    if wants.functions > 0 || !wants.copies.is_empty() {
        graphs.hosts.execs.insert(exec, Arc::new(wants));
    } else {
        graphs.hosts.execs.remove(&exec);
    }
    Ok(())
}

pub fn forget(session: &Session, exec: u64) {
    session.graphs().hosts.execs.remove(&exec);
}

/// Sends the bytes of a copy's end in the program's memory.
fn fill(session: &Session, copy: &Copy, stream: u64, now: bool) -> Result<(), CudaError> {
    // SAFETY: the program has given this range to a graph that it launches now: it is readable memory of its own.
    let data = unsafe { std::slice::from_raw_parts(copy.host as *const u8, copy.bytes as usize) };
    for (number, piece) in data.chunks(MAX_BULK).enumerate() {
        let offset = (number * MAX_BULK) as u64;
        send::rgpuGraphFill(session, copy.number, stream, now.into(), offset, piece)?;
    }
    Ok(())
}

/// Brings a copy's bytes to the program's memory; false if the launch is not done yet.
fn fetch(session: &Session, copy: &Copy, now: bool) -> Result<bool, CudaError> {
    // Of a copy to the device only whether its launch is done is of interest.
    let bytes = if copy.to_device { 0 } else { copy.bytes };
    let mut offset = 0;
    loop {
        let len = (bytes - offset).min(MAX_BULK as u64);
        let mut reply = rgpuGraphFetchReply::default();
        let mut data = Vec::new();
        send::rgpuGraphFetch(
            session,
            copy.number,
            now.into(),
            offset,
            len,
            &mut data,
            &mut reply,
        )?;
        if reply.ready.get() == 0 {
            return Ok(false);
        }
        // They have been brought before, with another launch's.
        if data.is_empty() {
            return Ok(true);
        }
        if data.len() as u64 != len {
            return Err(CudaError::UNKNOWN);
        }
        // SAFETY: within the range that the program gave to the graph for its results.
        unsafe {
            ((copy.host + offset) as *mut u8).copy_from_nonoverlapping(data.as_ptr(), data.len())
        };
        offset += len;
        if offset >= bytes {
            return Ok(true);
        }
    }
}

/// Brings the results of launches that are done. To be called when the program has waited for something.
pub fn deliver(session: &Session) -> Result<(), CudaError> {
    if !session.standing.results.load(Ordering::Acquire) {
        return Ok(());
    }
    let turn = session.standing.delivery.lock();
    let turn = turn.unwrap_or_else(PoisonError::into_inner);
    deliver_in(session, turn)
}

/// The same for the thread that runs functions, which must not wait for another's delivery: that may wait for the function.
pub fn deliver_unless_busy(session: &Session) -> Result<(), CudaError> {
    if !session.standing.results.load(Ordering::Acquire) {
        return Ok(());
    }
    match session.standing.delivery.try_lock() {
        Ok(turn) => deliver_in(session, turn),
        Err(_) => Ok(()),
    }
}

fn deliver_in(session: &Session, _turn: MutexGuard<'_, ()>) -> Result<(), CudaError> {
    let running = session.graphs().hosts.running.clone();
    let mut done = Vec::new();
    for wants in running {
        let mut whole = true;
        let _context = thread::Borrowed::new(wants.context);
        for copy in &wants.copies {
            whole &= fetch(session, copy, false)?;
        }
        if whole {
            done.push(wants);
        }
    }
    let mut graphs = session.graphs();
    let running = &mut graphs.hosts.running;
    running.retain(|wants| !done.iter().any(|done| Arc::ptr_eq(done, wants)));
    session
        .standing
        .results
        .store(!running.is_empty(), Ordering::Release);
    Ok(())
}

fn around_function(session: &Session, mut move_bytes: impl FnMut(&Copy) -> Result<(), CudaError>) {
    let running = session.graphs().hosts.running.clone();
    for wants in running.iter().filter(|wants| wants.functions > 0) {
        let _context = thread::Borrowed::new(wants.context);
        for copy in &wants.copies {
            // The session is over, then: the function runs all the same.
            let _ = move_bytes(copy);
        }
    }
}

/// A function of a graph is about to run: it may read what the graph has brought so far.
pub fn before_function(session: &Session) {
    around_function(session, |copy| {
        if copy.to_device {
            Ok(())
        } else {
            fetch(session, copy, true).map(drop)
        }
    });
}

/// It has run, and may have written what the graph takes next.
pub fn after_function(session: &Session) {
    around_function(session, |copy| {
        if copy.to_device {
            fill(session, copy, 0, true)
        } else {
            Ok(())
        }
    });
}

fn launch(session: &Session, exec: u64, stream: u64) -> Result<(), CudaError> {
    session.handles.check(Kind::GraphExec, exec)?;
    session.handles.check(Kind::Stream, stream)?;
    let send = || send::rgpuGraphLaunch(session, exec, stream);
    let wants = {
        let graphs = session.graphs();
        if graphs.hosts.used {
            graphs.hosts.execs.get(&exec).cloned()
        } else {
            None
        }
    };
    let Some(wants) = wants else {
        return session.standing.launch_graph(session, send);
    };
    if capture::status(session, stream)? == capture::ACTIVE {
        return send();
    }
    for copy in &wants.copies {
        // Results too, where a function may look before they are there: it then sees what was there before.
        if copy.to_device || wants.functions > 0 {
            fill(session, copy, stream, false)?;
        }
    }
    if !wants.copies.is_empty() {
        let mut graphs = session.graphs();
        if !graphs
            .hosts
            .running
            .iter()
            .any(|other| Arc::ptr_eq(other, &wants))
        {
            graphs.hosts.running.push(wants.clone());
        }
        session.standing.results.store(true, Ordering::Release);
    }
    session.standing.add_functions(wants.functions);
    let launched = session.standing.launch_graph(session, send);
    if launched.is_err() {
        session.standing.remove_functions(wants.functions);
    }
    launched
}

pub unsafe fn cuGraphLaunch(exec: u64, stream: u64) -> u32 {
    Of::Handle(exec).enter("cuGraphLaunch", Needs::Context, |session| {
        launch(session, exec, stream)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(words: &[u64]) -> Option<Wants> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Wants::parse(16, &bytes)
    }

    #[test]
    fn copies_that_feed_each_other_are_seen() {
        let apart = wants(&[2, 1, 7, 0x1000, 16, 0, 8, 0x1010, 16]).unwrap();
        assert_eq!((apart.functions, apart.copies.len()), (2, 2));
        assert!(!apart.is_circular());
        assert!(
            wants(&[0, 1, 7, 0x1000, 17, 0, 8, 0x1010, 16])
                .unwrap()
                .is_circular()
        );
        assert!(wants(&[]).is_none() && wants(&[0, 1]).is_none());
    }
}
