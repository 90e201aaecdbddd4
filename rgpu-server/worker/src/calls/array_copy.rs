//! Copies from and to arrays. Whether a box lies within its array the driver checks; what is checked here are lengths.

use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuCaptureBoxReply;
use rgpu_proto::node_params::{self as at};

use crate::calls::capture::graph_of;
use crate::calls::copy::{End, Extent, Rows, box_in, box_out, copy_box, params};
use crate::calls::graph_host::Keeper;
use crate::calls::graph_node::with_params;
use crate::gate::Work;
use crate::state::State;

#[expect(clippy::too_many_arguments, reason = "a box has as many numbers")]
pub fn rgpuArrayIn(
    state: &State,
    array: *mut c_void,
    x: u64,
    y: u64,
    z: u64,
    width: u64,
    height: u64,
    depth: u64,
    stream: *mut c_void,
    sync: u32,
    data: &[u8],
) -> Result<(), CudaError> {
    let extent = Extent {
        width,
        height,
        depth,
    };
    let to = End::Array(array, [x, y, z]);
    box_in(state, to, &extent, stream, sync, data)
}

#[expect(clippy::too_many_arguments, reason = "a box has as many numbers")]
pub fn rgpuArrayOut(
    state: &State,
    array: *mut c_void,
    x: u64,
    y: u64,
    z: u64,
    width: u64,
    height: u64,
    depth: u64,
    stream: *mut c_void,
    sync: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let extent = Extent {
        width,
        height,
        depth,
    };
    let from = End::Array(array, [x, y, z]);
    box_out(state, from, &extent, stream, sync, reply)
}

#[expect(clippy::too_many_arguments, reason = "a box has as many numbers")]
pub fn rgpuArrayLand(
    state: &State,
    array: *mut c_void,
    x: u64,
    y: u64,
    z: u64,
    width: u64,
    height: u64,
    depth: u64,
    stream: *mut c_void,
) -> Result<(), CudaError> {
    let extent = Extent {
        width,
        height,
        depth,
    };
    super::copy::land(state, End::Array(array, [x, y, z]), &extent, stream)
}

#[expect(clippy::too_many_arguments, reason = "two boxes have as many numbers")]
pub fn rgpuArrayDevice(
    state: &State,
    array: *mut c_void,
    x: u64,
    y: u64,
    z: u64,
    at: u64,
    pitch: u64,
    rows: u64,
    width: u64,
    height: u64,
    depth: u64,
    to_array: u32,
    stream: *mut c_void,
    sync: u32,
) -> Result<(), CudaError> {
    let extent = Extent {
        width,
        height,
        depth,
    };
    let (array, memory) = (
        End::Array(array, [x, y, z]),
        End::Device(Rows { at, pitch, rows }),
    );
    let params = match to_array {
        0 => params(memory, array, &extent),
        _ => params(array, memory, &extent),
    }?;
    let bytes = extent.bytes().unwrap_or(u64::MAX);
    let _turn = state.work(stream, Work::Bytes(bytes), false)?;
    // SAFETY: nothing of this process is named.
    unsafe { copy_box(state, &params, stream, sync) }
}

#[expect(clippy::too_many_arguments, reason = "two boxes have as many numbers")]
pub fn rgpuArrayArray(
    state: &State,
    dst: *mut c_void,
    dst_x: u64,
    dst_y: u64,
    dst_z: u64,
    src: *mut c_void,
    src_x: u64,
    src_y: u64,
    src_z: u64,
    width: u64,
    height: u64,
    depth: u64,
    stream: *mut c_void,
    sync: u32,
) -> Result<(), CudaError> {
    let extent = Extent {
        width,
        height,
        depth,
    };
    let to = End::Array(dst, [dst_x, dst_y, dst_z]);
    let from = End::Array(src, [src_x, src_y, src_z]);
    let params = params(to, from, &extent)?;
    let bytes = extent.bytes().unwrap_or(u64::MAX);
    let _turn = state.work(stream, Work::Bytes(bytes), false)?;
    // SAFETY: nothing of this process is named.
    unsafe { copy_box(state, &params, stream, sync) }
}

pub fn rgpuCaptureBox(
    state: &State,
    stream: *mut c_void,
    params: &[u8],
    out: &mut rgpuCaptureBoxReply,
) -> Result<(), CudaError> {
    let Some(graph) = graph_of(state, stream) else {
        return Ok(());
    };
    out.captured.set(1);
    let words = at::from_bytes(params).ok_or(CudaError::INVALID_VALUE)?;
    if words[0] != u64::from(at::MEMCPY) {
        return Err(CudaError::INVALID_VALUE);
    }
    with_params(state, Keeper::Graph(graph), params, &[], |params, _| {
        let copy = params.cast::<u64>().wrapping_add(at::memcpy::COPY);
        // SAFETY: the structure holds a CUDA_MEMCPY3D there, whose memory lives with the graph; device memory is checked by the driver.
        unsafe { driver_call!(state.driver.cuMemcpy3DAsync_v2(copy.cast(), stream)) }
    })
}
