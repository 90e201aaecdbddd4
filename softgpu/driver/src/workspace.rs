//! What the blocks of a cooperative launch wait for each other by. Cooperative groups find it by `%envreg1` and `%envreg2`: a
//! word of theirs, and a barrier that counts blocks.

use std::sync::{Arc, Mutex};

use crate::context::Context;
use crate::copy;
use crate::memory::Kind;
use crate::runtime::Runtime;

const SIZE: u64 = 64;
/// Taken from the device's memory at a time.
const CHUNK: u64 = 64 * SIZE;

/// A context's places that no launch has. Their memory is the context's, and goes with it.
#[derive(Default)]
pub struct Workspaces {
    free: Mutex<Vec<u64>>,
}

/// The place that one launch has.
pub struct Workspace {
    context: Arc<Context>,
    address: u64,
}

impl Workspaces {
    fn free(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.free.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Workspace {
    /// None: there is no memory; the kernel faults where it looks for it.
    pub fn take(runtime: &Runtime, context: &Arc<Context>) -> Option<Workspace> {
        let mut free = context.workspaces.free();
        if free.is_empty() {
            let memory = &runtime.memory;
            let ordinal = context.device.ordinal;
            let chunk = memory.allocate(ordinal, context.handle, CHUNK, Kind::Device);
            let chunk = chunk.ok()?;
            free.extend((chunk..chunk + CHUNK).step_by(SIZE as usize));
        }
        let address = free.pop()?;
        // A kernel that was ended within its barrier has left it as it was.
        copy::write(runtime, address, &[0; SIZE as usize]).ok()?;
        let context = context.clone();
        Some(Workspace { context, address })
    }

    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        self.context.workspaces.free().push(self.address);
    }
}
