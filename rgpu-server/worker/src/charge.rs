//! A share of the session's quota that somebody holds.

use std::sync::{Arc, Mutex, PoisonError};

use rgpu_proto::CudaError;
use rgpu_proto::calls::op;

use crate::memory_map::MemoryMap;
use crate::quota::Of;

/// Bytes of a device of the session's quota, until this is dropped.
pub struct Charge {
    memory: Arc<Mutex<MemoryMap>>,
    of: Of,
    device: i32,
    bytes: u64,
}

impl Charge {
    pub fn take(
        memory: Arc<Mutex<MemoryMap>>,
        device: i32,
        bytes: u64,
    ) -> Result<Charge, CudaError> {
        Charge::take_of(Of::Session, memory, device, bytes)
    }

    /// For memory that another session has made.
    pub fn borrow(
        memory: Arc<Mutex<MemoryMap>>,
        device: i32,
        bytes: u64,
    ) -> Result<Charge, CudaError> {
        Charge::take_of(Of::Another, memory, device, bytes)
    }

    fn take_of(
        of: Of,
        memory: Arc<Mutex<MemoryMap>>,
        device: i32,
        bytes: u64,
    ) -> Result<Charge, CudaError> {
        memory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .charge_of(of, device, bytes)?;
        Ok(Charge {
            memory,
            of,
            device,
            bytes,
        })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.ledger.give_of(self.of, self.device, self.bytes);
        // A driver that drops this by itself is not to be called now, nor need it have given the memory back already.
        memory.ledger.note();
    }
}

/// While this lives, a call is under way that changes what the driver holds of its devices.
pub struct Changing(Arc<Mutex<MemoryMap>>);

impl Changing {
    pub fn begin(memory: Arc<Mutex<MemoryMap>>) -> Changing {
        let mut map = memory.lock().unwrap_or_else(PoisonError::into_inner);
        map.ledger.changing();
        drop(map);
        Changing(memory)
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.ledger.changed();
        map.refresh();
    }
}

/// Whether a call changes what the driver holds of its devices, or may.
pub fn changes_memory(call: u16) -> bool {
    matches!(
        call,
        op::rgpuMemoryMap
            | op::rgpuMemoryUnmap
            | op::rgpuPhysicalCreate
            | op::rgpuPhysicalRelease
            | op::rgpuPhysicalUnmap
            | op::rgpuArrayCreate
            | op::rgpuArrayDestroy
            | op::rgpuMipmappedCreate
            | op::rgpuMipmappedDestroy
            | op::rgpuModuleLoad
            | op::rgpuModuleLoadKnown
            | op::rgpuModuleUnload
            | op::rgpuLibraryLoad
            | op::rgpuLibraryLoadKnown
            | op::rgpuLibraryUnload
            | op::rgpuLibraryModule
            | op::rgpuLibraryManaged
            | op::rgpuContextCreate
            | op::rgpuPrimaryRetain
            | op::rgpuContextDestroy
            | op::rgpuGreenCreate
            | op::rgpuGreenDestroy
            | op::cuCtxSetLimit
            | op::rgpuCaptureAlloc
            | op::rgpuGraphMemoryFree
            | op::rgpuGraphAddMemAlloc
            | op::rgpuGraphDestroyNode
            | op::rgpuGraphDestroy
            | op::rgpuGraphInstantiate
            | op::rgpuGraphExecUpdate
            | op::rgpuGraphExecDestroy
            | op::rgpuGraphMemoryTrim
            | op::cuGraphClone
            | op::cuGraphUpload
            | op::rgpuIpcMemoryOpen
            | op::rgpuIpcMemoryClose
    )
}
