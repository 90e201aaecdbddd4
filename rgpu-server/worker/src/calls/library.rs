use std::collections::HashMap;
use std::collections::hash_map::{Entry, VacantEntry};
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::{MutexGuard, PoisonError};

use rgpu_content::What;
use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuLibraryLoadReply, rgpuLibraryManagedReply};
use rgpu_proto::module_table::{FunctionEntry, MAX_SYMBOLS, ModuleTable};

use crate::calls::function::{attributes, params, text};
use crate::calls::jit::{Options, terminated};
use crate::calls::module::{append_table, device_of};
use crate::handles::{Kind, MAX_CONTEXTS};
use crate::reaper::{Action, Pointer};
use crate::state::State;

/// Most libraries of one session at a time.
const MAX_LIBRARIES: usize = 1 << 16;

/// A library of the driver's.
pub struct Library {
    /// Or why it could not be loaded.
    pointer: Result<Pointer, CudaError>,
    /// Ids of its modules, one for each context that has asked.
    modules: Vec<u64>,
}

/// The session's libraries by their ids.
pub type Libraries = HashMap<u64, Library>;

fn libraries(state: &State) -> MutexGuard<'_, Libraries> {
    let libraries = state.shared.libraries.lock();
    libraries.unwrap_or_else(PoisonError::into_inner)
}

fn pointer(state: &State, id: u64) -> Result<*mut c_void, CudaError> {
    let libraries = libraries(state);
    let library = libraries.get(&id).ok_or(CudaError::INVALID_HANDLE)?;
    Ok(library.pointer?.0)
}

/// Whether a module is a library's: it ends with that only.
pub fn has_module(state: &State, id: u64) -> bool {
    let libraries = libraries(state);
    libraries
        .values()
        .any(|library| library.modules.contains(&id))
}

#[expect(clippy::too_many_arguments, reason = "cuLibraryLoadData's own")]
pub fn rgpuLibraryLoad(
    state: &State,
    id: u64,
    device: i32,
    image: &[u8],
    options: &[u8],
    info_bytes: u32,
    error_bytes: u32,
    out: &mut rgpuLibraryLoadReply,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let mut libraries = libraries(state);
    let place = vacant(&mut libraries, id)?;
    let mut read = Options::from_wire(info_bytes, error_bytes, options)?;
    let loaded = load(state, image, &mut read);
    let (info, errors) = read.reply(reply);
    out.info_len.set(info);
    out.error_len.set(errors);
    let library = loaded?;
    place.insert(Library {
        pointer: Ok(Pointer(library)),
        modules: Vec::new(),
    });
    let table = in_a_context(state, || table(state, library, device));
    let encoded = reply.len();
    append_table(&table, reply);
    let logs = info_bytes.max(error_bytes);
    if let (Some(content), true, 0) = (state.shared.content.get(), table.complete, logs) {
        let what = What::Library {
            device,
            options: options.to_vec(),
            table: reply[encoded..].to_vec(),
        };
        content.loaded(what, image);
    }
    Ok(())
}

/// The same where the client knows the table and waits for nothing: an id whose load fails is poisoned.
pub fn load_known(state: &State, id: u64, image: &[u8], options: &[u8]) -> Result<(), CudaError> {
    let mut libraries = libraries(state);
    let place = vacant(&mut libraries, id)?;
    let read = Options::from_wire(0, 0, options);
    let loaded = read.and_then(|mut options| load(state, image, &mut options));
    place.insert(Library {
        pointer: loaded.map(Pointer),
        modules: Vec::new(),
    });
    loaded.map(|_| ())
}

/// The place of an id that is new.
fn vacant(libraries: &mut Libraries, id: u64) -> Result<VacantEntry<'_, u64, Library>, CudaError> {
    if libraries.len() >= MAX_LIBRARIES {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    match libraries.entry(id) {
        Entry::Vacant(place) => Ok(place),
        Entry::Occupied(_) => Err(CudaError::INVALID_VALUE),
    }
}

fn load(state: &State, image: &[u8], options: &mut Options) -> Result<*mut c_void, CudaError> {
    state.shared.note_code(image);
    let image = terminated(image);
    let (count, names, values) = options.arguments();
    let mut library = ptr::null_mut();
    // SAFETY: the image is terminated, arrays of `count`, and no options of the library's.
    unsafe {
        driver_call!(state.driver.cuLibraryLoadData(
            &mut library,
            image.as_ptr().cast(),
            names,
            values,
            count,
            ptr::null_mut(),
            ptr::null_mut(),
            0
        ))
    }
    .map(|()| library)
}

