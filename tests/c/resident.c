/* A session with much memory that is told what to do with it: each word on stdin is one thing, each line on stdout what came of it. */
#include "by_name.h"
#include <string.h>
#include <unistd.h>

/* One word of each page. */
enum { PAGE = 4096, WORDS = PAGE / 4, THREADS = 64 };

static const char *PTX =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .entry more(.param .u64 data) {\n"
    "  .reg .u32 %r<6>; .reg .u64 %d<3>;\n"
    "  ld.param.u64 %d0, [data]; mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x;\n"
    "  mad.lo.u32 %r3, %r0, %r1, %r2; mul.wide.u32 %d1, %r3, 4096; add.u64 %d2, %d0, %d1;\n"
    "  ld.global.u32 %r4, [%d2]; add.u32 %r5, %r4, 1; st.global.u32 [%d2], %r5; ret;\n}\n";

static handle function;
static ptr data;
static size_t size;
/* Kernels that have run. */
static uint32_t rounds;

static uint32_t expected(size_t word, uint32_t seed) {
    uint32_t value = (uint32_t)word * 2654435761u + seed;
    return word % WORDS ? value : value + rounds;
}

static int take(unsigned mib, uint32_t seed) {
    size = (size_t)mib << 20;
    int result = CALL(cuMemAlloc_v2, (ptr *, size_t), &data, size);
    uint32_t *host = malloc(size);
    for (size_t i = 0; i < size / 4; i++) host[i] = expected(i, seed);
    if (!result) result = CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), data, host, size);
    free(host);
    return result;
}

/* So many kernels, each waited for, with pauses behind them. */
static int more(unsigned count, unsigned millis) {
    void *params[] = {&data};
    int result = 0;
    for (unsigned i = 0; !result && i < count; i++, rounds++) {
        result = CALL(cuLaunchKernel,
                      (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **),
                      function, size / PAGE / THREADS, 1, 1, THREADS, 1, 1, 0, NULL, params, NULL);
        if (!result) result = CALL(cuCtxSynchronize, (void));
        usleep(millis * 1000);
    }
    return result;
}

/* 0: every word is as it should be; -1: one is not. */
static int check(uint32_t seed) {
    uint32_t *host = malloc(size);
    int result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), host, data, size);
    for (size_t i = 0; !result && i < size / 4; i++)
        if (host[i] != expected(i, seed)) result = -1;
    free(host);
    return result;
}

int main(void) {
    load();
    handle context = NULL, module = NULL;
    int result = CALL(cuInit, (unsigned), 0);
    if (!result) result = CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    if (!result) result = CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    if (!result) result = CALL(cuModuleGetFunction, (handle *, handle, const char *), &function, module, "more");
    printf("ready %d\n", result);
    fflush(stdout);
    char word[32];
    unsigned one, two;
    while (scanf("%31s", word) == 1) {
        if (!strcmp(word, "take") && scanf("%u %u", &one, &two) == 2) {
            result = take(one, two);
            printf("take %d %lld\n", result, (long long)data);
        } else if (!strcmp(word, "more") && scanf("%u %u", &one, &two) == 2) {
            printf("more %d\n", more(one, two));
        } else if (!strcmp(word, "check") && scanf("%u", &one) == 1) {
            result = check(one);
            printf("check %d %lld\n", result, (long long)data);
        } else if (!strcmp(word, "free")) {
            printf("free %d\n", CALL(cuMemFree_v2, (ptr), data));
        } else if (!strcmp(word, "memory")) {
            size_t free_bytes = 0, total = 0;
            result = CALL(cuMemGetInfo_v2, (size_t *, size_t *), &free_bytes, &total);
            printf("memory %d %zu %zu\n", result, free_bytes >> 20, total >> 20);
        } else {
            return 1;
        }
        fflush(stdout);
    }
    return 0;
}
