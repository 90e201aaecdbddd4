//! Initialisation, errors and device queries: answered from the snapshot.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::{CStr, c_char};

use rgpu_proto::{CudaError, calls, result};

use crate::device::Device;
use crate::entry::{Needs, anywhere, enter, put, required};
use crate::servers::{Of, existing, initialise, others};
use crate::{process, send, stats};

/// The newest CUDA of which all is served that a remote device can do: 13.2. 13.3 brings captures that go on in a graph.
pub const DRIVER_VERSION: i32 = 13020;

pub unsafe fn cuInit(flags: u32) -> u32 {
    anywhere(|| {
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        if process::is_exiting() {
            return Err(CudaError::DEINITIALIZED);
        }
        if process::is_forked_child() {
            return Err(CudaError::NOT_INITIALIZED);
        }
        initialise()
    })
}

/// CUDA's version by a driver's: what is served decides, not what the driver could do more.
pub fn served_version(driver: i32) -> i32 {
    driver.min(DRIVER_VERSION)
}

pub unsafe fn cuDriverGetVersion(version: *mut i32) -> u32 {
    anywhere(|| {
        let all = existing().map_or(&[][..], |servers| servers.all());
        let versions = all.iter().map(|session| session.devices.driver_version);
        // What not all of them serve a program must not ask of any.
        let known = served_version(versions.min().unwrap_or(DRIVER_VERSION));
        // SAFETY: the caller's place.
        unsafe { put(version, known) }
    })
}

pub unsafe fn cuGetErrorName(error: u32, text: *mut *const c_char) -> u32 {
    // SAFETY: the caller's place.
    unsafe { describe(error, text, |(name, _)| name) }
}

pub unsafe fn cuGetErrorString(error: u32, text: *mut *const c_char) -> u32 {
    // SAFETY: the caller's place.
    unsafe { describe(error, text, |(_, text)| text) }
}

unsafe fn describe(
    error: u32,
    place: *mut *const c_char,
    choose: fn((&'static CStr, &'static CStr)) -> &'static CStr,
) -> u32 {
    anywhere(|| match result::describe(error) {
        // SAFETY: the caller's place.
        Some(texts) => unsafe { put(place, choose(texts).as_ptr()) },
        None => {
            // SAFETY: the caller's place.
            unsafe { put(place, std::ptr::null()) }?;
            Err(CudaError::INVALID_VALUE)
        }
    })
}

pub unsafe fn cuDeviceGet(device: *mut i32, ordinal: i32) -> u32 {
    Of::Device(ordinal).enter("cuDeviceGet", Needs::Session, |session| {
        required(device)?;
        session.devices.get(ordinal)?;
        // SAFETY: the caller's place.
        unsafe { put(device, ordinal) }
    })
}

pub unsafe fn cuDeviceGetCount(count: *mut i32) -> u32 {
    Of::Process.enter("cuDeviceGetCount", Needs::Session, |session| {
        // SAFETY: the caller's place.
        unsafe { put(count, session.devices.count() as i32) }
    })
}

/// Writes a text with its NUL into `len` bytes, cut to fit.
unsafe fn put_text(text: &str, place: *mut c_char, len: i32) -> Result<(), CudaError> {
    let len = usize::try_from(len).map_err(|_| CudaError::INVALID_VALUE)?;
    if len == 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    required(place)?;
    let count = text.len().min(len - 1);
    // SAFETY: `count + 1` bytes fit the caller's `len`.
    unsafe {
        place
            .cast::<u8>()
            .copy_from_nonoverlapping(text.as_ptr(), count);
        place.add(count).write(0);
    }
    Ok(())
}

pub unsafe fn cuDeviceGetName(name: *mut c_char, len: i32, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceGetName", Needs::Session, |session| {
        // SAFETY: the caller's buffer.
        unsafe { put_text(&session.devices.get(device)?.snapshot.name, name, len) }
    })
}

pub unsafe fn cuDeviceGetPCIBusId(text: *mut c_char, len: i32, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceGetPCIBusId", Needs::Session, |session| {
        let id = &session.devices.get(device)?.snapshot.pci_bus_id;
        if usize::try_from(len).is_ok_and(|len| len <= id.len()) {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: the caller's buffer.
        unsafe { put_text(id, text, len) }
    })
}

