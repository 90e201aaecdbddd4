//! Stream capture: what a program enqueues becomes nodes of a graph.
//!
//! A capture begins in one stream and spreads to others through events. Each stream that takes part has the nodes that
//! its next one will follow.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::graph::{Graph, Operation};
use crate::handles;
use crate::runtime::Runtime;
use crate::stream::Stream;

/// CUstreamCaptureMode.
pub const GLOBAL: u32 = 0;
pub const RELAXED: u32 = 2;

/// CUstreamCaptureStatus.
pub const NONE: u32 = 0;
pub const ACTIVE: u32 = 1;
pub const INVALIDATED: u32 = 2;

pub struct Capture {
    pub id: u64,
    pub graph: Arc<Graph>,
    /// The graph was there before, and stays if the capture fails.
    into_graph: bool,
    origin: u64,
    mode: u32,
    thread: ThreadId,
    invalid: AtomicBool,
    ended: AtomicBool,
    state: Mutex<State>,
}

struct State {
    streams: Vec<(Arc<Stream>, Vec<u64>)>,
    /// Nodes of this capture that none of it follows yet.
    leaves: HashSet<u64>,
}

/// Captures that have not ended.
static ALL: Mutex<Vec<Arc<Capture>>> = Mutex::new(Vec::new());
/// Is `ALL` worth looking at? Most programs never capture.
static ANY: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// What cuThreadExchangeStreamCaptureMode sets.
    static THREAD_MODE: Cell<u32> = const { Cell::new(GLOBAL) };
}

fn all() -> MutexGuard<'static, Vec<Arc<Capture>>> {
    ALL.lock().unwrap_or_else(|e| e.into_inner())
}

pub fn exchange_thread_mode(mode: u32) -> u32 {
    THREAD_MODE.replace(mode)
}

