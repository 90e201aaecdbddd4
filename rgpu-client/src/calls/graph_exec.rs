//! Executable graphs.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::{c_char, c_void};

use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuGraphExecUpdateReply, rgpuGraphMemoryReply};
use rgpu_proto::node_params::{self as at};

use super::graph_host;
use super::graph_node::set_exec_kernel;
use crate::entry::{Needs, put, put_opt, required};
use crate::handles::Kind;
use crate::node_params::{self, What, has_host_end};
use crate::servers::Of;
use crate::session::Session;
use crate::{send, thread};

// CUDA_GRAPH_INSTANTIATE_FLAG_*: free on launch, upload, device launch, node priorities.
const KNOWN: u64 = 0xF;
const UPLOAD: u64 = 2;
const DEVICE_LAUNCH: u64 = 4;

fn instantiate(session: &Session, graph: u64, flags: u64) -> Result<u64, CudaError> {
    if flags & !KNOWN != 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    session.handles.check(Kind::Graph, graph)?;
    // Whatever else a driver may say against a graph is against one whose edges were set apart.
    let careful = {
        let graphs = session.graphs();
        graphs.hosts.used || graphs.is_edited(graph) || flags & DEVICE_LAUNCH != 0
    };
    let id = session.handles.make(Kind::GraphExec, session.context());
    let send = || send::rgpuGraphInstantiate(session, id, graph, flags);
    let made = if careful {
        thread::at_once(send)
    } else {
        send()
    };
    if let Err(error) = made {
        session.handles.forget(id);
        return Err(error);
    }
    if let Err(error) = graph_host::learn(session, id) {
        session.handles.forget(id);
        send::rgpuGraphExecDestroy(session, id)?;
        return Err(error);
    }
    session.graphs().note_instance(graph, id);
    Ok(id)
}

pub unsafe fn cuGraphInstantiate_v2(
    exec: *mut u64,
    graph: u64,
    error_node: *mut u64,
    log: *mut c_char,
    log_bytes: usize,
) -> u32 {
    Of::Handle(graph).enter("cuGraphInstantiate_v2", Needs::Context, |session| {
        required(exec)?;
        // SAFETY: the caller's places; the log is empty where there is nothing to say.
        unsafe {
            put_opt(error_node, 0);
            if log_bytes > 0 {
                put_opt(log, 0);
            }
            put(exec, instantiate(session, graph, 0)?)
        }
    })
}

pub unsafe fn cuGraphInstantiate(
    exec: *mut u64,
    graph: u64,
    error_node: *mut u64,
    log: *mut c_char,
    log_bytes: usize,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuGraphInstantiate_v2(exec, graph, error_node, log, log_bytes) }
}

pub unsafe fn cuGraphInstantiateWithFlags(exec: *mut u64, graph: u64, flags: u64) -> u32 {
    Of::Handle(graph).enter("cuGraphInstantiateWithFlags", Needs::Context, |session| {
        required(exec)?;
        // SAFETY: the caller's place.
        unsafe { put(exec, instantiate(session, graph, flags)?) }
    })
}

/// CUDA_GRAPH_INSTANTIATE_PARAMS.
#[repr(C)]
struct InstantiateParams {
    flags: u64,
    upload_stream: u64,
    error_node: u64,
    result: u32,
}

/// `default`: the stream that a NULL one stands for.
unsafe fn instantiate_with(
    name: &'static str,
    exec: *mut u64,
    graph: u64,
    params: *mut c_void,
    default: u64,
) -> u32 {
    // CUgraphInstantiateResult.
    const ERROR: u32 = 1;
    const INVALID_STRUCTURE: u32 = 2;
    Of::Handle(graph).enter(name, Needs::Context, |session| {
        required(exec)?;
        required(params)?;
        let params = params.cast::<InstantiateParams>();
        // SAFETY: the caller's struct.
        let (flags, mut stream) = unsafe { ((*params).flags, (*params).upload_stream) };
        if stream == 0 {
            stream = default;
        }
        if flags & UPLOAD != 0 {
            session.handles.check(Kind::Stream, stream)?;
        }
        let made = instantiate(session, graph, flags & !UPLOAD);
        let result = match made {
            Ok(_) => 0,
            Err(CudaError::INVALID_VALUE) => INVALID_STRUCTURE,
            Err(_) => ERROR,
        };
        // SAFETY: the caller's places.
        unsafe {
            (*params).error_node = 0;
            (*params).result = result;
            put(exec, made?)?;
        }
        if flags & UPLOAD != 0 {
            send::cuGraphUpload(session, made?, stream)?;
        }
        Ok(())
    })
}

