//! What nodes do: adding them, asking and changing. Parameters become a CUgraphNodeParams in whichever form they come.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuGraphAddMemAllocReply;
use rgpu_proto::node_params::{self as at, WORDS};

use super::device::refuse;
use super::graph::{add, check_edges, dependencies};
use super::launch::Shape;
use crate::entry::{Needs, input_bytes, output_bytes, put, required};
use crate::handles::Kind;
use crate::node_params::{
    What, any_kind, changed, child, event, has_host_end, host, kernel, kernel_v2, launch, mem_free,
    memcpy, memset, read, show_host,
};
use crate::servers::Of;
use crate::session::Session;
use crate::{send, thread};

/// A kernel's parameters that the program was given pointers to.
pub struct Kept {
    buffer: Box<[u8]>,
    pointers: Box<[u64]>,
}

/// Keeps words for the program until the node is gone or has others, and returns where they are.
pub fn keep_words(session: &Session, node: u64, words: Vec<u64>) -> u64 {
    let mut graphs = session.graphs();
    let words: Box<[u64]> = words.into();
    // The same as before when nothing has changed: the program may still look at it.
    if graphs
        .kept
        .get(&node)
        .is_none_or(|kept| kept.pointers != words)
    {
        let buffer = Box::default();
        let pointers = words;
        graphs.kept.insert(node, Kept { buffer, pointers });
    }
    graphs
        .kept
        .get(&node)
        .map_or(0, |kept| kept.pointers.as_ptr() as u64)
}

// Adding.

/// Where a node is to be.
pub struct Place {
    pub node: *mut u64,
    pub graph: u64,
    pub list: *const u64,
    pub count: usize,
}