/// NVIDIA's driver says nothing of kernels to a thread without a context, which the program's thread needs none to load code.
fn in_a_context<T>(state: &State, ask: impl FnOnce() -> T) -> T {
    let borrowed = match state.handles.context() {
        0 => state.handles.contexts().first().copied(),
        _ => None,
    };
    let Some(context) = borrowed else {
        return ask();
    };
    // SAFETY: a live context of this driver's: what ends contexts waits for the turn that this call has. The thread has none.
    let lent = unsafe { driver_call!(state.driver.cuCtxSetCurrent(context)) };
    let answer = ask();
    if lent.is_ok() {
        // SAFETY: NULL: the thread has none again.
        let _ = unsafe { driver_call!(state.driver.cuCtxSetCurrent(ptr::null_mut())) };
    }
    answer
}

/// All kernels, if the driver can list them (those since CUDA 12.4 can).
fn table(state: &State, library: *mut c_void, device: i32) -> ModuleTable {
    let mut count = 0;
    // SAFETY: a library of the driver's; a place for the number.
    let counted =
        unsafe { driver_call!(state.driver.cuLibraryGetKernelCount(&mut count, library)) };
    if counted.is_err() || count as usize > MAX_SYMBOLS {
        return ModuleTable::default();
    }
    let mut kernels = vec![ptr::null_mut(); count as usize];
    if count > 0 {
        // SAFETY: a library of the driver's; room for that many.
        let listed = unsafe {
            driver_call!(state.driver.cuLibraryEnumerateKernels(
                kernels.as_mut_ptr(),
                count,
                library
            ))
        };
        if listed.is_err() {
            return ModuleTable::default();
        }
    }
    let entries = kernels
        .into_iter()
        .map(|kernel| entry(state, kernel, device));
    match entries.collect() {
        Some(functions) => ModuleTable {
            functions,
            complete: true,
        },
        None => ModuleTable::default(),
    }
}

pub fn rgpuLibraryTable(
    state: &State,
    library: u64,
    device: i32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let library = pointer(state, library)?;
    let table = in_a_context(state, || table(state, library, device));
    append_table(&table, reply);
    Ok(())
}

/// Name, parameters and attributes; `None` if the driver cannot tell them.
fn entry(state: &State, kernel: *mut c_void, device: i32) -> Option<FunctionEntry> {
    let mut name: *const c_char = ptr::null();
    // SAFETY: a kernel of the driver's; a place for the pointer.
    unsafe { driver_call!(state.driver.cuKernelGetName(&mut name, kernel)) }.ok()?;
    if name.is_null() {
        return None;
    }
    Some(FunctionEntry {
        // SAFETY: the driver's own text, which lives as long as the library.
        name: unsafe { CStr::from_ptr(name) }.to_str().ok()?.to_owned(),
        params: params(|index, offset, size| {
            // SAFETY: a kernel of the driver's; places for the two numbers.
            unsafe {
                driver_call!(
                    state
                        .driver
                        .cuKernelGetParamInfo(kernel, index, offset, size)
                )
            }
        })?,
        attributes: attributes(|value, attribute| {
            // SAFETY: a kernel of the driver's; a place for the number.
            unsafe {
                driver_call!(
                    state
                        .driver
                        .cuKernelGetAttribute(value, attribute, kernel, device)
                )
            }
        }),
    })
}

pub fn rgpuLibraryUnload(state: &State, id: u64) -> Result<(), CudaError> {
    let library = libraries(state).remove(&id);
    let library = library.ok_or(CudaError::INVALID_HANDLE)?;
    let pointer = library.pointer?;
    let mut contexts = Vec::new();
    for module in library.modules {
        // Those of contexts that have ended are gone.
        let Ok(context) = state.handles.context_of_module(module) else {
            continue;
        };
        if let Ok(module) = state.handles.take(Kind::Module, module) {
            let mut functions = state.shared.functions();
            functions.retain(|_, function| function.module != module.addr());
            contexts.push(context);
        }
    }
    let action = Action::UnloadLibrary(pointer);
    state.shared.reaper.after(contexts, action);
    Ok(())
}

