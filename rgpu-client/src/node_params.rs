//! A graph node's parameters, from whichever of cuda.h's structures they come in. What can be judged by the mirror is judged here.

use std::ffi::c_void;

use cudarc::driver::sys::CUDA_KERNEL_NODE_PARAMS_v1;
use rgpu_proto::CudaError;
use rgpu_proto::node_params::{self as at, NodeParams, WORDS};

use crate::area::in_array;
use crate::calls::copy::UNIFIED;
use crate::calls::device::refuse;
use crate::calls::host_function::expect;
use crate::calls::launch::{Shape, prepare};
use crate::calls::memop::operations;
use crate::entry::required;
use crate::handles::Kind;
use crate::session::Session;

/// A node's parameters, and a kernel's buffer.
pub type What = (NodeParams, Vec<u8>);

pub fn empty(kind: u32) -> NodeParams {
    let mut params = [0; WORDS];
    params[0] = kind.into();
    params
}

/// Words of the program's, some of which may be padding.
///
/// # Safety
/// `words` is NULL or `N` words.
pub unsafe fn read<const N: usize>(words: *const c_void) -> Result<[u64; N], CudaError> {
    required(words)?;
    // SAFETY: the caller's words.
    Ok(unsafe { words.cast::<[u64; N]>().read_unaligned() })
}

/// A context by its name; none is the current one.
pub fn context(session: &Session, id: u64) -> Result<u64, CudaError> {
    if id == 0 {
        return Ok(session.context());
    }
    session.handles.check(Kind::Context, id)?;
    Ok(id)
}

/// Function, shape and parameter buffer of a kernel node. The second version of its struct only appends fields: a library's kernel in the
/// place of a function, and the context that it runs in.
///
/// # Safety
/// `params` is NULL or a CUDA_KERNEL_NODE_PARAMS of that version.
pub unsafe fn launch(
    session: &Session,
    params: *const c_void,
    is_second: bool,
) -> Result<(u64, Shape, Vec<u8>), CudaError> {
    required(params)?;
    let (kernel, named) = if is_second {
        // SAFETY: `kern` and `ctx` follow the first version's fields.
        let words = unsafe { read::<9>(params) }?;
        (words[7], words[8])
    } else {
        (0, 0)
    };
    let context = context(session, named)?;
    let params = params.cast::<CUDA_KERNEL_NODE_PARAMS_v1>();
    // SAFETY: plain numbers and pointers of the caller's struct.
    unsafe {
        let shape = Shape {
            grid: [(*params).gridDimX, (*params).gridDimY, (*params).gridDimZ],
            block: [
                (*params).blockDimX,
                (*params).blockDimY,
                (*params).blockDimZ,
            ],
            shared_bytes: (*params).sharedMemBytes,
        };
        let function = match (*params).func as u64 {
            0 => kernel,
            function => function,
        };
        let prepared = prepare(
            session,
            function,
            context,
            &shape,
            (*params).kernelParams as *const *const c_void,
            (*params).extra as *const *const c_void,
        )?;
        Ok((prepared.function, shape, prepared.params))
    }
}

unsafe fn kernel_of(
    session: &Session,
    params: *const c_void,
    is_second: bool,
) -> Result<What, CudaError> {
    // SAFETY: the caller's struct.
    let (function, shape, buffer) = unsafe { launch(session, params, is_second) }?;
    let mut words = empty(at::KERNEL);
    words[at::kernel::FUNCTION] = function;
    let Shape {
        grid: [gx, gy, gz],
        block: [bx, by, bz],
        shared_bytes,
    } = shape;
    for (word, [low, high]) in [[gx, gy], [gz, bx], [by, bz]].into_iter().enumerate() {
        words[at::kernel::SHAPE + word] = u64::from(low) | u64::from(high) << 32;
    }
    words[at::kernel::SHARED] = shared_bytes.into();
    Ok((words, buffer))
}

/// # Safety
/// `params` is NULL or a CUDA_KERNEL_NODE_PARAMS.
pub unsafe fn kernel(session: &Session, params: *const c_void) -> Result<What, CudaError> {
    // SAFETY: the caller's struct.
    unsafe { kernel_of(session, params, false) }
}

/// # Safety
/// `params` is NULL or a CUDA_KERNEL_NODE_PARAMS_v2.
pub unsafe fn kernel_v2(session: &Session, params: *const c_void) -> Result<What, CudaError> {
    // SAFETY: the caller's struct.
    unsafe { kernel_of(session, params, true) }
}

