//! What compiled code registers before main: fat binaries, with the host addresses that stand for their kernels and variables. Code goes
//! to the driver when something in it is first used, as a library, which serves every device.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::{LazyLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::abi::Handle;
use crate::driver::Driver;
use crate::error::{Error, Result};

#[derive(Default)]
pub struct Registry {
    binaries: HashMap<usize, Binary>,
    functions: HashMap<usize, Function>,
    variables: HashMap<usize, Variable>,
    /// Host addresses by kernel, for graphs' parameters.
    hosts: HashMap<usize, usize>,
    /// Kernels and functions that the program has from the runtime by other ways; it may name them where a host address stands.
    handles: HashMap<usize, Kind>,
}

/// Of addresses in the program's image, which has them as long as it is registered.
struct Binary {
    wrapper: usize,
    library: Option<usize>,
    /// The driver does not have what it needs.
    refused: bool,
    managed: Vec<usize>,
}

struct Function {
    binary: usize,
    name: usize,
    kernel: Option<usize>,
}

struct Variable {
    binary: usize,
    name: usize,
    size: usize,
    managed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Kernel,
    Function,
}

static REGISTRY: LazyLock<RwLock<Registry>> = LazyLock::new(RwLock::default);

fn read() -> RwLockReadGuard<'static, Registry> {
    REGISTRY
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn write() -> RwLockWriteGuard<'static, Registry> {
    REGISTRY
        .write()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub fn add_binary(handle: usize, wrapper: usize) {
    let binary = Binary {
        wrapper,
        library: None,
        refused: false,
        managed: Vec::new(),
    };
    write().binaries.insert(handle, binary);
}

/// The library that was loaded of it, which is the caller's to unload now.
pub fn remove_binary(handle: usize) -> Option<Handle> {
    let mut registry = write();
    let binary = registry.binaries.remove(&handle)?;
    let registry = &mut *registry;
    let hosts = &mut registry.hosts;
    registry.functions.retain(|_, function| {
        let stays = function.binary != handle;
        if let (false, Some(kernel)) = (stays, function.kernel) {
            hosts.remove(&kernel);
        }
        stays
    });
    registry
        .variables
        .retain(|_, variable| variable.binary != handle);
    binary.library.map(|library| library as Handle)
}

pub fn add_function(binary: usize, host: usize, name: *const c_char) {
    let function = Function {
        binary,
        name: name as usize,
        kernel: None,
    };
    write().functions.insert(host, function);
}

pub fn add_variable(binary: usize, host: usize, name: *const c_char, size: usize, managed: bool) {
    let variable = Variable {
        binary,
        name: name as usize,
        size,
        managed,
    };
    let mut registry = write();
    registry.variables.insert(host, variable);
    if managed && let Some(binary) = registry.binaries.get_mut(&binary) {
        binary.managed.push(host);
    }
}

/// A handle that the program may pass for a host function.
pub fn add_handle(handle: Handle, kind: Kind) {
    if read().handles.get(&(handle as usize)) != Some(&kind) {
        write().handles.insert(handle as usize, kind);
    }
}

/// What a launch names.
#[derive(Clone, Copy)]
pub struct Code {
    pub handle: Handle,
    pub kind: Kind,
}

/// The kernel of a host function, or what the handle that stands in its place is.
pub unsafe fn code(cu: &Driver, host: *const c_void) -> Result<Code> {
    let host = host as usize;
    {
        let registry = read();
        match registry.functions.get(&host) {
            Some(Function {
                kernel: Some(kernel),
                ..
            }) => {
                return Ok(Code {
                    handle: *kernel as Handle,
                    kind: Kind::Kernel,
                });
            }
            Some(_) => {}
            None => {
                let kind = registry.handles.get(&host);
                let kind = *kind.ok_or(Error::INVALID_DEVICE_FUNCTION)?;
                return Ok(Code {
                    handle: host as Handle,
                    kind,
                });
            }
        }
    }
    let mut registry = write();
    let function = registry
        .functions
        .get(&host)
        .ok_or(Error::INVALID_DEVICE_FUNCTION)?;
    let (binary, name) = (function.binary, function.name as *const c_char);
    let library = registry.load(cu, binary)?;
    let mut kernel: Handle = null_mut();
    cu.cuLibraryGetKernel((&raw mut kernel).cast(), library, name)
        .map_err(|error| match error {
            Error::SYMBOL_NOT_FOUND => Error::INVALID_DEVICE_FUNCTION,
            other => other,
        })?;
    registry.hosts.insert(kernel as usize, host);
    if let Some(function) = registry.functions.get_mut(&host) {
        function.kernel = Some(kernel as usize);
    }
    Ok(Code {
        handle: kernel,
        kind: Kind::Kernel,
    })
}

