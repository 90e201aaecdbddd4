//! Executable graphs.

use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use super::graph::graph_of;
use super::graph_node::{changed, host, kernel, kernel_v2, memcpy, memset, record, wait};
use super::{Handle, call};
use crate::abi::{
    ExecUpdateInfo, HostNode, In, InstantiateParams, KernelNode, KernelNodeV2, Memcpy3d,
    MemsetNode, NodeParams, Out,
};
use crate::capture;
use crate::device::Level;
use crate::error::{Error, Result};
use crate::graph::{Executable, Mismatch, Operation, UpdateResult};
use crate::handles;
use crate::runtime::Runtime;
use crate::stream::Stream;

/// CUDA_GRAPH_INSTANTIATE_FLAG_*: freeing on launch, upload, device launch, node priorities.
const INSTANTIATE_FLAGS: u64 = 15;
const DEVICE_LAUNCH: u64 = 4;

/// CUgraphInstantiateResult.
const INVALID_STRUCTURE: u32 = 2;

pub fn executable_of(runtime: &Runtime, executable: Handle) -> Result<Arc<Executable>> {
    runtime
        .executables
        .find(executable)
        .ok_or(Error::ERROR_INVALID_VALUE)
}

fn instantiate(runtime: &Runtime, executable: Out<Handle>, graph: Handle, flags: u64) -> Result {
    executable.check()?;
    if flags & !INSTANTIATE_FLAGS != 0 {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    if flags & DEVICE_LAUNCH != 0 {
        return Err(Error::ERROR_NOT_SUPPORTED);
    }
    let made = graph_of(runtime, graph)?.instantiate(flags)?;
    let handle = handles::fresh();
    runtime.executables.insert(handle, Arc::new(made));
    executable.put(handle)
}

fn instantiate_with_log(
    runtime: &Runtime,
    executable: Out<Handle>,
    graph: Handle,
    error_node: Out<Handle>,
    log: Out<c_char>,
    log_len: usize,
) -> Result {
    error_node.put_if(0);
    let result = instantiate(runtime, executable, graph, 0);
    if log_len > 0 {
        let said = match result {
            Err(Error::ERROR_INVALID_VALUE) => "the nodes follow each other in circles",
            _ => "",
        };
        let _ = log.text(log_len, said);
    }
    result
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiate(
    executable: Out<Handle>,
    graph: Handle,
    error_node: Out<Handle>,
    log: Out<c_char>,
    log_len: usize,
) -> u32 {
    cuGraphInstantiate_v2(executable, graph, error_node, log, log_len)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiate_v2(
    executable: Out<Handle>,
    graph: Handle,
    error_node: Out<Handle>,
    log: Out<c_char>,
    log_len: usize,
) -> u32 {
    call(|runtime| instantiate_with_log(runtime, executable, graph, error_node, log, log_len))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(
    executable: Out<Handle>,
    graph: Handle,
    flags: u64,
) -> u32 {
    call(|runtime| instantiate(runtime, executable, graph, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithParams(
    executable: Out<Handle>,
    graph: Handle,
    params: Out<InstantiateParams>,
) -> u32 {
    call(|runtime| {
        let mut read = params.read_at(0)?;
        let result = instantiate(runtime, executable, graph, read.flags);
        read.error_node = 0;
        read.result = match result {
            Ok(()) => 0,
            Err(Error::ERROR_INVALID_VALUE) => INVALID_STRUCTURE,
            Err(_) => 1,
        };
        params.put(read)?;
        result
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecGetFlags(executable: Handle, flags: Out<u64>) -> u32 {
    call(|runtime| flags.put(executable_of(runtime, executable)?.flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(executable: Handle, stream: Handle) -> u32 {
    call(|runtime| {
        let stream = Stream::find(runtime, stream)?;
        let executable = executable_of(runtime, executable)?;
        let node = || Ok(Operation::Child(executable.as_graph(runtime)?));
        if capture::takes(runtime, &stream, node)? {
            return Ok(());
        }
        executable.launch(runtime, &stream)?;
        if runtime.config.launch_blocking {
            stream.synchronize()?;
        }
        Ok(())
    })
}

/// There is nowhere to upload to.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphUpload(executable: Handle, stream: Handle) -> u32 {
    call(|runtime| {
        Stream::find(runtime, stream)?;
        executable_of(runtime, executable).map(drop)
    })
}

/// A launch that is under way goes on.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(executable: Handle) -> u32 {
    call(|runtime| {
        let destroyed = runtime
            .executables
            .take(executable)
            .map_err(|_| Error::ERROR_INVALID_VALUE)?;
        destroyed.destroyed.store(true, Release);
        drop(destroyed);
        Ok(())
    })
}

// Changing what the nodes of an executable graph do.

pub(super) fn set(
    runtime: &Runtime,
    executable: Handle,
    node: Handle,
    changed: Operation,
) -> Result {
    executable_of(runtime, executable)?.change(node, |old| match (old, &changed) {
        (Operation::Kernel(old), Operation::Kernel(new)) => {
            let (old, new) = (&old.launch.function, &new.launch.function);
            if old.module.context.handle == new.module.context.handle {
                Ok(changed)
            } else {
                Err(Error::ERROR_INVALID_VALUE)
            }
        }
        (old, new) if old.kind() == new.kind() => Ok(changed),
        _ => Err(Error::ERROR_INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecKernelNodeSetParams(
    executable: Handle,
    node: Handle,
    params: In<KernelNode>,
) -> u32 {
    call(|runtime| set(runtime, executable, node, kernel(runtime, params)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecKernelNodeSetParams_v2(
    executable: Handle,
    node: Handle,
    params: In<KernelNodeV2>,
) -> u32 {
    call(|runtime| set(runtime, executable, node, kernel_v2(runtime, params)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecMemcpyNodeSetParams(
    executable: Handle,
    node: Handle,
    params: In<Memcpy3d>,
    context: Handle,
) -> u32 {
    call(|runtime| {
        let changed = memcpy(runtime, &params.get()?, context)?;
        set(runtime, executable, node, changed)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecMemsetNodeSetParams(
    executable: Handle,
    node: Handle,
    params: In<MemsetNode>,
    context: Handle,
) -> u32 {
    call(|runtime| {
        let changed = memset(runtime, &params.get()?, context)?;
        set(runtime, executable, node, changed)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecHostNodeSetParams(
    executable: Handle,
    node: Handle,
    params: In<HostNode>,
) -> u32 {
    call(|runtime| set(runtime, executable, node, host(params)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecEventRecordNodeSetEvent(
    executable: Handle,
    node: Handle,
    event: Handle,
) -> u32 {
    call(|runtime| set(runtime, executable, node, record(runtime, event)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecEventWaitNodeSetEvent(
    executable: Handle,
    node: Handle,
    event: Handle,
) -> u32 {
    call(|runtime| set(runtime, executable, node, wait(runtime, event)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecChildGraphNodeSetParams(
    executable: Handle,
    node: Handle,
    graph: Handle,
) -> u32 {
    call(|runtime| {
        let graph = graph_of(runtime, graph)?;
        executable_of(runtime, executable)?.update_child(node, &graph)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecNodeSetParams(
    executable: Handle,
    node: Handle,
    params: Out<NodeParams>,
) -> u32 {
    call(|runtime| set(runtime, executable, node, changed(runtime, params)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeSetEnabled(executable: Handle, node: Handle, enabled: u32) -> u32 {
    call(|runtime| executable_of(runtime, executable)?.enable(node, enabled != 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetEnabled(
    executable: Handle,
    node: Handle,
    enabled: Out<u32>,
) -> u32 {
    call(|runtime| {
        let is = executable_of(runtime, executable)?.is_enabled(node)?;
        enabled.put(u32::from(is))
    })
}

fn update(
    runtime: &Runtime,
    executable: Handle,
    graph: Handle,
    tell: impl FnOnce(&Mismatch) -> Result,
) -> Result {
    let executable = executable_of(runtime, executable)?;
    let updated = executable.update(&*graph_of(runtime, graph)?)?;
    match updated {
        Ok(()) => tell(&Mismatch {
            result: UpdateResult::Success,
            node: 0,
            from: 0,
        }),
        Err(mismatch) => {
            tell(&mismatch)?;
            Err(Error::ERROR_GRAPH_EXEC_UPDATE_FAILURE)
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecUpdate(
    executable: Handle,
    graph: Handle,
    error_node: Out<Handle>,
    result: Out<u32>,
) -> u32 {
    call(|runtime| {
        update(runtime, executable, graph, |mismatch| {
            error_node.put_if(mismatch.node);
            result.put(mismatch.result as u32)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecUpdate_v2(
    executable: Handle,
    graph: Handle,
    info: Out<ExecUpdateInfo>,
) -> u32 {
    call(|runtime| {
        info.check()?;
        update(runtime, executable, graph, |mismatch| {
            info.put(ExecUpdateInfo {
                result: mismatch.result as u32,
                pad: 0,
                error_node: mismatch.node,
                error_from_node: mismatch.from,
            })
        })
    })
}

// Memory of graphs.

/// CUgraphMem_attribute: used and reserved, now and at most. What is reserved is used.
fn level(runtime: &Runtime, device: i32) -> Result<&Level> {
    Ok(&runtime.device(device)?.graph_memory)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetGraphMemAttribute(
    device: i32,
    attribute: u32,
    value: Out<c_void>,
) -> u32 {
    call(|runtime| {
        let level = level(runtime, device)?;
        value.cast::<u64>().put(match attribute {
            0 | 2 => level.now(),
            1 | 3 => level.high(),
            _ => return Err(Error::ERROR_INVALID_VALUE),
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceSetGraphMemAttribute(
    device: i32,
    attribute: u32,
    value: In<c_void>,
) -> u32 {
    call(|runtime| {
        let level = level(runtime, device)?;
        match (attribute, value.cast::<u64>().get()?) {
            (1 | 3, 0) => {
                level.reset_high();
                Ok(())
            }
            _ => Err(Error::ERROR_INVALID_VALUE),
        }
    })
}

/// Graphs keep no memory that they do not use.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGraphMemTrim(device: i32) -> u32 {
    call(|runtime| runtime.device(device).map(drop))
}
