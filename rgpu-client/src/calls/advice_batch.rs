//! Prefetches and discards of many ranges at once.
#![allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)] // The names and contracts are cuda.h's.

use rgpu_proto::CudaError;

use super::advice::{Where, location, pages, prefetch};
use crate::entry::{Needs, required};
use crate::handles::Kind;
use crate::servers::Of;
use crate::session::Session;

const MAX_RANGES: usize = 1 << 20;

/// # Safety
/// `list` is NULL or `count` elements.
unsafe fn list<T: Copy>(list: *const T, count: usize) -> Result<Vec<T>, CudaError> {
    required(list)?;
    if count > MAX_RANGES {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: the caller's array.
    Ok((0..count)
        .map(|at| unsafe { list.add(at).read_unaligned() })
        .collect())
}

/// The ranges of a batch, each managed memory.
unsafe fn ranges(
    session: &Session,
    addresses: *const u64,
    sizes: *const usize,
    count: usize,
    flags: u64,
    stream: u64,
) -> Result<Vec<(u64, usize)>, CudaError> {
    const LEGACY: u64 = 1;
    if flags != 0 || count == 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    session.handles.check(Kind::Stream, stream)?;
    // "Must not be legacy NULL stream", says cuda.h.
    if stream <= LEGACY {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: the caller's arrays.
    let (addresses, sizes) = unsafe { (list(addresses, count)?, list(sizes, count)?) };
    let all: Vec<(u64, usize)> = addresses.into_iter().zip(sizes).collect();
    let memory = session.memory();
    for (address, bytes) in &all {
        pages(&memory, *address, *bytes)?;
    }
    Ok(all)
}

/// The location of each range: `firsts[k]` is the first of those that `locations[k]` is for.
unsafe fn places(
    session: &Session,
    locations: *const u64,
    firsts: *const usize,
    count: usize,
    of: usize,
) -> Result<Vec<Where>, CudaError> {
    if count == 0 || count > of {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: the caller's arrays.
    let (locations, firsts) = unsafe { (list(locations, count)?, list(firsts, count)?) };
    let ascends = firsts.windows(2).all(|pair| pair[0] < pair[1]);
    if firsts[0] != 0 || !ascends || firsts[count - 1] >= of {
        return Err(CudaError::INVALID_VALUE);
    }
    let mut all = Vec::with_capacity(of);
    for (at, place) in locations.into_iter().enumerate() {
        let end = firsts.get(at + 1).copied().unwrap_or(of);
        all.resize(end, location(session, place)?);
    }
    Ok(all)
}

pub unsafe fn cuMemPrefetchBatchAsync(
    addresses: *const u64,
    sizes: *const usize,
    count: usize,
    locations: *const u64,
    firsts: *const usize,
    location_count: usize,
    flags: u64,
    stream: u64,
) -> u32 {
    Of::Handle(stream).enter("cuMemPrefetchBatchAsync", Needs::Context, |session| {
        // SAFETY: the caller's arrays.
        let (ranges, places) = unsafe {
            (
                ranges(session, addresses, sizes, count, flags, stream)?,
                places(session, locations, firsts, location_count, count)?,
            )
        };
        for ((address, bytes), place) in ranges.into_iter().zip(places) {
            prefetch(session, address, bytes, place, stream)?;
        }
        Ok(())
    })
}

/// What is in discarded memory is anything: what was there may stay.
pub unsafe fn cuMemDiscardBatchAsync(
    addresses: *const u64,
    sizes: *const usize,
    count: usize,
    flags: u64,
    stream: u64,
) -> u32 {
    Of::Handle(stream).enter("cuMemDiscardBatchAsync", Needs::Context, |session| {
        // SAFETY: the caller's arrays.
        unsafe { ranges(session, addresses, sizes, count, flags, stream) }.map(drop)
    })
}

pub unsafe fn cuMemDiscardAndPrefetchBatchAsync(
    addresses: *const u64,
    sizes: *const usize,
    count: usize,
    locations: *const u64,
    firsts: *const usize,
    location_count: usize,
    flags: u64,
    stream: u64,
) -> u32 {
    // SAFETY: the same contract.
    unsafe {
        cuMemPrefetchBatchAsync(
            addresses,
            sizes,
            count,
            locations,
            firsts,
            location_count,
            flags,
            stream,
        )
    }
}

/// For devices with concurrent managed access, which a remote one has not.
pub unsafe fn cuMemGetLocationInfo(
    address: u64,
    bytes: usize,
    summary: usize,
    sampling: usize,
    locations: *mut u64,
) -> u32 {
    Of::Pointer(address).enter("cuMemGetLocationInfo", Needs::Session, |session| {
        required(locations)?;
        if summary == 0 || summary > bytes || sampling > summary {
            return Err(CudaError::INVALID_VALUE);
        }
        pages(&session.memory(), address, bytes)?;
        Err(CudaError::NOT_SUPPORTED)
    })
}
