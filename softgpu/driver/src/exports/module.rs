//! Modules and functions.

use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use super::{Handle, call};
use crate::abi::{In, Out};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::module::{Function, Module};
use crate::runtime::Runtime;
use crate::say;

const INFO_LOG: u32 = 3;
const INFO_LOG_SIZE: u32 = 4;
const ERROR_LOG: u32 = 5;
const ERROR_LOG_SIZE: u32 = 6;
const MAX_OPTIONS: u32 = 64;

/// Where the program wants the compiler's messages.
#[derive(Default)]
struct Log {
    buffer: u64,
    size: usize,
    /// The option whose value becomes the number of bytes written.
    size_at: Option<usize>,
}

impl Log {
    fn write(&self, values: Out<u64>, text: &str) {
        if self.buffer != 0 && self.size > 0 {
            // SAFETY: the C caller's buffer has the size that it gave.
            let buffer = unsafe { Out::<c_char>::at(self.buffer) };
            let _ = buffer.text(self.size, text);
        }
        if let Some(at) = self.size_at {
            let _ = values.put_at(at, text.len().min(self.size.saturating_sub(1)) as u64);
        }
    }
}

fn load(
    runtime: &Runtime,
    module: Out<Handle>,
    image: In<c_void>,
    options: &[u32],
    values: Out<u64>,
) -> Result {
    module.check()?;
    let context = Context::current()?;
    let (mut info, mut errors) = (Log::default(), Log::default());
    for (at, &option) in options.iter().enumerate() {
        let value = values.read_at(at)?;
        match option {
            INFO_LOG => info.buffer = value,
            INFO_LOG_SIZE => (info.size, info.size_at) = (value as u32 as usize, Some(at)),
            ERROR_LOG => errors.buffer = value,
            ERROR_LOG_SIZE => (errors.size, errors.size_at) = (value as u32 as usize, Some(at)),
            // Others tune a compiler that is not there.
            _ => {}
        }
    }
    info.write(values, "");
    match Module::load(runtime, &context, image) {
        Ok(loaded) => {
            errors.write(values, "");
            module.put(loaded.handle)
        }
        Err(refusal) => {
            say!("a module cannot be loaded: {}", refusal.message);
            errors.write(values, &refusal.message);
            Err(refusal.error)
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoad(module: Out<Handle>, path: In<c_char>) -> u32 {
    call(|runtime| {
        use std::os::unix::ffi::OsStrExt;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.text()?.to_bytes()));
        let mut image = std::fs::read(path).map_err(|_| Error::ERROR_FILE_NOT_FOUND)?;
        // A text needs its terminator, and what looks at a header needs its bytes.
        image.extend_from_slice(&[0; 16]);
        // SAFETY: the bytes live until the call ends.
        let image = unsafe { In::at(image.as_ptr() as u64) };
        load(runtime, module, image, &[], Out::null())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(module: Out<Handle>, image: In<c_void>) -> u32 {
    call(|runtime| load(runtime, module, image, &[], Out::null()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadDataEx(
    module: Out<Handle>,
    image: In<c_void>,
    count: u32,
    options: In<u32>,
    values: Out<u64>,
) -> u32 {
    call(|runtime| {
        if count > MAX_OPTIONS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        load(
            runtime,
            module,
            image,
            &options.list(count as usize)?,
            values,
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadFatBinary(module: Out<Handle>, image: In<c_void>) -> u32 {
    cuModuleLoadData(module, image)
}

fn module_of(runtime: &Runtime, handle: Handle) -> Result<Arc<Module>> {
    let module = runtime.modules.get(handle)?;
    module.context.check()?;
    Ok(module)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: Handle) -> u32 {
    call(|runtime| runtime.modules.take(module)?.unload(runtime))
}

fn name_of<'a>(name: In<c_char>) -> Result<&'a str> {
    name.text()?.to_str().map_err(|_| Error::ERROR_NOT_FOUND)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(
    function: Out<Handle>,
    module: Handle,
    name: In<c_char>,
) -> u32 {
    call(|runtime| {
        function.check()?;
        let found = module_of(runtime, module)?.function_by_name(runtime, name_of(name)?)?;
        found.prepare()?;
        function.put(found.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetGlobal_v2(
    address: Out<u64>,
    bytes: Out<usize>,
    module: Handle,
    name: In<c_char>,
) -> u32 {
    call(|runtime| {
        let (at, size) = module_of(runtime, module)?.global(name_of(name)?)?;
        address.put_if(at);
        bytes.put_if(size as usize);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunctionCount(count: Out<u32>, module: Handle) -> u32 {
    call(|runtime| count.put(module_of(runtime, module)?.program.kernels().len() as u32))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleEnumerateFunctions(
    functions: Out<Handle>,
    count: u32,
    module: Handle,
) -> u32 {
    call(|runtime| {
        functions.check()?;
        let module = module_of(runtime, module)?;
        let have = module.program.kernels().len();
        for index in 0..have.min(count as usize) {
            functions.put_at(index, module.function(runtime, index).handle)?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetLoadingMode(mode: Out<u32>) -> u32 {
    // CU_MODULE_LAZY_LOADING: kernels are compiled when they are first asked for.
    call(|_| mode.put(2))
}

// Functions.

fn function_of(runtime: &Runtime, handle: Handle) -> Result<Arc<Function>> {
    let function = runtime.functions.get(handle)?;
    function.module.context.check()?;
    Ok(function)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetAttribute(value: Out<i32>, attribute: u32, function: Handle) -> u32 {
    call(|runtime| {
        let function = function_of(runtime, function)?;
        let info = function.info();
        let (major, minor) = function.module.context.device.capability;
        let (ptx_major, ptx_minor) = function.module.ptx_version;
        let found: u32 = match attribute {
            0 => info.max_threads,
            1 => info.static_shared,
            2 => 0, // CONST_SIZE_BYTES: constants are the module's
            3 => info.local_bytes,
            4 => info.registers,
            5 => ptx_major * 10 + ptx_minor,
            6 => major * 10 + minor,
            7 => 0, // CACHE_MODE_CA
            8 => function.max_dynamic_shared(),
            9 => function.carveout.load(Relaxed),
            // Clusters: none.
            10..=15 => 0,
            _ => return Err(Error::ERROR_INVALID_VALUE),
        };
        value.put(found as i32)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(function: Handle, attribute: u32, value: i32) -> u32 {
    call(|runtime| {
        let function = function_of(runtime, function)?;
        let invalid = Error::ERROR_INVALID_VALUE;
        match attribute {
            8 => function.set_max_dynamic_shared(u32::try_from(value).map_err(|_| invalid)?),
            9 if (-1..=100).contains(&value) => {
                function.carveout.store(value as u32, Relaxed);
                Ok(())
            }
            _ => Err(invalid),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetCacheConfig(function: Handle, config: u32) -> u32 {
    call(|runtime| {
        let _ = function_of(runtime, function)?;
        if config > 3 {
            Err(Error::ERROR_INVALID_VALUE)
        } else {
            Ok(())
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetName(name: Out<*const c_char>, function: Handle) -> u32 {
    // The text lives as long as the function's module.
    call(|runtime| name.put(function_of(runtime, function)?.c_name().as_ptr()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetModule(module: Out<Handle>, function: Handle) -> u32 {
    call(|runtime| module.put(function_of(runtime, function)?.module.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetParamInfo(
    function: Handle,
    index: usize,
    offset: Out<usize>,
    size: Out<usize>,
) -> u32 {
    call(|runtime| {
        offset.check()?;
        let function = function_of(runtime, function)?;
        let param = function
            .info()
            .params
            .get(index)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        size.put_if(param.size as usize);
        offset.put(param.offset as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetParamCount(function: Handle, count: Out<usize>) -> u32 {
    call(|runtime| count.put(function_of(runtime, function)?.info().params.len()))
}

/// Compiles the kernel now rather than at its first launch.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncLoad(function: Handle) -> u32 {
    call(|runtime| function_of(runtime, function)?.prepare())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncIsLoaded(state: Out<u32>, function: Handle) -> u32 {
    call(|runtime| state.put(u32::from(function_of(runtime, function)?.is_prepared())))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: Out<i32>,
    function: Handle,
    block_size: i32,
    dynamic_shared: usize,
) -> u32 {
    call(|runtime| {
        let function = function_of(runtime, function)?;
        let threads = u32::try_from(block_size)
            .ok()
            .filter(|&n| n > 0)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        blocks.put(function.occupancy(threads, dynamic_shared as u64) as i32)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    blocks: Out<i32>,
    function: Handle,
    block_size: i32,
    dynamic_shared: usize,
    flags: u32,
) -> u32 {
    match flags {
        0 | 1 => cuOccupancyMaxActiveBlocksPerMultiprocessor(
            blocks,
            function,
            block_size,
            dynamic_shared,
        ),
        _ => Error::ERROR_INVALID_VALUE.0,
    }
}

/// CUoccupancyB2DSize: dynamic shared memory for a block size.
type SharedForBlock = Option<extern "C" fn(i32) -> usize>;

#[unsafe(no_mangle)]
pub extern "C" fn cuOccupancyMaxPotentialBlockSize(
    min_grid: Out<i32>,
    block_size: Out<i32>,
    function: Handle,
    shared_for: SharedForBlock,
    dynamic_shared: usize,
    limit: i32,
) -> u32 {
    call(|runtime| {
        let function = function_of(runtime, function)?;
        let most = function.info().max_threads;
        let most = if limit > 0 {
            most.min(limit as u32)
        } else {
            most
        };
        let mut best = (0, 0, 0);
        for threads in (1..=most.div_ceil(32))
            .rev()
            .map(|warps| (warps * 32).min(most))
        {
            let shared = shared_for.map_or(dynamic_shared, |f| f(threads as i32)) as u64;
            let blocks = function.occupancy(threads, shared);
            if blocks * threads > best.0 {
                best = (blocks * threads, threads, blocks);
            }
        }
        let grid = best.2 * function.module.context.device.multiprocessors();
        min_grid.put(grid as i32).and(block_size.put(best.1 as i32))
    })
}
