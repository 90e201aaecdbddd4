//! Libraries and kernels. They belong to no context; in each context that uses it a library has a module, made at the first use without
//! a wait, and a kernel is a function of that.
#![allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)] // The names, contracts and signatures are cuda.h's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CString, OsStr, c_char, c_void};
use std::sync::{Arc, Once};

use rgpu_proto::content::Code;
use rgpu_proto::module_table::FunctionEntry;
use rgpu_proto::{CudaError, calls};

use super::context::current_device;
use super::device::refuse;
use super::function::{Settings, Table, check_attribute};
use super::managed::{adopt, end_variables};
use super::memory::Variable;
use super::module::{Modules, global, known_code};
use crate::entry::{Needs, enter, input_str, put, put_opt, required};
use crate::handles::{Kind, is_of};
use crate::jit::Options;
use crate::servers::{self, Of, elsewhere};
use crate::session::Session;
use crate::{image, log, send, thread};

pub struct Library {
    /// The device whose table came with the load: the kernels' places and parameters are the same on all.
    device: i32,
    /// With the attributes as on each device that was asked about.
    tables: HashMap<i32, Table>,
    /// Id of the kernel at each place of the first table, 0 before it is first asked for.
    ids: Vec<u64>,
    settings: HashMap<(String, i32), Settings>,
    /// Address and size of each managed variable that was asked for.
    managed: HashMap<Vec<u8>, (u64, u64)>,
    /// By the contexts that they are in.
    pub modules: HashMap<u64, u64>,
    /// For other servers, where there are such.
    source: Option<Arc<Source>>,
}

/// What a library was loaded from.
struct Source {
    image: Vec<u8>,
    options: Vec<u8>,
}

/// A kernel that the program has a handle of.
pub struct Kernel {
    pub library: u64,
    pub entry: Arc<FunctionEntry>,
    name: CString,
}

impl Library {
    /// The kernels with their attributes on a device.
    pub fn table(
        &mut self,
        session: &Session,
        id: u64,
        device: i32,
    ) -> Result<&mut Table, CudaError> {
        match self.tables.entry(device) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let ordinal = session.devices.get(device)?.ordinal;
                let mut bytes = Vec::new();
                send::rgpuLibraryTable(session, id, ordinal, &mut bytes)?;
                Ok(place.insert(Table::decode(&bytes)?))
            }
        }
    }

    /// The kernel's entry on a device.
    fn entry(
        &mut self,
        session: &Session,
        id: u64,
        name: &str,
        device: i32,
    ) -> Result<(usize, Arc<FunctionEntry>), CudaError> {
        let ordinal = session.devices.get(device)?.ordinal;
        let table = self.table(session, id, device)?;
        let at = table.place(name, |bytes| {
            send::rgpuKernelFind(session, id, ordinal, name.as_bytes(), bytes)
        })?;
        Ok((at, table.entries[at].clone()))
    }

    pub fn settings(&mut self, name: &str, device: i32) -> Settings {
        let key = (name.to_owned(), device);
        self.settings.entry(key).or_default().clone()
    }
}

fn library(modules: &mut Modules, id: u64) -> Result<&mut Library, CudaError> {
    let library = modules.libraries.get_mut(&id);
    library.ok_or(CudaError::INVALID_HANDLE)
}

fn kernel(modules: &Modules, id: u64) -> Result<&Kernel, CudaError> {
    modules.kernels.get(&id).ok_or(CudaError::INVALID_HANDLE)
}

/// A name for a kernel of a library; one that is no text names none.
///
/// # Safety
/// `name` is NULL or NUL-terminated.
unsafe fn name_of<'a>(name: *const c_char) -> Result<&'a str, CudaError> {
    // SAFETY: the caller's promise.
    std::str::from_utf8(unsafe { input_str(name) }?).map_err(|_| CudaError::NOT_FOUND)
}

