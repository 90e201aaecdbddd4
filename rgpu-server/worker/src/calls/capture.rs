use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{
    rgpuCaptureCopyReply, rgpuStreamCaptureInfoReply, rgpuStreamEndCaptureReply,
    rgpuStreamIsCapturingReply,
};

use crate::calls::graph::{nodes, put_ids};
use crate::calls::graph_host::buffer_for;
use crate::handles::Kind;
use crate::state::State;

/// CU_STREAM_CAPTURE_STATUS_ACTIVE.
const ACTIVE: u32 = 1;

/// What the driver says of a stream that captures.
struct Info {
    status: u32,
    id: u64,
    graph: *mut c_void,
    nodes: Vec<*mut c_void>,
}

fn info(state: &State, stream: *mut c_void) -> Result<Info, CudaError> {
    let (mut status, mut id, mut graph) = (0, 0, ptr::null_mut());
    let (mut list, mut count) = (ptr::null(), 0);
    // SAFETY: the stream is the driver's own, and the rest are places.
    unsafe {
        driver_call!(state.driver.cuStreamGetCaptureInfo_v2(
            stream,
            &mut status,
            &mut id,
            &mut graph,
            &mut list,
            &mut count
        ))
    }?;
    let nodes = if status == ACTIVE && count > 0 {
        // SAFETY: the driver's list, which lives until the next call for this stream.
        unsafe { std::slice::from_raw_parts(list, count) }.to_vec()
    } else {
        Vec::new()
    };
    Ok(Info {
        status,
        id,
        graph,
        nodes,
    })
}

/// The graph into which the stream captures. A driver that says anything else says it again to the call that follows.
pub fn graph_of(state: &State, stream: *mut c_void) -> Option<*mut c_void> {
    if !state.shared.captures.load(Ordering::Relaxed) {
        return None;
    }
    let info = info(state, stream).ok()?;
    (info.status == ACTIVE).then_some(info.graph)
}

/// For copies with memory of a frame, which is gone when a graph would run: a client does not ask for them in a stream that captures.
pub fn forbid(state: &State, stream: *mut c_void) -> Result<(), CudaError> {
    match graph_of(state, stream) {
        Some(_) => Err(CudaError::STREAM_CAPTURE_UNSUPPORTED),
        None => Ok(()),
    }
}

/// Lets a stream capture. What the session gives back waits for contexts, which would break the capture: it is done with before, unless
/// streams may stand still for the client's sake, and comes after the capture otherwise.
fn begin(
    state: &State,
    stream: *mut c_void,
    capture: impl FnOnce() -> Result<(), CudaError>,
) -> Result<(), CudaError> {
    state.shared.captures.store(true, Ordering::Relaxed);
    if !state.shared.stands.load(Ordering::Relaxed) {
        state.shared.reaper.drain();
    }
    let _quiet = state.shared.gates.get().map(|gates| gates.quiet());
    let is_new = state.handles.expect_capture(stream);
    let begun = capture();
    if begun.is_err() && is_new {
        state.handles.end_capture(stream);
    }
    begun
}

pub fn rgpuStreamBeginCapture(
    state: &State,
    stream: *mut c_void,
    mode: u32,
) -> Result<(), CudaError> {
    begin(state, stream, || {
        // SAFETY: the stream is the driver's own.
        unsafe { driver_call!(state.driver.cuStreamBeginCapture_v2(stream, mode)) }
    })?;
    if let Ok(info) = info(state, stream)
        && info.status == ACTIVE
    {
        state.handles.begin_capture(stream, info.graph);
    }
    Ok(())
}

pub fn rgpuStreamBeginCaptureToGraph(
    state: &State,
    stream: *mut c_void,
    graph: *mut c_void,
    mode: u32,
    dependencies: &[u8],
) -> Result<(), CudaError> {
    let dependencies = nodes(state, dependencies)?;
    begin(state, stream, || {
        // SAFETY: handles are the driver's own, and the list as long as is said.
        unsafe {
            driver_call!(state.driver.cuStreamBeginCaptureToGraph(
                stream,
                graph,
                dependencies.as_ptr(),
                ptr::null(),
                dependencies.len(),
                mode
            ))
        }
    })
}