pub unsafe fn cuDeviceGetByPCIBusId(device: *mut i32, text: *const c_char) -> u32 {
    Of::Process.enter("cuDeviceGetByPCIBusId", Needs::Session, |session| {
        // SAFETY: the caller's string.
        let wanted = unsafe { crate::entry::input_str(text) }?;
        let wanted = bus_address(wanted).ok_or(CudaError::INVALID_VALUE)?;
        let is_there = |device: Option<&Device>| {
            let id = device.map(|device| &device.snapshot.pci_bus_id);
            id.and_then(|id| bus_address(id.as_bytes())) == Some(wanted)
        };
        // Servers may have devices of one number: the program's first is meant.
        let found = std::iter::once(session)
            .chain(others(session))
            .filter_map(|session| session.devices.slots().position(is_there))
            .min();
        // SAFETY: the caller's place.
        unsafe { put(device, found.ok_or(CudaError::INVALID_DEVICE)? as i32) }
    })
}

/// `[domain]:[bus]:[device].[function]`, hexadecimal; domain and function may be left out and are 0 then.
fn bus_address(text: &[u8]) -> Option<[u32; 4]> {
    let text = std::str::from_utf8(text).ok()?;
    let (address, function) = text.split_once('.').unwrap_or((text, "0"));
    let mut fields = address
        .rsplit(':')
        .map(|field| u32::from_str_radix(field, 16).ok());
    let (device, bus) = (fields.next()??, fields.next()??);
    let domain = fields.next().unwrap_or(Some(0))?;
    Some([domain, bus, device, u32::from_str_radix(function, 16).ok()?])
}

pub unsafe fn cuDeviceGetUuid(uuid: *mut u8, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceGetUuid", Needs::Session, |session| {
        let bytes = session.devices.get(device)?.snapshot.uuid;
        // SAFETY: a CUuuid is 16 bytes, and the caller's.
        unsafe { put(uuid.cast::<[u8; 16]>(), bytes) }
    })
}

pub unsafe fn cuDeviceGetUuid_v2(uuid: *mut u8, device: i32) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuDeviceGetUuid(uuid, device) }
}

pub unsafe fn cuDeviceTotalMem_v2(bytes: *mut usize, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceTotalMem_v2", Needs::Session, |session| {
        // SAFETY: the caller's place.
        unsafe {
            put(
                bytes,
                session.devices.get(device)?.snapshot.total_memory as usize,
            )
        }
    })
}

pub unsafe fn cuDeviceGetAttribute(value: *mut i32, attribute: i32, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceGetAttribute", Needs::Session, |session| {
        required(value)?;
        let known = session.devices.get(device)?.attribute(attribute)?;
        let shares = session.memory().has_window(device as usize);
        // SAFETY: the caller's place.
        unsafe { put(value, served_attribute(attribute, known, shares)) }
    })
}

