//! Performs what must not stop the command stream: frees, unloads and ends of contexts, each when earlier work is done.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rgpu_proto::CudaError;

use crate::charge::{Changing, Charge};
use crate::driver::Driver;
use crate::handles::HandleTable;
use crate::memory_map::{MemoryMap, Range};
use crate::swap::Swap;
use crate::threads::spawn;

/// What to do once the work that may still need it is done.
pub enum Action {
    Unmap(Vec<Range>),
    Free(u64),
    UnloadModule(Pointer),
    UnloadLibrary(Pointer),
    DestroyArray(Pointer, Charge),
    DestroyMipmapped(Pointer, Charge),
    DestroyContext(Pointer),
    ReleasePrimary(i32),
    /// What a context that ends before this held of the quota.
    GiveBack(Vec<Charge>),
    /// Of this process, and used by the driver until then.
    Drop(Box<dyn std::any::Any + Send>),
}

/// A driver's handle, on its way to the reaper's thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pointer(pub *mut c_void);

// SAFETY: the driver's handles may be used from any thread; they are never dereferenced here.
unsafe impl Send for Pointer {}

impl Action {
    fn ends_a_context(&self) -> bool {
        matches!(self, Action::DestroyContext(_) | Action::ReleasePrimary(_))
    }

    fn frees_memory(&self) -> bool {
        matches!(
            self,
            Action::Unmap(_)
                | Action::Free(_)
                | Action::DestroyArray(..)
                | Action::DestroyMipmapped(..)
                | Action::GiveBack(_)
                | Action::UnloadModule(_)
                | Action::UnloadLibrary(_)
        )
    }
}

struct Item {
    /// Contexts whose work comes first; the first one is current for the action.
    after: Vec<Pointer>,
    action: Action,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Items that are queued or being performed.
    pending: usize,
    /// Something has been done since somebody last waited for all of it.
    done: bool,
    /// Those of them that end a context.
    ends: usize,
    /// Those that free device memory, modules' variables among it.
    frees: usize,
    started: bool,
    closed: bool,
}

/// How often what waits for the end of a capture looks for it.
const LOOK: Duration = Duration::from_millis(20);

