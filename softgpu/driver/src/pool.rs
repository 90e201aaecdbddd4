//! Stream-ordered memory: pools that keep what was given back, for the next who asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::device::{Device, Level};
use crate::error::{Error, Result};
use crate::handles::{self, Registry};
use crate::memory::{Block, Kind};
use crate::runtime::Runtime;

pub const ACCESS_READ_WRITE: u32 = 3;

pub struct MemPool {
    pub handle: u64,
    pub device: Arc<Device>,
    /// Bytes that it may hold; 0: as many as the device has.
    max: u64,
    is_default: bool,
    /// No call names it any more; gone when its last allocation is.
    destroyed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By what they take.
    kept: BTreeMap<u64, Vec<Block>>,
    /// What may be kept while nobody uses it.
    threshold: u64,
    reserved: Level,
    used: Level,
    /// Follow event dependencies, opportunistic, internal dependencies: hints to a smarter allocator.
    reuse: [u32; 3],
    /// Access of other devices, by their number.
    access: BTreeMap<usize, u32>,
}

/// CUmemPool_attribute.
const REUSE_FIRST: u32 = 1;
const REUSE_LAST: u32 = 3;
const RELEASE_THRESHOLD: u32 = 4;
const RESERVED_NOW: u32 = 5;
const RESERVED_HIGH: u32 = 6;
const USED_NOW: u32 = 7;
const USED_HIGH: u32 = 8;

/// A value of an attribute: the first ones are of 32 bits.
#[derive(Clone, Copy)]
pub enum Value {
    Word(u32),
    Long(u64),
}