impl Place {
    /// # Safety
    /// The caller's places and list, as cuda.h says of the call.
    pub unsafe fn add(
        &self,
        name: &'static str,
        what: impl FnOnce(&'static Session) -> Result<What, CudaError>,
    ) -> u32 {
        Of::Handle(self.graph).enter(name, Needs::Context, |session| {
            session.handles.check(Kind::Graph, self.graph)?;
            // SAFETY: the caller's list.
            let before = unsafe { dependencies(session, self.graph, self.list, self.count) }?;
            let (words, arguments) = what(session)?;
            let kind = words[0] as u32;
            let params = at::to_bytes(&words);
            // SAFETY: the caller's place.
            unsafe {
                add(session, self.node, self.graph, |id| {
                    let send = || {
                        send::rgpuGraphAddNode(
                            session, id, self.graph, &before, &params, &arguments,
                        )
                    };
                    if kind == at::MEMCPY && has_host_end(&words) {
                        session.graphs().note_hosts();
                        // The worker may have no room for the bytes.
                        return thread::at_once(send);
                    }
                    // What a graph can hold of another, and memory, only the driver knows.
                    if matches!(kind, at::GRAPH | at::MEM_FREE) {
                        return thread::at_once(send);
                    }
                    send()
                })
            }
        })
    }
}

macro_rules! adds {
    ($($name:ident($($argument:ident: $type:ty),*) = $what:expr;)*) => {
        $(pub unsafe fn $name(node: *mut u64, graph: u64, list: *const u64, count: usize, $($argument: $type),*) -> u32 {
            let place = Place { node, graph, list, count };
            #[allow(unused_unsafe)]
            // SAFETY: the caller's arguments.
            unsafe { place.add(stringify!($name), |session| ($what)(session, $($argument),*)) }
        })*
    };
}

adds! {
    cuGraphAddMemcpyNode(params: *const c_void, context: u64) = memcpy;
    cuGraphAddMemsetNode(params: *const c_void, context: u64) = memset;
    cuGraphAddHostNode(params: *const c_void) = host;
    cuGraphAddChildGraphNode(child_graph: u64) = child;
    cuGraphAddMemFreeNode(address: u64) = mem_free;
    cuGraphAddEventRecordNode(of: u64) = |session, of| event(session, at::EVENT_RECORD, of);
    cuGraphAddEventWaitNode(of: u64) = |session, of| event(session, at::WAIT_EVENT, of);
}

unsafe fn add_kernel(
    name: &'static str,
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
    params: *const c_void,
    is_second: bool,
) -> u32 {
    Of::Handle(graph).enter(name, Needs::Context, |session| {
        // SAFETY: the caller's arguments.
        let (before, (function, shape, buffer)) = unsafe {
            (
                dependencies(session, graph, list, count)?,
                launch(session, params, is_second)?,
            )
        };
        let Shape {
            grid: [gx, gy, gz],
            block: [bx, by, bz],
            shared_bytes,
        } = shape;
        // SAFETY: the caller's place.
        unsafe {
            add(session, node, graph, |id| {
                send::rgpuGraphAddKernelNode(
                    session,
                    id,
                    graph,
                    function,
                    gx,
                    gy,
                    gz,
                    bx,
                    by,
                    bz,
                    shared_bytes,
                    &before,
                    &buffer,
                )
            })
        }
    })
}

pub unsafe fn cuGraphAddKernelNode(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
    params: *const c_void,
) -> u32 {
    let name = "cuGraphAddKernelNode";
    // SAFETY: the same contract.
    unsafe { add_kernel(name, node, graph, list, count, params, false) }
}

pub unsafe fn cuGraphAddKernelNode_v2(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
    params: *const c_void,
) -> u32 {
    let name = "cuGraphAddKernelNode_v2";
    // SAFETY: the same contract.
    unsafe { add_kernel(name, node, graph, list, count, params, true) }
}

pub unsafe fn cuGraphAddEmptyNode(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
) -> u32 {
    Of::Handle(graph).enter("cuGraphAddEmptyNode", Needs::Context, |session| {
        session.handles.check(Kind::Graph, graph)?;
        // SAFETY: the caller's list.
        let before = unsafe { dependencies(session, graph, list, count) }?;
        // SAFETY: the caller's place.
        unsafe {
            add(session, node, graph, |id| {
                send::rgpuGraphAddEmptyNode(session, id, graph, &before)
            })
        }
    })
}

pub unsafe fn cuGraphAddMemAllocNode(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
    params: *mut c_void,
) -> u32 {
    const PINNED: u32 = 1;
    const DEVICE: u32 = 1;
    Of::Handle(graph).enter("cuGraphAddMemAllocNode", Needs::Context, |session| {
        session.handles.check(Kind::Graph, graph)?;
        // SAFETY: the caller's list and struct.
        let (before, words) = unsafe {
            (
                dependencies(session, graph, list, count)?,
                read::<{ at::mem_alloc::WORDS }>(params)?,
            )
        };
        let word = |word: usize| words[word - at::BODY];
        let (kinds, location) = (word(at::mem_alloc::PROPS), word(at::mem_alloc::LOCATION));
        let (bytes, device) = (word(at::mem_alloc::BYTES), (location >> 32) as i32);
        if kinds as u32 != PINNED || location as u32 != DEVICE || bytes == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        if kinds >> 32 != 0 || word(at::mem_alloc::ACCESS + 1) != 0 {
            return Err(refuse("a graph's memory for export or for other devices"));
        }
        let ordinal = session.devices.get(device)?.ordinal;
        let mut reply = rgpuGraphAddMemAllocReply::default();
        // SAFETY: the caller's places.
        unsafe {
            add(session, node, graph, |id| {
                send::rgpuGraphAddMemAlloc(session, id, graph, ordinal, bytes, &before, &mut reply)
            })?;
            let address = reply.address.get();
            session.memory().note_graph_memory(address, bytes, graph);
            params
                .cast::<u64>()
                .add(at::mem_alloc::ADDRESS - at::BODY)
                .write_unaligned(address);
        }
        Ok(())
    })
}

pub unsafe fn cuGraphAddNode_v2(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    edges: *const c_void,
    count: usize,
    params: *mut c_void,
) -> u32 {
    let fits = Of::Handle(graph).enter("cuGraphAddNode_v2", Needs::Context, |_| {
        required(params)?;
        // SAFETY: the caller's list.
        unsafe { check_edges(edges, count) }
    });
    if fits != 0 {
        return fits;
    }
    let place = Place {
        node,
        graph,
        list,
        count,
    };
    // SAFETY: the caller's struct, whose first word tells the kind; memory's own struct stands in it.
    unsafe {
        if params.cast::<u32>().read_unaligned() == at::MEM_ALLOC {
            let body = params.cast::<u64>().add(at::BODY).cast();
            return cuGraphAddMemAllocNode(node, graph, list, count, body);
        }
        if params.cast::<u32>().read_unaligned() == at::CONDITIONAL {
            let body = params.cast::<u64>().add(at::BODY);
            return super::conditional::add("cuGraphAddNode_v2", &place, body);
        }
        place.add("cuGraphAddNode_v2", |session| any_kind(session, params))
    }
}

pub unsafe fn cuGraphAddNode(
    node: *mut u64,
    graph: u64,
    list: *const u64,
    count: usize,
    params: *mut c_void,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuGraphAddNode_v2(node, graph, list, std::ptr::null(), count, params) }
}

