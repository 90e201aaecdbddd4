// Memory of every kind: pools, pinned and mapped, managed, pitched; several devices.
#include "check.h"
#include <cstring>
#include <vector>

__global__ void add(int *data, int value, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] += value;
}

const int n = 2000;

static void pools() {
    cudaStream_t stream;
    cudaMemPool_t pool, own;
    OK(cudaStreamCreate(&stream));
    OK(cudaDeviceGetDefaultMemPool(&pool, 0));
    unsigned long long threshold = 1 << 20, read = 0;
    OK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
    OK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &read));
    IS(read, threshold);
    int *a, *b, value;
    OK(cudaMallocAsync(&a, n * sizeof(int), stream));
    OK(cudaMemsetAsync(a, 0, n * sizeof(int), stream));
    add<<<8, 256, 0, stream>>>(a, 5, n);
    OK(cudaMemcpyAsync(&value, a + n - 1, sizeof value, cudaMemcpyDeviceToHost, stream));
    OK(cudaFreeAsync(a, stream));
    OK(cudaStreamSynchronize(stream));
    IS(value, 5);
    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    OK(cudaMemPoolCreate(&own, &properties));
    OK(cudaMallocFromPoolAsync(&b, 1 << 20, own, stream));
    OK(cudaMemPoolGetAttribute(own, cudaMemPoolAttrUsedMemCurrent, &read));
    IS(read >= 1 << 20, true);
    OK(cudaFreeAsync(b, stream));
    OK(cudaStreamSynchronize(stream));
    OK(cudaMemPoolTrimTo(own, 0));
    OK(cudaMemPoolDestroy(own));
    OK(cudaStreamDestroy(stream));
}

static void host_memory() {
    int *mapped, *device, *registered = static_cast<int *>(malloc(n * sizeof(int)));
    unsigned flags = 0;
    OK(cudaHostAlloc(&mapped, n * sizeof(int), cudaHostAllocMapped));
    OK(cudaHostGetFlags(&flags, mapped));
    IS(flags & cudaHostAllocMapped, cudaHostAllocMapped);
    OK(cudaHostGetDevicePointer(&device, mapped, 0));
    for (int i = 0; i < n; i++) mapped[i] = i;
    add<<<8, 256>>>(device, 100, n);
    OK(cudaDeviceSynchronize());
    IS(mapped[n - 1], n + 99);
    OK(cudaFreeHost(mapped));
    memset(registered, 0, n * sizeof(int));
    OK(cudaHostRegister(registered, n * sizeof(int), cudaHostRegisterMapped));
    OK(cudaHostGetDevicePointer(&device, registered, 0));
    add<<<8, 256>>>(device, 3, n);
    OK(cudaDeviceSynchronize());
    IS(registered[7], 3);
    OK(cudaHostUnregister(registered));
    IS(cudaHostUnregister(registered), cudaErrorHostMemoryNotRegistered);
    IS(cudaGetLastError(), cudaErrorHostMemoryNotRegistered);
    free(registered);
}

static void managed() {
    int *shared;
    OK(cudaMallocManaged(&shared, n * sizeof(int)));
    for (int i = 0; i < n; i++) shared[i] = i;
    cudaMemLocation where = {};
    where.type = cudaMemLocationTypeDevice;
    OK(cudaMemAdvise(shared, n * sizeof(int), cudaMemAdviseSetPreferredLocation, where));
    OK(cudaMemPrefetchAsync(shared, n * sizeof(int), where, 0, 0));
    add<<<8, 256>>>(shared, 1000, n);
    OK(cudaDeviceSynchronize());
    for (int i = 0; i < n; i++) IS(shared[i], i + 1000);
    shared[5] = -1;
    add<<<8, 256>>>(shared, 1, n);
    OK(cudaDeviceSynchronize());
    IS(shared[5], 0);
    cudaPointerAttributes attributes;
    OK(cudaPointerGetAttributes(&attributes, shared + 9));
    IS(attributes.type, cudaMemoryTypeManaged);
    OK(cudaFree(shared));
}

