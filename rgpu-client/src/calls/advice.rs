//! Hints of where managed memory should be. It moves when it must, whatever they say; they are remembered, page by page, for who asks.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;

use rgpu_proto::CudaError;

use super::managed::Sharing;
use super::memory::Memory;
use crate::entry::{Needs, put, required};
use crate::handles::Kind;
use crate::servers::Of;
use crate::session::Session;
use crate::shared::PAGE;

// CUmemLocationType, and CUdevice values that are no device.
const DEVICE: u32 = 1;
const HOST: u32 = 2;
const HOST_NUMA_CURRENT: u32 = 4;
const CPU: i32 = -1;
const NOWHERE: i32 = -2;

const MAX_ATTRIBUTES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Where {
    kind: u32,
    id: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Advice {
    read_mostly: bool,
    preferred: Option<Where>,
    accessed_by: Vec<Where>,
    prefetched: Option<Where>,
}

/// Of each managed allocation for which there is any, by page.
#[derive(Default)]
pub struct Advices(BTreeMap<u64, Vec<Advice>>);

impl Advices {
    pub fn forget(&mut self, base: u64) {
        self.0.remove(&base);
    }
}

/// The managed allocation, its pages, and which of them these bytes touch.
pub fn pages(
    memory: &Memory,
    address: u64,
    bytes: usize,
) -> Result<(u64, usize, Range<usize>), CudaError> {
    let found = memory.find(address).ok_or(CudaError::INVALID_VALUE)?;
    let begin = address - found.base;
    let bytes = bytes as u64;
    if found.sharing() != Sharing::Managed || bytes == 0 || bytes > found.size - begin {
        return Err(CudaError::INVALID_VALUE);
    }
    let touched = (begin / PAGE) as usize..(begin + bytes).div_ceil(PAGE) as usize;
    Ok((found.base, found.size.div_ceil(PAGE) as usize, touched))
}

fn change(
    session: &Session,
    address: u64,
    bytes: usize,
    change: impl Fn(&mut Advice),
) -> Result<(), CudaError> {
    let mut memory = session.memory();
    let (base, count, touched) = pages(&memory, address, bytes)?;
    let all = memory.advices.0.entry(base);
    let all = all.or_insert_with(|| vec![Advice::default(); count]);
    all[touched].iter_mut().for_each(change);
    Ok(())
}

/// A device, or CU_DEVICE_CPU.
fn device(session: &Session, device: i32) -> Result<Where, CudaError> {
    if device == CPU {
        return Ok(Where { kind: HOST, id: 0 });
    }
    session.devices.get(device)?;
    Ok(Where {
        kind: DEVICE,
        id: device,
    })
}

/// A CUmemLocation: its kind, and its id in the upper half.
pub fn location(session: &Session, location: u64) -> Result<Where, CudaError> {
    match location as u32 {
        DEVICE => device(session, (location >> 32) as i32),
        HOST..=HOST_NUMA_CURRENT => device(session, CPU),
        _ => Err(CudaError::INVALID_VALUE),
    }
}

fn advise(
    session: &Session,
    address: u64,
    bytes: usize,
    advice: u32,
    place: impl FnOnce() -> Result<Where, CudaError>,
) -> Result<(), CudaError> {
    match advice {
        1 => change(session, address, bytes, |page| page.read_mostly = true),
        2 => change(session, address, bytes, |page| page.read_mostly = false),
        3 => {
            let place = place()?;
            change(session, address, bytes, |page| page.preferred = Some(place))
        }
        4 => change(session, address, bytes, |page| page.preferred = None),
        5 => {
            let place = place()?;
            change(session, address, bytes, |page| {
                page.accessed_by.retain(|other| *other != place);
                page.accessed_by.push(place);
            })
        }
        6 => {
            let place = place()?;
            change(session, address, bytes, |page| {
                page.accessed_by.retain(|other| *other != place);
            })
        }
        _ => Err(CudaError::INVALID_VALUE),
    }
}

pub unsafe fn cuMemAdvise(address: u64, bytes: usize, advice: u32, ordinal: i32) -> u32 {
    Of::Pointer(address).enter("cuMemAdvise", Needs::Session, |session| {
        advise(session, address, bytes, advice, || device(session, ordinal))
    })
}

pub unsafe fn cuMemAdvise_v2(address: u64, bytes: usize, advice: u32, place: u64) -> u32 {
    Of::Pointer(address).enter("cuMemAdvise_v2", Needs::Session, |session| {
        advise(session, address, bytes, advice, || location(session, place))
    })
}

pub fn prefetch(
    session: &Session,
    address: u64,
    bytes: usize,
    place: Where,
    stream: u64,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, stream)?;
    change(session, address, bytes, |page| {
        page.prefetched = Some(place)
    })
}