// Asking.

/// A node's parameters, and what stands behind them.
pub fn ask_any(session: &Session, node: u64) -> Result<What, CudaError> {
    session.handles.check(Kind::GraphNode, node)?;
    let mut found = Vec::new();
    send::rgpuGraphNodeParams(session, node, &mut found)?;
    let (words, arguments) = found
        .split_at_checked(WORDS * 8)
        .ok_or(CudaError::UNKNOWN)?;
    let mut words = at::from_bytes(words).ok_or(CudaError::UNKNOWN)?;
    if words[0] as u32 == at::MEMCPY {
        show_host(session, &mut words);
    }
    Ok((words, arguments.to_vec()))
}

/// A node's parameters, which must be of this kind.
pub fn ask(session: &Session, node: u64, kind: u32) -> Result<What, CudaError> {
    let (words, arguments) = ask_any(session, node)?;
    if words[0] as u32 != kind {
        return Err(CudaError::INVALID_VALUE);
    }
    Ok((words, arguments))
}

/// Writes `count` of a node's words, from `first` on.
unsafe fn tell(
    name: &'static str,
    node: u64,
    kind: u32,
    (first, count): (usize, usize),
    place: *mut c_void,
) -> u32 {
    Of::Handle(node).enter(name, Needs::Context, |session| {
        required(place)?;
        let (words, _) = ask(session, node, kind)?;
        for (number, word) in words[first..first + count].iter().enumerate() {
            // SAFETY: the caller's struct of that many words.
            unsafe { place.cast::<u64>().add(number).write_unaligned(*word) };
        }
        Ok(())
    })
}

macro_rules! asks {
    ($($name:ident, $type:ty, $kind:ident, $first:expr, $count:expr;)*) => {
        $(pub unsafe fn $name(node: u64, place: *mut $type) -> u32 {
            // SAFETY: the caller's place.
            unsafe { tell(stringify!($name), node, at::$kind, ($first, $count), place.cast()) }
        })*
    };
}

asks! {
    cuGraphMemcpyNodeGetParams, c_void, MEMCPY, at::memcpy::COPY, at::memcpy::COPY_WORDS;
    cuGraphMemsetNodeGetParams, c_void, MEMSET, at::memset::DST, at::memset::WORDS;
    cuGraphHostNodeGetParams, c_void, HOST, at::host::FUNCTION, 2;
    cuGraphEventRecordNodeGetEvent, u64, EVENT_RECORD, at::ONLY, 1;
    cuGraphEventWaitNodeGetEvent, u64, WAIT_EVENT, at::ONLY, 1;
    cuGraphMemFreeNodeGetParams, u64, MEM_FREE, at::ONLY, 1;
}

pub unsafe fn cuGraphChildGraphNodeGetGraph(node: u64, graph: *mut u64) -> u32 {
    Of::Handle(node).enter("cuGraphChildGraphNodeGetGraph", Needs::Context, |session| {
        required(graph)?;
        let (words, _) = ask(session, node, at::GRAPH)?;
        let child = words[at::ONLY];
        session.handles.adopt(Kind::Graph, child)?;
        session.graphs().note_child(node, child);
        // SAFETY: the caller's place.
        unsafe { put(graph, child) }
    })
}