static void shapes() {
    const int width = 33, height = 7, depth = 5;
    std::vector<float> in(width * height * depth), out(in.size());
    for (size_t i = 0; i < in.size(); i++) in[i] = i;
    cudaPitchedPtr cube;
    cudaExtent extent = make_cudaExtent(width * sizeof(float), height, depth);
    OK(cudaMalloc3D(&cube, extent));
    OK(cudaMemset3D(cube, 0, extent));
    cudaMemcpy3DParms copy = {};
    copy.srcPtr = make_cudaPitchedPtr(in.data(), width * sizeof(float), width, height);
    copy.dstPtr = cube;
    copy.dstPos = make_cudaPos(0, 0, 1);
    copy.extent = make_cudaExtent(width * sizeof(float), height, depth - 1);
    copy.kind = cudaMemcpyHostToDevice;
    OK(cudaMemcpy3D(&copy));
    copy = {};
    copy.srcPtr = cube;
    copy.dstPtr = make_cudaPitchedPtr(out.data(), width * sizeof(float), width, height);
    copy.extent = extent;
    copy.kind = cudaMemcpyDefault;
    OK(cudaMemcpy3DAsync(&copy, cudaStreamPerThread));
    OK(cudaStreamSynchronize(cudaStreamPerThread));
    IS(out[5], 0);
    IS(out[width * height + 5], 5);
    IS(out.back(), width * height * (depth - 1) - 1);
    OK(cudaFree(cube.ptr));
    float *rows;
    size_t pitch;
    OK(cudaMallocPitch(&rows, &pitch, width * sizeof(float), height));
    IS(pitch >= width * sizeof(float), true);
    OK(cudaMemcpy2D(rows, pitch, in.data(), width * sizeof(float), width * sizeof(float), height, cudaMemcpyHostToDevice));
    OK(cudaMemcpy2D(out.data(), sizeof(float), (char *)rows + 4 * sizeof(float), pitch, sizeof(float), height, cudaMemcpyDeviceToHost));
    IS(out[6], 6 * width + 4);
    OK(cudaFree(rows));
}

static void devices() {
    int count = 0, device = -1, can = 0, *here, *there, value = 0;
    OK(cudaGetDeviceCount(&count));
    IS(count, 2);
    OK(cudaMalloc(&here, n * sizeof(int)));
    OK(cudaMemset(here, 1, n * sizeof(int)));
    OK(cudaSetDevice(1));
    OK(cudaGetDevice(&device));
    IS(device, 1);
    OK(cudaMalloc(&there, n * sizeof(int)));
    OK(cudaMemcpyPeer(there, 1, here, 0, n * sizeof(int)));
    add<<<8, 256>>>(there, 2, n);
    OK(cudaMemcpy(&value, there, sizeof value, cudaMemcpyDeviceToHost));
    IS(value, 0x01010103);
    OK(cudaDeviceCanAccessPeer(&can, 1, 0));
    if (can) {
        OK(cudaDeviceEnablePeerAccess(0, 0));
        IS(cudaDeviceEnablePeerAccess(0, 0), cudaErrorPeerAccessAlreadyEnabled);
        cudaGetLastError();
        OK(cudaDeviceDisablePeerAccess(0));
    }
    cudaPointerAttributes attributes;
    OK(cudaPointerGetAttributes(&attributes, there));
    IS(attributes.device, 1);
    OK(cudaFree(there));
    OK(cudaSetDevice(0));
    OK(cudaFree(here));
    cudaDeviceProp properties;
    OK(cudaGetDeviceProperties(&properties, 1));
    int attribute = 0;
    OK(cudaDeviceGetAttribute(&attribute, cudaDevAttrMultiProcessorCount, 1));
    IS(properties.multiProcessorCount, attribute);
    IS(properties.warpSize, 32);
    IS(strlen(properties.name) > 0, true);
    size_t available, total;
    OK(cudaMemGetInfo(&available, &total));
    IS(available <= total && total == properties.totalGlobalMem, true);
}

int main() {
    pools();
    host_memory();
    managed();
    shapes();
    devices();
    std::puts("ok");
}
