//! Modules and functions: loads wait, everything else is answered from the table that came back.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use rgpu_proto::module_table::{self, FunctionEntry, ModuleTable};
use rgpu_proto::{CudaError, calls};

use super::context::current_device;
use crate::entry::{Needs, anywhere, enter, input_str, put, put_opt, required};
use crate::handles::Kind;
use crate::session::Session;
use crate::{image, send};

struct Module {
    context: u64,
    functions: HashMap<String, usize>,
    table: Vec<Arc<FunctionEntry>>,
    /// Id of the function at each place of the table, 0 before it is first asked for.
    ids: Vec<u64>,
    globals: HashMap<Vec<u8>, (u64, u64)>,
    /// The table has all functions; else one that is missing must be asked for.
    complete: bool,
}

impl Module {
    /// A function's place in the table, found at the server where the table is not complete.
    fn place(&mut self, session: &Session, id: u64, name: &str) -> Result<usize, CudaError> {
        if let Some(at) = self.functions.get(name) {
            return Ok(*at);
        }
        if self.complete {
            return Err(CudaError::NOT_FOUND);
        }
        let mut bytes = Vec::new();
        send::rgpuFunctionFind(session, id, name.as_bytes(), &mut bytes)?;
        let found = module_table::decode(&bytes).map_err(|_| CudaError::UNKNOWN)?;
        let entry = found.functions.into_iter().find(|entry| entry.name == name);
        let at = self.table.len();
        self.table.push(Arc::new(entry.ok_or(CudaError::UNKNOWN)?));
        self.ids.push(0);
        self.functions.insert(name.to_owned(), at);
        Ok(at)
    }
}

/// A function that the program has a handle of.
pub struct Function {
    pub module: u64,
    pub entry: Arc<FunctionEntry>,
    name: CString,
    device: i32,
    /// Attributes that the program has set.
    set: HashMap<u32, i32>,
}

/// CUfunction_attribute.
pub const MAX_THREADS_PER_BLOCK: u32 = 0;
pub const SHARED_SIZE_BYTES: u32 = 1;
pub const MAX_DYNAMIC_SHARED_SIZE_BYTES: u32 = 8;
const PREFERRED_SHARED_MEMORY_CARVEOUT: u32 = 9;

impl Function {
    pub fn attribute(&self, attribute: u32) -> Option<i32> {
        self.set
            .get(&attribute)
            .or_else(|| self.entry.attributes.get(attribute as usize))
            .copied()
    }
}

#[derive(Default)]
pub struct Modules {
    live: HashMap<u64, Module>,
    functions: HashMap<u64, Function>,
}

impl Modules {
    pub fn function(&self, id: u64) -> Result<&Function, CudaError> {
        self.functions.get(&id).ok_or(CudaError::INVALID_HANDLE)
    }

    fn module(&self, id: u64) -> Result<&Module, CudaError> {
        self.live.get(&id).ok_or(CudaError::INVALID_HANDLE)
    }

    fn remove(&mut self, id: u64) {
        self.live.remove(&id);
        self.functions.retain(|_, function| function.module != id);
    }

    /// Forgets the modules of a destroyed context; their ids.
    pub fn end_context(&mut self, context: u64) -> Vec<u64> {
        let gone: Vec<u64> = self
            .live
            .iter()
            .filter(|(_, module)| module.context == context)
            .map(|(id, _)| *id)
            .collect();
        for id in &gone {
            self.remove(*id);
        }
        gone
    }

    /// The id of a module's function, made at the first question.
    fn bind(&mut self, session: &Session, module: u64, at: usize) -> Result<u64, CudaError> {
        let device = current_device(session).unwrap_or(0);
        let held = self
            .live
            .get_mut(&module)
            .ok_or(CudaError::INVALID_HANDLE)?;
        if held.ids[at] == 0 {
            let entry = held.table[at].clone();
            let id = session.handles.make(Kind::Function, held.context);
            send::rgpuFunctionBind(session, id, module, entry.name.as_bytes())?;
            held.ids[at] = id;
            let name = CString::new(entry.name.as_str()).map_err(|_| CudaError::INVALID_VALUE)?;
            self.functions.insert(
                id,
                Function {
                    module,
                    entry,
                    name,
                    device,
                    set: HashMap::new(),
                },
            );
        }
        Ok(held.ids[at])
    }
}