/// Options of the library's own, which say how the program will use it.
///
/// # Safety
/// `options` is NULL or an array of `count`.
unsafe fn check_options(count: u32, options: *const u32) -> Result<(), CudaError> {
    /// CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE, CU_LIBRARY_BINARY_IS_PRESERVED.
    const KNOWN: u32 = 2;
    if count == 0 {
        return Ok(());
    }
    required(options)?;
    // SAFETY: the caller's array.
    let known = |at| unsafe { options.add(at).read_unaligned() } < KNOWN;
    if count > KNOWN || !(0..count as usize).all(known) {
        return Err(CudaError::INVALID_VALUE);
    }
    Ok(())
}

/// What a library is on this server: itself, or one that is loaded from the same image when it is first used here.
pub fn here(session: &Session, id: u64) -> Result<u64, CudaError> {
    let Some(home) = elsewhere(session, id) else {
        return Ok(id);
    };
    if let Some(twin) = session.modules().twins.get(&id) {
        return Ok(*twin);
    }
    let (source, shares) = {
        let mut modules = home.modules();
        let held = library(&mut modules, id)?;
        (held.source.clone(), !held.managed.is_empty())
    };
    let source = source.ok_or(CudaError::INVALID_HANDLE)?;
    if shares {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            log::error(
                "code with managed variables is used on several servers: each has variables of its own, and the program those of the first",
            );
        });
    }
    // What the program's logs are to say, the first load has said.
    let options = Options::default();
    let twin = load(session, &source.image, &source.options, &options)?;
    let mut modules = session.modules();
    // Another thread may have been faster.
    let first = *modules.twins.entry(id).or_insert(twin);
    drop(modules);
    if first != twin {
        unload(session, twin)?;
    }
    Ok(first)
}

/// What a function or a library's kernel is on this server.
pub fn callee_here(session: &Session, id: u64) -> Result<u64, CudaError> {
    if !is_of(Kind::Kernel, id) {
        return Ok(id);
    }
    let Some(home) = elsewhere(session, id) else {
        return Ok(id);
    };
    if let Some(twin) = session.modules().twins.get(&id) {
        return Ok(*twin);
    }
    let (library, entry) = {
        let modules = home.modules();
        let kernel = kernel(&modules, id)?;
        (kernel.library, kernel.entry.clone())
    };
    let library = here(session, library)?;
    let mut modules = session.modules();
    let twin = kernel_of(session, &mut modules, library, &entry.name)?;
    modules.twins.insert(id, twin);
    Ok(twin)
}

/// Loads a library; `jit` are the options as they travel, of `options` the logs are written.
fn load(session: &Session, image: &[u8], jit: &[u8], options: &Options) -> Result<u64, CudaError> {
    // Any device of the server's does.
    let device = current_device(session).unwrap_or(session.devices.first());
    let ordinal = session.devices.get(device)?.ordinal;
    let id = session.handles.make(Kind::Library, 0);
    let table = match load_known(session, id, ordinal, image, jit, options) {
        Some(loaded) => loaded,
        None => load_sent(session, id, ordinal, image, jit, options),
    };
    let table = table.inspect_err(|_| session.handles.forget(id))?;
    let library = Library {
        device,
        ids: vec![0; table.entries.len()],
        tables: HashMap::from([(device, table)]),
        settings: HashMap::new(),
        managed: HashMap::new(),
        modules: HashMap::new(),
        source: source(session, image, jit),
    };
    session.modules().libraries.insert(id, library);
    Ok(id)
}

/// As for a module.
fn load_known(
    session: &Session,
    id: u64,
    device: i32,
    image: &[u8],
    jit: &[u8],
    options: &Options,
) -> Option<Result<Table, CudaError>> {
    let code = Code::Library {
        device,
        options: jit,
    };
    let (known, table) = known_code(session, &code, image, options)?;
    Some(send::rgpuLibraryLoadKnown(session, id, known).map(|()| table))
}

