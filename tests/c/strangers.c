/* Two processes that have nothing to do with each other. The owner makes one of everything, says how the others could name it, and looks on
   demand whether all of it is as it was. The stranger is told the names and tries whatever can be done with them. */
#include "by_name.h"
#include <string.h>

typedef struct { unsigned char bytes[64]; } token;
typedef struct { size_t width, height; unsigned format, channels; } flat_array;
typedef struct { unsigned kind, handles, location, device; uint64_t rest[2]; } physical_kind;
typedef struct { int kind, id, flags; } access_kind;

enum { BYTES = 4096, GRANULE = 2 << 20, NAMES = 18 };

static const char *PTX =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .global .align 4 .u32 variable = 7;\n"
    ".visible .entry twice(.param .u64 data) {\n"
    "  .reg .u32 %r<2>; .reg .u64 %d<2>;\n"
    "  ld.param.u64 %d0, [data]; ld.global.u32 %r0, [%d0]; add.u32 %r1, %r0, %r0; st.global.u32 [%d0], %r1; ret;\n}\n";

/* One of everything, in an order that both know. */
union names {
    uint64_t words[NAMES];
    struct {
        handle context, stream, event, module, function, library, kernel, graph, exec, array, pool;
        uint64_t physical, texture;
        ptr memory, managed, mapped, variable, ordered;
    } of;
};
struct offer { union names names; token memory, event; };

static handle context;

static int launch(handle function, handle stream, ptr at) {
    return CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **),
                function, 1, 1, 1, 1, 1, 1, 0, stream, ((void *[]){&at}), NULL);
}
static unsigned word(ptr at) {
    unsigned value = 0;
    return CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, at, 4) ? ~0u : value;
}

static int make(struct offer *offer) {
    union names *made = &offer->names;
    handle node = NULL;
    size_t bytes = 0;
    int failed = 0;
    /* More than the stranger has, so that no number of these is one of its own by chance. */
    for (int i = 0; i < 4; i++) failed += CALL(cuCtxCreate_v2, (handle *, unsigned, int), &made->of.context, 0, 0) != 0;
    failed += CALL(cuCtxSetCurrent, (handle), context) != 0;
    failed += CALL(cuStreamCreate, (handle *, unsigned), &made->of.stream, 1) != 0;
    failed += CALL(cuEventCreate, (handle *, unsigned), &made->of.event, 6) != 0;
    failed += CALL(cuEventRecord, (handle, handle), made->of.event, made->of.stream) != 0;
    failed += CALL(cuModuleLoadData, (handle *, const void *), &made->of.module, PTX) != 0;
    failed += CALL(cuModuleGetFunction, (handle *, handle, const char *), &made->of.function, made->of.module, "twice") != 0;
    failed += CALL(cuModuleGetGlobal_v2, (ptr *, size_t *, handle, const char *), &made->of.variable, &bytes, made->of.module, "variable") != 0;
    failed += CALL(cuLibraryLoadData, (handle *, const void *, void *, void *, unsigned, void *, void *, unsigned), &made->of.library, PTX, NULL, NULL, 0, NULL, NULL, 0) != 0;
    failed += CALL(cuLibraryGetKernel, (handle *, handle, const char *), &made->of.kernel, made->of.library, "twice") != 0;
    failed += CALL(cuGraphCreate, (handle *, unsigned), &made->of.graph, 0) != 0;
    failed += CALL(cuGraphAddEmptyNode, (handle *, handle, handle *, size_t), &node, made->of.graph, NULL, 0) != 0;
    failed += CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &made->of.exec, made->of.graph, 0) != 0;
    flat_array shape = {64, 1, 0x20, 1};
    failed += CALL(cuArrayCreate_v2, (handle *, flat_array *), &made->of.array, &shape) != 0;
    failed += CALL(cuDeviceGetDefaultMemPool, (handle *, int), &made->of.pool, 0) != 0;
    physical_kind kind = {1, 0, 1, 0, {0, 0}};
    access_kind access = {1, 0, 3};
    failed += CALL(cuMemCreate, (uint64_t *, size_t, void *, uint64_t), &made->of.physical, GRANULE, &kind, 0) != 0;
    failed += CALL(cuMemAddressReserve, (ptr *, size_t, size_t, ptr, uint64_t), &made->of.mapped, GRANULE, 0, 0, 0) != 0;
    failed += CALL(cuMemMap, (ptr, size_t, size_t, uint64_t, uint64_t), made->of.mapped, GRANULE, 0, made->of.physical, 0) != 0;
    failed += CALL(cuMemSetAccess, (ptr, size_t, void *, size_t), made->of.mapped, GRANULE, &access, 1) != 0;
    uint64_t resource[18] = {0}, sampling[16] = {0};
    resource[1] = (uint64_t)(uintptr_t)made->of.array;
    failed += CALL(cuTexObjectCreate, (uint64_t *, void *, void *, void *), &made->of.texture, resource, sampling, NULL) != 0;
    failed += CALL(cuMemAlloc_v2, (ptr *, size_t), &made->of.memory, BYTES) != 0;
    failed += CALL(cuMemAllocManaged, (ptr *, size_t, unsigned), &made->of.managed, BYTES, 1) != 0;
    failed += CALL(cuMemAllocAsync, (ptr *, size_t, handle), &made->of.ordered, BYTES, made->of.stream) != 0;
    for (ptr *at = &made->of.memory; at <= &made->of.ordered; at++)
        if (at != &made->of.variable) failed += CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), *at, 7, 16) != 0;
    failed += CALL(cuIpcGetMemHandle, (token *, ptr), &offer->memory, made->of.memory) != 0;
    failed += CALL(cuIpcGetEventHandle, (token *, handle), &offer->event, made->of.event) != 0;
    failed += CALL(cuCtxSynchronize, (void)) != 0;
    return failed;
}

