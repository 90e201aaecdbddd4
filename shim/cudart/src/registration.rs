//! What code that nvcc compiled calls: registration before main, the configuration between a `<<<…>>>` and its stub, launches.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};

use per_thread::PerThread;

use crate::abi::{Dim3, Handle};
use crate::error::{Error, Result};
use crate::registry::{self, Kind};
use crate::{Runtime, execution};

/// Nothing of CUDA may begin here: this runs before main, and in programs that never use a device.
pub unsafe fn __cudaRegisterFatBinary(_: &Runtime, wrapper: *mut c_void) -> *mut *mut c_void {
    // The handle is an address that is the binary's alone.
    let handle = Box::into_raw(Box::new(wrapper));
    registry::add_binary(handle as usize, wrapper as usize);
    handle
}

pub fn __cudaRegisterFatBinaryEnd(_: &Runtime, _handle: *mut *mut c_void) {}

/// At exit, or when a library goes. A driver that is gone already has let the code go.
pub unsafe fn __cudaUnregisterFatBinary(runtime: &Runtime, handle: *mut *mut c_void) {
    if let Some(library) = registry::remove_binary(handle as usize)
        && let Ok(cu) = runtime.driver()
    {
        let _ = cu.cuLibraryUnload(library);
    }
}

pub unsafe fn __cudaRegisterFunction(
    _: &Runtime,
    handle: *mut *mut c_void,
    host: *const c_char,
    _device: *mut c_char,
    name: *const c_char,
    _threads: i32,
    _: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
    _: *mut i32,
) {
    registry::add_function(handle as usize, host as usize, name);
}

pub unsafe fn __cudaRegisterVar(
    _: &Runtime,
    handle: *mut *mut c_void,
    host: *mut c_char,
    _device: *mut c_char,
    name: *const c_char,
    _extern: i32,
    size: usize,
    _constant: i32,
    _global: i32,
) {
    registry::add_variable(handle as usize, host as usize, name, size, false);
}

/// `host`: where the pointer to the variable's memory goes.
pub unsafe fn __cudaRegisterManagedVar(
    _: &Runtime,
    handle: *mut *mut c_void,
    host: *mut *mut c_void,
    _device: *mut c_char,
    name: *const c_char,
    _extern: i32,
    size: usize,
    _constant: i32,
    _global: i32,
) {
    registry::add_variable(handle as usize, host as usize, name, size, true);
}

/// Of devices that read the host's variables where they are, which needs the host's page tables.
pub fn __cudaRegisterHostVar(
    _: &Runtime,
    _handle: *mut *mut c_void,
    _name: *const c_char,
    _host: *mut c_char,
    _size: usize,
) {
    crate::refused("__cudaRegisterHostVar");
}

/// Before the host's first access to a managed variable; says whether the pointers are there.
pub unsafe fn __cudaInitModule(runtime: &Runtime, handle: *mut *mut c_void) -> c_char {
    let result = crate::enter(|| registry::load(runtime.context()?, handle as usize));
    (result == 0) as c_char
}

#[derive(Clone, Copy)]
struct Configuration {
    grid: Dim3,
    block: Dim3,
    shared: usize,
    stream: Handle,
}

/// Exit handlers launch too.
static CONFIGURATIONS: PerThread<RefCell<Vec<Configuration>>> = PerThread::new(RefCell::default);

/// 0: the launch goes on.
pub fn __cudaPushCallConfiguration(
    _: &Runtime,
    grid: Dim3,
    block: Dim3,
    shared: usize,
    stream: Handle,
) -> u32 {
    let configuration = Configuration {
        grid,
        block,
        shared,
        stream,
    };
    let pushed = CONFIGURATIONS.try_with(|all| all.borrow_mut().push(configuration));
    pushed.is_none() as u32
}

pub unsafe fn __cudaPopCallConfiguration(
    _: &Runtime,
    grid: *mut Dim3,
    block: *mut Dim3,
    shared: *mut usize,
    stream: *mut c_void,
) -> Result {
    let popped = CONFIGURATIONS.try_with(|all| all.borrow_mut().pop());
    let configuration = popped.flatten().ok_or(Error::MISSING_CONFIGURATION)?;
    grid.write(configuration.grid);
    block.write(configuration.block);
    shared.write(configuration.shared);
    stream.cast::<Handle>().write(configuration.stream);
    Ok(())
}

/// In the stubs of nvcc 12.8 and later: once for each kernel. Nothing is loaded yet, so the handle is the host address, which is
/// good for every device and for any time.
pub unsafe fn __cudaGetKernel(_: &Runtime, kernel: *mut Handle, host: *const c_void) -> Result {
    kernel.write(host.cast_mut());
    Ok(())
}

pub unsafe fn __cudaLaunchKernel(
    runtime: &Runtime,
    kernel: Handle,
    grid: Dim3,
    block: Dim3,
    args: *mut *mut c_void,
    shared: usize,
    stream: Handle,
) -> Result {
    execution::cudaLaunchKernel(runtime, kernel, grid, block, args, shared, stream)
}

/// Loads the kernel of a host function.
pub unsafe fn kernel(runtime: &Runtime, host: *const c_void) -> Result<Handle> {
    let code = registry::code(runtime.context()?, host)?;
    match code.kind {
        Kind::Kernel => Ok(code.handle),
        Kind::Function => Err(Error::INVALID_DEVICE_FUNCTION),
    }
}