/// Says of one end of a copy what memory it is; true for the program's own.
fn check_end(session: &Session, params: &mut NodeParams, end: usize) -> Result<bool, CudaError> {
    use at::memcpy::{
        ARRAY, ARRAY_MEMORY, DEPTH, DEVICE, DEVICE_MEMORY, HOST, HOST_MEMORY, LOD, ROWS, TYPE,
        WIDTH, X, Y, Z,
    };
    if params[end + LOD] != 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let address = params[end + DEVICE];
    let mut kind = params[end + TYPE] as u32;
    if kind == UNIFIED {
        kind = DEVICE_MEMORY;
        let found = session.memory().find(address);
        if found.is_none_or(|found| !found.is_on_device()) {
            params[end + HOST] = address;
            kind = HOST_MEMORY;
        }
    }
    if kind == HOST_MEMORY {
        let host = params[end + HOST];
        if session.memory().host.is_zero_copy(host) {
            (params[end + DEVICE], params[end + HOST]) = (host, 0);
            kind = DEVICE_MEMORY;
        }
    }
    let address = params[end + DEVICE];
    params[end + TYPE] = kind.into();
    if kind == ARRAY_MEMORY {
        let base = session.arrays().base(params[end + ARRAY])?;
        let corner = [X, Y, Z].map(|word| params[end + word]);
        let size = [WIDTH, ROWS, DEPTH].map(|word| params[word]);
        return match in_array(base, corner, size) {
            Some(_) => Ok(false),
            None => Err(CudaError::INVALID_VALUE),
        };
    }
    if !at::rows_fit(params, end) {
        return Err(CudaError::INVALID_VALUE);
    }
    let span = at::span(params, end);
    match kind {
        HOST_MEMORY => {
            let host = params[end + HOST];
            let fits = span.is_none_or(|(first, len)| {
                first
                    .checked_add(len)
                    .is_some_and(|end| host.checked_add(end).is_some())
            });
            if host == 0 || !fits {
                return Err(CudaError::INVALID_VALUE);
            }
            Ok(true)
        }
        DEVICE_MEMORY => {
            if let Some((first, len)) = span {
                let first = address.checked_add(first).ok_or(CudaError::INVALID_VALUE)?;
                session.memory().check(first, len)?;
            }
            Ok(false)
        }
        _ => Err(CudaError::INVALID_VALUE),
    }
}

/// # Safety
/// `params` is NULL or a CUDA_MEMCPY3D.
pub unsafe fn memcpy(session: &Session, params: *const c_void, of: u64) -> Result<What, CudaError> {
    // SAFETY: the caller's struct.
    let copy = unsafe { read::<{ at::memcpy::COPY_WORDS }>(params) }?;
    let mut words = empty(at::MEMCPY);
    words[at::memcpy::CONTEXT] = context(session, of)?;
    words[at::memcpy::COPY..at::memcpy::COPY + copy.len()].copy_from_slice(&copy);
    let from_host = check_end(session, &mut words, at::memcpy::SRC)?;
    let to_host = check_end(session, &mut words, at::memcpy::DST)?;
    if from_host && to_host {
        return Err(refuse("a copy node from host to host"));
    }
    Ok((words, Vec::new()))
}

/// Of a copy's parameters: pinned memory is the host's to the program, also where the device copies it.
pub fn show_host(session: &Session, params: &mut NodeParams) {
    use at::memcpy::{DEVICE, DEVICE_MEMORY, DST, HOST, HOST_MEMORY, SRC, TYPE};
    for end in [SRC, DST] {
        let address = params[end + DEVICE];
        if params[end + TYPE] as u32 == DEVICE_MEMORY && session.memory().host.is_zero_copy(address)
        {
            (params[end + HOST], params[end + DEVICE]) = (address, 0);
            params[end + TYPE] = HOST_MEMORY.into();
        }
    }
}

/// Whether a copy node has an end in the program's memory.
pub fn has_host_end(params: &NodeParams) -> bool {
    [at::memcpy::SRC, at::memcpy::DST]
        .iter()
        .any(|end| params[end + at::memcpy::TYPE] as u32 == at::memcpy::HOST_MEMORY)
}

/// # Safety
/// `params` is NULL or a CUDA_MEMSET_NODE_PARAMS.
pub unsafe fn memset(session: &Session, params: *const c_void, of: u64) -> Result<What, CudaError> {
    // SAFETY: the caller's struct.
    let fill = unsafe { read::<{ at::memset::WORDS }>(params) }?;
    let [address, pitch, value, width, height] = fill;
    let element = value >> 32;
    if !matches!(element, 1 | 2 | 4)
        || !address.is_multiple_of(element)
        || (height > 1 && !pitch.is_multiple_of(element))
    {
        return Err(CudaError::INVALID_VALUE);
    }
    if width > 0 && height > 0 {
        let bytes = pitch
            .checked_mul(height - 1)
            .zip(width.checked_mul(element))
            .and_then(|(rows, last)| rows.checked_add(last));
        session
            .memory()
            .check(address, bytes.ok_or(CudaError::INVALID_VALUE)?)?;
    }
    let mut words = empty(at::MEMSET);
    words[at::memset::DST..at::memset::DST + fill.len()].copy_from_slice(&fill);
    words[at::memset::CONTEXT] = context(session, of)?;
    Ok((words, Vec::new()))
}