/// Of an allocation's parameters: the device as the program counts them.
pub fn name_device(session: &Session, words: &mut at::NodeParams) -> Result<(), CudaError> {
    let ordinal = (words[at::mem_alloc::LOCATION] >> 32) as i32;
    let mut devices = session.devices.slots();
    let device = devices.position(|device| device.is_some_and(|device| device.ordinal == ordinal));
    let device = device.ok_or(CudaError::INVALID_DEVICE)? as u64;
    words[at::mem_alloc::LOCATION] =
        u64::from(words[at::mem_alloc::LOCATION] as u32) | device << 32;
    Ok(())
}

pub unsafe fn cuGraphMemAllocNodeGetParams(node: u64, params: *mut c_void) -> u32 {
    Of::Handle(node).enter("cuGraphMemAllocNodeGetParams", Needs::Context, |session| {
        required(params)?;
        let (mut words, _) = ask(session, node, at::MEM_ALLOC)?;
        name_device(session, &mut words)?;
        for (number, word) in words[at::BODY..at::BODY + at::mem_alloc::WORDS]
            .iter()
            .enumerate()
        {
            // SAFETY: the caller's CUDA_MEM_ALLOC_NODE_PARAMS.
            unsafe { params.cast::<u64>().add(number).write_unaligned(*word) };
        }
        Ok(())
    })
}

/// Function, shape, and pointers to parameters that live until the node is asked again or changed.
pub fn kernel_params(session: &Session, node: u64) -> Result<[u64; 7], CudaError> {
    let (words, arguments) = ask(session, node, at::KERNEL)?;
    let function = words[at::kernel::FUNCTION];
    let layout = session.modules().function(function)?.entry.params.clone();
    let buffer: Box<[u8]> = arguments.into();
    let mut graphs = session.graphs();
    // The same as before when nothing has changed: the program may still look at it.
    if graphs
        .kept
        .get(&node)
        .is_none_or(|kept| kept.buffer != buffer)
    {
        let base = buffer.as_ptr() as u64;
        let pointers = layout
            .iter()
            .map(|(offset, _)| base + u64::from(*offset))
            .collect();
        graphs.kept.insert(node, Kept { buffer, pointers });
    }
    let mut params = [0; 7];
    params[..5].copy_from_slice(&words[at::kernel::FUNCTION..=at::kernel::SHARED]);
    params[5] = graphs
        .kept
        .get(&node)
        .map_or(0, |kept| kept.pointers.as_ptr() as u64);
    Ok(params)
}

pub unsafe fn cuGraphKernelNodeGetParams(node: u64, params: *mut c_void) -> u32 {
    Of::Handle(node).enter("cuGraphKernelNodeGetParams", Needs::Context, |session| {
        required(params)?;
        let found = kernel_params(session, node)?;
        // SAFETY: the caller's CUDA_KERNEL_NODE_PARAMS_v1, of seven words.
        unsafe { params.cast::<[u64; 7]>().write_unaligned(found) };
        Ok(())
    })
}

pub unsafe fn cuGraphKernelNodeGetParams_v2(node: u64, params: *mut c_void) -> u32 {
    Of::Handle(node).enter("cuGraphKernelNodeGetParams_v2", Needs::Context, |session| {
        required(params)?;
        let found = kernel_params(session, node)?;
        let mut whole = [0; 9];
        whole[..7].copy_from_slice(&found);
        // SAFETY: the caller's CUDA_KERNEL_NODE_PARAMS_v2, which appends kernel and context.
        unsafe { params.cast::<[u64; 9]>().write_unaligned(whole) };
        Ok(())
    })
}

// Changing.

