//! The session's handles: the client invents the ids, the driver's pointers never leave this process.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;
use rgpu_proto::id::{BY_SERVER as OURS, MARK};
use rustc_hash::FxHashMap;

/// What an id stands for. Ids of different kinds never mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Context,
    Module,
    Function,
    Stream,
    Event,
    Graph,
    GraphNode,
    GraphExec,
    Array,
    MipmappedArray,
    TextureRef,
    SurfaceRef,
}

const KINDS: usize = Kind::SurfaceRef as usize + 1;

/// A context takes its handles of these kinds with it when it ends.
const KINDS_OF_CONTEXT: [Kind; 8] = [
    Kind::Module,
    Kind::Function,
    Kind::Stream,
    Kind::Event,
    Kind::Array,
    Kind::MipmappedArray,
    Kind::TextureRef,
    Kind::SurfaceRef,
];

/// Most handles of one session, so that a client cannot fill the host's memory with them.
pub const MAX_HANDLES: usize = 1 << 20;

/// Most contexts of one session: each takes memory of the device that no quota counts.
pub const MAX_CONTEXTS: usize = 64;

impl Kind {
    fn unknown(self) -> CudaError {
        match self {
            Kind::Context => CudaError::INVALID_CONTEXT,
            // cuda.h gives no other error for graphs and nodes.
            Kind::Graph | Kind::GraphNode | Kind::GraphExec => CudaError::INVALID_VALUE,
            _ => CudaError::INVALID_HANDLE,
        }
    }

    /// Whether a context takes its handles of this kind with it when it ends.
    fn of_context(self) -> bool {
        KINDS_OF_CONTEXT.contains(&self)
    }
}

/// A driver's pointer, or the error with which its creation failed.
#[derive(Clone, Copy)]
struct Handle {
    object: Result<Object, CudaError>,
    /// What it ends with: the id of a context, for a node the address of its graph, for a graph that of the node
    /// which it is a part of, for a function or a reference that of its module, for a part of an array that of the whole.
    owner: u64,
}

#[derive(Clone, Copy)]
struct Object(*mut c_void);

// SAFETY: the driver's handles may be used from any thread; they are never dereferenced here.
unsafe impl Send for Object {}

/// What calls are using while the turn is elsewhere.
#[derive(Default)]
struct Pinned {
    /// Once for each use.
    uses: Vec<(Kind, u64)>,
    /// Threads that wait for some to end.
    waiting: usize,
}

/// All handles of a session.
#[derive(Default)]
pub struct HandleTable {
    /// Ids are the client's choice: who makes them collide slows its own session down.
    kinds: [Mutex<FxHashMap<u64, Handle>>; KINDS],
    count: AtomicUsize,
    pinned: Mutex<Pinned>,
    unpinned: Condvar,
    /// Graphs that captures make; `None` where it is not of the capture's making.
    captures: Mutex<HashMap<Capturer, Option<usize>>>,
    /// Views that have been made.
    views: AtomicU64,
    /// The last id that was made here.
    last: AtomicU64,
    /// What the client's ids have in the bits of the mark.
    mark: AtomicU64,
    /// Primary contexts of those that stand for green ones, by these.
    greens: Mutex<HashMap<u64, u64>>,
    /// Grows whenever a context ends, so that a thread that remembers its current one looks it up again.
    contexts_ended: AtomicU64,
}

impl HandleTable {
    fn kind(&self, kind: Kind) -> MutexGuard<'_, FxHashMap<u64, Handle>> {
        self.kinds[kind as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, kind: Kind, id: u64, handle: Handle) -> Result<(), CudaError> {
        if id <= 2 || id & OURS != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        self.mark.store(id & MARK, Ordering::Relaxed);
        let mut handles = self.kind(kind);
        if kind == Kind::Context && handles.len() >= MAX_CONTEXTS {
            return Err(CudaError::OUT_OF_MEMORY);
        }
        match handles.entry(id) {
            Entry::Occupied(_) => Err(CudaError::INVALID_VALUE),
            Entry::Vacant(place) => {
                self.count_one()?;
                place.insert(handle);
                Ok(())
            }
        }
    }

