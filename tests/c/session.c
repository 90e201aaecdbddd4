/* A session that is told what to do: each word on stdin is one thing, each line on stdout what came of it. */
#include "by_name.h"
#include <poll.h>
#include <string.h>
#include <unistd.h>

static void never(void *running) {
    *(volatile int *)running = 1;
    for (;;) pause();
}

static const char *PTX =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .entry twice(.param .u64 data) {\n"
    "  .reg .u32 %r<3>; .reg .u64 %d<3>;\n"
    "  ld.param.u64 %d0, [data]; mov.u32 %r0, %tid.x; mul.wide.u32 %d1, %r0, 4; add.u64 %d2, %d0, %d1;\n"
    "  ld.global.u32 %r1, [%d2]; add.u32 %r2, %r1, %r1; st.global.u32 [%d2], %r2; ret;\n}\n"
    ".visible .entry more(.param .u64 data) {\n"
    "  .reg .u32 %r<3>; .reg .u64 %d<3>;\n"
    "  ld.param.u64 %d0, [data]; mov.u32 %r0, %tid.x; mul.wide.u32 %d1, %r0, 4; add.u64 %d2, %d0, %d1;\n"
    "  ld.global.u32 %r1, [%d2]; add.u32 %r2, %r1, 1; st.global.u32 [%d2], %r2; ret;\n}\n";

/* Copies in, launches, copies out and looks. 0: all of it worked and is right; -1: wrong values; else CUDA's error. */
static int compute(handle function, ptr data) {
    uint32_t host[256], back[256];
    for (unsigned i = 0; i < 256; i++) host[i] = i;
    void *params[] = {&data};
    int result = CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), data, host, sizeof host);
    if (!result)
        result = CALL(cuLaunchKernel,
                      (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **),
                      function, 1, 1, 1, 256, 1, 1, 0, NULL, params, NULL);
    if (!result) result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, data, sizeof back);
    for (unsigned i = 0; !result && i < 256; i++)
        if (back[i] != 2 * i) result = -1;
    return result;
}

/* Whether the next word has come. */
static int is_told(void) {
    struct pollfd input = {0, POLLIN, 0};
    return poll(&input, 1, 0) > 0;
}

static void begun(const char *word, int result) {
    printf("%s %d\n", word, result);
    fflush(stdout);
}

/* Counts on the device until the next word comes; then every count must be the number of launches. */
static int count(handle function, ptr data) {
    void *params[] = {&data};
    uint32_t rounds = 0, back[256];
    int result = CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), data, 0, 256);
    begun("counting", result);
    while (!result && !is_told()) {
        for (unsigned i = 0; !result && i < 16; i++, rounds++)
            result = CALL(cuLaunchKernel,
                          (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **),
                          function, 1, 1, 1, 256, 1, 1, 0, NULL, params, NULL);
        if (!result) result = CALL(cuCtxSynchronize, (void));
    }
    if (!result) result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, data, sizeof back);
    for (unsigned i = 0; !result && i < 256; i++)
        if (back[i] != rounds) result = -1;
    return result;
}

/* Copies so much there and back until the next word comes; all of it must come back each time. */
static int copy(size_t size) {
    uint32_t *source = malloc(size), *back = malloc(size), round = 0;
    ptr target = 0;
    int result = CALL(cuMemAlloc_v2, (ptr *, size_t), &target, size);
    begun("copying", result);
    do {
        for (size_t i = 0; i < size / 4; i++) source[i] = i * 2654435761u + round;
        if (!result) result = CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), target, source, size);
        if (!result) result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, target, size);
        if (!result && memcmp(source, back, size)) result = -1;
        round++;
    } while (!result && !is_told());
    if (!result) result = CALL(cuMemFree_v2, (ptr), target);
    free(source);
    free(back);
    return result;
}

int main(void) {
    load();
    handle context = NULL, module = NULL, function = NULL, more = NULL;
    ptr data = 0;
    int result = CALL(cuInit, (unsigned), 0);
    if (!result) result = CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    if (!result) result = CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    if (!result) result = CALL(cuModuleGetFunction, (handle *, handle, const char *), &function, module, "twice");
    if (!result) result = CALL(cuModuleGetFunction, (handle *, handle, const char *), &more, module, "more");
    if (!result) result = CALL(cuMemAlloc_v2, (ptr *, size_t), &data, 1024);
    printf("ready %d\n", result);
    fflush(stdout);
    char word[32];
    unsigned mib;
    while (scanf("%31s", word) == 1) {
        if (!strcmp(word, "compute")) {
            printf("compute %d\n", compute(function, data));
        } else if (!strcmp(word, "memory")) {
            size_t free_bytes = 0, total = 0;
            result = CALL(cuMemGetInfo_v2, (size_t *, size_t *), &free_bytes, &total);
            printf("memory %d %zu %zu\n", result, free_bytes >> 20, total >> 20);
        } else if (!strcmp(word, "flood") && scanf("%u", &mib) == 1) {
            size_t size = (size_t)mib << 20;
            ptr target = 0;
            void *source = calloc(1, size);
            result = CALL(cuMemAlloc_v2, (ptr *, size_t), &target, size);
            while (!result) result = CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), target, source, size);
            printf("flood %d\n", result);
        } else if (!strcmp(word, "allocate") && scanf("%u", &mib) == 1) {
            ptr another = 0;
            printf("allocate %d\n", CALL(cuMemAlloc_v2, (ptr *, size_t), &another, (size_t)mib << 20));
        } else if (!strcmp(word, "count")) {
            printf("count %d\n", count(more, data));
        } else if (!strcmp(word, "copy") && scanf("%u", &mib) == 1) {
            printf("copy %d\n", copy((size_t)mib << 20));
        } else if (!strcmp(word, "order") && scanf("%u", &mib) == 1) {
            /* For the driver of tests/c/hostile_driver.c, which answers in the memory. */
            uint32_t back[4] = {0};
            result = CALL(cuMemsetD16_v2, (ptr, unsigned short, size_t), data, (unsigned short)mib, 2);
            if (!result) result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, data, sizeof back);
            printf("order %d %u %u\n", result, back[0], back[1]);
        } else if (!strcmp(word, "stand")) {
            static volatile int running;
            result = CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), NULL, never, (void *)&running);
            while (!result && !running) usleep(1000);
            printf("standing %d\n", result);
            fflush(stdout);
            printf("stand %d\n", CALL(cuCtxSynchronize, (void)));
        }
        fflush(stdout);
    }
    return 0;
}
