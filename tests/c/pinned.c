/* Pinned memory in kernels, copies, fills and graphs: each line is a fact that must be the same on a driver and through the remoting. With the
   argument `talk` a kernel and the program also use it at the same time, which takes a server on the same host. */
#include <sched.h>
#include <string.h>
#include <time.h>

#include "by_name.h"

#define SAY(fact, value) printf("%-52s %lld\n", fact, (long long)(value))

static const char *const code =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    /* Waits for the first word, answers in the second; waits for the third, answers in the fourth. */
    ".visible .entry answer(.param .u64 at) {\n"
    "  .reg .u64 %p;\n  .reg .u32 %w;\n  .reg .pred %none;\n"
    "  ld.param.u64 %p, [at];\n"
    "first:\n  ld.volatile.global.u32 %w, [%p];\n  setp.eq.u32 %none, %w, 0;\n  @%none bra first;\n"
    "  add.u32 %w, %w, 1;\n  st.volatile.global.u32 [%p+4], %w;\n"
    "second:\n  ld.volatile.global.u32 %w, [%p+8];\n  setp.eq.u32 %none, %w, 0;\n  @%none bra second;\n"
    "  add.u32 %w, %w, 1;\n  st.volatile.global.u32 [%p+12], %w;\n  ret;\n}\n"
    ".visible .entry add(.param .u64 at, .param .u32 by) {\n"
    "  .reg .u64 %p, %o;\n  .reg .u32 %w, %b;\n"
    "  ld.param.u64 %p, [at];\n  ld.param.u32 %b, [by];\n"
    "  mov.u32 %w, %tid.x;\n  mul.wide.u32 %o, %w, 4;\n  add.u64 %p, %p, %o;\n"
    "  ld.global.u32 %w, [%p];\n  add.u32 %w, %w, %b;\n  st.global.u32 [%p], %w;\n  ret;\n}\n";

enum { WORDS = 256, BYTES = 4 * WORDS };
static handle stream, answer, add;
static ptr device;

static void launch(handle function, void **params, unsigned threads) {
    SAY("  cuLaunchKernel",
        CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), function, 1, 1, 1,
             threads, 1, 1, 0, stream, params, NULL));
}

/* Until the word is no longer 0, or too long. */
static unsigned await(volatile unsigned *word) {
    for (time_t end = time(NULL) + 60; !*word && time(NULL) < end;) sched_yield();
    return *word;
}

static void talk(volatile unsigned *words) {
    memset((void *)words, 0, BYTES);
    launch(answer, (void *[]){&words}, 1);
    words[0] = 41;
    SAY("  the kernel has seen it", await(words + 1));
    SAY("  cuStreamQuery", CALL(cuStreamQuery, (handle), stream));
    words[2] = 6;
    SAY("  cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  its last word", words[3]);
}

static unsigned sum(const unsigned *words) {
    unsigned sum = 0;
    for (int i = 0; i < WORDS; i++) sum += words[i];
    return sum;
}

static void set(unsigned *words, unsigned value) {
    for (int i = 0; i < WORDS; i++) words[i] = value;
}

static void copies(unsigned *words) {
    static unsigned out[WORDS];
    int wrong = 0;
    for (unsigned round = 1; round <= 200; round++) {
        set(words, round);
        if (CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), device, words, BYTES)) wrong++;
        /* The call is over, so this changes nothing of what was copied. */
        set(words, 0);
        CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), out, device, BYTES);
        wrong += sum(out) != round * WORDS;
        CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), words, device, BYTES);
        wrong += sum(words) != round * WORDS;
    }
    SAY("  wrong synchronous copies", wrong);
    set(words, 5);
    unsigned by = 3;
    launch(add, (void *[]){&words, &by}, WORDS);
    /* Behind the kernel, which the program has not waited for. */
    SAY("  cuMemcpyHtoDAsync", CALL(cuMemcpyHtoDAsync_v2, (ptr, const void *, size_t, handle), device, words, BYTES, stream));
    launch(add, (void *[]){&device, &by}, WORDS);
    SAY("  cuMemcpyDtoHAsync", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), words, device, BYTES, stream));
    SAY("  cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  sum", sum(words));
    SAY("  cuMemsetD32", CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), (ptr)(uintptr_t)words, 9, WORDS));
    SAY("  sum", sum(words));
    set(out, 2);
    SAY("  cuMemcpy from pageable memory", CALL(cuMemcpy, (ptr, ptr, size_t), (ptr)(uintptr_t)words, (ptr)(uintptr_t)out, BYTES));
    SAY("  sum", sum(words));
    SAY("  cuMemcpyDtoD within it", CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), (ptr)(uintptr_t)(words + WORDS), (ptr)(uintptr_t)words, BYTES));
    SAY("  sum", sum(words + WORDS));
    SAY("  cuMemcpyHtoD past the end", CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), device, words, 64 * BYTES));
}

