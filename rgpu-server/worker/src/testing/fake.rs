//! A driver with memory, kernels that store a word, and streams that a kernel can stall. What cuda.h makes thread state is thread state
//! here too.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;

use super::fake_memory::{at, remove, settle};
use crate::driver::Driver;

pub const GRANULARITY: u64 = 2 << 20;
pub const TOTAL: u64 = 1 << 40;
/// The image that loads; it holds the kernels below.
pub const IMAGE: &[u8] = b"fake image";

pub type Code = u32;
pub const OK: Code = 0;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

#[derive(Default)]
pub struct World {
    /// Device memory by address.
    pub memory: BTreeMap<u64, Vec<u8>>,
    /// Bytes of all that, and of arrays.
    pub used: u64,
    /// Where nothing can be mapped the next time: there is no memory.
    pub full: HashSet<u64>,
    /// What synchronous copies of each context have read, and not written yet.
    pub late: HashMap<usize, (u64, Vec<u8>)>,
    /// Stalled streams, and the keys that their kernels wait for.
    stalled: HashMap<usize, u64>,
    /// Functions that streams have come to, or wait for, in order.
    functions: HashMap<usize, VecDeque<u64>>,
    /// What was ahead of events when they were recorded.
    recorded: HashMap<usize, Recorded>,
    live: HashSet<usize>,
    loaded: HashSet<usize>,
    /// What graphs keep alive: destructors and their arguments, by graph; those that no graph has yet, by object.
    kept: HashMap<usize, Vec<(usize, usize)>>,
    objects: HashMap<usize, (usize, usize)>,
    /// What each context stalls: contexts of streams.
    stream_context: HashMap<usize, usize>,
}

/// What an event waits for.
struct Recorded {
    stream: usize,
    stalled: Option<u64>,
    functions: Vec<u64>,
}

impl World {
    /// Whether the stream has yet to come to the event.
    fn is_ahead(&self, event: usize) -> Option<bool> {
        let recorded = self.recorded.get(&event)?;
        let stalled = self.stalled.get(&recorded.stream).copied();
        let functions = self.functions.get(&recorded.stream);
        let waits = |number| functions.is_some_and(|queue| queue.contains(number));
        let is_stalled = recorded.stalled.is_some() && stalled == recorded.stalled;
        Some(is_stalled || recorded.functions.iter().any(waits))
    }

    /// Whether a stream has something to do.
    fn is_busy(&self, stream: usize) -> bool {
        let functions = self.functions.get(&stream);
        self.stalled.contains_key(&stream) || functions.is_some_and(|queue| !queue.is_empty())
    }
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();
pub static NEXT: AtomicUsize = AtomicUsize::new(0x10_0000);

fn world() -> MutexGuard<'static, Option<World>> {
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    world.get_or_insert_default();
    world
}

pub fn with<T>(body: impl FnOnce(&mut World) -> T) -> T {
    let mut world = world();
    let result = body(world.as_mut().unwrap());
    CHANGED.notify_all();
    result
}

pub fn make() -> *mut c_void {
    let address = NEXT.fetch_add(16, Ordering::Relaxed);
    with(|world| world.live.insert(address));
    ptr::without_provenance_mut(address)
}

/// A handle that the worker must never hand over again after its end: using a dead one is a bug of the worker's, and stops the test.
pub fn alive(handle: *mut c_void, what: &str) {
    let live = with(|world| world.live.contains(&handle.addr()));
    assert!(live, "the worker used a dead {what} {handle:p}");
}

pub fn end(handle: *mut c_void, what: &str) -> Code {
    let live = with(|world| world.live.remove(&handle.addr()));
    assert!(live, "the worker ended a dead {what} {handle:p}");
    OK
}

pub fn current() -> Result<usize, Code> {
    match CURRENT.get() {
        0 => Err(CudaError::INVALID_CONTEXT.0),
        context => Ok(context),
    }
}

pub fn code(result: Result<(), Code>) -> Code {
    result.err().unwrap_or(OK)
}