    fn count_one(&self) -> Result<(), CudaError> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= MAX_HANDLES {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(CudaError::OUT_OF_MEMORY);
        }
        Ok(())
    }

    /// Whether there is a handle of this id.
    pub fn knows(&self, kind: Kind, id: u64) -> bool {
        let handles = self.kind(kind);
        handles.get(&id).is_some_and(|it| it.object.is_ok())
    }

    /// The live contexts.
    pub fn contexts(&self) -> Vec<*mut c_void> {
        let contexts = self.kind(Kind::Context);
        let live = contexts.values().filter_map(|handle| handle.object.ok());
        live.map(|Object(pointer)| pointer).collect()
    }

    /// Whether a stream captures.
    pub fn is_capturing(&self) -> bool {
        !self.captures().is_empty()
    }

    fn captures(&self) -> MutexGuard<'_, HashMap<Capturer, Option<usize>>> {
        self.captures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pinned(&self) -> MutexGuard<'_, Pinned> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing of this sort is pinned; while the guard lives, nothing new is.
    fn wait_unpinned(&self, sort: impl Fn(Kind, u64) -> bool) -> MutexGuard<'_, Pinned> {
        let mut pinned = self.pinned();
        while pinned.uses.iter().any(|&(kind, id)| sort(kind, id)) {
            pinned.waiting += 1;
            pinned = self
                .unpinned
                .wait(pinned)
                .unwrap_or_else(PoisonError::into_inner);
            pinned.waiting -= 1;
        }
        pinned
    }

    fn drop_where(&self, kind: Kind, gone: impl Fn(&Handle) -> bool) {
        let mut handles = self.kind(kind);
        let before = handles.len();
        handles.retain(|_, handle| !gone(handle));
        self.count
            .fetch_sub(before - handles.len(), Ordering::Relaxed);
    }
}

/// The stream in which a capture began.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Capturer {
    stream: usize,
    /// Of CU_STREAM_PER_THREAD, whose it is, since every thread has one in every context: the number of the view, and the context's id.
    thread: u64,
    context: u64,
}

/// A client thread's view: new handles belong to the context that is current there.
pub struct Handles {
    table: Arc<HandleTable>,
    number: u64,
    context: Cell<u64>,
    /// What the blocking call of this thread has looked up; `None` outside one.
    pins: RefCell<Option<Vec<(Kind, u64)>>>,
}

impl Handles {
    pub fn new(table: Arc<HandleTable>) -> Handles {
        Handles {
            number: table.views.fetch_add(1, Ordering::Relaxed) + 1,
            table,
            context: Cell::new(0),
            pins: RefCell::new(None),
        }
    }

    /// From here to [`Self::unpin`], what this thread looks up (and this context) is not destroyed: [`Self::take`] waits. For calls that run
    /// while the turn is elsewhere; the driver would not survive the end of a handle that it is about to use.
    pub fn pin(&self, context: u64) {
        *self.pins.borrow_mut() = Some(Vec::new());
        self.add_pin(Kind::Context, context);
    }

    pub fn unpin(&self) {
        let Some(pins) = self.pins.take() else {
            return;
        };
        let mut pinned = self.table.pinned();
        for pin in pins {
            if let Some(at) = pinned.uses.iter().position(|other| *other == pin) {
                pinned.uses.swap_remove(at);
            }
        }
        if pinned.waiting > 0 {
            self.table.unpinned.notify_all();
        }
    }

    fn add_pin(&self, kind: Kind, id: u64) {
        if let Some(pins) = &mut *self.pins.borrow_mut() {
            pins.push((kind, id));
            self.table.pinned().uses.push((kind, id));
        }
    }

    /// The id of the context that is current: new handles belong to it, or to the primary one of a green context's.
    pub fn set_context(&self, id: u64) {
        let greens = self
            .table
            .greens
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.context.set(greens.get(&id).copied().unwrap_or(id));
    }

    /// Remembers the context that stands for a green one.
    pub fn insert_green(
        &self,
        id: u64,
        pointer: *mut c_void,
        primary: u64,
    ) -> Result<(), CudaError> {
        self.put(Kind::Context, id, Ok(Object(pointer)), 0)?;
        let mut greens = self
            .table
            .greens
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        greens.insert(id, primary);
        Ok(())
    }

