//! Memory that belongs to a graph: there from the making of its node to the end of the last graph that has the node.

use std::sync::Arc;

use crate::device::Device;
use crate::error::Result;
use crate::memory::Kind;
use crate::runtime::{self, Runtime};

/// Stands for a pool in allocations of graphs.
pub const GRAPH_OWNED: u64 = u64::MAX;

pub struct GraphMemory {
    pub address: u64,
    pub bytes: u64,
    pub device: Arc<Device>,
}

impl GraphMemory {
    pub fn allocate(
        runtime: &Runtime,
        device: &Arc<Device>,
        bytes: u64,
    ) -> Result<Arc<GraphMemory>> {
        let address = runtime
            .memory
            .allocate(device.ordinal, 0, bytes, Kind::Device)?;
        runtime.memory.assign(address, GRAPH_OWNED);
        device.graph_memory.add(bytes);
        Ok(Arc::new(GraphMemory {
            address,
            bytes,
            device: device.clone(),
        }))
    }
}

impl Drop for GraphMemory {
    fn drop(&mut self) {
        self.device.graph_memory.take(self.bytes);
        if let Ok(runtime) = runtime::get()
            && let Ok(block) = runtime.memory.retire(self.address)
        {
            runtime.still(|| runtime.memory.release(block));
        }
    }
}
