//! What graphs use of the client's: the buffers that stand for its memory, and its functions.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuGraphFetchReply;
use rgpu_proto::frame::{MAX_BODY, MAX_BULK};
use rgpu_proto::node_params::{self as at, NodeParams, WORDS};

use crate::calls::capture::graph_of;
use crate::calls::conditional;
use crate::calls::graph::all_nodes;
use crate::calls::host_function::{Record, node_record, record_at, record_for};
use crate::copies::{HostCopy, Last, Share};
use crate::gate::Work;
use crate::kept::keep;
use crate::reaper::{Action, Pointer};
use crate::state::State;

/// Graphs within graphs, as deep as CUDA's own limits let them be.
const MAX_DEPTH: usize = 64;
/// Bytes that wait for streams to take them, of all sessions' fills; beyond them a fill waits for its stream.
const MOST_WAITING: usize = 64 << 20;
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// What of the client's an executable graph uses.
#[derive(Default)]
pub struct ExecHosts {
    functions: u64,
    /// They live as long as this, whatever becomes of the graphs that they were made for.
    records: Vec<Arc<Record>>,
    /// All nodes, those of inner graphs with them, in the driver's order.
    nodes: Vec<usize>,
    copies: HashMap<usize, Arc<HostCopy>>,
    /// What only this executable graph has, by node.
    own: HashMap<usize, Vec<Box<dyn Any + Send>>>,
}

/// Who keeps what a node points to.
#[derive(Clone, Copy)]
pub enum Keeper {
    Graph(*mut c_void),
    /// A node of an executable graph, for that graph alone.
    Exec(*mut c_void, *mut c_void),
}

impl Keeper {
    /// A buffer for bytes that the client has `offset` bytes behind its place.
    pub fn buffer(
        self,
        state: &State,
        to_device: bool,
        host: (u64, [u64; 3]),
        offset: u64,
        len: u64,
    ) -> Result<Arc<HostCopy>, CudaError> {
        let copies = &state.shared.copies;
        let copy = copies.create(to_device, host, offset, len)?;
        let share = Share {
            copies: copies.clone(),
            number: copy.number,
        };
        self.keep(state, Box::new(share))?;
        state.shared.graph_hosts.store(true, Ordering::Relaxed);
        Ok(copy)
    }

    /// A function's record, as the driver gets it.
    pub fn record(self, state: &State, function: u64, data: u64) -> Result<*mut c_void, CudaError> {
        match self {
            Keeper::Graph(graph) => {
                conditional::refuse_hosts(state, graph)?;
                record_for(state, graph, function, data)
            }
            Keeper::Exec(..) => {
                let record = node_record(state, function, data);
                let address = Arc::as_ptr(&record).cast_mut().cast();
                self.keep(state, Box::new(record))?;
                Ok(address)
            }
        }
    }

    fn keep(self, state: &State, thing: Box<dyn Any + Send>) -> Result<(), CudaError> {
        match self {
            Keeper::Graph(graph) => {
                conditional::refuse_hosts(state, graph)?;
                keep(&state.driver, graph, thing)
            }
            Keeper::Exec(exec, node) => {
                let mut execs = state.shared.execs();
                let hosts = execs.entry(exec.addr()).or_default();
                hosts.own.entry(node.addr()).or_default().push(thing);
                Ok(())
            }
        }
    }
}

pub fn buffer_for(
    state: &State,
    graph: *mut c_void,
    to_device: bool,
    host: (u64, [u64; 3]),
    offset: u64,
    len: u64,
) -> Result<Arc<HostCopy>, CudaError> {
    Keeper::Graph(graph).buffer(state, to_device, host, offset, len)
}

