//! Memory and events of other processes.

use std::sync::Arc;

use super::memory::drained;
use super::{Handle, call};
use crate::abi::Out;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::handles;
use crate::ipc::{IpcHandle, SharedEvent};
use crate::runtime::Runtime;

const LAZY_ENABLE_PEER_ACCESS: u32 = 1;

#[unsafe(no_mangle)]
pub extern "C" fn cuIpcGetMemHandle(handle: Out<IpcHandle>, address: u64) -> u32 {
    call(|runtime| {
        handle.check()?;
        Context::current()?;
        handle.put(runtime.memory.export(address)?)
    })
}

fn open(runtime: &Runtime, address: Out<u64>, handle: &IpcHandle, flags: u32) -> Result {
    address.check()?;
    let context = Context::current()?;
    if flags != LAZY_ENABLE_PEER_ACCESS {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let devices: Vec<usize> = runtime.devices.iter().map(|it| it.ordinal).collect();
    address.put(runtime.memory.import(handle, context.handle, &devices)?)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuIpcOpenMemHandle(address: Out<u64>, handle: IpcHandle, flags: u32) -> u32 {
    call(|runtime| open(runtime, address, &handle, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuIpcOpenMemHandle_v2(address: Out<u64>, handle: IpcHandle, flags: u32) -> u32 {
    call(|runtime| open(runtime, address, &handle, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuIpcCloseMemHandle(address: u64) -> u32 {
    call(|runtime| {
        let found = runtime.memory.starts_at(address);
        let owner = found.ok_or(Error::ERROR_INVALID_VALUE)?.context;
        if runtime.memory.is_closed_next(address) {
            drained(runtime, owner);
        }
        runtime.still(|| runtime.memory.close(address))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuIpcGetEventHandle(handle: Out<IpcHandle>, event: Handle) -> u32 {
    call(|runtime| {
        handle.check()?;
        let event = runtime.events.get(event)?;
        let shared = event.shared().ok_or(Error::ERROR_INVALID_HANDLE)?;
        handle.put(shared.handle()?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuIpcOpenEventHandle(event: Out<Handle>, handle: IpcHandle) -> u32 {
    call(|runtime| {
        event.check()?;
        let context = Context::current()?;
        let opened = Event::opened(&context, SharedEvent::open(&handle)?);
        let created = handles::fresh();
        runtime.events.insert(created, Arc::new(opened));
        event.put(created)
    })
}
