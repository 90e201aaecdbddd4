//! Libraries: code that belongs to no context, and is placed in each one that asks for it.

use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard};

use softgpu_engine::KernelInfo;

use crate::code::Code;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::handles;
use crate::module::{Function, Managed, Module, OfLibrary, Settings};
use crate::runtime::Runtime;

pub struct Library {
    pub handle: u64,
    code: Code,
    pub kernels: Box<[Arc<Kernel>]>,
    placed: Mutex<Placed>,
}

#[derive(Default)]
struct Placed {
    /// One for each context that has asked.
    modules: Vec<Arc<Module>>,
    managed: Managed,
}

pub struct Kernel {
    pub handle: u64,
    pub library: u64,
    index: usize,
    pub name: CString,
    code: Code,
    /// By the program's number of the device.
    settings: Box<[Arc<Settings>]>,
}

impl Library {
    pub fn load(runtime: &Runtime, code: Code) -> Arc<Library> {
        let handle = handles::fresh();
        let kernel = |(index, info): (usize, &KernelInfo)| {
            let kernel = Arc::new(Kernel {
                handle: handles::fresh(),
                library: handle,
                index,
                name: CString::new(info.name.as_str()).unwrap_or_default(),
                code: code.clone(),
                settings: runtime.devices.iter().map(|_| Arc::default()).collect(),
            });
            runtime.kernels.insert(kernel.handle, kernel.clone());
            kernel
        };
        let kernels = code.program.kernels().iter().enumerate().map(kernel);
        let library = Arc::new(Library {
            handle,
            kernels: kernels.collect(),
            code,
            placed: Mutex::default(),
        });
        runtime.libraries.insert(handle, library.clone());
        library
    }

    fn placed(&self) -> MutexGuard<'_, Placed> {
        self.placed.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The library in a context.
    pub fn module(&self, runtime: &Runtime, context: &Arc<Context>) -> Result<Arc<Module>> {
        context.check()?;
        let context = &context.base();
        let mut placed = self.placed();
        let Placed { modules, managed } = &mut *placed;
        modules.retain(|module| !module.context.is_destroyed());
        if let Some(module) = modules
            .iter()
            .find(|module| module.context.handle == context.handle)
        {
            return Ok(module.clone());
        }
        let device = runtime.visible_ordinal(&context.device) as usize;
        let settings = self.kernels.iter().map(|k| k.settings[device].clone());
        let library = OfLibrary {
            settings: settings.collect(),
            managed,
        };
        let module = Module::place(runtime, context, &self.code, Some(library))?;
        modules.push(module.clone());
        Ok(module)
    }

    /// Address and size of a managed variable, which is there when the library is in any context.
    pub fn managed(&self, runtime: &Runtime, name: &str) -> Result<(u64, u64)> {
        let globals = self.code.program.globals();
        let at = globals
            .iter()
            .position(|global| global.managed && global.visible && global.name == name);
        let at = at.ok_or(Error::ERROR_NOT_FOUND)?;
        if self.placed().managed.is_none() {
            let context = Context::try_current().ok_or(Error::ERROR_NOT_FOUND)?;
            self.module(runtime, &context)?;
        }
        let placed = self.placed();
        let addresses = placed.managed.as_ref().ok_or(Error::ERROR_NOT_FOUND)?;
        Ok((addresses[at], globals[at].size))
    }

    pub fn unload(&self, runtime: &Runtime) -> Result {
        runtime
            .kernels
            .remove_if(|kernel| kernel.library == self.handle);
        let mut result = Ok(());
        let Placed { modules, managed } = std::mem::take(&mut *self.placed());
        for module in modules {
            if !module.context.is_destroyed() && runtime.modules.take(module.handle).is_ok() {
                result = result.and(module.unload(runtime));
            }
        }
        let addresses = managed.unwrap_or_default();
        let variables = self.code.program.globals().iter().zip(addresses);
        runtime.still(|| {
            for (_, address) in variables.filter(|(global, _)| global.managed) {
                let _ = runtime.memory.free(address);
            }
        });
        result
    }
}

impl Kernel {
    pub fn info(&self) -> &KernelInfo {
        &self.code.program.kernels()[self.index]
    }

    pub fn attribute(&self, runtime: &Runtime, device: i32, attribute: u32) -> Result<i32> {
        let found = runtime.device(device)?;
        self.settings[device as usize].attribute(self.info(), &self.code.traits, found, attribute)
    }

    pub fn set(&self, runtime: &Runtime, device: i32, attribute: u32, value: i32) -> Result {
        let found = runtime.device(device)?;
        self.settings[device as usize].set(self.info(), found, attribute, value)
    }

    pub fn function(&self, runtime: &Runtime, context: &Arc<Context>) -> Result<Arc<Function>> {
        let library = runtime.libraries.get(self.library)?;
        Ok(library
            .module(runtime, context)?
            .function(runtime, self.index))
    }
}

/// What a handle names that is a function, or a library's kernel, which then becomes a function of `context`.
pub fn function(
    runtime: &Runtime,
    handle: u64,
    context: impl FnOnce() -> Result<Arc<Context>>,
) -> Result<Arc<Function>> {
    if let Some(function) = runtime.functions.find(handle) {
        return Ok(function);
    }
    match runtime.kernels.find(handle) {
        Some(kernel) => kernel.function(runtime, &context()?),
        None => Err(Error::ERROR_INVALID_HANDLE),
    }
}
