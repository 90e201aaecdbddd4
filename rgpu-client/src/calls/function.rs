//! Functions: nearly everything is answered from the table that came back with their module.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rgpu_proto::module_table::{self, FunctionEntry};
use rgpu_proto::{CudaError, calls};

use super::legacy::Legacy;
use super::occupancy::Known;
use crate::entry::{Needs, put, put_opt, required};
use crate::send;
use crate::servers::Of;
use crate::session::Session;

/// The functions of a module, or the kernels of a library.
#[derive(Clone, Default)]
pub struct Table {
    pub entries: Vec<Arc<FunctionEntry>>,
    places: HashMap<String, usize>,
    /// It has all of them; else one that is missing must be asked for.
    complete: bool,
}

impl Table {
    /// From a reply's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Table, CudaError> {
        let table = module_table::decode(bytes).map_err(|_| CudaError::UNKNOWN)?;
        let entries: Vec<_> = table.functions.into_iter().map(Arc::new).collect();
        let named = |(at, entry): (usize, &Arc<FunctionEntry>)| (entry.name.clone(), at);
        Ok(Table {
            places: entries.iter().enumerate().map(named).collect(),
            entries,
            complete: table.complete,
        })
    }

    /// The place of a name, which `find` asks the server for if the table is not complete.
    pub fn place(
        &mut self,
        name: &str,
        find: impl FnOnce(&mut Vec<u8>) -> Result<(), CudaError>,
    ) -> Result<usize, CudaError> {
        if let Some(at) = self.places.get(name) {
            return Ok(*at);
        }
        if self.complete {
            return Err(CudaError::NOT_FOUND);
        }
        let mut bytes = Vec::new();
        find(&mut bytes)?;
        let found = Table::decode(&bytes)?.entries;
        let entry = found.into_iter().find(|entry| entry.name == name);
        let at = self.entries.len();
        self.entries.push(entry.ok_or(CudaError::UNKNOWN)?);
        self.places.insert(name.to_owned(), at);
        Ok(at)
    }
}

/// Attributes that the program has set. A kernel's functions on one device have them in common.
#[derive(Clone, Default)]
pub struct Settings(Arc<Set>);

#[derive(Default)]
struct Set {
    values: Mutex<HashMap<u32, i32>>,
    /// How often one was set: of most functions none ever is.
    version: AtomicU64,
}

impl Settings {
    fn values(&self) -> MutexGuard<'_, HashMap<u32, i32>> {
        let values = self.0.values.lock();
        values.unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, attribute: u32, value: i32) {
        let mut values = self.values();
        values.insert(attribute, value);
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Differs when an attribute has been set since.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// The value that was set, or the one that the function came with.
    pub fn attribute(&self, entry: &FunctionEntry, attribute: u32) -> Option<i32> {
        let set = match self.version() {
            0 => None,
            _ => self.values().get(&attribute).copied(),
        };
        set.or_else(|| entry.attributes.get(attribute as usize).copied())
    }
}

/// A function that the program has a handle of.
pub struct Function {
    pub module: u64,
    pub context: u64,
    pub entry: Arc<FunctionEntry>,
    pub name: CString,
    pub device: i32,
    pub settings: Settings,
    /// Whether the program's calls have had it loaded: asked for by name, launched, or cuFuncLoad.
    pub loaded: bool,
    /// Shapes of blocks that the driver has taken, of a function that may want one of its own.
    pub blocks: Vec<[u32; 3]>,
    pub occupancy: Known,
    pub legacy: Legacy,
}

/// CUfunction_attribute.
pub const MAX_THREADS_PER_BLOCK: u32 = 0;
pub const SHARED_SIZE_BYTES: u32 = 1;
pub const MAX_DYNAMIC_SHARED_SIZE_BYTES: u32 = 8;
const PREFERRED_SHARED_MEMORY_CARVEOUT: u32 = 9;

impl Function {
    pub fn attribute(&self, attribute: u32) -> Option<i32> {
        self.settings.attribute(&self.entry, attribute)
    }
}

pub unsafe fn cuFuncGetAttribute(value: *mut i32, attribute: u32, function: u64) -> u32 {
    Of::Handle(function).enter("cuFuncGetAttribute", Needs::Context, |session| {
        let known = session
            .modules()
            .function(function)?
            .attribute(attribute)
            .ok_or(CudaError::INVALID_VALUE)?;
        // SAFETY: the caller's place.
        unsafe { put(value, known) }
    })
}