impl Capture {
    /// Lets a stream capture into a new graph, or behind nodes of another.
    pub fn begin(
        runtime: &Runtime,
        stream: &Arc<Stream>,
        mode: u32,
        into: Option<(Arc<Graph>, Vec<u64>)>,
    ) -> Result {
        if mode > RELAXED {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        if stream.is_legacy() {
            return Err(Error::ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        let mut all = all();
        if stream.capture().is_some() {
            return Err(Error::ERROR_ILLEGAL_STATE);
        }
        let into_graph = into.is_some();
        let (graph, after) = into.unwrap_or_else(|| (Graph::create(runtime, false), Vec::new()));
        let capture = Arc::new(Capture {
            id: handles::fresh(),
            graph,
            into_graph,
            origin: stream.handle,
            mode,
            thread: std::thread::current().id(),
            invalid: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            state: Mutex::new(State {
                streams: vec![(stream.clone(), after)],
                leaves: HashSet::new(),
            }),
        });
        stream.set_capture(Some(capture.clone()));
        all.push(capture);
        ANY.store(true, Release);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether it began in this stream, into a graph that the program has.
    pub fn is_into_known(&self, stream: &Stream) -> bool {
        self.into_graph && self.origin == stream.handle
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Acquire)
    }

    pub fn invalidate(&self) {
        self.invalid.store(true, Release);
    }

    pub fn check(&self) -> Result {
        if self.invalid.load(Acquire) {
            Err(Error::ERROR_STREAM_CAPTURE_INVALIDATED)
        } else {
            Ok(())
        }
    }

    pub fn status(&self) -> u32 {
        if self.check().is_ok() {
            ACTIVE
        } else {
            INVALIDATED
        }
    }

    /// Nodes that the stream's next one follows.
    pub fn dependencies(&self, stream: &Stream) -> Vec<u64> {
        let state = self.state();
        let found = state
            .streams
            .iter()
            .find(|(s, _)| s.handle == stream.handle);
        found.map_or(Vec::new(), |(_, after)| after.clone())
    }

    /// Replaces them, or adds to them.
    pub fn set_dependencies(&self, stream: &Stream, nodes: &[u64], replace: bool) -> Result {
        self.check()?;
        let known: HashSet<u64> = self.graph.nodes().into_iter().collect();
        if !nodes.iter().all(|node| known.contains(node)) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let mut state = self.state();
        let State { streams, leaves } = &mut *state;
        let found = streams.iter_mut().find(|(s, _)| s.handle == stream.handle);
        if let Some((_, after)) = found {
            if replace {
                // What the program takes out itself need not be joined.
                for before in after.drain(..) {
                    leaves.remove(&before);
                }
            }
            unite(after, nodes);
        }
        Ok(())
    }

    /// Adds what the stream was asked to do.
    pub fn add(&self, runtime: &Runtime, stream: &Stream, operation: Operation) -> Result<u64> {
        self.check()?;
        let mut state = self.state();
        let State { streams, leaves } = &mut *state;
        let found = streams.iter_mut().find(|(s, _)| s.handle == stream.handle);
        let (_, after) = found.ok_or(Error::ERROR_STREAM_CAPTURE_INVALIDATED)?;
        let added = self.graph.add(runtime, operation, after);
        // The program may have removed nodes under our hands.
        let node = added.inspect_err(|_| self.invalidate())?;
        for before in after.iter() {
            leaves.remove(before);
        }
        leaves.insert(node);
        *after = vec![node];
        Ok(node)
    }

    /// The stream follows these nodes from now on, too, and takes part if it did not.
    pub fn join(self: &Arc<Self>, stream: &Arc<Stream>, nodes: &[u64]) -> Result {
        self.check()?;
        match stream.capture() {
            Some(other) if !Arc::ptr_eq(&other, self) => {
                other.invalidate();
                self.invalidate();
                return Err(Error::ERROR_STREAM_CAPTURE_MERGE);
            }
            Some(_) => {}
            None if stream.is_legacy() => {
                self.invalidate();
                return Err(Error::ERROR_STREAM_CAPTURE_IMPLICIT);
            }
            None => {
                self.state().streams.push((stream.clone(), Vec::new()));
                stream.set_capture(Some(self.clone()));
            }
        }
        let mut state = self.state();
        let found = state
            .streams
            .iter_mut()
            .find(|(s, _)| s.handle == stream.handle);
        if let Some((_, after)) = found {
            unite(after, nodes);
        }
        Ok(())
    }

    /// Ends it in the stream in which it began. The graph, unless something went wrong.
    pub fn end(self: &Arc<Self>, runtime: &Runtime, stream: &Stream) -> Result<Arc<Graph>> {
        if stream.handle != self.origin {
            self.invalidate();
            return Err(Error::ERROR_STREAM_CAPTURE_UNMATCHED);
        }
        if self.mode != RELAXED && self.thread != std::thread::current().id() {
            return Err(Error::ERROR_STREAM_CAPTURE_WRONG_THREAD);
        }
        let before = self.before(self.dependencies(stream));
        let followed =
            |leaf: &u64| before.contains(leaf) || !self.graph.dependents(*leaf).is_empty();
        let joined = self.state().leaves.iter().all(followed);
        self.close();
        let result = self.check().and(if joined {
            Ok(())
        } else {
            Err(Error::ERROR_STREAM_CAPTURE_UNJOINED)
        });
        if result.is_err() {
            self.discard(runtime);
        }
        result.map(|()| self.graph.clone())
    }

    /// Nodes and all that these follow: the program may have put nodes of its own behind captured ones.
    fn before(&self, nodes: Vec<u64>) -> HashSet<u64> {
        let mut seen = HashSet::new();
        let mut left = nodes;
        while let Some(node) = left.pop() {
            if seen.insert(node) {
                left.extend(self.graph.dependencies(node));
            }
        }
        seen
    }

    /// Its streams are free again.
    fn close(self: &Arc<Self>) {
        self.ended.store(true, Release);
        let mut all = all();
        all.retain(|other| !Arc::ptr_eq(other, self));
        ANY.store(!all.is_empty(), Release);
        drop(all);
        let streams = std::mem::take(&mut self.state().streams);
        for (stream, _) in streams {
            stream.set_capture(None);
        }
    }

    /// Nobody gets its graph.
    fn discard(&self, runtime: &Runtime) {
        if !self.into_graph {
            let _ = runtime.graphs.take(self.graph.handle);
            self.graph.dissolve(runtime);
        }
    }

    /// A stream goes: without its origin a capture never ends. What another one has captured must have been joined, or is missed at the end.
    pub fn leave(self: &Arc<Self>, runtime: &Runtime, stream: &Stream) {
        if stream.handle == self.origin {
            self.invalidate();
            self.close();
            self.discard(runtime);
        } else {
            self.state()
                .streams
                .retain(|(s, _)| s.handle != stream.handle);
            stream.set_capture(None);
        }
    }

    fn has_stream_of(&self, context: &Context, blocking: bool) -> bool {
        let of = |stream: &Stream| {
            stream.context.is_part_of(context) && (!blocking || stream.is_blocking())
        };
        self.state().streams.iter().any(|(stream, _)| of(stream))
    }
}

fn unite(after: &mut Vec<u64>, nodes: &[u64]) {
    for node in nodes {
        if !after.contains(node) {
            after.push(*node);
        }
    }
}

fn those(of: impl Fn(&Capture) -> bool) -> Vec<Arc<Capture>> {
    if !ANY.load(Acquire) {
        return Vec::new();
    }
    let all = all().clone();
    all.into_iter().filter(|capture| of(capture)).collect()
}

/// The legacy stream would wait for streams of its context that capture.
pub fn is_implicit(stream: &Stream) -> bool {
    stream.is_legacy() && !those(|c| c.has_stream_of(&stream.context, true)).is_empty()
}

/// Something that neither a stream that captures nor the legacy stream beside one can do: it ends in an error, and so
/// does the capture.
pub fn forbid(stream: &Stream) -> Result {
    if let Some(capture) = stream.capture() {
        capture.check()?;
        capture.invalidate();
        return Err(Error::ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    forbid_implicit(stream)
}

pub fn forbid_implicit(stream: &Stream) -> Result {
    if !stream.is_legacy() {
        return Ok(());
    }
    let captures = those(|capture| capture.has_stream_of(&stream.context, true));
    for capture in &captures {
        capture.invalidate();
    }
    if captures.is_empty() {
        Ok(())
    } else {
        Err(Error::ERROR_STREAM_CAPTURE_IMPLICIT)
    }
}

/// To wait for a context is to wait for its streams.
pub fn forbid_in(context: &Context) -> Result {
    refuse(those(|capture| capture.has_stream_of(context, false)))
}

/// The context is destroyed, and its captures with it.
pub fn abandon(runtime: &Runtime, context: &Context) {
    for capture in those(|capture| capture.has_stream_of(context, false)) {
        capture.invalidate();
        capture.close();
        capture.discard(runtime);
    }
}

/// A call that a capture would not see and that may be meant as a part of it, such as an allocation: the mode of the
/// thread, and those of the captures, say whether that is an error.
pub fn forbid_unsafe() -> Result {
    let mode = THREAD_MODE.get();
    if mode == RELAXED {
        return Ok(());
    }
    let me = std::thread::current().id();
    refuse(those(|capture| {
        let mine = capture.thread == me && capture.mode != RELAXED;
        mine || (mode == GLOBAL && capture.mode == GLOBAL)
    }))
}

fn refuse(captures: Vec<Arc<Capture>>) -> Result {
    for capture in &captures {
        capture.invalidate();
    }
    if captures.is_empty() {
        Ok(())
    } else {
        Err(Error::ERROR_STREAM_CAPTURE_UNSUPPORTED)
    }
}

/// Takes what a stream was asked to do, if it captures. False: it is to be done now.
pub fn takes(
    runtime: &Runtime,
    stream: &Stream,
    operation: impl FnOnce() -> Result<Operation>,
) -> Result<bool> {
    match stream.capture() {
        Some(capture) => {
            capture.check()?;
            capture.add(runtime, stream, operation()?)?;
            Ok(true)
        }
        None => forbid_implicit(stream).map(|()| false),
    }
}