pub unsafe fn cuGraphInstantiateWithParams(exec: *mut u64, graph: u64, params: *mut c_void) -> u32 {
    // SAFETY: the same contract.
    unsafe { instantiate_with("cuGraphInstantiateWithParams", exec, graph, params, 0) }
}

pub unsafe fn cuGraphInstantiateWithParams_ptsz(
    exec: *mut u64,
    graph: u64,
    params: *mut c_void,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { instantiate_with("cuGraphInstantiateWithParams_ptsz", exec, graph, params, 2) }
}

pub unsafe fn cuGraphExecDestroy(exec: u64) -> u32 {
    Of::Handle(exec).enter("cuGraphExecDestroy", Needs::Session, |session| {
        session.handles.consume(Kind::GraphExec, exec)?;
        graph_host::forget(session, exec);
        session.graphs().forget_instance(exec);
        session.memory().forget_globals(exec);
        send::rgpuGraphExecDestroy(session, exec)
    })
}

// Changing what nodes do.

pub unsafe fn cuGraphExecKernelNodeSetParams(exec: u64, node: u64, params: *const c_void) -> u32 {
    let name = "cuGraphExecKernelNodeSetParams";
    Of::Handle(exec).enter(name, Needs::Context, |session| {
        // SAFETY: the caller's struct.
        unsafe { set_exec_kernel(session, exec, node, params, false) }
    })
}

pub unsafe fn cuGraphExecKernelNodeSetParams_v2(
    exec: u64,
    node: u64,
    params: *const c_void,
) -> u32 {
    let name = "cuGraphExecKernelNodeSetParams_v2";
    Of::Handle(exec).enter(name, Needs::Context, |session| {
        // SAFETY: the caller's struct.
        unsafe { set_exec_kernel(session, exec, node, params, true) }
    })
}