/// Whether a function on a device takes this value of an attribute.
pub fn check_attribute(
    session: &Session,
    device: i32,
    entry: &FunctionEntry,
    attribute: u32,
    value: i32,
) -> Result<(), CudaError> {
    const SHARED_OPTIN: i32 = 97;
    let good = match attribute {
        MAX_DYNAMIC_SHARED_SIZE_BYTES => {
            let most = session.devices.get(device)?.attribute(SHARED_OPTIN);
            let fixed = entry.attributes.get(SHARED_SIZE_BYTES as usize);
            value >= 0 && value <= most.unwrap_or(48 << 10) - fixed.unwrap_or(&0)
        }
        PREFERRED_SHARED_MEMORY_CARVEOUT => (-1..=100).contains(&value),
        _ => false,
    };
    good.then_some(()).ok_or(CudaError::INVALID_VALUE)
}

pub unsafe fn cuFuncSetAttribute(function: u64, attribute: u32, value: i32) -> u32 {
    Of::Handle(function).enter("cuFuncSetAttribute", Needs::Context, |session| {
        let modules = session.modules();
        let held = modules.function(function)?;
        check_attribute(session, held.device, &held.entry, attribute, value)?;
        send::rgpuFunctionSetAttribute(session, function, attribute, value)?;
        held.settings.set(attribute, value);
        Ok(())
    })
}

pub unsafe fn cuFuncSetCacheConfig(function: u64, config: u32) -> u32 {
    Of::Handle(function).enter("cuFuncSetCacheConfig", Needs::Context, |session| {
        session.modules().function(function)?;
        if config > 3 {
            return Err(CudaError::INVALID_VALUE);
        }
        send::rgpuFunctionSetCacheConfig(session, function, config)
    })
}

/// The name lives as long as the module.
pub unsafe fn cuFuncGetName(name: *mut *const c_char, function: u64) -> u32 {
    Of::Handle(function).enter("cuFuncGetName", Needs::Session, |session| {
        let text = session.modules().function(function)?.name.as_ptr();
        // SAFETY: the caller's place.
        unsafe { put(name, text) }
    })
}

pub unsafe fn cuFuncGetModule(module: *mut u64, function: u64) -> u32 {
    Of::Handle(function).enter("cuFuncGetModule", Needs::Session, |session| {
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
    Of::Handle(function).enter("cuFuncGetParamInfo", Needs::Session, |session| {
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

pub unsafe fn cuFuncGetParamCount(function: u64, count: *mut usize) -> u32 {
    Of::Handle(function).enter("cuFuncGetParamCount", Needs::Session, |session| {
        let known = session.modules().function(function)?.entry.params.len();
        // SAFETY: the caller's place.
        unsafe { put(count, known) }
    })
}

/// Shared memory banks have had one width for long: there is nothing to tell the server.
pub unsafe fn cuFuncSetSharedMemConfig(function: u64, config: u32) -> u32 {
    Of::Handle(function).enter("cuFuncSetSharedMemConfig", Needs::Context, |session| {
        session.modules().function(function)?;
        if config > 2 {
            return Err(CudaError::INVALID_VALUE);
        }
        Ok(())
    })
}

/// As the program's own calls have it: to the server each function that the program has a handle of is loaded.
pub unsafe fn cuFuncIsLoaded(state: *mut u32, function: u64) -> u32 {
    const EAGER: u32 = 1;
    Of::Handle(function).enter("cuFuncIsLoaded", Needs::Session, |session| {
        required(state)?;
        let mut loaded = session.modules().function(function)?.loaded;
        if !loaded {
            let mut reply = calls::cuModuleGetLoadingModeReply::default();
            send::cuModuleGetLoadingMode(session, &mut reply)?;
            loaded = reply.mode.get() == EAGER;
        }
        // SAFETY: the caller's place.
        unsafe { put(state, u32::from(loaded)) }
    })
}

pub unsafe fn cuFuncLoad(function: u64) -> u32 {
    Of::Handle(function).enter("cuFuncLoad", Needs::Session, |session| {
        if session.modules().function(function)?.loaded {
            return Ok(());
        }
        send::rgpuFunctionLoad(session, function)?;
        if let Some(held) = session.modules().functions.get_mut(&function) {
            held.loaded = true;
        }
        Ok(())
    })
}
