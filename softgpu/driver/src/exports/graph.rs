//! Graphs.

use std::ffi::c_char;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use super::memory::named;
use super::{Handle, call};
use crate::abi::{In, KernelNode, KernelNodeV2, Memcpy3d, MemsetNode, Out};
use crate::copy::{Copy, Fill};
use crate::error::{Error, Result};
use crate::graph::{Executable, Graph, Operation};
use crate::handles;
use crate::launch::{Arguments, Launch};
use crate::library;
use crate::runtime::Runtime;
use crate::stream::Stream;

/// CUDA_GRAPH_INSTANTIATE_FLAG_*: freeing on launch, upload, device launch, node priorities.
const INSTANTIATE_FLAGS: u64 = 15;
const DEVICE_LAUNCH: u64 = 4;
const MAX_DEPENDENCIES: usize = 1 << 20;

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphCreate(graph: Out<Handle>, flags: u32) -> u32 {
    call(|runtime| {
        graph.check()?;
        if flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let handle = handles::fresh();
        runtime.graphs.insert(handle, Arc::new(Graph::default()));
        graph.put(handle)
    })
}

fn graph_of(runtime: &Runtime, graph: Handle) -> Result<Arc<Graph>> {
    runtime.graphs.find(graph).ok_or(Error::ERROR_INVALID_VALUE)
}

fn executable_of(runtime: &Runtime, executable: Handle) -> Result<Arc<Executable>> {
    runtime
        .executables
        .find(executable)
        .ok_or(Error::ERROR_INVALID_VALUE)
}

struct Place {
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
}

