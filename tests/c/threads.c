/* Many threads and many lives: what a program may do for hours. Each line is a fact: its name and the first CUDA error, 0 for none. */
#include "by_name.h"
#include <pthread.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static void fact(const char *name, int result) {
    printf("%s %d\n", name, result);
    fflush(stdout);
}

static int retain(handle *context) {
    int result = CALL(cuDevicePrimaryCtxRetain, (handle *, int), context, 0);
    if (!result) result = CALL(cuCtxSetCurrent, (handle), *context);
    return result;
}

static int release(void) {
    return CALL(cuDevicePrimaryCtxRelease_v2, (int), 0);
}

static handle primary;

/* Large copies in both directions at the same time. */
enum { COPIES = 4 };
static const size_t LARGE = 96 * MIB;

static void *copy_in(void *unused) {
    (void)unused;
    ptr target = 0;
    char *source = malloc(LARGE);
    memset(source, 7, LARGE);
    int result = CALL(cuCtxSetCurrent, (handle), primary);
    if (!result) result = CALL(cuMemAlloc_v2, (ptr *, size_t), &target, LARGE);
    for (int i = 0; !result && i < COPIES; i++)
        result = CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), target, source, LARGE);
    if (!result) result = CALL(cuMemFree_v2, (ptr), target);
    free(source);
    return (void *)(intptr_t)result;
}

static void *copy_out(void *unused) {
    (void)unused;
    ptr source = 0;
    char *target = malloc(LARGE);
    int result = CALL(cuCtxSetCurrent, (handle), primary);
    if (!result) result = CALL(cuMemAlloc_v2, (ptr *, size_t), &source, LARGE);
    if (!result) result = CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), source, 9, LARGE);
    for (int i = 0; !result && i < COPIES; i++) {
        result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), target, source, LARGE);
        for (size_t at = 0; !result && at < LARGE; at += 4093)
            if (target[at] != 9) result = -1;
    }
    if (!result) result = CALL(cuMemFree_v2, (ptr), source);
    free(target);
    return (void *)(intptr_t)result;
}

/* Large copies there and back whose every word tells its place, beside another thread's small ones. */
static void *words(void *unused) {
    (void)unused;
    const size_t count = 32 * MIB / sizeof(uint32_t);
    uint32_t *there = malloc(count * sizeof *there), *back = malloc(count * sizeof *back);
    ptr at = 0;
    int result = CALL(cuCtxSetCurrent, (handle), primary);
    if (!result) result = CALL(cuMemAlloc_v2, (ptr *, size_t), &at, count * sizeof *there);
    for (uint32_t round = 1; !result && round <= 3; round++) {
        for (size_t i = 0; i < count; i++) there[i] = (uint32_t)i * 2654435761u + round;
        result = CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), at, there, count * sizeof *there);
        if (!result) result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, at, count * sizeof *back);
        if (!result && memcmp(there, back, count * sizeof *back)) result = -1;
    }
    if (!result) result = CALL(cuMemFree_v2, (ptr), at);
    free(there);
    free(back);
    return (void *)(intptr_t)result;
}

static void *small_ones(void *unused) {
    (void)unused;
    int result = CALL(cuCtxSetCurrent, (handle), primary);
    ptr at = 0;
    if (!result) result = CALL(cuMemAlloc_v2, (ptr *, size_t), &at, sizeof(uint64_t));
    for (uint64_t there = 1; !result && there <= 300; there++) {
        uint64_t back = 0;
        result = CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), at, &there, sizeof there);
        if (!result) result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &back, at, sizeof back);
        if (!result && back != there) result = -1;
    }
    if (!result) result = CALL(cuMemFree_v2, (ptr), at);
    return (void *)(intptr_t)result;
}

/* Threads that come, make a few calls, and go. */
static int use_memory(void) {
    ptr at = 0;
    int value = 0;
    int result = CALL(cuMemAlloc_v2, (ptr *, size_t), &at, 64);
    if (!result) result = CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), at, 5, 16);
    if (!result) result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, at, 4);
    if (!result && value != 5) result = -1;
    return result ? result : CALL(cuMemFree_v2, (ptr), at);
}

static void *visit(void *unused) {
    (void)unused;
    int result = CALL(cuCtxSetCurrent, (handle), primary);
    if (!result) result = use_memory();
    return (void *)(intptr_t)result;
}

/* Retains, uses and releases the primary context, as libraries do in each call. */
static void *borrow(void *unused) {
    (void)unused;
    int result = 0;
    for (int i = 0; !result && i < 100; i++) {
        handle context;
        result = retain(&context);
        if (!result) result = use_memory();
        if (!result) result = CALL(cuCtxSynchronize, (void));
        if (!result) result = release();
    }
    return (void *)(intptr_t)result;
}

static int together(void *(*one)(void *), void *(*other)(void *), int pairs) {
    pthread_t threads[64];
    int result = 0;
    for (int i = 0; i < 2 * pairs; i++) pthread_create(&threads[i], NULL, i % 2 ? one : other, NULL);
    for (int i = 0; i < 2 * pairs; i++) {
        void *end;
        pthread_join(threads[i], &end);
        if (!result) result = (int)(intptr_t)end;
    }
    return result;
}

/* Each context takes half of the device; a destroyed one must leave nothing. */
static int contexts(void) {
    int result = 0;
    for (int i = 0; !result && i < 6; i++) {
        handle context;
        ptr large = 0;
        size_t free_bytes, total;
        result = CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
        if (!result) result = CALL(cuMemGetInfo_v2, (size_t *, size_t *), &free_bytes, &total);
        if (!result) result = CALL(cuMemAlloc_v2, (ptr *, size_t), &large, total / 2);
        if (!result) result = CALL(cuMemsetD8Async, (ptr, unsigned char, size_t, handle), large, 1, MIB, NULL);
        if (!result) result = CALL(cuCtxDestroy_v2, (handle), context);
    }
    return result;
}

/* Takes and gives back more than the device has, and only ever waits for a stream. */
static int churn(void) {
    handle stream;
    size_t free_bytes = 0, total = 0;
    int result = CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    for (int i = 0; !result && i < 200; i++) {
        ptr block = 0;
        result = CALL(cuMemAlloc_v2, (ptr *, size_t), &block, 48 * MIB);
        if (!result) result = CALL(cuMemsetD8Async, (ptr, unsigned char, size_t, handle), block, 1, 4096, stream);
        if (!result) result = CALL(cuStreamSynchronize, (handle), stream);
        if (!result) result = CALL(cuMemFree_v2, (ptr), block);
    }
    if (!result) result = CALL(cuStreamDestroy_v2, (handle), stream);
    if (!result) result = CALL(cuMemGetInfo_v2, (size_t *, size_t *), &free_bytes, &total);
    return result ? result : total - free_bytes < 256 * MIB ? 0 : -1;
}

int main(void) {
    load();
    fact("init", CALL(cuInit, (unsigned), 0));
    fact("contexts that are destroyed", contexts());
    fact("retain", retain(&primary));
    fact("copies both ways", together(copy_in, copy_out, 1));
    fact("large copies beside small ones", together(words, small_ones, 2));
    int result = 0;
    for (int i = 0; !result && i < 60; i++) result = together(visit, visit, 10);
    fact("1200 threads in turn", result);
    fact("memory taken and given back", churn());
    fact("release", release());
    fact("a primary context that comes and goes", together(borrow, borrow, 2));
    return 0;
}
