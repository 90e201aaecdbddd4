//! Graphs of kernels. They run one after the other in the order in which they were added, which is always one that their edges allow. There are no
//! nodes of other kinds but empty ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::abi::{In, Out, answer};
use crate::config;
use crate::errors::{Error, Result};
use crate::function;
use crate::handles::Table;
use crate::launch;
use crate::stream;

// CUgraphNodeType.
const KERNEL: u32 = 0;
const EMPTY: u32 = 5;

/// CUDA_KERNEL_NODE_PARAMS; the second form has two fields more, which say nothing here.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Kernel {
    function: u64,
    grid: [u32; 3],
    block: [u32; 3],
    _shared: u32,
    _values: u64,
    _extra: u64,
}

impl Kernel {
    /// Nanoseconds, in paced mode.
    fn time(&self) -> Result<u64> {
        let function = function::find(self.function)?;
        launch::check(function, self.grid, self.block)?;
        Ok(function.time)
    }
}

struct Node {
    handle: u64,
    kind: u32,
    time: AtomicU64,
    graph: u64,
}

struct Graph {
    handle: u64,
    nodes: Mutex<Vec<&'static Node>>,
}

/// What an executable graph does: each kernel's node and its time.
#[derive(Default)]
struct Executable {
    handle: AtomicU64,
    kernels: Mutex<Vec<(u64, u64)>>,
}

