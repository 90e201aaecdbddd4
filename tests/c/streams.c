/* Streams, events, memory operations and host functions: each line is a fact that must be the same on a driver and through the remoting. */
#include "by_name.h"
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define SAY(fact, value) printf("%-52s %lld\n", fact, (long long)(value))

static handle stream, other;
static int order[64], ordered, statuses[4];
static handle seen_stream;
static volatile int released;

static void note(void *data) { order[ordered++] = (int)(intptr_t)data; }
static void slow(void *data) { usleep(20000); note(data); }
static void until_released(void *data) {
    while (!released) usleep(1000);
    note(data);
}
static void called_back(handle of, int status, void *data) {
    seen_stream = of;
    statuses[0] = status;
    note(data);
}
static void *release_later(void *data) {
    (void)data;
    usleep(50000);
    released = 1;
    return NULL;
}

static uint32_t *pinned;
static void look(void *data) { statuses[1] = (int)pinned[(intptr_t)data]; }
static int fetch(int word, ptr from, handle in) {
    return CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), pinned + word, from, 4, in);
}

/* Copies of many pieces behind a function of the program's: nothing of theirs may keep it from ending. */
static void large_behind(void) {
    enum { BYTES = 6 << 20 };
    unsigned char *host = malloc(BYTES);
    ptr data = 0;
    CALL(cuMemAlloc_v2, (ptr *, size_t), &data, BYTES);
    for (int how = 0; how < 4; how++) {
        pthread_t thread;
        memset(host, how, BYTES);
        CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), data, 100 + how, BYTES);
        CALL(cuCtxSynchronize, (void));
        released = 0, ordered = 0;
        pthread_create(&thread, NULL, release_later, NULL);
        CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), other, until_released, (void *)8);
        if (how == 0) SAY("cuMemcpyDtoHAsync of 6 MiB behind a function", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), host, data, BYTES, other));
        if (how == 1) SAY("cuMemcpyDtoH of 6 MiB behind a blocking stream's", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), host, data, BYTES));
        if (how == 2) SAY("cuMemcpyHtoDAsync of 6 MiB behind a function", CALL(cuMemcpyHtoDAsync_v2, (ptr, void *, size_t, handle), data, host, BYTES, other));
        if (how == 3) SAY("cuMemcpyHtoD of 6 MiB behind a blocking stream's", CALL(cuMemcpyHtoD_v2, (ptr, void *, size_t), data, host, BYTES));
        CALL(cuStreamSynchronize, (handle), other);
        pthread_join(thread, NULL);
        if (how > 1) CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), host, data, BYTES);
        int wrong = 0, expected = how > 1 ? how : 100 + how;
        for (int i = 0; i < BYTES; i++) wrong += host[i] != expected;
        SAY("  wrong bytes", wrong);
        SAY("  the function has run", ordered);
    }
    CALL(cuMemFree_v2, (ptr), data);
    free(host);
}

/* Copies to pinned memory return at once, whatever their stream waits for: only the program itself lets it go on. */
static void copies_behind(ptr flag) {
    CALL(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&pinned, 1 << 20, 0);
    memset(pinned, 0, 1 << 20);
    CALL(cuMemsetD32_v2, (ptr, uint32_t, size_t), flag, 77, 16);
    released = 0, ordered = 0;
    CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), other, until_released, (void *)6);
    CALL(cuMemsetD32Async, (ptr, uint32_t, size_t, handle), flag, 78, 1, other);
    SAY("cuMemcpyDtoHAsync behind a function", fetch(0, flag, other));
    CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), other, look, (void *)0);
    SAY("cuMemcpyDtoHAsync behind that", fetch(1, flag + 4, other));
    SAY("  nothing has come", pinned[0] + pinned[1]);
    SAY("cuMemcpyDtoHAsync in another stream", fetch(2, flag + 8, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  it has come", pinned[2]);
    SAY("  the others have not", pinned[0] + pinned[1] + ordered);
    for (int i = 0; i < 100; i++) fetch(100 + i, flag + 4 * (i % 16), other);
    released = 1;
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), other));
    SAY("  all have come", pinned[0] * 100 + pinned[1]);
    SAY("  the function behind the copy saw it", statuses[1]);
    int wrong = 0;
    for (int i = 0; i < 100; i++) wrong += pinned[100 + i] != (i % 16 ? 77 : 78);
    SAY("  wrong of 100", wrong);

    CALL(cuStreamWaitValue32_v2, (handle, ptr, uint32_t, unsigned), stream, flag, 7, 1);
    SAY("cuMemcpyDtoHAsync behind a wait for a value", fetch(0, flag, stream));
    SAY("  the older word is there", pinned[0]);
    CALL(cuStreamWriteValue32_v2, (handle, ptr, uint32_t, unsigned), other, flag, 7, 0);
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  it has come", pinned[0]);

    /* A context ends with such copies under way. */
    handle second = NULL, current = NULL, of_it = NULL;
    pthread_t thread;
    ptr there = 0;
    CALL(cuCtxGetCurrent, (handle *), &current);
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &second, 0, 0);
    CALL(cuStreamCreate, (handle *, unsigned), &of_it, 1);
    CALL(cuMemAlloc_v2, (ptr *, size_t), &there, 64);
    released = 0;
    CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), of_it, until_released, (void *)7);
    SAY("cuMemcpyDtoHAsync in a context that ends", fetch(9, there, of_it));
    pthread_create(&thread, NULL, release_later, NULL);
    SAY("cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), second));
    pthread_join(thread, NULL);
    CALL(cuCtxSetCurrent, (handle), current);
    SAY("cuMemFreeHost", CALL(cuMemFreeHost, (void *), pinned));
}