/// The host function of a kernel.
pub fn host_of(kernel: Handle) -> Option<*mut c_void> {
    read()
        .hosts
        .get(&(kernel as usize))
        .map(|host| *host as *mut c_void)
}

/// Loaded kernels with their host functions.
pub fn kernels() -> Vec<(*mut c_void, Handle)> {
    let registry = read();
    let pairs = registry.hosts.iter();
    pairs
        .map(|(kernel, host)| (*host as *mut c_void, *kernel as Handle))
        .collect()
}

/// Loads a binary, which fills the pointers of its managed variables.
pub unsafe fn load(cu: &Driver, binary: usize) -> Result {
    write().load(cu, binary).map(drop)
}

/// Where a variable is in the current context, and its size. `host`: its address for the host, or that of its memory if it is managed.
pub unsafe fn variable(cu: &Driver, host: *const c_void) -> Result<(u64, usize)> {
    let mut registry = write();
    let mut key = host as usize;
    if !registry.variables.contains_key(&key) {
        // Code for the host has the memory's own address of a managed variable.
        let found = registry.variables.iter().find(|(place, variable)| {
            variable.managed && *(**place as *const usize) == key && key != 0
        });
        key = *found.ok_or(Error::INVALID_SYMBOL)?.0;
    }
    let variable = registry.variables.get(&key).ok_or(Error::INVALID_SYMBOL)?;
    let (binary, name, managed) = (variable.binary, variable.name, variable.managed);
    let size = variable.size;
    let library = registry.load(cu, binary)?;
    let (mut address, mut bytes) = (0u64, 0usize);
    let (place, name) = ((&raw mut address).cast(), name as *const c_char);
    let found = if managed {
        cu.cuLibraryGetManaged(place, &mut bytes, library, name)
    } else {
        cu.cuLibraryGetGlobal(place, &mut bytes, library, name)
    };
    found.map_err(|error| match error {
        Error::SYMBOL_NOT_FOUND => Error::INVALID_SYMBOL,
        other => other,
    })?;
    Ok((address, if size == 0 { bytes } else { size }))
}

impl Registry {
    unsafe fn load(&mut self, cu: &Driver, handle: usize) -> Result<Handle> {
        let binary = self
            .binaries
            .get_mut(&handle)
            .ok_or(Error::INVALID_DEVICE_FUNCTION)?;
        match binary.library {
            Some(library) => return Ok(library as Handle),
            None if binary.refused => return Err(Error::NOT_SUPPORTED),
            None => {}
        }
        let library = Wrapper::library(binary.wrapper as *const Wrapper, cu)?;
        for host in &binary.managed {
            let Some(variable) = self.variables.get(host) else {
                continue;
            };
            let (mut address, mut size) = (0u64, 0usize);
            let (place, name) = ((&raw mut address).cast(), variable.name as *const c_char);
            if let Err(error) = cu.cuLibraryGetManaged(place, &mut size, library, name) {
                let _ = cu.cuLibraryUnload(library);
                if error == Error::NOT_SUPPORTED {
                    let name = CStr::from_ptr(name).to_string_lossy();
                    eprintln!(
                        "libcudart: the driver cannot share the managed variable {name} with the host (cudaErrorNotSupported)"
                    );
                    binary.refused = true;
                }
                return Err(error);
            }
            (*host as *mut u64).write(address);
        }
        binary.library = Some(library as usize);
        Ok(library)
    }
}