fn load_sent(
    session: &Session,
    id: u64,
    device: i32,
    image: &[u8],
    jit: &[u8],
    options: &Options,
) -> Result<Table, CudaError> {
    let (info, errors) = options.log_bytes();
    let mut reply = calls::rgpuLibraryLoadReply::default();
    let mut bytes = Vec::new();
    let result = send::rgpuLibraryLoad(
        session, id, device, image, jit, info, errors, &mut bytes, &mut reply,
    );
    let (info, errors) = (reply.info_len.get(), reply.error_len.get());
    // SAFETY: the caller's buffers, while its call lasts.
    let table = unsafe { options.deliver(&bytes, info, errors) };
    result.and_then(|()| Table::decode(table))
}

fn source(session: &Session, image: &[u8], jit: &[u8]) -> Option<Arc<Source>> {
    let others = servers::others(session).next();
    others.map(|_| {
        Arc::new(Source {
            image: image.to_vec(),
            options: jit.to_vec(),
        })
    })
}

pub unsafe fn cuLibraryLoadData(
    library: *mut u64,
    code: *const c_void,
    jit_options: *mut u32,
    jit_values: *mut *mut c_void,
    jit_count: u32,
    options: *mut u32,
    _values: *mut *mut c_void,
    count: u32,
) -> u32 {
    enter("cuLibraryLoadData", Needs::Session, |session| {
        required(library)?;
        // SAFETY: the caller's arrays and image.
        let (options, image) = unsafe {
            check_options(count, options)?;
            let options = Options::read(jit_count, jit_options, jit_values)?;
            (options, image::bytes(code)?)
        };
        let id = load(session, image, &options.encoded(), &options)?;
        // SAFETY: the caller's place.
        unsafe { put(library, id) }
    })
}

pub unsafe fn cuLibraryLoadFromFile(
    library: *mut u64,
    file: *const c_char,
    jit_options: *mut u32,
    jit_values: *mut *mut c_void,
    jit_count: u32,
    options: *mut u32,
    _values: *mut *mut c_void,
    count: u32,
) -> u32 {
    use std::os::unix::ffi::OsStrExt;
    enter("cuLibraryLoadFromFile", Needs::Session, |session| {
        required(library)?;
        // SAFETY: the caller's arrays and string.
        let (options, path) = unsafe {
            check_options(count, options)?;
            let options = Options::read(jit_count, jit_options, jit_values)?;
            (options, input_str(file)?)
        };
        let file = std::fs::read(OsStr::from_bytes(path)).map_err(|_| CudaError::FILE_NOT_FOUND)?;
        let id = load(
            session,
            image::in_file(&file)?,
            &options.encoded(),
            &options,
        )?;
        // SAFETY: the caller's place.
        unsafe { put(library, id) }
    })
}

pub unsafe fn cuLibraryUnload(library: u64) -> u32 {
    let of = Of::Handle(library);
    of.enter("cuLibraryUnload", Needs::Session, |session| {
        let kernels = unload(session, library)?;
        for other in servers::others(session) {
            let twin = {
                let mut modules = other.modules();
                modules.twins.retain(|id, _| !kernels.contains(id));
                modules.twins.remove(&library)
            };
            // Of a server that is gone, it is gone.
            if let Some(twin) = twin {
                let _ = unload(other, twin);
            }
        }
        Ok(())
    })
}

/// Unloads it from one server; the ids of its kernels, which end.
fn unload(session: &Session, library: u64) -> Result<Vec<u64>, CudaError> {
    session.handles.consume(Kind::Library, library)?;
    let (modules, kernels) = {
        let mut held = session.modules();
        let kernels = held
            .kernels
            .extract_if(|_, kernel| kernel.library == library);
        let kernels: Vec<u64> = kernels.map(|(kernel, _)| kernel).collect();
        for kernel in &kernels {
            session.handles.forget(*kernel);
        }
        let gone = held.libraries.remove(&library);
        let modules: Vec<u64> = gone
            .map(|gone| gone.modules.into_values().collect())
            .unwrap_or_default();
        for module in &modules {
            held.remove(session, *module);
        }
        (modules, kernels)
    };
    for module in modules {
        session.handles.forget(module);
        end_variables(session, module);
    }
    end_variables(session, library);
    send::rgpuLibraryUnload(session, library)?;
    Ok(kernels)
}

