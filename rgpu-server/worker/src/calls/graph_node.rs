use std::ffi::c_void;
use std::mem::size_of;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cudarc::driver::sys;
use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuGraphAddMemAllocReply;
use rgpu_proto::module_table::param_bytes;
use rgpu_proto::node_params::{self as at, NodeParams, WORDS};

use crate::calls::conditional;
use crate::calls::graph::nodes;
use crate::calls::graph_host::Keeper;
use crate::calls::host_function::{RUN_NODE, record_at};
use crate::calls::launch::{check_params, layout, with_values};
use crate::calls::memop::operations;
use crate::calls::pool::GraphMemory;
use crate::calls::stream::{attribute, put_attribute};
use crate::charge::Charge;
use crate::copies::HostCopy;
use crate::handles::Kind;
use crate::kept::keep;
use crate::state::State;

/// Adds a node with `add`, and remembers it under its id, or the error under that id.
pub fn remember(
    state: &State,
    id: u64,
    graph: *mut c_void,
    node: Result<*mut c_void, CudaError>,
) -> Result<(), CudaError> {
    match node {
        Ok(node) => state.handles.insert_owned(Kind::GraphNode, id, node, graph),
        Err(error) => {
            state.handles.poison(Kind::GraphNode, id, error);
            Err(error)
        }
    }
}

