//! Contexts: what a program's objects belong to, and where a fault stays visible.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use per_thread::PerThread;
use softgpu_engine::Heap;

use crate::capture;
use crate::coredump;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::handles;
use crate::memory::Kind;
use crate::runtime::Runtime;
use crate::stream::{Order, Stream};
use crate::task::Task;
use crate::workspace::Workspaces;

/// CU_CTX_SCHED_*, MAP_HOST, LMEM_RESIZE_TO_MAX, COREDUMP_ENABLE, USER_COREDUMP_ENABLE, SYNC_MEMOPS.
const FLAGS: u32 = 0xff;
pub const LIMITS: usize = 7;
/// CU_LIMIT_MALLOC_HEAP_SIZE
const HEAP_LIMIT: usize = 2;

pub struct Context {
    pub handle: u64,
    pub device: Arc<Device>,
    pub primary: bool,
    /// Of a green context: the primary one that has its memory, its code and its errors; and the green context's own handle.
    base: Option<(Arc<Context>, u64)>,
    /// The green contexts of a primary one.
    greens: Mutex<Vec<Weak<Context>>>,
    pub flags: AtomicU32,
    pub cache_config: AtomicU32,
    /// By CUlimit.
    pub limits: Mutex<[u64; LIMITS]>,
    /// Handles of contexts whose memory may be used, for the errors of enabling twice.
    pub peers: Mutex<Vec<u64>>,
    pub coredump: Mutex<coredump::Settings>,
    /// Calls of cuCtxAttach that cuCtxDetach has not answered.
    pub attached: AtomicU32,
    error: AtomicU32,
    destroyed: AtomicBool,
    order: Mutex<Order>,
    /// What device-side `malloc` gives out, taken when the first kernel that uses it runs; none: there was no memory.
    heap: OnceLock<Option<Heap>>,
    pub workspaces: Workspaces,
    /// The NULL stream: a circle of references, which destruction opens.
    legacy: Mutex<Option<Arc<Stream>>>,
}

/// The thread's context stack; the last is current.
static STACK: PerThread<RefCell<Vec<Arc<Context>>>> = PerThread::new(RefCell::default);

impl Context {
    pub fn create(
        runtime: &Runtime,
        device: &Arc<Device>,
        flags: u32,
        primary: bool,
    ) -> Result<Arc<Context>> {
        check_flags(flags)?;
        Ok(Context::make(runtime, device, flags, primary, None))
    }

    /// The lane of a green context beside its primary one.
    pub fn create_green(runtime: &Runtime, base: &Arc<Context>, green: u64) -> Arc<Context> {
        let flags = base.flags.load(Relaxed);
        let of = Some((base.clone(), green));
        // As a primary context it is not cuCtxDestroy's.
        let context = Context::make(runtime, &base.device, flags, true, of);
        let mut greens = base.greens.lock().unwrap_or_else(|e| e.into_inner());
        greens.retain(|green| green.strong_count() > 0);
        greens.push(Arc::downgrade(&context));
        drop(greens);
        context
    }

    fn make(
        runtime: &Runtime,
        device: &Arc<Device>,
        flags: u32,
        primary: bool,
        base: Option<(Arc<Context>, u64)>,
    ) -> Arc<Context> {
        let context = Arc::new(Context {
            handle: handles::fresh(),
            device: device.clone(),
            primary,
            base,
            greens: Mutex::default(),
            flags: AtomicU32::new(flags),
            cache_config: AtomicU32::new(0),
            limits: Mutex::new([1024, 1 << 20, 8 << 20, 2, 2048, 64, 0]),
            peers: Mutex::default(),
            coredump: Mutex::default(),
            attached: AtomicU32::new(0),
            error: AtomicU32::new(0),
            destroyed: AtomicBool::new(false),
            order: Mutex::default(),
            heap: OnceLock::new(),
            workspaces: Workspaces::default(),
            legacy: Mutex::default(),
        });
        runtime.contexts.insert(context.handle, context.clone());
        context
    }

    /// What memory, code and events belong to.
    pub fn base(self: &Arc<Self>) -> Arc<Context> {
        match &self.base {
            Some((base, _)) => base.clone(),
            None => self.clone(),
        }
    }

    /// The green context that this is the lane of.
    pub fn green(&self) -> Option<u64> {
        self.base.as_ref().map(|(_, green)| *green)
    }

    /// Is it this context, or a green one of it?
    pub fn is_part_of(&self, context: &Context) -> bool {
        let base = self.base.as_ref().map(|(base, _)| base.handle);
        self.handle == context.handle || base == Some(context.handle)
    }

    /// The green contexts of it that are alive.
    fn greens(&self) -> Vec<Arc<Context>> {
        let greens = self.greens.lock().unwrap_or_else(|e| e.into_inner());
        greens.iter().filter_map(Weak::upgrade).collect()
    }

    /// The unfinished tails of all its streams, those of its green contexts with them.
    pub fn tails(&self) -> Vec<Arc<Task>> {
        let mut tails = self.order().tails();
        for green in self.greens() {
            tails.extend(green.order().tails());
        }
        tails
    }

    /// Lets all later work wait, that of its green contexts with it.
    pub fn hold(&self, gate: &Arc<Task>) {
        self.order().hold(gate.clone());
        for green in self.greens() {
            green.order().hold(gate.clone());
        }
    }

