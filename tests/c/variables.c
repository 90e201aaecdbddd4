/* Variables that host and device share, of modules and of libraries: each line is a fact and what the driver says of it. With an argument: what
   becomes of them where the program has something of its own at all addresses that softgpu gives. */
#include "by_name.h"
#include <string.h>
#include <sys/mman.h>

#define SAY(fact, value) printf("%-58s %lld\n", fact, (long long)(value))
enum { COUNT = 3000 };

/* step(): counter += own; list[0] += counter; list[COUNT - 1] = counter; list[1] += 1000 by where; late += 1. */
static const char *PTX =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .global .align 4 .u32 own = 5;\n"
    ".visible .global .attribute(.managed) .align 4 .u32 counter = 40;\n"
    ".visible .global .attribute(.managed) .align 4 .u32 list[3000] = {1, 2, 3};\n"
    ".visible .global .attribute(.managed) .align 8 .u64 where = generic(list) + 4;\n"
    ".visible .global .attribute(.managed) .align 4 .u32 late;\n"
    ".visible .entry step() {\n"
    "  .reg .b32 %r<6>; .reg .b64 %d;\n"
    "  ld.global.u32 %r0, [own]; ld.global.u32 %r1, [counter]; add.u32 %r1, %r1, %r0; st.global.u32 [counter], %r1;\n"
    "  ld.global.u32 %r2, [list]; add.u32 %r2, %r2, %r1; st.global.u32 [list], %r2; st.global.u32 [list+11996], %r1;\n"
    "  ld.global.u64 %d, [where]; ld.u32 %r3, [%d]; add.u32 %r3, %r3, 1000; st.u32 [%d], %r3;\n"
    "  ld.global.u32 %r4, [late]; add.u32 %r4, %r4, 1; st.global.u32 [late], %r4; ret;\n}\n";

static int launch(handle function, handle stream) {
    return CALL(cuLaunchKernel,
                (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), function, 1,
                1, 1, 1, 1, 1, 0, stream, NULL, NULL);
}
static int finish(void) { return CALL(cuCtxSynchronize, (void)); }
static int find(handle module, const char *name, void *address, size_t *size) {
    return CALL(cuModuleGetGlobal_v2, (ptr *, size_t *, handle, const char *), address, size, module, name);
}
static int find_managed(handle library, const char *name, void *address, size_t *size) {
    return CALL(cuLibraryGetManaged, (ptr *, size_t *, handle, const char *), address, size, library, name);
}
static uint64_t ask(int attribute, const void *address) {
    uint64_t value = 0;
    int code = CALL(cuPointerGetAttribute, (void *, int, ptr), &value, attribute, (ptr)(uintptr_t)address);
    return code ? (uint64_t)-code : value;
}

