//! Managed memory: host and device share it, so that advice is remembered and changes nothing.

use std::ffi::c_void;

use super::{Handle, call};
use crate::abi::{In, MemLocation, Out};
use crate::capture;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::memory::{Advice, Kind, Location};
use crate::runtime::Runtime;
use crate::stream::Stream;

const ATTACH_GLOBAL: u32 = 1;
const ATTACH_HOST: u32 = 2;
const ATTACH_SINGLE: u32 = 4;

/// CUmemLocationType, and CUdevice values that are no device.
const DEVICE: u32 = 1;
const HOST: u32 = 2;
const HOST_NUMA_CURRENT: u32 = 4;
const CPU: i32 = -1;
const NOWHERE: i32 = -2;

const MAX_ATTRIBUTES: usize = 64;

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocManaged(address: Out<u64>, bytes: usize, flags: u32) -> u32 {
    call(|runtime| {
        address.check()?;
        let context = Context::current()?;
        capture::forbid_unsafe()?;
        if !matches!(flags, ATTACH_GLOBAL | ATTACH_HOST) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let device = context.device.ordinal;
        address.put(
            runtime
                .memory
                .allocate(device, context.handle, bytes as u64, Kind::Managed)?,
        )
    })
}

/// A device, or CU_DEVICE_CPU.
fn place_of(runtime: &Runtime, device: i32) -> Result<Location> {
    if device == CPU {
        return Ok(Location { kind: HOST, id: 0 });
    }
    runtime.device(device)?;
    Ok(Location {
        kind: DEVICE,
        id: device,
    })
}

pub fn location_of(runtime: &Runtime, location: MemLocation) -> Result<Location> {
    match location.kind {
        DEVICE => place_of(runtime, location.id),
        HOST..=HOST_NUMA_CURRENT => place_of(runtime, CPU),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

fn advise(
    runtime: &Runtime,
    address: u64,
    bytes: usize,
    advice: u32,
    location: impl FnOnce() -> Result<Location>,
) -> Result {
    let change: Box<dyn Fn(&mut Advice)> = match advice {
        1 => Box::new(|range| range.read_mostly = true),
        2 => Box::new(|range| range.read_mostly = false),
        3 => {
            let location = location()?;
            Box::new(move |range| range.preferred = Some(location))
        }
        4 => Box::new(|range| range.preferred = None),
        5 => {
            let location = location()?;
            Box::new(move |range| {
                range.accessed_by.retain(|other| *other != location);
                range.accessed_by.push(location);
            })
        }
        6 => {
            let location = location()?;
            Box::new(move |range| range.accessed_by.retain(|other| *other != location))
        }
        _ => return Err(Error::ERROR_INVALID_VALUE),
    };
    runtime.memory.advise(address, bytes as u64, change)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAdvise(address: u64, bytes: usize, advice: u32, device: i32) -> u32 {
    call(|runtime| {
        advise(runtime, address, bytes, advice, || {
            place_of(runtime, device)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAdvise_v2(
    address: u64,
    bytes: usize,
    advice: u32,
    location: MemLocation,
) -> u32 {
    call(|runtime| {
        advise(runtime, address, bytes, advice, || {
            location_of(runtime, location)
        })
    })
}

pub fn prefetch(
    runtime: &Runtime,
    address: u64,
    bytes: usize,
    location: Location,
    stream: Handle,
) -> Result {
    capture::forbid(&*Stream::find(runtime, stream)?)?;
    runtime.memory.advise(address, bytes as u64, |range| {
        range.prefetched = Some(location)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPrefetchAsync(
    address: u64,
    bytes: usize,
    device: i32,
    stream: Handle,
) -> u32 {
    call(|runtime| {
        let location = place_of(runtime, device)?;
        prefetch(runtime, address, bytes, location, stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPrefetchAsync_v2(
    address: u64,
    bytes: usize,
    location: MemLocation,
    flags: u32,
    stream: Handle,
) -> u32 {
    call(|runtime| {
        if flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let location = location_of(runtime, location)?;
        prefetch(runtime, address, bytes, location, stream)
    })
}

/// What all parts of a range agree on.
fn same<T: PartialEq + Copy>(parts: &[Advice], of: impl Fn(&Advice) -> Option<T>) -> Option<T> {
    let first = of(parts.first()?)?;
    parts
        .iter()
        .all(|part| of(part) == Some(first))
        .then_some(first)
}

fn number(location: Option<Location>) -> i32 {
    match location {
        Some(Location { kind: DEVICE, id }) => id,
        Some(_) => CPU,
        None => NOWHERE,
    }
}

fn attribute(parts: &[Advice], attribute: u32, data: Out<c_void>, size: usize) -> Result {
    data.check()?;
    let words: Out<i32> = data.cast();
    let preferred = same(parts, |part| part.preferred);
    let prefetched = same(parts, |part| part.prefetched);
    let kind = |location: Option<Location>| location.map_or(0, |location| location.kind as i32);
    let id = |location: Option<Location>| location.map_or(0, |location| location.id);
    let value = match attribute {
        1 => i32::from(parts.iter().all(|part| part.read_mostly)),
        2 => number(preferred),
        3 => {
            if size == 0 || !size.is_multiple_of(4) {
                return Err(Error::ERROR_INVALID_VALUE);
            }
            let first = parts.first().map_or(&[][..], |part| &part.accessed_by);
            let all = first
                .iter()
                .copied()
                .filter(|location| parts.iter().all(|part| part.accessed_by.contains(location)));
            let all = all.map(|location| number(Some(location)));
            for (at, value) in all
                .chain(std::iter::repeat(NOWHERE))
                .take(size / 4)
                .enumerate()
            {
                words.put_at(at, value)?;
            }
            return Ok(());
        }
        4 => number(prefetched),
        5 => kind(preferred),
        6 => id(preferred),
        7 => kind(prefetched),
        8 => id(prefetched),
        _ => return Err(Error::ERROR_INVALID_VALUE),
    };
    if size != 4 {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    words.put(value)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemRangeGetAttribute(
    data: Out<c_void>,
    size: usize,
    which: u32,
    address: u64,
    bytes: usize,
) -> u32 {
    call(|runtime| {
        let parts = runtime.memory.advices(address, bytes as u64)?;
        attribute(&parts, which, data, size)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemRangeGetAttributes(
    data: In<Out<c_void>>,
    sizes: In<usize>,
    attributes: In<u32>,
    count: usize,
    address: u64,
    bytes: usize,
) -> u32 {
    call(|runtime| {
        if count == 0 || count > MAX_ATTRIBUTES {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let parts = runtime.memory.advices(address, bytes as u64)?;
        for at in 0..count {
            let (data, size) = (data.get_at(at)?, sizes.get_at(at)?);
            attribute(&parts, attributes.get_at(at)?, data, size)?;
        }
        Ok(())
    })
}

/// Every stream sees all managed memory, so there is nothing to attach.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamAttachMemAsync(
    stream: Handle,
    address: u64,
    bytes: usize,
    flags: u32,
) -> u32 {
    call(|runtime| {
        capture::forbid(&*Stream::find(runtime, stream)?)?;
        let special = matches!(
            stream,
            0 | crate::stream::LEGACY | crate::stream::PER_THREAD
        );
        match flags {
            ATTACH_GLOBAL | ATTACH_HOST => {}
            ATTACH_SINGLE if !special => {}
            _ => return Err(Error::ERROR_INVALID_VALUE),
        }
        let found = runtime
            .memory
            .starts_at(address)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        if found.kind != Kind::Managed || !(bytes == 0 || bytes as u64 == found.size) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        Ok(())
    })
}
