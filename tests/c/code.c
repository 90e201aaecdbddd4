/* Code in all its forms: libraries and their kernels, the linker, occupancy, every kind of launch, and what CUDA's first versions had.
   Each line is a fact and what the driver says of it. */
#include "by_name.h"
#include <string.h>

#define SAY(fact, value) printf("%-58s %lld\n", fact, (long long)(value))

#define HEAD ".version 7.0\n.target sm_70\n.address_size 64\n"

/* add(data, n): data[i] += n + bias, for the threads of one block. */
static const char *PTX =
    HEAD
    ".visible .global .align 4 .u32 bias = 0;\n"
    ".visible .entry add(.param .u64 data, .param .u32 n) {\n"
    "  .reg .u32 %r<5>; .reg .u64 %d<4>;\n"
    "  ld.param.u64 %d0, [data]; ld.param.u32 %r0, [n]; mov.u64 %d3, bias; ld.global.u32 %r4, [%d3];\n"
    "  mov.u32 %r1, %tid.x; mul.wide.u32 %d1, %r1, 4; add.u64 %d2, %d0, %d1;\n"
    "  ld.global.u32 %r2, [%d2]; add.u32 %r3, %r2, %r0; add.u32 %r3, %r3, %r4; st.global.u32 [%d2], %r3; ret;\n}\n"
    ".visible .entry scale(.param .u64 data, .param .f32 factor) {\n"
    "  .reg .f32 %f<3>; .reg .u64 %d0;\n"
    "  ld.param.u64 %d0, [data]; ld.param.f32 %f0, [factor]; ld.global.f32 %f1, [%d0]; mul.f32 %f2, %f0, %f1;\n"
    "  st.global.f32 [%d0], %f2; ret;\n}\n"
    ".visible .entry nothing() { ret; }\n";

/* says(n): each thread of one block prints. */
static const char *PRINTER =
    HEAD
    ".extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);\n"
    ".global .align 1 .b8 text[22] = {116, 104, 114, 101, 97, 100, 32, 37, 117, 32, 115, 97, 121, 115, 32, 37, 100, 10, 0, 0, 0, 0};\n"
    ".visible .entry says(.param .u32 n) {\n"
    "  .local .align 8 .b8 values[8]; .reg .u32 %r<4>; .reg .u64 %d<4>;\n"
    "  mov.u64 %d0, values; cvta.local.u64 %d1, %d0; mov.u32 %r0, %tid.x; ld.param.u32 %r1, [n];\n"
    "  st.local.u32 [%d0], %r0; st.local.u32 [%d0+4], %r1; mov.u64 %d2, text; cvta.global.u64 %d3, %d2;\n"
    "  { .param .b64 a0; .param .b64 a1; .param .b32 r0; st.param.b64 [a0], %d3; st.param.b64 [a1], %d1;\n"
    "  call.uni (r0), vprintf, (a0, a1); ld.param.b32 %r2, [r0]; } ret;\n}\n";

static const char *USER =
    HEAD
    ".extern .func (.param .b32 r) twice (.param .b32 a);\n"
    ".visible .entry apply(.param .u64 data) {\n"
    "  .reg .u32 %v; .reg .u64 %p; ld.param.u64 %p, [data]; ld.global.u32 %v, [%p];\n"
    "  { .param .b32 a0; .param .b32 r0; st.param.b32 [a0], %v; call.uni (r0), twice, (a0); ld.param.b32 %v, [r0]; }\n"
    "  st.global.u32 [%p], %v; ret;\n}\n";

static const char *DEFINER =
    HEAD
    ".visible .func (.param .b32 r) twice (.param .b32 a) {\n"
    "  .reg .u32 %v; ld.param.b32 %v, [a]; add.u32 %v, %v, %v; st.param.b32 [r], %v; ret;\n}\n";

typedef struct {
    unsigned gx, gy, gz, bx, by, bz, shared;
    handle stream;
    struct { unsigned id, pad; uint64_t value[8]; } *attributes;
    unsigned count;
} config;

static ptr data;

static uint32_t first(void) {
    uint32_t value = 0;
    int result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, data, 4);
    return result ? (uint32_t)-result : value;
}

static void set(uint32_t value) { CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), data, value, 64); }

static int launch(handle callee, unsigned grid, unsigned block, handle stream, void **params) {
    return CALL(cuLaunchKernel,
                (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), callee,
                grid, 1, 1, block, 1, 1, 0, stream, params, NULL);
}

static int load_library(handle *library, const void *image, unsigned *options, void **values, unsigned count) {
    return CALL(cuLibraryLoadData, (handle *, const void *, unsigned *, void **, unsigned, unsigned *, void **, unsigned), library,
                image, options, values, count, NULL, NULL, 0);
}

