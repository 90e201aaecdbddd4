/* A wait for the context and a small copy out behind it, again and again, and what may come between. Each line is a fact. */
#include "by_name.h"

enum { TIMES = 40 };

static ptr memory, other;

static void fact(const char *name, int result) { printf("%s %d\n", name, result); }

static int fill(ptr at, unsigned value) {
    return CALL(cuMemsetD32Async, (ptr, unsigned, size_t, handle), at, value, 16, NULL);
}

static int synchronize(void) { return CALL(cuCtxSynchronize, (void)); }

static int reads(ptr at, unsigned expected) {
    unsigned value = ~expected;
    int result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, at, sizeof value);
    return result ? result : value == expected ? 0 : -1;
}

/* As a training step reads its loss. */
static int steps(unsigned from) {
    int result = 0;
    for (unsigned i = 0; !result && i < TIMES; i++) {
        result = fill(memory, from + i);
        if (!result) result = synchronize();
        if (!result) result = reads(memory, from + i);
    }
    return result;
}

/* Two copies to one place of pinned memory: the second is what stays, a little one behind a large one and the reverse. */
static int lands(size_t first, size_t then) {
    enum { MOST = 1 << 16 };
    ptr from[2];
    unsigned *to = NULL;
    int result = CALL(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&to, MOST, 0);
    for (int i = 0; !result && i < 2; i++) {
        result = CALL(cuMemAlloc_v2, (ptr *, size_t), &from[i], MOST);
        if (!result) result = CALL(cuMemsetD32Async, (ptr, unsigned, size_t, handle), from[i], 40 + i, MOST / 4, NULL);
    }
    for (int i = 0; !result && i < TIMES; i++) {
        to[0] = to[15] = 0;
        result = CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), to, from[0], first, NULL);
        if (!result) result = CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), to, from[1], then, NULL);
        if (!result) result = synchronize();
        if (!result && (to[0] != 41 || to[then / 4 - 1] != 41)) result = -1;
        if (!result && first > then && to[first / 4 - 1] != 40) result = -2;
    }
    for (int i = 0; !result && i < 2; i++) result = CALL(cuMemFree_v2, (ptr), from[i]);
    return result ? result : CALL(cuMemFreeHost, (void *), to);
}

int main(void) {
    handle context, second;
    load();
    int result = CALL(cuInit, (unsigned), 0);
    if (!result) result = CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    if (!result) result = CALL(cuMemAlloc_v2, (ptr *, size_t), &memory, 64);
    if (!result) result = CALL(cuMemAlloc_v2, (ptr *, size_t), &other, 64);
    fact("begin", result);
    fact("the same each time", steps(100));
    fact("a little, then much", lands(64, 1 << 16));
    fact("much, then a little", lands(1 << 16, 64));
    fact("a little twice", lands(3072, 3072));
    /* Work between the wait and the copy. */
    result = fill(memory, 7);
    if (!result) result = synchronize();
    if (!result) result = fill(memory, 8);
    if (!result) result = reads(memory, 8);
    fact("changed after the wait", result);
    fact("the same again", steps(300));
    result = fill(memory, 9);
    if (!result) result = fill(other, 10);
    if (!result) result = synchronize();
    if (!result) result = reads(other, 10);
    if (!result) result = reads(memory, 9);
    fact("another place first", result);
    fact("the same again", steps(500));
    result = fill(memory, 11);
    if (!result) result = synchronize();
    if (!result) result = reads(memory + 4, 11);
    fact("the word behind it", result);
    fact("the same again", steps(700));
    result = fill(memory, 12);
    if (!result) result = synchronize();
    unsigned word = 13;
    if (!result) result = CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), memory, &word, sizeof word);
    if (!result) result = reads(memory, 13);
    fact("written by the host", result);
    fact("the same again", steps(900));
    result = synchronize();
    if (!result) result = CALL(cuMemFree_v2, (ptr), memory);
    fact("given back", result);
    fact("  read nevertheless", reads(memory, 0));
    fact("  a wait", synchronize());
    memory = other;
    fact("the other one each time", steps(1100));
    result = CALL(cuCtxCreate_v2, (handle *, unsigned, int), &second, 0, 0);
    if (!result) result = CALL(cuCtxSetCurrent, (handle), context);
    fact("a second context", result);
    fact("  the same beside it", steps(1300));
    return 0;
}