/// What a remote device does not offer says so by attribute as well as by call. `shares`: memory can be at the same address here and there.
fn served_attribute(attribute: i32, value: i32, shares: bool) -> i32 {
    const CAN_MAP_HOST_MEMORY: i32 = 19;
    const MANAGED_MEMORY: i32 = 83;
    const PAGEABLE_MEMORY_ACCESS: i32 = 88;
    const CONCURRENT_MANAGED_ACCESS: i32 = 89;
    const CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM: i32 = 91;
    const COOPERATIVE_MULTI_DEVICE_LAUNCH: i32 = 96;
    const PAGEABLE_USES_HOST_PAGE_TABLES: i32 = 100;
    const DIRECT_MANAGED_ACCESS_FROM_HOST: i32 = 101;
    const HANDLE_TYPE_POSIX_FILE: i32 = 103;
    const HANDLE_TYPE_WIN32_KMT: i32 = 105;
    const GENERIC_COMPRESSION: i32 = 107;
    const GPU_DIRECT_RDMA_WITH_VMM: i32 = 110;
    const TIMELINE_SEMAPHORES: i32 = 114;
    const GPU_DIRECT_RDMA: i32 = 116;
    const MEMORY_POOL_HANDLE_TYPES: i32 = 119;
    const SPARSE_CUDA_ARRAY: i32 = 112;
    const DEFERRED_MAPPING_CUDA_ARRAY: i32 = 121;
    const HANDLE_TYPE_FABRIC: i32 = 128;
    const DMA_BUF: i32 = 124;
    const MULTICAST: i32 = 132;
    const D3D12_CIG: i32 = 135;
    const VULKAN_CIG: i32 = 138;
    const HOST_NUMA_VMM: i32 = 141;
    const HOST_ALLOC_DMA_BUF: i32 = 146;
    const ATOMIC_REDUCTIONS: i32 = 148;
    const D3D12_CIG_STREAMS: i32 = 151;
    const LOGICAL_ENDPOINTS_ON_OWNER: i32 = 156;
    const LOGICAL_ENDPOINT_HANDLES: i32 = 158;
    const VULKAN_CIG_STREAMS: i32 = 159;
    const RDMA_WITH_LOCALIZED_MEMORY: i32 = 161;
    match attribute {
        CAN_MAP_HOST_MEMORY | MANAGED_MEMORY if !shares => 0,
        PAGEABLE_MEMORY_ACCESS
        | CONCURRENT_MANAGED_ACCESS
        | CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        | COOPERATIVE_MULTI_DEVICE_LAUNCH
        | PAGEABLE_USES_HOST_PAGE_TABLES
        | DIRECT_MANAGED_ACCESS_FROM_HOST
        | HANDLE_TYPE_POSIX_FILE..=HANDLE_TYPE_WIN32_KMT
        | GENERIC_COMPRESSION
        | GPU_DIRECT_RDMA_WITH_VMM
        | SPARSE_CUDA_ARRAY
        | DEFERRED_MAPPING_CUDA_ARRAY
        | GPU_DIRECT_RDMA..=MEMORY_POOL_HANDLE_TYPES
        | HANDLE_TYPE_FABRIC
        | TIMELINE_SEMAPHORES
        | DMA_BUF
        | MULTICAST
        // Captures for graphics, and both attributes of decompression.
        | D3D12_CIG..=VULKAN_CIG
        // Memory and pools of the host, or of its NUMA nodes.
        | HOST_NUMA_VMM..=HOST_ALLOC_DMA_BUF
        | ATOMIC_REDUCTIONS
        // With DMA buffers that are mapped between them.
        | D3D12_CIG_STREAMS..=LOGICAL_ENDPOINTS_ON_OWNER
        | LOGICAL_ENDPOINT_HANDLES
        | VULKAN_CIG_STREAMS
        | RDMA_WITH_LOCALIZED_MEMORY => 0,
        _ => value,
    }
}

pub unsafe fn cuDeviceComputeCapability(major: *mut i32, minor: *mut i32, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceComputeCapability", Needs::Session, |session| {
        let device = session.devices.get(device)?;
        required(minor)?;
        // SAFETY: the caller's places.
        unsafe {
            put(major, device.attribute(75)?)?;
            put(minor, device.attribute(76)?)
        }
    })
}

pub unsafe fn cuDeviceCanAccessPeer(can: *mut i32, device: i32, peer: i32) -> u32 {
    Of::Device(device).enter("cuDeviceCanAccessPeer", Needs::Session, |session| {
        let known = !session.devices.is_elsewhere(peer)
            && session
                .devices
                .peer(device, peer)?
                .is_some_and(|peer| peer.can_access);
        // SAFETY: the caller's place.
        unsafe { put(can, i32::from(known)) }
    })
}

pub unsafe fn cuDeviceGetP2PAttribute(value: *mut i32, attribute: i32, src: i32, dst: i32) -> u32 {
    /// CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK to ONLY_PARTIAL_NATIVE_ATOMIC_SUPPORTED.
    const KNOWN: std::ops::RangeInclusive<i32> = 1..=5;
    Of::Device(src).enter("cuDeviceGetP2PAttribute", Needs::Session, |session| {
        if session.devices.is_elsewhere(dst) {
            required(value)?;
            return match KNOWN.contains(&attribute) {
                // SAFETY: the caller's place.
                true => unsafe { put(value, 0) },
                false => Err(CudaError::INVALID_VALUE),
            };
        }
        let peer = session
            .devices
            .peer(src, dst)?
            .ok_or(CudaError::INVALID_DEVICE)?;
        let known = peer
            .attributes
            .iter()
            .find(|(id, _)| *id == attribute)
            .ok_or(CudaError::INVALID_VALUE)?;
        // SAFETY: the caller's place.
        unsafe { put(value, known.1) }
    })
}

/// CUdevprop: threads and size of a block, size of a grid, shared and constant memory, warp, pitch, registers, clock, alignment of
/// textures, in the order of their attributes' numbers.
pub unsafe fn cuDeviceGetProperties(properties: *mut i32, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceGetProperties", Needs::Session, |session| {
        let device = session.devices.get(device)?;
        let values: [i32; 14] =
            std::array::from_fn(|at| device.attribute(at as i32 + 1).unwrap_or(0));
        // SAFETY: the caller's struct of as many numbers.
        unsafe { put(properties.cast(), values) }
    })
}

