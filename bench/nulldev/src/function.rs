//! Functions of modules, which are a library's kernels too.

use std::collections::HashSet;
use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicI32, Ordering};

use softgpu_ptx::{Base, Operand, Space};

use crate::abi::{Out, answer};
use crate::device;
use crate::errors::{Error, Result};
use crate::handles::Table;
use crate::module::Module;

// CUfunction_attribute. From 8 on all are set by programs, or say nothing.
const MAX_DYNAMIC_SHARED_SIZE_BYTES: u32 = 8;
const SETTABLE: std::ops::RangeInclusive<u32> = 8..=15;
/// Of those: dynamic shared memory, carveout, and what clusters must be, of which nothing is required.
const AT_FIRST: [i32; 8] = [device::SHARED, -1, 0, 0, 0, 0, 0, 0];
const REGISTERS: i32 = 32;
const LOADED: u32 = 1;

pub struct Function {
    pub handle: u64,
    pub module: &'static Module,
    pub name: CString,
    /// Offset and size.
    params: Vec<(usize, usize)>,
    /// Most threads of a block.
    pub threads: i32,
    shared: i32,
    ptx_version: i32,
    settings: [AtomicI32; AT_FIRST.len()],
    /// Nanoseconds of a launch, in paced mode.
    pub time: u64,
}

static FUNCTIONS: Table<Function> = Table::new(5);

pub fn find(handle: u64) -> Result<&'static Function> {
    FUNCTIONS.get(handle)
}

