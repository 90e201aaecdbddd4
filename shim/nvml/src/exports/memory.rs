//! Memory and the processes that hold it.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::*;
use rgpu_client::monitor::host_name;

use super::device::struct_version;
use crate::out::{Out, fill};
use crate::state::{Answer, NOT_SUPPORTED, Open, VERSION_MISMATCH};
use crate::view::{self, Memory, Viewer};

/// Neither a GPU instance nor a compute instance.
pub const NO_INSTANCE: c_uint = u32::MAX;

fn memory(open: &mut Open, device: nvmlDevice_t) -> Answer<Memory> {
    let device = open.device(device)?;
    let ordinal = open.ordinal(device);
    let total = open.about(device).total_memory;
    let free = open.device_now(device)?.free.ok_or(NOT_SUPPORTED)?;
    let host = host_name();
    let viewer = Viewer {
        pid: std::process::id(),
        host: &host,
        limit: open.limit(device),
    };
    // Asked for a moment ago, together with what is free.
    let sharing = open.sharing(device)?.clone();
    let sessions = &open.lately(device)?.sessions;
    Ok(view::memory(
        &viewer,
        sessions,
        &sharing,
        ordinal,
        Memory { total, free },
    ))
}

pub fn processes(open: &mut Open, device: nvmlDevice_t) -> Answer<Vec<nvmlProcessInfo_t>> {
    let device = open.device(device)?;
    let ordinal = open.ordinal(device);
    let found = view::processes(&host_name(), &open.now(device)?.sessions, ordinal);
    // A container may have its neighbour's name, and not its processes.
    let here = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    Ok(found
        .into_iter()
        .filter(|(pid, _)| here(pid))
        .map(|(pid, bytes)| nvmlProcessInfo_t {
            pid,
            usedGpuMemory: bytes,
            gpuInstanceId: NO_INSTANCE,
            computeInstanceId: NO_INSTANCE,
        })
        .collect())
}

served! {
    fn nvmlDeviceGetMemoryInfo(device: nvmlDevice_t, info: Out<nvmlMemory_t>) |open| {
        let memory = memory(open, device)?;
        info.put(nvmlMemory_t {
            total: memory.total,
            free: memory.free,
            used: memory.used(),
        })
    }

    fn nvmlDeviceGetMemoryInfo_v2(device: nvmlDevice_t, info: Out<nvmlMemory_v2_t>) |open| {
        let version = struct_version::<nvmlMemory_v2_t>(2);
        if info.get()?.version != version {
            return Err(VERSION_MISMATCH);
        }
        let memory = memory(open, device)?;
        info.put(nvmlMemory_v2_t {
            version,
            total: memory.total,
            reserved: 0,
            free: memory.free,
            used: memory.used(),
        })
    }

    fn nvmlDeviceGetComputeRunningProcesses(device: nvmlDevice_t, count: Out<c_uint>, infos: Out<nvmlProcessInfo_v1_t>) |open| {
        let found: Vec<nvmlProcessInfo_v1_t> = processes(open, device)?
            .into_iter()
            .map(|it| nvmlProcessInfo_v1_t {
                pid: it.pid,
                usedGpuMemory: it.usedGpuMemory,
            })
            .collect();
        fill(count, infos, &found)
    }

    fn nvmlDeviceGetComputeRunningProcesses_v2, nvmlDeviceGetComputeRunningProcesses_v3(device: nvmlDevice_t, count: Out<c_uint>, infos: Out<nvmlProcessInfo_t>) |open| {
        let found = processes(open, device)?;
        fill(count, infos, &found)
    }

    /// There is no graphics, and MPS is the server's matter.
    fn nvmlDeviceGetGraphicsRunningProcesses, nvmlDeviceGetGraphicsRunningProcesses_v2,
        nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlDeviceGetMPSComputeRunningProcesses,
        nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlDeviceGetMPSComputeRunningProcesses_v3
        (device: nvmlDevice_t, count: Out<c_uint>, _infos: Out<nvmlProcessInfo_t>) |open| {
        open.device(device)?;
        count.put(0)
    }
}
