//! Modules and functions.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::{Handle, call};
use crate::abi::{In, Out};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::jit::Options;
use crate::module::Module;
use crate::runtime::Runtime;
use crate::say;

fn load(runtime: &Runtime, module: Out<Handle>, image: In<c_void>, mut options: Options) -> Result {
    module.check()?;
    let context = Context::current()?;
    match Module::load(runtime, &context, image, options.max_registers) {
        Ok(loaded) => {
            options.write();
            module.put(loaded.handle)
        }
        Err(refusal) => {
            say!("a module cannot be loaded: {}", refusal.message);
            options.complain(&refusal.message);
            options.write();
            Err(refusal.error)
        }
    }
}

/// The bytes of a file, as an image.
pub fn read_image(path: In<c_char>) -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.text()?.to_bytes()));
    let mut image = std::fs::read(path).map_err(|_| Error::ERROR_FILE_NOT_FOUND)?;
    // A text needs its terminator, and what looks at a header needs its bytes.
    image.extend_from_slice(&[0; 64]);
    Ok(image)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoad(module: Out<Handle>, path: In<c_char>) -> u32 {
    call(|runtime| {
        let image = read_image(path)?;
        load(
            runtime,
            module,
            In::of_slice(&image).cast(),
            Options::none(),
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(module: Out<Handle>, image: In<c_void>) -> u32 {
    call(|runtime| load(runtime, module, image, Options::none()))
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
        load(
            runtime,
            module,
            image,
            Options::read(count, options, values)?,
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
    call(|runtime| {
        if runtime.modules.get(module)?.of_library {
            return Err(Error::ERROR_NOT_PERMITTED);
        }
        runtime.modules.take(module)?.unload(runtime)
    })
}

pub fn name_of<'a>(name: In<c_char>) -> Result<&'a str> {
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
