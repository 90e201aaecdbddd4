/* What is refused: by call, by attribute and by cuGetProcAddress, and the same on a driver and through the remoting. */
#include "by_name.h"
#include <string.h>

#define SAY(fact, value) printf("%-56s %lld\n", fact, (long long)(value))

/* Arguments are not looked at: nothing that these could take is there. */
static const char *NAMES[] = {
    "cuGraphicsMapResources", "cuGraphicsUnmapResources", "cuGraphicsUnregisterResource", "cuGraphicsResourceGetMappedMipmappedArray",
    "cuGraphicsResourceGetMappedPointer", "cuGraphicsResourceGetMappedPointer_v2", "cuGraphicsResourceSetMapFlags", "cuGraphicsResourceSetMapFlags_v2",
    "cuGraphicsSubResourceGetMappedArray", "cuImportExternalMemory", "cuImportExternalSemaphore", "cuGraphAddExternalSemaphoresSignalNode",
    "cuGraphAddExternalSemaphoresWaitNode", "cuDeviceGetNvSciSyncAttributes", "cuDestroyExternalMemory", "cuDestroyExternalSemaphore",
    "cuExternalMemoryGetMappedBuffer", "cuExternalMemoryGetMappedMipmappedArray", "cuSignalExternalSemaphoresAsync", "cuWaitExternalSemaphoresAsync",
    "cuGraphExternalSemaphoresSignalNodeGetParams", "cuGraphExternalSemaphoresSignalNodeSetParams", "cuGraphExternalSemaphoresWaitNodeGetParams", "cuGraphExternalSemaphoresWaitNodeSetParams",
    "cuGraphExecExternalSemaphoresSignalNodeSetParams", "cuGraphExecExternalSemaphoresWaitNodeSetParams", "cuStreamBeginCaptureToCig", "cuStreamEndCaptureToCig",
    "cuCheckpointProcessLock", "cuCheckpointProcessCheckpoint", "cuCheckpointProcessRestore", "cuCheckpointProcessUnlock",
    "cuCheckpointProcessGetState", "cuCheckpointProcessGetRestoreThreadId", "cuCheckpointOperationComplete", "cuDeviceGetCliqueCount",
    "cuDeviceGetCliqueInfo", "cuDeviceGetFabricClusterUuid", "cuFabricCpyBatchAsync", "cuLogicalEndpointIdReserve",
    "cuLogicalEndpointIdRelease", "cuLogicalEndpointCreate", "cuLogicalEndpointAddDevice", "cuLogicalEndpointDestroy",
    "cuLogicalEndpointBindAddr", "cuLogicalEndpointBindMem", "cuLogicalEndpointUnbind", "cuLogicalEndpointExport",
    "cuLogicalEndpointImport", "cuLogicalEndpointGetLimits", "cuLogicalEndpointQuery", "cuMulticastCreate",
    "cuMulticastAddDevice", "cuMulticastBindMem", "cuMulticastBindMem_v2", "cuMulticastBindAddr",
    "cuMulticastBindAddr_v2", "cuMulticastUnbind", "cuMulticastGetGranularity", "cuMemBatchDecompressAsync",
    "cuMemGetHandleForAddressRange", "cuMemPoolExportToShareableHandle",
    "cuMemPoolImportFromShareableHandle", "cuDeviceRegisterAsyncNotification", "cuDeviceUnregisterAsyncNotification", "cuStreamBeginRecaptureToGraph",
    "cuTensorMapSetAllocationClass", "cuMemPoolExportPointer", "cuMemPoolImportPointer", "cuLaunchCooperativeKernelMultiDevice",
    "cuMemAlloc", "cuMemAllocPitch", "cuMemFree", "cuMemGetAddressRange",
    "cuMemGetInfo", "cuMemHostGetDevicePointer", "cuMemcpyHtoD", "cuMemcpyHtoDAsync",
    "cuMemcpyDtoH", "cuMemcpyDtoHAsync", "cuMemcpyDtoD", "cuMemcpyDtoDAsync",
    "cuMemcpy2D", "cuMemcpy2DUnaligned", "cuMemcpy2DAsync", "cuMemcpy3D",
    "cuMemcpy3DAsync", "cuMemsetD8", "cuMemsetD16", "cuMemsetD32",
    "cuMemsetD2D8", "cuMemsetD2D16", "cuMemsetD2D32", "cuModuleGetGlobal"};

/* External semaphores, handles of types that are no files, DMA buffers, RDMA, multicast, captures for graphics, decompression, logical endpoints. */
static const int ATTRIBUTES[] = {96, 104, 105, 110, 114, 116, 117, 119, 124, 128, 132, 135, 136, 137, 138, 143, 146, 151, 152, 153, 154, 155, 156, 158, 159, 161};

int main(void) {
    load();
    SAY("cuMulticastCreate before cuInit", CALL(cuMulticastCreate, (void), ));
    void *table = NULL;
    unsigned char unknown[16] = {1};
    SAY("cuGetExportTable before cuInit", CALL(cuGetExportTable, (void **, void *), &table, unknown));
    SAY("cuGetExportTable(NULL)", CALL(cuGetExportTable, (void **, void *), NULL, unknown));
    CALL(cuInit, (unsigned), 0);
    handle context = NULL;
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    SAY("cuGetExportTable(unknown)", CALL(cuGetExportTable, (void **, void *), &table, unknown));
    /* The first that NVIDIA's profiling library wants. */
    unsigned char profilers[16] = {0x7c, 0xb6, 0x3f, 0x9b, 0x9c, 0xa4, 0x8e, 0x42, 0xa4, 0x84, 0xbe, 0xb6, 0x6e, 0x6a, 0xed, 0x7f};
    SAY("cuGetExportTable(CUPTI's)", CALL(cuGetExportTable, (void **, void *), &table, profilers));
    SAY("cuGetExportTable(CUPTI's) again", CALL(cuGetExportTable, (void **, void *), &table, profilers));
    int version = 0;
    CALL(cuDriverGetVersion, (int *), &version);
    for (unsigned i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char base[64];
        void *found = &found;
        unsigned status = 9;
        printf("%-56s %d\n", NAMES[i], ((int (*)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t))symbol(NAMES[i]))(0, 0, 0, 0, 0, 0));
        /* A name of several versions is found if one of them is served. */
        snprintf(base, sizeof base, "%s", NAMES[i]);
        char *suffix = strstr(base, "_v2");
        if (suffix) *suffix = 0;
        CALL(cuGetProcAddress_v2, (const char *, void **, int, uint64_t, unsigned *), base, &found, version, 0, &status);
        printf("  is found %46s %d\n", base, found != NULL);
    }
    for (unsigned i = 0; i < sizeof ATTRIBUTES / sizeof *ATTRIBUTES; i++) {
        int value = -1;
        int code = CALL(cuDeviceGetAttribute, (int *, int, int), &value, ATTRIBUTES[i], 0);
        printf("attribute %d: %43s %d\n", ATTRIBUTES[i], "", code ? 0 : value);
    }
    return 0;
}