/// The id of a library's kernel, made at the first question.
fn kernel_id(
    session: &Session,
    modules: &mut Modules,
    id: u64,
    at: usize,
) -> Result<u64, CudaError> {
    let held = library(modules, id)?;
    let entry = held
        .tables
        .get(&held.device)
        .and_then(|table| table.entries.get(at));
    let entry = entry.ok_or(CudaError::NOT_FOUND)?.clone();
    held.ids.resize(held.ids.len().max(at + 1), 0);
    if held.ids[at] != 0 {
        return Ok(held.ids[at]);
    }
    let name = CString::new(entry.name.as_str()).map_err(|_| CudaError::INVALID_VALUE)?;
    let made = session.handles.make(Kind::Kernel, 0);
    held.ids[at] = made;
    modules.kernels.insert(
        made,
        Kernel {
            library: id,
            entry,
            name,
        },
    );
    Ok(made)
}

/// The id of a library's kernel of this name.
fn kernel_of(
    session: &Session,
    modules: &mut Modules,
    id: u64,
    name: &str,
) -> Result<u64, CudaError> {
    let held = library(modules, id)?;
    let (at, _) = held.entry(session, id, name, held.device)?;
    kernel_id(session, modules, id, at)
}

pub unsafe fn cuLibraryGetKernel(kernel: *mut u64, library: u64, name: *const c_char) -> u32 {
    Of::Handle(library).enter("cuLibraryGetKernel", Needs::Session, |session| {
        required(kernel)?;
        let mut modules = session.modules();
        self::library(&mut modules, library)?;
        // SAFETY: the caller's string.
        let name = unsafe { name_of(name) }?;
        let id = kernel_of(session, &mut modules, library, name)?;
        // SAFETY: the caller's place.
        unsafe { put(kernel, id) }
    })
}

fn count_of(library: &Library) -> usize {
    let table = library.tables.get(&library.device);
    table.map_or(0, |table| table.entries.len())
}

pub unsafe fn cuLibraryGetKernelCount(count: *mut u32, library: u64) -> u32 {
    Of::Handle(library).enter("cuLibraryGetKernelCount", Needs::Session, |session| {
        let known = count_of(self::library(&mut session.modules(), library)?);
        // SAFETY: the caller's place.
        unsafe { put(count, known as u32) }
    })
}

pub unsafe fn cuLibraryEnumerateKernels(kernels: *mut u64, count: u32, library: u64) -> u32 {
    Of::Handle(library).enter("cuLibraryEnumerateKernels", Needs::Session, |session| {
        required(kernels)?;
        let mut modules = session.modules();
        let known = count_of(self::library(&mut modules, library)?);
        for at in 0..known.min(count as usize) {
            let id = kernel_id(session, &mut modules, library, at)?;
            // SAFETY: the caller's array of `count`.
            unsafe { kernels.add(at).write(id) };
        }
        Ok(())
    })
}

pub unsafe fn cuLibraryGetModule(module: *mut u64, library: u64) -> u32 {
    enter("cuLibraryGetModule", Needs::Context, |session| {
        required(module)?;
        let (context, library) = (session.owner(), here(session, library)?);
        let id = session
            .modules()
            .library_module(session, library, context)?;
        // SAFETY: the caller's place.
        unsafe { put(module, id) }
    })
}

