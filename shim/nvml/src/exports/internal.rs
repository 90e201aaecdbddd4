//! The table by which nvidia-smi asks what nvml.h does not have. No document of NVIDIA's describes it; what is here is what NVIDIA's mock of NVML
//! (NVIDIA/k8s-test-infra, for driver 580) serves, and what nvidia-smi 535 is seen to call. Every other place says that it is not supported, which
//! nvidia-smi shows as N/A.

use std::ffi::{c_char, c_uint, c_ulonglong, c_void};

use nvml_wrapper_sys::bindings::*;

use super::device::nvmlDeviceGetHandleByIndex_v2;
use super::memory::{
    NO_INSTANCE, nvmlDeviceGetGraphicsRunningProcesses_v3,
    nvmlDeviceGetMPSComputeRunningProcesses_v3, processes,
};
use crate::out::{Out, field, fill};
use crate::state::{NOT_SUPPORTED, SUCCESS, enter};

const FUNCTION_NOT_FOUND: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_FUNCTION_NOT_FOUND;
/// The one that nvidia-smi asks for.
const TABLE_ID: [u8; 16] = [
    0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e, 0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4,
];
/// Beyond all that any version is seen to call.
const PLACES: usize = 1024;

/// Its length in bytes, and functions.
#[repr(C)]
pub struct Table {
    length: usize,
    functions: [*const c_void; PLACES - 1],
}

// SAFETY: a constant that nobody writes to.
unsafe impl Sync for Table {}

static TABLE: Table = Table::new();

impl Table {
    const fn new() -> Table {
        let mut functions = [unknown as *const c_void; PLACES - 1];
        // Counted with the length in front.
        functions[26 - 1] = log as *const c_void;
        functions[81 - 1] = nvmlDeviceGetHandleByIndex_v2 as *const c_void;
        functions[213 - 1] = compute as *const c_void;
        // None, so the shape of what is listed does not matter.
        functions[214 - 1] = nvmlDeviceGetGraphicsRunningProcesses_v3 as *const c_void;
        functions[215 - 1] = nvmlDeviceGetMPSComputeRunningProcesses_v3 as *const c_void;
        Table {
            length: size_of::<Table>(),
            functions,
        }
    }
}

/// An entry of its lists of processes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Process {
    pid: c_uint,
    used: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
    protected: c_ulonglong,
    name: [c_char; 4096],
}

const _: () = assert!(size_of::<Process>() == 4128);

/// The parameters do not matter: C's callers clean them up.
extern "C" fn unknown() -> nvmlReturn_t {
    NOT_SUPPORTED
}

/// Lines for a log of NVML's, which is kept nowhere.
extern "C" fn log() -> nvmlReturn_t {
    SUCCESS
}

extern "C" fn compute(
    device: nvmlDevice_t,
    count: Out<c_uint>,
    list: Out<Process>,
) -> nvmlReturn_t {
    enter(|open| {
        let found: Vec<Process> = processes(open, device)?
            .iter()
            .map(|it| Process {
                pid: it.pid,
                used: it.usedGpuMemory,
                gpu_instance: NO_INSTANCE,
                compute_instance: NO_INSTANCE,
                protected: 0,
                name: field(&command(it.pid).unwrap_or_default()),
            })
            .collect();
        fill(count, list, &found)
    })
}

/// What a process of this machine was started as.
pub fn command(pid: c_uint) -> Option<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let first = line.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(first).into_owned())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInternalGetExportTable(
    table: Out<&'static Table>,
    id: Out<[u8; 16]>,
) -> nvmlReturn_t {
    enter(|_| match id.get()? {
        TABLE_ID => table.put(&TABLE),
        _ => Err(FUNCTION_NOT_FOUND),
    })
}