    /// What was made in it stays: it is the primary context's, or a stream that says that it is detached.
    pub fn end_green(&self, id: u64) -> Result<(), CudaError> {
        self.take(Kind::Context, id)?;
        let mut greens = self
            .table
            .greens
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        greens.remove(&id);
        self.table.contexts_ended.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Differs from an earlier value if a context has ended since.
    pub fn contexts_ended(&self) -> u64 {
        self.table.contexts_ended.load(Ordering::Acquire)
    }

    /// The driver's pointer. Streams 0, 1 and 2 are CUDA's own names of default streams.
    pub fn get(&self, kind: Kind, id: u64) -> Result<*mut c_void, CudaError> {
        if kind == Kind::Stream && id <= 2 {
            return Ok(ptr::without_provenance_mut(id as usize));
        }
        // Before the look-up, so that nobody takes it in between.
        self.add_pin(kind, id);
        let handle = self.table.kind(kind).get(&id).copied();
        handle
            .ok_or(kind.unknown())?
            .object
            .map(|Object(pointer)| pointer)
    }

    /// What is there now, for who uses it under a lock that its end needs too; nothing is kept from being destroyed.
    pub fn peek(&self, kind: Kind, id: u64) -> Option<*mut c_void> {
        if kind == Kind::Stream && id <= 2 {
            return Some(ptr::without_provenance_mut(id as usize));
        }
        let handle = self.table.kind(kind).get(&id).copied()?;
        handle.object.ok().map(|Object(pointer)| pointer)
    }

    /// Takes a handle out, for the call that destroys it, when no call uses it any more. A poisoned one is gone too.
    pub fn take(&self, kind: Kind, id: u64) -> Result<*mut c_void, CudaError> {
        let none_pinned = self
            .table
            .wait_unpinned(|other, other_id| (other, other_id) == (kind, id));
        if kind == Kind::Graph
            && self
                .table
                .kind(kind)
                .get(&id)
                .is_some_and(|graph| graph.owner != 0)
        {
            // It ends with the node that it is a part of.
            return Err(CudaError::INVALID_VALUE);
        }
        let handle = self.remove(kind, id)?;
        drop(none_pinned);
        let Object(pointer) = handle.object?;
        match kind {
            Kind::Graph => self.drop_nodes(pointer),
            Kind::GraphNode => self.drop_child(pointer),
            Kind::Stream => self.drop_capture(pointer.addr()),
            Kind::Module => self.drop_module(pointer),
            Kind::Array | Kind::MipmappedArray => self.drop_parts(pointer),
            _ => {}
        }
        Ok(pointer)
    }

    fn remove(&self, kind: Kind, id: u64) -> Result<Handle, CudaError> {
        let handle = self.table.kind(kind).remove(&id).ok_or(kind.unknown())?;
        self.table.count.fetch_sub(1, Ordering::Relaxed);
        Ok(handle)
    }

    fn drop_owned(&self, kind: Kind, owner: *mut c_void) {
        let owner = owner.addr() as u64;
        self.table.drop_where(kind, |handle| handle.owner == owner);
    }

    fn drop_module(&self, module: *mut c_void) {
        for kind in [Kind::Function, Kind::TextureRef, Kind::SurfaceRef] {
            self.drop_owned(kind, module);
        }
    }

    /// Drops the levels or planes of an array, and the planes of its levels.
    fn drop_parts(&self, array: *mut c_void) {
        let parts = self.owned_by(Kind::Array, array.addr() as u64);
        self.drop_owned(Kind::Array, array);
        parts.into_iter().for_each(|part| self.drop_parts(part));
    }

    /// The objects of a kind that end with this.
    fn owned_by(&self, kind: Kind, owner: u64) -> Vec<*mut c_void> {
        self.table
            .kind(kind)
            .values()
            .filter(|handle| handle.owner == owner)
            .filter_map(|handle| handle.object.ok().map(|Object(pointer)| pointer))
            .collect()
    }

    /// Drops the nodes of a graph, and the graphs that are parts of them.
    fn drop_nodes(&self, graph: *mut c_void) {
        let nodes = self.owned_by(Kind::GraphNode, graph.addr() as u64);
        self.drop_owned(Kind::GraphNode, graph);
        let any_children = self
            .table
            .kind(Kind::Graph)
            .values()
            .any(|graph| graph.owner != 0);
        if any_children {
            nodes.into_iter().for_each(|node| self.drop_child(node));
        }
    }

    fn drop_child(&self, node: *mut c_void) {
        let owner = node.addr() as u64;
        let children: Vec<*mut c_void> = self
            .table
            .kind(Kind::Graph)
            .values()
            .filter(|graph| graph.owner == owner)
            .filter_map(|graph| graph.object.ok().map(|Object(pointer)| pointer))
            .collect();
        if !children.is_empty() {
            self.drop_owned(Kind::Graph, node);
            children
                .into_iter()
                .for_each(|child| self.drop_nodes(child));
        }
    }

    fn capturer(&self, stream: usize) -> Capturer {
        const PER_THREAD: usize = 2;
        let (thread, context) = match stream {
            PER_THREAD => (self.number, self.context.get()),
            _ => (0, 0),
        };
        Capturer {
            stream,
            thread,
            context,
        }
    }

    /// A stream is about to capture; false if it does already.
    pub fn expect_capture(&self, stream: *mut c_void) -> bool {
        match self.table.captures().entry(self.capturer(stream.addr())) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(None);
                true
            }
        }
    }

    /// A stream begins to capture into a graph of the driver's making.
    pub fn begin_capture(&self, stream: *mut c_void, graph: *mut c_void) {
        self.table
            .captures()
            .insert(self.capturer(stream.addr()), Some(graph.addr()));
    }

    /// The capture has ended well: the graph stays.
    pub fn end_capture(&self, stream: *mut c_void) {
        self.table.captures().remove(&self.capturer(stream.addr()));
    }

    /// The capture has failed or its stream is gone: so is the graph, whatever the client knows of it.
    pub fn drop_capture(&self, stream: usize) {
        self.drop_capture_of(self.capturer(stream));
    }

    fn drop_captures_where(&self, gone: impl Fn(&Capturer) -> bool) {
        let captures: Vec<Capturer> = self.table.captures().keys().copied().collect();
        let gone = captures.into_iter().filter(gone);
        gone.for_each(|capturer| self.drop_capture_of(capturer));
    }

    fn drop_capture_of(&self, capturer: Capturer) {
        let graph = self.table.captures().remove(&capturer);
        let Some(graph) = graph.flatten() else {
            return;
        };
        self.table.drop_where(Kind::Graph, |handle| {
            handle
                .object
                .is_ok_and(|Object(pointer)| pointer.addr() == graph)
        });
        self.drop_nodes(ptr::without_provenance_mut(graph));
    }

    /// What something that the driver names ends with, as in [`Self::insert_owned`].
    pub fn owner_of(&self, kind: Kind, pointer: *mut c_void) -> Option<*mut c_void> {
        let handles = self.table.kind(kind);
        let is = |handle: &&Handle| handle.object.is_ok_and(|Object(known)| known == pointer);
        let owner = handles.values().find(is)?.owner;
        Some(ptr::without_provenance_mut(owner as usize))
    }

    /// The id of the context that is current in this thread.
    pub fn context(&self) -> u64 {
        self.context.get()
    }

    /// Its address in the driver; 0: none.
    pub fn current(&self) -> usize {
        let contexts = self.table.kind(Kind::Context);
        let current = contexts.get(&self.context.get());
        current.map_or(0, |handle| handle.object.map_or(0, |Object(it)| it.addr()))
    }

    /// The id of something that the driver names.
    pub fn find(&self, kind: Kind, pointer: *mut c_void) -> Option<u64> {
        let handles = self.table.kind(kind);
        let is = |handle: &Handle| handle.object.is_ok_and(|Object(known)| known == pointer);
        handles
            .iter()
            .find(|(_, handle)| is(handle))
            .map(|(id, _)| *id)
    }

    /// The ids of what the driver names; what has none yet gets one of ours. All belong to `owner`, as in [`Self::insert_owned`].
    pub fn name(
        &self,
        kind: Kind,
        pointers: &[*mut c_void],
        owner: *mut c_void,
    ) -> Result<Vec<u64>, CudaError> {
        let mut handles = self.table.kind(kind);
        let mut known: HashMap<usize, u64> = handles
            .iter()
            .filter_map(|(id, handle)| Some((handle.object.ok()?.0.addr(), *id)))
            .collect();
        let mut ids = Vec::with_capacity(pointers.len());
        for &pointer in pointers {
            ids.push(match known.entry(pointer.addr()) {
                Entry::Occupied(id) => *id.get(),
                Entry::Vacant(place) => {
                    self.table.count_one()?;
                    let number = self.table.last.fetch_add(1, Ordering::Relaxed) + 1;
                    let mark = self.table.mark.load(Ordering::Relaxed);
                    let id =
                        (kind as u64 + 1) << 48 | OURS | mark | (number << 4) & !MARK & (OURS - 1);
                    let object = Ok(Object(pointer));
                    let owner = owner.addr() as u64;
                    handles.insert(id, Handle { object, owner });
                    *place.insert(id)
                }
            });
        }
        Ok(ids)
    }

    /// Remembers a new handle. An id that is taken is refused: the client never uses one twice.
    pub fn insert(&self, kind: Kind, id: u64, pointer: *mut c_void) -> Result<(), CudaError> {
        let owner = if kind.of_context() {
            self.context.get()
        } else {
            0
        };
        self.put(kind, id, Ok(Object(pointer)), owner)
    }

    /// As [`Self::insert`], for what ends with another object of the driver's: a node with its graph, a function with its module.
    pub fn insert_owned(
        &self,
        kind: Kind,
        id: u64,
        pointer: *mut c_void,
        owner: *mut c_void,
    ) -> Result<(), CudaError> {
        self.put(kind, id, Ok(Object(pointer)), owner.addr() as u64)
    }

    /// Remembers why there is no handle of this id: each later use gets that error. An id that is taken keeps what it has.
    pub fn poison(&self, kind: Kind, id: u64, error: CudaError) {
        let owner = if kind.of_context() {
            self.context.get()
        } else {
            0
        };
        // Refused for a taken id or a full table; then the use says that there is no such handle.
        let _ = self.put(kind, id, Err(error), owner);
    }

    fn put(
        &self,
        kind: Kind,
        id: u64,
        object: Result<Object, CudaError>,
        owner: u64,
    ) -> Result<(), CudaError> {
        self.table.put(kind, id, Handle { object, owner })
    }

    /// Takes a context out, with what ends with it; returns the modules, whose functions are gone too.
    pub fn end_context(&self, id: u64) -> Result<(*mut c_void, Vec<*mut c_void>), CudaError> {
        let none_pinned = self.table.wait_unpinned(|kind, other| {
            let owner = |handle: &Handle| handle.owner == id;
            (kind, other) == (Kind::Context, id)
                || kind.of_context() && self.table.kind(kind).get(&other).is_some_and(owner)
        });
        let Object(pointer) = self.remove(Kind::Context, id)?.object?;
        self.table.contexts_ended.fetch_add(1, Ordering::Release);
        let modules = self.owned_by(Kind::Module, id);
        for &module in &modules {
            self.drop_module(module);
        }
        for stream in self.owned_by(Kind::Stream, id) {
            self.drop_capture(stream.addr());
        }
        self.drop_captures_where(|capturer| capturer.context == id && capturer.thread != 0);
        for kind in [Kind::Array, Kind::MipmappedArray] {
            for array in self.owned_by(kind, id) {
                self.drop_parts(array);
            }
        }
        for kind in KINDS_OF_CONTEXT {
            self.table.drop_where(kind, |handle| handle.owner == id);
        }
        drop(none_pinned);
        Ok((pointer, modules))
    }

    /// What a handle ends with, as in [`Self::insert_owned`], or the id of its context.
    pub fn owner(&self, kind: Kind, id: u64) -> Result<u64, CudaError> {
        let handle = self.table.kind(kind).get(&id).copied();
        Ok(handle.ok_or(kind.unknown())?.owner)
    }

    /// The context that a module was loaded into.
    pub fn context_of_module(&self, id: u64) -> Result<*mut c_void, CudaError> {
        let module = self.table.kind(Kind::Module).get(&id).copied();
        self.get(Kind::Context, module.ok_or(Kind::Module.unknown())?.owner)
    }

    /// The live contexts.
    pub fn contexts(&self) -> Vec<*mut c_void> {
        self.table.contexts()
    }
}

/// A capture in a thread's own stream ends with the thread.
impl Drop for Handles {
    fn drop(&mut self) {
        self.drop_captures_where(|capturer| capturer.thread == self.number);
    }
}

#[cfg(test)]
mod tests;