/// The JIT options that a remote load honours; the values of the rest are hints of the compiler's.
#[derive(Default)]
struct JitOptions {
    max_registers: u32,
    info: Option<Log>,
    error: Option<Log>,
}

/// A log buffer of the caller's, and where the used size is written back.
struct Log {
    buffer: *mut c_char,
    size: *mut *mut c_void,
}

impl JitOptions {
    /// # Safety
    /// `options` and `values` are arrays of `count` entries as cuModuleLoadDataEx documents them.
    unsafe fn read(
        count: u32,
        options: *const u32,
        values: *mut *mut c_void,
    ) -> Result<JitOptions, CudaError> {
        const MAX_REGISTERS: u32 = 0;
        const INFO_LOG_BUFFER: u32 = 3;
        const INFO_LOG_BUFFER_SIZE_BYTES: u32 = 4;
        const ERROR_LOG_BUFFER: u32 = 5;
        const ERROR_LOG_BUFFER_SIZE_BYTES: u32 = 6;
        let mut found = JitOptions::default();
        if count == 0 {
            return Ok(found);
        }
        required(options)?;
        required(values)?;
        if count > 64 {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: the caller promises `count` options.
        let options = unsafe { std::slice::from_raw_parts(options, count as usize) };
        let value = |wanted: u32| {
            let at = options.iter().position(|option| *option == wanted)?;
            // SAFETY: the caller promises a value for each option.
            Some(unsafe { values.add(at) })
        };
        let log = |buffer: u32, size: u32| {
            // SAFETY: places within the array.
            let (buffer, size) = (unsafe { *value(buffer)? }.cast::<c_char>(), value(size)?);
            (!buffer.is_null()).then_some(Log { buffer, size })
        };
        found.info = log(INFO_LOG_BUFFER, INFO_LOG_BUFFER_SIZE_BYTES);
        found.error = log(ERROR_LOG_BUFFER, ERROR_LOG_BUFFER_SIZE_BYTES);
        if let Some(registers) = value(MAX_REGISTERS) {
            // SAFETY: a place within the array; the value is cast into a pointer.
            found.max_registers = unsafe { *registers } as usize as u32;
        }
        Ok(found)
    }
}

impl Log {
    fn capacity(&self) -> usize {
        // SAFETY: the caller's array; the size is cast into a pointer.
        (unsafe { *self.size }) as usize as u32 as usize
    }