/// Locally unique identifiers are Windows'.
pub unsafe fn cuDeviceGetLuid(luid: *mut c_char, mask: *mut u32, device: i32) -> u32 {
    Of::Device(device).enter("cuDeviceGetLuid", Needs::Session, |session| {
        required(luid)?;
        required(mask)?;
        session.devices.get(device)?;
        Err(CudaError::NOT_SUPPORTED)
    })
}

/// No context has a share of the multiprocessors.
pub unsafe fn cuDeviceGetExecAffinitySupport(can: *mut i32, kind: u32, device: i32) -> u32 {
    Of::Device(device).enter(
        "cuDeviceGetExecAffinitySupport",
        Needs::Session,
        |session| {
            session.devices.get(device)?;
            if kind > 0 {
                return Err(CudaError::INVALID_VALUE);
            }
            // SAFETY: the caller's place.
            unsafe { put(can, 0) }
        },
    )
}

pub unsafe fn cuDeviceGetTexture1DLinearMaxWidth(
    width: *mut usize,
    format: u32,
    channels: u32,
    device: i32,
) -> u32 {
    const NAME: &str = "cuDeviceGetTexture1DLinearMaxWidth";
    Of::Device(device).enter(NAME, Needs::Session, |session| {
        required(width)?;
        let ordinal = session.devices.get(device)?.ordinal;
        let mut reply = calls::rgpuTexture1DWidthReply::default();
        send::rgpuTexture1DWidth(session, format, channels, ordinal, &mut reply)?;
        // SAFETY: the caller's place.
        unsafe { put(width, reply.width.get() as usize) }
    })
}

/// Nobody writes to a remote device but through this client: there is nothing to flush, as the attribute says.
pub unsafe fn cuFlushGPUDirectRDMAWrites(target: u32, scope: u32) -> u32 {
    const NAME: &str = "cuFlushGPUDirectRDMAWrites";
    enter(NAME, Needs::Context, |_| match (target, scope) {
        // The current context; its owner or all devices.
        (0, 100 | 200) => Err(refuse(NAME)),
        _ => Err(CudaError::INVALID_VALUE),
    })
}

/// A profiler would have to be where the device is.
pub unsafe fn cuProfilerInitialize(
    _config: *const c_char,
    _output: *const c_char,
    _mode: u32,
) -> u32 {
    enter("cuProfilerInitialize", Needs::Session, |_| {
        Err(CudaError::PROFILER_DISABLED)
    })
}

/// There is no profiler to start; programs that mark a range to be profiled go on.
pub unsafe fn cuProfilerStart() -> u32 {
    enter("cuProfilerStart", Needs::Session, |_| Ok(()))
}

pub unsafe fn cuProfilerStop() -> u32 {
    enter("cuProfilerStop", Needs::Session, |_| Ok(()))
}

/// Counted and named like every call that is not served.
pub fn refuse(name: &'static str) -> CudaError {
    stats::unsupported(name, "", CudaError::NOT_SUPPORTED);
    CudaError::NOT_SUPPORTED
}

#[cfg(test)]
mod tests {
    use super::{bus_address, served_attribute};

    #[test]
    fn limits_are_the_devices_and_what_is_refused_is_hidden() {
        // Of textures, surfaces and arrays, and what lies between them.
        for (attribute, value) in [
            (14, 512),
            (21, 131_072),
            (44, 1),
            (60, 16_384),
            (77, 32_768),
        ] {
            assert_eq!(served_attribute(attribute, value, true), value);
        }
        for (attribute, value) in [(50, 1), (51, 32), (75, 8), (76, 6), (78, 1)] {
            assert_eq!(served_attribute(attribute, value, true), value);
        }
        // Arrays whose memory comes later.
        for attribute in [112, 121] {
            assert_eq!(served_attribute(attribute, 1, true), 0);
        }
    }

    #[test]
    fn bus_ids() {
        let wanted = bus_address(b"0000:3b:00.0");
        assert_eq!(wanted, Some([0, 0x3b, 0, 0]));
        for same in [&b"0000:3B:00.0"[..], b"3b:00.0", b"00000000:3B:00"] {
            assert_eq!(bus_address(same), wanted);
        }
        assert_ne!(bus_address(b"0001:3b:00.0"), wanted);
        assert_eq!(bus_address(b"nonsense"), None);
    }
}
