//! The fake driver's linkers and libraries, whose kernels are those of its modules, and launches with attributes.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use cudarc::driver::sys::CUlaunchConfig;
use rgpu_proto::CudaError;

use super::fake::{
    Code, IMAGE, KERNELS, OK, alive, current, end, func_attribute, func_name, func_param, launch,
    make, module_function, module_load, put,
};
use crate::driver::Driver;

/// The modules of each library, by context.
static MODULES: Mutex<Vec<(usize, HashMap<usize, usize>)>> = Mutex::new(Vec::new());

fn modules() -> std::sync::MutexGuard<'static, Vec<(usize, HashMap<usize, usize>)>> {
    MODULES.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn link_create(
    _count: u32,
    _options: *mut u32,
    _values: *mut *mut c_void,
    state: *mut *mut c_void,
) -> Code {
    match current() {
        // SAFETY: the worker's own place.
        Ok(_) => unsafe { put(state, make()) },
        Err(error) => error,
    }
}

extern "C" fn link_add(
    state: *mut c_void,
    _kind: u32,
    data: *mut c_void,
    size: usize,
    name: *const c_char,
    _count: u32,
    _options: *mut u32,
    _values: *mut *mut c_void,
) -> Code {
    alive(state, "linker");
    // SAFETY: the worker passes a terminated name and `size` bytes.
    let (name, data) = unsafe {
        (
            CStr::from_ptr(name),
            std::slice::from_raw_parts(data.cast::<u8>(), size),
        )
    };
    if name.is_empty() || data.is_empty() {
        return CudaError::INVALID_VALUE.0;
    }
    OK
}

extern "C" fn link_complete(state: *mut c_void, image: *mut *mut c_void, size: *mut usize) -> Code {
    alive(state, "linker");
    // SAFETY: the worker's own places.
    unsafe {
        put(image, IMAGE.as_ptr().cast_mut().cast());
        put(size, IMAGE.len())
    }
}

extern "C" fn link_destroy(state: *mut c_void) -> Code {
    end(state, "linker")
}

extern "C" fn library_load(
    library: *mut *mut c_void,
    code: *const c_void,
    options: *mut u32,
    values: *mut *mut c_void,
    count: u32,
    _: *mut u32,
    _: *mut *mut c_void,
    _: u32,
) -> Code {
    let result = module_load(library, code, count, options, values);
    if result == OK {
        // SAFETY: it was written above.
        let address = unsafe { *library }.addr();
        modules().push((address, HashMap::new()));
    }
    result
}

extern "C" fn library_unload(library: *mut c_void) -> Code {
    let mut modules = modules();
    let at = modules.iter().position(|(key, _)| *key == library.addr());
    let (_, own) = modules.swap_remove(at.expect("the worker ended a dead library"));
    for module in own.into_values() {
        end(ptr::without_provenance_mut(module), "library's module");
    }
    end(library, "library")
}

extern "C" fn library_module(module: *mut *mut c_void, library: *mut c_void) -> Code {
    alive(library, "library");
    let context = match current() {
        Ok(context) => context,
        Err(error) => return error,
    };
    let mut modules = modules();
    let own = modules.iter_mut().find(|(key, _)| *key == library.addr());
    let (_, own) = own.expect("a library that is alive");
    let address = own.entry(context).or_insert_with(|| make().addr());
    // SAFETY: the worker's own place.
    unsafe { put(module, ptr::without_provenance_mut(*address)) }
}

extern "C" fn kernel_count(count: *mut u32, library: *mut c_void) -> Code {
    alive(library, "library");
    // SAFETY: the worker's own place.
    unsafe { put(count, KERNELS.len() as u32) }
}

extern "C" fn enumerate(kernels: *mut *mut c_void, count: u32, library: *mut c_void) -> Code {
    for number in 0..count as usize {
        // SAFETY: the worker has room for `count`.
        unsafe {
            put(
                kernels.add(number),
                ptr::without_provenance_mut(library.addr() + number),
            )
        };
    }
    OK
}

/// As NVIDIA's, it loads the kernel for that, and has no place for it in a thread without a context.
extern "C" fn kernel_param(
    kernel: *mut c_void,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> Code {
    match current() {
        Ok(_) => func_param(kernel, index, offset, size),
        Err(error) => error,
    }
}

extern "C" fn kernel_attribute(
    value: *mut i32,
    attribute: u32,
    kernel: *mut c_void,
    _device: i32,
) -> Code {
    func_attribute(value, attribute, kernel)
}

extern "C" fn occupancy(
    blocks: *mut i32,
    function: *mut c_void,
    threads: i32,
    _shared: usize,
    _flags: u32,
) -> Code {
    let mut name = ptr::null();
    func_name(&mut name, function);
    match threads {
        // SAFETY: the worker's own place.
        1..=1024 => unsafe { put(blocks, 1024 / threads) },
        _ => CudaError::INVALID_VALUE.0,
    }
}

extern "C" fn launch_ex(
    config: *const c_void,
    function: *mut c_void,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Code {
    // SAFETY: the worker passes a configuration with as many attributes as it says, each of 72 bytes that begin with the id.
    let config = unsafe { &*config.cast::<CUlaunchConfig>() };
    for at in 0..config.numAttrs as usize {
        // SAFETY: as above.
        let id = unsafe { config.attrs.cast::<u8>().add(at * 72).cast::<u32>().read() };
        assert!(
            rgpu_proto::launch::is_served(id),
            "attribute {id} came through"
        );
    }
    launch(
        function,
        config.gridDimX,
        1,
        1,
        config.blockDimX,
        1,
        1,
        0,
        config.hStream.cast(),
        params,
        extra,
    )
}

pub fn add(driver: &mut Driver) {
    driver.cuLinkCreate_v2 = Some(link_create);
    driver.cuLinkAddData_v2 = Some(link_add);
    driver.cuLinkComplete = Some(link_complete);
    driver.cuLinkDestroy = Some(link_destroy);
    driver.cuLibraryLoadData = Some(library_load);
    driver.cuLibraryUnload = Some(library_unload);
    driver.cuLibraryGetModule = Some(library_module);
    driver.cuLibraryGetKernelCount = Some(kernel_count);
    driver.cuLibraryEnumerateKernels = Some(enumerate);
    driver.cuLibraryGetKernel = Some(module_function);
    driver.cuKernelGetName = Some(func_name);
    driver.cuKernelGetParamInfo = Some(kernel_param);
    driver.cuKernelGetAttribute = Some(kernel_attribute);
    driver.cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags = Some(occupancy);
    driver.cuLaunchKernelEx = Some(launch_ex);
}
