//! Names of cuda.h that are refused, by the reason. A program learns it by attribute, where CUDA has one for it, as well as by call.
//! Where nothing could be made that a call takes, it returns what CUDA documents for an object that does not exist.

#[refused("no graphics API can register its resources with the device", INVALID_HANDLE)]
unsafe extern "C" {
    fn cuGraphicsMapResources();
    fn cuGraphicsUnmapResources();
    fn cuGraphicsUnregisterResource();
    fn cuGraphicsResourceGetMappedMipmappedArray();
    fn cuGraphicsResourceGetMappedPointer();
    fn cuGraphicsResourceGetMappedPointer_v2();
    fn cuGraphicsResourceSetMapFlags();
    fn cuGraphicsResourceSetMapFlags_v2();
    fn cuGraphicsSubResourceGetMappedArray();
}

#[refused("memory and semaphores of Vulkan, DirectX and NvSci are known to drivers of this machine only")]
unsafe extern "C" {
    fn cuImportExternalMemory();
    fn cuImportExternalSemaphore();
    fn cuGraphAddExternalSemaphoresSignalNode();
    fn cuGraphAddExternalSemaphoresWaitNode();
    fn cuDeviceGetNvSciSyncAttributes();
}

#[refused("no external memory or semaphore can be imported", INVALID_HANDLE)]
unsafe extern "C" {
    fn cuDestroyExternalMemory();
    fn cuDestroyExternalSemaphore();
    fn cuExternalMemoryGetMappedBuffer();
    fn cuExternalMemoryGetMappedMipmappedArray();
    fn cuSignalExternalSemaphoresAsync();
    fn cuWaitExternalSemaphoresAsync();
}

#[refused("no graph has a node with external semaphores", INVALID_VALUE)]
unsafe extern "C" {
    fn cuGraphExternalSemaphoresSignalNodeGetParams();
    fn cuGraphExternalSemaphoresSignalNodeSetParams();
    fn cuGraphExternalSemaphoresWaitNodeGetParams();
    fn cuGraphExternalSemaphoresWaitNodeSetParams();
    fn cuGraphExecExternalSemaphoresSignalNodeSetParams();
    fn cuGraphExecExternalSemaphoresWaitNodeSetParams();
}

#[refused("a stream captured for graphics needs a graphics API beside the device")]
unsafe extern "C" {
    fn cuStreamBeginCaptureToCig();
}

#[refused("no stream captures for graphics", INVALID_VALUE)]
unsafe extern "C" {
    fn cuStreamEndCaptureToCig();
}

#[refused("a process would have to be stopped and saved together with the driver that it uses")]
unsafe extern "C" {
    fn cuCheckpointProcessLock();
    fn cuCheckpointProcessCheckpoint();
    fn cuCheckpointProcessRestore();
    fn cuCheckpointProcessUnlock();
    fn cuCheckpointProcessGetState();
    fn cuCheckpointProcessGetRestoreThreadId();
    fn cuCheckpointOperationComplete();
}

#[refused("the device is part of no NVLink fabric")]
unsafe extern "C" {
    fn cuDeviceGetCliqueCount();
    fn cuDeviceGetCliqueInfo();
    fn cuDeviceGetFabricClusterUuid();
    fn cuFabricCpyBatchAsync();
    fn cuLogicalEndpointIdReserve();
    fn cuLogicalEndpointIdRelease();
    fn cuLogicalEndpointCreate();
    fn cuLogicalEndpointAddDevice();
    fn cuLogicalEndpointDestroy();
    fn cuLogicalEndpointBindAddr();
    fn cuLogicalEndpointBindMem();
    fn cuLogicalEndpointUnbind();
    fn cuLogicalEndpointExport();
    fn cuLogicalEndpointImport();
    fn cuLogicalEndpointGetLimits();
    fn cuLogicalEndpointQuery();
}

#[refused("devices share no multicast objects")]
unsafe extern "C" {
    fn cuMulticastCreate();
    fn cuMulticastAddDevice();
    fn cuMulticastBindMem();
    fn cuMulticastBindMem_v2();
    fn cuMulticastBindAddr();
    fn cuMulticastBindAddr_v2();
    fn cuMulticastUnbind();
    fn cuMulticastGetGranularity();
}

#[refused("the device has no decompression engine")]
unsafe extern "C" {
    fn cuMemBatchDecompressAsync();
}

#[refused("a file descriptor for the device's memory would be one of another machine")]
unsafe extern "C" {
    fn cuMemGetHandleForAddressRange();
    fn cuMemExportToShareableHandle();
    fn cuMemImportFromShareableHandle();
    fn cuMemPoolExportToShareableHandle();
    fn cuMemPoolImportFromShareableHandle();
}

#[refused("there is no budget of memory of which a program could be told that it is exceeded")]
unsafe extern "C" {
    fn cuDeviceRegisterAsyncNotification();
}

#[refused("no program is told of exceeded budgets", INVALID_VALUE)]
unsafe extern "C" {
    fn cuDeviceUnregisterAsyncNotification();
}

#[refused("a function of the program's would be asked in the middle of each captured call; cuGraphExecUpdate does without")]
unsafe extern "C" {
    fn cuStreamBeginRecaptureToGraph();
}

#[refused("how large the memory behind a tensor is, only the driver could tell from its own allocations")]
unsafe extern "C" {
    fn cuTensorMapSetAllocationClass();
}

#[refused("pools have no handles to share", INVALID_VALUE)]
unsafe extern "C" {
    fn cuMemPoolExportPointer();
    fn cuMemPoolImportPointer();
}

#[refused("one launch on several devices at once is deprecated, and no device has it", INVALID_VALUE)]
unsafe extern "C" {
    fn cuLaunchCooperativeKernelMultiDevice();
}

#[refused("device addresses and sizes have had 64 bits since CUDA 3.2: the function of this name with _v2 has them")]
unsafe extern "C" {
    fn cuMemAlloc();
    fn cuMemAllocPitch();
    fn cuMemFree();
    fn cuMemGetAddressRange();
    fn cuMemGetInfo();
    fn cuMemHostGetDevicePointer();
    fn cuMemcpyHtoD();
    fn cuMemcpyHtoDAsync();
    fn cuMemcpyDtoH();
    fn cuMemcpyDtoHAsync();
    fn cuMemcpyDtoD();
    fn cuMemcpyDtoDAsync();
    fn cuMemsetD8();
    fn cuMemsetD16();
    fn cuMemsetD32();
    fn cuMemsetD2D8();
    fn cuMemsetD2D16();
    fn cuMemsetD2D32();
    fn cuModuleGetGlobal();
}

#[refused("no array is sparse, and no memory is mapped into one")]
unsafe extern "C" {
    fn cuMemMapArrayAsync();
}
