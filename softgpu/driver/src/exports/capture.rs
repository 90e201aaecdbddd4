//! Stream capture.

use super::graph::{check_edge_data, graph_of};
use super::stream::any;
use super::{Handle, call};
use crate::abi::{EdgeData, In, Out};
use crate::capture::{self, Capture, GLOBAL, NONE, RELAXED};
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::stream::Stream;

const MAX_DEPENDENCIES: usize = 1 << 20;

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture(stream: Handle) -> u32 {
    cuStreamBeginCapture_v2(stream, GLOBAL)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(stream: Handle, mode: u32) -> u32 {
    call(|runtime| {
        let stream = Stream::find(runtime, stream)?;
        Capture::begin(runtime, &stream, mode, None)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCaptureToGraph(
    stream: Handle,
    graph: Handle,
    after: In<Handle>,
    edges: In<EdgeData>,
    count: usize,
    mode: u32,
) -> u32 {
    call(|runtime| {
        let stream = Stream::find(runtime, stream)?;
        let graph = graph_of(runtime, graph)?;
        let after = nodes(after, count)?;
        check_edge_data(edges, count)?;
        let known = graph.nodes();
        if !after.iter().all(|node| known.contains(node)) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        Capture::begin(runtime, &stream, mode, Some((graph, after)))
    })
}

fn nodes(list: In<Handle>, count: usize) -> Result<Vec<Handle>> {
    if count > MAX_DEPENDENCIES {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    list.list(count)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) -> u32 {
    call(|runtime| {
        let found = any(runtime, stream);
        // Who has given the graph need not be told.
        let into_known = found.as_ref().is_ok_and(|stream| {
            let capture = stream.capture();
            capture.is_some_and(|capture| capture.is_into_known(stream))
        });
        if !into_known {
            graph.check()?;
        }
        let stream = found?;
        let capture = stream.capture().ok_or(Error::ERROR_ILLEGAL_STATE)?;
        graph.put_if(0);
        graph.put_if(capture.end(runtime, &stream)?.handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamIsCapturing(stream: Handle, status: Out<u32>) -> u32 {
    call(|runtime| {
        status.check()?;
        let stream = any(runtime, stream)?;
        if capture::is_implicit(&stream) {
            return Err(Error::ERROR_STREAM_CAPTURE_IMPLICIT);
        }
        status.put(stream.capture().map_or(NONE, |capture| capture.status()))
    })
}

/// Where cuStreamGetCaptureInfo puts its answers; all but the first may be left out.
struct Places {
    status: Out<u32>,
    id: Out<u64>,
    graph: Out<Handle>,
    nodes: Out<u64>,
    edges: Out<u64>,
    count: Out<usize>,
}

fn info(runtime: &Runtime, stream: Handle, places: &Places) -> Result {
    places.status.check()?;
    let stream = any(runtime, stream)?;
    if capture::is_implicit(&stream) {
        return Err(Error::ERROR_STREAM_CAPTURE_IMPLICIT);
    }
    let Some(capture) = stream.capture() else {
        return places.status.put(NONE);
    };
    places.status.put(capture.status())?;
    if capture.check().is_err() {
        return Ok(());
    }
    places.id.put_if(capture.id);
    places.graph.put_if(capture.graph.handle);
    let mut found = capture.dependencies(&stream);
    let count = found.len();
    places.count.put_if(count);
    // Behind the nodes the data of their edges, of which there is none: a word of zero each.
    found.resize(2 * count, 0);
    let mut kept = stream
        .capture_nodes
        .lock()
        .unwrap_or_else(|e| e.into_inner());
    *kept = found.into();
    places.nodes.put_if(kept.as_ptr() as u64);
    places.edges.put_if(kept[count..].as_ptr() as u64);
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCaptureInfo(stream: Handle, status: Out<u32>, id: Out<u64>) -> u32 {
    cuStreamGetCaptureInfo_v2(stream, status, id, Out::null(), Out::null(), Out::null())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCaptureInfo_v2(
    stream: Handle,
    status: Out<u32>,
    id: Out<u64>,
    graph: Out<Handle>,
    nodes: Out<u64>,
    count: Out<usize>,
) -> u32 {
    cuStreamGetCaptureInfo_v3(stream, status, id, graph, nodes, Out::null(), count)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamGetCaptureInfo_v3(
    stream: Handle,
    status: Out<u32>,
    id: Out<u64>,
    graph: Out<Handle>,
    nodes: Out<u64>,
    edges: Out<u64>,
    count: Out<usize>,
) -> u32 {
    call(|runtime| {
        let places = Places {
            status,
            id,
            graph,
            nodes,
            edges,
            count,
        };
        info(runtime, stream, &places)
    })
}

fn update(runtime: &Runtime, stream: Handle, nodes: &[Handle], flags: u32) -> Result {
    // CU_STREAM_ADD_CAPTURE_DEPENDENCIES, CU_STREAM_SET_CAPTURE_DEPENDENCIES.
    if flags > 1 {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let stream = any(runtime, stream)?;
    let capture = stream.capture().ok_or(Error::ERROR_ILLEGAL_STATE)?;
    capture.set_dependencies(&stream, nodes, flags == 1)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamUpdateCaptureDependencies(
    stream: Handle,
    after: In<Handle>,
    count: usize,
    flags: u32,
) -> u32 {
    call(|runtime| update(runtime, stream, &nodes(after, count)?, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamUpdateCaptureDependencies_v2(
    stream: Handle,
    after: In<Handle>,
    edges: In<EdgeData>,
    count: usize,
    flags: u32,
) -> u32 {
    call(|runtime| {
        check_edge_data(edges, count)?;
        update(runtime, stream, &nodes(after, count)?, flags)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) -> u32 {
    call(|_| {
        let new = mode.read_at(0)?;
        if new > RELAXED {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        mode.put(capture::exchange_thread_mode(new))
    })
}
