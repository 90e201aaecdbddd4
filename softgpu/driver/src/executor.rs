//! Runs what is ready on one device: a few threads, started when there is work for them.
//!
//! A thread takes what became ready first; kernels that are under way take turns. A launch wakes one thread, which
//! wakes another when there is enough for two, so that small kernels cost one wake-up and often none: what follows in
//! the stream is run by the thread that finished what was before it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use softgpu_engine::{Fault, FaultKind, Outcome};

use crate::copy;
use crate::coredump;
use crate::device::Device;
use crate::error::Error;
use crate::graph;
use crate::host;
use crate::kernel::{KernelRun, Unit};
use crate::runtime::{self, Runtime};
use crate::say;
use crate::slot::Gate;
use crate::task::{Task, Work};
use crate::waits;

/// How long a kernel keeps a thread while others wait for one.
const QUANTUM: Duration = Duration::from_millis(2);
/// How long a block runs before the thread looks around.
const LOOK: Duration = Duration::from_micros(250);
const FIRST_BUDGET: u64 = 256;
/// Work worth waking a thread for.
const WORTH: Duration = Duration::from_micros(30);
/// Copies of this many bytes are not made while holding the device's slot.
const LONG_COPY: u64 = 256 << 10;

pub struct Executor {
    gate: Gate,
    threads: usize,
    timeout: Option<Duration>,
    queue: Mutex<Queue>,
    wake: Condvar,
    stopping: AtomicBool,
    launches: AtomicU64,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Arc<Task>>,
    /// Kernels that are under way.
    running: VecDeque<Running>,
    started: usize,
    sleeping: usize,
    /// Wake-ups that nobody has noticed yet.
    calls: usize,
}

#[derive(Clone)]
struct Running {
    task: Arc<Task>,
    kernel: Arc<KernelRun>,
}

enum Job {
    Other(Arc<Task>, Work),
    Kernel(Running),
}

#[derive(PartialEq, Eq)]
enum Turn {
    /// Nothing left in this kernel, or another one's turn.
    Next,
    /// The device's slot has to be given up.
    Over,
}

impl Executor {
    pub fn new(gate: Gate, threads: usize, timeout: Option<Duration>) -> Executor {
        Executor {
            gate,
            threads,
            timeout,
            queue: Mutex::default(),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            launches: AtomicU64::new(0),
        }
    }

    /// How long this process held the device.
    pub fn used(&self) -> Duration {
        self.gate.used()
    }