/* With CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL the source is the program's again when the call is over. */
static void read_at_once(unsigned *words) {
    struct { unsigned order; int src[2], dst[2]; unsigned flags; } hints = {2, {0}, {0}, 0};
    static unsigned out[WORDS];
    ptr to = device, from = (ptr)(uintptr_t)words;
    size_t bytes = BYTES, place = 0, failed = 0;
    int wrong = 0;
    for (unsigned round = 1; round <= 100; round++) {
        set(words, round);
        if (round & 1) wrong += CALL(cuMemcpyBatchAsync, (ptr *, ptr *, size_t *, size_t, void *, size_t *, size_t, size_t *, handle), &to, &from, &bytes, 1, &hints, &place, 1, &failed, stream) != 0;
        else wrong += CALL(cuMemcpyWithAttributesAsync, (ptr, ptr, size_t, void *, handle), to, from, bytes, &hints, stream) != 0;
        set(words, 0);
        CALL(cuStreamSynchronize, (handle), stream);
        CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), out, device, BYTES);
        wrong += sum(out) != round * WORDS;
    }
    SAY("  wrong copies that read at once", wrong);
}

/* A node of a copy to the host, and a kernel behind it that uses what it brought. */
static void behind_a_node(unsigned *words) {
    struct { size_t sx, sy, sz, slod; int stype; const void *shost; ptr sdev; handle sarray, s0; size_t spitch, sheight, dx, dy, dz, dlod; int dtype; void *dhost; ptr ddev; handle darray, d0; size_t dpitch, dheight, width, height, depth; } copy, told;
    handle graph = NULL, exec = NULL, node = NULL;
    unsigned by = 1;
    memset(&copy, 0, sizeof copy);
    copy.stype = 2, copy.sdev = device, copy.dtype = 1, copy.dhost = words, copy.width = BYTES, copy.height = copy.depth = 1;
    CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), device, 20, WORDS);
    set(words, 0);
    CALL(cuGraphCreate, (handle *, unsigned), &graph, 0);
    SAY("  cuGraphAddMemcpyNode", CALL(cuGraphAddMemcpyNode, (handle *, handle, const handle *, size_t, const void *, handle), &node, graph, NULL, 0, &copy, NULL));
    SAY("  cuGraphMemcpyNodeGetParams", CALL(cuGraphMemcpyNodeGetParams, (handle, void *), node, &told));
    SAY("  to the host", told.dtype == 1 && told.dhost == words && told.stype == 2 && told.sdev == device);
    SAY("  cuGraphInstantiate", CALL(cuGraphInstantiateWithFlags, (handle *, handle, unsigned long long), &exec, graph, 0));
    SAY("  cuGraphLaunch", CALL(cuGraphLaunch, (handle, handle), exec, stream));
    launch(add, (void *[]){&words, &by}, WORDS);
    CALL(cuStreamSynchronize, (handle), stream);
    SAY("  sum", sum(words));
    CALL(cuGraphExecDestroy, (handle), exec);
    CALL(cuGraphDestroy, (handle), graph);
}

/* A graph that reads what it wrote with its last launch, or that has two places. */
static void captured(unsigned *words, unsigned *results) {
    handle graph = NULL, exec = NULL;
    unsigned by = 10;
    set(words, 1);
    SAY("  cuStreamBeginCapture", CALL(cuStreamBeginCapture_v2, (handle, int), stream, 0));
    CALL(cuMemcpyHtoDAsync_v2, (ptr, const void *, size_t, handle), device, words, BYTES, stream);
    launch(add, (void *[]){&device, &by}, WORDS);
    CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), results, device, BYTES, stream);
    SAY("  cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), stream, &graph));
    SAY("  cuGraphInstantiate", CALL(cuGraphInstantiateWithFlags, (handle *, handle, unsigned long long), &exec, graph, 0));
    for (int round = 0; round < 3; round++) {
        CALL(cuGraphLaunch, (handle, handle), exec, stream);
        CALL(cuStreamSynchronize, (handle), stream);
        SAY("  sum", sum(results));
    }
    words[0] += 100;
    CALL(cuGraphLaunch, (handle, handle), exec, stream);
    CALL(cuStreamSynchronize, (handle), stream);
    SAY("  sum", sum(results));
    CALL(cuGraphExecDestroy, (handle), exec);
    CALL(cuGraphDestroy, (handle), graph);
}

