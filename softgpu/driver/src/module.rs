//! Modules and their functions.

use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use softgpu_engine::{GlobalInfo, KernelInfo, Program};

use crate::abi::In;
use crate::code::{Code, Traits};
use crate::context::Context;
use crate::copy;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::exports::Legacy;
use crate::fatbin::Refusal;
use crate::handles;
use crate::memory::{Kind, MODULE_OWNED};
use crate::runtime::Runtime;
use crate::say;
use crate::texture::{self, Owner, Reference, References};

/// Shared memory of a block that needs no asking for.
const SHARED: u32 = 48 << 10;

pub struct Module {
    pub handle: u64,
    pub context: Arc<Context>,
    pub program: Arc<dyn Program>,
    /// Where the variables are, by their index in the program.
    pub addresses: Box<[u64]>,
    /// Variables that are textures, samplers or surfaces.
    pub references: References,
    pub traits: Traits,
    /// Of each kernel; those of a library's kernels are the same in all contexts of a device.
    settings: Box<[Arc<Settings>]>,
    /// Belongs to a library, which unloads it.
    pub of_library: bool,
    functions: Mutex<Vec<Weak<Function>>>,
}

/// Where a library's managed variables are, by their index in the program, once it is in a context: the same for all contexts.
pub type Managed = Option<Box<[u64]>>;

/// What a library's modules have in common.
pub struct OfLibrary<'a> {
    pub settings: Box<[Arc<Settings>]>,
    pub managed: &'a mut Managed,
}

pub struct Function {
    pub handle: u64,
    pub module: Arc<Module>,
    pub index: usize,
    pub name: String,
    c_name: OnceLock<CString>,
    pub settings: Arc<Settings>,
    prepared: OnceLock<Result>,
    pub legacy: Mutex<Legacy>,
}

/// What a program has set for a kernel.
pub struct Settings {
    /// Dynamic shared memory that the program asked for, plus one; 0: never asked.
    dynamic_shared: AtomicU32,
    carveout: AtomicU32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            dynamic_shared: AtomicU32::new(0),
            carveout: AtomicU32::new(u32::MAX),
        }
    }
}

impl Module {
    pub fn load(
        runtime: &Runtime,
        context: &Arc<Context>,
        image: In<c_void>,
        max_registers: Option<u32>,
    ) -> std::result::Result<Arc<Module>, Refusal> {
        let (major, minor) = context.device.capability;
        let code = Code::read(image, major * 10 + minor, max_registers)?;
        Module::place(runtime, context, &code, None)
            .map_err(|error| Refusal::new(error, "no memory for the module's variables"))
    }

    /// Gives code its variables in a context.
    pub fn place(
        runtime: &Runtime,
        context: &Arc<Context>,
        code: &Code,
        library: Option<OfLibrary<'_>>,
    ) -> Result<Arc<Module>> {
        let program = code.program.clone();
        let kernels = program.kernels().len();
        let (settings, managed) = match library {
            Some(OfLibrary { settings, managed }) => (Some(settings), Some(managed)),
            None => (None, None),
        };
        let addresses = place(runtime, context, &*program, managed)?;
        let handle = handles::fresh();
        let owner = Owner {
            context: context.handle,
            module: handle,
        };
        let module = Arc::new(Module {
            handle,
            context: context.clone(),
            references: texture::of_module(runtime, owner, &*program, &addresses),
            addresses,
            program,
            traits: code.traits,
            of_library: settings.is_some(),
            settings: settings.unwrap_or_else(|| (0..kernels).map(|_| Arc::default()).collect()),
            functions: Mutex::new((0..kernels).map(|_| Weak::new()).collect()),
        });
        runtime.modules.insert(module.handle, module.clone());
        Ok(module)
    }

    pub fn unload(&self, runtime: &Runtime) -> Result {
        // Kernels of it may be running.
        self.context.drain();
        runtime
            .functions
            .remove_if(|function| function.module.handle == self.handle);
        let mine = |owner: Owner| owner.module == self.handle;
        runtime
            .texture_references
            .remove_if(|reference| mine(reference.owner));
        runtime
            .surface_references
            .remove_if(|reference| mine(reference.owner));
        let variables = self.program.globals().iter().zip(&self.addresses);
        let own = variables.filter(|(global, _)| !(global.managed && self.of_library));
        runtime.still(|| {
            for (_, &address) in own {
                let _ = runtime.memory.free(address);
            }
        });
        self.context.check()
    }