static void libraries(handle context) {
    handle library = NULL, kernel = NULL, other = NULL, kernels[8] = {0}, function = NULL, again = NULL, module = NULL, owner = NULL;
    unsigned count = 0, n = 3;
    int value = -1;
    char log[200] = "untouched";
    unsigned options[] = {5, 6, 0};
    void *values[] = {log, (void *)sizeof log, (void *)32};
    SAY("cuLibraryLoadData(NULL)", load_library(&library, NULL, NULL, NULL, 0));
    SAY("cuLibraryLoadData of nonsense", load_library(&library, HEAD ".bogus\n", options, values, 3));
    SAY("  the log's length is told", strlen(log) == (size_t)values[1] && strlen(log) > 0);
    values[1] = (void *)8;
    SAY("cuLibraryLoadData of nonsense, short log", load_library(&library, HEAD ".bogus\n", options, values, 3));
    SAY("  the log's length", (size_t)values[1]);
    CALL(cuCtxPopCurrent_v2, (handle *), &context);
    SAY("cuLibraryLoadData without a context", load_library(&library, PTX, NULL, NULL, 0));
    SAY("cuLibraryGetKernel without a context", CALL(cuLibraryGetKernel, (handle *, handle, const char *), &kernel, library, "add"));
    SAY("cuKernelGetFunction without a context", CALL(cuKernelGetFunction, (handle *, handle), &function, kernel));
    CALL(cuCtxPushCurrent_v2, (handle), context);
    SAY("cuLibraryGetKernel(absent)", CALL(cuLibraryGetKernel, (handle *, handle, const char *), &other, library, "absent"));
    SAY("cuLibraryGetKernelCount", CALL(cuLibraryGetKernelCount, (unsigned *, handle), &count, library));
    SAY("  kernels", count);
    SAY("cuLibraryEnumerateKernels", CALL(cuLibraryEnumerateKernels, (handle *, unsigned, handle), kernels, 8, library));
    SAY("  the first is the one by name", kernels[0] == kernel && kernels[2] != NULL && kernels[3] == NULL);
    const char *name = NULL;
    SAY("cuKernelGetName", CALL(cuKernelGetName, (const char **, handle), &name, kernels[1]));
    SAY("  scale", name && !strcmp(name, "scale"));
    SAY("cuKernelGetLibrary", CALL(cuKernelGetLibrary, (handle *, handle), &owner, kernel));
    SAY("  is it", owner == library);
    size_t offset = 99, size = 99;
    SAY("cuKernelGetParamInfo(1)", CALL(cuKernelGetParamInfo, (handle, size_t, size_t *, size_t *), kernel, 1, &offset, &size));
    SAY("  offset and size", offset * 100 + size);
    SAY("cuKernelGetParamInfo(2)", CALL(cuKernelGetParamInfo, (handle, size_t, size_t *, size_t *), kernel, 2, &offset, NULL));
    SAY("cuKernelGetParamCount", CALL(cuKernelGetParamCount, (handle, size_t *), kernel, &size));
    SAY("  parameters", size);
    SAY("cuKernelGetAttribute(0)", CALL(cuKernelGetAttribute, (int *, int, handle, int), &value, 0, kernel, 0));
    SAY("  threads", value);
    SAY("cuKernelGetAttribute(9999)", CALL(cuKernelGetAttribute, (int *, int, handle, int), &value, 9999, kernel, 0));
    SAY("cuKernelGetAttribute(device 9)", CALL(cuKernelGetAttribute, (int *, int, handle, int), &value, 0, kernel, 9));
    SAY("cuKernelSetAttribute", CALL(cuKernelSetAttribute, (int, int, handle, int), 8, 64 << 10, kernel, 0));
    SAY("cuKernelSetAttribute(too much)", CALL(cuKernelSetAttribute, (int, int, handle, int), 8, 1 << 30, kernel, 0));
    SAY("cuKernelSetCacheConfig", CALL(cuKernelSetCacheConfig, (handle, int, int), kernel, 1, 0));
    SAY("cuKernelSetCacheConfig(9)", CALL(cuKernelSetCacheConfig, (handle, int, int), kernel, 9, 0));

    void *params[] = {&data, &n};
    set(1);
    SAY("cuLaunchKernel of a kernel", launch(kernel, 1, 32, NULL, params));
    SAY("cuKernelGetFunction", CALL(cuKernelGetFunction, (handle *, handle), &function, kernel));
    SAY("cuKernelGetFunction again", CALL(cuKernelGetFunction, (handle *, handle), &again, kernel));
    SAY("  the same", again == function);
    SAY("cuLaunchKernel of its function", launch(function, 1, 32, NULL, params));
    SAY("  data", first());
    SAY("cuFuncGetAttribute(8) of its function", CALL(cuFuncGetAttribute, (int *, int, handle), &value, 8, function));
    SAY("  as set for the kernel", value);
    SAY("cuFuncGetAttribute of a kernel", CALL(cuFuncGetAttribute, (int *, int, handle), &value, 0, kernel));
    SAY("cuKernelGetFunction of a function", CALL(cuKernelGetFunction, (handle *, handle), &again, function));
    SAY("cuLibraryGetModule", CALL(cuLibraryGetModule, (handle *, handle), &module, library));
    SAY("cuFuncGetModule", CALL(cuFuncGetModule, (handle *, handle), &owner, function));
    SAY("  the same", owner == module);
    SAY("cuModuleGetFunction of it", CALL(cuModuleGetFunction, (handle *, handle, const char *), &again, module, "add"));
    SAY("  the same", again == function);
    SAY("cuModuleUnload of it", CALL(cuModuleUnload, (handle), module));
    ptr bias = 0;
    SAY("cuLibraryGetGlobal", CALL(cuLibraryGetGlobal, (ptr *, size_t *, handle, const char *), &bias, &size, library, "bias"));
    SAY("  size", size);
    SAY("cuLibraryGetGlobal(absent)", CALL(cuLibraryGetGlobal, (ptr *, size_t *, handle, const char *), &bias, &size, library, "absent"));
    SAY("cuLibraryGetManaged", CALL(cuLibraryGetManaged, (ptr *, size_t *, handle, const char *), &bias, &size, library, "bias"));
    SAY("cuLibraryGetUnifiedFunction", CALL(cuLibraryGetUnifiedFunction, (void **, handle, const char *), (void **)&again, library, "add"));
    CALL(cuLibraryGetGlobal, (ptr *, size_t *, handle, const char *), &bias, &size, library, "bias");
    CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), bias, 100, 1);
    launch(kernel, 1, 1, NULL, params);
    SAY("  the kernel sees it", first());

    /* A second context has its own function and variables; a stream says which one a kernel runs in. */
    handle second = NULL, stream = NULL;
    SAY("cuCtxCreate", CALL(cuCtxCreate_v2, (handle *, unsigned, int), &second, 0, 0));
    SAY("cuStreamCreate", CALL(cuStreamCreate, (handle *, unsigned), &stream, 0));
    SAY("cuKernelGetFunction", CALL(cuKernelGetFunction, (handle *, handle), &again, kernel));
    SAY("  another one", again != function);
    CALL(cuCtxSetCurrent, (handle), context);
    set(1);
    CALL(cuCtxSynchronize, (void));
    SAY("cuLaunchKernel in the other's stream", launch(kernel, 1, 32, stream, params));
    SAY("cuLaunchKernel of the wrong function", launch(function, 1, 32, stream, params));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  with its own variable", first());
    SAY("cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), second));
    SAY("cuLaunchKernel of a function that ended with it", launch(again, 1, 32, NULL, params));
    SAY("cuLaunchKernel of the kernel", launch(kernel, 1, 32, NULL, params));
    SAY("  data", first());

    /* Graphs take kernels. */
    handle graph = NULL, node = NULL, exec = NULL;
    struct { handle function; unsigned size[7]; void **params, **extra; handle kernel, context; } kernel_node =
        {NULL, {1, 1, 1, 32, 1, 1, 0}, params, NULL, kernel, context};
    CALL(cuGraphCreate, (handle *, unsigned), &graph, 0);
    SAY("cuGraphAddKernelNode of a kernel", CALL(cuGraphAddKernelNode_v2, (handle *, handle, handle *, size_t, void *), &node, graph, NULL, 0, &kernel_node));
    SAY("cuGraphInstantiate", CALL(cuGraphInstantiateWithFlags, (handle *, handle, unsigned long long), &exec, graph, 0));
    SAY("cuGraphLaunch", CALL(cuGraphLaunch, (handle, handle), exec, NULL));
    SAY("  data", first());
    n = 1000;
    SAY("cuGraphExecKernelNodeSetParams", CALL(cuGraphExecKernelNodeSetParams_v2, (handle, handle, void *), exec, node, &kernel_node));
    CALL(cuGraphLaunch, (handle, handle), exec, NULL);
    SAY("  data", first());
    kernel_node.kernel = NULL;
    SAY("cuGraphAddKernelNode of nothing", CALL(cuGraphAddKernelNode_v2, (handle *, handle, handle *, size_t, void *), &node, graph, NULL, 0, &kernel_node));
    CALL(cuGraphExecDestroy, (handle), exec);
    CALL(cuGraphDestroy, (handle), graph);

    SAY("cuLibraryUnload", CALL(cuLibraryUnload, (handle), library));
    SAY("cuLibraryUnload again", CALL(cuLibraryUnload, (handle), library));
    SAY("cuLaunchKernel of its kernel", launch(kernel, 1, 32, NULL, params));
    SAY("cuLaunchKernel of its function", launch(function, 1, 32, NULL, params));
    SAY("cuKernelGetName of its kernel", CALL(cuKernelGetName, (const char **, handle), &name, kernel));
    SAY("cuLibraryLoadFromFile(absent)", CALL(cuLibraryLoadFromFile, (handle *, const char *, unsigned *, void **, unsigned, unsigned *, void **, unsigned), &library, "/does/not/exist", NULL, NULL, 0, NULL, NULL, 0));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
}

