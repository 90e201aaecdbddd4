//! The linker.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex};

use super::module::read_image;
use super::{Handle, call};
use crate::abi::{In, Out};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::fatbin::Refusal;
use crate::handles;
use crate::jit::Options;
use crate::link::Linker;
use crate::runtime::Runtime;
use crate::say;

#[unsafe(no_mangle)]
pub extern "C" fn cuLinkCreate_v2(
    count: u32,
    options: In<u32>,
    values: Out<u64>,
    state: Out<Handle>,
) -> u32 {
    call(|runtime| {
        state.check()?;
        let (major, minor) = Context::current()?.device.capability;
        let options = Options::read(count, options, values)?;
        options.write();
        let handle = handles::fresh();
        let linker = Linker::new(options, major * 10 + minor);
        runtime.linkers.insert(handle, Arc::new(Mutex::new(linker)));
        state.put(handle)
    })
}

/// Runs a step and hands its messages over.
fn step<T>(
    runtime: &Runtime,
    state: Handle,
    body: impl FnOnce(&mut Linker) -> std::result::Result<T, Refusal>,
) -> Result<T> {
    let linker = runtime.linkers.get(state)?;
    let mut linker = linker.lock().unwrap_or_else(|e| e.into_inner());
    let result = body(&mut linker);
    let result = result.map_err(|refusal| {
        // Whoever takes the log says what is worth it: a runtime also offers parts that are machine code.
        if !linker.options.takes_complaints() {
            say!("cannot link: {}", refusal.message);
        }
        linker.options.complain(&refusal.message);
        refusal.error
    });
    linker.options.write();
    result
}

fn label(name: In<c_char>) -> String {
    match name.text() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => "<unnamed>".to_owned(),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLinkAddData_v2(
    state: Handle,
    kind: u32,
    data: In<c_void>,
    size: usize,
    name: In<c_char>,
    count: u32,
    options: In<u32>,
    values: Out<u64>,
) -> u32 {
    call(|runtime| {
        let _ = Options::read(count, options, values)?;
        if size == 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let data = data.bytes(size)?;
        step(runtime, state, |linker| {
            linker.add(kind, data, &label(name))
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLinkAddFile_v2(
    state: Handle,
    kind: u32,
    path: In<c_char>,
    count: u32,
    options: In<u32>,
    values: Out<u64>,
) -> u32 {
    call(|runtime| {
        let _ = Options::read(count, options, values)?;
        runtime.linkers.get(state)?;
        let data = read_image(path)?;
        step(runtime, state, |linker| {
            linker.add(kind, &data, &label(path))
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLinkComplete(state: Handle, image: Out<u64>, size: Out<usize>) -> u32 {
    call(|runtime| {
        image.check()?;
        let (at, length) = step(runtime, state, Linker::complete)?;
        size.put_if(length);
        image.put(at)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLinkDestroy(state: Handle) -> u32 {
    call(|runtime| runtime.linkers.take(state).map(drop))
}

/// The name without suffix is the oldest; its arguments are the same.
#[unsafe(no_mangle)]
pub extern "C" fn cuLinkCreate(
    count: u32,
    options: In<u32>,
    values: Out<u64>,
    state: Out<Handle>,
) -> u32 {
    cuLinkCreate_v2(count, options, values, state)
}

/// The name without suffix is the oldest; its arguments are the same.
#[unsafe(no_mangle)]
pub extern "C" fn cuLinkAddData(
    state: Handle,
    kind: u32,
    data: In<c_void>,
    size: usize,
    name: In<c_char>,
    count: u32,
    options: In<u32>,
    values: Out<u64>,
) -> u32 {
    cuLinkAddData_v2(state, kind, data, size, name, count, options, values)
}

/// The name without suffix is the oldest; its arguments are the same.
#[unsafe(no_mangle)]
pub extern "C" fn cuLinkAddFile(
    state: Handle,
    kind: u32,
    path: In<c_char>,
    count: u32,
    options: In<u32>,
    values: Out<u64>,
) -> u32 {
    cuLinkAddFile_v2(state, kind, path, count, options, values)
}