    pub fn function(self: &Arc<Self>, runtime: &Runtime, index: usize) -> Arc<Function> {
        let mut functions = self.functions.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(function) = functions[index].upgrade() {
            return function;
        }
        let function = Arc::new(Function {
            handle: handles::fresh(),
            module: self.clone(),
            index,
            name: self.program.kernels()[index].name.clone(),
            c_name: OnceLock::new(),
            settings: self.settings[index].clone(),
            prepared: OnceLock::new(),
            legacy: Mutex::default(),
        });
        functions[index] = Arc::downgrade(&function);
        runtime.functions.insert(function.handle, function.clone());
        function
    }

    pub fn function_by_name(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
    ) -> Result<Arc<Function>> {
        let at = self
            .program
            .kernels()
            .iter()
            .position(|kernel| kernel.name == name);
        Ok(self.function(runtime, at.ok_or(Error::ERROR_NOT_FOUND)?))
    }

    /// The texture, sampler or surface of a name.
    pub fn reference(&self, name: &str) -> Result<&Reference> {
        let mut globals = self.program.globals().iter().zip(&self.addresses);
        let found = globals.find(|(global, _)| global.opaque.is_some() && global.name == name);
        let (_, at) = found.ok_or(Error::ERROR_NOT_FOUND)?;
        let mut references = self.references.iter();
        let found = references.find(|(address, _)| address == at);
        found
            .map(|(_, reference)| reference)
            .ok_or(Error::ERROR_NOT_FOUND)
    }

    /// Address and size of a variable.
    pub fn global(&self, name: &str) -> Result<(u64, u64)> {
        let globals = self.program.globals();
        let at = globals
            .iter()
            .position(|global| global.visible && global.opaque.is_none() && global.name == name);
        let at = at.ok_or(Error::ERROR_NOT_FOUND)?;
        Ok((self.addresses[at], globals[at].size))
    }
}

/// Gives each variable memory, and its first value. `managed`: what a library has placed for all contexts.
fn place(
    runtime: &Runtime,
    context: &Context,
    program: &dyn Program,
    managed: Option<&mut Managed>,
) -> Result<Box<[u64]>> {
    let globals = program.globals();
    let known = managed.as_deref().and_then(Option::as_ref);
    let mut addresses: Vec<u64> = Vec::new();
    let mut fresh = Vec::new();
    let mut placed = Ok(());
    for (index, global) in globals.iter().enumerate() {
        if let Some(known) = known.filter(|_| global.managed) {
            addresses.push(known[index]);
            continue;
        }
        let (owner, kind) = match (global.managed, &managed) {
            (true, Some(_)) => (0, Kind::Managed),
            (true, None) => (context.handle, Kind::Managed),
            (false, _) => (context.handle, Kind::Device),
        };
        match variable(runtime, context, owner, global, kind) {
            Ok(address) => {
                fresh.push(index);
                addresses.push(address);
            }
            Err(error) => {
                placed = Err(error);
                break;
            }
        }
    }
    let written = placed.and_then(|()| {
        fresh.iter().try_for_each(|&index| {
            let image = program.initial_image(index, &addresses);
            copy::write(runtime, addresses[index], &image)
        })
    });
    if let Err(error) = written {
        runtime.still(|| {
            for &index in &fresh {
                let _ = runtime.memory.free(addresses[index]);
            }
        });
        return Err(error);
    }
    if let Some(managed) = managed {
        managed.get_or_insert_with(|| addresses.clone().into());
    }
    Ok(addresses.into())
}

