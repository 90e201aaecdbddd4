//! Which atomic operations devices can do in the host's memory, and in each other's.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use rgpu_proto::CudaError;

use crate::entry::{Needs, required};
use crate::send;
use crate::servers::Of;

/// CUatomicOperation.
const OPERATIONS: u32 = 13;
const MOST: u32 = 1 << 12;

/// # Safety
/// Arrays of `count`, or NULL.
unsafe fn wanted(
    capabilities: *mut u32,
    operations: *const u32,
    count: u32,
) -> Result<Vec<u32>, CudaError> {
    required(capabilities)?;
    required(operations)?;
    if count == 0 || count > MOST {
        return Err(CudaError::INVALID_VALUE);
    }
    let wanted: Vec<u32> = (0..count as usize)
        // SAFETY: the caller's array.
        .map(|at| unsafe { operations.add(at).read_unaligned() })
        .collect();
    if wanted.iter().all(|operation| *operation < OPERATIONS) {
        Ok(wanted)
    } else {
        Err(CudaError::INVALID_VALUE)
    }
}

/// Between a remote device and this host there are none.
pub unsafe fn cuDeviceGetHostAtomicCapabilities(
    capabilities: *mut u32,
    operations: *const u32,
    count: u32,
    device: i32,
) -> u32 {
    let name = "cuDeviceGetHostAtomicCapabilities";
    Of::Device(device).enter(name, Needs::Session, |session| {
        session.devices.get(device)?;
        // SAFETY: the caller's arrays.
        unsafe {
            let count = wanted(capabilities, operations, count)?.len();
            capabilities.write_bytes(0, count);
        }
        Ok(())
    })
}

pub unsafe fn cuDeviceGetP2PAtomicCapabilities(
    capabilities: *mut u32,
    operations: *const u32,
    count: u32,
    src: i32,
    dst: i32,
) -> u32 {
    let name = "cuDeviceGetP2PAtomicCapabilities";
    Of::Device(src).enter(name, Needs::Session, |session| {
        if session.devices.is_elsewhere(dst) {
            // SAFETY: the caller's arrays.
            unsafe {
                let count = wanted(capabilities, operations, count)?.len();
                capabilities.write_bytes(0, count);
            }
            return Ok(());
        }
        let (from, to) = (session.devices.get(src)?, session.devices.get(dst)?);
        if from.ordinal == to.ordinal {
            return Err(CudaError::INVALID_DEVICE);
        }
        // SAFETY: the caller's arrays.
        let wanted = unsafe { wanted(capabilities, operations, count) }?;
        let bytes: Vec<u8> = wanted
            .iter()
            .flat_map(|operation| operation.to_le_bytes())
            .collect();
        let mut found = Vec::new();
        send::rgpuPeerAtomics(session, from.ordinal, to.ordinal, &bytes, &mut found)?;
        let (found, []) = found.as_chunks::<4>() else {
            return Err(CudaError::UNKNOWN);
        };
        if found.len() != wanted.len() {
            return Err(CudaError::UNKNOWN);
        }
        for (at, mask) in found.iter().enumerate() {
            // SAFETY: the caller's array of that many.
            unsafe {
                capabilities
                    .add(at)
                    .write_unaligned(u32::from_le_bytes(*mask))
            };
        }
        Ok(())
    })
}
