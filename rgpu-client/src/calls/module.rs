//! Modules: loads wait unless the server has the code already, everything else is answered from the table that came back.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};

use rgpu_proto::content::Code;
use rgpu_proto::{CudaError, calls};
use rustc_hash::FxHashMap;

use super::context::device_of;
use super::function::{Function, Settings, Table};
use super::legacy::Legacy;
use super::library::{Kernel, Library};
use super::managed;
use super::memory::Variable;
use super::occupancy::Known;
use crate::entry::{Needs, enter, input_str, put, put_opt, required};
use crate::handles::Kind;
use crate::jit::Options;
use crate::servers::Of;
use crate::session::Session;
use crate::{image, send, thread};

pub struct Module {
    pub context: u64,
    table: Table,
    /// Id of the function at each place of the table, 0 before it is first asked for.
    ids: Vec<u64>,
    globals: HashMap<Vec<u8>, (u64, u64)>,
    /// Where it is a library's module, which ends with the library.
    pub library: Option<u64>,
}

impl Module {
    pub fn new(context: u64, table: Table, library: Option<u64>) -> Module {
        Module {
            context,
            ids: vec![0; table.entries.len()],
            table,
            globals: HashMap::new(),
            library,
        }
    }

    /// A function's place in the table, found at the server where the table is not complete.
    fn place(&mut self, session: &Session, id: u64, name: &str) -> Result<usize, CudaError> {
        let at = self.table.place(name, |bytes| {
            send::rgpuFunctionFind(session, id, name.as_bytes(), bytes)
        })?;
        self.ids.resize(self.table.entries.len(), 0);
        Ok(at)
    }
}

/// Modules and libraries, with the functions and kernels that the program has handles of.
#[derive(Default)]
pub struct Modules {
    pub live: FxHashMap<u64, Module>,
    pub functions: FxHashMap<u64, Function>,
    pub libraries: FxHashMap<u64, Library>,
    pub kernels: FxHashMap<u64, Kernel>,
    /// Of libraries and kernels that were loaded for another server: what they are here.
    pub twins: HashMap<u64, u64>,
}

impl Modules {
    pub fn function(&self, id: u64) -> Result<&Function, CudaError> {
        self.functions.get(&id).ok_or(CudaError::INVALID_HANDLE)
    }

    fn module(&self, id: u64) -> Result<&Module, CudaError> {
        self.live.get(&id).ok_or(CudaError::INVALID_HANDLE)
    }

    pub fn remove(&mut self, session: &Session, id: u64) {
        self.live.remove(&id);
        session.references().end_module(&session.handles, id);
        let gone = self
            .functions
            .extract_if(|_, function| function.module == id);
        for (function, _) in gone {
            session.handles.forget(function);
        }
    }

    /// Forgets the modules of a destroyed context; their ids.
    pub fn end_context(&mut self, session: &Session, context: u64) -> Vec<u64> {
        let gone: Vec<u64> = self
            .live
            .iter()
            .filter(|(_, module)| module.context == context)
            .map(|(id, _)| *id)
            .collect();
        for id in &gone {
            self.remove(session, *id);
        }
        for library in self.libraries.values_mut() {
            library.modules.remove(&context);
        }
        gone
    }

    /// The id of a module's function of this name, made at the first question; who asks by name has it loaded.
    pub fn bind_name(
        &mut self,
        session: &Session,
        module: u64,
        name: &str,
    ) -> Result<u64, CudaError> {
        let held = self.live.get_mut(&module);
        let held = held.ok_or(CudaError::INVALID_HANDLE)?;
        let at = held.place(session, module, name)?;
        let id = self.bind(session, module, at)?;
        if let Some(function) = self.functions.get_mut(&id) {
            function.loaded = true;
        }
        Ok(id)
    }