static GRAPHS: Table<Graph> = Table::new(7);
static NODES: Table<Node> = Table::new(8);
static EXECUTABLES: Table<Executable> = Table::new(9);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Graph {
    fn add(&self, place: Out<u64>, before: In<u64>, count: usize, kind: u32, time: u64) -> Result {
        place.check()?;
        for index in 0..count {
            let node = NODES.get(before.at(index)?)?;
            if node.graph != self.handle {
                return Err(Error::INVALID_VALUE);
            }
        }
        let node = NODES.insert(|handle| {
            Box::leak(Box::new(Node {
                handle,
                kind,
                time: AtomicU64::new(time),
                graph: self.handle,
            }))
        })?;
        lock(&self.nodes).push(node);
        place.put(node.handle)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphCreate(graph: Out<u64>, flags: u32) -> u32 {
    answer(|| {
        config::paced()?;
        graph.check()?;
        if flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let made = GRAPHS.insert(|handle| {
            Box::leak(Box::new(Graph {
                handle,
                nodes: Mutex::default(),
            }))
        })?;
        graph.put(made.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: u64) -> u32 {
    answer(|| {
        let graph = GRAPHS.remove(graph)?;
        for node in lock(&graph.nodes).drain(..) {
            // Only here do nodes end.
            let _ = NODES.remove(node.handle);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddKernelNode(
    node: Out<u64>,
    graph: u64,
    before: In<u64>,
    count: usize,
    kernel: In<Kernel>,
) -> u32 {
    answer(|| {
        let time = kernel.get()?.time()?;
        GRAPHS.get(graph)?.add(node, before, count, KERNEL, time)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddKernelNode_v2(
    node: Out<u64>,
    graph: u64,
    before: In<u64>,
    count: usize,
    kernel: In<Kernel>,
) -> u32 {
    cuGraphAddKernelNode(node, graph, before, count, kernel)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphAddEmptyNode(
    node: Out<u64>,
    graph: u64,
    before: In<u64>,
    count: usize,
) -> u32 {
    answer(|| GRAPHS.get(graph)?.add(node, before, count, EMPTY, 0))
}

/// Without places, how many there are.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetNodes(graph: u64, nodes: Out<u64>, count: Out<usize>) -> u32 {
    answer(|| {
        let graph = GRAPHS.get(graph)?;
        let all = lock(&graph.nodes);
        if nodes.check().is_err() {
            return count.put(all.len());
        }
        let room = count.as_in().get()?.min(all.len());
        for (index, node) in all.iter().take(room).enumerate() {
            nodes.put_at(index, node.handle)?;
        }
        count.put(room)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphNodeGetType(node: u64, kind: Out<u32>) -> u32 {
    answer(|| kind.put(NODES.get(node)?.kind))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(exec: Out<u64>, graph: u64, _flags: u64) -> u32 {
    answer(|| {
        exec.check()?;
        let graph = GRAPHS.get(graph)?;
        let nodes = lock(&graph.nodes);
        let kernels = nodes.iter().filter(|node| node.kind == KERNEL);
        let kernels = kernels.map(|node| (node.handle, node.time.load(Ordering::Relaxed)));
        let made = EXECUTABLES.insert(|handle| {
            Box::leak(Box::new(Executable {
                handle: AtomicU64::new(handle),
                kernels: Mutex::new(kernels.collect()),
            }))
        })?;
        exec.put(made.handle.load(Ordering::Relaxed))
    })
}

/// There is nothing to say about a node.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiate_v2(
    exec: Out<u64>,
    graph: u64,
    _node: Out<u64>,
    _log: Out<u8>,
    _room: usize,
) -> u32 {
    cuGraphInstantiateWithFlags(exec, graph, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecKernelNodeSetParams(exec: u64, node: u64, kernel: In<Kernel>) -> u32 {
    answer(|| {
        let (exec, time) = (EXECUTABLES.get(exec)?, kernel.get()?.time()?);
        let mut kernels = lock(&exec.kernels);
        let found = kernels.iter_mut().find(|(handle, _)| *handle == node);
        found.ok_or(Error::INVALID_VALUE)?.1 = time;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecKernelNodeSetParams_v2(
    exec: u64,
    node: u64,
    kernel: In<Kernel>,
) -> u32 {
    cuGraphExecKernelNodeSetParams(exec, node, kernel)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphUpload(exec: u64, stream: u64) -> u32 {
    answer(|| stream::find(stream).and(EXECUTABLES.get(exec)).map(|_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(exec: u64, stream: u64) -> u32 {
    answer(|| {
        let (exec, stream) = (EXECUTABLES.get(exec)?, stream::find(stream)?);
        if let Some(paced) = config::paced()? {
            for (_, time) in lock(&exec.kernels).iter() {
                stream.launch(paced, *time);
            }
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(exec: u64) -> u32 {
    answer(|| {
        let exec = EXECUTABLES.remove(exec)?;
        // The object stays: another thread may be looking at it.
        lock(&exec.kernels).clear();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handle that a call writes.
    fn made(call: impl FnOnce(Out<u64>) -> u32) -> std::result::Result<u64, u32> {
        let mut place = 0_u64;
        match call(Out::from(&raw mut place as u64)) {
            0 => Ok(place),
            code => Err(code),
        }
    }

    #[test]
    fn nodes_belong_to_their_graph_and_end_with_it() {
        assert_eq!(crate::init::cuInit(0), 0);
        let graph = made(|place| cuGraphCreate(place, 0)).unwrap();
        let other = made(|place| cuGraphCreate(place, 0)).unwrap();
        let add = |graph, before: &[u64]| {
            let before_or_none = In::from(before.as_ptr() as u64);
            made(|place| cuGraphAddEmptyNode(place, graph, before_or_none, before.len()))
        };
        let first = add(graph, &[]).unwrap();
        let second = add(graph, &[first]).unwrap();
        let stranger = add(other, &[]).unwrap();
        assert_eq!(add(graph, &[stranger]), Err(Error::INVALID_VALUE.0));
        let (mut nodes, mut count) = ([0_u64; 4], 4_usize);
        let places = (&raw mut nodes as u64, &raw mut count as u64);
        assert_eq!(
            cuGraphGetNodes(graph, Out::from(places.0), Out::from(places.1)),
            0
        );
        assert_eq!((&nodes[..count], nodes[2]), (&[first, second][..], 0));
        let mut kind = 9_u32;
        assert_eq!(
            cuGraphNodeGetType(first, Out::from(&raw mut kind as u64)),
            0
        );
        assert_eq!(kind, EMPTY);
        let exec = made(|place| cuGraphInstantiateWithFlags(place, graph, 0)).unwrap();
        assert_eq!(cuGraphDestroy(graph), 0);
        let gone = Error::INVALID_HANDLE.0;
        assert_eq!(
            cuGraphNodeGetType(first, Out::from(&raw mut kind as u64)),
            gone
        );
        assert_eq!(cuGraphDestroy(graph), gone);
        // What was made of it lives on.
        assert_eq!(cuGraphExecDestroy(exec), 0);
        assert_eq!(cuGraphExecDestroy(exec), gone);
    }
}