/* A kernel on a second device: attributes are set by device, functions belong to its contexts. */
static void second_device(handle context) {
    handle library = NULL, kernel = NULL, second = NULL, function = NULL, module = NULL;
    int devices = 0, value = -1, least[2] = {-1, -1};
    unsigned count = 0, n = 40;
    ptr there = 0, bias = 0;
    size_t size = 0;
    CALL(cuDeviceGetCount, (int *), &devices);
    SAY("devices", devices);
    load_library(&library, PTX, NULL, NULL, 0);
    CALL(cuLibraryGetKernel, (handle *, handle, const char *), &kernel, library, "add");
    SAY("cuKernelSetAttribute(device 1)", CALL(cuKernelSetAttribute, (int, int, handle, int), 8, 60 << 10, kernel, 1));
    for (int i = 0; i < 2; i++) CALL(cuKernelGetAttribute, (int *, int, handle, int), &least[i], 8, kernel, i);
    SAY("  on device 0", least[0]);
    SAY("  on device 1", least[1]);
    CALL(cuKernelGetAttribute, (int *, int, handle, int), &value, 0, kernel, 1);
    SAY("  threads there", value);
    SAY("cuCtxCreate on device 1", CALL(cuCtxCreate_v2, (handle *, unsigned, int), &second, 0, 1));
    CALL(cuMemAlloc_v2, (ptr *, size_t), &there, 256);
    CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), there, 2, 64);
    void *params[] = {&there, &n};
    SAY("cuLaunchKernel there", launch(kernel, 1, 32, NULL, params));
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, there, 4);
    SAY("  data there", value);
    SAY("cuKernelGetFunction there", CALL(cuKernelGetFunction, (handle *, handle), &function, kernel));
    CALL(cuFuncGetAttribute, (int *, int, handle), &value, 8, function);
    SAY("  as set for the device", value);
    CALL(cuLibraryGetModule, (handle *, handle), &module, library);
    CALL(cuModuleGetFunctionCount, (unsigned *, handle), &count, module);
    SAY("  functions of the module", count);
    SAY("cuLibraryGetGlobal there", CALL(cuLibraryGetGlobal, (ptr *, size_t *, handle, const char *), &bias, &size, library, "bias"));
    CALL(cuCtxSetCurrent, (handle), context);
    SAY("cuLaunchKernel of that function here", launch(function, 1, 32, NULL, params));
    SAY("cuLibraryUnload", CALL(cuLibraryUnload, (handle), library));
    SAY("cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), second));
}

