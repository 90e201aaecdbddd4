//! Libraries and their kernels.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::module::{name_of, read_image};
use super::{Handle, call};
use crate::abi::{In, Out};
use crate::code::Code;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::jit::Options;
use crate::library::{Kernel, Library};
use crate::runtime::Runtime;
use crate::say;

/// CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE, CU_LIBRARY_BINARY_IS_PRESERVED.
const LIBRARY_OPTIONS: u32 = 2;

fn check_options(count: u32, options: In<u32>) -> Result {
    if count > LIBRARY_OPTIONS
        || options
            .list(count as usize)?
            .iter()
            .any(|&option| option >= LIBRARY_OPTIONS)
    {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    Ok(())
}

fn load(
    runtime: &Runtime,
    library: Out<Handle>,
    image: In<c_void>,
    mut options: Options,
) -> Result {
    let (major, minor) = runtime.config.capability;
    match Code::read(image, major * 10 + minor, options.max_registers) {
        Ok(code) => {
            options.write();
            library.put(Library::load(runtime, code).handle)
        }
        Err(refusal) => {
            say!("a library cannot be loaded: {}", refusal.message);
            options.complain(&refusal.message);
            options.write();
            Err(refusal.error)
        }
    }
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // cuda.h's signature
pub extern "C" fn cuLibraryLoadData(
    library: Out<Handle>,
    image: In<c_void>,
    options: In<u32>,
    values: Out<u64>,
    count: u32,
    library_options: In<u32>,
    library_values: Out<u64>,
    library_count: u32,
) -> u32 {
    call(|runtime| {
        library.check()?;
        let _ = library_values;
        check_options(library_count, library_options)?;
        load(
            runtime,
            library,
            image,
            Options::read(count, options, values)?,
        )
    })
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // cuda.h's signature
pub extern "C" fn cuLibraryLoadFromFile(
    library: Out<Handle>,
    path: In<c_char>,
    options: In<u32>,
    values: Out<u64>,
    count: u32,
    library_options: In<u32>,
    library_values: Out<u64>,
    library_count: u32,
) -> u32 {
    call(|runtime| {
        library.check()?;
        let _ = library_values;
        check_options(library_count, library_options)?;
        let options = Options::read(count, options, values)?;
        let image = read_image(path)?;
        load(runtime, library, In::of_slice(&image).cast(), options)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryUnload(library: Handle) -> u32 {
    call(|runtime| runtime.libraries.take(library)?.unload(runtime))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetKernel(
    kernel: Out<Handle>,
    library: Handle,
    name: In<c_char>,
) -> u32 {
    call(|runtime| {
        kernel.check()?;
        let (library, name) = (runtime.libraries.get(library)?, name_of(name)?);
        let found = library
            .kernels
            .iter()
            .find(|kernel| kernel.name.to_str() == Ok(name));
        kernel.put(found.ok_or(Error::ERROR_NOT_FOUND)?.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetKernelCount(count: Out<u32>, library: Handle) -> u32 {
    call(|runtime| count.put(runtime.libraries.get(library)?.kernels.len() as u32))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryEnumerateKernels(
    kernels: Out<Handle>,
    count: u32,
    library: Handle,
) -> u32 {
    call(|runtime| {
        kernels.check()?;
        let library = runtime.libraries.get(library)?;
        for (at, kernel) in library.kernels.iter().take(count as usize).enumerate() {
            kernels.put_at(at, kernel.handle)?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetModule(module: Out<Handle>, library: Handle) -> u32 {
    call(|runtime| {
        module.check()?;
        let library = runtime.libraries.get(library)?;
        module.put(library.module(runtime, &Context::current()?)?.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetGlobal(
    address: Out<u64>,
    bytes: Out<usize>,
    library: Handle,
    name: In<c_char>,
) -> u32 {
    call(|runtime| {
        let library = runtime.libraries.get(library)?;
        let module = library.module(runtime, &Context::current()?)?;
        let (at, size) = module.global(name_of(name)?)?;
        address.put_if(at);
        bytes.put_if(size as usize);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetManaged(
    address: Out<u64>,
    bytes: Out<usize>,
    library: Handle,
    name: In<c_char>,
) -> u32 {
    call(|runtime| {
        // One of them may be NULL.
        address.check().or_else(|_| bytes.check())?;
        let library = runtime.libraries.get(library)?;
        let (at, size) = library.managed(runtime, name_of(name)?)?;
        address.put_if(at);
        bytes.put_if(size as usize);
        Ok(())
    })
}

/// Functions that have one address for host and device: none.
#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetUnifiedFunction(
    function: Out<u64>,
    library: Handle,
    symbol: In<c_char>,
) -> u32 {
    call(|runtime| {
        function.check()?;
        runtime.libraries.get(library)?;
        name_of(symbol)?;
        Err(Error::ERROR_NOT_FOUND)
    })
}

// Kernels.

fn kernel_of(runtime: &Runtime, kernel: Handle) -> Result<Arc<Kernel>> {
    runtime.kernels.get(kernel)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetFunction(function: Out<Handle>, kernel: Handle) -> u32 {
    call(|runtime| {
        function.check()?;
        let kernel = kernel_of(runtime, kernel)?;
        let found = kernel.function(runtime, &Context::current()?)?;
        found.prepare()?;
        function.put(found.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetLibrary(library: Out<Handle>, kernel: Handle) -> u32 {
    call(|runtime| library.put(kernel_of(runtime, kernel)?.library))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetAttribute(
    value: Out<i32>,
    attribute: u32,
    kernel: Handle,
    device: i32,
) -> u32 {
    call(|runtime| {
        value.check()?;
        value.put(kernel_of(runtime, kernel)?.attribute(runtime, device, attribute)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelSetAttribute(
    attribute: u32,
    value: i32,
    kernel: Handle,
    device: i32,
) -> u32 {
    call(|runtime| kernel_of(runtime, kernel)?.set(runtime, device, attribute, value))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelSetCacheConfig(kernel: Handle, config: u32, device: i32) -> u32 {
    call(|runtime| {
        kernel_of(runtime, kernel)?;
        runtime.device(device)?;
        if config > 3 {
            Err(Error::ERROR_INVALID_VALUE)
        } else {
            Ok(())
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetName(name: Out<*const c_char>, kernel: Handle) -> u32 {
    // The text lives as long as the library.
    call(|runtime| name.put(kernel_of(runtime, kernel)?.name.as_ptr()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetParamInfo(
    kernel: Handle,
    index: usize,
    offset: Out<usize>,
    size: Out<usize>,
) -> u32 {
    call(|runtime| {
        offset.check()?;
        let kernel = kernel_of(runtime, kernel)?;
        let param = kernel.info().params.get(index);
        let param = param.ok_or(Error::ERROR_INVALID_VALUE)?;
        size.put_if(param.size as usize);
        offset.put(param.offset as usize)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetParamCount(kernel: Handle, count: Out<usize>) -> u32 {
    call(|runtime| count.put(kernel_of(runtime, kernel)?.info().params.len()))
}