/// Static shared memory: the function's own variables, and those of the module that its own code names.
fn shared(module: &softgpu_ptx::Module, entry: &softgpu_ptx::Function) -> u64 {
    let operands = entry
        .body
        .iter()
        .flat_map(|instruction| &instruction.operands);
    let names: HashSet<&str> = operands
        .filter_map(|operand| match operand {
            Operand::Symbol { name, .. } => Some(name.as_str()),
            Operand::Address {
                base: Base::Symbol(name),
                ..
            } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let named = module.variables.iter();
    let named = named.filter(|variable| names.contains(variable.name.as_str()));
    named
        .chain(&entry.variables)
        .filter(|variable| variable.space == Space::Shared)
        .fold(0, |bytes: u64, variable| {
            bytes.next_multiple_of(variable.align.max(1)) + variable.size
        })
}

pub fn create(
    module: &'static Module,
    parsed: &softgpu_ptx::Module,
    entry: &softgpu_ptx::Function,
    time: u64,
) -> Result<&'static Function> {
    let mut end = 0;
    let params = entry.params.iter().map(|param| {
        let offset = u64::next_multiple_of(end, param.align.max(1));
        end = offset + param.size;
        (offset as usize, param.size as usize)
    });
    let params = params.collect();
    let bounds = entry.bounds.reqntid.or(entry.bounds.maxntid);
    let threads = bounds.map_or(device::THREADS_PER_BLOCK, |bounds| {
        bounds.iter().product::<u32>() as i32
    });
    let shared = shared(parsed, entry) as i32;
    let name = CString::new(entry.name.as_str()).map_err(|_| Error::INVALID_PTX)?;
    let (major, minor) = parsed.version;
    let settings = AT_FIRST.map(AtomicI32::new);
    settings[0].fetch_sub(shared.min(device::SHARED), Ordering::Relaxed);
    FUNCTIONS.insert(|handle| {
        Box::leak(Box::new(Function {
            handle,
            module,
            name,
            params,
            threads,
            shared,
            ptx_version: (major * 10 + minor) as i32,
            settings,
            time,
        }))
    })
}

impl Function {
    pub fn unload(&self) {
        // A module is unloaded once.
        let _ = FUNCTIONS.remove(self.handle);
    }

    fn attribute(&self, which: u32) -> Result<i32> {
        Ok(match which {
            0 => self.threads,              // MAX_THREADS_PER_BLOCK
            1 => self.shared,               // SHARED_SIZE_BYTES
            2 | 3 => 0,                     // CONST_SIZE_BYTES, LOCAL_SIZE_BYTES
            4 => REGISTERS,                 // NUM_REGS
            5 => self.ptx_version,          // PTX_VERSION
            6 => device::CAPABILITY as i32, // BINARY_VERSION
            7 => 0,                         // CACHE_MODE_CA
            _ => self.setting(which)?.load(Ordering::Relaxed),
        })
    }

    fn setting(&self, which: u32) -> Result<&AtomicI32> {
        let index = which.checked_sub(*SETTABLE.start());
        let setting = index.and_then(|index| self.settings.get(index as usize));
        setting.ok_or(Error::INVALID_VALUE)
    }

    fn set(&self, which: u32, value: i32) -> Result {
        let setting = self.setting(which)?;
        let most = device::SHARED_OPTIN - self.shared;
        if which == MAX_DYNAMIC_SHARED_SIZE_BYTES && !(0..=most).contains(&value) {
            return Err(Error::INVALID_VALUE);
        }
        setting.store(value, Ordering::Relaxed);
        Ok(())
    }

    fn put_param(&self, index: usize, offset: Out<usize>, size: Out<usize>) -> Result {
        let (at, bytes) = self.params.get(index).ok_or(Error::INVALID_VALUE)?;
        size.put_if(*bytes);
        offset.put(*at)
    }
}

/// 0 to 3.
fn check_cache(config: u32) -> Result {
    match config {
        0..=3 => Ok(()),
        _ => Err(Error::INVALID_VALUE),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetAttribute(value: Out<i32>, which: u32, function: u64) -> u32 {
    answer(|| value.put(find(function)?.attribute(which)?))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(function: u64, which: u32, value: i32) -> u32 {
    answer(|| find(function)?.set(which, value))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetCacheConfig(function: u64, config: u32) -> u32 {
    answer(|| find(function).and_then(|_| check_cache(config)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetName(name: Out<*const c_char>, function: u64) -> u32 {
    answer(|| name.put(find(function)?.name.as_ptr()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetModule(module: Out<u64>, function: u64) -> u32 {
    answer(|| module.put(find(function)?.module.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetParamInfo(
    function: u64,
    index: usize,
    offset: Out<usize>,
    size: Out<usize>,
) -> u32 {
    answer(|| find(function)?.put_param(index, offset, size))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetParamCount(function: u64, count: Out<usize>) -> u32 {
    answer(|| count.put(find(function)?.params.len()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncLoad(function: u64) -> u32 {
    answer(|| find(function).map(|_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncIsLoaded(state: Out<u32>, function: u64) -> u32 {
    answer(|| find(function).and_then(|_| state.put(LOADED)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetFunction(function: Out<u64>, kernel: u64) -> u32 {
    answer(|| function.put(find(kernel)?.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetLibrary(library: Out<u64>, kernel: u64) -> u32 {
    answer(|| match find(kernel)?.module.library {
        0 => Err(Error::INVALID_HANDLE),
        found => library.put(found),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetName(name: Out<*const c_char>, kernel: u64) -> u32 {
    cuFuncGetName(name, kernel)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetParamInfo(
    kernel: u64,
    index: usize,
    offset: Out<usize>,
    size: Out<usize>,
) -> u32 {
    cuFuncGetParamInfo(kernel, index, offset, size)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetParamCount(kernel: u64, count: Out<usize>) -> u32 {
    cuFuncGetParamCount(kernel, count)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelGetAttribute(
    value: Out<i32>,
    which: u32,
    kernel: u64,
    device: i32,
) -> u32 {
    answer(|| {
        device::check(device)?;
        value.put(find(kernel)?.attribute(which)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelSetAttribute(which: u32, value: i32, kernel: u64, device: i32) -> u32 {
    answer(|| device::check(device).and_then(|()| find(kernel)?.set(which, value)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuKernelSetCacheConfig(kernel: u64, config: u32, _device: i32) -> u32 {
    cuFuncSetCacheConfig(kernel, config)
}
