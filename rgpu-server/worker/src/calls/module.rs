use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuModuleGlobalReply, rgpuModuleLoadReply};
use rgpu_proto::module_table::{self, FunctionEntry, MAX_PARAMS, MAX_SYMBOLS, ModuleTable};

use crate::handles::Kind;
use crate::reaper::{Action, Pointer};
use crate::state::{FunctionInfo, State};

/// Longest JIT log that is kept, of each of the two.
const MAX_LOG: u32 = 64 << 10;
/// More function attributes than any CUDA version has.
const MAX_ATTRIBUTES: u32 = 64;

// cuda.h: CUjit_option.
const JIT_MAX_REGISTERS: u32 = 0;
const JIT_INFO_LOG_BUFFER: u32 = 3;
const JIT_INFO_LOG_BUFFER_SIZE_BYTES: u32 = 4;
const JIT_ERROR_LOG_BUFFER: u32 = 5;
const JIT_ERROR_LOG_BUFFER_SIZE_BYTES: u32 = 6;

pub fn rgpuModuleLoad(
    state: &State,
    id: u64,
    image: &[u8],
    log_bytes: u32,
    max_registers: u32,
    out: &mut rgpuModuleLoadReply,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    // Aligned as a loader may expect, and with the NUL that ends PTX: there is none behind the bytes in the frame.
    let mut terminated = Vec::with_capacity(image.len() + 1);
    terminated.extend_from_slice(image);
    terminated.push(0);
    let log = u64::from(log_bytes.min(MAX_LOG));
    let (mut info, mut errors) = (state.output(log)?, state.output(log)?);
    let mut load = || {
        let mut options = Vec::new();
        let mut values: Vec<*mut c_void> = Vec::new();
        let mut option = |name, value| {
            options.push(name);
            values.push(value);
        };
        // Numbers are passed in the place of the pointer.
        let number = |value: usize| ptr::without_provenance_mut(value);
        if log > 0 {
            option(JIT_INFO_LOG_BUFFER, info.as_mut_ptr().cast());
            option(JIT_INFO_LOG_BUFFER_SIZE_BYTES, number(info.len()));
            option(JIT_ERROR_LOG_BUFFER, errors.as_mut_ptr().cast());
            option(JIT_ERROR_LOG_BUFFER_SIZE_BYTES, number(errors.len()));
        }
        if max_registers > 0 {
            option(JIT_MAX_REGISTERS, number(max_registers as usize));
        }
        let mut module = ptr::null_mut();
        // SAFETY: the image is terminated, the options say how long the logs are.
        unsafe {
            driver_call!(state.driver.cuModuleLoadDataEx(
                &mut module,
                terminated.as_ptr().cast(),
                options.len() as u32,
                options.as_mut_ptr(),
                values.as_mut_ptr()
            ))
        }
        .map(|()| module)
    };
    let mut loaded = load();
    if loaded == Err(CudaError::OUT_OF_MEMORY) && state.shared.reaper.drain() {
        loaded = load();
    }
    for (text, len) in [(&info, &mut out.info_len), (&errors, &mut out.error_len)] {
        let end = text
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(text.len());
        len.set(end as u32);
        reply.extend_from_slice(&text[..end]);
    }
    let module = match loaded {
        Ok(module) => module,
        Err(error) => {
            state.handles.poison(Kind::Module, id, error);
            return Err(error);
        }
    };
    if let Err(error) = state.handles.insert(Kind::Module, id, module) {
        // SAFETY: it was loaded above, and nobody knows it.
        unsafe { driver_call!(state.driver.cuModuleUnload(module)) }?;
        return Err(error);
    }
    let table = table(state, module);
    match module_table::encode(&table) {
        Ok(bytes) => reply.extend_from_slice(&bytes),
        Err(error) => {
            tracing::warn!(%error, "a module's table is too long; names will be asked for one by one");
            if let Ok(bytes) = module_table::encode(&ModuleTable::default()) {
                reply.extend_from_slice(&bytes);
            }
        }
    }
    Ok(())
}

