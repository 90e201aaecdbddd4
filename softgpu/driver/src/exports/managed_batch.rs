//! Prefetches and discards of many ranges at once, and where managed memory is.

use super::managed::{location_of, prefetch};
use super::{Handle, call};
use crate::abi::{In, MemLocation, Out};
use crate::capture;
use crate::error::{Error, Result};
use crate::memory::Location;
use crate::runtime::Runtime;
use crate::stream::{self, Stream};

const MAX_RANGES: usize = 1 << 20;
/// CU_MEM_LOCATION_TYPE_NONE, and one location of cuMemGetLocationInfo for each so many bytes at most.
const NOWHERE: u32 = 0;
const MAX_LOCATIONS: usize = 1 << 20;

/// The ranges of a batch, each managed memory.
fn ranges(
    runtime: &Runtime,
    addresses: In<u64>,
    sizes: In<usize>,
    count: usize,
    flags: u64,
    handle: Handle,
) -> Result<Vec<(u64, usize)>> {
    if flags != 0 || count == 0 || count > MAX_RANGES {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let stream = Stream::find(runtime, handle)?;
    // "Must not be legacy NULL stream", says cuda.h.
    if stream.handle == stream::LEGACY {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    capture::forbid(&stream)?;
    let all: Vec<(u64, usize)> = addresses
        .list(count)?
        .into_iter()
        .zip(sizes.list(count)?)
        .collect();
    for (address, bytes) in &all {
        runtime.memory.advices(*address, *bytes as u64)?;
    }
    Ok(all)
}

/// The location of each range: `firsts[k]` is the first of those that `locations[k]` is for.
fn places(
    runtime: &Runtime,
    locations: In<MemLocation>,
    firsts: In<usize>,
    count: usize,
    of: usize,
) -> Result<Vec<Location>> {
    if count == 0 || count > of {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let (locations, firsts) = (locations.list(count)?, firsts.list(count)?);
    let ascends = firsts.windows(2).all(|pair| pair[0] < pair[1]);
    if firsts[0] != 0 || !ascends || firsts[count - 1] >= of {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    let mut all = Vec::with_capacity(of);
    for (at, location) in locations.into_iter().enumerate() {
        let end = firsts.get(at + 1).copied().unwrap_or(of);
        all.resize(end, location_of(runtime, location)?);
    }
    Ok(all)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemPrefetchBatchAsync(
    addresses: In<u64>,
    sizes: In<usize>,
    count: usize,
    locations: In<MemLocation>,
    firsts: In<usize>,
    location_count: usize,
    flags: u64,
    stream: Handle,
) -> u32 {
    call(|runtime| {
        let ranges = ranges(runtime, addresses, sizes, count, flags, stream)?;
        let places = places(runtime, locations, firsts, location_count, count)?;
        for ((address, bytes), place) in ranges.into_iter().zip(places) {
            prefetch(runtime, address, bytes, place, stream)?;
        }
        Ok(())
    })
}

/// What is in discarded memory is anything: what was there may stay.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemDiscardBatchAsync(
    addresses: In<u64>,
    sizes: In<usize>,
    count: usize,
    flags: u64,
    stream: Handle,
) -> u32 {
    call(|runtime| ranges(runtime, addresses, sizes, count, flags, stream).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemDiscardAndPrefetchBatchAsync(
    addresses: In<u64>,
    sizes: In<usize>,
    count: usize,
    locations: In<MemLocation>,
    firsts: In<usize>,
    location_count: usize,
    flags: u64,
    stream: Handle,
) -> u32 {
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

/// Host and device have the memory both; it is said to be where it was prefetched to last.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetLocationInfo(
    address: u64,
    bytes: usize,
    summary: usize,
    sampling: usize,
    locations: Out<MemLocation>,
) -> u32 {
    call(|runtime| {
        locations.check()?;
        if summary == 0 || summary > bytes || sampling > summary {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        runtime.memory.advices(address, bytes as u64)?;
        let count = bytes.div_ceil(summary);
        if count > MAX_LOCATIONS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        for at in 0..count {
            let begin = at * summary;
            let part = summary.min(bytes - begin);
            let advices = runtime
                .memory
                .advices(address + begin as u64, part as u64)?;
            let place = advices.first().and_then(|advice| advice.prefetched);
            let place = place.map_or((NOWHERE, 0), |place| (place.kind, place.id));
            locations.put_at(
                at,
                MemLocation {
                    kind: place.0,
                    id: place.1,
                },
            )?;
        }
        Ok(())
    })
}
