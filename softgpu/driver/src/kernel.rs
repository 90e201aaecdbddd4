//! One launch of a kernel while it runs: which blocks are left, which were put aside, what it has used.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use softgpu_engine::{Block, CheckLevel, LaunchContext, Program};

use crate::launch::Launch;
use crate::runtime::Runtime;
use crate::texture::Bindings;
use crate::workspace::Workspace;

/// Blocks that run together, with what is left of their turn.
pub struct Unit {
    pub block: Box<dyn Block>,
    blocks: u64,
    /// Instructions of earlier runs.
    pub seen: u64,
}

// The order matters: blocks borrow from what follows them.
pub struct KernelRun {
    state: Mutex<Blocks>,
    context: Box<LaunchContext<'static>>,
    _bindings: Box<Bindings>,
    program: Arc<dyn Program>,
    launch: Launch,
    /// Of a cooperative launch.
    _workspace: Option<Workspace>,
    gang: u64,
    total: u64,
    /// Units that may be started and not done.
    resident: usize,
    aborted: AtomicBool,
    /// Units on threads now.
    active: AtomicU32,
    /// Nanoseconds of device time.
    used: AtomicU64,
}

#[derive(Default)]
struct Blocks {
    parked: VecDeque<Unit>,
    next: u64,
    done: u64,
    started: usize,
    out: usize,
    completed: bool,
}

impl KernelRun {
    pub fn new(runtime: &'static Runtime, launch: Launch) -> Arc<KernelRun> {
        let program = launch.function.module.program.clone();
        let owner = &launch.function.module.context;
        let heap = match launch.function.info().uses_heap {
            true => owner.heap(runtime),
            false => None,
        };
        let bindings = Box::new(Bindings::new(runtime, &launch.function.module.references));
        let workspace = match launch.cooperative {
            true => Workspace::take(runtime, owner),
            false => None,
        };
        let context = Box::new(LaunchContext {
            kernel: launch.function.index,
            grid: launch.grid,
            block: launch.block,
            dynamic_shared: launch.shared,
            // SAFETY: the boxed bytes stay where they are while `launch` lives, which outlives all who borrow from this.
            params: unsafe { &*std::ptr::from_ref::<[u8]>(&launch.params) },
            // SAFETY: as above; the function keeps its module.
            globals: unsafe { &*std::ptr::from_ref::<[u64]>(&launch.function.module.addresses) },
            memory: &runtime.memory.space,
            check: CheckLevel::Pages,
            // SAFETY: as above; the module keeps its context.
            heap: heap.map(|heap| unsafe { &*std::ptr::from_ref(heap) }),
            workspace: workspace.as_ref().map_or(0, Workspace::address),
            print: Some(&print),
            // SAFETY: as above; they stay where they are while this is kept.
            objects: Some(unsafe { &*std::ptr::from_ref(&*bindings) }),
        });
        let gang = program.gang(&context).max(1) as u64;
        let device = &launch.function.module.context.device;
        let threads: u32 = launch.block.iter().product();
        let fit = (device.threads_per_multiprocessor() / threads.max(1))
            .clamp(1, device.blocks_per_multiprocessor());
        let resident = u64::from(fit * device.multiprocessors()).div_ceil(gang) as usize;
        Arc::new(KernelRun {
            state: Mutex::default(),
            total: launch.grid.iter().map(|&n| u64::from(n)).product(),
            context,
            _bindings: bindings,
            program,
            launch,
            _workspace: workspace,
            gang,
            resident,
            aborted: AtomicBool::new(false),
            active: AtomicU32::new(0),
            used: AtomicU64::new(0),
        })
    }

    pub fn name(&self) -> &str {
        &self.launch.function.name
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Blocks> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Units that could be started or continued now.
    pub fn claimable(&self) -> bool {
        let state = self.state();
        !self.is_aborted() && (!state.parked.is_empty() || self.may_start(&state))
    }

    /// Has no unit on a thread.
    pub fn is_idle(&self) -> bool {
        self.state().out == 0
    }

    fn may_start(&self, state: &Blocks) -> bool {
        state.next < self.total && state.started < self.resident
    }

    /// Units that have not been started.
    pub fn fresh(&self) -> u64 {
        (self.total - self.state().next).div_ceil(self.gang)
    }

    pub fn claim(&self) -> Option<Unit> {
        let mut state = self.state();
        if self.is_aborted() {
            return None;
        }
        if !self.may_start(&state) {
            let unit = state.parked.pop_front()?;
            state.out += 1;
            self.active.fetch_add(1, Relaxed);
            return Some(unit);
        }
        let from = state.next;
        let blocks = self.gang.min(self.total - from);
        state.next += blocks;
        state.started += 1;
        state.out += 1;
        self.active.fetch_add(1, Relaxed);
        drop(state);
        let [x, y, _] = self.launch.grid.map(u64::from);
        let places =
            (from..from + blocks).map(|at| [at % x, at / x % y, at / (x * y)].map(|n| n as u32));
        let places: Vec<[u32; 3]> = places.collect();
        let block = self.program.start_blocks(&self.context, &places);
        // SAFETY: the block borrows from `self.context` and `self.program`, which stay where they are (boxed, counted)
        // and are dropped after it: parked units by the order of the fields, others by threads that hold `self`.
        let block =
            unsafe { std::mem::transmute::<Box<dyn Block + '_>, Box<dyn Block + 'static>>(block) };
        Some(Unit {
            block,
            blocks,
            seen: 0,
        })
    }

    /// Puts a unit aside.
    pub fn park(&self, unit: Unit) {
        let mut state = self.state();
        self.active.fetch_sub(1, Relaxed);
        state.out -= 1;
        state.parked.push_back(unit);
    }

    /// A unit is done or given up. True: the kernel is over, said once.
    pub fn finish(&self, unit: Unit) -> bool {
        let blocks = unit.blocks;
        drop(unit);
        let mut state = self.state();
        self.active.fetch_sub(1, Relaxed);
        state.out -= 1;
        state.started -= 1;
        state.done += blocks;
        self.over(&mut state)
    }

    /// Is the kernel over? For those who hold no unit.
    pub fn check_over(&self) -> bool {
        self.over(&mut self.state())
    }

    fn over(&self, state: &mut Blocks) -> bool {
        let over = state.out == 0 && (state.done >= self.total || self.is_aborted());
        let first = over && !state.completed;
        state.completed |= over;
        if first {
            state.parked.clear();
        }
        first
    }

    /// No further block runs.
    pub fn abort(&self) {
        self.aborted.store(true, Release);
    }

    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Acquire)
    }

    /// Books the time that one thread ran; threads that run side by side share it. Returns the sum.
    pub fn charge(&self, time: Duration) -> Duration {
        let share = time.as_nanos() as u64 / u64::from(self.active.load(Relaxed).max(1));
        Duration::from_nanos(self.used.fetch_add(share, Relaxed) + share)
    }
}

unsafe extern "C" {
    /// C's.
    static stdout: *mut libc::FILE;
}

/// Device printf: behind what the program has printed by the C library before. A closed stdout must not disturb the program.
fn print(text: &str) {
    // SAFETY: the stream is the C library's, which locks it; the bytes are there.
    unsafe {
        libc::fwrite(text.as_ptr().cast(), 1, text.len(), stdout);
        libc::fflush(stdout);
    }
}
