//! cudaDeviceProp, of each version: most of it is the driver's attributes, by their numbers.

use std::ffi::c_char;

use crate::driver::Driver;
use crate::error::Result;

/// Where a device's properties come from.
struct Source<'a> {
    cu: &'a Driver,
    device: i32,
}

impl Source<'_> {
    /// An attribute; one that the driver does not know yet is 0.
    unsafe fn int(&self, attribute: u32) -> i32 {
        let mut value = 0;
        let known = self
            .cu
            .cuDeviceGetAttribute(&mut value, attribute, self.device);
        known.map_or(0, |()| value)
    }

    unsafe fn size(&self, attribute: u32) -> usize {
        self.int(attribute).max(0) as usize
    }

    unsafe fn ints<const N: usize>(&self, attributes: [u32; N]) -> [i32; N] {
        attributes.map(|attribute| self.int(attribute))
    }

    unsafe fn name(&self) -> [u8; 256] {
        let mut name = [0u8; 256];
        let place = name.as_mut_ptr().cast::<c_char>();
        let _ = self
            .cu
            .cuDeviceGetName(place, name.len() as i32, self.device);
        name
    }

    unsafe fn uuid(&self) -> [u8; 16] {
        let mut uuid = [0u8; 16];
        let _ = self
            .cu
            .cuDeviceGetUuid(uuid.as_mut_ptr().cast(), self.device);
        uuid
    }

    unsafe fn memory(&self) -> usize {
        let mut bytes = 0;
        let _ = self.cu.cuDeviceTotalMem_v2(&mut bytes, self.device);
        bytes
    }

    /// Only Windows has them.
    unsafe fn no_luid(&self) -> [u8; 8] {
        [0; 8]
    }

    unsafe fn zero(&self) -> i32 {
        0
    }

    unsafe fn zeros<const N: usize>(&self) -> [i32; N] {
        [0; N]
    }
}

