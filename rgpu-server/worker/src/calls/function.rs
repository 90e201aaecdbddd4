use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

use rgpu_proto::CudaError;
use rgpu_proto::module_table::{FunctionEntry, MAX_PARAMS, ModuleTable};

use crate::calls::module::append_table;
use crate::handles::Kind;
use crate::state::{FunctionInfo, Params, State};

/// More function attributes than any CUDA version has.
const MAX_ATTRIBUTES: u32 = 64;

/// A function's name, if the driver can tell it.
pub fn name(state: &State, function: *mut c_void) -> Option<String> {
    let mut name: *const c_char = ptr::null();
    // SAFETY: a function of the driver's; a place for the pointer.
    unsafe { driver_call!(state.driver.cuFuncGetName(&mut name, function)) }.ok()?;
    if name.is_null() {
        return None;
    }
    // SAFETY: the driver's own text, which lives as long as the module.
    Some(unsafe { CStr::from_ptr(name) }.to_str().ok()?.to_owned())
}

/// Parameters and attributes; `None` if the driver cannot tell the parameters.
pub fn entry(
    state: &State,
    module: *mut c_void,
    function: *mut c_void,
    name: String,
) -> Option<FunctionEntry> {
    let params = function_params(state, function)?;
    let read = || {
        attributes(|value, attribute| {
            // SAFETY: a function of the driver's; a place for the number.
            unsafe { driver_call!(state.driver.cuFuncGetAttribute(value, attribute, function)) }
        })
    };
    let mut attributes = read();
    if attributes.is_empty() {
        // Drivers that load functions when they are first used tell nothing of them before (CUDA_ERROR_FUNCTION_NOT_LOADED).
        // SAFETY: a function of the driver's. If it cannot be loaded, its attributes stay unknown.
        let _ = unsafe { driver_call!(state.driver.cuFuncLoad(function)) };
        attributes = read();
    }
    let entry = FunctionEntry {
        name,
        params,
        attributes,
    };
    let info = FunctionInfo {
        module: module.addr(),
        params: Some(Params::new(&entry.params)),
    };
    state.shared.functions().insert(function.addr(), info);
    Some(entry)
}

/// The attributes by their numbers; one that the driver does not know ends the list.
pub fn attributes(get: impl Fn(&mut i32, u32) -> Result<(), CudaError>) -> Vec<i32> {
    (0..MAX_ATTRIBUTES)
        .map_while(|attribute| {
            let mut value = 0;
            get(&mut value, attribute).ok().map(|()| value)
        })
        .collect()
}

/// Offset and size of each parameter; `None` if the driver cannot tell (those before CUDA 12.4).
pub fn params(
    get: impl Fn(usize, &mut usize, &mut usize) -> Result<(), CudaError>,
) -> Option<Vec<(u32, u32)>> {
    let mut params = Vec::new();
    while params.len() <= MAX_PARAMS {
        let (mut offset, mut size) = (0, 0);
        match get(params.len(), &mut offset, &mut size) {
            Ok(()) => params.push((u32::try_from(offset).ok()?, u32::try_from(size).ok()?)),
            Err(CudaError::INVALID_VALUE) => return Some(params),
            Err(_) => return None,
        }
    }
    None
}

fn function_params(state: &State, function: *mut c_void) -> Option<Vec<(u32, u32)>> {
    params(|index, offset, size| {
        // SAFETY: a function of the driver's; places for the two numbers.
        unsafe {
            driver_call!(
                state
                    .driver
                    .cuFuncGetParamInfo(function, index, offset, size)
            )
        }
    })
}

pub fn text(name: &[u8]) -> Result<CString, CudaError> {
    CString::new(name).map_err(|_| CudaError::INVALID_VALUE)
}

fn function(state: &State, module: *mut c_void, name: &CStr) -> Result<*mut c_void, CudaError> {
    let mut function = ptr::null_mut();
    // SAFETY: a module of the driver's, a terminated name, a place for the handle.
    unsafe {
        driver_call!(
            state
                .driver
                .cuModuleGetFunction(&mut function, module, name.as_ptr())
        )
    }
    .map(|()| function)
}

pub fn rgpuFunctionBind(
    state: &State,
    id: u64,
    module: *mut c_void,
    name: &[u8],
) -> Result<(), CudaError> {
    let found = text(name).and_then(|name| function(state, module, &name));
    let function = match found {
        Ok(function) => function,
        Err(error) => {
            state.handles.poison(Kind::Function, id, error);
            return Err(error);
        }
    };
    if !state.shared.functions().contains_key(&function.addr()) {
        let info = FunctionInfo {
            module: module.addr(),
            params: function_params(state, function).map(|params| Params::new(&params)),
        };
        state.shared.functions().insert(function.addr(), info);
    }
    state
        .handles
        .insert_owned(Kind::Function, id, function, module)
}

/// The entry of a function that the module's table does not have.
pub fn rgpuFunctionFind(
    state: &State,
    module: *mut c_void,
    name: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let name = text(name)?;
    let function = function(state, module, &name)?;
    let name = name.into_string().map_err(|_| CudaError::NOT_FOUND)?;
    let Some(entry) = entry(state, module, function, name) else {
        tracing::warn!("the driver does not tell a kernel's parameters, as those before CUDA 12.4");
        return Err(CudaError::NOT_SUPPORTED);
    };
    let table = ModuleTable {
        functions: vec![entry],
        complete: false,
    };
    append_table(&table, reply);
    Ok(())
}

pub fn rgpuFunctionSetAttribute(
    state: &State,
    function: *mut c_void,
    attribute: u32,
    value: i32,
) -> Result<(), CudaError> {
    // SAFETY: a function of the driver's.
    unsafe { driver_call!(state.driver.cuFuncSetAttribute(function, attribute, value)) }
}

pub fn rgpuFunctionSetCacheConfig(
    state: &State,
    function: *mut c_void,
    config: u32,
) -> Result<(), CudaError> {
    // SAFETY: a function of the driver's.
    unsafe { driver_call!(state.driver.cuFuncSetCacheConfig(function, config)) }
}

pub fn rgpuFunctionLoad(state: &State, function: *mut c_void) -> Result<(), CudaError> {
    // SAFETY: a function of the driver's.
    unsafe { driver_call!(state.driver.cuFuncLoad(function)) }
}