/// # Safety
/// `params` is NULL or a CUDA_HOST_NODE_PARAMS.
pub unsafe fn host(session: &'static Session, params: *const c_void) -> Result<What, CudaError> {
    // SAFETY: the caller's struct.
    let [function, data] = unsafe { read::<2>(params) }?;
    expect(session, function)?;
    session.graphs().note_hosts();
    let mut words = empty(at::HOST);
    words[at::host::FUNCTION] = function;
    words[at::host::DATA] = data;
    Ok((words, Vec::new()))
}

pub fn event(session: &Session, kind: u32, event: u64) -> Result<What, CudaError> {
    session.handles.check(Kind::Event, event)?;
    if kind == at::EVENT_RECORD {
        session.finished.note_graphs();
    }
    let mut words = empty(kind);
    words[at::ONLY] = event;
    Ok((words, Vec::new()))
}

pub fn child(session: &Session, graph: u64) -> Result<What, CudaError> {
    session.handles.check(Kind::Graph, graph)?;
    let mut words = empty(at::GRAPH);
    words[at::ONLY] = graph;
    Ok((words, Vec::new()))
}

pub fn mem_free(session: &Session, address: u64) -> Result<What, CudaError> {
    let found = session.memory().find(address);
    if found.is_none_or(|found| found.base != address) {
        return Err(CudaError::INVALID_VALUE);
    }
    let mut words = empty(at::MEM_FREE);
    words[at::ONLY] = address;
    Ok((words, Vec::new()))
}

/// # Safety
/// `params` is NULL or a CUDA_BATCH_MEM_OP_NODE_PARAMS.
pub unsafe fn mem_ops(session: &Session, params: *const c_void) -> Result<What, CudaError> {
    use at::mem_ops::{CONTEXT, COUNT, FLAGS, LIST};
    // SAFETY: the caller's struct.
    let read = unsafe { read::<{ at::mem_ops::WORDS }>(params) }?;
    let word = |word: usize| read[word - at::BODY];
    let (count, flags) = (word(COUNT) as u32, word(FLAGS) as u32);
    // SAFETY: the struct leads to so many operations.
    let (operations, waits) = unsafe { operations(session, word(LIST), count, flags) }?;
    if waits {
        session.standing.note_graph_waits();
    }
    let mut words = empty(at::BATCH_MEM_OP);
    words[CONTEXT] = context(session, word(CONTEXT))?;
    words[COUNT] = count.into();
    Ok((words, operations))
}

/// Nodes whose parameters come in one structure for all kinds, but for memory.
///
/// # Safety
/// `params` is NULL or a CUgraphNodeParams.
pub unsafe fn any_kind(
    session: &'static Session,
    params: *const c_void,
) -> Result<What, CudaError> {
    // SAFETY: the caller's struct.
    let words = unsafe { read::<WORDS>(params) }?;
    // SAFETY: within the caller's struct.
    let body = |word: usize| unsafe { params.cast::<u64>().add(word) }.cast::<c_void>();
    // SAFETY: the struct has the kind's parameters in it.
    unsafe {
        match words[0] as u32 {
            at::KERNEL => kernel_v2(session, body(at::BODY)),
            at::MEMCPY => {
                if words[at::memcpy::FLAGS] as u32 != 0 {
                    return Err(CudaError::INVALID_VALUE);
                }
                let context = words[at::memcpy::CONTEXT];
                memcpy(session, body(at::memcpy::COPY), context)
            }
            at::MEMSET => memset(session, body(at::BODY), words[at::memset::CONTEXT]),
            at::HOST => host(session, body(at::BODY)),
            at::GRAPH => child(session, words[at::ONLY]),
            at::EMPTY => Ok((empty(at::EMPTY), Vec::new())),
            kind @ (at::WAIT_EVENT | at::EVENT_RECORD) => event(session, kind, words[at::ONLY]),
            at::MEM_FREE => mem_free(session, words[at::ONLY]),
            at::BATCH_MEM_OP => mem_ops(session, body(at::BODY)),
            kind if kind <= at::LAST => Err(refuse("a graph node of this type")),
            _ => Err(CudaError::INVALID_VALUE),
        }
    }
}

/// Kinds that can be changed after they were made.
pub unsafe fn changed(session: &'static Session, params: *const c_void) -> Result<What, CudaError> {
    // SAFETY: the caller's struct.
    match unsafe { read::<1>(params) }?[0] as u32 {
        at::KERNEL
        | at::MEMCPY
        | at::MEMSET
        | at::HOST
        | at::WAIT_EVENT
        | at::EVENT_RECORD
        | at::BATCH_MEM_OP => {
            // SAFETY: the caller's struct.
            unsafe { any_kind(session, params) }
        }
        _ => Err(CudaError::INVALID_VALUE),
    }
}
