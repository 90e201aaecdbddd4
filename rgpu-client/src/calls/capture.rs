//! Stream capture. The driver's own capturing streams do it, on the worker's thread for the calling one; here is known only that captures
//! are under way.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{
    rgpuCaptureBoxReply, rgpuCaptureCopyReply, rgpuStreamCaptureInfoReply,
    rgpuStreamEndCaptureReply, rgpuStreamIsCapturingReply,
};

use super::graph::{check_edges, dependencies, ids};
use crate::area::Memcpy3d;
use crate::entry::{Needs, put, put_opt, required};
use crate::handles::Kind;
use crate::servers::{Of, others};
use crate::session::Session;
use crate::{node_params, send, thread};

// CUstreamCaptureMode and CUstreamCaptureStatus.
const GLOBAL: u32 = 0;
const RELAXED: u32 = 2;
const PER_THREAD: u64 = 2;
pub const NONE: u32 = 0;
pub const ACTIVE: u32 = 1;

fn begin(
    session: &Session,
    stream: u64,
    mode: u32,
    into_known: bool,
    send: impl FnOnce() -> Result<(), CudaError>,
) -> Result<(), CudaError> {
    if mode > RELAXED {
        return Err(CudaError::INVALID_VALUE);
    }
    let context = context_of(session, stream)?;
    send()?;
    session
        .standing
        .begin_capture(key(stream), context, into_known);
    Ok(())
}

/// The context that a stream is in.
fn context_of(session: &Session, stream: u64) -> Result<u64, CudaError> {
    Ok(match session.handles.context_of(Kind::Stream, stream)? {
        0 => session.context(),
        owner => owner,
    })
}

/// Each thread has its own CU_STREAM_PER_THREAD.
fn key(stream: u64) -> u64 {
    match stream {
        PER_THREAD => u64::from(thread::number()) << 8 | PER_THREAD,
        _ => stream,
    }
}

/// A stream may have been destroyed while it captured.
fn still_captures(session: &Session) -> bool {
    if !session.standing.is_capturing() {
        return false;
    }
    let is_there = |stream: u64| {
        stream & 0xF == PER_THREAD || session.handles.check(Kind::Stream, stream).is_ok()
    };
    session.standing.keep_captures(is_there);
    session.standing.is_capturing()
}

pub unsafe fn cuStreamBeginCapture_v2(stream: u64, mode: u32) -> u32 {
    Of::Handle(stream).enter("cuStreamBeginCapture_v2", Needs::Context, |session| {
        begin(session, stream, mode, false, || {
            send::rgpuStreamBeginCapture(session, stream, mode)
        })
    })
}

pub unsafe fn cuStreamBeginCapture(stream: u64) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuStreamBeginCapture_v2(stream, GLOBAL) }
}

pub unsafe fn cuStreamBeginCaptureToGraph(
    stream: u64,
    graph: u64,
    list: *const u64,
    edges: *const c_void,
    count: usize,
    mode: u32,
) -> u32 {
    Of::Handle(graph).enter("cuStreamBeginCaptureToGraph", Needs::Context, |session| {
        session.handles.check(Kind::Graph, graph)?;
        // SAFETY: the caller's lists.
        let before = unsafe {
            check_edges(edges, count)?;
            dependencies(session, graph, list, count)?
        };
        begin(session, stream, mode, true, || {
            send::rgpuStreamBeginCaptureToGraph(session, stream, graph, mode, &before)
        })
    })
}

pub unsafe fn cuStreamEndCapture(stream: u64, graph: *mut u64) -> u32 {
    Of::Handle(stream).enter("cuStreamEndCapture", Needs::Context, |session| {
        let context = context_of(session, stream);
        // Who has given the graph need not be told.
        let into_known = |context| session.standing.captures_into_known(key(stream), context);
        if !context.is_ok_and(into_known) {
            required(graph)?;
        }
        let context = context?;
        let mut reply = rgpuStreamEndCaptureReply::default();
        let ended = send::rgpuStreamEndCapture(session, stream, &mut reply);
        match ended {
            // The capture goes on, in its own stream or thread; or there is none.
            Err(
                CudaError::STREAM_CAPTURE_UNMATCHED
                | CudaError::STREAM_CAPTURE_WRONG_THREAD
                | CudaError::ILLEGAL_STATE,
            ) => {}
            _ => session.standing.end_capture(key(stream), context),
        }
        let id = reply.graph.get();
        if ended.is_ok() {
            session.handles.adopt(Kind::Graph, id)?;
        }
        // SAFETY: the caller's place, or NULL.
        unsafe { put_opt(graph, if ended.is_ok() { id } else { 0 }) };
        ended
    })
}