static int add_input(handle link, int kind, const void *image, size_t size, const char *name) {
    return CALL(cuLinkAddData_v2, (handle, int, void *, size_t, const char *, unsigned, unsigned *, void **), link, kind, (void *)image, size, name, 0, NULL, NULL);
}

static void linker(void) {
    handle link = NULL, module = NULL, apply = NULL;
    char info[300] = "untouched", errors[300] = "untouched";
    unsigned options[] = {3, 4, 5, 6, 0};
    void *values[] = {info, (void *)sizeof info, errors, (void *)sizeof errors, (void *)64};
    void *image = NULL;
    size_t size = 0;
    SAY("cuLinkCreate(NULL)", CALL(cuLinkCreate_v2, (unsigned, unsigned *, void **, handle *), 0, NULL, NULL, NULL));
    SAY("cuLinkCreate", CALL(cuLinkCreate_v2, (unsigned, unsigned *, void **, handle *), 5, options, values, &link));
    SAY("  logs are empty", !*info && !*errors && !values[1] && !values[3]);
    SAY("cuLinkAddData of nonsense", add_input(link, 1, HEAD ".bogus\n", strlen(HEAD ".bogus\n"), "nonsense.ptx"));
    SAY("  the log names it", strstr(errors, "nonsense.ptx") != NULL && strlen(errors) == (size_t)values[3]);
    SAY("cuLinkAddData of nothing", add_input(link, 1, USER, 0, "empty.ptx"));
    SAY("cuLinkAddData of an unknown kind", add_input(link, 99, USER, strlen(USER), "user.ptx"));
    SAY("cuLinkAddData of SASS", add_input(link, 0, "\x7f" "ELF\2\1", 6, "some.cubin"));
    SAY("cuLinkAddData", add_input(link, 1, USER, strlen(USER), "user.ptx"));
    SAY("cuLinkComplete with something missing", CALL(cuLinkComplete, (handle, void **, size_t *), link, &image, &size));
    SAY("  the log names it", strstr(errors, "twice") != NULL);
    FILE *file = fopen("definer.ptx", "w");
    if (!file || fputs(DEFINER, file) < 0 || fclose(file)) exit(3);
    SAY("cuLinkAddFile", CALL(cuLinkAddFile_v2, (handle, int, const char *, unsigned, unsigned *, void **), link, 1, "definer.ptx", 0, NULL, NULL));
    SAY("cuLinkAddFile(absent)", CALL(cuLinkAddFile_v2, (handle, int, const char *, unsigned, unsigned *, void **), link, 1, "/does/not/exist", 0, NULL, NULL));
    SAY("cuLinkComplete", CALL(cuLinkComplete, (handle, void **, size_t *), link, &image, &size));
    void *again = NULL;
    SAY("cuLinkComplete again", CALL(cuLinkComplete, (handle, void **, size_t *), link, &again, NULL));
    SAY("  the same image", again == image && size > 0);
    SAY("cuLinkAddData afterwards", add_input(link, 1, USER, strlen(USER), "late.ptx"));
    void *copy = malloc(size);
    memcpy(copy, image, size);
    SAY("cuLinkDestroy", CALL(cuLinkDestroy, (handle), link));
    SAY("cuLinkDestroy again", CALL(cuLinkDestroy, (handle), link));
    SAY("cuLinkComplete afterwards", CALL(cuLinkComplete, (handle, void **, size_t *), link, &image, &size));
    SAY("cuModuleLoadData of the image", CALL(cuModuleLoadData, (handle *, const void *), &module, copy));
    SAY("cuModuleGetFunction", CALL(cuModuleGetFunction, (handle *, handle, const char *), &apply, module, "apply"));
    void *params[] = {&data};
    set(21);
    SAY("cuLaunchKernel", launch(apply, 1, 1, NULL, params));
    SAY("  data", first());
    SAY("cuModuleUnload", CALL(cuModuleUnload, (handle), module));
    SAY("cuLinkCreate, first form", CALL(cuLinkCreate, (unsigned, unsigned *, void **, handle *), 0, NULL, NULL, &link));
    SAY("cuLinkAddData of a linked image", CALL(cuLinkAddData, (handle, int, void *, size_t, const char *, unsigned, unsigned *, void **), link, 0, copy, size, NULL, 0, NULL, NULL));
    SAY("cuLinkComplete", CALL(cuLinkComplete, (handle, void **, size_t *), link, &image, &size));
    SAY("cuLinkDestroy", CALL(cuLinkDestroy, (handle), link));
    free(copy);
}