pub unsafe fn cuLibraryGetGlobal(
    address: *mut u64,
    bytes: *mut usize,
    library: u64,
    name: *const c_char,
) -> u32 {
    enter("cuLibraryGetGlobal", Needs::Context, |session| {
        let (context, library) = (session.owner(), here(session, library)?);
        let module = session
            .modules()
            .library_module(session, library, context)?;
        // SAFETY: the caller's string.
        let (at, size) = global(session, module, unsafe { input_str(name) }?)?;
        // SAFETY: the caller's places, or NULL.
        unsafe {
            put_opt(address, at);
            put_opt(bytes, size as usize);
        }
        Ok(())
    })
}

/// Where the library's managed variables can be asked about: they are there once it is in any context.
fn context_with(session: &Session, library: &Library) -> Result<u64, CudaError> {
    let current = session.owner();
    let any = library.modules.keys().next();
    match (library.modules.contains_key(&current), any) {
        (false, Some(other)) => Ok(*other),
        _ if current == 0 => Err(CudaError::NOT_FOUND),
        _ => Ok(current),
    }
}

fn managed(session: &Session, id: u64, name: &[u8]) -> Result<(u64, u64), CudaError> {
    let context = {
        let mut modules = session.modules();
        let held = library(&mut modules, id)?;
        if let Some(known) = held.managed.get(name) {
            return Ok(*known);
        }
        context_with(session, held)?
    };
    let mut reply = calls::rgpuLibraryManagedReply::default();
    let (at, size) = thread::within(context, || {
        session.modules().library_module(session, id, context)?;
        send::rgpuLibraryManaged(session, id, name, &mut reply)?;
        let (at, size) = (reply.address.get(), reply.size.get());
        adopt(session, at, size, id)?;
        Ok((at, size))
    })?;
    let managed = Some(session.devices.number(reply.device.get()));
    let (owner, name) = (id, name.to_vec());
    let variable = Variable {
        size,
        owner,
        managed,
    };
    session.memory().note_global(at, variable);
    let mut modules = session.modules();
    library(&mut modules, id)?.managed.insert(name, (at, size));
    Ok((at, size))
}

pub unsafe fn cuLibraryGetManaged(
    address: *mut u64,
    bytes: *mut usize,
    library: u64,
    name: *const c_char,
) -> u32 {
    Of::Handle(library).enter("cuLibraryGetManaged", Needs::Session, |session| {
        // One of them may be NULL.
        required(address).or_else(|_| required(bytes))?;
        session.handles.check(Kind::Library, library)?;
        // SAFETY: the caller's string.
        let name = unsafe { name_of(name) }?;
        let (at, size) = managed(session, library, name.as_bytes())?;
        // SAFETY: the caller's places, or NULL.
        unsafe {
            put_opt(address, at);
            put_opt(bytes, size as usize);
        }
        Ok(())
    })
}

/// A function with one address for host and device has none over a network: if there is such a one, the call is refused.
pub unsafe fn cuLibraryGetUnifiedFunction(
    function: *mut *mut c_void,
    library: u64,
    symbol: *const c_char,
) -> u32 {
    const NAME: &str = "cuLibraryGetUnifiedFunction";
    Of::Handle(library).enter(NAME, Needs::Session, |session| {
        required(function)?;
        session.handles.check(Kind::Library, library)?;
        // SAFETY: the caller's string.
        let name = unsafe { name_of(symbol) }?;
        send::rgpuLibraryShares(session, library, name.as_bytes())?;
        Err(refuse(NAME))
    })
}

pub unsafe fn cuKernelGetFunction(function: *mut u64, kernel: u64) -> u32 {
    enter("cuKernelGetFunction", Needs::Context, |session| {
        required(function)?;
        let (context, kernel) = (session.owner(), callee_here(session, kernel)?);
        let mut modules = session.modules();
        self::kernel(&modules, kernel)?;
        let id = modules.callable(session, kernel, context)?;
        // SAFETY: the caller's place.
        unsafe { put(function, id) }
    })
}