pub fn set(
    name: &'static str,
    exec: u64,
    node: u64,
    what: impl FnOnce(&'static Session) -> Result<What, CudaError>,
) -> u32 {
    Of::Handle(exec).enter(name, Needs::Context, |session| {
        session.handles.check(Kind::GraphExec, exec)?;
        session.handles.check(Kind::GraphNode, node)?;
        let (words, arguments) = what(session)?;
        let is_copy = words[0] as u32 == at::MEMCPY;
        if is_copy && has_host_end(&words) {
            session.graphs().note_hosts();
        } else if is_copy && !session.graphs().hosts.used {
            // Between device memory: as hot as a kernel's parameters.
            let copy = &at::to_bytes(&words)[at::memcpy::COPY * 8..];
            return send::rgpuGraphExecMemcpyNodeSetParams(
                session,
                exec,
                node,
                words[at::memcpy::CONTEXT],
                &copy[..at::memcpy::COPY_WORDS * 8],
            );
        }
        send::rgpuGraphExecNodeSetParams(session, exec, node, &at::to_bytes(&words), &arguments)?;
        graph_host::learn(session, exec)
    })
}

pub unsafe fn cuGraphExecMemcpyNodeSetParams(
    exec: u64,
    node: u64,
    params: *const c_void,
    context: u64,
) -> u32 {
    set("cuGraphExecMemcpyNodeSetParams", exec, node, |session| {
        // SAFETY: the caller's struct.
        unsafe { node_params::memcpy(session, params, context) }
    })
}

pub unsafe fn cuGraphExecMemsetNodeSetParams(
    exec: u64,
    node: u64,
    params: *const c_void,
    context: u64,
) -> u32 {
    set("cuGraphExecMemsetNodeSetParams", exec, node, |session| {
        // SAFETY: the caller's struct.
        unsafe { node_params::memset(session, params, context) }
    })
}

pub unsafe fn cuGraphExecHostNodeSetParams(exec: u64, node: u64, params: *const c_void) -> u32 {
    set("cuGraphExecHostNodeSetParams", exec, node, |session| {
        // SAFETY: the caller's struct.
        unsafe { node_params::host(session, params) }
    })
}

pub unsafe fn cuGraphExecEventRecordNodeSetEvent(exec: u64, node: u64, event: u64) -> u32 {
    set(
        "cuGraphExecEventRecordNodeSetEvent",
        exec,
        node,
        |session| node_params::event(session, at::EVENT_RECORD, event),
    )
}

pub unsafe fn cuGraphExecEventWaitNodeSetEvent(exec: u64, node: u64, event: u64) -> u32 {
    set("cuGraphExecEventWaitNodeSetEvent", exec, node, |session| {
        node_params::event(session, at::WAIT_EVENT, event)
    })
}

pub unsafe fn cuGraphExecNodeSetParams(exec: u64, node: u64, params: *const c_void) -> u32 {
    set("cuGraphExecNodeSetParams", exec, node, |session| {
        // SAFETY: the caller's struct.
        unsafe { node_params::changed(session, params) }
    })
}

pub unsafe fn cuGraphExecChildGraphNodeSetParams(exec: u64, node: u64, child: u64) -> u32 {
    Of::Handle(exec).enter(
        "cuGraphExecChildGraphNodeSetParams",
        Needs::Context,
        |session| {
            session.handles.check(Kind::GraphExec, exec)?;
            session.handles.check(Kind::GraphNode, node)?;
            session.handles.check(Kind::Graph, child)?;
            send::rgpuGraphExecChild(session, exec, node, child)?;
            graph_host::learn(session, exec)
        },
    )
}

/// CUgraphExecUpdateResultInfo.
#[repr(C)]
struct UpdateInfo {
    result: u32,
    error_node: u64,
    error_from: u64,
}

fn update(session: &Session, exec: u64, graph: u64) -> Result<(CudaError, UpdateInfo), CudaError> {
    session.handles.check(Kind::GraphExec, exec)?;
    session.handles.check(Kind::Graph, graph)?;
    let mut reply = rgpuGraphExecUpdateReply::default();
    send::rgpuGraphExecUpdate(session, exec, graph, &mut reply)?;
    let info = UpdateInfo {
        result: reply.result.get(),
        error_node: reply.error_node.get(),
        error_from: reply.error_from.get(),
    };
    for node in [info.error_node, info.error_from] {
        if node != 0 {
            session.handles.adopt(Kind::GraphNode, node)?;
        }
    }
    if info.error_node != 0 {
        session.graphs().note(info.error_node, graph);
    }
    let code = CudaError(reply.code.get());
    if code.0 == 0 {
        graph_host::learn(session, exec)?;
    }
    Ok((code, info))
}

pub unsafe fn cuGraphExecUpdate_v2(exec: u64, graph: u64, info: *mut c_void) -> u32 {
    Of::Handle(exec).enter("cuGraphExecUpdate_v2", Needs::Context, |session| {
        required(info)?;
        let (code, found) = update(session, exec, graph)?;
        // SAFETY: the caller's place.
        unsafe { put(info.cast(), found) }?;
        CudaError::check(code.0)
    })
}

pub unsafe fn cuGraphExecUpdate(
    exec: u64,
    graph: u64,
    error_node: *mut u64,
    result: *mut u32,
) -> u32 {
    Of::Handle(exec).enter("cuGraphExecUpdate", Needs::Context, |session| {
        required(result)?;
        let (code, found) = update(session, exec, graph)?;
        // SAFETY: the caller's places.
        unsafe {
            put_opt(error_node, found.error_node);
            put(result, found.result)?;
        }
        CudaError::check(code.0)
    })
}

// Memory of graphs.

pub unsafe fn cuDeviceGetGraphMemAttribute(device: i32, attribute: u32, value: *mut c_void) -> u32 {
    Of::Device(device).enter("cuDeviceGetGraphMemAttribute", Needs::Session, |session| {
        required(value)?;
        let ordinal = session.devices.get(device)?.ordinal;
        let mut reply = rgpuGraphMemoryReply::default();
        send::rgpuGraphMemory(session, ordinal, attribute, &mut reply)?;
        // SAFETY: the caller's cuuint64_t.
        unsafe { put(value.cast(), reply.value.get()) }
    })
}

pub unsafe fn cuDeviceSetGraphMemAttribute(
    device: i32,
    attribute: u32,
    value: *const c_void,
) -> u32 {
    Of::Device(device).enter("cuDeviceSetGraphMemAttribute", Needs::Session, |session| {
        required(value)?;
        let ordinal = session.devices.get(device)?.ordinal;
        // SAFETY: the caller's cuuint64_t.
        let value = unsafe { value.cast::<u64>().read() };
        send::rgpuGraphMemorySet(session, ordinal, attribute, value)
    })
}

pub unsafe fn cuDeviceGraphMemTrim(device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceGraphMemTrim", Needs::Session, |session| {
        let ordinal = session.devices.get(device)?.ordinal;
        send::rgpuGraphMemoryTrim(session, ordinal)
    })
}