macro_rules! properties {
    ($name:ident: $size:literal { $($field:ident: $ty:ty = $source:ident($($argument:expr),*),)* }) => {
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name { $($field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);

        impl $name {
            pub unsafe fn of(cu: &Driver, device: i32) -> Result<$name> {
                let source = Source { cu, device };
                Ok($name { $($field: source.$source($($argument),*)),* })
            }

            /// How many of the wishes that are not 0 the device fulfils.
            pub fn score(&self, wanted: &$name) -> i32 {
                let fulfilled = |has: usize, wish: usize| (wish != 0 && has >= wish) as i32;
                let capability = |of: &$name| (of.major.max(0) * 1000 + of.minor.max(0)) as usize;
                fulfilled(capability(self), capability(wanted))
                    + fulfilled(self.totalGlobalMem, wanted.totalGlobalMem)
                    + fulfilled(self.sharedMemPerBlock, wanted.sharedMemPerBlock)
                    + fulfilled(self.maxThreadsPerBlock as usize, wanted.maxThreadsPerBlock.max(0) as usize)
                    + fulfilled(self.multiProcessorCount as usize, wanted.multiProcessorCount.max(0) as usize)
            }
        }
    };
}

/// What programs built with CUDA 11 have: that of 12 goes on behind it.
#[repr(C)]
pub struct Properties11([u64; 91]);
const _: () = assert!(size_of::<Properties11>() == 728);

impl Properties11 {
    pub unsafe fn of(cu: &Driver, device: i32) -> Result<Properties11> {
        let longer = Properties12::of(cu, device)?;
        Ok((&raw const longer).cast::<Properties11>().read())
    }
}

properties! {
    Properties12: 1032 {
        name: [u8; 256] = name(),
        uuid: [u8; 16] = uuid(),
        luid: [u8; 8] = no_luid(),
        luidDeviceNodeMask: i32 = zero(),
        totalGlobalMem: usize = memory(),
        sharedMemPerBlock: usize = size(8),
        regsPerBlock: i32 = int(12),
        warpSize: i32 = int(10),
        memPitch: usize = size(11),
        maxThreadsPerBlock: i32 = int(1),
        maxThreadsDim: [i32; 3] = ints([2, 3, 4]),
        maxGridSize: [i32; 3] = ints([5, 6, 7]),
        clockRate: i32 = int(13),
        totalConstMem: usize = size(9),
        major: i32 = int(75),
        minor: i32 = int(76),
        textureAlignment: usize = size(14),
        texturePitchAlignment: usize = size(51),
        deviceOverlap: i32 = int(15),
        multiProcessorCount: i32 = int(16),
        kernelExecTimeoutEnabled: i32 = int(17),
        integrated: i32 = int(18),
        canMapHostMemory: i32 = int(19),
        computeMode: i32 = int(20),
        maxTexture1D: i32 = int(21),
        maxTexture1DMipmap: i32 = int(77),
        maxTexture1DLinear: i32 = int(69),
        maxTexture2D: [i32; 2] = ints([22, 23]),
        maxTexture2DMipmap: [i32; 2] = ints([73, 74]),
        maxTexture2DLinear: [i32; 3] = ints([70, 71, 72]),
        maxTexture2DGather: [i32; 2] = ints([45, 46]),
        maxTexture3D: [i32; 3] = ints([24, 25, 26]),
        maxTexture3DAlt: [i32; 3] = ints([47, 48, 49]),
        maxTextureCubemap: i32 = int(52),
        maxTexture1DLayered: [i32; 2] = ints([42, 43]),
        maxTexture2DLayered: [i32; 3] = ints([27, 28, 29]),
        maxTextureCubemapLayered: [i32; 2] = ints([53, 54]),
        maxSurface1D: i32 = int(55),
        maxSurface2D: [i32; 2] = ints([56, 57]),
        maxSurface3D: [i32; 3] = ints([58, 59, 60]),
        maxSurface1DLayered: [i32; 2] = ints([61, 62]),
        maxSurface2DLayered: [i32; 3] = ints([63, 64, 65]),
        maxSurfaceCubemap: i32 = int(66),
        maxSurfaceCubemapLayered: [i32; 2] = ints([67, 68]),
        surfaceAlignment: usize = size(30),
        concurrentKernels: i32 = int(31),
        ECCEnabled: i32 = int(32),
        pciBusID: i32 = int(33),
        pciDeviceID: i32 = int(34),
        pciDomainID: i32 = int(50),
        tccDriver: i32 = int(35),
        asyncEngineCount: i32 = int(40),
        unifiedAddressing: i32 = int(41),
        memoryClockRate: i32 = int(36),
        memoryBusWidth: i32 = int(37),
        l2CacheSize: i32 = int(38),
        persistingL2CacheMaxSize: i32 = int(108),
        maxThreadsPerMultiProcessor: i32 = int(39),
        streamPrioritiesSupported: i32 = int(78),
        globalL1CacheSupported: i32 = int(79),
        localL1CacheSupported: i32 = int(80),
        sharedMemPerMultiprocessor: usize = size(81),
        regsPerMultiprocessor: i32 = int(82),
        managedMemory: i32 = int(83),
        isMultiGpuBoard: i32 = int(84),
        multiGpuBoardGroupID: i32 = int(85),
        hostNativeAtomicSupported: i32 = int(86),
        singleToDoublePrecisionPerfRatio: i32 = int(87),
        pageableMemoryAccess: i32 = int(88),
        concurrentManagedAccess: i32 = int(89),
        computePreemptionSupported: i32 = int(90),
        canUseHostPointerForRegisteredMem: i32 = int(91),
        cooperativeLaunch: i32 = int(95),
        cooperativeMultiDeviceLaunch: i32 = int(96),
        sharedMemPerBlockOptin: usize = size(97),
        pageableMemoryAccessUsesHostPageTables: i32 = int(100),
        directManagedMemAccessFromHost: i32 = int(101),
        maxBlocksPerMultiProcessor: i32 = int(106),
        accessPolicyMaxWindowSize: i32 = int(109),
        reservedSharedMemPerBlock: usize = size(111),
        hostRegisterSupported: i32 = int(99),
        sparseCudaArraySupported: i32 = int(112),
        hostRegisterReadOnlySupported: i32 = int(113),
        timelineSemaphoreInteropSupported: i32 = int(114),
        memoryPoolsSupported: i32 = int(115),
        gpuDirectRDMASupported: i32 = int(116),
        gpuDirectRDMAFlushWritesOptions: i32 = int(117),
        gpuDirectRDMAWritesOrdering: i32 = int(118),
        memoryPoolSupportedHandleTypes: i32 = int(119),
        deferredMappingCudaArraySupported: i32 = int(121),
        ipcEventSupported: i32 = int(125),
        clusterLaunch: i32 = int(120),
        unifiedFunctionPointers: i32 = int(129),
        reserved: [i32; 63] = zeros(),
    }
}

properties! {
    Properties13: 1008 {
        name: [u8; 256] = name(),
        uuid: [u8; 16] = uuid(),
        luid: [u8; 8] = no_luid(),
        luidDeviceNodeMask: i32 = zero(),
        totalGlobalMem: usize = memory(),
        sharedMemPerBlock: usize = size(8),
        regsPerBlock: i32 = int(12),
        warpSize: i32 = int(10),
        memPitch: usize = size(11),
        maxThreadsPerBlock: i32 = int(1),
        maxThreadsDim: [i32; 3] = ints([2, 3, 4]),
        maxGridSize: [i32; 3] = ints([5, 6, 7]),
        totalConstMem: usize = size(9),
        major: i32 = int(75),
        minor: i32 = int(76),
        textureAlignment: usize = size(14),
        texturePitchAlignment: usize = size(51),
        multiProcessorCount: i32 = int(16),
        integrated: i32 = int(18),
        canMapHostMemory: i32 = int(19),
        maxTexture1D: i32 = int(21),
        maxTexture1DMipmap: i32 = int(77),
        maxTexture2D: [i32; 2] = ints([22, 23]),
        maxTexture2DMipmap: [i32; 2] = ints([73, 74]),
        maxTexture2DLinear: [i32; 3] = ints([70, 71, 72]),
        maxTexture2DGather: [i32; 2] = ints([45, 46]),
        maxTexture3D: [i32; 3] = ints([24, 25, 26]),
        maxTexture3DAlt: [i32; 3] = ints([47, 48, 49]),
        maxTextureCubemap: i32 = int(52),
        maxTexture1DLayered: [i32; 2] = ints([42, 43]),
        maxTexture2DLayered: [i32; 3] = ints([27, 28, 29]),
        maxTextureCubemapLayered: [i32; 2] = ints([53, 54]),
        maxSurface1D: i32 = int(55),
        maxSurface2D: [i32; 2] = ints([56, 57]),
        maxSurface3D: [i32; 3] = ints([58, 59, 60]),
        maxSurface1DLayered: [i32; 2] = ints([61, 62]),
        maxSurface2DLayered: [i32; 3] = ints([63, 64, 65]),
        maxSurfaceCubemap: i32 = int(66),
        maxSurfaceCubemapLayered: [i32; 2] = ints([67, 68]),
        surfaceAlignment: usize = size(30),
        concurrentKernels: i32 = int(31),
        ECCEnabled: i32 = int(32),
        pciBusID: i32 = int(33),
        pciDeviceID: i32 = int(34),
        pciDomainID: i32 = int(50),
        tccDriver: i32 = int(35),
        asyncEngineCount: i32 = int(40),
        unifiedAddressing: i32 = int(41),
        memoryBusWidth: i32 = int(37),
        l2CacheSize: i32 = int(38),
        persistingL2CacheMaxSize: i32 = int(108),
        maxThreadsPerMultiProcessor: i32 = int(39),
        streamPrioritiesSupported: i32 = int(78),
        globalL1CacheSupported: i32 = int(79),
        localL1CacheSupported: i32 = int(80),
        sharedMemPerMultiprocessor: usize = size(81),
        regsPerMultiprocessor: i32 = int(82),
        managedMemory: i32 = int(83),
        isMultiGpuBoard: i32 = int(84),
        multiGpuBoardGroupID: i32 = int(85),
        hostNativeAtomicSupported: i32 = int(86),
        pageableMemoryAccess: i32 = int(88),
        concurrentManagedAccess: i32 = int(89),
        computePreemptionSupported: i32 = int(90),
        canUseHostPointerForRegisteredMem: i32 = int(91),
        cooperativeLaunch: i32 = int(95),
        sharedMemPerBlockOptin: usize = size(97),
        pageableMemoryAccessUsesHostPageTables: i32 = int(100),
        directManagedMemAccessFromHost: i32 = int(101),
        maxBlocksPerMultiProcessor: i32 = int(106),
        accessPolicyMaxWindowSize: i32 = int(109),
        reservedSharedMemPerBlock: usize = size(111),
        hostRegisterSupported: i32 = int(99),
        sparseCudaArraySupported: i32 = int(112),
        hostRegisterReadOnlySupported: i32 = int(113),
        timelineSemaphoreInteropSupported: i32 = int(114),
        memoryPoolsSupported: i32 = int(115),
        gpuDirectRDMASupported: i32 = int(116),
        gpuDirectRDMAFlushWritesOptions: i32 = int(117),
        gpuDirectRDMAWritesOrdering: i32 = int(118),
        memoryPoolSupportedHandleTypes: i32 = int(119),
        deferredMappingCudaArraySupported: i32 = int(121),
        ipcEventSupported: i32 = int(125),
        clusterLaunch: i32 = int(120),
        unifiedFunctionPointers: i32 = int(129),
        deviceNumaConfig: i32 = int(130),
        deviceNumaId: i32 = int(131),
        mpsEnabled: i32 = int(133),
        hostNumaId: i32 = int(134),
        gpuPciDeviceID: i32 = int(139),
        gpuPciSubsystemID: i32 = int(140),
        hostNumaMultinodeIpcSupported: i32 = int(143),
        reserved: [i32; 56] = zeros(),
    }
}