fn wait_for(stalled: impl Fn(&World) -> bool) {
    let mut world = world();
    while stalled(world.as_ref().unwrap()) {
        world = CHANGED.wait(world).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Drops what a session left in its window, as the end of its process would.
pub fn forget(base: u64, len: u64) {
    let left: Vec<u64> = with(|world| {
        world
            .memory
            .range(base..base + len)
            .map(|(&address, _)| address)
            .collect()
    });
    for address in left {
        remove(address);
    }
}

/// # Safety
/// `place` is the worker's own.
pub unsafe fn put<T>(place: *mut T, value: T) -> Code {
    // SAFETY: the worker's own place.
    unsafe { place.write(value) };
    OK
}

extern "C" fn ctx_create(context: *mut *mut c_void, _flags: u32, device: i32) -> Code {
    if device != 0 {
        return CudaError::INVALID_DEVICE.0;
    }
    let made = make();
    CURRENT.set(made.addr());
    // SAFETY: the worker's own place.
    unsafe { put(context, made) }
}

extern "C" fn ctx_destroy(context: *mut c_void) -> Code {
    end(context, "context")
}

extern "C" fn ctx_set_current(context: *mut c_void) -> Code {
    if !context.is_null() {
        alive(context, "context");
    }
    CURRENT.set(context.addr());
    OK
}

extern "C" fn ctx_get_device(device: *mut i32) -> Code {
    // SAFETY: a place of the worker's.
    unsafe { device.write(0) };
    OK
}

extern "C" fn ctx_synchronize() -> Code {
    code(current().map(|context| {
        wait_for(|world| {
            let mut streams = world.stream_context.iter();
            streams.any(|(stream, owner)| *owner == context && world.is_busy(*stream))
        });
    }))
}

extern "C" fn ctx_get_limit(value: *mut usize, limit: u32) -> Code {
    if let Err(error) = current() {
        return error;
    }
    // SAFETY: the worker's own place.
    unsafe { put(value, limit as usize * 100) }
}

extern "C" fn stream_create(stream: *mut *mut c_void, flags: u32) -> Code {
    if flags > 1 {
        return CudaError::INVALID_VALUE.0;
    }
    match current() {
        Ok(context) => {
            let made = make();
            with(|world| world.stream_context.insert(made.addr(), context));
            // SAFETY: the worker's own place.
            unsafe { put(stream, made) }
        }
        Err(error) => error,
    }
}

extern "C" fn stream_destroy(stream: *mut c_void) -> Code {
    end(stream, "stream")
}

extern "C" fn stream_synchronize(stream: *mut c_void) -> Code {
    if stream.is_null() {
        settle();
    }
    if stream.addr() > 2 {
        alive(stream, "stream");
    }
    wait_for(|world| world.is_busy(stream.addr()));
    OK
}

extern "C" fn stream_query(stream: *mut c_void) -> Code {
    match with(|world| world.is_busy(stream.addr())) {
        true => CudaError::NOT_READY.0,
        false => OK,
    }
}

/// Runs the function on a thread of its own when it is the stream's turn; the stream is busy until the function returns.
extern "C" fn launch_host(stream: *mut c_void, function: *mut c_void, data: *mut c_void) -> Code {
    if stream.addr() > 2 {
        alive(stream, "stream");
    }
    let (stream, data) = (stream.addr(), data.expose_provenance());
    // SAFETY: the worker's own function, of cuda.h's type.
    let function: extern "C" fn(*mut c_void) = unsafe { std::mem::transmute(function) };
    let number = NEXT.fetch_add(16, Ordering::Relaxed) as u64;
    with(|world| world.functions.entry(stream).or_default().push_back(number));
    std::thread::spawn(move || {
        wait_for(|world| {
            let next = world.functions.get(&stream).and_then(VecDeque::front);
            world.stalled.contains_key(&stream) || next != Some(&number)
        });
        function(ptr::with_exposed_provenance_mut(data));
        with(|world| {
            world
                .functions
                .get_mut(&stream)
                .and_then(VecDeque::pop_front)
        });
    });
    OK
}

extern "C" fn graph_create(graph: *mut *mut c_void, _flags: u32) -> Code {
    // SAFETY: the worker's own place.
    unsafe { put(graph, make()) }
}

extern "C" fn graph_destroy(graph: *mut c_void) -> Code {
    end(graph, "graph");
    let kept = with(|world| world.kept.remove(&graph.addr()));
    for (destroy, data) in kept.unwrap_or_default() {
        // SAFETY: the worker's own function, of cuda.h's type.
        let destroy: extern "C" fn(*mut c_void) = unsafe { std::mem::transmute(destroy) };
        destroy(ptr::with_exposed_provenance_mut(data));
    }
    OK
}

extern "C" fn graph_add_node(
    node: *mut *mut c_void,
    graph: *mut c_void,
    dependencies: *const *mut c_void,
    count: usize,
    params: *mut c_void,
) -> Code {
    alive(graph, "graph");
    // SAFETY: the worker passes `count` dependencies, and a CUgraphNodeParams.
    let (before, words) = unsafe {
        (
            slice(dependencies.cast_mut(), count as u32),
            slice(params.cast::<u64>(), 32),
        )
    };
    before.iter().for_each(|node| alive(*node, "node"));
    // The functions of nodes are the worker's own, never the client's.
    assert!(words[0] != 3 || words[2] == crate::calls::host_function::RUN_NODE.addr() as u64);
    // SAFETY: the worker's own place.
    unsafe { put(node, make()) }
}

extern "C" fn object_create(
    object: *mut *mut c_void,
    data: *mut c_void,
    destroy: *mut c_void,
    _references: u32,
    _flags: u32,
) -> Code {
    let made = make();
    let what = (destroy.addr(), data.expose_provenance());
    with(|world| world.objects.insert(made.addr(), what));
    // SAFETY: the worker's own place.
    unsafe { put(object, made) }
}

extern "C" fn graph_retain(
    graph: *mut c_void,
    object: *mut c_void,
    _count: u32,
    _flags: u32,
) -> Code {
    alive(graph, "graph");
    with(|world| {
        let moved = world.objects.remove(&object.addr());
        world.kept.entry(graph.addr()).or_default().extend(moved);
    });
    OK
}

extern "C" fn event_create(event: *mut *mut c_void, _flags: u32) -> Code {
    // SAFETY: the worker's own place.
    unsafe { put(event, make()) }
}

extern "C" fn event_record(event: *mut c_void, stream: *mut c_void) -> Code {
    alive(event, "event");
    let stream = stream.addr();
    with(|world| {
        let functions = world.functions.get(&stream);
        let recorded = Recorded {
            stream,
            stalled: world.stalled.get(&stream).copied(),
            functions: functions.into_iter().flatten().copied().collect(),
        };
        world.recorded.insert(event.addr(), recorded)
    });
    OK
}

/// Of one that was never recorded as of one that is yet to come.
extern "C" fn event_query(event: *mut c_void) -> Code {
    alive(event, "event");
    match with(|world| world.is_ahead(event.addr())) {
        Some(false) => OK,
        _ => CudaError::NOT_READY.0,
    }
}

extern "C" fn event_destroy(event: *mut c_void) -> Code {
    with(|world| world.recorded.remove(&event.addr()));
    end(event, "event")
}

extern "C" fn event_synchronize(event: *mut c_void) -> Code {
    alive(event, "event");
    wait_for(|world| world.is_ahead(event.addr()) == Some(true));
    OK
}

/// Name and parameters (offset, size).
pub type Kernel = (&'static std::ffi::CStr, &'static [(usize, usize)]);

/// `store(address, value)`; `stall(key)` keeps its stream busy until `release(key)`.
pub const KERNELS: [Kernel; 3] = [
    (c"store", &[(0, 8), (8, 4)]),
    (c"stall", &[(0, 8)]),
    (c"release", &[(0, 8)]),
];

/// A function is its module's address and the kernel's number.
fn kernel(function: *mut c_void) -> &'static Kernel {
    alive(
        ptr::without_provenance_mut(function.addr() & !15),
        "module of a function",
    );
    &KERNELS[function.addr() & 15]
}

pub extern "C" fn module_load(
    module: *mut *mut c_void,
    image: *const c_void,
    count: u32,
    options: *mut u32,
    values: *mut *mut c_void,
) -> Code {
    // SAFETY: the worker passes arrays of `count`, and a terminated image.
    let (options, values, image) = unsafe {
        (
            slice(options, count),
            slice(values, count),
            std::ffi::CStr::from_ptr(image.cast()),
        )
    };
    let option = |wanted: u32| options.iter().position(|&option| option == wanted);
    if let (Some(buffer), Some(size)) = (option(5), option(6)) {
        let text: &[u8] = b"not an image that this driver knows\0";
        let len = text.len().min(values[size].addr());
        // SAFETY: the buffer has the length that its option says.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), values[buffer].cast(), len) };
    }
    if image.to_bytes() != IMAGE {
        return CudaError::INVALID_PTX.0;
    }
    // SAFETY: the worker's own place.
    unsafe { put(module, make()) }
}

unsafe fn slice<'a, T>(start: *mut T, count: u32) -> &'a [T] {
    match count {
        0 => &[],
        // SAFETY: the caller's promise.
        count => unsafe { std::slice::from_raw_parts(start, count as usize) },
    }
}

extern "C" fn module_unload(module: *mut c_void) -> Code {
    end(module, "module")
}

pub extern "C" fn module_function(
    function: *mut *mut c_void,
    module: *mut c_void,
    name: *const c_char,
) -> Code {
    alive(module, "module");
    // SAFETY: the worker passes a terminated name.
    let name = unsafe { std::ffi::CStr::from_ptr(name) };
    match KERNELS.iter().position(|kernel| kernel.0 == name) {
        // SAFETY: the worker's own place.
        Some(number) => unsafe {
            put(
                function,
                ptr::without_provenance_mut(module.addr() + number),
            )
        },
        None => CudaError::NOT_FOUND.0,
    }
}

extern "C" fn module_function_count(count: *mut u32, _module: *mut c_void) -> Code {
    // SAFETY: the worker's own place.
    unsafe { put(count, KERNELS.len() as u32) }
}

extern "C" fn module_enumerate(
    functions: *mut *mut c_void,
    count: u32,
    module: *mut c_void,
) -> Code {
    for number in 0..count as usize {
        // SAFETY: the worker has room for `count`.
        unsafe {
            put(
                functions.add(number),
                ptr::without_provenance_mut(module.addr() + number),
            )
        };
    }
    OK
}

pub extern "C" fn func_name(name: *mut *const c_char, function: *mut c_void) -> Code {
    // SAFETY: the worker's own place.
    unsafe { put(name, kernel(function).0.as_ptr()) }
}

pub extern "C" fn func_param(
    function: *mut c_void,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> Code {
    match kernel(function).1.get(index) {
        // SAFETY: the worker's own places.
        Some(&param) => unsafe {
            put(offset, param.0);
            put(size, param.1)
        },
        None => CudaError::INVALID_VALUE.0,
    }
}

pub extern "C" fn func_attribute(value: *mut i32, attribute: u32, function: *mut c_void) -> Code {
    kernel(function);
    match attribute {
        // SAFETY: the worker's own place.
        0..16 => unsafe { put(value, attribute as i32) },
        _ => CudaError::INVALID_VALUE.0,
    }
}

/// Functions are loaded late: one that is not has no attributes.
extern "C" fn func_attribute_if_loaded(
    value: *mut i32,
    attribute: u32,
    function: *mut c_void,
) -> Code {
    match with(|world| world.loaded.contains(&function.addr())) {
        true => func_attribute(value, attribute, function),
        false => CudaError::FUNCTION_NOT_LOADED.0,
    }
}

extern "C" fn func_load(function: *mut c_void) -> Code {
    kernel(function);
    with(|world| world.loaded.insert(function.addr()));
    OK
}

pub extern "C" fn launch(
    function: *mut c_void,
    grid_x: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    stream: *mut c_void,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Code {
    let name = kernel(function).0;
    if let Err(error) = current() {
        return error;
    }
    if grid_x == 0 {
        return CudaError::INVALID_VALUE.0;
    }
    assert!(params.is_null());
    // SAFETY: cuda.h's layout of `extra`: pointer, size, end; each kernel here has parameters, whose size the worker has checked.
    let (first, second) = unsafe {
        let extra = slice(extra, 5);
        assert_eq!(
            (extra[0].addr(), extra[2].addr(), extra[4].addr()),
            (1, 2, 0)
        );
        let bytes = slice(extra[1].cast::<u8>(), *extra[3].cast::<usize>() as u32);
        let mut first = [0; 8];
        first.copy_from_slice(&bytes[..8]);
        (
            u64::from_le_bytes(first),
            bytes[8..].first_chunk::<4>().copied().unwrap_or_default(),
        )
    };
    match name.to_bytes() {
        b"store" => code(at(first, 4, |place| place.copy_from_slice(&second))),
        b"stall" => {
            with(|world| world.stalled.insert(stream.addr(), first));
            OK
        }
        _ => {
            with(|world| world.stalled.retain(|_, key| *key != first));
            OK
        }
    }
}

/// Ends the kernels that stall with this key, as if they had come to their ends.
pub fn release(key: u64) {
    with(|world| world.stalled.retain(|_, other| *other != key));
}

/// The driver.
pub fn driver() -> Driver {
    // None of the functions is exported, so the table starts out empty.
    let mut driver = Driver::from_library(libloading::os::unix::Library::this().into());
    driver.cuCtxCreate_v2 = Some(ctx_create);
    driver.cuCtxDestroy_v2 = Some(ctx_destroy);
    driver.cuCtxSetCurrent = Some(ctx_set_current);
    driver.cuCtxGetDevice = Some(ctx_get_device);
    driver.cuCtxSynchronize = Some(ctx_synchronize);
    driver.cuCtxGetLimit = Some(ctx_get_limit);
    driver.cuStreamCreate = Some(stream_create);
    driver.cuStreamDestroy_v2 = Some(stream_destroy);
    driver.cuStreamSynchronize = Some(stream_synchronize);
    driver.cuStreamQuery = Some(stream_query);
    driver.cuLaunchHostFunc = Some(launch_host);
    driver.cuGraphCreate = Some(graph_create);
    driver.cuGraphDestroy = Some(graph_destroy);
    driver.cuGraphAddNode = Some(graph_add_node);
    driver.cuUserObjectCreate = Some(object_create);
    driver.cuGraphRetainUserObject = Some(graph_retain);
    driver.cuEventCreate = Some(event_create);
    driver.cuEventRecord = Some(event_record);
    driver.cuEventQuery = Some(event_query);
    driver.cuEventSynchronize = Some(event_synchronize);
    driver.cuEventDestroy_v2 = Some(event_destroy);
    driver.cuModuleLoadDataEx = Some(module_load);
    driver.cuModuleUnload = Some(module_unload);
    driver.cuModuleGetFunction = Some(module_function);
    driver.cuModuleGetFunctionCount = Some(module_function_count);
    driver.cuModuleEnumerateFunctions = Some(module_enumerate);
    driver.cuFuncGetName = Some(func_name);
    driver.cuFuncGetParamInfo = Some(func_param);
    driver.cuFuncGetAttribute = Some(func_attribute_if_loaded);
    driver.cuFuncLoad = Some(func_load);
    driver.cuLaunchKernel = Some(launch);
    super::fake_memory::add_to(&mut driver);
    super::fake_ipc::add_to(&mut driver);
    super::fake_arrays::add_to(&mut driver);
    super::fake_textures::add_to(&mut driver);
    super::fake_code::add(&mut driver);
    driver
}
