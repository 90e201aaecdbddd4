/* A function: loads its code and its weights, and works on frames. Both follow from seeds, so that another process has the same or others.
   Arguments: seed of the weights, KiB of them, seed of the frames, count of frames. Says "right" if the device has had what it was given. */
#include "by_name.h"
#include <string.h>
#include <time.h>

static const char *PTX =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .entry add(.param .u64 to, .param .u64 from) {\n"
    "  .reg .u32 %r<6>; .reg .u64 %d<5>;\n"
    "  ld.param.u64 %d0, [to]; ld.param.u64 %d1, [from]; mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x;\n"
    "  mad.lo.u32 %r0, %r1, %r2, %r0; mul.wide.u32 %d2, %r0, 4; add.u64 %d3, %d0, %d2; add.u64 %d4, %d1, %d2;\n"
    "  ld.global.u32 %r3, [%d3]; ld.global.u32 %r4, [%d4]; add.u32 %r5, %r3, %r4; st.global.u32 [%d3], %r5; ret;\n}\n";

enum { FRAME = 16384 };

static void fill(uint32_t *words, size_t count, uint64_t seed) {
    for (size_t i = 0; i < count; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        words[i] = seed >> 33;
    }
}

static void must(int result, const char *what) {
    if (!result) return;
    printf("%s: %d\n", what, result);
    exit(1);
}

int main(int count, char **words) {
    uint64_t weights_seed = strtoull(words[1], 0, 0), frames_seed = strtoull(words[3], 0, 0);
    size_t bytes = strtoull(words[2], 0, 0) << 10, frames = strtoull(words[4], 0, 0);
    uint32_t *weights = malloc(bytes), *frame = malloc(FRAME), *back = malloc(bytes);
    fill(weights, bytes / 4, weights_seed);
    load();
    handle context, module, add;
    ptr to, from;
    must(CALL(cuInit, (unsigned), 0), "cuInit");
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    must(CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0), "cuCtxCreate");
    must(CALL(cuModuleLoadData, (handle *, const void *), &module, PTX), "cuModuleLoadData");
    must(CALL(cuModuleGetFunction, (handle *, handle, const char *), &add, module, "add"), "cuModuleGetFunction");
    must(CALL(cuMemAlloc_v2, (ptr *, size_t), &to, bytes), "cuMemAlloc");
    must(CALL(cuMemAlloc_v2, (ptr *, size_t), &from, FRAME), "cuMemAlloc");
    must(CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), to, weights, bytes), "cuMemcpyHtoD");
    must(CALL(cuCtxSynchronize, (void)), "cuCtxSynchronize");
    clock_gettime(CLOCK_MONOTONIC, &ended);
    for (size_t at = 0; at < frames; at++) {
        fill(frame, FRAME / 4, frames_seed + at);
        must(CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), from, frame, FRAME), "cuMemcpyHtoD");
        void *params[] = {&to, &from};
        must(CALL(cuLaunchKernel,
                  (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), add,
                  FRAME / 4 / 256, 1, 1, 256, 1, 1, 0, NULL, params, NULL),
             "cuLaunchKernel");
        for (size_t i = 0; i < FRAME / 4; i++) weights[i] += frame[i];
    }
    must(CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, to, bytes), "cuMemcpyDtoH");
    printf("%s %ld\n", memcmp(back, weights, bytes) ? "wrong" : "right",
           (ended.tv_sec - began.tv_sec) * 1000000 + (ended.tv_nsec - began.tv_nsec) / 1000);
    return 0;
}