int main(void) {
    load();
    CALL(cuInit, (unsigned), 0);
    handle context = NULL, second = NULL, current = NULL, green = (handle)1;
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    SAY("cuStreamCreateWithPriority", CALL(cuStreamCreateWithPriority, (handle *, unsigned, int), &stream, 1, 0));
    CALL(cuStreamCreate, (handle *, unsigned), &other, 0);

    uint64_t id = 0, id2 = 0, legacy = 0, null = 0;
    SAY("cuStreamGetId", CALL(cuStreamGetId, (handle, uint64_t *), stream, &id));
    CALL(cuStreamGetId, (handle, uint64_t *), other, &id2);
    CALL(cuStreamGetId, (handle, uint64_t *), NULL, &null);
    CALL(cuStreamGetId, (handle, uint64_t *), (handle)1, &legacy);
    SAY("  differs", id != id2 && id != null);
    SAY("  NULL and legacy are one", null == legacy);
    SAY("cuStreamGetId(bad)", CALL(cuStreamGetId, (handle, uint64_t *), (handle)0x77770, &id));
    SAY("cuStreamGetCtx_v2", CALL(cuStreamGetCtx_v2, (handle, handle *, handle *), stream, &current, &green));
    SAY("  context, no green one", current == context && green == NULL);
    int device = -1;
    SAY("cuStreamGetDevice", CALL(cuStreamGetDevice, (handle, int *), stream, &device));
    SAY("  device", device);
    uint64_t value[8] = {0}, read[8] = {0};
    value[0] = 2; /* CU_SYNC_POLICY_SPIN */
    SAY("cuStreamSetAttribute(policy)", CALL(cuStreamSetAttribute, (handle, unsigned, void *), stream, 3, value));
    SAY("cuStreamGetAttribute(policy)", CALL(cuStreamGetAttribute, (handle, unsigned, void *), stream, 3, read));
    SAY("  value", read[0]);
    SAY("cuStreamSetAttribute(999)", CALL(cuStreamSetAttribute, (handle, unsigned, void *), stream, 999, value));
    SAY("cuStreamCopyAttributes", CALL(cuStreamCopyAttributes, (handle, handle), other, stream));
    memset(read, 0, sizeof read);
    CALL(cuStreamGetAttribute, (handle, unsigned, void *), other, 3, read);
    SAY("  copied", read[0]);
    handle before = NULL, after = NULL;
    CALL(cuEventCreate, (handle *, unsigned), &before, 0);
    CALL(cuEventCreate, (handle *, unsigned), &after, 0);
    CALL(cuEventRecord, (handle, handle), before, stream);
    CALL(cuEventRecord, (handle, handle), after, stream);
    CALL(cuEventSynchronize, (handle), after);
    float ms = -1;
    SAY("cuEventElapsedTime_v2", CALL(cuEventElapsedTime_v2, (float *, handle, handle), &ms, before, after));
    SAY("  not negative", ms >= 0);
    SAY("cuEventDestroy (first form)", CALL(cuEventDestroy, (handle), before));

    /* Memory operations. */
    ptr flag = 0;
    uint32_t words[4] = {0, 0, 0, 0};
    CALL(cuMemAlloc_v2, (ptr *, size_t), &flag, 64);
    CALL(cuMemsetD8_v2, (ptr, uint8_t, size_t), flag, 0, 64);
    SAY("cuStreamWaitValue32", CALL(cuStreamWaitValue32_v2, (handle, ptr, uint32_t, unsigned), stream, flag, 7, 1));
    SAY("cuStreamWriteValue32 behind it", CALL(cuStreamWriteValue32_v2, (handle, ptr, uint32_t, unsigned), stream, flag + 4, 9, 0));
    usleep(20000);
    SAY("cuStreamQuery while it waits", CALL(cuStreamQuery, (handle), stream));
    SAY("cuMemcpyDtoHAsync in another stream",
        CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), words, flag, 8, other));
    CALL(cuStreamSynchronize, (handle), other);
    SAY("  not written", words[1]);
    int released = CALL(cuStreamWriteValue32, (handle, ptr, uint32_t, unsigned), other, flag, 7, 0);
    SAY("cuStreamWriteValue32 that it waits for", released);
    /* NVIDIA's driver no longer serves the first form. */
    if (released) CALL(cuStreamWriteValue32_v2, (handle, ptr, uint32_t, unsigned), other, flag, 7, 0);
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), words, flag, 16);
    SAY("  written", words[1]);
    SAY("cuStreamWriteValue64", CALL(cuStreamWriteValue64_v2, (handle, ptr, uint64_t, unsigned), stream, flag + 8, 0x1122334455667788, 0));
    SAY("cuStreamWaitValue64(geq)", CALL(cuStreamWaitValue64, (handle, ptr, uint64_t, unsigned), stream, flag + 8, 5, 0));
    CALL(cuStreamSynchronize, (handle), stream);
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), words, flag, 16);
    SAY("  low half", words[2]);
    uint64_t batch[2][6] = {{2, flag + 4, 55, 0, 0, 0}, {1, flag + 4, 55, 1, 0, 0}};
    SAY("cuStreamBatchMemOp", CALL(cuStreamBatchMemOp_v2, (handle, unsigned, void *, unsigned), stream, 2, batch, 0));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    batch[0][0] = 77;
    SAY("cuStreamBatchMemOp(bad operation)", CALL(cuStreamBatchMemOp_v2, (handle, unsigned, void *, unsigned), stream, 2, batch, 0));
    SAY("cuStreamBatchMemOp(flags)", CALL(cuStreamBatchMemOp_v2, (handle, unsigned, void *, unsigned), stream, 0, batch, 1));
    SAY("cuStreamWaitValue32(nowhere)", CALL(cuStreamWaitValue32_v2, (handle, ptr, uint32_t, unsigned), stream, 64, 7, 1));
    SAY("cuStreamWaitValue32(odd)", CALL(cuStreamWaitValue32_v2, (handle, ptr, uint32_t, unsigned), stream, flag + 2, 7, 1));
    SAY("cuStreamWaitValue32(flags)", CALL(cuStreamWaitValue32_v2, (handle, ptr, uint32_t, unsigned), stream, flag, 7, 0x100));
    SAY("cuStreamWriteValue32(flags)", CALL(cuStreamWriteValue32_v2, (handle, ptr, uint32_t, unsigned), stream, flag, 7, 2));

    /* Host functions. */
    SAY("cuLaunchHostFunc", CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), stream, slow, (void *)1));
    SAY("cuLaunchHostFunc again", CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), stream, note, (void *)2));
    SAY("cuStreamAddCallback", CALL(cuStreamAddCallback, (handle, void (*)(handle, int, void *), void *, unsigned), stream, called_back, (void *)3, 0));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  all have run, in order", ordered == 3 && order[0] == 1 && order[1] == 2 && order[2] == 3);
    SAY("  the callback's stream and status", seen_stream == stream && statuses[0] == 0);
    SAY("cuLaunchHostFunc(NULL)", CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), stream, NULL, NULL));
    SAY("cuLaunchHostFunc(bad stream)", CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), (handle)0x77770, note, NULL));
    SAY("cuStreamAddCallback(flags)", CALL(cuStreamAddCallback, (handle, void (*)(handle, int, void *), void *, unsigned), stream, called_back, NULL, 1));
    /* A stream stands still for the program: calls that a driver would keep until it goes on must not keep that from happening. */
    pthread_t thread;
    ordered = 0;
    pthread_create(&thread, NULL, release_later, NULL);
    CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), other, until_released, (void *)5);
    words[0] = 41;
    SAY("cuMemcpyHtoD behind a blocking stream", CALL(cuMemcpyHtoD_v2, (ptr, void *, size_t), flag, words, 4));
    SAY("cuMemsetD32 behind it", CALL(cuMemsetD32_v2, (ptr, uint32_t, size_t), flag + 4, 3, 1));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("  it has run", ordered == 1 && order[0] == 5);
    pthread_join(thread, NULL);
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), words + 2, flag, 8);
    SAY("  copied and filled", words[2] == 41 && words[3] == 3);
    copies_behind(flag);
    large_behind();
    int wrong = 0;
    for (int i = 0; i < 200; i++) {
        ordered = 0;
        CALL(cuMemsetD32Async, (ptr, uint32_t, size_t, handle), flag, i, 1, stream);
        CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), stream, note, (void *)(intptr_t)i);
        if (i % 3 == 0) CALL(cuEventRecord, (handle, handle), after, stream);
        if (i % 3 == 0) CALL(cuEventSynchronize, (handle), after);
        else CALL(cuStreamSynchronize, (handle), stream);
        wrong += ordered != 1 || order[0] != i;
    }
    SAY("  wrong of 200 rounds", wrong);
    SAY("cuCtxCreate", CALL(cuCtxCreate_v2, (handle *, unsigned, int), &second, 0, 0));
    SAY("cuLaunchHostFunc in its default stream", CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), NULL, slow, (void *)9));
    SAY("cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), second));
    CALL(cuCtxSetCurrent, (handle), context);
    SAY("cuStreamDestroy (first form)", CALL(cuStreamDestroy, (handle), other));
    SAY("cuMemFree", CALL(cuMemFree_v2, (ptr), flag));
    fflush(stdout);
    /* The end of the process waits for nothing. */
    CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), stream, until_released, NULL);
    released = 0;
    CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), stream, until_released, NULL);
    return 0;
}
