//! Libraries. With one device, a library is one module for all contexts, and its kernels are that module's functions.

use std::ffi::{c_char, c_void};
use std::sync::OnceLock;

use crate::abi::{In, Out, answer};
use crate::errors::{Error, Result};
use crate::handles::Table;
use crate::module::{self, Module, Options};

pub struct Library {
    handle: u64,
    module: OnceLock<&'static Module>,
}

static LIBRARIES: Table<Library> = Table::new(6);

fn module_of(library: u64) -> Result<&'static Module> {
    let module = LIBRARIES.get(library)?.module.get();
    module.copied().ok_or(Error::INVALID_HANDLE)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryLoadData(
    library: Out<u64>,
    code: In<u8>,
    names: In<u32>,
    values: Out<u64>,
    count: u32,
    _library_names: In<u32>,
    _library_values: In<*mut c_void>,
    _library_count: u32,
) -> u32 {
    answer(|| {
        library.check()?;
        let options = Options {
            count,
            names,
            values,
        };
        let made = LIBRARIES.insert(|handle| {
            let module = OnceLock::new();
            Box::leak(Box::new(Library { handle, module }))
        })?;
        let loaded = Module::load(code, options, made.handle);
        if loaded.is_err() {
            LIBRARIES.remove(made.handle)?;
        }
        let _ = made.module.set(loaded?);
        library.put(made.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryUnload(library: u64) -> u32 {
    answer(|| {
        module_of(library)?.unload()?;
        LIBRARIES.remove(library).map(|_| ())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetModule(module: Out<u64>, library: u64) -> u32 {
    answer(|| module.put(module_of(library)?.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetKernel(kernel: Out<u64>, library: u64, name: In<c_char>) -> u32 {
    answer(|| kernel.put(module_of(library)?.function(name.text()?)?.handle))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetKernelCount(count: Out<u32>, library: u64) -> u32 {
    answer(|| count.put(module_of(library)?.functions().len() as u32))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryEnumerateKernels(kernels: Out<u64>, count: u32, library: u64) -> u32 {
    answer(|| module::enumerate(module_of(library)?, kernels, count))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLibraryGetGlobal(
    address: Out<u64>,
    bytes: Out<usize>,
    library: u64,
    name: In<c_char>,
) -> u32 {
    answer(|| module::put_variable(module_of(library)?, address, bytes, name))
}