static size_t shared_for(int threads) { return (size_t)threads * 48; }

static void occupancy(handle add) {
    int blocks = -1, grid = -1, block = -1;
    size_t bytes = 0;
    SAY("cuOccupancyMaxActiveBlocksPerMultiprocessor", CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *, handle, int, size_t), &blocks, add, 128, 0));
    SAY("  blocks", blocks);
    CALL(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, (int *, handle, int, size_t, unsigned), &blocks, add, 128, 30 << 10, 1);
    SAY("  with shared memory", blocks);
    SAY("cuOccupancyMaxActiveBlocksPerMultiprocessor(0)", CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *, handle, int, size_t), &blocks, add, 0, 0));
    SAY("cuOccupancyMaxActiveBlocksPerMultiprocessor(flags 2)", CALL(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, (int *, handle, int, size_t, unsigned), &blocks, add, 128, 0, 2));
    SAY("cuOccupancyMaxActiveBlocksPerMultiprocessor(nothing)", CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *, handle, int, size_t), &blocks, (handle)(uintptr_t)0x123450, 128, 0));
    SAY("cuOccupancyMaxPotentialBlockSize", CALL(cuOccupancyMaxPotentialBlockSize, (int *, int *, handle, size_t (*)(int), size_t, int), &grid, &block, add, NULL, 0, 0));
    SAY("  grid", grid);
    SAY("  block", block);
    SAY("cuOccupancyMaxPotentialBlockSize(function)", CALL(cuOccupancyMaxPotentialBlockSizeWithFlags, (int *, int *, handle, size_t (*)(int), size_t, int, unsigned), &grid, &block, add, shared_for, 0, 500, 0));
    SAY("  grid", grid);
    SAY("  block", block);
    SAY("cuOccupancyAvailableDynamicSMemPerBlock", CALL(cuOccupancyAvailableDynamicSMemPerBlock, (size_t *, handle, int, int), &bytes, add, 2, 128));
    SAY("  bytes", bytes);
    SAY("cuFuncSetAttribute(8)", CALL(cuFuncSetAttribute, (handle, int, int), add, 8, 20 << 10));
    CALL(cuOccupancyAvailableDynamicSMemPerBlock, (size_t *, handle, int, int), &bytes, add, 2, 128);
    SAY("  bytes now", bytes);
    SAY("cuOccupancyAvailableDynamicSMemPerBlock(too many)", CALL(cuOccupancyAvailableDynamicSMemPerBlock, (size_t *, handle, int, int), &bytes, add, 1000, 1024));
    config shape = {4, 1, 1, 128, 1, 1, 0, NULL, NULL, 0};
    SAY("cuOccupancyMaxPotentialClusterSize", CALL(cuOccupancyMaxPotentialClusterSize, (int *, handle, config *), &blocks, add, &shape));
    SAY("  size", blocks);
    SAY("cuOccupancyMaxActiveClusters", CALL(cuOccupancyMaxActiveClusters, (int *, handle, config *), &blocks, add, &shape));
    SAY("  clusters", blocks);
}

