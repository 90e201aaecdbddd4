use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;
use rgpu_proto::calls::rgpuCaptureAllocReply;

use crate::calls::capture::graph_of;
use crate::charge::Charge;
use crate::handles::Kind;
use crate::kept::keep;
use crate::state::State;

/// How many graphs have memory that begins at an address: the driver may say that one is gone when it has given its addresses to the next.
#[derive(Default)]
pub struct GraphAddresses(HashMap<u64, usize>);

impl GraphAddresses {
    fn add(&mut self, address: u64) {
        *self.0.entry(address).or_default() += 1;
    }

    fn remove(&mut self, address: u64) {
        if let Entry::Occupied(mut count) = self.0.entry(address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn contains(&self, address: u64) -> bool {
        self.0.contains_key(&address)
    }
}

/// Memory of a graph's: known by its address, and charged, until the graph and what was made of it are gone.
pub struct GraphMemory {
    _charge: Charge,
    address: u64,
    known: Arc<Mutex<GraphAddresses>>,
}

impl GraphMemory {
    pub fn new(state: &State, charge: Charge, address: u64) -> GraphMemory {
        let known = state.shared.graph_memory.clone();
        lock(&known).add(address);
        GraphMemory {
            _charge: charge,
            address,
            known,
        }
    }
}

impl Drop for GraphMemory {
    fn drop(&mut self) {
        lock(&self.known).remove(self.address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn rgpuCaptureAlloc(
    state: &State,
    stream: *mut c_void,
    device: i32,
    bytes: u64,
    out: &mut rgpuCaptureAllocReply,
) -> Result<(), CudaError> {
    // Outside of a capture it would be memory that nobody gives back.
    let graph = graph_of(state, stream).ok_or(CudaError::STREAM_CAPTURE_INVALIDATED)?;
    let charge = Charge::take(state.shared.memory_map(), device, bytes)?;
    let (mut pool, mut address) = (ptr::null_mut(), 0);
    let driver = &state.driver;
    // SAFETY: the stream is the driver's own, `pool` and `address` are places.
    unsafe {
        driver_call!(driver.cuDeviceGetDefaultMemPool(&mut pool, device))?;
        driver_call!(driver.cuMemAllocFromPoolAsync(&mut address, bytes as usize, pool, stream))?;
    }
    keep(
        driver,
        graph,
        Box::new(GraphMemory::new(state, charge, address)),
    )?;
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
    if !lock(&state.shared.graph_memory).contains(address) {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: memory of a graph's, and a stream of the driver's own.
    unsafe { driver_call!(state.driver.cuMemFreeAsync(address, stream)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_known_until_the_last_graph_with_it_is_gone() {
        let mut known = GraphAddresses::default();
        known.add(5);
        known.add(5);
        known.remove(5);
        assert!(known.contains(5));
        known.remove(5);
        known.remove(5);
        assert!(!known.contains(5));
    }
}