    pub fn launches(&self) -> u64 {
        self.launches.load(Relaxed)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes a task that is ready.
    pub fn submit(&self, task: Arc<Task>) {
        if task.is_wait() {
            return waits::submit(task);
        }
        if task.is_conditional() {
            return graph::run_conditional(task);
        }
        if task.runs_elsewhere() {
            return host::submit(task);
        }
        let device = task.context.device.clone();
        let mut queue = self.queue();
        queue.push(task);
        self.rouse(queue, &device);
    }

    /// Wakes or starts one thread, if there is one to be had.
    fn rouse(&self, mut queue: MutexGuard<'_, Queue>, device: &Arc<Device>) {
        if queue.sleeping > queue.calls {
            queue.calls += 1;
            drop(queue);
            self.wake.notify_one();
        } else if queue.started < self.threads && !self.stopping.load(Relaxed) {
            queue.started += 1;
            drop(queue);
            let device = device.clone();
            let started = host::spawn("softgpu-worker", move || device.executor.work(&device));
            if let Err(error) = started {
                self.not_started(&error);
            }
        }
    }

    fn not_started(&self, error: &std::io::Error) {
        let mut queue = self.queue();
        queue.started -= 1;
        if queue.started > 0 {
            return;
        }
        say!("cannot start a thread: {error}");
        let stuck: Vec<Arc<Task>> = queue.ready.drain(..).collect();
        drop(queue);
        let mut stuck = VecDeque::from(stuck);
        while let Some(task) = stuck.pop_front() {
            task.context.fail(Error::ERROR_OPERATING_SYSTEM);
            stuck.extend(task.complete());
        }
    }

    /// At exit: no thread touches memory when this returns, unless one is stuck.
    pub fn stop(&self) {
        self.stopping.store(true, Release);
        let mut queue = self.queue();
        self.wake.notify_all();
        let until = Instant::now() + Duration::from_millis(500);
        while queue.started > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self
                .wake
                .wait_timeout(queue, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }

    // The threads.

    fn work(&self, device: &Arc<Device>) {
        let Ok(runtime) = runtime::get() else { return };
        let mut turn: Option<Instant> = None;
        let mut queue = self.queue();
        loop {
            if self.stopping.load(Acquire) {
                queue.started -= 1;
                self.wake.notify_all();
                drop(queue);
                if turn.is_some() {
                    self.gate.leave();
                }
                return;
            }
            match queue.pick() {
                Some(Job::Kernel(running)) => {
                    let more = !queue.ready.is_empty();
                    if more {
                        self.rouse(queue, device);
                    } else {
                        drop(queue);
                    }
                    let began = match turn {
                        Some(began) if !self.gate.over(began, Instant::now()) => began,
                        Some(_) => {
                            self.gate.leave();
                            self.gate.enter()
                        }
                        None => self.gate.enter(),
                    };
                    turn = Some(began);
                    if self.advance(runtime, &running, began) == Turn::Over {
                        self.gate.leave();
                        turn = None;
                    }
                    queue = self.queue();
                }
                Some(Job::Other(task, work)) => {
                    drop(queue);
                    if turn.is_some() && work.bytes() >= LONG_COPY {
                        self.gate.leave();
                        turn = None;
                    }
                    copy::run_work(runtime, &task, work);
                    self.complete(&task);
                    queue = self.queue();
                }
                None if turn.is_some() => {
                    drop(queue);
                    self.gate.leave();
                    turn = None;
                    queue = self.queue();
                }
                None => {
                    queue.sleeping += 1;
                    while queue.calls == 0 && !self.stopping.load(Acquire) {
                        queue = self.wake.wait(queue).unwrap_or_else(|e| e.into_inner());
                    }
                    queue.calls = queue.calls.saturating_sub(1);
                    queue.sleeping -= 1;
                }
            }
        }
    }

    /// The task is done; what it was in the way of is ready. The calling thread takes one of those next.
    fn complete(&self, task: &Arc<Task>) {
        let mut mine = 0;
        for ready in task.complete() {
            if Arc::ptr_eq(&ready.context.device, &task.context.device) && !ready.runs_elsewhere() {
                let mut queue = self.queue();
                queue.push(ready);
                mine += 1;
                if mine > 1 {
                    self.rouse(queue, &task.context.device);
                }
            } else {
                ready.context.device.clone().executor.submit(ready);
            }
        }
    }

    fn end(&self, running: &Running) {
        self.queue()
            .running
            .retain(|other| !Arc::ptr_eq(&other.kernel, &running.kernel));
        self.launches.fetch_add(1, Relaxed);
        self.complete(&running.task);
    }

    /// Runs blocks of a kernel.
    fn advance(&self, runtime: &Runtime, running: &Running, turn: Instant) -> Turn {
        let kernel = &running.kernel;
        let mut budget = FIRST_BUDGET;
        let begin = Instant::now();
        let mut last = begin;
        let mut helped = false;
        loop {
            if running.task.context.has_failed() || self.stopping.load(Relaxed) {
                kernel.abort();
            }
            let Some(mut unit) = kernel.claim() else {
                if kernel.check_over() {
                    self.end(running);
                }
                return Turn::Next;
            };
            loop {
                let outcome = runtime.access(|| unit.block.run(budget));
                let now = Instant::now();
                let took = now - last;
                last = now;
                let used = kernel.charge(took);
                match outcome {
                    Outcome::Done => {
                        if kernel.finish(unit) {
                            self.end(running);
                            return Turn::Next;
                        }
                        // Once for each thread and turn: the woken ones wake the next.
                        if !helped {
                            let worth =
                                took.saturating_mul(kernel.fresh().min(1 << 20) as u32) > WORTH;
                            helped = worth;
                            if worth {
                                self.rouse(self.queue(), &running.task.context.device);
                            }
                        }
                        break;
                    }
                    Outcome::Fault(fault) => {
                        self.fault(running, &fault);
                        if kernel.finish(unit) {
                            self.end(running);
                        }
                        return Turn::Next;
                    }
                    Outcome::Yielded => {}
                }
                let overdue = self.timeout.is_some_and(|limit| used > limit);
                if overdue && !kernel.is_aborted() {
                    self.overdue(running, used);
                }
                if kernel.is_aborted()
                    || running.task.context.has_failed()
                    || self.stopping.load(Relaxed)
                {
                    kernel.abort();
                    if kernel.finish(unit) {
                        self.end(running);
                    }
                    return Turn::Next;
                }
                if !helped && kernel.fresh() > 0 {
                    helped = true;
                    self.rouse(self.queue(), &running.task.context.device);
                }
                let waits = unit.waits(budget);
                budget = next_budget(budget, took);
                if self.gate.over(turn, now) {
                    kernel.park(unit);
                    return Turn::Over;
                }
                let others = waits || now - begin >= QUANTUM;
                if others && (kernel.claimable() || self.has_others(kernel)) {
                    kernel.park(unit);
                    break;
                }
            }
            if self.gate.over(turn, last) {
                return Turn::Over;
            }
            if last - begin >= QUANTUM && self.has_others(kernel) {
                return Turn::Next;
            }
        }
    }

    /// Is there something else than this kernel to run?
    fn has_others(&self, kernel: &Arc<KernelRun>) -> bool {
        let queue = self.queue();
        let other =
            |running: &Running| !Arc::ptr_eq(&running.kernel, kernel) && running.kernel.claimable();
        !queue.ready.is_empty() || queue.running.iter().any(other)
    }

    fn fault(&self, running: &Running, fault: &Fault) {
        let error = match fault.kind {
            FaultKind::IllegalAddress => Error::ERROR_ILLEGAL_ADDRESS,
            FaultKind::Misaligned => Error::ERROR_MISALIGNED_ADDRESS,
            FaultKind::IllegalInstruction => Error::ERROR_ILLEGAL_INSTRUCTION,
            FaultKind::InvalidAddressSpace => Error::ERROR_INVALID_ADDRESS_SPACE,
            FaultKind::Trap | FaultKind::Launch(_) | FaultKind::Object(_) => {
                Error::ERROR_LAUNCH_FAILED
            }
            FaultKind::Assert(_) => Error::ERROR_ASSERT,
        };
        say!("{fault}");
        running.kernel.abort();
        let context = &running.task.context;
        if context.fail(error)
            && let Ok(runtime) = runtime::get()
        {
            let device = runtime.visible_ordinal(&context.device);
            coredump::fault(context, device, &fault.to_string());
        }
    }

    fn overdue(&self, running: &Running, used: Duration) {
        say!(
            "kernel {} was ended after {:.1} s of device time; SOFTGPU_KERNEL_TIMEOUT_MS sets the limit, 0 for none",
            running.kernel.name(),
            used.as_secs_f64()
        );
        running.kernel.abort();
        running.task.context.fail(Error::ERROR_LAUNCH_TIMEOUT);
    }
}

impl Queue {
    /// Behind those of its priority and above; lower numbers go first.
    fn push(&mut self, task: Arc<Task>) {
        let at = self
            .ready
            .iter()
            .rposition(|other| other.priority <= task.priority)
            .map_or(0, |at| at + 1);
        self.ready.insert(at, task);
    }

    fn pick(&mut self) -> Option<Job> {
        while let Some(task) = self.ready.pop_front() {
            match task.take_work() {
                Some(Work::Kernel(kernel)) => {
                    let running = Running { task, kernel };
                    self.running.push_back(running.clone());
                    return Some(Job::Kernel(running));
                }
                Some(work) => return Some(Job::Other(task, work)),
                None => {}
            }
        }
        for _ in 0..self.running.len() {
            let running = self.running.pop_front()?;
            self.running.push_back(running.clone());
            if running.kernel.claimable()
                || running.task.context.has_failed() && running.kernel.is_idle()
            {
                return Some(Job::Kernel(running));
            }
        }
        None
    }
}

impl Unit {
    /// Did the block stop early, to let others run?
    fn waits(&mut self, budget: u64) -> bool {
        let ran = self.block.instructions() - self.seen;
        self.seen += ran;
        ran < budget / 2
    }
}

/// So that a run takes about [`LOOK`].
fn next_budget(budget: u64, took: Duration) -> u64 {
    let wanted = u128::from(budget) * LOOK.as_nanos() / took.as_nanos().max(1000);
    (wanted as u64)
        .clamp(budget / 8, budget * 8)
        .clamp(32, 1 << 22)
}
