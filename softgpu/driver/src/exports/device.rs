//! Devices and their primary contexts.

use std::ffi::c_char;

use super::{Handle, call};
use crate::abi::{In, Out};
use crate::attributes;
use crate::context::Context;
use crate::device;
use crate::error::{Error, Result};

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGet(device: Out<i32>, ordinal: i32) -> u32 {
    call(|runtime| runtime.device(ordinal).and_then(|_| device.put(ordinal)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetCount(count: Out<i32>) -> u32 {
    call(|runtime| count.put(runtime.devices.len() as i32))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetName(name: Out<c_char>, len: i32, device: i32) -> u32 {
    call(|runtime| {
        let len = usize::try_from(len).map_err(|_| Error::ERROR_INVALID_VALUE)?;
        name.text(len, &runtime.device(device)?.name())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: i32) -> u32 {
    call(|runtime| uuid.put(device::uuid(runtime.device(device)?.ordinal)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: i32) -> u32 {
    cuDeviceGetUuid(uuid, device)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) -> u32 {
    call(|runtime| bytes.put(runtime.device(device)?.memory as usize))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetAttribute(value: Out<i32>, attribute: u32, device: i32) -> u32 {
    call(|runtime| {
        value.check()?;
        let found = attributes::get(runtime.device(device)?, &runtime.config, device, attribute);
        value.put(found.ok_or(Error::ERROR_INVALID_VALUE)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) -> u32 {
    call(|runtime| {
        let (a, b) = runtime.device(device)?.capability;
        major.put(a as i32).and(minor.put(b as i32))
    })
}

/// CUdevprop: threads and size of a block, size of a grid, shared and constant memory, warp, pitch, registers, clock,
/// alignment of textures.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetProperties(properties: Out<[i32; 14]>, device: i32) -> u32 {
    const ATTRIBUTES: [u32; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
    call(|runtime| {
        let found = runtime.device(device)?;
        properties.put(ATTRIBUTES.map(|attribute| {
            attributes::get(found, &runtime.config, device, attribute).unwrap_or(0)
        }))
    })
}

/// No other device writes to this one's memory.
#[unsafe(no_mangle)]
pub extern "C" fn cuFlushGPUDirectRDMAWrites(target: u32, scope: u32) -> u32 {
    call(|_| {
        Context::current()?;
        match (target, scope) {
            // The current context; its owner or all devices.
            (0, 100 | 200) => Err(Error::ERROR_NOT_SUPPORTED),
            _ => Err(Error::ERROR_INVALID_VALUE),
        }
    })
}

/// Locally unique identifiers are Windows'.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetLuid(luid: Out<c_char>, mask: Out<u32>, device: i32) -> u32 {
    call(|runtime| {
        luid.check().and(mask.check())?;
        runtime.device(device)?;
        Err(Error::ERROR_NOT_SUPPORTED)
    })
}

/// Contexts cannot have a share of the multiprocessors.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetExecAffinitySupport(can: Out<i32>, kind: u32, device: i32) -> u32 {
    call(|runtime| {
        runtime.device(device)?;
        if kind > 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        can.put(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetPCIBusId(text: Out<c_char>, len: i32, device: i32) -> u32 {
    call(|runtime| {
        let id = device::pci_text(runtime.device(device)?.ordinal);
        // Cut short it would name another device.
        match usize::try_from(len) {
            Ok(len) if len > id.len() => text.text(len, &id),
            _ => Err(Error::ERROR_INVALID_VALUE),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetByPCIBusId(device: Out<i32>, text: In<c_char>) -> u32 {
    call(|runtime| {
        let text = text
            .text()?
            .to_str()
            .map_err(|_| Error::ERROR_INVALID_VALUE)?;
        let wanted = device::parse_pci(text).ok_or(Error::ERROR_INVALID_VALUE)?;
        let at = runtime
            .devices
            .iter()
            .position(|d| device::pci(d.ordinal) == wanted);
        device.put(at.ok_or(Error::ERROR_INVALID_DEVICE)? as i32)
    })
}

/// All devices are one memory.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) -> u32 {
    call(|runtime| {
        let (a, b) = (runtime.device(device)?, runtime.device(peer)?);
        can.put(i32::from(a.ordinal != b.ordinal))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetP2PAttribute(
    value: Out<i32>,
    attribute: u32,
    from: i32,
    to: i32,
) -> u32 {
    call(|runtime| {
        let (a, b) = (runtime.device(from)?, runtime.device(to)?);
        if a.ordinal == b.ordinal {
            return Err(Error::ERROR_INVALID_DEVICE);
        }
        match attribute {
            1 => value.put(0),     // PERFORMANCE_RANK: the best
            2 | 3 => value.put(1), // ACCESS_SUPPORTED, NATIVE_ATOMIC_SUPPORTED
            4 => value.put(0),     // CUDA_ARRAY_ACCESS_SUPPORTED
            _ => Err(Error::ERROR_INVALID_VALUE),
        }
    })
}

/// CUatomicOperation.
const ATOMIC_OPERATIONS: u32 = 13;

fn atomics(
    capabilities: Out<u32>,
    operations: In<u32>,
    count: u32,
    of: impl Fn(u32) -> u32,
) -> Result {
    capabilities.check()?;
    if count == 0 {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    for at in 0..count as usize {
        if operations.get_at(at)? >= ATOMIC_OPERATIONS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
    }
    for at in 0..count as usize {
        capabilities.put_at(at, of(operations.get_at(at)?))?;
    }
    Ok(())
}

/// None, as HOST_NATIVE_ATOMIC_SUPPORTED says.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetHostAtomicCapabilities(
    capabilities: Out<u32>,
    operations: In<u32>,
    count: u32,
    device: i32,
) -> u32 {
    call(|runtime| {
        runtime.device(device)?;
        atomics(capabilities, operations, count, |_| 0)
    })
}

/// All devices are one memory: what a device can do in its own, it can do in another's.
#[unsafe(no_mangle)]
pub extern "C" fn cuDeviceGetP2PAtomicCapabilities(
    capabilities: Out<u32>,
    operations: In<u32>,
    count: u32,
    from: i32,
    to: i32,
) -> u32 {
    const SIGNED: u32 = 1 << 0;
    const UNSIGNED: u32 = 1 << 1;
    const REDUCTION: u32 = 1 << 2;
    const SCALAR: u32 = 1 << 3 | 1 << 4;
    call(|runtime| {
        let (a, b) = (runtime.device(from)?, runtime.device(to)?);
        if a.ordinal == b.ordinal {
            return Err(Error::ERROR_INVALID_DEVICE);
        }
        atomics(
            capabilities,
            operations,
            count,
            |operation| match operation {
                // Sum, least and greatest of integers; wrapping counters, which have 32 bits.
                0..=2 => SIGNED | UNSIGNED | REDUCTION | SCALAR,
                3 | 4 => UNSIGNED | REDUCTION | 1 << 3,
                // Of bits.
                5..=7 => UNSIGNED | REDUCTION | SCALAR,
                // Exchange and compare.
                8 | 9 => UNSIGNED | SCALAR,
                // Sums of floating point.
                10 => SIGNED | REDUCTION | SCALAR,
                _ => 0,
            },
        )
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: i32) -> u32 {
    call(|runtime| {
        context.check()?;
        context.put(runtime.device(device)?.retain_primary(runtime)?.handle)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(device: i32) -> u32 {
    call(|runtime| runtime.device(device)?.release_primary(runtime))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease(device: i32) -> u32 {
    cuDevicePrimaryCtxRelease_v2(device)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxReset_v2(device: i32) -> u32 {
    call(|runtime| runtime.device(device)?.reset_primary(runtime))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxReset(device: i32) -> u32 {
    cuDevicePrimaryCtxReset_v2(device)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) -> u32 {
    call(|runtime| runtime.device(device)?.set_primary_flags(flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxSetFlags(device: i32, flags: u32) -> u32 {
    cuDevicePrimaryCtxSetFlags_v2(device, flags)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxGetState(
    device: i32,
    flags: Out<u32>,
    active: Out<i32>,
) -> u32 {
    call(|runtime| {
        let state = runtime.device(device)?.primary_state();
        flags.put(state.0).and(active.put(i32::from(state.1)))
    })
}