    /// The id of the function at a place of a module's table.
    fn bind(&mut self, session: &Session, module: u64, at: usize) -> Result<u64, CudaError> {
        let held = self.live.get_mut(&module);
        let held = held.ok_or(CudaError::INVALID_HANDLE)?;
        if held.ids[at] == 0 {
            let entry = held.table.entries[at].clone();
            let device = device_of(session, held.context)?;
            let settings = match held.library.and_then(|id| self.libraries.get_mut(&id)) {
                Some(library) => library.settings(&entry.name, device),
                None => Settings::default(),
            };
            let id = session.handles.make(Kind::Function, held.context);
            thread::within(held.context, || {
                send::rgpuFunctionBind(session, id, module, entry.name.as_bytes())
            })?;
            held.ids[at] = id;
            let name = CString::new(entry.name.as_str()).map_err(|_| CudaError::INVALID_VALUE)?;
            self.functions.insert(
                id,
                Function {
                    module,
                    context: held.context,
                    entry,
                    name,
                    device,
                    settings,
                    loaded: false,
                    blocks: Vec::new(),
                    occupancy: Known::default(),
                    legacy: Legacy::default(),
                },
            );
        }
        Ok(held.ids[at])
    }

    /// The function that a handle names: its own, or that of a library's kernel in a context.
    pub fn callable(
        &mut self,
        session: &Session,
        handle: u64,
        context: u64,
    ) -> Result<u64, CudaError> {
        if self.functions.contains_key(&handle) {
            return Ok(handle);
        }
        let kernel = self.kernels.get(&handle);
        let kernel = kernel.ok_or(CudaError::INVALID_HANDLE)?;
        let (library, name) = (kernel.library, kernel.entry.clone());
        let module = self.library_module(session, library, context)?;
        self.bind_name(session, module, &name.name)
    }

    /// The module of a library in a context.
    pub fn library_module(
        &mut self,
        session: &Session,
        id: u64,
        context: u64,
    ) -> Result<u64, CudaError> {
        let library = self.libraries.get_mut(&id);
        let library = library.ok_or(CudaError::INVALID_HANDLE)?;
        if let Some(module) = library.modules.get(&context) {
            return Ok(*module);
        }
        let device = device_of(session, context)?;
        let table = library.table(session, id, device)?.clone();
        let module = session.handles.make(Kind::Module, context);
        thread::within(context, || send::rgpuLibraryModule(session, module, id))?;
        library.modules.insert(context, module);
        self.live
            .insert(module, Module::new(context, table, Some(id)));
        Ok(module)
    }
}

fn load(session: &Session, image: &[u8], options: &Options) -> Result<u64, CudaError> {
    let context = session.owner();
    let id = session.handles.make(Kind::Module, context);
    let table = match load_known(session, id, context, image, options) {
        Some(loaded) => loaded,
        None => load_sent(session, id, image, options),
    };
    let table = table.inspect_err(|_| session.handles.forget(id))?;
    let module = Module::new(context, table, None);
    session.modules().live.insert(id, module);
    Ok(id)
}

/// Without a wait, if the server has the code and told its table. Its error comes late, as that of all that is made so.
fn load_known(
    session: &Session,
    id: u64,
    context: u64,
    image: &[u8],
    options: &Options,
) -> Option<Result<Table, CudaError>> {
    let device = session
        .devices
        .get(device_of(session, context).ok()?)
        .ok()?;
    let code = Code::Module {
        device: device.ordinal,
        max_registers: options.max_registers(),
    };
    let (known, table) = known_code(session, &code, image, options)?;
    Some(send::rgpuModuleLoadKnown(session, id, known).map(|()| table))
}

/// The place of code that the server has, and its table, if no log is wanted, which only a load gives. The options are then told that there is none.
pub fn known_code(
    session: &Session,
    code: &Code<'_>,
    image: &[u8],
    options: &Options,
) -> Option<(u32, Table)> {
    if options.log_bytes() != (0, 0) {
        return None;
    }
    let (known, table) = session.content.code(code, image)?;
    let table = Table::decode(table).ok()?;
    // SAFETY: the caller's option values, while its call lasts; there are no logs.
    unsafe { options.deliver(&[], 0, 0) };
    Some((known, table))
}

fn load_sent(
    session: &Session,
    id: u64,
    image: &[u8],
    options: &Options,
) -> Result<Table, CudaError> {
    let mut reply = calls::rgpuModuleLoadReply::default();
    let mut bytes = Vec::new();
    let (info, errors) = options.log_bytes();
    let result = send::rgpuModuleLoad(
        session,
        id,
        image,
        info.max(errors),
        options.max_registers(),
        &mut bytes,
        &mut reply,
    );
    let (info, errors) = (reply.info_len.get(), reply.error_len.get());
    // SAFETY: the caller's buffers, while its call lasts.
    let table = unsafe { options.deliver(&bytes, info, errors) };
    result.and_then(|()| Table::decode(table))
}