pub fn set(
    name: &'static str,
    node: u64,
    what: impl FnOnce(&'static Session) -> Result<What, CudaError>,
) -> u32 {
    Of::Handle(node).enter(name, Needs::Context, |session| {
        session.handles.check(Kind::GraphNode, node)?;
        let (words, arguments) = what(session)?;
        if words[0] as u32 == at::MEMCPY && has_host_end(&words) {
            session.graphs().note_hosts();
        }
        send::rgpuGraphNodeSetParams(session, node, &at::to_bytes(&words), &arguments)
    })
}

macro_rules! sets {
    ($($name:ident = $what:expr;)*) => {
        $(pub unsafe fn $name(node: u64, params: *const c_void) -> u32 {
            // SAFETY: the caller's struct.
            set(stringify!($name), node, |session| unsafe { $what(session, params) })
        })*
    };
}

sets! {
    cuGraphKernelNodeSetParams = kernel;
    cuGraphKernelNodeSetParams_v2 = kernel_v2;
    cuGraphHostNodeSetParams = host;
    cuGraphNodeSetParams = changed;
}

pub unsafe fn cuGraphMemcpyNodeSetParams(node: u64, params: *const c_void) -> u32 {
    set("cuGraphMemcpyNodeSetParams", node, |session| {
        // SAFETY: the caller's struct.
        unsafe { memcpy(session, params, 0) }
    })
}

pub unsafe fn cuGraphMemsetNodeSetParams(node: u64, params: *const c_void) -> u32 {
    set("cuGraphMemsetNodeSetParams", node, |session| {
        // SAFETY: the caller's struct.
        unsafe { memset(session, params, 0) }
    })
}

pub unsafe fn cuGraphEventRecordNodeSetEvent(node: u64, of: u64) -> u32 {
    set("cuGraphEventRecordNodeSetEvent", node, |session| {
        event(session, at::EVENT_RECORD, of)
    })
}

pub unsafe fn cuGraphEventWaitNodeSetEvent(node: u64, of: u64) -> u32 {
    set("cuGraphEventWaitNodeSetEvent", node, |session| {
        event(session, at::WAIT_EVENT, of)
    })
}

/// Bytes of a CUlaunchAttributeValue.
const ATTRIBUTE: usize = 64;

pub unsafe fn cuGraphKernelNodeGetAttribute(node: u64, attribute: u32, value: *mut c_void) -> u32 {
    Of::Handle(node).enter("cuGraphKernelNodeGetAttribute", Needs::Context, |session| {
        required(value)?;
        session.handles.check(Kind::GraphNode, node)?;
        // SAFETY: the caller's CUlaunchAttributeValue.
        let value = unsafe { output_bytes(value, ATTRIBUTE) }?;
        send::rgpuGraphKernelNodeGetAttribute(session, node, attribute, value)
    })
}

pub unsafe fn cuGraphKernelNodeSetAttribute(
    node: u64,
    attribute: u32,
    value: *const c_void,
) -> u32 {
    Of::Handle(node).enter("cuGraphKernelNodeSetAttribute", Needs::Context, |session| {
        session.handles.check(Kind::GraphNode, node)?;
        // SAFETY: the caller's CUlaunchAttributeValue.
        let value = unsafe { input_bytes(value, ATTRIBUTE) }?;
        send::rgpuGraphKernelNodeSetAttribute(session, node, attribute, value)
    })
}

/// A kernel's new parameters for an executable graph; the hot one of these calls, so nothing waits.
pub unsafe fn set_exec_kernel(
    session: &Session,
    exec: u64,
    node: u64,
    params: *const c_void,
    is_second: bool,
) -> Result<(), CudaError> {
    session.handles.check(Kind::GraphExec, exec)?;
    session.handles.check(Kind::GraphNode, node)?;
    // SAFETY: the caller's struct.
    let (function, shape, buffer) = unsafe { launch(session, params, is_second)? };
    let Shape {
        grid: [gx, gy, gz],
        block: [bx, by, bz],
        shared_bytes,
    } = shape;
    send::rgpuGraphExecKernelNodeSetParams(
        session,
        exec,
        node,
        function,
        gx,
        gy,
        gz,
        bx,
        by,
        bz,
        shared_bytes,
        &buffer,
    )
}
