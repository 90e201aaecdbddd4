//! The driver: libcuda.so.1 as the process finds it, and its functions, looked up when they are first called.

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};

use crate::Streams;
use crate::error::{Error, Result, of_driver};
use crate::functions::ENTRIES;

pub type Address = *const c_void;

/// How cuGetProcAddress knows a function.
pub struct Entry {
    pub base: &'static CStr,
    /// The version that introduced this form of it: 1000 * major + 10 * minor.
    pub since: u32,
    /// The one that introduced its form for the per-thread default stream; 0: there is none.
    pub per_thread: u32,
}

/// The functions for one meaning of stream 0.
pub struct Driver {
    streams: Streams,
    /// Addresses in the order of [`ENTRIES`].
    slots: [AtomicUsize; ENTRIES.len()],
}

const UNASKED: usize = 0;
const ABSENT: usize = 1;

static LEGACY: Driver = Driver::new(Streams::Legacy);
static PER_THREAD: Driver = Driver::new(Streams::PerThread);

type GetProcAddress =
    unsafe extern "C" fn(*const libc::c_char, *mut Address, i32, u64, *mut u32) -> u32;

/// From version 12 on drivers have this, and with it all that this library cannot be without.
fn get_proc_address() -> Option<GetProcAddress> {
    static FOUND: OnceLock<Option<GetProcAddress>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: constant names. The library is never closed.
        let address = unsafe {
            let library = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
            if library.is_null() {
                return None;
            }
            libc::dlsym(library, c"cuGetProcAddress_v2".as_ptr())
        };
        // SAFETY: cuda.h's prototype of that name.
        (!address.is_null())
            .then(|| unsafe { std::mem::transmute::<*mut c_void, GetProcAddress>(address) })
    })
}

/// The driver before cuInit.
pub fn loaded(streams: Streams) -> Result<&'static Driver> {
    get_proc_address().ok_or(Error::INSUFFICIENT_DRIVER)?;
    Ok(match streams {
        Streams::Legacy => &LEGACY,
        Streams::PerThread => &PER_THREAD,
    })
}

pub fn initialised(streams: Streams) -> Result<&'static Driver> {
    // What a forked child may not do, the driver tells it.
    static DONE: AtomicBool = AtomicBool::new(false);
    let driver = loaded(streams)?;
    if !DONE.load(Acquire) {
        // SAFETY: a function without pointers.
        unsafe { driver.cuInit(0) }?;
        DONE.store(true, Release);
    }
    Ok(driver)
}

/// The driver's result as the runtime's.
pub fn check(result: u32) -> Result {
    match result {
        0 => Ok(()),
        error => Err(of_driver(error)),
    }
}

impl Driver {
    const fn new(streams: Streams) -> Driver {
        Driver {
            streams,
            slots: [const { AtomicUsize::new(UNASKED) }; ENTRIES.len()],
        }
    }

    pub fn find(&self, slot: usize) -> Result<Address> {
        match self.slots[slot].load(Relaxed) {
            UNASKED => {
                let entry = &ENTRIES[slot];
                let (version, flags) = match self.streams {
                    Streams::PerThread if entry.per_thread != 0 => {
                        (entry.per_thread, PER_THREAD_STREAM)
                    }
                    _ => (entry.since, DEFAULT_STREAM),
                };
                let address = ask(entry.base, version, flags);
                let word = address.map_or(ABSENT, |address| address as usize);
                self.slots[slot].store(word, Relaxed);
                address.ok_or(Error::NOT_SUPPORTED)
            }
            ABSENT => Err(Error::NOT_SUPPORTED),
            address => Ok(address as Address),
        }
    }
}

pub const DEFAULT_STREAM: u64 = 0;
pub const PER_THREAD_STREAM: u64 = 2;

fn ask(name: &CStr, version: u32, flags: u64) -> Option<Address> {
    let mut address: Address = null();
    // A version that the driver does not know yet is an error, and what came with it is not there.
    // SAFETY: the name is one of the table's, and the address is on the stack.
    let result = unsafe { proc_address(name.as_ptr(), &mut address, version, flags, null_mut()) };
    (result.is_ok() && !address.is_null()).then_some(address)
}

/// cuGetProcAddress, before cuInit too.
pub unsafe fn proc_address(
    name: *const libc::c_char,
    address: *mut Address,
    version: u32,
    flags: u64,
    status: *mut u32,
) -> Result {
    let function = get_proc_address().ok_or(Error::INSUFFICIENT_DRIVER)?;
    check(function(name, address, version as i32, flags, status))
}