pub fn rgpuLibraryModule(state: &State, id: u64, library: u64) -> Result<(), CudaError> {
    let found = || {
        let mut libraries = libraries(state);
        let held = libraries.get_mut(&library);
        let held = held.ok_or(CudaError::INVALID_HANDLE)?;
        let pointer = held.pointer?.0;
        held.modules
            .retain(|module| state.handles.get(Kind::Module, *module).is_ok());
        if held.modules.len() >= MAX_CONTEXTS {
            return Err(CudaError::OUT_OF_MEMORY);
        }
        let get = || {
            let mut module = ptr::null_mut();
            // SAFETY: a library of the driver's; a place for the handle.
            unsafe { driver_call!(state.driver.cuLibraryGetModule(&mut module, pointer)) }
                .map(|()| module)
        };
        let mut module = get();
        // Its variables take memory.
        if module == Err(CudaError::OUT_OF_MEMORY) && state.shared.reaper.drain() {
            module = get();
        }
        state.handles.insert(Kind::Module, id, module?)?;
        held.modules.push(id);
        Ok(())
    };
    found().inspect_err(|error| state.handles.poison(Kind::Module, id, *error))
}

fn kernel(state: &State, library: u64, name: &CStr) -> Result<*mut c_void, CudaError> {
    let library = pointer(state, library)?;
    let mut kernel = ptr::null_mut();
    // SAFETY: a library of the driver's, a terminated name, a place for the handle.
    unsafe {
        driver_call!(
            state
                .driver
                .cuLibraryGetKernel(&mut kernel, library, name.as_ptr())
        )
    }?;
    Ok(kernel)
}

pub fn rgpuKernelFind(
    state: &State,
    library: u64,
    device: i32,
    name: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let kernel = kernel(state, library, &text(name)?)?;
    let Some(entry) = in_a_context(state, || entry(state, kernel, device)) else {
        tracing::warn!("the driver does not tell a kernel's parameters, as those before CUDA 12.4");
        return Err(CudaError::NOT_SUPPORTED);
    };
    let functions = vec![entry];
    append_table(
        &ModuleTable {
            functions,
            complete: false,
        },
        reply,
    );
    Ok(())
}

pub fn rgpuKernelSetAttribute(
    state: &State,
    library: u64,
    device: i32,
    attribute: u32,
    value: i32,
    name: &[u8],
) -> Result<(), CudaError> {
    let kernel = kernel(state, library, &text(name)?)?;
    // SAFETY: a kernel of the driver's.
    unsafe {
        driver_call!(
            state
                .driver
                .cuKernelSetAttribute(attribute, value, kernel, device)
        )
    }
}

pub fn rgpuKernelSetCacheConfig(
    state: &State,
    library: u64,
    device: i32,
    config: u32,
    name: &[u8],
) -> Result<(), CudaError> {
    let kernel = kernel(state, library, &text(name)?)?;
    // SAFETY: a kernel of the driver's.
    unsafe { driver_call!(state.driver.cuKernelSetCacheConfig(kernel, config, device)) }
}

pub fn rgpuLibraryShares(state: &State, library: u64, name: &[u8]) -> Result<(), CudaError> {
    let (library, name): (_, CString) = (pointer(state, library)?, text(name)?);
    let mut address = ptr::null_mut();
    // SAFETY: a library of the driver's, a terminated name, a place for the address.
    unsafe {
        driver_call!(
            state
                .driver
                .cuLibraryGetUnifiedFunction(&mut address, library, name.as_ptr())
        )
    }
}

pub fn rgpuLibraryManaged(
    state: &State,
    library: u64,
    name: &[u8],
    out: &mut rgpuLibraryManagedReply,
) -> Result<(), CudaError> {
    let (library, name): (_, CString) = (pointer(state, library)?, text(name)?);
    let (mut address, mut size) = (0, 0);
    // SAFETY: a library of the driver's, a terminated name, places for the two numbers.
    unsafe {
        driver_call!(state.driver.cuLibraryGetManaged(
            &mut address,
            &mut size,
            library,
            name.as_ptr()
        ))
    }?;
    out.address.set(address);
    out.size.set(size as u64);
    out.device.set(device_of(state, address));
    Ok(())
}