static void launches(handle add, handle scale) {
    unsigned n = 2, state = 9;
    void *params[] = {&data, &n};
    handle stream = NULL, event = NULL;
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    CALL(cuEventCreate, (handle *, unsigned), &event, 0);
    set(0);
    CALL(cuCtxSynchronize, (void));
#define COOPERATIVE(grid) CALL(cuLaunchCooperativeKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **), add, grid, 1, 1, 32, 1, 1, 0, stream, params)
    SAY("cuLaunchCooperativeKernel", COOPERATIVE(1));
    SAY("cuLaunchCooperativeKernel(too large)", COOPERATIVE(1 << 20));
    SAY("cuLaunchCooperativeKernel(no block)", COOPERATIVE(0));
    int attribute = -1;
    CALL(cuDeviceGetAttribute, (int *, int, int), &attribute, 95, 0);
    SAY("  COOPERATIVE_LAUNCH", attribute);
    CALL(cuDeviceGetAttribute, (int *, int, int), &attribute, 96, 0);
    SAY("  COOPERATIVE_MULTI_DEVICE_LAUNCH", attribute);
    __typeof__(*((config *)0)->attributes) attributes[3] = {{2, 0, {1}}, {8, 0, {0}}, {0, 0, {0}}};
    config shape = {1, 1, 1, 32, 1, 1, 0, stream, attributes, 3};
#define EX() CALL(cuLaunchKernelEx, (config *, handle, void **, void **), &shape, add, params, NULL)
    SAY("cuLaunchKernelEx", EX());
    shape.gx = 1 << 20;
    SAY("cuLaunchKernelEx(cooperative, too large)", EX());
    shape.gx = 1;
    attributes[0].id = 4;
    attributes[0].value[0] = 1 | (uint64_t)1 << 32;
    attributes[0].value[1] = 1;
    SAY("cuLaunchKernelEx(cluster of one)", EX());
    attributes[0].value[0] = 2 | (uint64_t)1 << 32;
    SAY("cuLaunchKernelEx(cluster of two)", EX());
    attributes[0].id = 77;
    SAY("cuLaunchKernelEx(unknown attribute)", EX());
    shape.count = 0;
    shape.attributes = NULL;
    SAY("cuLaunchKernelEx(no attributes)", EX());
    shape.count = 1;
    SAY("cuLaunchKernelEx(attributes at NULL)", EX());
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  data", first());
    SAY("cuLaunchKernel_ptsz", CALL(cuLaunchKernel_ptsz, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), add, 1, 1, 1, 32, 1, 1, 0, NULL, params, NULL));
    SAY("cuStreamSynchronize_ptsz", CALL(cuStreamSynchronize_ptsz, (handle), NULL));
    SAY("  data", first());

    /* One by one, as in CUDA's first versions. */
    float factor = 2.5f, host = 4;
    SAY("cuLaunch without a shape", CALL(cuLaunch, (handle), scale));
    SAY("cuFuncSetBlockShape", CALL(cuFuncSetBlockShape, (handle, int, int, int), scale, 1, 1, 1));
    SAY("cuFuncSetBlockShape(0)", CALL(cuFuncSetBlockShape, (handle, int, int, int), scale, 0, 1, 1));
    SAY("cuFuncSetSharedSize", CALL(cuFuncSetSharedSize, (handle, unsigned), scale, 64));
    SAY("cuParamSetv", CALL(cuParamSetv, (handle, int, void *, unsigned), scale, 0, &data, sizeof data));
    SAY("cuParamSetf", CALL(cuParamSetf, (handle, int, float), scale, 8, factor));
    SAY("cuParamSetf(-1)", CALL(cuParamSetf, (handle, int, float), scale, -1, factor));
    SAY("cuLaunch without a size", CALL(cuLaunch, (handle), scale));
    SAY("cuParamSetSize", CALL(cuParamSetSize, (handle, unsigned), scale, 12));
    SAY("cuParamSetSize(too much)", CALL(cuParamSetSize, (handle, unsigned), scale, 1 << 20));
    CALL(cuMemcpyHtoD_v2, (ptr, void *, size_t), data, &host, 4);
    SAY("cuLaunch", CALL(cuLaunch, (handle), scale));
    SAY("cuLaunchGrid", CALL(cuLaunchGrid, (handle, int, int), scale, 1, 1));
    SAY("cuLaunchGrid(0)", CALL(cuLaunchGrid, (handle, int, int), scale, 0, 1));
    CALL(cuCtxSynchronize, (void));
    SAY("cuLaunchGridAsync", CALL(cuLaunchGridAsync, (handle, int, int, handle), scale, 1, 1, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &host, data, 4);
    SAY("  tenfold", host * 10);
    SAY("cuParamSeti", CALL(cuParamSeti, (handle, int, unsigned), add, 8, 5));
    SAY("cuParamSeti of nothing", CALL(cuParamSeti, (handle, int, unsigned), (handle)(uintptr_t)0x123450, 8, 5));
    SAY("cuFuncIsLoaded", CALL(cuFuncIsLoaded, (unsigned *, handle), &state, add));
    SAY("  state", state);
    CALL(cuEventDestroy_v2, (handle), event);
    CALL(cuStreamDestroy_v2, (handle), stream);
}