    pub fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn heap(&self, runtime: &Runtime) -> Option<&Heap> {
        let make = || {
            let size = self.limits.lock().unwrap_or_else(|e| e.into_inner())[HEAP_LIMIT];
            let memory = &runtime.memory;
            let base = memory.allocate(self.device.ordinal, self.handle, size, Kind::Device);
            base.ok().map(|base| Heap::new(base, size))
        };
        self.heap.get_or_init(make).as_ref()
    }

    /// The NULL stream.
    pub fn legacy(self: &Arc<Self>) -> Arc<Stream> {
        let mut legacy = self.legacy.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(stream) = &*legacy {
            return stream.clone();
        }
        let stream = Stream::legacy(self);
        if !self.is_destroyed() {
            *legacy = Some(stream.clone());
        }
        stream
    }

    pub fn is_destroyed(&self) -> bool {
        self.destroyed.load(Acquire)
    }

    /// The error that made the context unusable, or that it is gone.
    pub fn check(&self) -> Result {
        match self.error.load(Acquire) {
            _ if self.is_destroyed() => Err(Error::ERROR_CONTEXT_IS_DESTROYED),
            0 => self.base.as_ref().map_or(Ok(()), |(base, _)| base.check()),
            code => Err(Error(code)),
        }
    }

    pub fn has_failed(&self) -> bool {
        self.error.load(Acquire) != 0
            || self
                .base
                .as_ref()
                .is_some_and(|(base, _)| base.has_failed())
    }

    /// A fault of the device: stays until the context is destroyed. The first one counts; was it this?
    pub fn fail(&self, error: Error) -> bool {
        if let Some((base, _)) = &self.base {
            return base.fail(error);
        }
        let first = self.error.compare_exchange(0, error.0, AcqRel, Acquire);
        first.is_ok()
    }

    /// Waits for all that is enqueued now.
    pub fn drain(&self) {
        self.tails().iter().for_each(|task| task.wait());
    }

    pub fn synchronize(&self) -> Result {
        self.drain();
        self.check()
    }

    /// Frees all that belongs to the context.
    pub fn destroy(&self, runtime: &Runtime) -> Result {
        if self.destroyed.swap(true, AcqRel) {
            return Err(Error::ERROR_CONTEXT_IS_DESTROYED);
        }
        self.drain();
        let mine = |context: &Arc<Context>| context.handle == self.handle;
        capture::abandon(runtime, self);
        if self.base.is_some() {
            // Its streams stay until they are destroyed, and say that they are detached.
            runtime.still(|| runtime.memory.free_context(self.handle));
            let legacy = self.legacy.lock().unwrap_or_else(|e| e.into_inner()).take();
            drop(legacy);
            let order = std::mem::take(&mut *self.order());
            drop(order);
            return runtime.contexts.take(self.handle).map(|_| ());
        }
        runtime.streams.remove_if(|stream| mine(&stream.context));
        runtime.events.remove_if(|event| mine(&event.context));
        runtime
            .functions
            .remove_if(|function| mine(&function.module.context));
        runtime.modules.remove_if(|module| mine(&module.context));
        runtime.textures.remove_if(|object| mine(&object.context));
        runtime.surfaces.remove_if(|object| mine(&object.context));
        let context = self.handle;
        runtime
            .texture_references
            .remove_if(|reference| reference.owner.context == context);
        runtime
            .surface_references
            .remove_if(|reference| reference.owner.context == context);
        runtime.arrays.remove_if(|array| mine(&array.context));
        runtime.mipmapped.remove_if(|array| mine(&array.context));
        runtime.still(|| runtime.memory.free_context(self.handle));
        let legacy = self.legacy.lock().unwrap_or_else(|e| e.into_inner()).take();
        drop(legacy);
        let order = std::mem::take(&mut *self.order());
        drop(order);
        runtime.contexts.take(self.handle).map(|_| ())
    }

    // The stack of the calling thread.

    pub fn try_current() -> Option<Arc<Context>> {
        STACK
            .try_with(|stack| stack.borrow().last().cloned())
            .flatten()
    }

    pub fn is_current(handle: u64) -> bool {
        let top = |stack: &RefCell<Vec<Arc<Context>>>| {
            let stack = stack.borrow();
            stack
                .last()
                .is_some_and(|context| context.handle == handle && !context.is_destroyed())
        };
        STACK.try_with(top).unwrap_or(false)
    }

    /// The current context, usable; instead of a green one what that belongs to.
    pub fn current() -> Result<Arc<Context>> {
        Ok(Context::current_lane()?.base())
    }

    /// The current context itself, usable: what its default streams are of.
    pub fn current_lane() -> Result<Arc<Context>> {
        let context = Context::try_current().ok_or(Error::ERROR_INVALID_CONTEXT)?;
        context.check()?;
        Ok(context)
    }

    pub fn push(context: Arc<Context>) {
        let _ = STACK.try_with(|stack| stack.borrow_mut().push(context));
    }

    pub fn pop() -> Result<Arc<Context>> {
        let popped = STACK.try_with(|stack| stack.borrow_mut().pop()).flatten();
        popped.ok_or(Error::ERROR_INVALID_CONTEXT)
    }

    /// Replaces the top of the stack; null takes it away.
    pub fn set_current(context: Option<Arc<Context>>) {
        let old = STACK.try_with(|stack| {
            let mut stack = stack.borrow_mut();
            let old = stack.pop();
            stack.extend(context);
            old
        });
        drop(old);
    }
}

pub fn check_flags(flags: u32) -> Result {
    // The scheduling flags exclude each other.
    if flags & !FLAGS != 0 || !matches!(flags & 7, 0 | 1 | 2 | 4) {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    Ok(())
}
