//! Devices: which there are, which one a thread uses, its primary context; peers; versions.

use std::ffi::c_void;

use crate::abi::ChannelDesc;
use crate::context;
use crate::error::{self, Error, Result};
use crate::properties::{Properties11, Properties12, Properties13};
use crate::{Runtime, Version, driver, format};

/// cudaDeviceMapHost: every context can map the host's memory.
const MAP_HOST: u32 = 8;
/// cudaInitDeviceFlagsAreValid.
const FLAGS_ARE_VALID: u32 = 1;

pub unsafe fn cudaGetDeviceCount(runtime: &Runtime, count: *mut i32) -> Result {
    if count.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    count.write(0);
    let cu = runtime.driver()?;
    cu.cuDeviceGetCount(count)?;
    if *count == 0 {
        Err(Error::NO_DEVICE)
    } else {
        Ok(())
    }
}

pub unsafe fn cudaGetDevice(runtime: &Runtime, device: *mut i32) -> Result {
    if device.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    device.write(context::device(runtime.driver()?)?);
    Ok(())
}

pub unsafe fn cudaSetDevice(runtime: &Runtime, device: i32) -> Result {
    context::choose(runtime.driver()?, device)
}

/// The first of these devices is the one that a thread without a choice of its own uses; it is the only choice that this makes.
pub unsafe fn cudaSetValidDevices(runtime: &Runtime, devices: *mut i32, count: i32) -> Result {
    let cu = runtime.driver()?;
    if count < 0 || (devices.is_null() && count > 0) {
        return Err(Error::INVALID_VALUE);
    }
    for at in 0..count as usize {
        context::handle(cu, *devices.add(at))?;
    }
    match count {
        0 => Ok(()),
        _ => context::choose(cu, *devices),
    }
}

pub unsafe fn cudaChooseDevice(
    runtime: &Runtime,
    device: *mut i32,
    wanted: *const c_void,
) -> Result {
    if device.is_null() || wanted.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.driver()?;
    let (mut count, mut best) = (0, (-1, 0));
    cu.cuDeviceGetCount(&mut count)?;
    for ordinal in 0..count {
        let handle = context::handle(cu, ordinal)?;
        let score = match runtime.version {
            Version::V12 => Properties12::of(cu, handle)?.score(&*wanted.cast()),
            Version::V13 => Properties13::of(cu, handle)?.score(&*wanted.cast()),
        };
        if score > best.0 {
            best = (score, ordinal);
        }
    }
    device.write(best.1);
    if best.0 < 0 {
        Err(Error::NO_DEVICE)
    } else {
        Ok(())
    }
}

pub unsafe fn cudaGetDeviceProperties(
    runtime: &Runtime,
    properties: *mut c_void,
    device: i32,
) -> Result {
    if properties.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.driver()?;
    let device = context::handle(cu, device)?;
    match runtime.version {
        // The name without a version has CUDA 11's structure in 12.
        Version::V12 => properties
            .cast::<Properties11>()
            .write(Properties11::of(cu, device)?),
        Version::V13 => properties
            .cast::<Properties13>()
            .write(Properties13::of(cu, device)?),
    }
    Ok(())
}

pub unsafe fn cudaGetDeviceProperties_v2(
    runtime: &Runtime,
    properties: *mut c_void,
    device: i32,
) -> Result {
    if properties.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.driver()?;
    let device = context::handle(cu, device)?;
    properties
        .cast::<Properties12>()
        .write(Properties12::of(cu, device)?);
    Ok(())
}

pub unsafe fn cudaSetDeviceFlags(runtime: &Runtime, flags: u32) -> Result {
    let cu = runtime.driver()?;
    set_flags(cu, context::device(cu)?, flags)
}

unsafe fn set_flags(cu: &driver::Driver, device: i32, flags: u32) -> Result {
    cu.cuDevicePrimaryCtxSetFlags_v2(context::handle(cu, device)?, flags & !MAP_HOST)
}

pub unsafe fn cudaGetDeviceFlags(runtime: &Runtime, flags: *mut u32) -> Result {
    if flags.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.driver()?;
    if context::current(cu)?.is_null() {
        let (device, mut active) = (context::handle(cu, context::chosen())?, 0);
        cu.cuDevicePrimaryCtxGetState(device, flags, &mut active)?;
    } else {
        cu.cuCtxGetFlags(flags)?;
    }
    *flags |= MAP_HOST;
    Ok(())
}

/// Begins a device's primary context without choosing the device.
pub unsafe fn cudaInitDevice(
    runtime: &Runtime,
    device: i32,
    device_flags: u32,
    flags: u32,
) -> Result {
    let cu = runtime.driver()?;
    if flags & !FLAGS_ARE_VALID != 0 {
        return Err(Error::INVALID_VALUE);
    }
    if flags & FLAGS_ARE_VALID != 0 {
        set_flags(cu, device, device_flags)?;
    }
    context::primary(cu, device).map(drop)
}

pub unsafe fn cudaDeviceReset(runtime: &Runtime) -> Result {
    let cu = runtime.driver()?;
    context::reset(cu, context::device(cu)?)?;
    error::forget();
    Ok(())
}

pub unsafe fn cudaThreadExit(runtime: &Runtime) -> Result {
    cudaDeviceReset(runtime)
}

pub unsafe fn cudaDeviceGetTexture1DLinearMaxWidth(
    runtime: &Runtime,
    width: *mut usize,
    format: *const ChannelDesc,
    device: i32,
) -> Result {
    if width.is_null() || format.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.driver()?;
    let (format, channels) = format::of_channels(&*format)?;
    let device = context::handle(cu, device)?;
    match cu.cuDeviceGetTexture1DLinearMaxWidth(width, format, channels, device) {
        Err(Error::NOT_SUPPORTED) => {
            const MAXIMUM_TEXTURE1D_LINEAR_WIDTH: u32 = 69;
            let mut value = 0;
            cu.cuDeviceGetAttribute(&mut value, MAXIMUM_TEXTURE1D_LINEAR_WIDTH, device)?;
            width.write(value as usize);
            Ok(())
        }
        result => result,
    }
}

pub unsafe fn cudaDeviceEnablePeerAccess(runtime: &Runtime, peer: i32, flags: u32) -> Result {
    let cu = runtime.context()?;
    let context = context::primary(cu, peer)?;
    cu.cuCtxEnablePeerAccess(context, flags)
}

pub unsafe fn cudaDeviceDisablePeerAccess(runtime: &Runtime, peer: i32) -> Result {
    let cu = runtime.context()?;
    let context = context::primary(cu, peer)?;
    cu.cuCtxDisablePeerAccess(context)
}

/// 0 without a driver.
pub unsafe fn cudaDriverGetVersion(runtime: &Runtime, version: *mut i32) -> Result {
    if version.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    version.write(0);
    match driver::loaded(runtime.streams) {
        Ok(cu) => cu.cuDriverGetVersion(version),
        Err(_) => Ok(()),
    }
}

pub unsafe fn cudaRuntimeGetVersion(runtime: &Runtime, version: *mut i32) -> Result {
    if version.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    version.write(match runtime.version {
        Version::V12 => 12090,
        Version::V13 => 13050,
    });
    Ok(())
}
