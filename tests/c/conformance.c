/* CUDA behaviour that must be the same on a driver and through the remoting: each line is a fact and what the driver says of it. */
#include "by_name.h"
#include <string.h>

#define SAY(fact, value) printf("%-44s %lld\n", fact, (long long)(value))

static const char *PTX =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .global .align 4 .u32 counter = 5;\n"
    ".visible .entry scale(.param .u64 data, .param .u32 n, .param .u32 factor) {\n"
    "  .reg .pred %p; .reg .u32 %r<8>; .reg .u64 %d<4>;\n"
    "  ld.param.u64 %d0, [data]; ld.param.u32 %r0, [n]; ld.param.u32 %r1, [factor];\n"
    "  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x; mad.lo.u32 %r5, %r2, %r3, %r4;\n"
    "  setp.ge.u32 %p, %r5, %r0; @%p ret;\n"
    "  mul.wide.u32 %d1, %r5, 4; add.u64 %d2, %d0, %d1;\n"
    "  ld.global.u32 %r6, [%d2]; mul.lo.u32 %r7, %r6, %r1; st.global.u32 [%d2], %r7; ret;\n}\n"
    ".visible .entry count() {\n"
    "  .reg .u32 %r<2>; .reg .u64 %d<2>;\n"
    "  mov.u64 %d0, counter; atom.global.add.u32 %r0, [%d0], 1; ret;\n}\n"
    ".visible .entry wild() {\n"
    "  .reg .u64 %d<2>; .reg .u32 %r<2>;\n"
    "  mov.u64 %d0, 64; mov.u32 %r0, 1; st.global.u32 [%d0], %r0; ret;\n}\n";

enum { N = 100000 };
static uint32_t host[N], back[N];

static int launch(handle function, unsigned grid, unsigned block, void **params, void **extra) {
    return CALL(cuLaunchKernel,
                (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), function,
                grid, 1, 1, block, 1, 1, 0, NULL, params, extra);
}

static long long wrong(uint32_t factor) {
    long long count = 0;
    for (int i = 0; i < N; i++) count += back[i] != host[i] * factor;
    return count;
}