/* Whether everything is there, and as it was made. */
static int check(const struct offer *offer) {
    const union names *made = &offer->names;
    flat_array shape;
    uint64_t resource[18];
    handle found = NULL, current = NULL, exec = NULL;
    int failed = CALL(cuCtxPushCurrent_v2, (handle), made->of.context) != 0;
    failed += CALL(cuCtxPopCurrent_v2, (handle *), &current) != 0 || current != made->of.context;
    failed += CALL(cuStreamQuery, (handle), made->of.stream) != 0;
    failed += CALL(cuEventQuery, (handle), made->of.event) != 0;
    for (const ptr *at = &made->of.memory; at <= &made->of.ordered; at++) failed += word(*at) != 7;
    failed += CALL(cuModuleGetFunction, (handle *, handle, const char *), &found, made->of.module, "twice") != 0;
    failed += launch(made->of.function, made->of.stream, made->of.memory) != 0;
    failed += CALL(cuStreamSynchronize, (handle), made->of.stream) != 0 || word(made->of.memory) != 14;
    failed += CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), made->of.memory, 7, 1) != 0;
    failed += CALL(cuLibraryGetKernel, (handle *, handle, const char *), &found, made->of.library, "twice") != 0;
    failed += CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &exec, made->of.graph, 0) != 0;
    failed += CALL(cuGraphLaunch, (handle, handle), made->of.exec, made->of.stream) != 0;
    failed += CALL(cuArrayGetDescriptor_v2, (flat_array *, handle), &shape, made->of.array) != 0;
    failed += CALL(cuTexObjectGetResourceDesc, (void *, uint64_t), resource, made->of.texture) != 0;
    failed += CALL(cuCtxSynchronize, (void)) != 0;
    return failed;
}

static int tried, odd;

/* None may be as if it were one's own; and what is refused is refused by an error that says so. */
static void judge(const char *name, int code) {
    tried++;
    if (code == 1 || code == 201 || code == 400 || code == 500) return;
    odd++;
    printf("%s %d\n", name, code);
}
#define TRY(name, types, ...) judge(#name, CALL(name, types, __VA_ARGS__))

