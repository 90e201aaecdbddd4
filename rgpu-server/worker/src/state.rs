//! What the calls of a session work on: the driver, the handles, the memory.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use rgpu_proto::CudaError;
use rgpu_proto::control::Usage;
use rgpu_proto::frame::MAX_BULK;
use rgpu_proto::module_table::param_bytes;
use rustc_hash::FxHashMap;

use crate::borrowing::Borrowing;
use crate::calls::graph_host::ExecHosts;
use crate::calls::green::Greens;
use crate::calls::host_function::Record;
use crate::calls::library::Libraries;
use crate::calls::linker::Links;
use crate::calls::pool::GraphAddresses;
use crate::calls::user_object::UserObject;
use crate::charge::Changing;
use crate::clearing::Clearing;
use crate::content::Contents;
use crate::copies::HostCopies;
use crate::driver::Driver;
use crate::exports::Exports;
use crate::gate::{Gates, Turn, Work};
use crate::handles::{HandleTable, Handles, Kind};
use crate::hosts::HostCalls;
use crate::images::Images;
use crate::imports::Imports;
use crate::landings::Landings;
use crate::memory_map::MemoryMap;
use crate::reaper::Reaper;
use crate::swap::{PATIENCE, Swap};
use crate::virtual_memory::VirtualMemory;
use crate::zero_copy::{Blocks, Descriptors};

/// Room that is asked for where nobody knows how much a driver will take: others go for it one by one.
pub const SOME: u64 = 2 << 20;

/// Counters for the broker.
#[derive(Default)]
pub struct Counters {
    pub calls: AtomicU64,
    pub waits: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    pub launches: AtomicU64,
}

/// What the worker keeps of a driver's function.
#[derive(Clone, Debug)]
pub struct FunctionInfo {
    pub module: usize,
    /// `None` if the driver cannot say.
    pub params: Option<Params>,
}

/// A function's parameters: bytes of their buffer, offset and size of each.
#[derive(Clone, Debug)]
pub struct Params {
    pub bytes: usize,
    pub layout: Arc<[(u32, u32)]>,
}

impl Params {
    pub fn new(layout: &[(u32, u32)]) -> Params {
        Params {
            bytes: param_bytes(layout),
            layout: layout.into(),
        }
    }
}

/// What all threads of the session share.
pub struct Shared {
    pub driver: Arc<Driver>,
    pub handles: Arc<HandleTable>,
    memory: Arc<Mutex<MemoryMap>>,
    virtual_memory: Mutex<VirtualMemory>,
    /// By the address of the driver's function.
    functions: Mutex<FxHashMap<usize, FunctionInfo>>,
    pub links: Mutex<Links>,
    pub libraries: Mutex<Libraries>,
    images: Mutex<Images>,
    /// The devices whose primary context this session holds, by the id of that context.
    primaries: Mutex<HashMap<u64, i32>>,
    pub reaper: Reaper,
    pub landings: Landings,
    pub hosts: Arc<HostCalls>,
    /// A stream may stand still until the client does something: from then on no call that the client waits for keeps the turn.
    pub stands: Arc<AtomicBool>,
    /// A kernel may print: then each reply that tells of work looks for it first.
    pub prints: AtomicBool,
    /// A capture has begun once.
    pub captures: AtomicBool,
    /// A graph has functions of the client's, or copies from or to its memory.
    pub graph_hosts: AtomicBool,
    pub copies: Arc<HostCopies>,
    /// What of the client's the executable graphs use, by their address.
    execs: Mutex<HashMap<usize, ExecHosts>>,
    objects: Mutex<HashMap<u64, UserObject>>,
    /// Functions of graphs' nodes, by the address that the driver has.
    records: Mutex<HashMap<usize, Weak<Record>>>,
    greens: Mutex<Greens>,
    /// Where memory of graphs begins.
    pub graph_memory: Arc<Mutex<GraphAddresses>>,
    /// Handles of values that conditional nodes look at, as the driver gave them.
    conditions: Mutex<HashSet<u64>>,
    exports: Mutex<Exports>,
    imports: Mutex<Imports>,
    pub borrowing: Borrowing,
    pub descriptors: Arc<Descriptors>,
    zero_copy: Mutex<Blocks>,
    pub clearing: Clearing,
    /// None for a client that makes no use of it.
    pub content: OnceLock<Contents>,
    /// None for what works alone, without a broker.
    pub gates: OnceLock<Arc<Gates>>,
    /// None: the session's memory stays on its device.
    pub swap: Arc<OnceLock<Arc<Swap>>>,
    pub counters: Counters,
    /// The first error of a one-way call that has not been told yet; 0 for none.
    deferred: AtomicU32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(driver: Arc<Driver>, memory: MemoryMap, clearing: Clearing) -> Arc<Shared> {
        let memory = Arc::new(Mutex::new(memory));
        let handles = Arc::<HandleTable>::default();
        let swap = Arc::<OnceLock<Arc<Swap>>>::default();
        let (its_memory, its_handles) = (memory.clone(), handles.clone());
        Arc::new(Shared {
            reaper: Reaper::new(driver.clone(), its_memory, its_handles, swap.clone()),
            driver,
            handles,
            memory,
            virtual_memory: Mutex::default(),
            functions: Mutex::default(),
            links: Mutex::default(),
            libraries: Mutex::default(),
            images: Mutex::default(),
            primaries: Mutex::default(),
            landings: Landings::default(),
            hosts: Arc::default(),
            stands: Arc::default(),
            prints: AtomicBool::new(false),
            captures: AtomicBool::new(false),
            graph_hosts: AtomicBool::new(false),
            copies: Arc::default(),
            execs: Mutex::default(),
            objects: Mutex::default(),
            records: Mutex::default(),
            greens: Mutex::default(),
            graph_memory: Arc::default(),
            conditions: Mutex::default(),
            exports: Mutex::default(),
            imports: Mutex::default(),
            borrowing: Borrowing::default(),
            descriptors: Arc::default(),
            zero_copy: Mutex::default(),
            clearing,
            content: OnceLock::new(),
            gates: OnceLock::new(),
            swap,
            counters: Counters::default(),
            deferred: AtomicU32::new(0),
        })
    }