pub unsafe fn cuModuleLoadData(module: *mut u64, image: *const c_void) -> u32 {
    enter("cuModuleLoadData", Needs::Context, |session| {
        required(module)?;
        // SAFETY: the caller's image.
        let id = load(
            session,
            unsafe { image::bytes(image) }?,
            &Options::default(),
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
        let (options, image) =
            unsafe { (Options::read(count, options, values)?, image::bytes(image)?) };
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
        let id = load(session, image::in_file(&file)?, &Options::default())?;
        // SAFETY: the caller's place.
        unsafe { put(module, id) }
    })
}

pub unsafe fn cuModuleUnload(module: u64) -> u32 {
    Of::Handle(module).enter("cuModuleUnload", Needs::Context, |session| {
        if session.modules().module(module)?.library.is_some() {
            return Err(CudaError::NOT_PERMITTED);
        }
        session.handles.consume(Kind::Module, module)?;
        session.modules().remove(session, module);
        managed::end_variables(session, module);
        send::rgpuModuleUnload(session, module)
    })
}

pub unsafe fn cuModuleGetFunction(function: *mut u64, module: u64, name: *const c_char) -> u32 {
    Of::Handle(module).enter("cuModuleGetFunction", Needs::Context, |session| {
        required(function)?;
        // SAFETY: the caller's string.
        let name =
            std::str::from_utf8(unsafe { input_str(name) }?).map_err(|_| CudaError::NOT_FOUND)?;
        let id = session.modules().bind_name(session, module, name)?;
        // SAFETY: the caller's place.
        unsafe { put(function, id) }
    })
}

pub unsafe fn cuModuleGetFunctionCount(count: *mut u32, module: u64) -> u32 {
    Of::Handle(module).enter("cuModuleGetFunctionCount", Needs::Context, |session| {
        let known = session.modules().module(module)?.table.entries.len() as u32;
        // SAFETY: the caller's place.
        unsafe { put(count, known) }
    })
}

pub unsafe fn cuModuleEnumerateFunctions(functions: *mut u64, count: u32, module: u64) -> u32 {
    Of::Handle(module).enter("cuModuleEnumerateFunctions", Needs::Context, |session| {
        required(functions)?;
        let mut modules = session.modules();
        let known = modules.module(module)?.table.entries.len();
        for at in 0..known.min(count as usize) {
            let id = modules.bind(session, module, at)?;
            // SAFETY: the caller's array of `count`.
            unsafe { functions.add(at).write(id) };
        }
        Ok(())
    })
}

/// Address and size of a module's variable.
pub fn global(session: &Session, module: u64, name: &[u8]) -> Result<(u64, u64), CudaError> {
    let owner = {
        let modules = session.modules();
        let held = modules.module(module)?;
        if let Some(known) = held.globals.get(name) {
            return Ok(*known);
        }
        held.library
    };
    let mut reply = calls::rgpuModuleGlobalReply::default();
    send::rgpuModuleGlobal(session, module, name, &mut reply)?;
    let (at, size) = (reply.address.get(), reply.size.get());
    let managed = (reply.managed.get() != 0).then(|| session.devices.number(reply.device.get()));
    let variable = Variable {
        size,
        // A library's managed variables are the same in all contexts.
        owner: owner.filter(|_| managed.is_some()).unwrap_or(module),
        managed,
    };
    if managed.is_some() {
        managed::adopt(session, at, size, variable.owner)?;
    }
    if let Some(held) = session.modules().live.get_mut(&module) {
        held.globals.insert(name.to_vec(), (at, size));
    }
    session.memory().note_global(at, variable);
    Ok((at, size))
}

pub unsafe fn cuModuleGetGlobal_v2(
    address: *mut u64,
    bytes: *mut usize,
    module: u64,
    name: *const c_char,
) -> u32 {
    Of::Handle(module).enter("cuModuleGetGlobal_v2", Needs::Context, |session| {
        // SAFETY: the caller's string.
        let name = unsafe { input_str(name) }?;
        let (at, size) = global(session, module, name)?;
        // SAFETY: the caller's places, or NULL.
        unsafe {
            put_opt(address, at);
            put_opt(bytes, size as usize);
        }
        Ok(())
    })
}