/// What the server says of the stream; nothing captures if no capture has begun.
pub fn status(session: &Session, stream: u64) -> Result<u32, CudaError> {
    session.handles.check(Kind::Stream, stream)?;
    if !still_captures(session) {
        return Ok(NONE);
    }
    let mut reply = rgpuStreamIsCapturingReply::default();
    send::rgpuStreamIsCapturing(session, stream, &mut reply)?;
    Ok(reply.status.get())
}

pub unsafe fn cuStreamIsCapturing(stream: u64, place: *mut u32) -> u32 {
    Of::Handle(stream).enter("cuStreamIsCapturing", Needs::Context, |session| {
        required(place)?;
        // SAFETY: the caller's place.
        unsafe { put(place, status(session, stream)?) }
    })
}

pub unsafe fn cuStreamGetCaptureInfo_v3(
    stream: u64,
    status: *mut u32,
    id: *mut u64,
    graph: *mut u64,
    list: *mut *const u64,
    edges: *mut *const c_void,
    count: *mut usize,
) -> u32 {
    Of::Handle(stream).enter("cuStreamGetCaptureInfo_v3", Needs::Context, |session| {
        required(status)?;
        session.handles.check(Kind::Stream, stream)?;
        let mut reply = rgpuStreamCaptureInfoReply::default();
        let mut nodes = Vec::new();
        if session.standing.is_capturing() {
            send::rgpuStreamCaptureInfo(session, stream, &mut nodes, &mut reply)?;
        }
        let state = reply.status.get();
        // SAFETY: the caller's places.
        unsafe {
            put(status, state)?;
            if state != ACTIVE {
                return Ok(());
            }
            let of = reply.graph.get();
            session.handles.adopt(Kind::Graph, of)?;
            let mut graphs = session.graphs();
            let mut nodes = ids(&nodes);
            for &node in &nodes {
                session.handles.adopt(Kind::GraphNode, node)?;
                graphs.note(node, of);
            }
            put_opt(id, reply.id.get());
            put_opt(graph, of);
            let known = nodes.len();
            put_opt(count, known);
            // Behind the nodes the data of their edges, of which there is none: a word of zero each.
            nodes.resize(2 * known, 0);
            let kept = graphs.keep_list(stream, nodes);
            put_opt(edges, kept.add(known).cast());
            put_opt(list, kept);
        }
        Ok(())
    })
}

pub unsafe fn cuStreamGetCaptureInfo_v2(
    stream: u64,
    status: *mut u32,
    id: *mut u64,
    graph: *mut u64,
    list: *mut *const u64,
    count: *mut usize,
) -> u32 {
    let edges = std::ptr::null_mut();
    // SAFETY: the same contract.
    unsafe { cuStreamGetCaptureInfo_v3(stream, status, id, graph, list, edges, count) }
}

pub unsafe fn cuStreamGetCaptureInfo(stream: u64, status: *mut u32, id: *mut u64) -> u32 {
    let (graph, list, count) = (
        std::ptr::null_mut(),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
    );
    // SAFETY: the same contract.
    unsafe { cuStreamGetCaptureInfo_v2(stream, status, id, graph, list, count) }
}