    /// Fills the caller's buffer, NUL-terminated, and writes back how much of it is used.
    fn write(&self, text: &[u8]) {
        let capacity = self.capacity();
        if capacity == 0 {
            return;
        }
        let count = text.len().min(capacity - 1);
        // SAFETY: `count + 1` bytes fit the buffer that the caller has announced.
        unsafe {
            self.buffer
                .cast::<u8>()
                .copy_from_nonoverlapping(text.as_ptr(), count);
            self.buffer.add(count).write(0);
            *self.size = (count + 1) as *mut c_void;
        }
    }
}

fn load(session: &Session, image: &[u8], options: &JitOptions) -> Result<u64, CudaError> {
    let wanted = [&options.info, &options.error]
        .into_iter()
        .flatten()
        .map(Log::capacity)
        .max()
        .unwrap_or(0);
    let mut reply = calls::rgpuModuleLoadReply::default();
    let mut bytes = Vec::new();
    let id = session.handles.make(Kind::Module, session.context());
    let log_bytes = wanted.min(64 << 10) as u32;
    let result = send::rgpuModuleLoad(
        session,
        id,
        image,
        log_bytes,
        options.max_registers,
        &mut bytes,
        &mut reply,
    );
    let (info_len, error_len) = (
        reply.info_len.get() as usize,
        reply.error_len.get() as usize,
    );
    let table = match bytes.get(..info_len.saturating_add(error_len)) {
        Some(logs) => {
            let (info, error) = logs.split_at(info_len);
            for (log, text) in [(&options.info, info), (&options.error, error)] {
                if let Some(log) = log {
                    log.write(text);
                }
            }
            &bytes[info_len + error_len..]
        }
        None => &[],
    };
    let decoded = result.and_then(|()| module_table::decode(table).map_err(|_| CudaError::UNKNOWN));
    let table: ModuleTable = match decoded {
        Ok(table) => table,
        Err(error) => {
            session.handles.forget(id);
            return Err(error);
        }
    };
    let complete = table.complete;
    let table: Vec<Arc<FunctionEntry>> = table.functions.into_iter().map(Arc::new).collect();
    let module = Module {
        context: session.context(),
        functions: table
            .iter()
            .enumerate()
            .map(|(at, entry)| (entry.name.clone(), at))
            .collect(),
        ids: vec![0; table.len()],
        table,
        globals: HashMap::new(),
        complete,
    };
    session.modules().live.insert(id, module);
    Ok(id)
}

pub unsafe fn cuModuleLoadData(module: *mut u64, image: *const c_void) -> u32 {
    enter("cuModuleLoadData", Needs::Context, |session| {
        required(module)?;
        // SAFETY: the caller's image.
        let id = load(
            session,
            unsafe { image::bytes(image) }?,
            &JitOptions::default(),
        )?;
        // SAFETY: the caller's place.
        unsafe { put(module, id) }
    })
}

pub unsafe fn cuModuleLoadDataEx(
    module: *mut u64,
    image: *const c_void,
    count: u32,
    options: *mut u32,
    values: *mut *mut c_void,
) -> u32 {
    enter("cuModuleLoadDataEx", Needs::Context, |session| {
        required(module)?;
        // SAFETY: the caller's arrays and image.
        let (options, image) = unsafe {
            (
                JitOptions::read(count, options, values)?,
                image::bytes(image)?,
            )
        };
        let id = load(session, image, &options)?;
        // SAFETY: the caller's place.
        unsafe { put(module, id) }
    })
}

pub unsafe fn cuModuleLoadFatBinary(module: *mut u64, image: *const c_void) -> u32 {
    // SAFETY: the same contract; the image says what it is.
    unsafe { cuModuleLoadData(module, image) }
}

pub unsafe fn cuModuleLoad(module: *mut u64, file: *const c_char) -> u32 {
    use std::os::unix::ffi::OsStrExt;
    enter("cuModuleLoad", Needs::Context, |session| {
        required(module)?;
        // SAFETY: the caller's string.
        let name = unsafe { input_str(file) }?;
        let file = std::fs::read(std::ffi::OsStr::from_bytes(name))
            .map_err(|_| CudaError::FILE_NOT_FOUND)?;
        let id = load(session, image::in_file(&file)?, &JitOptions::default())?;
        // SAFETY: the caller's place.
        unsafe { put(module, id) }
    })
}

pub unsafe fn cuModuleUnload(module: u64) -> u32 {
    enter("cuModuleUnload", Needs::Context, |session| {
        session.handles.consume(Kind::Module, module)?;
        session.modules().remove(module);
        session.memory().forget_globals(module);
        send::rgpuModuleUnload(session, module)
    })
}

pub unsafe fn cuModuleGetFunction(function: *mut u64, module: u64, name: *const c_char) -> u32 {
    enter("cuModuleGetFunction", Needs::Context, |session| {
        required(function)?;
        // SAFETY: the caller's string.
        let name =
            std::str::from_utf8(unsafe { input_str(name) }?).map_err(|_| CudaError::NOT_FOUND)?;
        let mut modules = session.modules();
        let held = modules.live.get_mut(&module);
        let at = held
            .ok_or(CudaError::INVALID_HANDLE)?
            .place(session, module, name)?;
        let id = modules.bind(session, module, at)?;
        // SAFETY: the caller's place.
        unsafe { put(function, id) }
    })
}

pub unsafe fn cuModuleGetFunctionCount(count: *mut u32, module: u64) -> u32 {
    enter("cuModuleGetFunctionCount", Needs::Context, |session| {
        let known = session.modules().module(module)?.table.len() as u32;
        // SAFETY: the caller's place.
        unsafe { put(count, known) }
    })
}

pub unsafe fn cuModuleEnumerateFunctions(functions: *mut u64, count: u32, module: u64) -> u32 {
    enter("cuModuleEnumerateFunctions", Needs::Context, |session| {
        required(functions)?;
        let mut modules = session.modules();
        let known = modules.module(module)?.table.len();
        for at in 0..known.min(count as usize) {
            let id = modules.bind(session, module, at)?;
            // SAFETY: the caller's array of `count`.
            unsafe { functions.add(at).write(id) };
        }
        Ok(())
    })
}

pub unsafe fn cuModuleGetGlobal_v2(
    address: *mut u64,
    bytes: *mut usize,
    module: u64,
    name: *const c_char,
) -> u32 {
    enter("cuModuleGetGlobal_v2", Needs::Context, |session| {
        // SAFETY: the caller's string.
        let name = unsafe { input_str(name) }?;
        let known = session.modules().module(module)?.globals.get(name).copied();
        let (at, size) = match known {
            Some(global) => global,
            None => {
                let mut reply = calls::rgpuModuleGlobalReply::default();
                send::rgpuModuleGlobal(session, module, name, &mut reply)?;
                let global = (reply.address.get(), reply.size.get());
                if let Some(held) = session.modules().live.get_mut(&module) {
                    held.globals.insert(name.to_vec(), global);
                }
                session.memory().note_global(global.0, global.1, module);
                global
            }
        };
        // SAFETY: the caller's places, or NULL.
        unsafe {
            put_opt(address, at);
            put_opt(bytes, size as usize);
        }
        Ok(())
    })
}

/// Every load is complete when it returns.
pub unsafe fn cuModuleGetLoadingMode(mode: *mut u32) -> u32 {
    const EAGER: u32 = 1;
    // SAFETY: the caller's place.
    anywhere(|| unsafe { put(mode, EAGER) })
}

pub unsafe fn cuFuncGetAttribute(value: *mut i32, attribute: u32, function: u64) -> u32 {
    enter("cuFuncGetAttribute", Needs::Context, |session| {
        let known = session
            .modules()
            .function(function)?
            .attribute(attribute)
            .ok_or(CudaError::INVALID_VALUE)?;
        // SAFETY: the caller's place.
        unsafe { put(value, known) }
    })
}

pub unsafe fn cuFuncSetAttribute(function: u64, attribute: u32, value: i32) -> u32 {
    const SHARED_OPTIN: i32 = 97;
    enter("cuFuncSetAttribute", Needs::Context, |session| {
        let mut modules = session.modules();
        let held = modules
            .functions
            .get_mut(&function)
            .ok_or(CudaError::INVALID_HANDLE)?;
        match attribute {
            MAX_DYNAMIC_SHARED_SIZE_BYTES => {
                let most = session
                    .devices
                    .get(held.device)?
                    .attribute(SHARED_OPTIN)
                    .unwrap_or(48 << 10);
                let fixed = held.attribute(SHARED_SIZE_BYTES).unwrap_or(0);
                if value < 0 || value > most - fixed {
                    return Err(CudaError::INVALID_VALUE);
                }
            }
            PREFERRED_SHARED_MEMORY_CARVEOUT if (-1..=100).contains(&value) => {}
            _ => return Err(CudaError::INVALID_VALUE),
        }
        send::rgpuFunctionSetAttribute(session, function, attribute, value)?;
        held.set.insert(attribute, value);
        Ok(())
    })
}

pub unsafe fn cuFuncSetCacheConfig(function: u64, config: u32) -> u32 {
    enter("cuFuncSetCacheConfig", Needs::Context, |session| {
        session.modules().function(function)?;
        if config > 3 {
            return Err(CudaError::INVALID_VALUE);
        }
        send::rgpuFunctionSetCacheConfig(session, function, config)
    })
}

/// The name lives as long as the module.
pub unsafe fn cuFuncGetName(name: *mut *const c_char, function: u64) -> u32 {
    enter("cuFuncGetName", Needs::Session, |session| {
        let text = session.modules().function(function)?.name.as_ptr();
        // SAFETY: the caller's place.
        unsafe { put(name, text) }
    })
}

pub unsafe fn cuFuncGetModule(module: *mut u64, function: u64) -> u32 {
    enter("cuFuncGetModule", Needs::Session, |session| {
        let owner = session.modules().function(function)?.module;
        // SAFETY: the caller's place.
        unsafe { put(module, owner) }
    })
}

pub unsafe fn cuFuncGetParamInfo(
    function: u64,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> u32 {
    enter("cuFuncGetParamInfo", Needs::Session, |session| {
        let modules = session.modules();
        let (at, bytes) = *modules
            .function(function)?
            .entry
            .params
            .get(index)
            .ok_or(CudaError::INVALID_VALUE)?;
        // SAFETY: the caller's places; the size may be NULL.
        unsafe {
            put(offset, at as usize)?;
            put_opt(size, bytes as usize);
        }
        Ok(())
    })
}