fn add(runtime: &Runtime, place: &Place, operation: impl FnOnce() -> Result<Operation>) -> Result {
    place.node.check()?;
    if place.count > MAX_DEPENDENCIES {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let graph = graph_of(runtime, place.graph)?;
    let after = place.after.list(place.count)?;
    place.node.put(graph.add(operation()?, &after)?)
}

fn kernel(runtime: &Runtime, node: &KernelNode) -> Result<Operation> {
    kernel_in(runtime, node, 0)
}

/// `context`: of a library's kernel; null is the current one.
fn kernel_in(runtime: &Runtime, node: &KernelNode, context: Handle) -> Result<Operation> {
    let function = library::function(runtime, node.function, || named(runtime, context))?;
    function.module.context.check()?;
    // SAFETY: the C caller's node leads to parameters as cuLaunchKernel takes them.
    let arguments = unsafe {
        Arguments {
            params: In::at(node.params),
            extra: In::at(node.extra),
        }
    };
    Ok(Operation::Kernel(Launch::new(
        function,
        node.grid,
        node.block,
        node.shared,
        arguments,
    )?))
}

fn kernel_v2(runtime: &Runtime, params: &KernelNodeV2) -> Result<Operation> {
    let mut node = params.node;
    if node.function == 0 {
        node.function = params.kernel;
    }
    kernel_in(runtime, &node, params.context)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddKernelNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: In<KernelNode>,
) -> u32 {
    call(|runtime| {
        add(
            runtime,
            &Place {
                node,
                graph,
                after,
                count,
            },
            || kernel(runtime, &params.get()?),
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddKernelNode_v2(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: In<KernelNodeV2>,
) -> u32 {
    call(|runtime| {
        add(
            runtime,
            &Place {
                node,
                graph,
                after,
                count,
            },
            || kernel_v2(runtime, &params.get()?),
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddMemcpyNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: In<Memcpy3d>,
    context: Handle,
) -> u32 {
    call(|runtime| {
        named(runtime, context)?.check()?;
        add(
            runtime,
            &Place {
                node,
                graph,
                after,
                count,
            },
            || Ok(Operation::Copy(Copy::from_params(runtime, &params.get()?)?)),
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddMemsetNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
    params: In<MemsetNode>,
    context: Handle,
) -> u32 {
    call(|runtime| {
        named(runtime, context)?.check()?;
        add(
            runtime,
            &Place {
                node,
                graph,
                after,
                count,
            },
            || Ok(Operation::Fill(Fill::new(runtime, &params.get()?)?)),
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddEmptyNode(
    node: Out<Handle>,
    graph: Handle,
    after: In<Handle>,
    count: usize,
) -> u32 {
    call(|runtime| {
        add(
            runtime,
            &Place {
                node,
                graph,
                after,
                count,
            },
            || Ok(Operation::Empty),
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) -> u32 {
    call(|runtime| {
        let found = graph_of(runtime, graph)?.nodes();
        if nodes.is_null() {
            return count.put(found.len());
        }
        let room = count.read_at(0)?;
        // Entries that are left over become null, says cuda.h.
        for at in 0..room {
            nodes.put_at(at, found.get(at).copied().unwrap_or(0))?;
        }
        count.put(room.min(found.len()))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: Handle) -> u32 {
    call(|runtime| {
        runtime
            .graphs
            .take(graph)
            .map(drop)
            .map_err(|_| Error::ERROR_INVALID_VALUE)
    })
}

fn instantiate(runtime: &Runtime, executable: Out<Handle>, graph: Handle, flags: u64) -> Result {
    executable.check()?;
    if flags & !INSTANTIATE_FLAGS != 0 {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    if flags & DEVICE_LAUNCH != 0 {
        return Err(Error::ERROR_NOT_SUPPORTED);
    }
    let made = graph_of(runtime, graph)?.instantiate();
    let handle = handles::fresh();
    runtime.executables.insert(handle, Arc::new(made));
    executable.put(handle)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiate_v2(
    executable: Out<Handle>,
    graph: Handle,
    error_node: Out<Handle>,
    log: Out<c_char>,
    log_len: usize,
) -> u32 {
    call(|runtime| {
        error_node.put_if(0);
        if log_len > 0 {
            let _ = log.text(log_len, "");
        }
        instantiate(runtime, executable, graph, 0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(
    executable: Out<Handle>,
    graph: Handle,
    flags: u64,
) -> u32 {
    call(|runtime| instantiate(runtime, executable, graph, flags))
}

fn set_kernel(runtime: &Runtime, executable: Handle, node: Handle, changed: Operation) -> Result {
    executable_of(runtime, executable)?.change(node, |operation| match (operation, &changed) {
        (Operation::Kernel(old), Operation::Kernel(new))
            if old.function.module.context.handle == new.function.module.context.handle =>
        {
            Ok(changed)
        }
        _ => Err(Error::ERROR_INVALID_VALUE),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecKernelNodeSetParams(
    executable: Handle,
    node: Handle,
    params: In<KernelNode>,
) -> u32 {
    call(|runtime| set_kernel(runtime, executable, node, kernel(runtime, &params.get()?)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecKernelNodeSetParams_v2(
    executable: Handle,
    node: Handle,
    params: In<KernelNodeV2>,
) -> u32 {
    call(|runtime| {
        set_kernel(
            runtime,
            executable,
            node,
            kernel_v2(runtime, &params.get()?)?,
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecMemcpyNodeSetParams(
    executable: Handle,
    node: Handle,
    params: In<Memcpy3d>,
    context: Handle,
) -> u32 {
    call(|runtime| {
        named(runtime, context)?.check()?;
        let copy = Copy::from_params(runtime, &params.get()?)?;
        executable_of(runtime, executable)?.change(node, |operation| match operation {
            Operation::Copy(_) => Ok(Operation::Copy(copy)),
            _ => Err(Error::ERROR_INVALID_VALUE),
        })
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
        named(runtime, context)?.check()?;
        let fill = Fill::new(runtime, &params.get()?)?;
        executable_of(runtime, executable)?.change(node, |operation| match operation {
            Operation::Fill(_) => Ok(Operation::Fill(fill)),
            _ => Err(Error::ERROR_INVALID_VALUE),
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(executable: Handle, stream: Handle) -> u32 {
    call(|runtime| {
        let stream = Stream::find(runtime, stream)?;
        executable_of(runtime, executable)?.launch(runtime, &stream)?;
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
