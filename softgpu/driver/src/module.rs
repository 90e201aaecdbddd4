//! Modules and their functions.

use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use softgpu_engine::{KernelInfo, Program};

use crate::abi::In;
use crate::context::Context;
use crate::copy;
use crate::error::{Error, Result};
use crate::fatbin::{self, Refusal};
use crate::handles;
use crate::memory::Kind;
use crate::runtime::Runtime;
use crate::say;

/// Shared memory of a block that needs no asking for.
const SHARED: u32 = 48 << 10;

pub struct Module {
    pub handle: u64,
    pub context: Arc<Context>,
    pub program: Arc<dyn Program>,
    /// Where the variables are, by their index in the program.
    pub addresses: Box<[u64]>,
    pub ptx_version: (u32, u32),
    functions: Mutex<Vec<Weak<Function>>>,
}

pub struct Function {
    pub handle: u64,
    pub module: Arc<Module>,
    pub index: usize,
    pub name: String,
    c_name: OnceLock<CString>,
    /// Dynamic shared memory that the program asked for, plus one; 0: never asked.
    dynamic_shared: AtomicU32,
    pub carveout: AtomicU32,
    prepared: OnceLock<Result>,
}

impl Module {
    pub fn load(
        runtime: &Runtime,
        context: &Arc<Context>,
        image: In<c_void>,
    ) -> std::result::Result<Arc<Module>, Refusal> {
        let (major, minor) = context.device.capability;
        let text = fatbin::read(image, major * 10 + minor)?;
        let invalid = |message: String| Refusal::new(Error::ERROR_INVALID_PTX, message);
        let parsed = softgpu_ptx::parse(&text).map_err(|error| invalid(error.to_string()))?;
        check_target(&parsed.target, major * 10 + minor).map_err(invalid)?;
        let program = softgpu_engine::interpreter()
            .compile(&parsed)
            .map_err(|error| invalid(error.to_string()))?;
        let addresses = place(runtime, context, &*program)
            .map_err(|error| Refusal::new(error, "no memory for the module's variables"))?;
        let functions = Mutex::new(program.kernels().iter().map(|_| Weak::new()).collect());
        let module = Arc::new(Module {
            handle: handles::fresh(),
            context: context.clone(),
            program,
            addresses: addresses.into(),
            ptx_version: parsed.version,
            functions,
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
        runtime.still(|| {
            for &address in self.addresses.iter().filter(|&&address| address != 0) {
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
            dynamic_shared: AtomicU32::new(0),
            carveout: AtomicU32::new(u32::MAX),
            prepared: OnceLock::new(),
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

    /// Address and size of a variable.
    pub fn global(&self, name: &str) -> Result<(u64, u64)> {
        let globals = self.program.globals();
        let at = globals
            .iter()
            .position(|global| global.visible && global.name == name);
        let at = at.ok_or(Error::ERROR_NOT_FOUND)?;
        Ok((self.addresses[at], globals[at].size))
    }
}

/// `sm_90`, `sm_90a` on an older device.
fn check_target(target: &str, capability: u32) -> std::result::Result<(), String> {
    let digits: String = target.chars().filter(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(wanted) if wanted > capability => Err(format!(
            "the PTX is for {target}, this device has compute capability {}.{}; SOFTGPU_COMPUTE_CAPABILITY sets it",
            capability / 10,
            capability % 10
        )),
        _ => Ok(()),
    }
}

/// Gives each variable memory of the device, and its first value.
fn place(runtime: &Runtime, context: &Context, program: &dyn Program) -> Result<Vec<u64>> {
    let mut addresses: Vec<u64> = Vec::new();
    let failed = |addresses: &[u64], error: Error| {
        runtime.still(|| {
            for &address in addresses {
                let _ = runtime.memory.free(address);
            }
        });
        Err(error)
    };
    for global in program.globals() {
        // Allocations are aligned to 512 bytes; an extent of nothing still has an address.
        if global.align > 512 {
            return failed(&addresses, Error::ERROR_INVALID_PTX);
        }
        match runtime.memory.allocate(
            context.device.ordinal,
            context.handle,
            global.size.max(1),
            Kind::Device,
        ) {
            Ok(address) => addresses.push(address),
            Err(error) => return failed(&addresses, error),
        }
    }
    for (index, &address) in addresses.iter().enumerate() {
        let image = program.initial_image(index, &addresses);
        copy::write(runtime, address, &image)?;
    }
    Ok(addresses)
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
        match self.dynamic_shared.load(Relaxed) {
            0 => SHARED.saturating_sub(self.info().static_shared),
            asked => asked - 1,
        }
    }

    pub fn set_max_dynamic_shared(&self, bytes: u32) -> Result {
        let most = self.module.context.device.max_shared_optin();
        if bytes > most.saturating_sub(self.info().static_shared) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        self.dynamic_shared.store(bytes + 1, Relaxed);
        Ok(())
    }

    /// Blocks of this size that one multiprocessor holds.
    pub fn occupancy(&self, threads: u32, dynamic_shared: u64) -> u32 {
        let (device, info) = (&self.module.context.device, self.info());
        if threads == 0 || threads > info.max_threads {
            return 0;
        }
        // Whole warps; registers of a warp in units of 256.
        let warps = threads.div_ceil(32);
        let registers = (info.registers * 32).next_multiple_of(256) * warps;
        let shared =
            (u64::from(info.static_shared) + dynamic_shared + (1 << 10)).next_multiple_of(128);
        let by_shared = u64::from(device.max_shared_per_multiprocessor()) / shared;
        (device.threads_per_multiprocessor() / (warps * 32))
            .min(65_536 / registers.max(1))
            .min(by_shared.min(u64::from(u32::MAX)) as u32)
            .min(device.blocks_per_multiprocessor())
    }
}