pub unsafe fn cuStreamUpdateCaptureDependencies_v2(
    stream: u64,
    list: *const u64,
    edges: *const c_void,
    count: usize,
    flags: u32,
) -> u32 {
    Of::Handle(stream).enter(
        "cuStreamUpdateCaptureDependencies_v2",
        Needs::Context,
        |session| {
            session.handles.check(Kind::Stream, stream)?;
            if flags > 1 {
                return Err(CudaError::INVALID_VALUE);
            }
            // SAFETY: the caller's lists.
            let nodes = unsafe {
                check_edges(edges, count)?;
                super::graph::nodes(session, list, count)?
            };
            send::rgpuStreamUpdateCapture(session, stream, flags, &nodes)
        },
    )
}

pub unsafe fn cuStreamUpdateCaptureDependencies(
    stream: u64,
    list: *const u64,
    count: usize,
    flags: u32,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuStreamUpdateCaptureDependencies_v2(stream, list, std::ptr::null(), count, flags) }
}

pub unsafe fn cuThreadExchangeStreamCaptureMode(mode: *mut u32) -> u32 {
    Of::Process.enter(
        "cuThreadExchangeStreamCaptureMode",
        Needs::Session,
        |session| {
            required(mode)?;
            // SAFETY: the caller's place.
            let new = unsafe { mode.read() };
            if new > RELAXED {
                return Err(CudaError::INVALID_VALUE);
            }
            for session in std::iter::once(session).chain(others(session)) {
                if session.gone().is_none() {
                    send::rgpuThreadCaptureMode(session, new)?;
                }
            }
            // SAFETY: the caller's place.
            unsafe { put(mode, thread::exchange_capture_mode(new)) }
        },
    )
}

/// Runs what is no part of a capture, and waits for none of its work, while one may be under way.
pub fn apart<T>(
    session: &Session,
    body: impl FnOnce() -> Result<T, CudaError>,
) -> Result<T, CudaError> {
    if !session.standing.is_capturing() {
        return body();
    }
    send::rgpuThreadCaptureMode(session, RELAXED)?;
    let before = thread::exchange_capture_mode(RELAXED);
    let result = body();
    thread::exchange_capture_mode(before);
    send::rgpuThreadCaptureMode(session, before)?;
    result
}

/// For calls that are made here and that a capture would not see, such as an allocation: the driver says whether they may be made.
pub fn probe(session: &Session) -> Result<(), CudaError> {
    if still_captures(session) {
        send::rgpuCaptureProbe(session)?;
    }
    Ok(())
}

/// Whether a copy between the device and memory of the program's has become a node of a graph: its bytes travel with each launch.
pub fn takes_copy(
    session: &Session,
    stream: u64,
    to_device: bool,
    device: u64,
    host: u64,
    bytes: u64,
) -> Result<bool, CudaError> {
    if !session.standing.is_capturing() {
        return Ok(false);
    }
    let mut reply = rgpuCaptureCopyReply::default();
    send::rgpuCaptureCopy(
        session,
        stream,
        to_device.into(),
        device,
        host,
        bytes,
        &mut reply,
    )?;
    let captured = reply.captured.get() != 0;
    if captured {
        session.graphs().note_hosts();
    }
    Ok(captured)
}

/// The same for a box, as the program has described it.
pub fn takes_box(session: &Session, stream: u64, params: &Memcpy3d) -> Result<bool, CudaError> {
    if !session.standing.is_capturing() {
        return Ok(false);
    }
    let or = |given: usize, packed: usize| if given == 0 { packed } else { given };
    let (width, height) = (params.width, params.height);
    let params = Memcpy3d {
        src_pitch: or(params.src_pitch, width),
        src_height: or(params.src_height, height),
        dst_pitch: or(params.dst_pitch, width),
        dst_height: or(params.dst_height, height),
        ..*params
    };
    // SAFETY: it lies as a CUDA_MEMCPY3D does.
    let (words, _) = unsafe { node_params::memcpy(session, (&raw const params).cast(), 0) }?;
    let words = rgpu_proto::node_params::to_bytes(&words);
    let mut reply = rgpuCaptureBoxReply::default();
    send::rgpuCaptureBox(session, stream, &words, &mut reply)?;
    let captured = reply.captured.get() != 0;
    if captured {
        session.graphs().note_hosts();
    }
    Ok(captured)
}
