//! Functions of modules.

use std::ffi::c_char;
use std::sync::Arc;

use super::{Handle, call};
use crate::abi::Out;
use crate::error::{Error, Result};
use crate::module::Function;
use crate::runtime::Runtime;

fn function_of(runtime: &Runtime, handle: Handle) -> Result<Arc<Function>> {
    let function = runtime.functions.get(handle)?;
    function.module.context.check()?;
    Ok(function)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetAttribute(value: Out<i32>, attribute: u32, function: Handle) -> u32 {
    call(|runtime| {
        let function = function_of(runtime, function)?;
        let (module, info) = (&function.module, function.info());
        value.check()?;
        value.put(function.settings.attribute(
            info,
            &module.traits,
            &module.context.device,
            attribute,
        )?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(function: Handle, attribute: u32, value: i32) -> u32 {
    call(|runtime| {
        let function = function_of(runtime, function)?;
        let device = &function.module.context.device;
        function
            .settings
            .set(function.info(), device, attribute, value)
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

/// Shared memory banks have one width.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetSharedMemConfig(function: Handle, config: u32) -> u32 {
    call(|runtime| {
        let _ = function_of(runtime, function)?;
        if config > 2 {
            Err(Error::ERROR_INVALID_VALUE)
        } else {
            Ok(())
        }
    })
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