static void of_a_module(handle context) {
    handle module = NULL, twin = NULL, step = NULL, stream = NULL, graph = NULL, exec = NULL;
    unsigned *counter = NULL, *list = NULL, *late = NULL, *other = NULL, value = 0;
    void *own = NULL, **where = NULL;
    size_t size = 0;
    CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &step, module, "step");
    SAY("cuModuleGetGlobal", find(module, "own", &own, NULL));
    SAY("cuModuleGetGlobal(managed)", find(module, "counter", &counter, &size));
    SAY("  bytes", size);
    SAY("cuModuleGetGlobal(list)", find(module, "list", &list, &size));
    SAY("  bytes", size);
    find(module, "where", &where, NULL);
    SAY("  values at first", *counter * 10000 + list[0] * 1000 + list[1] * 100 + list[2] * 10 + list[COUNT - 1]);
    SAY("  a pointer", *where == &list[1]);
    SAY("  IS_MANAGED", ask(8, counter) * 10 + ask(8, own));
    SAY("  MEMORY_TYPE", ask(2, counter));
    SAY("  HOST_POINTER", ask(4, &list[7]) == (uintptr_t)&list[7]);
    SAY("  HOST_POINTER of one that is not", ask(4, own));
    SAY("  CONTEXT", ask(1, counter) == (uintptr_t)context);
    SAY("  RANGE_START_ADDR", ask(11, &list[9]) == (uintptr_t)list);
    SAY("  RANGE_SIZE", ask(12, &list[9]));
    SAY("  MEMPOOL_HANDLE", ask(17, list));
    SAY("  IS_LEGACY_CUDA_IPC_CAPABLE", ask(10, own));

    *counter = 100, list[2] = 33;
    SAY("cuLaunchKernel", launch(step, NULL));
    finish();
    SAY("  what the kernel has seen", *counter);
    SAY("  what it has written", list[0] + list[1] + list[COUNT - 1]);
    SAY("  what the host wrote is still there", list[2]);
    for (int i = 0; i < 20; i++) list[0] = 0, launch(step, NULL), finish();
    SAY("  after 20 more", list[0]);
    value = 7;
    SAY("cuMemcpyHtoD", CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), (ptr)(uintptr_t)counter, &value, 4));
    SAY("  the host sees it", *counter);
    *counter = 8;
    SAY("cuMemcpyDtoH", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, (ptr)(uintptr_t)counter, 4));
    SAY("  it has what the host wrote", value);
    SAY("cuMemsetD32", CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), (ptr)(uintptr_t)list, 9, COUNT));
    finish();
    SAY("  the host sees it", list[0] + list[COUNT - 1]);
    SAY("cuMemcpyHtoD past the end", CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), (ptr)(uintptr_t)counter, list, 8));

    SAY("cuStreamAttachMemAsync", CALL(cuStreamAttachMemAsync, (handle, ptr, size_t, unsigned), NULL, (ptr)(uintptr_t)counter, 0, 1));
    SAY("cuStreamAttachMemAsync(not managed)", CALL(cuStreamAttachMemAsync, (handle, ptr, size_t, unsigned), NULL, (ptr)(uintptr_t)own, 0, 1));
    SAY("cuMemAdvise", CALL(cuMemAdvise, (ptr, size_t, int, int), (ptr)(uintptr_t)list, sizeof *list * COUNT, 1, 0));
    SAY("cuMemAdvise(not managed)", CALL(cuMemAdvise, (ptr, size_t, int, int), (ptr)(uintptr_t)own, 4, 1, 0));
    SAY("cuMemPrefetchAsync", CALL(cuMemPrefetchAsync, (ptr, size_t, int, handle), (ptr)(uintptr_t)list, 4096, 0, NULL));
    SAY("cuMemFree", CALL(cuMemFree_v2, (ptr), (ptr)(uintptr_t)counter));
    SAY("cuMemFree(not managed)", CALL(cuMemFree_v2, (ptr), (ptr)(uintptr_t)own));
    SAY("cuMemFreeAsync", CALL(cuMemFreeAsync, (ptr, handle), (ptr)(uintptr_t)counter, NULL));

    /* Asked for while a stream captures, and used by the graph. */
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    CALL(cuStreamBeginCapture_v2, (handle, int), stream, 0);
    SAY("cuModuleGetGlobal in a capture", find(module, "late", &late, NULL));
    SAY("  value, which the kernels have changed", *late);
    launch(step, stream);
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), stream, &graph));
    CALL(cuGraphInstantiateWithFlags, (handle *, handle, unsigned long long), &exec, graph, 0);
    *late = 500;
    for (int i = 0; i < 2; i++) {
        CALL(cuGraphLaunch, (handle, handle), exec, stream);
        CALL(cuStreamSynchronize, (handle), stream);
    }
    SAY("  after the graph", *late * 100 + *counter);
    CALL(cuGraphExecDestroy, (handle), exec);
    CALL(cuGraphDestroy, (handle), graph);
    CALL(cuStreamDestroy_v2, (handle), stream);

    CALL(cuModuleLoadData, (handle *, const void *), &twin, PTX);
    find(twin, "counter", &other, NULL);
    SAY("another module has its own", other != counter && *other == 40);
    SAY("cuModuleUnload", CALL(cuModuleUnload, (handle), module));
    SAY("  its variable is nobody's", ask(8, counter));
    SAY("  the other's is there", *other + ask(8, other));
    CALL(cuModuleUnload, (handle), twin);
    CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    find(module, "counter", &counter, NULL);
    SAY("loaded again it begins anew", *counter);
    CALL(cuModuleUnload, (handle), module);
}

