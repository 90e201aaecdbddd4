use std::ffi::c_void;
use std::ptr;
use std::sync::PoisonError;

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuCaptureAllocReply;

use crate::calls::capture::graph_of;
use crate::calls::graph_node::Charge;
use crate::handles::Kind;
use crate::kept::keep;
use crate::state::State;

pub fn rgpuCaptureAlloc(
    state: &State,
    stream: *mut c_void,
    device: i32,
    bytes: u64,
    out: &mut rgpuCaptureAllocReply,
) -> Result<(), CudaError> {
    // Outside of a capture it would be memory that nobody gives back.
    let graph = graph_of(state, stream).ok_or(CudaError::STREAM_CAPTURE_INVALIDATED)?;
    let charge = Charge::take(state, device, bytes)?;
    let (mut pool, mut address) = (ptr::null_mut(), 0);
    let driver = &state.driver;
    // SAFETY: the stream is the driver's own, `pool` and `address` are places.
    unsafe {
        driver_call!(driver.cuDeviceGetDefaultMemPool(&mut pool, device))?;
        driver_call!(driver.cuMemAllocFromPoolAsync(&mut address, bytes as usize, pool, stream))?;
    }
    keep(driver, graph, Box::new(charge.with_address(address)))?;
    out.address.set(address);
    let owner = state.handles.owner_of(Kind::Graph, graph);
    let ids = state
        .handles
        .name(Kind::Graph, &[graph], owner.unwrap_or(ptr::null_mut()))?;
    out.graph.set(ids[0]);
    Ok(())
}

pub fn rgpuGraphMemoryFree(
    state: &State,
    stream: *mut c_void,
    address: u64,
) -> Result<(), CudaError> {
    let known = {
        let all = &state.shared.graph_memory;
        let all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.contains(&address)
    };
    if !known {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: memory of a graph's, and a stream of the driver's own.
    unsafe { driver_call!(state.driver.cuMemFreeAsync(address, stream)) }
}