pub unsafe fn cuMemPrefetchAsync(address: u64, bytes: usize, ordinal: i32, stream: u64) -> u32 {
    Of::Handle(stream).enter("cuMemPrefetchAsync", Needs::Context, |session| {
        let place = device(session, ordinal)?;
        prefetch(session, address, bytes, place, stream)
    })
}

pub unsafe fn cuMemPrefetchAsync_v2(
    address: u64,
    bytes: usize,
    place: u64,
    flags: u32,
    stream: u64,
) -> u32 {
    Of::Handle(stream).enter("cuMemPrefetchAsync_v2", Needs::Context, |session| {
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let place = location(session, place)?;
        prefetch(session, address, bytes, place, stream)
    })
}

/// What all pages agree on.
fn same<T: PartialEq + Copy>(pages: &[Advice], of: impl Fn(&Advice) -> Option<T>) -> Option<T> {
    let first = of(pages.first()?)?;
    let agree = pages.iter().all(|page| of(page) == Some(first));
    agree.then_some(first)
}

fn ordinal(place: Option<Where>) -> i32 {
    match place {
        Some(Where { kind: DEVICE, id }) => id,
        Some(_) => CPU,
        None => NOWHERE,
    }
}

/// # Safety
/// `data` is NULL or `size` bytes of the caller's.
unsafe fn attribute(
    pages: &[Advice],
    attribute: u32,
    data: *mut c_void,
    size: usize,
) -> Result<(), CudaError> {
    const WORD: usize = size_of::<i32>();
    required(data)?;
    let data = data.cast::<i32>();
    let preferred = same(pages, |page| page.preferred);
    let prefetched = same(pages, |page| page.prefetched);
    let kind = |place: Option<Where>| place.map_or(0, |place| place.kind as i32);
    let id = |place: Option<Where>| place.map_or(0, |place| place.id);
    let value = match attribute {
        1 => i32::from(pages.iter().all(|page| page.read_mostly)),
        2 => ordinal(preferred),
        3 => {
            if size == 0 || !size.is_multiple_of(WORD) {
                return Err(CudaError::INVALID_VALUE);
            }
            let first = pages.first().map_or(&[][..], |page| &page.accessed_by);
            let by_all = |place: &&Where| pages.iter().all(|page| page.accessed_by.contains(place));
            let all = first
                .iter()
                .filter(by_all)
                .map(|place| ordinal(Some(*place)));
            let all = all.chain(std::iter::repeat(NOWHERE)).take(size / WORD);
            for (at, value) in all.enumerate() {
                // SAFETY: within the caller's `size` bytes.
                unsafe { data.add(at).write(value) };
            }
            return Ok(());
        }
        4 => ordinal(prefetched),
        5 => kind(preferred),
        6 => id(preferred),
        7 => kind(prefetched),
        8 => id(prefetched),
        _ => return Err(CudaError::INVALID_VALUE),
    };
    if size != WORD {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: the caller's place for one word.
    unsafe { put(data, value) }
}

/// Calls `body` with what is remembered of these bytes.
fn with_pages(
    session: &Session,
    address: u64,
    bytes: usize,
    body: impl FnOnce(&[Advice]) -> Result<(), CudaError>,
) -> Result<(), CudaError> {
    let memory = session.memory();
    let (base, _, touched) = pages(&memory, address, bytes)?;
    match memory.advices.0.get(&base) {
        Some(all) => body(&all[touched]),
        None => body(&[Advice::default()]),
    }
}

pub unsafe fn cuMemRangeGetAttribute(
    data: *mut c_void,
    size: usize,
    which: u32,
    address: u64,
    bytes: usize,
) -> u32 {
    Of::Pointer(address).enter("cuMemRangeGetAttribute", Needs::Session, |session| {
        with_pages(session, address, bytes, |pages| {
            // SAFETY: the caller's place.
            unsafe { attribute(pages, which, data, size) }
        })
    })
}

pub unsafe fn cuMemRangeGetAttributes(
    data: *const *mut c_void,
    sizes: *const usize,
    attributes: *const u32,
    count: usize,
    address: u64,
    bytes: usize,
) -> u32 {
    Of::Pointer(address).enter("cuMemRangeGetAttributes", Needs::Session, |session| {
        if count == 0 || count > MAX_ATTRIBUTES {
            return Err(CudaError::INVALID_VALUE);
        }
        required(data)?;
        required(sizes)?;
        required(attributes)?;
        with_pages(session, address, bytes, |pages| {
            for at in 0..count {
                // SAFETY: `count` of each, and places of the sizes that are given.
                unsafe {
                    let (data, size) = (*data.add(at), *sizes.add(at));
                    attribute(pages, *attributes.add(at), data, size)?;
                }
            }
            Ok(())
        })
    })
}