static void of_a_library(handle first) {
    handle library = NULL, kernel = NULL, second = NULL, module = NULL, popped = NULL;
    unsigned *counter = NULL, *list = NULL, *again = NULL;
    void *own = NULL, *other = NULL;
    size_t size = 0;
    CALL(cuCtxPopCurrent_v2, (handle *), &popped);
    CALL(cuLibraryLoadData, (handle *, const void *, unsigned *, void **, unsigned, unsigned *, void **, unsigned), &library, PTX, NULL, NULL, 0, NULL, NULL, 0);
    CALL(cuLibraryGetKernel, (handle *, handle, const char *), &kernel, library, "step");
    SAY("cuLibraryGetManaged in no context", find_managed(library, "counter", &counter, &size));
    CALL(cuCtxPushCurrent_v2, (handle), first);
    SAY("cuLibraryGetManaged", find_managed(library, "counter", &counter, &size));
    SAY("  bytes", size);
    SAY("  value", *counter);
    SAY("  IS_MANAGED", ask(8, counter));
    SAY("  CONTEXT", ask(1, counter));
    SAY("  DEVICE_ORDINAL", ask(9, counter));
    SAY("cuLibraryGetManaged(no address)", find_managed(library, "list", NULL, &size));
    SAY("  bytes", size);
    SAY("cuLibraryGetManaged(no size)", find_managed(library, "list", &list, NULL));
    SAY("cuLibraryGetManaged(neither)", find_managed(library, "list", NULL, NULL));
    SAY("cuLibraryGetManaged(not managed)", find_managed(library, "own", &own, NULL));
    SAY("cuLibraryGetManaged(absent)", find_managed(library, "absent", &own, NULL));
    SAY("cuLibraryGetManaged(no library)", find_managed((handle)0x123450, "list", &own, NULL));
    SAY("cuLibraryGetGlobal", CALL(cuLibraryGetGlobal, (ptr *, size_t *, handle, const char *), (ptr *)&own, NULL, library, "own"));
    SAY("cuLibraryGetGlobal(managed)", CALL(cuLibraryGetGlobal, (ptr *, size_t *, handle, const char *), (ptr *)&again, &size, library, "counter"));
    SAY("  the same", again == counter);
    SAY("cuLaunchKernel", launch(kernel, NULL));
    finish();
    SAY("  seen", *counter * 100 + list[0]);

    /* One for all devices; what is not managed is each context's own. */
    SAY("cuCtxCreate on device 1", CALL(cuCtxCreate_v2, (handle *, unsigned, int), &second, 0, 1));
    *counter = 60;
    SAY("cuLaunchKernel there", launch(kernel, NULL));
    finish();
    SAY("  seen", *counter);
    CALL(cuLibraryGetModule, (handle *, handle), &module, library);
    find(module, "counter", &again, NULL);
    SAY("  the same there", again == counter);
    find(module, "own", &other, NULL);
    SAY("  another of its own", other != own);
    SAY("  DEVICE_ORDINAL", ask(9, counter) * 10 + ask(9, other));
    CALL(cuCtxDestroy_v2, (handle), second);
    CALL(cuCtxSetCurrent, (handle), first);
    SAY("  it outlives that context", ask(8, counter) * 1000 + *counter);
    launch(kernel, NULL);
    finish();
    SAY("  and goes on", *counter);
    SAY("cuLibraryUnload", CALL(cuLibraryUnload, (handle), library));
    SAY("  its variable is nobody's", ask(8, counter));
    SAY("cuLibraryGetManaged afterwards", find_managed(library, "counter", &counter, NULL));
}

static void where_it_is_taken(void) {
    handle module = NULL, step = NULL, library = NULL;
    ptr own = 0, counter = 0;
    unsigned value = 0;
    CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &step, module, "step");
    SAY("cuModuleGetGlobal", find(module, "own", &own, NULL));
    SAY("cuModuleGetGlobal(managed)", find(module, "counter", &counter, NULL));
    SAY("  nothing is told", counter == 0);
    SAY("cuLaunchKernel", launch(step, NULL));
    SAY("cuCtxSynchronize", finish());
    SAY("cuMemcpyDtoH", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, own, 4));
    SAY("  the other variable", value);
    CALL(cuLibraryLoadData, (handle *, const void *, unsigned *, void **, unsigned, unsigned *, void **, unsigned), &library, PTX, NULL, NULL, 0, NULL, NULL, 0);
    SAY("cuLibraryGetManaged", find_managed(library, "counter", &counter, NULL));
    SAY("cuLibraryUnload", CALL(cuLibraryUnload, (handle), library));
    SAY("cuModuleUnload", CALL(cuModuleUnload, (handle), module));
}

int main(int count, char **words) {
    handle context = NULL;
    const size_t window = (size_t)1 << 39;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    if (count > 1) SAY("taken", mmap((void *)((size_t)1 << 45), window, PROT_NONE, flags, -1, 0) == (void *)((size_t)1 << 45));
    load();
    CALL(cuInit, (unsigned), 0);
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    if (count > 1) {
        where_it_is_taken();
    } else {
        of_a_module(context);
        of_a_library(context);
    }
    SAY("cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), context));
    (void)words;
    return 0;
}