int main(void) {
    int device = -1, value = 0;
    load();
    SAY("cuDeviceGet before cuInit", CALL(cuDeviceGet, (int *, int), &device, 0));
    SAY("cuInit(1)", CALL(cuInit, (unsigned), 1));
    SAY("cuInit(0)", CALL(cuInit, (unsigned), 0));
    SAY("cuInit(0) again", CALL(cuInit, (unsigned), 0));
    SAY("cuDeviceGet(0)", CALL(cuDeviceGet, (int *, int), &device, 0));
    SAY("cuDeviceGet(99)", CALL(cuDeviceGet, (int *, int), &value, 99));
    SAY("cuDeviceGetAttribute(9999)", CALL(cuDeviceGetAttribute, (int *, int, int), &value, 9999, device));
    const char *text = NULL;
    SAY("cuGetErrorName(700)", CALL(cuGetErrorName, (int, const char **), 700, &text));
    printf("  %s\n", text);
    SAY("cuGetErrorName(123456)", CALL(cuGetErrorName, (int, const char **), 123456, &text));
    ptr a = 0, b = 0;
    SAY("cuMemAlloc without a context", CALL(cuMemAlloc_v2, (ptr *, size_t), &a, 4));
    handle current = (handle)1, context = NULL;
    SAY("cuCtxGetCurrent", CALL(cuCtxGetCurrent, (handle *), &current));
    SAY("  is NULL", current == NULL);
    SAY("cuCtxCreate", CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, device));
    CALL(cuCtxGetCurrent, (handle *), &current);
    SAY("  is current", current == context);
    SAY("cuMemAlloc(0)", CALL(cuMemAlloc_v2, (ptr *, size_t), &a, 0));
    SAY("cuMemAlloc", CALL(cuMemAlloc_v2, (ptr *, size_t), &a, sizeof host));
    SAY("cuMemAlloc", CALL(cuMemAlloc_v2, (ptr *, size_t), &b, sizeof host));
    SAY("  aligned to 256", a % 256 == 0 && b % 256 == 0);
    SAY("cuMemAlloc(1 PiB)", CALL(cuMemAlloc_v2, (ptr *, size_t), &(ptr){0}, (size_t)1 << 50));
    ptr base = 0;
    size_t size = 0;
    SAY("cuMemGetAddressRange(inside)", CALL(cuMemGetAddressRange_v2, (ptr *, size_t *, ptr), &base, &size, a + 1000));
    SAY("  base and size", base == a && size == sizeof host);
    for (int i = 0; i < N; i++) host[i] = (uint32_t)i * 2654435761u;
    SAY("cuMemcpyHtoD", CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), a, host, sizeof host));
    SAY("cuMemcpyHtoD past the end", CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), a + 4, host, sizeof host));
    SAY("cuMemcpyHtoD to nowhere", CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), 64, host, 4));

    handle module = NULL, scale = NULL, count = NULL, wild = NULL;
    SAY("cuModuleLoadData of nonsense", CALL(cuModuleLoadData, (handle *, const void *), &module, ".version 7.0\nthis is no PTX\n"));
    SAY("cuModuleLoadData", CALL(cuModuleLoadData, (handle *, const void *), &module, PTX));
    SAY("cuModuleGetFunction", CALL(cuModuleGetFunction, (handle *, handle, const char *), &scale, module, "scale"));
    SAY("cuModuleGetFunction(count)", CALL(cuModuleGetFunction, (handle *, handle, const char *), &count, module, "count"));
    SAY("cuModuleGetFunction(wild)", CALL(cuModuleGetFunction, (handle *, handle, const char *), &wild, module, "wild"));
    SAY("cuModuleGetFunction(absent)", CALL(cuModuleGetFunction, (handle *, handle, const char *), &(handle){0}, module, "absent"));
    size_t offset = 99;
    SAY("cuFuncGetParamInfo(2)", CALL(cuFuncGetParamInfo, (handle, size_t, size_t *, size_t *), scale, 2, &offset, &size));
    SAY("  offset", offset);
    SAY("  size", size);
    SAY("cuFuncGetParamInfo(3)", CALL(cuFuncGetParamInfo, (handle, size_t, size_t *, size_t *), scale, 3, &offset, &size));

    unsigned n = N, factor = 3, grid = (N + 255) / 256;
    void *params[] = {&a, &n, &factor};
    SAY("cuLaunchKernel", launch(scale, grid, 256, params, NULL));
    SAY("cuMemcpyDtoH", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, a, sizeof back));
    SAY("  wrong values", wrong(3));
    struct { ptr data; unsigned n, factor; } packed = {a, N, 5};
    size_t packed_size = sizeof packed;
    void *extra[] = {(void *)1, &packed, (void *)2, &packed_size, NULL};
    SAY("cuLaunchKernel(extra)", launch(scale, grid, 256, NULL, extra));
    SAY("cuLaunchKernel(both)", launch(scale, grid, 256, params, extra));
    SAY("cuLaunchKernel(no block)", launch(scale, grid, 0, params, NULL));
    SAY("cuLaunchKernel(block of 4096)", launch(scale, grid, 4096, params, NULL));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, a, sizeof back);
    SAY("  wrong values", wrong(15));
    SAY("cuMemcpyDtoD", CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), b, a, sizeof host));
    SAY("cuMemsetD32", CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), a, 7, N));
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, b, sizeof back);
    SAY("  wrong values", wrong(15));
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, a, sizeof back);
    SAY("  filled", back[0] == 7 && back[N - 1] == 7);

    ptr counter = 0;
    SAY("cuModuleGetGlobal", CALL(cuModuleGetGlobal_v2, (ptr *, size_t *, handle, const char *), &counter, &size, module, "counter"));
    SAY("  size", size);
    for (int i = 0; i < 1000; i++) launch(count, 2, 32, NULL, NULL);
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, counter, 4);
    SAY("  counted", back[0]);

    handle stream = NULL, before = NULL, after = NULL;
    SAY("cuStreamCreate", CALL(cuStreamCreate, (handle *, unsigned), &stream, 1));
    SAY("cuEventCreate", CALL(cuEventCreate, (handle *, unsigned), &before, 0));
    SAY("cuEventCreate", CALL(cuEventCreate, (handle *, unsigned), &after, 0));
    SAY("cuEventRecord", CALL(cuEventRecord, (handle, handle), before, stream));
    SAY("cuMemcpyHtoDAsync", CALL(cuMemcpyHtoDAsync_v2, (ptr, const void *, size_t, handle), b, host, sizeof host, stream));
    SAY("cuEventRecord", CALL(cuEventRecord, (handle, handle), after, stream));
    SAY("cuStreamWaitEvent", CALL(cuStreamWaitEvent, (handle, handle, unsigned), NULL, after, 0));
    SAY("cuEventSynchronize", CALL(cuEventSynchronize, (handle), after));
    SAY("cuEventQuery", CALL(cuEventQuery, (handle), after));
    float ms = -1;
    SAY("cuEventElapsedTime", CALL(cuEventElapsedTime, (float *, handle, handle), &ms, before, after));
    SAY("  not negative", ms >= 0);
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("cuStreamQuery", CALL(cuStreamQuery, (handle), stream));
    SAY("cuStreamDestroy", CALL(cuStreamDestroy_v2, (handle), stream));
    SAY("cuEventDestroy", CALL(cuEventDestroy_v2, (handle), before));

    SAY("cuPointerGetAttribute(host)", CALL(cuPointerGetAttribute, (void *, int, ptr), &value, 2, (ptr)(uintptr_t)host));
    SAY("cuPointerGetAttribute(device)", CALL(cuPointerGetAttribute, (void *, int, ptr), &value, 2, a + 8));
    SAY("  memory type", value);
    SAY("cuMemFree(inside)", CALL(cuMemFree_v2, (ptr), a + 8));
    SAY("cuMemFree", CALL(cuMemFree_v2, (ptr), b));
    SAY("cuMemFree again", CALL(cuMemFree_v2, (ptr), b));
    SAY("cuMemFree(0)", CALL(cuMemFree_v2, (ptr), 0));
    SAY("cuModuleUnload", CALL(cuModuleUnload, (handle), module));

    CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &wild, module, "wild");
    SAY("launch of a wild store", launch(wild, 1, 1, NULL, NULL));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("cuMemAlloc afterwards", CALL(cuMemAlloc_v2, (ptr *, size_t), &b, 4));
    SAY("cuCtxSynchronize again", CALL(cuCtxSynchronize, (void)));
    return 0;
}
