//! What all calls of the process share, from cuInit to exit.

use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use crate::array::{Array, Mipmapped};
use crate::config::Config;
use crate::context::Context;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::graph::{Executable, Graph, Node, UserObject, Variables};
use crate::green::{Description, Green};
use crate::handles::Registry;
use crate::ledger::Ledger;
use crate::library::{self, Library};
use crate::link::Linker;
use crate::memory::{Memory, Physical};
use crate::module::{Function, Module};
use crate::pool::Pools;
use crate::say;
use crate::slot::{Gate, SharedSlot};
use crate::stream::Stream;
use crate::texture::{SurfaceObject, SurfaceReference, TextureObject, TextureReference};

pub struct Runtime {
    pub config: Config,
    pub memory: Memory,
    /// Those that CUDA_VISIBLE_DEVICES leaves, in its order.
    pub devices: Vec<Arc<Device>>,
    ledger: Arc<Ledger>,
    pub contexts: Registry<Context>,
    pub streams: Registry<Stream>,
    pub events: Registry<Event>,
    pub modules: Registry<Module>,
    pub functions: Registry<Function>,
    pub libraries: Registry<Library>,
    pub kernels: Registry<library::Kernel>,
    pub linkers: Registry<Mutex<Linker>>,
    pub graphs: Registry<Graph>,
    pub nodes: Registry<Node>,
    pub user_objects: Registry<UserObject>,
    pub executables: Registry<Executable>,
    pub conditions: Variables,
    pub resource_descriptions: Registry<Description>,
    pub greens: Registry<Green>,
    pub physical: Registry<Arc<Physical>>,
    pub arrays: Registry<Array>,
    pub mipmapped: Registry<Mipmapped>,
    pub textures: Registry<TextureObject>,
    pub surfaces: Registry<SurfaceObject>,
    pub texture_references: Registry<TextureReference>,
    pub surface_references: Registry<SurfaceReference>,
    pub pools: Pools,
    /// Held for reading while device memory is being accessed, for writing while pages are taken away: an access that
    /// was checked must not meet a missing page.
    accesses: RwLock<()>,
}

static RUNTIME: OnceLock<Result<Runtime>> = OnceLock::new();
/// In a forked child: neither the threads nor the ledger's locks came along.
static FORKED: AtomicBool = AtomicBool::new(false);
static ENDED: AtomicBool = AtomicBool::new(false);

/// The runtime, if cuInit was called and has succeeded.
pub fn get() -> Result<&'static Runtime> {
    if FORKED.load(Relaxed) {
        return Err(Error::ERROR_NOT_INITIALIZED);
    }
    if ENDED.load(Relaxed) {
        return Err(Error::ERROR_DEINITIALIZED);
    }
    match RUNTIME.get() {
        Some(Ok(runtime)) => Ok(runtime),
        _ => Err(Error::ERROR_NOT_INITIALIZED),
    }
}

pub fn init() -> Result {
    if ENDED.load(Relaxed) {
        return Err(Error::ERROR_DEINITIALIZED);
    }
    if FORKED.load(Relaxed) {
        return Err(Error::ERROR_NOT_INITIALIZED);
    }
    RUNTIME
        .get_or_init(Runtime::new)
        .as_ref()
        .map(|_| ())
        .map_err(|error| *error)
}