/* Every spelling is found by its base name, version and flags. */
static void names(void) {
    void *found = NULL;
    int status = -1;
#define FIND(name, version, flags) CALL(cuGetProcAddress_v2, (const char *, void **, int, uint64_t, int *), name, &found, version, flags, &status)
    SAY("cuGetProcAddress(per thread)", FIND("cuLaunchKernel", 12040, 2));
    SAY("  its form", found == symbol("cuLaunchKernel_ptsz"));
    SAY("cuGetProcAddress(old, per thread)", FIND("cuLaunchKernel", 4000, 2));
    SAY("  status", status);
    SAY("cuGetProcAddress(old)", FIND("cuLinkCreate", 5050, 0));
    SAY("  its form", found == symbol("cuLinkCreate"));
    SAY("cuGetProcAddress(without a version)", FIND("cuProfilerStart", 12040, 0));
    SAY("  found", found == symbol("cuProfilerStart"));
    SAY("cuGetProcAddress(not served)", FIND("cuGLInit", 12040, 0));
    SAY("  status", status);
}

static void functions(void) {
    handle module = NULL, all[8] = {0};
    unsigned state = 9, mode = 0;
    size_t count = 0;
    CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    CALL(cuModuleEnumerateFunctions, (handle *, unsigned, handle), all, 8, module);
    SAY("cuModuleGetLoadingMode", CALL(cuModuleGetLoadingMode, (unsigned *), &mode));
    SAY("  mode", mode);
    SAY("cuFuncIsLoaded", CALL(cuFuncIsLoaded, (unsigned *, handle), &state, all[2]));
    SAY("  state", state);
    SAY("cuFuncLoad", CALL(cuFuncLoad, (handle), all[2]));
    CALL(cuFuncIsLoaded, (unsigned *, handle), &state, all[2]);
    SAY("  state", state);
    SAY("cuFuncLoad of nothing", CALL(cuFuncLoad, (handle), NULL));
    SAY("cuFuncGetParamCount", CALL(cuFuncGetParamCount, (handle, size_t *), all[0], &count));
    SAY("  parameters", count);
    SAY("cuFuncSetSharedMemConfig", CALL(cuFuncSetSharedMemConfig, (handle, int), all[0], 2));
    SAY("cuFuncSetSharedMemConfig(3)", CALL(cuFuncSetSharedMemConfig, (handle, int), all[0], 3));
    char log[100];
    float time = -1;
    unsigned options[] = {3, 4, 2};
    void *values[] = {log, (void *)sizeof log, NULL};
    memcpy(&values[2], &time, sizeof time);
    handle other = NULL;
    SAY("cuModuleLoadDataEx", CALL(cuModuleLoadDataEx, (handle *, const void *, unsigned, unsigned *, void **), &other, PTX, 3, options, values));
    memcpy(&time, &values[2], sizeof time);
    SAY("  time was told", time >= 0);
    SAY("  length of the log", (size_t)values[1]);
    SAY("cuModuleLoadDataEx(options at NULL)", CALL(cuModuleLoadDataEx, (handle *, const void *, unsigned, unsigned *, void **), &other, PTX, 3, NULL, values));
    CALL(cuModuleUnload, (handle), other);
    CALL(cuModuleUnload, (handle), module);
}

