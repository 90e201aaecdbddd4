//! Contexts, and which one a thread has.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::abi::{In, Out, answer};
use crate::device;
use crate::errors::{Error, Result};
use crate::handles::Table;
use crate::memory;
use crate::stream::Stream;
use crate::timeline::wait_until;

const API_VERSION: u32 = 3020;
/// CU_CTX_FLAGS_MASK.
const FLAGS: u32 = 0xff;
/// Values of CUlimit at first: stack, printf buffer, heap, synchronise depth, pending launches, L2 fetches, persisting L2.
const LIMITS: [usize; 7] = [1024, 1 << 20, 8 << 20, 2, 2048, 64, 0];

pub struct Context {
    pub handle: u64,
    primary: bool,
    flags: AtomicU32,
    limits: [AtomicUsize; LIMITS.len()],
    /// When all work ends, and that of streams which the legacy stream waits for.
    pub end: AtomicU64,
    pub blocking_end: AtomicU64,
    legacy: OnceLock<&'static Stream>,
    pub streams: Mutex<Vec<&'static Stream>>,
}

static CONTEXTS: Table<Context> = Table::new(1);

#[derive(Default)]
struct Primary {
    users: u32,
    flags: u32,
    context: Option<&'static Context>,
}

static PRIMARY: Mutex<Primary> = Mutex::new(Primary {
    users: 0,
    flags: 0,
    context: None,
});

thread_local! {
    /// 0: none.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
    /// Those below it.
    static STACK: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn primary() -> MutexGuard<'static, Primary> {
    PRIMARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calling thread's.
pub fn current() -> Result<&'static Context> {
    match CURRENT.get() {
        0 => Err(Error::INVALID_CONTEXT),
        handle => CONTEXTS
            .get(handle)
            .map_err(|_| Error::CONTEXT_IS_DESTROYED),
    }
}

fn find(handle: u64) -> Result<&'static Context> {
    CONTEXTS.get(handle).map_err(|_| Error::INVALID_CONTEXT)
}

fn push(handle: u64) {
    STACK.with_borrow_mut(|stack| stack.push(CURRENT.replace(handle)));
}

fn pop() -> u64 {
    CURRENT.replace(STACK.with_borrow_mut(|stack| stack.pop().unwrap_or(0)))
}

impl Context {
    fn create(flags: u32, primary: bool) -> Result<&'static Context> {
        if flags & !FLAGS != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let context = CONTEXTS.insert(|handle| {
            Box::leak(Box::new(Context {
                handle,
                primary,
                flags: AtomicU32::new(flags),
                limits: LIMITS.map(AtomicUsize::new),
                end: AtomicU64::new(0),
                blocking_end: AtomicU64::new(0),
                legacy: OnceLock::new(),
                streams: Mutex::default(),
            }))
        })?;
        context.legacy();
        Ok(context)
    }

    /// The default stream.
    pub fn legacy(&'static self) -> &'static Stream {
        self.legacy.get_or_init(|| Stream::legacy(self))
    }

    pub fn streams(&self) -> MutexGuard<'_, Vec<&'static Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&'static self) {
        let streams = self.streams().clone();
        for stream in streams.into_iter().chain([self.legacy()]) {
            stream.settle();
        }
        wait_until(self.end.load(Ordering::Acquire));
    }

    fn destroy(&'static self) -> Result {
        self.wait();
        CONTEXTS.remove(self.handle)?;
        memory::end_of_context(self.handle);
        Ok(())
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v2(context: Out<u64>, flags: u32, device: i32) -> u32 {
    answer(|| {
        device::check(device)?;
        context.check()?;
        let made = Context::create(flags, false)?;
        push(made.handle);
        context.put(made.handle)
    })
}

/// Parameters say which part of a device: all of it here.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxCreate_v4(
    context: Out<u64>,
    _parameters: In<c_void>,
    flags: u32,
    device: i32,
) -> u32 {
    cuCtxCreate_v2(context, flags, device)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDestroy_v2(context: u64) -> u32 {
    answer(|| {
        let found = find(context)?;
        if found.primary {
            return Err(Error::INVALID_CONTEXT);
        }
        found.destroy()?;
        if CURRENT.get() == context {
            pop();
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: u64) -> u32 {
    answer(|| {
        match context {
            0 => drop(pop()),
            _ => CURRENT.set(find(context)?.handle),
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetCurrent(context: Out<u64>) -> u32 {
    answer(|| context.put(CURRENT.get()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(context: u64) -> u32 {
    answer(|| {
        push(find(context)?.handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPopCurrent_v2(context: Out<u64>) -> u32 {
    answer(|| match pop() {
        0 => Err(Error::INVALID_CONTEXT),
        popped => {
            context.put_if(popped);
            Ok(())
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetDevice(device: Out<i32>) -> u32 {
    answer(|| current().and_then(|_| device.put(0)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetApiVersion(context: u64, version: Out<u32>) -> u32 {
    answer(|| {
        match context {
            0 => current()?,
            _ => find(context)?,
        };
        version.put(API_VERSION)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetFlags(flags: Out<u32>) -> u32 {
    answer(|| flags.put(current()?.flags.load(Ordering::Relaxed)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetId(context: u64, id: Out<u64>) -> u32 {
    answer(|| match context {
        0 => id.put(current()?.handle),
        _ => id.put(find(context)?.handle),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> u32 {
    answer(|| {
        current()?.wait();
        Ok(())
    })
}

fn limit(which: u32) -> Result<&'static AtomicUsize> {
    let limits = &current()?.limits;
    limits.get(which as usize).ok_or(Error::UNSUPPORTED_LIMIT)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetLimit(value: Out<usize>, which: u32) -> u32 {
    answer(|| value.put(limit(which)?.load(Ordering::Relaxed)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetLimit(which: u32, value: usize) -> u32 {
    answer(|| {
        limit(which)?.store(value, Ordering::Relaxed);
        Ok(())
    })
}

/// Greatest priority last: it is the lower number.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) -> u32 {
    answer(|| {
        current()?;
        least.put_if(0);
        greatest.put_if(-5);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxEnablePeerAccess(_peer: u64, _flags: u32) -> u32 {
    Error::PEER_ACCESS_UNSUPPORTED.0
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(context: Out<u64>, device: i32) -> u32 {
    answer(|| {
        device::check(device)?;
        context.check()?;
        let mut primary = primary();
        let found = match primary.context {
            Some(found) => found,
            None => Context::create(primary.flags, true)?,
        };
        primary.context = Some(found);
        primary.users += 1;
        context.put(found.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: i32) -> u32 {
    answer(|| {
        device::check(device)?;
        let mut primary = primary();
        primary.users = primary.users.checked_sub(1).ok_or(Error::INVALID_CONTEXT)?;
        match primary.users {
            0 => primary.context.take().map_or(Ok(()), Context::destroy),
            _ => Ok(()),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) -> u32 {
    answer(|| {
        device::check(device)?;
        if flags & !FLAGS != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let mut primary = primary();
        primary.flags = flags;
        if let Some(context) = primary.context {
            context.flags.store(flags, Ordering::Relaxed);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxGetState(
    device: i32,
    flags: Out<u32>,
    active: Out<i32>,
) -> u32 {
    answer(|| {
        device::check(device)?;
        let primary = primary();
        flags.put_if(primary.flags);
        active.put_if(i32::from(primary.context.is_some()));
        Ok(())
    })
}