impl Runtime {
    fn new() -> Result<Runtime> {
        let config = Config::from_environment().map_err(|message| {
            say!("{message}");
            Error::ERROR_INVALID_VALUE
        })?;
        if config.visible.is_empty() {
            return Err(Error::ERROR_NO_DEVICE);
        }
        let ledger = Ledger::open(&config.home).map_err(|message| {
            say!("{message}");
            Error::ERROR_OPERATING_SYSTEM
        })?;
        let ledger = Arc::new(ledger);
        let memory = Memory::new(&config, ledger.clone()).map_err(|error| {
            say!("cannot reserve the address window of the devices: {error}; is the address space limited (ulimit -v)?");
            Error::ERROR_OUT_OF_MEMORY
        })?;
        let device = |&ordinal: &usize| {
            let gate = Gate::new(SharedSlot::new(ledger.clone(), ordinal));
            Arc::new(Device::new(&config, ordinal, gate))
        };
        let devices: Vec<Arc<Device>> = config.visible.iter().map(device).collect();
        // SAFETY: the handlers only touch atomics and what lives as long as the process; the library is never unloaded.
        unsafe {
            libc::pthread_atfork(None, None, Some(forked));
            libc::atexit(at_exit);
        }
        Ok(Runtime {
            memory,
            pools: Pools::new(&devices),
            devices,
            ledger,
            contexts: Registry::default(),
            streams: Registry::default(),
            events: Registry::default(),
            modules: Registry::default(),
            functions: Registry::default(),
            libraries: Registry::default(),
            kernels: Registry::default(),
            linkers: Registry::default(),
            graphs: Registry::default(),
            nodes: Registry::default(),
            user_objects: Registry::default(),
            executables: Registry::default(),
            conditions: Registry::default(),
            resource_descriptions: Registry::default(),
            greens: Registry::default(),
            physical: Registry::default(),
            arrays: Registry::default(),
            mipmapped: Registry::default(),
            textures: Registry::default(),
            surfaces: Registry::default(),
            texture_references: Registry::default(),
            surface_references: Registry::default(),
            accesses: RwLock::new(()),
            config,
        })
    }

    pub fn device(&self, ordinal: i32) -> Result<&Arc<Device>> {
        let at = usize::try_from(ordinal).map_err(|_| Error::ERROR_INVALID_DEVICE)?;
        self.devices.get(at).ok_or(Error::ERROR_INVALID_DEVICE)
    }

    /// The program's number of a device.
    pub fn visible_ordinal(&self, device: &Device) -> i32 {
        self.devices
            .iter()
            .position(|d| d.ordinal == device.ordinal)
            .map_or(-1, |at| at as i32)
    }

    /// The context that a handle names.
    pub fn context(&self, handle: u64) -> Result<Arc<Context>> {
        self.contexts
            .find(handle)
            .ok_or(Error::ERROR_INVALID_CONTEXT)
    }

    /// Runs something that takes pages away while nobody accesses device memory: not within [`Runtime::access`].
    pub fn still<T>(&self, change: impl FnOnce() -> T) -> T {
        let _alone = self.accesses.write().unwrap_or_else(|e| e.into_inner());
        change()
    }

    /// Runs something that accesses device memory; short, because [`Runtime::still`] waits for it.
    pub fn access<T>(&self, access: impl FnOnce() -> T) -> T {
        let _shared = self.accesses.read().unwrap_or_else(|e| e.into_inner());
        access()
    }

    fn write_statistics(&self, path: &std::ffi::OsStr) -> std::io::Result<()> {
        let used: f64 = self
            .devices
            .iter()
            .map(|d| d.executor.used().as_secs_f64())
            .sum();
        let launches: u64 = self.devices.iter().map(|d| d.executor.launches()).sum();
        std::fs::write(
            path,
            format!("{{\"kernel_seconds\": {used:.6}, \"launches\": {launches}}}\n"),
        )
    }
}

extern "C" fn forked() {
    FORKED.store(true, Relaxed);
}

/// The program ends while kernels may be running: they stop, and nothing runs any more when libraries are torn down.
extern "C" fn at_exit() {
    let ended = std::panic::catch_unwind(|| {
        let Ok(runtime) = get() else { return };
        ENDED.store(true, Relaxed);
        runtime
            .devices
            .iter()
            .for_each(|device| device.executor.stop());
        if let Some(path) = std::env::var_os("SOFTGPU_STATS").filter(|path| !path.is_empty())
            && let Err(error) = runtime.write_statistics(&path)
        {
            say!("cannot write {}: {error}", path.display());
        }
        runtime.ledger.leave();
    });
    if ended.is_err() {
        say!("the library did not end in order");
    }
}