pub fn rgpuStreamEndCapture(
    state: &State,
    stream: *mut c_void,
    out: &mut rgpuStreamEndCaptureReply,
) -> Result<(), CudaError> {
    let mut graph = ptr::null_mut();
    // SAFETY: the stream is the driver's own, and `graph` a place.
    match unsafe { driver_call!(state.driver.cuStreamEndCapture(stream, &mut graph)) } {
        Ok(()) => {
            state.handles.end_capture(stream);
            let ids = state.handles.name(Kind::Graph, &[graph], ptr::null_mut())?;
            out.graph.set(ids[0]);
            Ok(())
        }
        Err(
            error @ (CudaError::STREAM_CAPTURE_UNMATCHED
            | CudaError::STREAM_CAPTURE_WRONG_THREAD
            | CudaError::ILLEGAL_STATE),
        ) => Err(error),
        Err(error) => {
            state.handles.drop_capture(stream.addr());
            Err(error)
        }
    }
}

pub fn rgpuStreamIsCapturing(
    state: &State,
    stream: *mut c_void,
    out: &mut rgpuStreamIsCapturingReply,
) -> Result<(), CudaError> {
    let mut status = 0;
    // SAFETY: the stream is the driver's own, and `status` a place.
    unsafe { driver_call!(state.driver.cuStreamIsCapturing(stream, &mut status)) }?;
    out.status.set(status);
    Ok(())
}

pub fn rgpuStreamCaptureInfo(
    state: &State,
    stream: *mut c_void,
    out: &mut rgpuStreamCaptureInfoReply,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let info = info(state, stream)?;
    out.status.set(info.status);
    if info.status != ACTIVE {
        return Ok(());
    }
    out.id.set(info.id);
    let graph = state
        .handles
        .name(Kind::Graph, &[info.graph], ptr::null_mut())?;
    out.graph.set(graph[0]);
    let nodes = state
        .handles
        .name(Kind::GraphNode, &info.nodes, info.graph)?;
    put_ids(&nodes, reply)
}

pub fn rgpuStreamUpdateCapture(
    state: &State,
    stream: *mut c_void,
    flags: u32,
    dependencies: &[u8],
) -> Result<(), CudaError> {
    let mut dependencies = nodes(state, dependencies)?;
    // SAFETY: handles are the driver's own, and the list as long as is said.
    unsafe {
        driver_call!(state.driver.cuStreamUpdateCaptureDependencies(
            stream,
            dependencies.as_mut_ptr(),
            dependencies.len(),
            flags
        ))
    }
}

pub fn rgpuThreadCaptureMode(state: &State, mode: u32) -> Result<(), CudaError> {
    let mut mode = mode;
    // SAFETY: `mode` is read and written.
    unsafe { driver_call!(state.driver.cuThreadExchangeStreamCaptureMode(&mut mode)) }
}

/// An allocation of the driver's own shows what it says of the client's.
pub fn rgpuCaptureProbe(state: &State) -> Result<(), CudaError> {
    let mut address = 0;
    // SAFETY: `address` is a place; the memory is given back at once.
    unsafe {
        driver_call!(state.driver.cuMemAlloc_v2(&mut address, 1))?;
        driver_call!(state.driver.cuMemFree_v2(address))
    }
}

pub fn rgpuCaptureCopy(
    state: &State,
    stream: *mut c_void,
    to_device: u32,
    device: u64,
    host: u64,
    bytes: u64,
    out: &mut rgpuCaptureCopyReply,
) -> Result<(), CudaError> {
    let Some(graph) = graph_of(state, stream) else {
        return Ok(());
    };
    out.captured.set(1);
    let len = usize::try_from(bytes).map_err(|_| CudaError::INVALID_VALUE)?;
    let place = (host, [0; 3]);
    let copy = buffer_for(state, graph, to_device != 0, place, 0, bytes)?;
    // SAFETY: the buffer has that many bytes and lives with the graph; the device's range is checked by the driver.
    unsafe {
        if to_device != 0 {
            driver_call!(
                state
                    .driver
                    .cuMemcpyHtoDAsync_v2(device, copy.address(), len, stream)
            )
        } else {
            driver_call!(
                state
                    .driver
                    .cuMemcpyDtoHAsync_v2(copy.address(), device, len, stream)
            )
        }
    }
}
