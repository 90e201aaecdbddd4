//! A share of the session's quota that somebody holds.

use std::sync::{Arc, Mutex, PoisonError};

use rgpu_proto::CudaError;

use crate::memory_map::MemoryMap;

/// Bytes of a device of the session's quota, until this is dropped.
pub struct Charge {
    memory: Arc<Mutex<MemoryMap>>,
    device: i32,
    bytes: u64,
}

impl Charge {
    pub fn take(
        memory: Arc<Mutex<MemoryMap>>,
        device: i32,
        bytes: u64,
    ) -> Result<Charge, CudaError> {
        memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .charge(device, bytes)?;
        Ok(Charge {
            memory,
            device,
            bytes,
        })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.ledger.give(self.device, self.bytes);
    }
}
