use std::ffi::c_void;
use std::ptr;

use rgpu_content::What;
use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuModuleGlobalReply, rgpuModuleLoadReply};
use rgpu_proto::module_table::{self, FunctionEntry, MAX_SYMBOLS, ModuleTable};

use crate::calls::function::{entry, name, text};
use crate::calls::jit::{MAX_REGISTERS, Options, terminated};
use crate::calls::library;
use crate::code_size;
use crate::handles::Kind;
use crate::reaper::{Action, Pointer};
use crate::state::{SOME, State};

pub fn rgpuModuleLoad(
    state: &State,
    id: u64,
    image: &[u8],
    log_bytes: u32,
    max_registers: u32,
    out: &mut rgpuModuleLoadReply,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let (loaded, options) = load(state, id, image, log_bytes, max_registers);
    let (info, errors) = options.reply(reply);
    out.info_len.set(info);
    out.error_len.set(errors);
    let table = table(state, loaded?);
    let encoded = reply.len();
    append_table(&table, reply);
    if let (Some(content), true, 0) = (state.shared.content.get(), table.complete, log_bytes)
        && let Ok(device) = device(state)
    {
        let what = What::Module {
            device,
            max_registers,
            table: reply[encoded..].to_vec(),
        };
        content.loaded(what, image);
    }
    Ok(())
}

/// The current context's, by the driver's number.
fn device(state: &State) -> Result<i32, CudaError> {
    let mut device = 0;
    // SAFETY: a place for the number.
    unsafe { driver_call!(state.driver.cuCtxGetDevice(&mut device)) }?;
    Ok(device)
}

/// Loads an image for the current context; what became of it, and the options with their logs. An id whose load fails is poisoned.
pub fn load(
    state: &State,
    id: u64,
    image: &[u8],
    log_bytes: u32,
    max_registers: u32,
) -> (Result<*mut c_void, CudaError>, Options) {
    state.shared.note_code(image);
    let least = code_size::least(image);
    let image = terminated(image);
    let mut numbers = Vec::new();
    if max_registers > 0 {
        numbers.push((MAX_REGISTERS, u64::from(max_registers)));
    }
    let mut options = Options::new(log_bytes, log_bytes, &numbers);
    let mut load = || {
        // What is undone has been taken from others meanwhile.
        if state.shared.memory().lacks_room(least) {
            return Err(CudaError::OUT_OF_MEMORY);
        }
        let (count, names, values) = options.arguments();
        let loaded = state.with_room(SOME, || {
            let mut module = ptr::null_mut();
            // SAFETY: the image is terminated, the options say how long the logs are.
            unsafe {
                driver_call!(state.driver.cuModuleLoadDataEx(
                    &mut module,
                    image.as_ptr().cast(),
                    count,
                    names,
                    values
                ))
            }
            .map(|()| module)
        });
        loaded.and_then(|module| {
            let within = state.shared.check_quota().map(|()| module);
            within.inspect_err(|_| {
                // SAFETY: it was loaded above, and nobody knows it.
                let _ = unsafe { driver_call!(state.driver.cuModuleUnload(module)) };
            })
        })
    };
    let mut loaded = load();
    if loaded == Err(CudaError::OUT_OF_MEMORY) && state.shared.reaper.drain() {
        loaded = load();
    }
    let kept = loaded
        .inspect_err(|error| state.handles.poison(Kind::Module, id, *error))
        .and_then(|module| {
            let inserted = state.handles.insert(Kind::Module, id, module);
            if inserted.is_err() {
                // SAFETY: it was loaded above, and nobody knows it.
                unsafe { driver_call!(state.driver.cuModuleUnload(module)) }?;
            }
            inserted.map(|()| module)
        });
    (kept, options)
}

/// Encodes a table into a reply; one that is too long comes out as an empty one, from which names must be asked for.
pub fn append_table(table: &ModuleTable, reply: &mut Vec<u8>) {
    match module_table::encode(table) {
        Ok(bytes) => reply.extend_from_slice(&bytes),
        Err(error) => {
            tracing::warn!(%error, "a table of functions is too long; names will be asked for one by one");
            if let Ok(bytes) = module_table::encode(&ModuleTable::default()) {
                reply.extend_from_slice(&bytes);
            }
        }
    }
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

pub fn rgpuModuleUnload(state: &State, id: u64) -> Result<(), CudaError> {
    if library::has_module(state, id) {
        return Err(CudaError::NOT_PERMITTED);
    }
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
    const IS_MANAGED: u32 = 8;
    // NVIDIA's driver writes booleans as four bytes.
    out.managed.set(u32::from(
        pointer_attribute(state, IS_MANAGED, address) & 0xff != 0,
    ));
    out.device.set(device_of(state, address));
    Ok(())
}

/// The driver's number of the device whose memory this is.
pub fn device_of(state: &State, address: u64) -> i32 {
    const DEVICE_ORDINAL: u32 = 9;
    pointer_attribute(state, DEVICE_ORDINAL, address) as i32
}

/// 0 from a driver that does not know the attribute.
fn pointer_attribute(state: &State, attribute: u32, address: u64) -> u32 {
    let mut value = 0u32;
    let place = (&raw mut value).cast();
    // SAFETY: a place of four bytes, as those have that are asked for here.
    let known = unsafe {
        driver_call!(
            state
                .driver
                .cuPointerGetAttribute(place, attribute, address)
        )
    };
    known.map_or(0, |()| value)
}