impl MemPool {
    fn new(device: &Arc<Device>, max: u64, is_default: bool) -> Arc<MemPool> {
        Arc::new(MemPool {
            handle: handles::fresh(),
            device: device.clone(),
            max,
            is_default,
            destroyed: AtomicBool::new(false),
            state: Mutex::new(State {
                reuse: [1; 3],
                ..State::default()
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Memory for the program; what another one's free has not given back yet is not counted on.
    pub fn allocate(&self, runtime: &Runtime, size: u64) -> Result<u64> {
        if size == 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        if size > self.device.memory {
            return Err(Error::ERROR_OUT_OF_MEMORY);
        }
        let bytes = runtime.memory.bytes_for(size);
        let mut state = self.state();
        if let Some(block) = state.kept.get_mut(&bytes).and_then(Vec::pop) {
            state.used.add(bytes);
            return Ok(runtime.memory.revive(block, size, self.handle));
        }
        if self.max > 0 && state.reserved.now() + bytes > self.max {
            state.shrink(runtime, self.max.saturating_sub(bytes));
            if state.reserved.now() + bytes > self.max {
                return Err(Error::ERROR_OUT_OF_MEMORY);
            }
        }
        let fresh = || {
            let device = self.device.ordinal;
            runtime.memory.allocate(device, 0, size, Kind::Device)
        };
        let base = match fresh() {
            Err(Error::ERROR_OUT_OF_MEMORY) if !state.kept.is_empty() => {
                state.shrink(runtime, 0);
                fresh()?
            }
            other => other?,
        };
        runtime.memory.assign(base, self.handle);
        state.reserved.add(bytes);
        state.used.add(bytes);
        Ok(base)
    }

    /// Nothing that was enqueued uses the block any more.
    pub fn give(&self, runtime: &Runtime, block: Block) {
        let bytes = block.bytes();
        let mut state = self.state();
        state.used.take(bytes);
        let keep = block.has_pages()
            && runtime.memory.keeps_blocks()
            && !self.destroyed.load(Acquire)
            && state.reserved.now() <= state.threshold;
        if keep {
            state.kept.entry(bytes).or_default().push(block);
        } else {
            state.reserved.take(bytes);
            runtime.still(|| runtime.memory.release(block));
        }
        if self.destroyed.load(Acquire) && state.used.now() == 0 {
            drop(state);
            let _ = runtime.pools.all.take(self.handle);
        }
    }

    /// Gives back to the device what nobody uses, down to `keep` bytes.
    pub fn trim(&self, runtime: &Runtime, keep: u64) {
        self.state().shrink(runtime, keep);
    }

    pub fn attribute(&self, attribute: u32) -> Result<Value> {
        let state = self.state();
        Ok(match attribute {
            REUSE_FIRST..=REUSE_LAST => {
                Value::Word(state.reuse[(attribute - REUSE_FIRST) as usize])
            }
            RELEASE_THRESHOLD => Value::Long(state.threshold),
            RESERVED_NOW => Value::Long(state.reserved.now()),
            RESERVED_HIGH => Value::Long(state.reserved.high()),
            USED_NOW => Value::Long(state.used.now()),
            USED_HIGH => Value::Long(state.used.high()),
            _ => return Err(Error::ERROR_INVALID_VALUE),
        })
    }

    /// `word` and `long` read the value, as the attribute's type demands it.
    pub fn set_attribute(
        &self,
        attribute: u32,
        word: impl Fn() -> Result<u32>,
        long: impl Fn() -> Result<u64>,
    ) -> Result {
        let mut state = self.state();
        match attribute {
            REUSE_FIRST..=REUSE_LAST => state.reuse[(attribute - REUSE_FIRST) as usize] = word()?,
            RELEASE_THRESHOLD => state.threshold = long()?,
            // High marks can only be reset.
            RESERVED_HIGH if long()? == 0 => state.reserved.reset_high(),
            USED_HIGH if long()? == 0 => state.used.reset_high(),
            _ => return Err(Error::ERROR_INVALID_VALUE),
        }
        Ok(())
    }

    /// Access of a device, by its number among the machine's.
    pub fn access(&self, device: usize) -> u32 {
        if device == self.device.ordinal {
            return ACCESS_READ_WRITE;
        }
        self.state().access.get(&device).copied().unwrap_or(0)
    }

    pub fn set_access(&self, device: usize, flags: u32) -> Result {
        // The owner's access cannot be taken away.
        if device == self.device.ordinal && flags != ACCESS_READ_WRITE {
            return Err(Error::ERROR_INVALID_DEVICE);
        }
        self.state().access.insert(device, flags);
        Ok(())
    }
}

impl State {
    fn shrink(&mut self, runtime: &Runtime, keep: u64) {
        let mut released = Vec::new();
        // The largest first: fewest steps.
        while self.reserved.now() > keep {
            let Some(mut entry) = self.kept.last_entry() else {
                break;
            };
            match entry.get_mut().pop() {
                Some(block) => {
                    self.reserved.take(block.bytes());
                    released.push(block);
                }
                None => {
                    entry.remove();
                }
            }
        }
        if !released.is_empty() {
            runtime.still(|| {
                for block in released {
                    runtime.memory.release(block);
                }
            });
        }
    }
}

/// All pools of the process.
pub struct Pools {
    all: Registry<MemPool>,
    /// By the program's number of the device.
    defaults: Box<[Arc<MemPool>]>,
    current: Mutex<Box<[Arc<MemPool>]>>,
}

impl Pools {
    pub fn new(devices: &[Arc<Device>]) -> Pools {
        let all = Registry::default();
        let defaults: Box<[Arc<MemPool>]> = devices
            .iter()
            .map(|device| MemPool::new(device, 0, true))
            .collect();
        for pool in &defaults {
            all.insert(pool.handle, pool.clone());
        }
        Pools {
            all,
            current: Mutex::new(defaults.clone()),
            defaults,
        }
    }

    pub fn create(&self, device: &Arc<Device>, max: u64) -> u64 {
        let pool = MemPool::new(device, max, false);
        self.all.insert(pool.handle, pool.clone());
        pool.handle
    }

    pub fn get(&self, handle: u64) -> Result<Arc<MemPool>> {
        let found = self.all.find(handle);
        found
            .filter(|pool| !pool.destroyed.load(Acquire))
            .ok_or(Error::ERROR_INVALID_VALUE)
    }

    /// The pool of an allocation, which may outlive its handle.
    pub fn of_allocation(&self, handle: u64) -> Option<Arc<MemPool>> {
        self.all.find(handle)
    }

    pub fn default_of(&self, device: usize) -> &Arc<MemPool> {
        &self.defaults[device]
    }

    fn current(&self) -> MutexGuard<'_, Box<[Arc<MemPool>]>> {
        self.current.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn current_of(&self, device: usize) -> Arc<MemPool> {
        self.current()[device].clone()
    }

    pub fn set_current(&self, device: usize, pool: &Arc<MemPool>) {
        self.current()[device] = pool.clone();
    }

    /// What it keeps goes at once, what the program still has when that is freed.
    pub fn destroy(&self, runtime: &Runtime, handle: u64) -> Result {
        let pool = self.get(handle)?;
        if pool.is_default {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        pool.destroyed.store(true, Release);
        for (current, default) in self.current().iter_mut().zip(&self.defaults) {
            if current.handle == handle {
                *current = default.clone();
            }
        }
        let mut state = pool.state();
        state.shrink(runtime, 0);
        if state.used.now() == 0 {
            drop(state);
            let _ = self.all.take(handle);
        }
        Ok(())
    }
}
