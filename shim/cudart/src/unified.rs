//! What a pointer is.

use std::ffi::c_void;
use std::ptr::null_mut;

use crate::abi::{PointerAttributes, PointerAttributes13};
use crate::error::{Error, Result};
use crate::{Runtime, Version};

/// cudaMemoryType.
const UNREGISTERED: u32 = 0;
const MANAGED: u32 = 3;
/// cudaInvalidDeviceId.
const NO_DEVICE: i32 = -2;

/// Memory that CUDA does not know is the host's, and no error.
pub unsafe fn cudaPointerGetAttributes(
    runtime: &Runtime,
    attributes: *mut c_void,
    pointer: *const c_void,
) -> Result {
    /// MEMORY_TYPE, DEVICE_POINTER, HOST_POINTER, IS_MANAGED, DEVICE_ORDINAL.
    const ASKED: [u32; 5] = [2, 3, 4, 8, 9];
    if attributes.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.context()?;
    let (mut kind, mut device, mut host) = (0u32, null_mut::<c_void>(), null_mut::<c_void>());
    let (mut managed, mut ordinal) = (0u32, 0i32);
    let mut places: [*mut c_void; 5] = [
        (&raw mut kind).cast(),
        (&raw mut device).cast(),
        (&raw mut host).cast(),
        (&raw mut managed).cast(),
        (&raw mut ordinal).cast(),
    ];
    let mut asked = ASKED;
    cu.cuPointerGetAttributes(
        asked.len() as u32,
        asked.as_mut_ptr().cast(),
        places.as_mut_ptr(),
        pointer as u64,
    )?;
    let mut found = PointerAttributes {
        kind,
        device: ordinal,
        device_pointer: device,
        host_pointer: host,
    };
    if kind == UNREGISTERED {
        found = PointerAttributes {
            kind,
            device: NO_DEVICE,
            device_pointer: null_mut(),
            host_pointer: pointer.cast_mut(),
        };
    } else if managed & 0xff != 0 {
        found.kind = MANAGED;
        found.device_pointer = pointer.cast_mut();
        found.host_pointer = pointer.cast_mut();
    }
    match runtime.version {
        Version::V12 => attributes.cast::<PointerAttributes>().write(found),
        Version::V13 => attributes
            .cast::<PointerAttributes13>()
            .write(PointerAttributes13 {
                common: found,
                reserved: [0; 8],
            }),
    }
    Ok(())
}