/// `__fatBinC_Wrapper_t`: what compiled code has of its fat binary.
#[repr(C)]
struct Wrapper {
    magic: u32,
    version: u32,
    data: *const c_void,
    /// Of version 2: the fat binaries of relocatable code that it was linked of, and NULL behind the last.
    parts: *const *const c_void,
}

const WRAPPER: u32 = 0x4662_43b1;
const CONTAINER: u32 = 0xba55_ed50;

impl Wrapper {
    unsafe fn library(wrapper: *const Wrapper, cu: &Driver) -> Result<Handle> {
        if wrapper.is_null() || (*wrapper).magic != WRAPPER {
            return Err(Error::INVALID_KERNEL_IMAGE);
        }
        let wrapper = &*wrapper;
        // Relocatable code is in it linked already for the devices that the program was built for, if for any.
        let has_parts =
            wrapper.version >= 2 && !wrapper.parts.is_null() && !(*wrapper.parts).is_null();
        if !has_parts || container_body(wrapper.data)? > 0 {
            let whole = load_library(cu, wrapper.data);
            if !(has_parts && whole == Err(Error::NO_KERNEL_IMAGE_FOR_DEVICE)) {
                return whole;
            }
        }
        const ERROR_LOG_BUFFER: u32 = 5;
        const ERROR_LOG_BUFFER_SIZE_BYTES: u32 = 6;
        let mut log = [0u8; 4096];
        let mut options = [ERROR_LOG_BUFFER, ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [
            log.as_mut_ptr().cast(),
            without_provenance_mut::<c_void>(log.len()),
        ];
        let (options, place) = (options.as_mut_ptr().cast(), values.as_mut_ptr());
        let mut state: Handle = null_mut();
        cu.cuLinkCreate_v2(2, options, place, (&raw mut state).cast())?;
        let linked = wrapper.link(cu, state);
        let ended = cu.cuLinkDestroy(state);
        if linked.is_err() {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            let why = String::from_utf8_lossy(&log[..end]);
            eprintln!("libcudart: the program's relocatable code cannot be linked: {why}");
        }
        linked.and_then(|library| ended.map(|()| library))
    }

    unsafe fn link(&self, cu: &Driver, state: Handle) -> Result<Handle> {
        const FAT_BINARY: u32 = 3;
        let mut part = self.parts;
        let mut added = 0;
        while !(*part).is_null() {
            let size = container_size(*part)?;
            let (data, name, none) = ((*part).cast_mut(), c"registered".as_ptr(), null_mut());
            match cu.cuLinkAddData_v2(state, FAT_BINARY, data, size, name, 0, none, null_mut()) {
                Ok(()) => added += 1,
                // NVIDIA's device runtime is machine code for some devices: for others the driver has its own.
                Err(Error::NO_KERNEL_IMAGE_FOR_DEVICE) => {}
                Err(error) => return Err(error),
            }
            part = part.add(1);
        }
        if added == 0 {
            return Err(Error::NO_KERNEL_IMAGE_FOR_DEVICE);
        }
        let (mut image, mut size) = (null_mut(), 0usize);
        cu.cuLinkComplete(state, &mut image, &mut size)?;
        load_library(cu, image)
    }
}

unsafe fn load_library(cu: &Driver, image: *const c_void) -> Result<Handle> {
    let mut library: Handle = null_mut();
    let (place, none) = ((&raw mut library).cast(), null_mut());
    cu.cuLibraryLoadData(place, image, none, null_mut(), 0, none, null_mut(), 0)?;
    Ok(library)
}

/// The bytes of a fat binary with its header: magic, version, size of the header (u16), size of what follows.
unsafe fn container_size(data: *const c_void) -> Result<usize> {
    let header = data.cast::<u16>().add(3).read_unaligned();
    Ok(header as usize + container_body(data)?)
}

/// The bytes behind the header: none if nothing was built into it.
unsafe fn container_body(data: *const c_void) -> Result<usize> {
    if data.is_null() || data.cast::<u32>().read_unaligned() != CONTAINER {
        return Err(Error::INVALID_KERNEL_IMAGE);
    }
    Ok(data.cast::<u64>().add(1).read_unaligned() as usize)
}
