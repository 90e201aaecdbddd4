use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cudarc::driver::sys::{CUlaunchAttribute, CUlaunchConfig};
use rgpu_proto::CudaError;
use rgpu_proto::launch::{decode, has_event};

use crate::gate::{Key, Work};
use crate::handles::Kind;
use crate::state::State;

// cuda.h: CU_LAUNCH_PARAM_END, CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE.
const END: *mut c_void = ptr::null_mut();
const BUFFER_POINTER: *mut c_void = ptr::without_provenance_mut(1);
const BUFFER_SIZE: *mut c_void = ptr::without_provenance_mut(2);

/// Refuses a parameter buffer that is shorter or longer than the function's.
pub fn check_params(state: &State, function: *mut c_void, params: &[u8]) -> Result<(), CudaError> {
    let functions = state.shared.functions();
    let known = functions.get(&function.addr());
    match known.and_then(|info| info.params.as_ref()) {
        Some(known) if known.bytes != params.len() => Err(CudaError::INVALID_VALUE),
        _ => Ok(()),
    }
}

/// Offset and size of each parameter, if the driver could tell.
pub fn layout(state: &State, function: *mut c_void) -> Option<Arc<[(u32, u32)]>> {
    let functions = state.shared.functions();
    let known = functions.get(&function.addr())?;
    Some(known.params.as_ref()?.layout.clone())
}

/// Calls `body` with the `extra` argument that hands over the whole parameter buffer. The driver copies the buffer during the call.
pub fn with_extra<T>(params: &[u8], body: impl FnOnce(*mut *mut c_void) -> T) -> T {
    if params.is_empty() {
        return body(ptr::null_mut());
    }
    let mut size = params.len();
    let mut extra = [
        BUFFER_POINTER,
        params.as_ptr().cast_mut().cast(),
        BUFFER_SIZE,
        (&raw mut size).cast(),
        END,
    ];
    body(extra.as_mut_ptr())
}

/// Calls `body` with a list of pointers to the parameters and no `extra` argument: nodes of graphs that were made with `extra` take no
/// attributes (580.159). A driver that cannot tell where the parameters are gets `extra` all the same.
pub fn with_values<T>(
    state: &State,
    function: *mut c_void,
    params: &[u8],
    body: impl FnOnce(*mut *mut c_void, *mut *mut c_void) -> T,
) -> T {
    let places = |layout: Arc<[(u32, u32)]>| {
        let place = |&(offset, size): &(u32, u32)| {
            let bytes = params.get(offset as usize..)?.get(..size as usize)?;
            Some(bytes.as_ptr().cast_mut().cast())
        };
        layout.iter().map(place).collect::<Option<Vec<_>>>()
    };
    match layout(state, function).and_then(places) {
        Some(mut values) => body(values.as_mut_ptr(), ptr::null_mut()),
        None => with_extra(params, |extra| body(ptr::null_mut(), extra)),
    }
}

/// Launches of one function take as long as others with as many blocks.
fn key(function: *mut c_void, grid: [u32; 3]) -> Key {
    let blocks = grid
        .map(|side| side as usize)
        .into_iter()
        .product::<usize>();
    function.addr() ^ blocks.rotate_left(32)
}

#[expect(clippy::too_many_arguments, reason = "cuLaunchKernel's own")]
pub fn rgpuLaunch(
    state: &State,
    function: *mut c_void,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    stream: *mut c_void,
    params: &[u8],
) -> Result<(), CudaError> {
    check_params(state, function, params)?;
    let like = Work::Like(key(function, [grid_x, grid_y, grid_z]));
    let _turn = state.work(stream, like, false)?;
    state
        .shared
        .counters
        .launches
        .fetch_add(1, Ordering::Relaxed);
    with_extra(params, |extra| {
        // SAFETY: handles are the driver's own, `extra` describes a buffer of the length that the function takes.
        unsafe {
            driver_call!(state.driver.cuLaunchKernel(
                function,
                grid_x,
                grid_y,
                grid_z,
                block_x,
                block_y,
                block_z,
                shared_bytes,
                stream,
                ptr::null_mut(),
                extra
            ))
        }
    })
}

/// Grid, block and dynamic shared memory.
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
}

/// Attributes for the driver: id and value as words, which need not be values of cuda.h's enums.
pub struct Attributes(Vec<[u64; ATTRIBUTE_WORDS]>);

const ATTRIBUTE_WORDS: usize = size_of::<CUlaunchAttribute>() / 8;

impl Attributes {
    /// From the client's, with its events' ids turned into the driver's events.
    pub fn translate(state: &State, encoded: &[u8]) -> Result<Attributes, CudaError> {
        let attributes = decode(encoded).ok_or(CudaError::INVALID_VALUE)?;
        let translated = attributes.into_iter().map(|(id, mut value)| {
            if has_event(id) {
                value[0] = state.handles.get(Kind::Event, value[0])?.addr() as u64;
            }
            let mut words = [0; ATTRIBUTE_WORDS];
            words[0] = u64::from(id);
            words[1..5].copy_from_slice(&value);
            Ok(words)
        });
        Ok(Attributes(translated.collect::<Result<_, _>>()?))
    }

    /// A configuration that leads to these attributes.
    pub fn config(&mut self, shape: &Shape, stream: *mut c_void) -> CUlaunchConfig {
        let ([gx, gy, gz], [bx, by, bz]) = (shape.grid, shape.block);
        CUlaunchConfig {
            gridDimX: gx,
            gridDimY: gy,
            gridDimZ: gz,
            blockDimX: bx,
            blockDimY: by,
            blockDimZ: bz,
            sharedMemBytes: shape.shared_bytes,
            hStream: stream.cast(),
            attrs: self.0.as_mut_ptr().cast(),
            numAttrs: self.0.len() as u32,
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "a launch's own")]
pub fn rgpuLaunchEx(
    state: &State,
    function: *mut c_void,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    shared_bytes: u32,
    stream: *mut c_void,
    attributes: &[u8],
    params: &[u8],
) -> Result<(), CudaError> {
    check_params(state, function, params)?;
    let mut attributes = Attributes::translate(state, attributes)?;
    let like = Work::Like(key(function, [grid_x, grid_y, grid_z]));
    let _turn = state.work(stream, like, false)?;
    let counters = &state.shared.counters;
    counters.launches.fetch_add(1, Ordering::Relaxed);
    let shape = Shape {
        grid: [grid_x, grid_y, grid_z],
        block: [block_x, block_y, block_z],
        shared_bytes,
    };
    let config = attributes.config(&shape, stream);
    with_extra(params, |extra| {
        // SAFETY: handles are the driver's own, the configuration's attributes live until here, and `extra` describes a buffer of the length
        // that the function takes.
        unsafe {
            driver_call!(state.driver.cuLaunchKernelEx(
                (&raw const config).cast(),
                function,
                ptr::null_mut(),
                extra
            ))
        }
    })
}