struct Inner {
    driver: Arc<Driver>,
    handles: Arc<HandleTable>,
    memory: Arc<Mutex<MemoryMap>>,
    /// By which memory may have left its device.
    swap: Arc<OnceLock<Arc<Swap>>>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Its thread starts with the first item.
#[derive(Clone)]
pub struct Reaper(Arc<Inner>);

impl Reaper {
    pub fn new(
        driver: Arc<Driver>,
        memory: Arc<Mutex<MemoryMap>>,
        handles: Arc<HandleTable>,
        swap: Arc<OnceLock<Arc<Swap>>>,
    ) -> Reaper {
        Reaper(Arc::new(Inner {
            driver,
            handles,
            memory,
            swap,
            queue: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Performs the action when the work that these contexts have now is done.
    pub fn after(&self, contexts: Vec<*mut c_void>, action: Action) {
        let item = Item {
            after: contexts.into_iter().map(Pointer).collect(),
            action,
        };
        let ends = usize::from(item.action.ends_a_context());
        let frees = usize::from(item.action.frees_memory());
        let mut queue = self.0.queue();
        queue.pending += 1;
        queue.ends += ends;
        queue.frees += frees;
        if !queue.started {
            let inner = self.0.clone();
            queue.started = spawn("reaper", move || {
                if catch_unwind(AssertUnwindSafe(|| inner.run())).is_err() {
                    // Nobody may wait for it any more.
                    inner.queue().closed = true;
                    inner.changed.notify_all();
                }
            })
            .is_ok();
            if !queue.started {
                // No thread to be had: the command stream waits instead.
                drop(queue);
                self.0.perform(item);
                let mut queue = self.0.queue();
                queue.pending -= 1;
                queue.ends -= ends;
                queue.frees -= frees;
                return;
            }
        }
        queue.items.push_back(item);
        self.0.changed.notify_all();
    }

    /// Waits until all that was handed over is done; false if there was nothing since this was asked last: what failed for want of it need not be tried
    /// again. Nothing is waited for while a stream captures, here and
    /// below: to wait for a context would break the capture, so what is queued waits for its end.
    pub fn drain(&self) -> bool {
        self.wait_while(|queue| queue.pending > 0);
        std::mem::take(&mut self.0.queue().done)
    }

    /// Waits until the contexts that the client has ended are gone, and with them their work.
    pub fn wait_for_ends(&self) {
        self.wait_while(|queue| queue.ends > 0);
    }

    /// Waits until the memory that the client has given back is free for all, as it is after the driver's own call.
    pub fn wait_for_frees(&self) {
        self.wait_while(|queue| queue.frees > 0);
    }

    fn wait_while(&self, busy: impl Fn(&Queue) -> bool) {
        let mut queue = self.0.queue();
        while busy(&queue) && !queue.closed && !self.0.handles.is_capturing() {
            queue = self.0.wait(queue);
        }
    }

    /// Ends the thread after what it does now; what is queued ends with the process.
    pub fn close(&self) {
        self.0.queue().closed = true;
        self.0.changed.notify_all();
    }
}

/// What the driver did not destroy stays charged: the device still holds it.
fn destroyed(charge: Charge, result: Result<(), CudaError>) -> Result<(), CudaError> {
    match result {
        Ok(()) => drop(charge),
        Err(_) => std::mem::forget(charge),
    }
    result
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for news of the queue; where something is queued, for those of captures too.
    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        if queue.pending == 0 {
            return self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.changed
            .wait_timeout(queue, LOOK)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn run(&self) {
        loop {
            let item = {
                let mut queue = self.queue();
                loop {
                    if queue.closed {
                        return;
                    }
                    if !self.handles.is_capturing()
                        && let Some(item) = queue.items.pop_front()
                    {
                        break item;
                    }
                    queue = self.wait(queue);
                }
            };
            let ends = usize::from(item.action.ends_a_context());
            let frees = usize::from(item.action.frees_memory());
            self.perform(item);
            let mut queue = self.queue();
            queue.pending -= 1;
            queue.done = true;
            queue.ends -= ends;
            queue.frees -= frees;
            drop(queue);
            self.changed.notify_all();
        }
    }

    fn perform(&self, item: Item) {
        for Pointer(context) in item.after.iter().rev() {
            // SAFETY: contexts end only here, in the order of the queue.
            let done = unsafe {
                driver_call!(self.driver.cuCtxSetCurrent(*context))
                    .and_then(|()| driver_call!(self.driver.cuCtxSynchronize()))
            };
            if let Err(error) = done {
                // Nothing runs any more in a context with a sticky error; and the client is told of it where it waits.
                tracing::debug!(%error, "work before a free ended with an error");
            }
        }
        let result = self.act(item.action);
        if let Err(error) = result {
            // The work's own error is told where the client waits for that work.
            tracing::warn!(%error, "the driver refused a deferred free or unload");
        }
        if let Some(swap) = self.swap.get() {
            swap.tell_beside();
        }
    }

    fn act(&self, action: Action) -> Result<(), CudaError> {
        let _changing = Changing::begin(self.memory.clone());
        match action {
            Action::Unmap(parts) => self.unmap(&parts),
            Action::Free(address) => {
                // SAFETY: an allocation of this session's that nothing uses any more.
                let result = unsafe { driver_call!(self.driver.cuMemFree_v2(address)) };
                if result.is_ok() {
                    self.memory().freed(address);
                }
                result
            }
            // SAFETY: a module whose ids are gone, and whose kernels are done.
            Action::UnloadModule(Pointer(module)) => unsafe {
                driver_call!(self.driver.cuModuleUnload(module))
            },
            // SAFETY: a library whose id is gone, and whose kernels are done.
            Action::UnloadLibrary(Pointer(library)) => unsafe {
                driver_call!(self.driver.cuLibraryUnload(library))
            },
            // SAFETY: an array whose id is gone, and the work that used it done.
            Action::DestroyArray(Pointer(array), charge) => destroyed(charge, unsafe {
                driver_call!(self.driver.cuArrayDestroy(array))
            }),
            // SAFETY: as above.
            Action::DestroyMipmapped(Pointer(array), charge) => destroyed(charge, unsafe {
                driver_call!(self.driver.cuMipmappedArrayDestroy(array))
            }),
            Action::GiveBack(charges) => {
                drop(charges);
                Ok(())
            }
            // SAFETY: a context whose id is gone, and whose work is done.
            Action::DestroyContext(Pointer(context)) => unsafe {
                driver_call!(self.driver.cuCtxDestroy_v2(context))
            },
            // SAFETY: the session holds it once, and lets go of it here.
            Action::ReleasePrimary(device) => unsafe {
                driver_call!(self.driver.cuDevicePrimaryCtxRelease_v2(device))
            },
            Action::Drop(thing) => {
                drop(thing);
                Ok(())
            }
        }
    }

    fn unmap(&self, parts: &[Range]) -> Result<(), CudaError> {
        let mut result = Ok(());
        let swap = self.swap.get();
        let _still = swap.map(|swap| swap.still());
        for part in parts {
            if swap.is_some_and(|swap| swap.forget(*part)) {
                self.memory().unmapped(part.address);
                continue;
            }
            // SAFETY: one whole mapping, of this session's; its handle was released when it was mapped, so this frees the memory.
            match unsafe { driver_call!(self.driver.cuMemUnmap(part.address, part.bytes as usize)) }
            {
                Ok(()) => {
                    self.memory().unmapped(part.address);
                    if let Some(swap) = swap {
                        swap.give(part.bytes);
                    }
                }
                // It stays charged: the device still holds it.
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn memory(&self) -> MutexGuard<'_, MemoryMap> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