/// All functions, if the driver can list them (those since CUDA 12.4 can).
fn table(state: &State, module: *mut c_void) -> ModuleTable {
    let mut count = 0;
    // SAFETY: a module of the driver's; a place for the number.
    let counted =
        unsafe { driver_call!(state.driver.cuModuleGetFunctionCount(&mut count, module)) };
    if counted.is_err() || count as usize > MAX_SYMBOLS {
        return ModuleTable::default();
    }
    let mut functions = vec![ptr::null_mut(); count as usize];
    if count > 0 {
        // SAFETY: a module of the driver's; room for that many.
        let listed = unsafe {
            driver_call!(state.driver.cuModuleEnumerateFunctions(
                functions.as_mut_ptr(),
                count,
                module
            ))
        };
        if listed.is_err() {
            return ModuleTable::default();
        }
    }
    let entries: Option<Vec<FunctionEntry>> = functions
        .into_iter()
        .map(|function| entry(state, module, function, name(state, function)?))
        .collect();
    match entries {
        Some(functions) => ModuleTable {
            functions,
            complete: true,
        },
        None => ModuleTable::default(),
    }
}

/// A function's name, if the driver can tell it.
fn name(state: &State, function: *mut c_void) -> Option<String> {
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
fn entry(
    state: &State,
    module: *mut c_void,
    function: *mut c_void,
    name: String,
) -> Option<FunctionEntry> {
    let params = params(state, function)?;
    let attributes = (0..MAX_ATTRIBUTES)
        .map_while(|attribute| {
            let mut value = 0;
            // SAFETY: a function of the driver's; a place for the number. An attribute that it does not know ends the list.
            unsafe {
                driver_call!(
                    state
                        .driver
                        .cuFuncGetAttribute(&mut value, attribute, function)
                )
            }
            .ok()
            .map(|()| value)
        })
        .collect();
    let entry = FunctionEntry {
        name,
        params,
        attributes,
    };
    let info = FunctionInfo {
        module: module.addr(),
        param_bytes: Some(entry.param_bytes()),
    };
    state.shared.functions().insert(function.addr(), info);
    Some(entry)
}

/// Offset and size of each parameter; `None` if the driver cannot tell (those before CUDA 12.4).
fn params(state: &State, function: *mut c_void) -> Option<Vec<(u32, u32)>> {
    let mut params = Vec::new();
    while params.len() <= MAX_PARAMS {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: a function of the driver's; places for the two numbers.
        match unsafe {
            driver_call!(state.driver.cuFuncGetParamInfo(
                function,
                params.len(),
                &mut offset,
                &mut size
            ))
        } {
            Ok(()) => params.push((u32::try_from(offset).ok()?, u32::try_from(size).ok()?)),
            Err(CudaError::INVALID_VALUE) => return Some(params),
            Err(_) => return None,
        }
    }
    None
}

pub fn rgpuModuleUnload(state: &State, id: u64) -> Result<(), CudaError> {
    let context = state.handles.context_of_module(id);
    let module = state.handles.take(Kind::Module, id)?;
    state
        .shared
        .functions()
        .retain(|_, function| function.module != module.addr());
    state
        .shared
        .reaper
        .after(vec![context?], Action::UnloadModule(Pointer(module)));
    Ok(())
}

fn text(name: &[u8]) -> Result<CString, CudaError> {
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
        let param_bytes = params(state, function).map(|params| {
            let entry = FunctionEntry {
                params,
                ..FunctionEntry::default()
            };
            entry.param_bytes()
        });
        let info = FunctionInfo {
            module: module.addr(),
            param_bytes,
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
        tracing::warn!("the driver cannot tell a kernel's parameters: it is older than CUDA 12.4");
        return Err(CudaError::NOT_SUPPORTED);
    };
    let table = ModuleTable {
        functions: vec![entry],
        complete: false,
    };
    reply.extend_from_slice(&module_table::encode(&table).map_err(|_| CudaError::UNKNOWN)?);
    Ok(())
}

pub fn rgpuModuleGlobal(
    state: &State,
    module: *mut c_void,
    name: &[u8],
    out: &mut rgpuModuleGlobalReply,
) -> Result<(), CudaError> {
    let name = text(name)?;
    let (mut address, mut size) = (0, 0);
    // SAFETY: a module of the driver's, a terminated name, places for the two numbers.
    unsafe {
        driver_call!(state.driver.cuModuleGetGlobal_v2(
            &mut address,
            &mut size,
            module,
            name.as_ptr()
        ))
    }?;
    out.address.set(address);
    out.size.set(size as u64);
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