    /// The session loads code.
    pub fn note_code(&self, image: &[u8]) {
        if crate::printed::may_print(image) {
            self.prints.store(true, Ordering::Relaxed);
        }
    }

    pub fn memory(&self) -> MutexGuard<'_, MemoryMap> {
        lock(&self.memory)
    }

    pub fn virtual_memory(&self) -> MutexGuard<'_, VirtualMemory> {
        lock(&self.virtual_memory)
    }

    /// The memory map, for those who outlive a call.
    pub fn memory_map(&self) -> Arc<Mutex<MemoryMap>> {
        self.memory.clone()
    }

    pub fn execs(&self) -> MutexGuard<'_, HashMap<usize, ExecHosts>> {
        lock(&self.execs)
    }

    pub fn records(&self) -> MutexGuard<'_, HashMap<usize, Weak<Record>>> {
        lock(&self.records)
    }

    pub fn greens(&self) -> MutexGuard<'_, Greens> {
        lock(&self.greens)
    }

    /// What other sessions may have.
    pub fn exports(&self) -> MutexGuard<'_, Exports> {
        lock(&self.exports)
    }

    /// What other sessions have lent.
    pub fn imports(&self) -> MutexGuard<'_, Imports> {
        lock(&self.imports)
    }

    /// Memory of the client's program.
    pub fn zero_copy(&self) -> MutexGuard<'_, Blocks> {
        lock(&self.zero_copy)
    }

    pub fn conditions(&self) -> MutexGuard<'_, HashSet<u64>> {
        lock(&self.conditions)
    }

    pub fn objects(&self) -> MutexGuard<'_, HashMap<u64, UserObject>> {
        lock(&self.objects)
    }

    pub fn images(&self) -> MutexGuard<'_, Images> {
        lock(&self.images)
    }

    pub fn functions(&self) -> MutexGuard<'_, FxHashMap<usize, FunctionInfo>> {
        lock(&self.functions)
    }

    pub fn primaries(&self) -> MutexGuard<'_, HashMap<u64, i32>> {
        lock(&self.primaries)
    }

    /// Remembers the error of a one-way call; the first one wins. An event that is not ready is no error.
    pub fn defer(&self, error: CudaError) {
        if error != CudaError::NOT_READY {
            // A failed exchange: an earlier error waits there.
            let _ =
                self.deferred
                    .compare_exchange(0, error.0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The error that waits to be told, or 0; it counts as told now.
    pub fn take_deferred(&self) -> u32 {
        self.deferred.swap(0, Ordering::Relaxed)
    }

    /// A call begins that changes what the driver holds of its devices.
    pub fn changing(&self) -> Changing {
        Changing::begin(self.memory.clone())
    }

    /// OUT_OF_MEMORY if the call that is under way has taken more than the vGPU may hold: then it is to be undone.
    pub fn check_quota(&self) -> Result<(), CudaError> {
        match self.memory().is_over() {
            false => Ok(()),
            true => Err(CudaError::OUT_OF_MEMORY),
        }
    }

    pub fn usage(&self) -> Usage {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut memory = self.memory();
        memory.ledger.note();
        memory.refresh();
        Usage {
            calls: count(&self.counters.calls),
            waits: count(&self.counters.waits),
            bytes_in: count(&self.counters.bytes_in),
            bytes_out: count(&self.counters.bytes_out),
            launches: count(&self.counters.launches),
            memory: memory.ledger.by_device(),
            unused: memory.unused().to_vec(),
            memory_peak: memory.ledger.peak(),
            gpu_us: self
                .gates
                .get()
                .map_or(0, |gates| gates.used().as_micros() as u64),
            memory_mib_us: memory.ledger.held_mib_micros(),
        }
    }
}

/// One client thread's view. Which context is current is state of the OS thread that plays it.
pub struct State {
    pub driver: Arc<Driver>,
    pub handles: Handles,
    pub shared: Arc<Shared>,
    /// What is current in the driver: the context's id, and [`Handles::contexts_ended`] when that was looked up.
    current: Cell<(u64, u64)>,
    /// The device of that context, by its id.
    device: Cell<Option<(u64, u32)>>,
    /// Number of the command that is being played.
    pub seq: Cell<u64>,
    /// Whether the client waits for its reply.
    pub wants_reply: Cell<bool>,
    /// Until when a command may wait for room, by its number.
    patience: Cell<Option<(u64, Instant)>>,
}

impl State {
    pub fn new(shared: Arc<Shared>) -> State {
        State {
            driver: shared.driver.clone(),
            handles: Handles::new(shared.handles.clone()),
            current: Cell::new((0, 0)),
            device: Cell::new(None),
            seq: Cell::new(0),
            wants_reply: Cell::new(false),
            patience: Cell::new(None),
            shared,
        }
    }

    /// Makes the context with this id current in this thread, if it is not yet; 0: none.
    pub fn make_current(&self, id: u64) -> Result<(), CudaError> {
        let now = (id, self.handles.contexts_ended());
        if self.current.get() == now {
            return Ok(());
        }
        let context: *mut c_void = match id {
            0 => ptr::null_mut(),
            id => self.handles.get(Kind::Context, id)?,
        };
        // SAFETY: NULL, or a live context of this driver's.
        unsafe { driver_call!(self.driver.cuCtxSetCurrent(context)) }?;
        self.handles.set_context(id);
        self.shared.clearing.catch_up(&self.driver)?;
        self.current.set(now);
        Ok(())
    }

    /// The driver itself has made this context current.
    pub fn became_current(&self, id: u64) {
        self.current.set((id, self.handles.contexts_ended()));
        self.handles.set_context(id);
    }

    /// The device of the context that is current; 0 where none is.
    pub fn device(&self) -> u32 {
        let context = self.current.get().0;
        if let Some((known, device)) = self.device.get()
            && known == context
        {
            return device;
        }
        let mut device = 0;
        // SAFETY: a place for the device.
        let asked = unsafe { driver_call!(self.driver.cuCtxGetDevice(&mut device)) };
        let device = asked.map_or(0, |()| device.max(0) as u32);
        self.device.set(Some((context, device)));
        device
    }

    /// Waits until this may go to the device; it is there when what is returned is dropped. `waits`: the call returns when the stream is done.
    pub fn work(
        &self,
        stream: *mut c_void,
        work: Work,
        waits: bool,
    ) -> Result<Option<Turn<'_>>, CudaError> {
        match self.shared.gates.get() {
            Some(gates) => gates.enter(self, stream, work, waits).map(Some),
            None => Ok(None),
        }
    }

    /// Until when the command that is being played may wait for room: one that tries again has not the whole time again.
    pub fn patience(&self) -> Instant {
        let seq = self.seq.get();
        let begun = self.patience.get().filter(|(of, _)| *of == seq);
        let (_, deadline) = begun.unwrap_or_else(|| (seq, Instant::now() + PATIENCE));
        self.patience.set(Some((seq, deadline)));
        deadline
    }

    /// Makes memory of a device's that does not move, of about so many bytes; others' leaves the device for it, where it may.
    pub fn with_room<T>(
        &self,
        bytes: u64,
        mut make: impl FnMut() -> Result<T, CudaError>,
    ) -> Result<T, CudaError> {
        match self.shared.swap.get() {
            Some(swap) => swap.beside(bytes, self.patience(), make),
            None => make(),
        }
    }

    /// A buffer for a call's output, within the bound of one frame's bulk bytes.
    #[allow(
        dead_code,
        reason = "for generated server halves, of which not every table has such"
    )]
    pub fn output(&self, len: u64) -> Result<Vec<u8>, CudaError> {
        match usize::try_from(len) {
            Ok(len) if len <= MAX_BULK => Ok(vec![0; len]),
            _ => Err(CudaError::INVALID_VALUE),
        }
    }
}