/// cuda.h's first version of the struct: the one that the functions without a suffix take.
pub fn kernel(
    function: *mut c_void,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    values: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> sys::CUDA_KERNEL_NODE_PARAMS_v1 {
    sys::CUDA_KERNEL_NODE_PARAMS_v1 {
        func: function.cast(),
        gridDimX: grid[0],
        gridDimY: grid[1],
        gridDimZ: grid[2],
        blockDimX: block[0],
        blockDimY: block[1],
        blockDimZ: block[2],
        sharedMemBytes: shared_bytes,
        kernelParams: values,
        extra,
    }
}

#[expect(clippy::too_many_arguments, reason = "a kernel node's own")]
pub fn rgpuGraphAddKernelNode(
    state: &State,
    id: u64,
    graph: *mut c_void,
    function: *mut c_void,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    dependencies: &[u8],
    params: &[u8],
) -> Result<(), CudaError> {
    let added = || {
        let dependencies = nodes(state, dependencies)?;
        check_params(state, function, params)?;
        let mut node = ptr::null_mut();
        with_values(state, function, params, |values, extra| {
            let kernel = kernel(
                function,
                [grid_x, grid_y, grid_z],
                [block_x, block_y, block_z],
                shared_bytes,
                values,
                extra,
            );
            // SAFETY: handles are the driver's own; the parameters are as long as the function takes.
            unsafe {
                driver_call!(state.driver.cuGraphAddKernelNode(
                    &mut node,
                    graph,
                    dependencies.as_ptr(),
                    dependencies.len(),
                    (&raw const kernel).cast()
                ))
            }
        })?;
        Ok(node)
    };
    remember(state, id, graph, added())
}

pub fn rgpuGraphAddEmptyNode(
    state: &State,
    id: u64,
    graph: *mut c_void,
    dependencies: &[u8],
) -> Result<(), CudaError> {
    let added = || {
        let dependencies = nodes(state, dependencies)?;
        let mut node = ptr::null_mut();
        // SAFETY: handles are the driver's own.
        unsafe {
            driver_call!(state.driver.cuGraphAddEmptyNode(
                &mut node,
                graph,
                dependencies.as_ptr(),
                dependencies.len()
            ))
        }?;
        Ok(node)
    };
    remember(state, id, graph, added())
}

/// One end of a copy as the driver is to have it: device memory, an array, or the buffer that stands for the client's memory. The copy then begins
/// with the buffer's first byte.
fn end_of_copy(
    state: &State,
    keeper: Keeper,
    from: &NodeParams,
    to: &mut NodeParams,
    end: usize,
) -> Result<Option<Arc<HostCopy>>, CudaError> {
    use at::memcpy::{
        ARRAY, ARRAY_MEMORY, DEVICE, DEVICE_MEMORY, HEIGHT, HOST, HOST_MEMORY, PITCH, SRC, TYPE, X,
        Y, Z,
    };
    to[end + TYPE] = u64::from(from[end + TYPE] as u32);
    for word in [PITCH, HEIGHT] {
        to[end + word] = from[end + word];
    }
    let place = [from[end + X], from[end + Y], from[end + Z]];
    match from[end + TYPE] as u32 {
        DEVICE_MEMORY => {
            to[end + DEVICE] = from[end + DEVICE];
            to[end + X..=end + Z].copy_from_slice(&place);
            Ok(None)
        }
        ARRAY_MEMORY => {
            let array = state.handles.get(Kind::Array, from[end + ARRAY])?;
            to[end + ARRAY] = array.addr() as u64;
            to[end + X..=end + Z].copy_from_slice(&place);
            Ok(None)
        }
        // Rows that overlap would lie elsewhere in the buffer than a driver may think.
        HOST_MEMORY if at::rows_fit(from, end) => {
            let (offset, len) = at::span(from, end).unwrap_or((0, 0));
            let host = (from[end + HOST], place);
            let copy = keeper.buffer(state, end == SRC, host, offset, len)?;
            to[end + HOST] = copy.address().addr() as u64;
            Ok(Some(copy))
        }
        _ => Err(CudaError::INVALID_VALUE),
    }
}

/// Makes the driver's CUgraphNodeParams of the client's: no word of it is a pointer of the client's choosing. `call` gets it, and the copy
/// that the node is, if it is one with memory of the client's.
pub fn with_params(
    state: &State,
    keeper: Keeper,
    params: &[u8],
    arguments: &[u8],
    call: impl FnOnce(*mut c_void, Option<Arc<HostCopy>>) -> Result<(), CudaError>,
) -> Result<(), CudaError> {
    let params = at::from_bytes(params).ok_or(CudaError::INVALID_VALUE)?;
    let handle = |kind: Kind, word: usize| {
        let found = state.handles.get(kind, params[word])?;
        Ok::<u64, CudaError>(found.addr() as u64)
    };
    let kind = params[0] as u32;
    let mut words: NodeParams = [0; WORDS];
    words[0] = kind.into();
    let mut copy = None;
    match kind {
        at::KERNEL => {
            use at::kernel::{EXTRA, FUNCTION, PARAMS, SHAPE, SHARED};
            let function = state.handles.get(Kind::Function, params[FUNCTION])?;
            check_params(state, function, arguments)?;
            words[FUNCTION] = function.addr() as u64;
            words[SHAPE..=SHARED].copy_from_slice(&params[SHAPE..=SHARED]);
            return with_values(state, function, arguments, |values, extra| {
                words[PARAMS] = values.addr() as u64;
                words[EXTRA] = extra.addr() as u64;
                call(words.as_mut_ptr().cast(), None)
            });
        }
        at::MEMCPY => {
            use at::memcpy::{CONTEXT, DEPTH, DST, SRC, WIDTH};
            words[CONTEXT] = handle(Kind::Context, CONTEXT)?;
            words[WIDTH..=DEPTH].copy_from_slice(&params[WIDTH..=DEPTH]);
            let from = end_of_copy(state, keeper, &params, &mut words, SRC)?;
            let to = end_of_copy(state, keeper, &params, &mut words, DST)?;
            if from.is_some() && to.is_some() {
                return Err(CudaError::INVALID_VALUE);
            }
            copy = from.or(to);
        }
        at::MEMSET => {
            use at::memset::{CONTEXT, DST, WORDS};
            words[DST..DST + WORDS].copy_from_slice(&params[DST..DST + WORDS]);
            words[CONTEXT] = handle(Kind::Context, CONTEXT)?;
        }
        at::HOST => {
            use at::host::{DATA, FUNCTION};
            let record = keeper.record(state, params[FUNCTION], params[DATA])?;
            words[FUNCTION] = RUN_NODE.addr() as u64;
            words[DATA] = record.addr() as u64;
        }
        at::GRAPH => {
            words[at::ONLY] = handle(Kind::Graph, at::ONLY)?;
            if let Keeper::Graph(graph) = keeper {
                conditional::check_child(state, graph, words[at::ONLY])?;
            }
        }
        at::WAIT_EVENT | at::EVENT_RECORD => words[at::ONLY] = handle(Kind::Event, at::ONLY)?,
        at::MEM_FREE => words[at::ONLY] = params[at::ONLY],
        at::BATCH_MEM_OP => {
            use at::mem_ops::{CONTEXT, COUNT, LIST};
            let mut operations = operations(arguments)?;
            words[CONTEXT] = handle(Kind::Context, CONTEXT)?;
            words[COUNT] = operations.len() as u64;
            words[LIST] = operations.as_mut_ptr().addr() as u64;
            state.shared.stands.store(true, Ordering::Relaxed);
            return call(words.as_mut_ptr().cast(), None);
        }
        at::EMPTY => {}
        _ => return Err(CudaError::INVALID_VALUE),
    }
    call(words.as_mut_ptr().cast(), copy)
}

pub fn rgpuGraphAddNode(
    state: &State,
    id: u64,
    graph: *mut c_void,
    dependencies: &[u8],
    params: &[u8],
    arguments: &[u8],
) -> Result<(), CudaError> {
    let added = || {
        let before = nodes(state, dependencies)?;
        let mut node = ptr::null_mut();
        with_params(
            state,
            Keeper::Graph(graph),
            params,
            arguments,
            |params, _| {
                // SAFETY: handles are the driver's own, and the struct holds what its type needs.
                unsafe {
                    driver_call!(state.driver.cuGraphAddNode(
                        &mut node,
                        graph,
                        before.as_ptr(),
                        before.len(),
                        params
                    ))
                }
            },
        )?;
        Ok(node)
    };
    remember(state, id, graph, added())
}

pub fn rgpuGraphAddMemAlloc(
    state: &State,
    id: u64,
    graph: *mut c_void,
    device: i32,
    bytes: u64,
    dependencies: &[u8],
    out: &mut rgpuGraphAddMemAllocReply,
) -> Result<(), CudaError> {
    const PINNED: u64 = 1;
    const DEVICE: u64 = 1;
    let mut params = [0_u64; at::mem_alloc::WORDS];
    let mut added = || {
        let before = nodes(state, dependencies)?;
        // Until the graph and what was made of it are gone.
        let charge = Charge::take(state.shared.memory_map(), device, bytes)?;
        params[at::mem_alloc::PROPS - at::BODY] = PINNED;
        params[at::mem_alloc::LOCATION - at::BODY] = DEVICE | u64::from(device as u32) << 32;
        params[at::mem_alloc::BYTES - at::BODY] = bytes;
        let mut node = ptr::null_mut();
        // SAFETY: handles are the driver's own, and the struct has no pointers.
        unsafe {
            driver_call!(state.driver.cuGraphAddMemAllocNode(
                &mut node,
                graph,
                before.as_ptr(),
                before.len(),
                params.as_mut_ptr().cast()
            ))
        }?;
        let memory = GraphMemory::new(state, charge, params[at::mem_alloc::ADDRESS - at::BODY]);
        let within = state.shared.check_quota();
        let kept = within.and_then(|()| keep(&state.driver, graph, Box::new(memory)));
        if let Err(error) = kept {
            // SAFETY: it was made above, and nobody knows it.
            let _ = unsafe { driver_call!(state.driver.cuGraphDestroyNode(node)) };
            return Err(error);
        }
        Ok(node)
    };
    let node = added();
    out.address.set(params[at::mem_alloc::ADDRESS - at::BODY]);
    remember(state, id, graph, node)
}

pub fn rgpuGraphNodeSetParams(
    state: &State,
    node: *mut c_void,
    params: &[u8],
    arguments: &[u8],
) -> Result<(), CudaError> {
    let graph = state.handles.owner_of(Kind::GraphNode, node);
    let keeper = Keeper::Graph(graph.ok_or(CudaError::INVALID_VALUE)?);
    with_params(state, keeper, params, arguments, |params, _| {
        // SAFETY: the node is the driver's own, and the struct holds what its type needs.
        unsafe { driver_call!(state.driver.cuGraphNodeSetParams(node, params)) }
    })
}

pub fn rgpuGraphExecNodeSetParams(
    state: &State,
    exec: *mut c_void,
    node: *mut c_void,
    params: &[u8],
    arguments: &[u8],
) -> Result<(), CudaError> {
    with_params(
        state,
        Keeper::Exec(exec, node),
        params,
        arguments,
        |params, copy| {
            // SAFETY: handles are the driver's own, and the struct holds what its type needs.
            unsafe { driver_call!(state.driver.cuGraphExecNodeSetParams(exec, node, params)) }?;
            crate::calls::graph_host::replaced(state, exec, node, copy);
            Ok(())
        },
    )
}

/// The buffer in a driver's own `extra` list, of names and values in any order; NULL if there is none.
fn buffer_of(extra: *const *const c_void) -> *const u8 {
    const END: usize = 0;
    const BUFFER_POINTER: usize = 1;
    /// Of cuda.h there are two.
    const MOST_NAMES: usize = 4;
    if extra.is_null() {
        return ptr::null();
    }
    for at in 0..MOST_NAMES {
        // SAFETY: a list of the driver's own, which ends with a name of its own.
        match unsafe { (*extra.add(2 * at)).addr() } {
            END => break,
            // SAFETY: a value follows each name.
            BUFFER_POINTER => return unsafe { (*extra.add(2 * at + 1)).cast() },
            _ => {}
        }
    }
    ptr::null()
}

/// A kernel's parameters as one buffer, from whichever form the driver gives them back in.
fn arguments(
    state: &State,
    function: *mut c_void,
    values: *const *const u8,
    extra: *const *const c_void,
) -> Vec<u8> {
    let whole = buffer_of(extra);
    let Some(layout) = layout(state, function) else {
        return Vec::new();
    };
    let len = param_bytes(&layout);
    let mut buffer = vec![0_u8; len];
    for (number, &(offset, size)) in layout.iter().enumerate() {
        let (offset, size) = (offset as usize, size as usize);
        // SAFETY: the driver's own lists: a pointer for each parameter, or a buffer that holds them all.
        let value = unsafe {
            if !values.is_null() {
                *values.add(number)
            } else if !whole.is_null() {
                whole.add(offset)
            } else {
                ptr::null()
            }
        };
        if !value.is_null() {
            // SAFETY: a value of that size, and room for it.
            unsafe { value.copy_to_nonoverlapping(buffer.as_mut_ptr().add(offset), size) };
        }
    }
    buffer
}

/// Puts the client's own memory back in the place of a buffer, and an array's id in that of the array.
fn restore_end(state: &State, words: &mut NodeParams, end: usize) {
    use at::memcpy::{ARRAY, ARRAY_MEMORY, HOST, HOST_MEMORY, RESERVED, TYPE, X, Z};
    let (pointer, array) = (words[end + HOST], words[end + ARRAY]);
    (words[end + HOST], words[end + ARRAY], words[end + RESERVED]) = (0, 0, 0);
    words[end + TYPE] = u64::from(words[end + TYPE] as u32);
    if words[end + TYPE] as u32 == ARRAY_MEMORY {
        let array = ptr::without_provenance_mut(array as usize);
        words[end + ARRAY] = state.handles.find(Kind::Array, array).unwrap_or(0);
    }
    if words[end + TYPE] as u32 == HOST_MEMORY {
        let copies = &state.shared.copies;
        if let Some(copy) = copies.at(ptr::without_provenance(pointer as usize)) {
            words[end + HOST] = copy.host;
            words[end + X..=end + Z].copy_from_slice(&copy.place);
        } else if state.shared.zero_copy().holds(pointer) {
            words[end + HOST] = pointer;
        }
    }
}

/// The driver's list of operations; the words get what the client may see of it.
///
/// # Safety
/// The words are the driver's parameters of a node of that type.
unsafe fn operations_of(state: &State, words: &mut NodeParams) -> Vec<u8> {
    use at::mem_ops::{CONTEXT, COUNT, FLAGS, LIST, MOST, OPERATION};
    let count = (words[COUNT] as u32 as usize).min(MOST);
    let list = words[LIST] as *const u8;
    let bytes = if list.is_null() || count == 0 {
        Vec::new()
    } else {
        // SAFETY: the driver's own list of that many.
        unsafe { std::slice::from_raw_parts(list, count * OPERATION) }.to_vec()
    };
    let context = ptr::without_provenance_mut(words[CONTEXT] as usize);
    words[CONTEXT] = state.handles.find(Kind::Context, context).unwrap_or(0);
    words[COUNT] = count as u64;
    words[LIST] = 0;
    words[FLAGS] = u64::from(words[FLAGS] as u32);
    bytes
}

pub fn rgpuGraphNodeParams(
    state: &State,
    node: *mut c_void,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let driver = &state.driver;
    let mut kind = 0;
    // SAFETY: the node is the driver's own, and `kind` a place.
    unsafe { driver_call!(driver.cuGraphNodeGetType(node, &mut kind)) }?;
    let mut words: NodeParams = [0; WORDS];
    words[0] = kind.into();
    let mut buffer = Vec::new();
    let mut handle: *mut c_void = ptr::null_mut();
    let body: *mut c_void = words[at::BODY..].as_mut_ptr().cast();
    // SAFETY: the node is the driver's own and of the type that each function takes; `body` has room for the largest of their structs.
    unsafe {
        match kind {
            at::KERNEL => {
                use at::kernel::{CONTEXT, EXTRA, FUNCTION, KERNEL, PARAMS, SHARED};
                driver_call!(driver.cuGraphKernelNodeGetParams_v2(node, body))?;
                let function = ptr::without_provenance_mut(words[FUNCTION] as usize);
                buffer = arguments(
                    state,
                    function,
                    words[PARAMS] as *const *const u8,
                    words[EXTRA] as *const *const c_void,
                );
                words[FUNCTION] = state.handles.find(Kind::Function, function).unwrap_or(0);
                words[SHARED] = u64::from(words[SHARED] as u32);
                for word in [PARAMS, EXTRA, KERNEL, CONTEXT] {
                    words[word] = 0;
                }
            }
            at::MEMCPY => {
                let copy = words[at::memcpy::COPY..].as_mut_ptr().cast();
                driver_call!(driver.cuGraphMemcpyNodeGetParams(node, copy))?;
                restore_end(state, &mut words, at::memcpy::SRC);
                restore_end(state, &mut words, at::memcpy::DST);
            }
            at::MEMSET => driver_call!(driver.cuGraphMemsetNodeGetParams(node, body))?,
            at::HOST => {
                use at::host::{DATA, FUNCTION};
                driver_call!(driver.cuGraphHostNodeGetParams(node, body))?;
                let record = record_at(state, words[DATA]).ok_or(CudaError::INVALID_VALUE)?;
                words[FUNCTION] = record.call.function;
                words[DATA] = record.call.data;
            }
            at::GRAPH => {
                driver_call!(driver.cuGraphChildGraphNodeGetGraph(node, &mut handle))?;
                words[at::ONLY] = state.handles.name(Kind::Graph, &[handle], node)?[0];
            }
            at::WAIT_EVENT | at::EVENT_RECORD => {
                if kind == at::WAIT_EVENT {
                    driver_call!(driver.cuGraphEventWaitNodeGetEvent(node, &mut handle))?;
                } else {
                    driver_call!(driver.cuGraphEventRecordNodeGetEvent(node, &mut handle))?;
                }
                words[at::ONLY] = state.handles.find(Kind::Event, handle).unwrap_or(0);
            }
            at::MEM_ALLOC => {
                driver_call!(driver.cuGraphMemAllocNodeGetParams(node, body))?;
                // The list of access descriptors stays here.
                words[at::mem_alloc::ACCESS..at::mem_alloc::BYTES].fill(0);
            }
            at::MEM_FREE => {
                driver_call!(driver.cuGraphMemFreeNodeGetParams(node, body.cast()))?;
            }
            at::BATCH_MEM_OP => {
                driver_call!(driver.cuGraphBatchMemOpNodeGetParams(node, body))?;
                buffer = operations_of(state, &mut words);
            }
            at::CONDITIONAL => buffer = conditional::params_of(state, node, &mut words)?,
            _ => {}
        }
    }
    reply.extend(at::to_bytes(&words));
    reply.extend(buffer);
    Ok(())
}

pub fn rgpuGraphKernelNodeGetAttribute(
    state: &State,
    node: *mut c_void,
    id: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let mut value = [0; 8];
    let place = (&raw mut value).cast();
    // SAFETY: the node is the driver's own, and the place as large as cuda.h's type.
    unsafe { driver_call!(state.driver.cuGraphKernelNodeGetAttribute(node, id, place)) }?;
    put_attribute(&value, reply);
    Ok(())
}

pub fn rgpuGraphKernelNodeSetAttribute(
    state: &State,
    node: *mut c_void,
    id: u32,
    value: &[u8],
) -> Result<(), CudaError> {
    let value = attribute(value)?;
    let place = (&raw const value).cast();
    // SAFETY: the node is the driver's own, and the value as large as cuda.h's type; an address in it is only a hint.
    unsafe { driver_call!(state.driver.cuGraphKernelNodeSetAttribute(node, id, place)) }
}

const _: () = assert!(size_of::<sys::CUDA_MEMCPY3D>() == at::memcpy::COPY_WORDS * 8);
