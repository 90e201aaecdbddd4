//! When every command waits for its reply. While a stream stands still until the program does something (runs a host function, writes a
//! value), a driver may keep a later call from returning until then, and the command stream behind that call would keep back the very
//! command that lets the stream go on. So a thread sends nothing behind a command that may be kept: it waits for each reply, and the
//! worker listens to the other threads meanwhile. While streams capture, the driver's verdict on a call must come at the call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;

use crate::session::Session;

#[derive(Default)]
pub struct Standing {
    /// Functions of the program's that streams wait for.
    functions: AtomicU64,
    /// Number of the last command that makes a stream wait for a value.
    last_wait: AtomicU64,
    /// A graph has a node that waits for a value: any launch of a graph may.
    graph_waits: AtomicBool,
    /// Streams in which captures began, and their contexts, since a thread has a stream of its own in each; and whether the graph is one
    /// that the program had.
    captures: Mutex<HashMap<(u64, u64), bool>>,
    capturing: AtomicBool,
    /// Launches of graphs that copy from or to the program's memory are under way (`calls::graph_host`).
    pub results: AtomicBool,
    /// Held while such results come, one after the other.
    pub delivery: Mutex<()>,
}

impl Standing {
    /// Whether a command must be waited for; `done`: number up to which all commands are done.
    pub fn is_needed(&self, done: u64) -> bool {
        self.is_capturing() || self.waits_for_host(done)
    }

    /// Whether streams may wait for a function of the program's, or for a value.
    pub fn waits_for_host(&self, done: u64) -> bool {
        self.functions.load(Ordering::Acquire) > 0 || self.last_wait.load(Ordering::Acquire) > done
    }

    /// Whether streams wait for functions of the program's, which may write what a later command is to read.
    pub fn has_functions(&self) -> bool {
        self.functions.load(Ordering::Acquire) > 0
    }

    /// To be called before the command is sent that makes a stream wait for `count` functions.
    pub fn add_functions(&self, count: u64) {
        self.functions.fetch_add(count, Ordering::AcqRel);
    }

    /// To be called when the worker's command to go on has been sent, or if there was nothing to wait for.
    pub fn remove_functions(&self, count: u64) {
        // Never below 0: a function of a graph may run that nobody has counted.
        let _ = self
            .functions
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |have| {
                Some(have.saturating_sub(count))
            });
    }

    /// Sends a command that makes a stream wait for a value in memory.
    pub fn wait_for_value(
        &self,
        session: &Session,
        send: impl FnOnce() -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        self.last_wait.store(u64::MAX, Ordering::Release);
        let sent = send();
        self.last_wait.store(session.sent(), Ordering::Release);
        sent
    }

    pub fn note_graph_waits(&self) {
        self.graph_waits.store(true, Ordering::Release);
    }

    /// Sends the launch of a graph, which makes its stream wait for a value if any graph does.
    pub fn launch_graph(
        &self,
        session: &Session,
        send: impl FnOnce() -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        if self.graph_waits.load(Ordering::Acquire) {
            self.wait_for_value(session, send)
        } else {
            send()
        }
    }

    pub fn is_capturing(&self) -> bool {
        self.capturing.load(Ordering::Acquire)
    }

    fn captures(&self) -> MutexGuard<'_, HashMap<(u64, u64), bool>> {
        self.captures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin_capture(&self, stream: u64, context: u64, into_known: bool) {
        self.captures().insert((stream, context), into_known);
        self.capturing.store(true, Ordering::Release);
    }

    pub fn captures_into_known(&self, stream: u64, context: u64) -> bool {
        self.captures().get(&(stream, context)) == Some(&true)
    }

    pub fn end_capture(&self, stream: u64, context: u64) {
        self.end_captures(|of, within| (of, within) == (stream, context));
    }

    pub fn end_context(&self, context: u64) {
        self.end_captures(|_, of| of == context);
    }

    /// Forgets captures whose stream is not there any more.
    pub fn keep_captures(&self, is_there: impl Fn(u64) -> bool) {
        self.end_captures(|stream, _| !is_there(stream));
    }

    fn end_captures(&self, ended: impl Fn(u64, u64) -> bool) {
        let mut captures = self.captures();
        captures.retain(|&(stream, context), _| !ended(stream, context));
        self.capturing
            .store(!captures.is_empty(), Ordering::Release);
    }
}