static void with_address(ptr at) {
    unsigned value = 0;
    uint64_t many = 0;
    size_t bytes = 0;
    ptr base = 0;
    token out;
    TRY(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, at, 4);
    TRY(cuMemcpyHtoD_v2, (ptr, void *, size_t), at, &value, 4);
    TRY(cuMemcpyDtoD_v2, (ptr, ptr, size_t), at, at + 64, 4);
    TRY(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), &value, at, 4, NULL);
    TRY(cuMemcpyPeer, (ptr, handle, ptr, handle, size_t), at, context, at + 64, context, 4);
    TRY(cuMemsetD8_v2, (ptr, unsigned char, size_t), at, 1, 4);
    TRY(cuMemsetD32Async, (ptr, unsigned, size_t, handle), at, 1, 1, NULL);
    TRY(cuMemGetAddressRange_v2, (ptr *, size_t *, ptr), &base, &bytes, at);
    TRY(cuPointerGetAttribute, (void *, unsigned, ptr), &many, 1, at);
    TRY(cuMemFree_v2, (ptr), at);
    TRY(cuMemFreeAsync, (ptr, handle), at, NULL);
    TRY(cuMemUnmap, (ptr, size_t), at, GRANULE);
    TRY(cuMemAddressFree, (ptr, size_t), at, GRANULE);
    TRY(cuMemRetainAllocationHandle, (uint64_t *, ptr), &many, at);
    TRY(cuIpcGetMemHandle, (token *, ptr), &out, at);
    TRY(cuIpcCloseMemHandle, (ptr), at);
    TRY(cuStreamWriteValue32_v2, (handle, ptr, unsigned, unsigned), NULL, at, 1, 0);
}

/* A handle as one of each kind. */
static void with_handle(handle it) {
    handle found = NULL;
    int number = 0;
    unsigned flags = 0;
    size_t bytes = 0;
    ptr base = 0;
    token out;
    flat_array shape;
    uint64_t resource[18], physical[4];
    TRY(cuCtxSetCurrent, (handle), it);
    TRY(cuCtxPushCurrent_v2, (handle), it);
    TRY(cuCtxDestroy_v2, (handle), it);
    TRY(cuStreamQuery, (handle), it);
    TRY(cuStreamSynchronize, (handle), it);
    TRY(cuStreamGetFlags, (handle, unsigned *), it, &flags);
    TRY(cuStreamDestroy_v2, (handle), it);
    TRY(cuStreamBeginCapture_v2, (handle, unsigned), it, 0);
    TRY(cuEventQuery, (handle), it);
    TRY(cuEventSynchronize, (handle), it);
    TRY(cuEventRecord, (handle, handle), it, NULL);
    TRY(cuStreamWaitEvent, (handle, handle, unsigned), NULL, it, 0);
    TRY(cuIpcGetEventHandle, (token *, handle), &out, it);
    TRY(cuEventDestroy_v2, (handle), it);
    TRY(cuModuleGetFunction, (handle *, handle, const char *), &found, it, "twice");
    TRY(cuModuleGetGlobal_v2, (ptr *, size_t *, handle, const char *), &base, &bytes, it, "variable");
    TRY(cuModuleUnload, (handle), it);
    TRY(cuFuncGetAttribute, (int *, unsigned, handle), &number, 0, it);
    judge("cuLaunchKernel", launch(it, NULL, 4096));
    TRY(cuLibraryGetKernel, (handle *, handle, const char *), &found, it, "twice");
    TRY(cuLibraryGetModule, (handle *, handle), &found, it);
    TRY(cuLibraryUnload, (handle), it);
    TRY(cuKernelGetFunction, (handle *, handle), &found, it);
    TRY(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &found, it, 0);
    TRY(cuGraphClone, (handle *, handle), &found, it);
    TRY(cuGraphDestroy, (handle), it);
    TRY(cuGraphLaunch, (handle, handle), it, NULL);
    TRY(cuGraphExecDestroy, (handle), it);
    TRY(cuArrayGetDescriptor_v2, (flat_array *, handle), &shape, it);
    TRY(cuMemcpyAtoH_v2, (void *, handle, size_t, size_t), resource, it, 0, 4);
    TRY(cuArrayDestroy, (handle), it);
    TRY(cuTexObjectGetResourceDesc, (void *, uint64_t), resource, (uint64_t)(uintptr_t)it);
    TRY(cuTexObjectDestroy, (uint64_t), (uint64_t)(uintptr_t)it);
    TRY(cuMemGetAllocationPropertiesFromHandle, (void *, uint64_t), physical, (uint64_t)(uintptr_t)it);
    TRY(cuMemRelease, (uint64_t), (uint64_t)(uintptr_t)it);
}

