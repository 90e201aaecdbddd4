//! Virtual memory management. Physical memory has no pages of its own: each mapping has new ones, so two mappings of one handle differ.

use crate::abi::{In, Out, answer};
use crate::config;
use crate::device;
use crate::errors::{Error, Result};
use crate::memory::{Block, Kind, Memory, PAGE, Physical};
use crate::memory::{blocks, change, charge, give_back, map, pages, unmap};

const GRANULARITY: u64 = 2 << 20;
const TYPE_PINNED: u32 = 1;
const LOCATION_DEVICE: u32 = 1;

/// The first words of CUmemAllocationProp: type, kinds of exported handles, kind of place, its number.
type Properties = [u32; 4];

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetAllocationGranularity(
    granularity: Out<usize>,
    _properties: In<Properties>,
    _option: u32,
) -> u32 {
    answer(|| granularity.put(GRANULARITY as usize))
}

/// A place of whole granules: what the kernel gives, or what lies aligned in more of it.
fn reserve(hint: u64, bytes: u64) -> Result<u64> {
    let place = pages(hint, bytes, false)?;
    if place == hint || place.is_multiple_of(GRANULARITY) {
        return Ok(place);
    }
    // SAFETY: mapped above, and unused.
    unsafe { unmap(place, bytes) };
    let longer = bytes.checked_add(GRANULARITY).ok_or(Error::OUT_OF_MEMORY)?;
    let start = pages(0, longer, false)?;
    let place = start.next_multiple_of(GRANULARITY);
    // SAFETY: both ends of what was mapped above, which are unused; an end of no bytes is refused.
    unsafe {
        unmap(start, place - start);
        unmap(place + bytes, start + longer - (place + bytes));
    }
    Ok(place)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAddressReserve(
    address: Out<u64>,
    bytes: usize,
    _alignment: usize,
    hint: u64,
    _flags: u64,
) -> u32 {
    answer(|| {
        config::paced()?;
        address.check()?;
        let bytes = bytes as u64;
        if bytes == 0 || !bytes.is_multiple_of(PAGE) {
            return Err(Error::INVALID_VALUE);
        }
        let place = reserve(hint, bytes)?;
        change(|memory| memory.reservations.insert(place, bytes));
        address.put(place)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAddressFree(address: u64, bytes: usize) -> u32 {
    answer(|| {
        change(|memory| {
            let whole = memory.reservations.get(&address) == Some(&(bytes as u64));
            if !whole || memory.overlaps(address, bytes as u64) {
                return Err(Error::INVALID_VALUE);
            }
            memory.reservations.remove(&address);
            // SAFETY: a whole reservation, in which nothing is mapped.
            unsafe { unmap(address, bytes as u64) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemCreate(
    handle: Out<u64>,
    bytes: usize,
    properties: In<Properties>,
    _flags: u64,
) -> u32 {
    answer(|| {
        config::paced()?;
        handle.check()?;
        let bytes = bytes as u64;
        match properties.get()? {
            [TYPE_PINNED, 0, LOCATION_DEVICE, 0]
                if bytes > 0 && bytes.is_multiple_of(GRANULARITY) => {}
            [TYPE_PINNED, exported, LOCATION_DEVICE, 0] if exported != 0 => {
                return Err(Error::NOT_SUPPORTED);
            }
            _ => return Err(Error::INVALID_VALUE),
        }
        charge(bytes)?;
        handle.put(change(|memory| {
            memory.last_physical += 1;
            let physical = Physical { bytes, users: 1 };
            memory.physical.insert(memory.last_physical, physical);
            memory.last_physical
        }))
    })
}

impl Memory {
    fn physical(&mut self, handle: u64) -> Result<&mut Physical> {
        self.physical.get_mut(&handle).ok_or(Error::INVALID_VALUE)
    }

    fn release(&mut self, handle: u64) -> Result {
        let physical = self.physical(handle)?;
        physical.users -= 1;
        if physical.users == 0 {
            give_back(physical.bytes);
            self.physical.remove(&handle);
        }
        Ok(())
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemRelease(handle: u64) -> u32 {
    answer(|| change(|memory| memory.release(handle)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemRetainAllocationHandle(handle: Out<u64>, address: u64) -> u32 {
    answer(|| {
        handle.check()?;
        change(|memory| match memory.find(address) {
            Some((
                _,
                Block {
                    kind: Kind::Mapped(found),
                    ..
                },
            )) => {
                memory.physical(found)?.users += 1;
                handle.put(found)
            }
            _ => Err(Error::INVALID_VALUE),
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemMap(
    address: u64,
    bytes: usize,
    offset: usize,
    handle: u64,
    _flags: u64,
) -> u32 {
    answer(|| {
        let bytes = bytes as u64;
        let end = address.checked_add(bytes).ok_or(Error::INVALID_VALUE)?;
        change(|memory| {
            let reserved = memory.reservations.range(..=address).next_back();
            let within = reserved.is_some_and(|(base, length)| end <= base + length);
            let free = !memory.overlaps(address, bytes);
            let physical = memory.physical(handle)?;
            let whole = bytes == physical.bytes && offset == 0 && address.is_multiple_of(PAGE);
            if !within || !free || !whole {
                return Err(Error::INVALID_VALUE);
            }
            // SAFETY: part of a reservation of this library's, where nothing is mapped.
            unsafe { map(address, bytes, true, libc::MAP_FIXED) }?;
            physical.users += 1;
            let block = Block {
                bytes,
                kind: Kind::Mapped(handle),
                context: 0,
            };
            memory.blocks.insert(address, block);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemUnmap(address: u64, bytes: usize) -> u32 {
    answer(|| {
        let end = address
            .checked_add(bytes as u64)
            .ok_or(Error::INVALID_VALUE)?;
        change(|memory| {
            let mut parts = Vec::new();
            let mut at = address;
            while at < end {
                match memory.blocks.get(&at) {
                    Some(Block {
                        kind: Kind::Mapped(handle),
                        bytes,
                        ..
                    }) => {
                        parts.push((at, *handle));
                        at += bytes;
                    }
                    _ => return Err(Error::INVALID_VALUE),
                }
            }
            if at != end || parts.is_empty() {
                return Err(Error::INVALID_VALUE);
            }
            // SAFETY: mappings of this library's; the lock keeps copies away. The place is still reserved.
            unsafe { map(address, bytes as u64, false, libc::MAP_FIXED) }?;
            for (part, handle) in parts {
                memory.blocks.remove(&part);
                memory.release(handle)?;
            }
            Ok(())
        })
    })
}

/// What is mapped can be read and written from the beginning.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemSetAccess(
    address: u64,
    bytes: usize,
    descriptions: In<[u32; 3]>,
    count: usize,
) -> u32 {
    answer(|| {
        for index in 0..count {
            let [kind, number, _access] = descriptions.at(index)?;
            if kind == LOCATION_DEVICE {
                device::check(number as i32)?;
            }
        }
        match bytes > 0 && blocks().cover(address, bytes as u64) {
            true => Ok(()),
            false => Err(Error::INVALID_VALUE),
        }
    })
}