/// Looks through a graph and those within it.
fn look(
    state: &State,
    graph: *mut c_void,
    hosts: &mut ExecHosts,
    depth: usize,
) -> Result<(), CudaError> {
    if depth > MAX_DEPTH {
        return Err(CudaError::INVALID_VALUE);
    }
    let driver = &state.driver;
    for node in all_nodes(state, graph)? {
        hosts.nodes.push(node.addr());
        let mut kind = 0;
        // SAFETY: the node is the driver's own, and `kind` a place.
        unsafe { driver_call!(driver.cuGraphNodeGetType(node, &mut kind)) }?;
        match kind {
            at::HOST => {
                let mut words = [0_u64; 2];
                // SAFETY: the node calls a function, and the place has room for a CUDA_HOST_NODE_PARAMS.
                unsafe {
                    driver_call!(driver.cuGraphHostNodeGetParams(node, words.as_mut_ptr().cast()))
                }?;
                hosts.functions += 1;
                hosts.records.extend(record_at(state, words[1]));
            }
            at::MEMCPY => {
                let mut words: NodeParams = [0; WORDS];
                let place = words[at::memcpy::COPY..].as_mut_ptr().cast();
                // SAFETY: the node copies, and the place has room for a CUDA_MEMCPY3D.
                unsafe { driver_call!(driver.cuGraphMemcpyNodeGetParams(node, place)) }?;
                if let Some(copy) = copy_of(state, &words) {
                    hosts.copies.insert(node.addr(), copy);
                }
            }
            at::GRAPH => {
                let mut child = ptr::null_mut();
                // SAFETY: the node holds a graph, and `child` is a place.
                unsafe { driver_call!(driver.cuGraphChildGraphNodeGetGraph(node, &mut child)) }?;
                look(state, child, hosts, depth + 1)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn copy_of(state: &State, words: &NodeParams) -> Option<Arc<HostCopy>> {
    use at::memcpy::{DST, HOST, HOST_MEMORY, SRC, TYPE};
    let end = [SRC, DST]
        .into_iter()
        .find(|end| words[end + TYPE] as u32 == HOST_MEMORY)?;
    let pointer = words[end + HOST] as usize;
    state.shared.copies.at(ptr::without_provenance(pointer))
}

/// Whether a graph uses anything of the client's.
pub fn has_any(state: &State, graph: *mut c_void) -> Result<bool, CudaError> {
    let hosts = look_all(state, graph)?;
    Ok(hosts.functions > 0 || !hosts.copies.is_empty())
}

fn look_all(state: &State, graph: *mut c_void) -> Result<ExecHosts, CudaError> {
    let mut hosts = ExecHosts::default();
    look(state, graph, &mut hosts, 0)?;
    Ok(hosts)
}

fn are_used(state: &State) -> bool {
    state.shared.graph_hosts.load(Ordering::Relaxed)
}

/// An executable graph has been made of this one.
pub fn instantiated(state: &State, exec: *mut c_void, graph: *mut c_void) -> Result<(), CudaError> {
    if are_used(state) {
        let hosts = look_all(state, graph)?;
        state.shared.execs().insert(exec.addr(), hosts);
    }
    Ok(())
}

/// Work that is under way may still use it.
fn drop_later(state: &State, thing: Box<dyn Any + Send>) {
    let contexts = state.handles.contexts();
    state.shared.reaper.after(contexts, Action::Drop(thing));
}

/// What only the executable graph has for some of its nodes, which do something else now.
fn drop_own(state: &State, hosts: &mut ExecHosts, nodes: &[usize]) {
    for node in nodes {
        if let Some(own) = hosts.own.remove(node) {
            drop_later(state, Box::new(own));
        }
        if let Some(copy) = hosts.copies.remove(node) {
            drop_later(state, Box::new(copy));
        }
    }
}

/// A node of an executable graph does something else; `copy`: with memory of the client's.
pub fn replaced(state: &State, exec: *mut c_void, node: *mut c_void, copy: Option<Arc<HostCopy>>) {
    let mut execs = state.shared.execs();
    let Some(hosts) = execs.get_mut(&exec.addr()) else {
        return;
    };
    // The newest is what it does now; launches that are under way may use those before.
    if let Some(own) = hosts.own.get_mut(&node.addr()) {
        let newest = own.pop();
        for thing in own.drain(..) {
            drop_later(state, thing);
        }
        own.extend(newest);
    }
    let before = match copy {
        Some(copy) => hosts.copies.insert(node.addr(), copy),
        None => hosts.copies.remove(&node.addr()),
    };
    if let Some(before) = before {
        drop_later(state, Box::new(before));
    }
}

/// The nodes of a graph inside an executable one do what those of another do.
pub fn child_replaced(
    state: &State,
    exec: *mut c_void,
    before: *mut c_void,
    now: *mut c_void,
) -> Result<(), CudaError> {
    if !are_used(state) {
        return Ok(());
    }
    let (before, now) = (look_all(state, before)?, look_all(state, now)?);
    let mut execs = state.shared.execs();
    let hosts = execs.entry(exec.addr()).or_default();
    let mut now = now;
    hosts.records.append(&mut now.records);
    take_over(state, hosts, before.nodes, now);
    Ok(())
}

/// The nodes of an executable graph do what those of another graph of the same shape do.
pub fn updated(state: &State, exec: *mut c_void, graph: *mut c_void) -> Result<(), CudaError> {
    if !are_used(state) {
        return Ok(());
    }
    let now = look_all(state, graph)?;
    let mut execs = state.shared.execs();
    let hosts = execs.entry(exec.addr()).or_default();
    hosts.functions = now.functions;
    let mut now = now;
    let records = std::mem::replace(&mut hosts.records, std::mem::take(&mut now.records));
    drop_later(state, Box::new(records));
    if hosts.nodes.len() != now.nodes.len() {
        // It was made before anything of the client's was used.
        hosts.nodes = now.nodes.clone();
    }
    take_over(state, hosts, hosts.nodes.clone(), now);
    Ok(())
}

fn take_over(state: &State, hosts: &mut ExecHosts, nodes: Vec<usize>, mut now: ExecHosts) {
    drop_own(state, hosts, &nodes);
    for (old, new) in nodes.iter().zip(&now.nodes) {
        if let Some(copy) = now.copies.remove(new) {
            hosts.copies.insert(*old, copy);
        }
    }
}

pub fn destroyed(state: &State, exec: *mut c_void) {
    if let Some(gates) = state.shared.gates.get() {
        // Another may be there later.
        gates.forget(exec.addr());
    }
    let hosts = state.shared.execs().remove(&exec.addr());
    if let Some(hosts) = hosts {
        drop_later(state, Box::new(hosts));
    }
}

pub fn rgpuGraphHosts(
    state: &State,
    exec: *mut c_void,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let execs = state.shared.execs();
    let Some(hosts) = execs.get(&exec.addr()) else {
        reply.extend(0_u64.to_le_bytes());
        return Ok(());
    };
    if hosts.copies.len() > MAX_BODY as usize / 64 {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    reply.extend(hosts.functions.to_le_bytes());
    for copy in hosts.copies.values() {
        let host = copy.host.wrapping_add(copy.offset);
        for word in [copy.to_device.into(), copy.number, host, copy.len()] {
            reply.extend(word.to_le_bytes());
        }
    }
    Ok(())
}

pub fn rgpuGraphLaunch(
    state: &State,
    exec: *mut c_void,
    stream: *mut c_void,
) -> Result<(), CudaError> {
    let mut turn = state.work(stream, Work::Like(exec.addr()), false)?;
    if let Some(turn) = &mut turn
        && are_used(state)
    {
        turn.has_hosts();
    }
    // SAFETY: handles are the driver's own.
    unsafe { driver_call!(state.driver.cuGraphLaunch(exec, stream)) }?;
    drop(turn);
    if !are_used(state) || graph_of(state, stream).is_some() {
        return Ok(());
    }
    let copies: Vec<Arc<HostCopy>> = match state.shared.execs().get(&exec.addr()) {
        Some(hosts) => hosts.copies.values().cloned().collect(),
        None => return Ok(()),
    };
    copies.iter().try_for_each(|copy| mark(state, copy, stream))
}

/// Notes that the copy's buffer is in use until the stream comes here.
fn mark(state: &State, copy: &HostCopy, stream: *mut c_void) -> Result<(), CudaError> {
    const DISABLE_TIMING: u32 = 2;
    let driver = &state.driver;
    let (context, contexts_ended) = (state.handles.context(), state.handles.contexts_ended());
    let is_fit = |last: &Last| (last.context, last.contexts_ended) == (context, contexts_ended);
    let event = match copy.last().filter(is_fit) {
        Some(last) => last.event,
        None => {
            let mut event = ptr::null_mut();
            // SAFETY: `event` is a place.
            unsafe { driver_call!(driver.cuEventCreate(&mut event, DISABLE_TIMING)) }?;
            Pointer(event)
        }
    };
    // SAFETY: both are the driver's own.
    unsafe { driver_call!(driver.cuEventRecord(event.0, stream)) }?;
    let before = copy.used(Last {
        event,
        context,
        contexts_ended,
    });
    let gone = before.into_iter().chain(state.shared.copies.take_events());
    for last in gone.filter(|last| last.event != event) {
        // The event of a context that has ended has gone with it.
        if last.contexts_ended == contexts_ended {
            // SAFETY: nobody else knows it any more.
            unsafe { driver_call!(driver.cuEventDestroy_v2(last.event.0)) }?;
        }
    }
    Ok(())
}

/// Bytes on their way to a buffer.
struct Fill {
    copy: Arc<HostCopy>,
    offset: u64,
    data: Vec<u8>,
}

impl Drop for Fill {
    fn drop(&mut self) {
        WAITING.fetch_sub(self.data.len(), Ordering::Relaxed);
    }
}

extern "C" fn fill(data: *mut c_void) {
    // SAFETY: given to the driver for this one call.
    let fill = unsafe { Box::from_raw(data.cast::<Fill>()) };
    // It was checked that they fit.
    let _ = fill.copy.write(fill.offset, &fill.data);
}

/// Whether no launch uses the buffer any more.
fn is_free(state: &State, copy: &HostCopy) -> Result<bool, CudaError> {
    let Some(last) = copy.last() else {
        return Ok(true);
    };
    if last.contexts_ended != state.handles.contexts_ended() {
        // Its event may be gone. What uses the buffer is then work of another context that has ended, or of this one.
        // SAFETY: no pointers.
        unsafe { driver_call!(state.driver.cuCtxSynchronize()) }?;
        return Ok(true);
    }
    // SAFETY: the event lives: no context has ended since it was made.
    match unsafe { driver_call!(state.driver.cuEventQuery(last.event.0)) } {
        Ok(()) => Ok(true),
        Err(CudaError::NOT_READY) => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn rgpuGraphFill(
    state: &State,
    copy: u64,
    stream: *mut c_void,
    now: u32,
    offset: u64,
    data: &[u8],
) -> Result<(), CudaError> {
    let copy = state.shared.copies.get(copy);
    let copy = copy.ok_or(CudaError::INVALID_VALUE)?;
    let end = offset.checked_add(data.len() as u64);
    if end.is_none_or(|end| end > copy.len()) {
        return Err(CudaError::INVALID_VALUE);
    }
    if now != 0 || is_free(state, &copy)? {
        return copy.write(offset, data);
    }
    let driver = &state.driver;
    if let Some(last) = copy.last() {
        // SAFETY: both are the driver's own: `is_free` has asked for the event.
        unsafe { driver_call!(driver.cuStreamWaitEvent(stream, last.event.0, 0)) }?;
    }
    if WAITING.fetch_add(data.len(), Ordering::Relaxed) + data.len() > MOST_WAITING {
        WAITING.fetch_sub(data.len(), Ordering::Relaxed);
        // SAFETY: the stream is the driver's own.
        unsafe { driver_call!(driver.cuStreamSynchronize(stream)) }?;
        return copy.write(offset, data);
    }
    let bytes = Box::new(Fill {
        copy,
        offset,
        data: data.to_vec(),
    });
    let bytes: *mut c_void = Box::into_raw(bytes).cast();
    // SAFETY: the stream is the driver's own, and the function takes the bytes.
    unsafe { driver_call!(driver.cuLaunchHostFunc(stream, fill as *mut c_void, bytes)) }
        .inspect_err(|_| {
            // SAFETY: made above, and the driver has not taken it.
            drop(unsafe { Box::from_raw(bytes.cast::<Fill>()) });
        })
}

pub fn rgpuGraphFetch(
    state: &State,
    copy: u64,
    now: u32,
    offset: u64,
    bytes: u64,
    out: &mut rgpuGraphFetchReply,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let Some(copy) = state.shared.copies.get(copy) else {
        // It has been fetched, and its graph is gone.
        out.ready.set(1);
        return Ok(());
    };
    if now == 0 && !is_free(state, &copy)? {
        return Ok(());
    }
    out.ready.set(1);
    let len = usize::try_from(bytes)
        .ok()
        .filter(|&len| len <= MAX_BULK)
        .ok_or(CudaError::INVALID_VALUE)?;
    copy.read(offset, len, reply)?;
    if now == 0 && offset.saturating_add(bytes) >= copy.len() {
        state.shared.copies.delivered(&copy);
    }
    Ok(())
}