int main(int argc, char **argv) {
    int talks = argc > 1 && !strcmp(argv[1], "talk");
    handle context, module;
    unsigned *words = NULL;
    load();
    SAY("cuInit", CALL(cuInit, (unsigned), 0));
    SAY("cuDevicePrimaryCtxRetain", CALL(cuDevicePrimaryCtxRetain, (handle *, int), &context, 0));
    SAY("cuCtxSetCurrent", CALL(cuCtxSetCurrent, (handle), context));
    SAY("cuModuleLoadData", CALL(cuModuleLoadData, (handle *, const void *), &module, code));
    SAY("cuModuleGetFunction", CALL(cuModuleGetFunction, (handle *, handle, const char *), &answer, module, "answer"));
    SAY("cuModuleGetFunction", CALL(cuModuleGetFunction, (handle *, handle, const char *), &add, module, "add"));
    SAY("cuStreamCreate", CALL(cuStreamCreate, (handle *, unsigned), &stream, 1));
    SAY("cuMemAlloc", CALL(cuMemAlloc_v2, (ptr *, size_t), &device, BYTES));
    for (unsigned flags = 0; flags < 4; flags++) {
        printf("cuMemHostAlloc, flags %u\n", flags);
        SAY("  cuMemHostAlloc", CALL(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&words, 2 * BYTES, flags));
        ptr there = 0;
        unsigned known = 0;
        SAY("  cuMemHostGetDevicePointer", CALL(cuMemHostGetDevicePointer_v2, (ptr *, void *, unsigned), &there, words + 3, 0));
        SAY("  it is the same", there == (ptr)(uintptr_t)(words + 3));
        SAY("  cuMemHostGetFlags", CALL(cuMemHostGetFlags, (unsigned *, void *), &known, words));
        SAY("  flags", known);
        if (talks) talk(words);
        copies(words);
        read_at_once(words);
        if (talks) behind_a_node(words);
        captured(words, words + WORDS);
        if (talks) captured(words, words);
        SAY("  cuMemFreeHost", CALL(cuMemFreeHost, (void *), words));
    }
    /* With its context pinned memory is gone, and another has its own; large copies of pageable memory go on. */
    enum { LARGE = 3 << 20 };
    char *large = malloc(LARGE), *back = malloc(LARGE);
    memset(large, 7, LARGE);
    for (int round = 0; round < 3; round++) {
        handle own = NULL;
        ptr room = 0;
        SAY("cuCtxCreate", CALL(cuCtxCreate_v2, (handle *, unsigned, int), &own, 0, 0));
        CALL(cuMemAlloc_v2, (ptr *, size_t), &room, LARGE);
        memset(back, 0, LARGE);
        SAY("  large copy in", CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), room, large, LARGE));
        SAY("  and out", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, room, LARGE));
        SAY("  the same", !memcmp(large, back, LARGE));
        SAY("  cuMemHostAlloc", CALL(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&words, 2 * BYTES, 0));
        set(words, 4);
        SAY("  cuMemcpyHtoD", CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), room, words, BYTES));
        if (round == 1) SAY("  cuMemFreeHost", CALL(cuMemFreeHost, (void *), words));
        if (round == 2) {
            /* In no context. */
            CALL(cuCtxPopCurrent_v2, (handle *), &own);
            CALL(cuCtxSetCurrent, (handle), NULL);
            SAY("  cuMemFreeHost without a context", CALL(cuMemFreeHost, (void *), words));
            CALL(cuCtxSetCurrent, (handle), own);
        }
        SAY("cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), own));
        if (round == 0) SAY("  cuMemFreeHost of what is gone", CALL(cuMemFreeHost, (void *), words));
    }
    CALL(cuCtxSetCurrent, (handle), context);
    free(large), free(back);
    /* Freed and made again, many at once, of sizes that share no page. */
    void *many[64] = {0};
    int failed = 0;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 64; i++) failed += CALL(cuMemAllocHost_v2, (void **, size_t), &many[i], 1 + 3000 * i) != 0;
        for (int i = 0; i < 64; i++) memset(many[i], i, 1 + 3000 * i);
        for (int i = 0; i < 64; i++) failed += CALL(cuMemFreeHost, (void *), many[i]) != 0;
    }
    SAY("cuMemAllocHost and cuMemFreeHost that failed", failed);
    SAY("cuMemHostAlloc(1 PiB)", CALL(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&words, 1ul << 50, 0));
    SAY("cuMemFree", CALL(cuMemFree_v2, (ptr), device));
    SAY("cuDevicePrimaryCtxRelease", CALL(cuDevicePrimaryCtxRelease_v2, (int), 0));
    return 0;
}