fn variable(
    runtime: &Runtime,
    context: &Context,
    owner: u64,
    global: &GlobalInfo,
    kind: Kind,
) -> Result<u64> {
    // Allocations are aligned to 512 bytes; an extent of nothing still has an address.
    if global.align > 512 {
        return Err(Error::ERROR_INVALID_PTX);
    }
    let device = context.device.ordinal;
    let address = runtime
        .memory
        .allocate(device, owner, global.size.max(1), kind)?;
    runtime.memory.assign(address, MODULE_OWNED);
    Ok(address)
}

impl Function {
    pub fn info(&self) -> &KernelInfo {
        &self.module.program.kernels()[self.index]
    }

    /// Compiles the kernel, once; says once why that is impossible.
    pub fn prepare(&self) -> Result {
        *self.prepared.get_or_init(|| {
            self.module.program.prepare(self.index).map_err(|error| {
                say!("kernel {} cannot be run: {error}", self.name);
                Error::ERROR_INVALID_PTX
            })
        })
    }

    pub fn is_prepared(&self) -> bool {
        self.prepared.get().is_some_and(|result| result.is_ok())
    }

    pub fn c_name(&self) -> &CString {
        self.c_name
            .get_or_init(|| CString::new(self.name.as_str()).unwrap_or_default())
    }

    pub fn max_dynamic_shared(&self) -> u32 {
        self.settings.max_dynamic_shared(self.info())
    }

    /// Blocks of this size that one multiprocessor holds.
    pub fn occupancy(&self, threads: u32, dynamic_shared: u64) -> u32 {
        let (device, info) = (&self.module.context.device, self.info());
        if threads == 0 || threads > info.max_threads {
            return 0;
        }
        // Whole warps; registers of a warp in units of 256.
        let warps = threads.div_ceil(32);
        let registers = (self.module.traits.registers(info) * 32).next_multiple_of(256) * warps;
        let shared =
            (u64::from(info.static_shared) + dynamic_shared + (1 << 10)).next_multiple_of(128);
        let by_shared = u64::from(device.max_shared_per_multiprocessor()) / shared;
        (device.threads_per_multiprocessor() / (warps * 32))
            .min(65_536 / registers.max(1))
            .min(by_shared.min(u64::from(u32::MAX)) as u32)
            .min(device.blocks_per_multiprocessor())
    }
}

/// CU_FUNC_ATTRIBUTE_*
const MAX_DYNAMIC_SHARED: u32 = 8;
const CARVEOUT: u32 = 9;

impl Settings {
    fn max_dynamic_shared(&self, info: &KernelInfo) -> u32 {
        match self.dynamic_shared.load(Relaxed) {
            0 => SHARED.saturating_sub(info.static_shared),
            asked => asked - 1,
        }
    }

    /// CUfunction_attribute of a kernel on a device.
    pub fn attribute(
        &self,
        info: &KernelInfo,
        traits: &Traits,
        device: &Device,
        attribute: u32,
    ) -> Result<i32> {
        let (major, minor) = device.capability;
        let found = match attribute {
            0 => info.max_threads,
            1 => info.static_shared,
            2 => traits.constants,
            3 => info.local_bytes,
            4 => traits.registers(info),
            5 => traits.ptx_version.0 * 10 + traits.ptx_version.1,
            6 => major * 10 + minor,
            7 => 0, // CACHE_MODE_CA
            MAX_DYNAMIC_SHARED => self.max_dynamic_shared(info),
            CARVEOUT => self.carveout.load(Relaxed),
            // Clusters: none.
            10..=15 => 0,
            _ => return Err(Error::ERROR_INVALID_VALUE),
        };
        Ok(found as i32)
    }

    pub fn set(&self, info: &KernelInfo, device: &Device, attribute: u32, value: i32) -> Result {
        let invalid = Error::ERROR_INVALID_VALUE;
        match attribute {
            MAX_DYNAMIC_SHARED => {
                let bytes = u32::try_from(value).map_err(|_| invalid)?;
                if bytes > device.max_shared_optin().saturating_sub(info.static_shared) {
                    return Err(invalid);
                }
                self.dynamic_shared.store(bytes + 1, Relaxed);
                Ok(())
            }
            CARVEOUT if (-1..=100).contains(&value) => {
                self.carveout.store(value as u32, Relaxed);
                Ok(())
            }
            _ => Err(invalid),
        }
    }
}