pub unsafe fn cuKernelGetLibrary(library: *mut u64, kernel: u64) -> u32 {
    Of::Handle(kernel).enter("cuKernelGetLibrary", Needs::Session, |session| {
        let owner = self::kernel(&session.modules(), kernel)?.library;
        // SAFETY: the caller's place.
        unsafe { put(library, owner) }
    })
}

/// The name lives as long as the library.
pub unsafe fn cuKernelGetName(name: *mut *const c_char, kernel: u64) -> u32 {
    Of::Handle(kernel).enter("cuKernelGetName", Needs::Session, |session| {
        let text = self::kernel(&session.modules(), kernel)?.name.as_ptr();
        // SAFETY: the caller's place.
        unsafe { put(name, text) }
    })
}

/// A kernel on a device: its library's id, its entry there, and what was set.
fn on_device(
    session: &Session,
    id: u64,
    device: i32,
) -> Result<(u64, Arc<FunctionEntry>, Settings), CudaError> {
    let id = callee_here(session, id)?;
    let mut modules = session.modules();
    let held = kernel(&modules, id)?;
    let (owner, name) = (held.library, held.entry.clone());
    let library = library(&mut modules, owner)?;
    let (_, entry) = library.entry(session, owner, &name.name, device)?;
    let settings = library.settings(&name.name, device);
    Ok((owner, entry, settings))
}

pub unsafe fn cuKernelGetAttribute(
    value: *mut i32,
    attribute: u32,
    kernel: u64,
    device: i32,
) -> u32 {
    Of::Device(device).enter("cuKernelGetAttribute", Needs::Session, |session| {
        required(value)?;
        let (_, entry, settings) = on_device(session, kernel, device)?;
        let known = settings.attribute(&entry, attribute);
        // SAFETY: the caller's place.
        unsafe { put(value, known.ok_or(CudaError::INVALID_VALUE)?) }
    })
}

pub unsafe fn cuKernelSetAttribute(attribute: u32, value: i32, kernel: u64, device: i32) -> u32 {
    Of::Device(device).enter("cuKernelSetAttribute", Needs::Session, |session| {
        let (library, entry, settings) = on_device(session, kernel, device)?;
        check_attribute(session, device, &entry, attribute, value)?;
        let (ordinal, name) = (session.devices.get(device)?.ordinal, entry.name.as_bytes());
        send::rgpuKernelSetAttribute(session, library, ordinal, attribute, value, name)?;
        settings.set(attribute, value);
        Ok(())
    })
}

pub unsafe fn cuKernelSetCacheConfig(kernel: u64, config: u32, device: i32) -> u32 {
    Of::Device(device).enter("cuKernelSetCacheConfig", Needs::Session, |session| {
        let kernel = callee_here(session, kernel)?;
        let modules = session.modules();
        let held = self::kernel(&modules, kernel)?;
        let ordinal = session.devices.get(device)?.ordinal;
        if config > 3 {
            return Err(CudaError::INVALID_VALUE);
        }
        let name = held.entry.name.as_bytes();
        send::rgpuKernelSetCacheConfig(session, held.library, ordinal, config, name)
    })
}

pub unsafe fn cuKernelGetParamInfo(
    kernel: u64,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> u32 {
    Of::Handle(kernel).enter("cuKernelGetParamInfo", Needs::Session, |session| {
        required(offset)?;
        let modules = session.modules();
        let params = &self::kernel(&modules, kernel)?.entry.params;
        let (at, bytes) = *params.get(index).ok_or(CudaError::INVALID_VALUE)?;
        // SAFETY: the caller's places; the size may be NULL.
        unsafe {
            put_opt(size, bytes as usize);
            put(offset, at as usize)
        }
    })
}

pub unsafe fn cuKernelGetParamCount(kernel: u64, count: *mut usize) -> u32 {
    Of::Handle(kernel).enter("cuKernelGetParamCount", Needs::Session, |session| {
        let known = self::kernel(&session.modules(), kernel)?.entry.params.len();
        // SAFETY: the caller's place.
        unsafe { put(count, known) }
    })
}