static void with_tokens(const struct offer *offer, unsigned first) {
    /* What they say themselves, and the same secret as if it were another session's. */
    for (unsigned other = first; other <= 32; other++) {
        token memory = offer->memory, event = offer->event;
        ptr at = 0;
        handle opened = NULL;
        if (other) memory.bytes[8] = event.bytes[8] = (unsigned char)other;
        TRY(cuIpcOpenMemHandle_v2, (ptr *, token, unsigned), &at, memory, 1);
        TRY(cuIpcOpenEventHandle, (handle *, token), &opened, event);
    }
}

/* The names that a pool's handle has are the same everywhere: the default one is each session's own. */
static int is_ones_own(uint64_t word) {
    handle pool = NULL;
    CALL(cuDeviceGetDefaultMemPool, (handle *, int), &pool, 0);
    return word == (uint64_t)(uintptr_t)pool || word == (uint64_t)(uintptr_t)context;
}

static void hex(const char *name, const void *bytes, size_t count) {
    printf("%s ", name);
    for (size_t i = 0; i < count; i++) printf("%02x", ((const unsigned char *)bytes)[i]);
    printf("\n");
    fflush(stdout);
}
static int unhex(const char *text, void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (sscanf(text + 2 * i, "%2hhx", (unsigned char *)bytes + i) != 1) return 0;
    return 1;
}

int main(int argc, char **argv) {
    struct offer offer;
    char line[2 * sizeof offer + 16];
    memset(&offer, 0, sizeof offer);
    load();
    if (CALL(cuInit, (unsigned), 0) || CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0)) return 2;
    if (argc == 1) {
        int failed = make(&offer);
        if (failed) return 10 + failed;
        hex("made", &offer, sizeof offer);
        while (fgets(line, sizeof line, stdin)) {
            printf("check %d\n", check(&offer));
            fflush(stdout);
        }
        return 0;
    }
    if (!unhex(argv[2], &offer, sizeof offer)) return 3;
    if (!strcmp(argv[1], "friend")) {
        /* One of the same tenant's: handles are for it, too. */
        ptr at = 0;
        handle event = NULL;
        int code = CALL(cuIpcOpenMemHandle_v2, (ptr *, token, unsigned), &at, offer.memory, 1);
        if (!code) code = word(at) == 7 ? CALL(cuIpcOpenEventHandle, (handle *, token), &event, offer.event) : -1;
        /* Its addresses and numbers may be those of something else there. */
        if (!code) code = CALL(cuIpcCloseMemHandle, (ptr), at);
        if (!code) code = CALL(cuEventDestroy_v2, (handle), event);
        printf("opened %d\n", code);
    }
    with_tokens(&offer, strcmp(argv[1], "friend") ? 0 : 33);
    for (int i = 0; i < NAMES; i++) {
        if (is_ones_own(offer.names.words[i])) continue;
        with_handle((handle)(uintptr_t)offer.names.words[i]);
        with_address(offer.names.words[i]);
    }
    printf("tried %d odd %d\n", tried, odd);
    /* A kernel that reads there reads its own process's addresses. */
    handle module = NULL, function = NULL;
    CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &function, module, "twice");
    CALL(cuCtxSynchronize, (void));
    launch(function, NULL, offer.names.of.mapped);
    printf("kernel %d\n", CALL(cuCtxSynchronize, (void)));
    return 0;
}