static void contexts(handle context) {
    handle other = NULL, popped = NULL;
    int device = -1, can = -1, properties[14];
    unsigned flags = 99, total = 0, config = 9;
    size_t bytes = 0;
    uint64_t id = 0, second = 0, affinity[2];
    SAY("cuCtxGetDevice_v2", CALL(cuCtxGetDevice_v2, (int *, handle), &device, context));
    SAY("  device", device);
    SAY("cuCtxGetDevice_v2 of nothing", CALL(cuCtxGetDevice_v2, (int *, handle), &device, (handle)(uintptr_t)0x123450));
    SAY("cuCtxGetId", CALL(cuCtxGetId, (handle, uint64_t *), NULL, &id));
    SAY("cuCtxSetFlags", CALL(cuCtxSetFlags, (unsigned), 4));
    CALL(cuCtxGetFlags, (unsigned *), &flags);
    SAY("  flags", flags);
    SAY("cuCtxSetFlags(7)", CALL(cuCtxSetFlags, (unsigned), 7));
    SAY("cuCtxGetSharedMemConfig", CALL(cuCtxGetSharedMemConfig, (unsigned *), &config));
    SAY("  config", config);
    SAY("cuCtxSetSharedMemConfig", CALL(cuCtxSetSharedMemConfig, (unsigned), 1));
    SAY("cuCtxSetSharedMemConfig(3)", CALL(cuCtxSetSharedMemConfig, (unsigned), 3));
    SAY("cuCtxResetPersistingL2Cache", CALL(cuCtxResetPersistingL2Cache, (void)));
    SAY("cuCtxGetExecAffinity", CALL(cuCtxGetExecAffinity, (void *, int), affinity, 0));
    SAY("cuCtxGetExecAffinity(7)", CALL(cuCtxGetExecAffinity, (void *, int), affinity, 7));
    SAY("cuDeviceGetExecAffinitySupport", CALL(cuDeviceGetExecAffinitySupport, (int *, int, int), &can, 0, 0));
    SAY("  support", can);
    SAY("cuCtxCreate", CALL(cuCtxCreate, (handle *, unsigned, int), &other, 0, 0));
    CALL(cuCtxGetId, (handle, uint64_t *), other, &second);
    SAY("  another id", id != second);
    SAY("cuCtxSynchronize_v2", CALL(cuCtxSynchronize_v2, (handle), context));
    SAY("cuCtxAttach", CALL(cuCtxAttach, (handle *, unsigned), &popped, 0));
    SAY("  the current one", popped == other);
    SAY("cuCtxAttach(1)", CALL(cuCtxAttach, (handle *, unsigned), &popped, 1));
    SAY("cuCtxDetach of another", CALL(cuCtxDetach, (handle), context));
    SAY("cuCtxDetach", CALL(cuCtxDetach, (handle), other));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("cuCtxDetach", CALL(cuCtxDetach, (handle), other));
    SAY("cuCtxDetach again", CALL(cuCtxDetach, (handle), other));
    SAY("cuCtxCreate_v3", CALL(cuCtxCreate_v3, (handle *, void *, int, unsigned, int), &other, NULL, 0, 0, 0));
    SAY("cuCtxPopCurrent", CALL(cuCtxPopCurrent, (handle *), &popped));
    SAY("  it", popped == other);
    SAY("cuCtxPushCurrent", CALL(cuCtxPushCurrent, (handle), other));
    SAY("cuCtxDestroy", CALL(cuCtxDestroy, (handle), other));
    SAY("cuCtxCreate_v3(affinity)", CALL(cuCtxCreate_v3, (handle *, void *, int, unsigned, int), &other, affinity, 1, 0, 0));
    SAY("cuCtxCreate_v4", CALL(cuCtxCreate_v4, (handle *, void *, unsigned, int), &other, NULL, 0, 0));
    CALL(cuCtxDestroy, (handle), other);
    CALL(cuCtxSetCurrent, (handle), context);
    SAY("cuDeviceGetProperties", CALL(cuDeviceGetProperties, (int *, int), properties, 0));
    SAY("  threads and warp", properties[0] * 100 + properties[9]);
    SAY("cuDeviceGetProperties(9)", CALL(cuDeviceGetProperties, (int *, int), properties, 9));
    SAY("cuDeviceGetLuid", CALL(cuDeviceGetLuid, (char *, unsigned *, int), (char *)affinity, &flags, 0));
    SAY("cuDeviceTotalMem", CALL(cuDeviceTotalMem, (unsigned *, int), &total, 0));
    CALL(cuDeviceTotalMem_v2, (size_t *, int), &bytes, 0);
    SAY("  as far as it fits", total == (bytes > 0xffffffff ? 0xffffffff : bytes));
    SAY("cuFlushGPUDirectRDMAWrites", CALL(cuFlushGPUDirectRDMAWrites, (int, int), 0, 100));
    SAY("cuFlushGPUDirectRDMAWrites(7)", CALL(cuFlushGPUDirectRDMAWrites, (int, int), 0, 7));
    CALL(cuDeviceGetAttribute, (int *, int, int), &can, 117, 0);
    SAY("  FLUSH_WRITES_OPTIONS", can);
    SAY("cuProfilerInitialize", CALL(cuProfilerInitialize, (const char *, const char *, int), "", "", 0));
    SAY("cuProfilerStart", CALL(cuProfilerStart, (void)));
    SAY("cuProfilerStop", CALL(cuProfilerStop, (void)));
}

/* What kernels print has been printed when their work has been waited for. */
static void printing(void) {
    handle module = NULL, says = NULL, stream = NULL;
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    CALL(cuModuleLoadData, (handle *, const void *), &module, PRINTER);
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &says, module, "says");
    for (unsigned value = 5; value < 7; value++) {
        void *params[] = {&value};
        fflush(stdout);
        int launched = launch(says, 1, 3, stream, params);
        int waited = CALL(cuStreamSynchronize, (handle), stream);
        SAY("cuLaunchKernel of one that prints", launched);
        SAY("cuStreamSynchronize behind it", waited);
    }
    CALL(cuStreamDestroy_v2, (handle), stream);
    CALL(cuModuleUnload, (handle), module);
}

int main(void) {
    handle context = NULL, module = NULL, add = NULL, scale = NULL;
    load();
    SAY("cuLibraryUnload before cuInit", CALL(cuLibraryUnload, (handle), NULL));
    CALL(cuInit, (unsigned), 0);
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    CALL(cuMemAlloc_v2, (ptr *, size_t), &data, 256);
    libraries(context);
    second_device(context);
    linker();
    CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &add, module, "add");
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &scale, module, "scale");
    occupancy(add);
    launches(add, scale);
    functions();
    names();
    printing();
    contexts(context);
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    return 0;
}
