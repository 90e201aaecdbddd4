/* Two devices in one process, each with a context, and everything that goes between them. Each line is a fact, and the same whether the devices are
   of one machine or of two servers, but for lines that begin with "peer": servers do not reach each other's memory.
   With "list": the devices that there are. With "apart": what is refused between servers. With "lost": tells what each device does before
   and behind a line on stdin. */
#include "images.h"
#include <pthread.h>

#define HEAD ".version 7.0\n.target sm_70\n.address_size 64\n"

/* add(data, n): data[0] += n + bias. spin(data, rounds): data[0] += rounds, after as many. */
static const char *PTX =
    HEAD
    ".visible .global .align 4 .u32 bias = 0;\n"
    ".visible .entry add(.param .u64 data, .param .u32 n) {\n"
    "  .reg .u32 %r<4>; .reg .u64 %d<2>;\n"
    "  ld.param.u64 %d0, [data]; ld.param.u32 %r0, [n]; mov.u64 %d1, bias; ld.global.u32 %r1, [%d1];\n"
    "  ld.global.u32 %r2, [%d0]; add.u32 %r2, %r2, %r0; add.u32 %r2, %r2, %r1; st.global.u32 [%d0], %r2; ret;\n}\n"
    ".visible .entry spin(.param .u64 data, .param .u32 rounds) {\n"
    "  .reg .pred %p; .reg .u32 %r<4>; .reg .u64 %d<2>;\n"
    "  ld.param.u64 %d0, [data]; ld.param.u32 %r0, [rounds]; mov.u32 %r1, 0;\n"
    "again: add.u32 %r1, %r1, 1; setp.lt.u32 %p, %r1, %r0; @%p bra again;\n"
    "  ld.global.u32 %r2, [%d0]; add.u32 %r2, %r2, %r1; st.global.u32 [%d0], %r2; ret;\n}\n";

enum { LARGE = (8 << 20) + 3, MOST = (8 << 20) + 8192 };
static handle contexts[2], streams[2], modules[2], adds[2], spins[2], stamps[2];
static ptr data[2];
static unsigned char *host, *back;

static int current(int device) { return CALL(cuCtxSetCurrent, (handle), device < 0 ? NULL : contexts[device]); }
static int launch(handle callee, handle in, void **params) {
    return CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), callee, 1, 1, 1, 1, 1, 1, 0, in, params, NULL);
}
static int add(int device, ptr at, unsigned n) { return launch(adds[device], streams[device], (void *[]){&at, &n}); }
static int spin(int device, ptr at, unsigned n) { return launch(spins[device], streams[device], (void *[]){&at, &n}); }
static int finish(int device) { return CALL(cuStreamSynchronize, (handle), streams[device]); }
static unsigned word(ptr at) {
    unsigned value = 0;
    int code = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, at, 4);
    return code ? (unsigned)-code : value;
}
static int set(ptr at, unsigned value) { return CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), at, value, 1); }
static int record(int device) { return CALL(cuEventRecord, (handle, handle), stamps[device], streams[device]); }
/* A stream of one device waits for the other's event. */
static int follow(int device) { return CALL(cuStreamWaitEvent, (handle, handle, unsigned), streams[device], stamps[1 - device], 0); }
static int across(ptr to, int target, ptr from, size_t bytes, int in) {
    return CALL(cuMemcpyPeerAsync, (ptr, handle, ptr, handle, size_t, handle), to, contexts[target], from, contexts[1 - target], bytes, streams[in]);
}

static void list(void) {
    int count = -1;
    SAY("cuInit", CALL(cuInit, (unsigned), 0));
    SAY("cuDeviceGetCount", CALL(cuDeviceGetCount, (int *), &count));
    SAY("devices", count);
    for (int i = 0; i < count; i++) {
        unsigned char uuid[16] = {0};
        char bus[32] = "";
        int device = -1, found = -1;
        SAY("cuDeviceGet", CALL(cuDeviceGet, (int *, int), &device, i));
        CALL(cuDeviceGetUuid_v2, (void *, int), uuid, i);
        SAY("  first byte of its UUID", uuid[0]);
        CALL(cuDeviceGetPCIBusId, (char *, int, int), bus, sizeof bus, i);
        SAY("  cuDeviceGetByPCIBusId", CALL(cuDeviceGetByPCIBusId, (int *, const char *), &found, bus));
        SAY("  it is that device", found == i);
    }
    SAY("cuDeviceGet(beyond)", CALL(cuDeviceGet, (int *, int), &count, count));
}

static void contexts_of_both(void) {
    handle found = NULL, popped = NULL;
    int device = -1;
    uint64_t ids[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        CALL(cuCtxGetId, (handle, uint64_t *), contexts[i], &ids[i]);
        current(i);
        SAY("cuCtxGetDevice", CALL(cuCtxGetDevice, (int *), &device));
        SAY("  device", device);
        SAY("cuCtxGetDevice_v2 of the other", CALL(cuCtxGetDevice_v2, (int *, handle), &device, contexts[1 - i]));
        SAY("  device", device);
    }
    SAY("ids differ", ids[0] != ids[1]);
    current(0);
    SAY("cuCtxPushCurrent", CALL(cuCtxPushCurrent_v2, (handle), contexts[1]));
    CALL(cuCtxGetCurrent, (handle *), &found);
    SAY("  it is current", found == contexts[1]);
    SAY("cuCtxPopCurrent", CALL(cuCtxPopCurrent_v2, (handle *), &popped));
    SAY("  it was that", popped == contexts[1]);
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    handle third = NULL;
    SAY("cuCtxCreate on device 1", CALL(cuCtxCreate_v2, (handle *, unsigned, int), &third, 0, 1));
    current(0);
    SAY("cuCtxDestroy of another device's", CALL(cuCtxDestroy_v2, (handle), third));
    SAY("cuCtxSetCurrent of it", CALL(cuCtxSetCurrent, (handle), third));
    SAY("cuCtxSynchronize here", CALL(cuCtxSynchronize, (void)));
    handle primary = NULL;
    unsigned flags = 9;
    int active = -1;
    SAY("cuDevicePrimaryCtxRetain(1)", CALL(cuDevicePrimaryCtxRetain, (handle *, int), &primary, 1));
    SAY("cuDevicePrimaryCtxGetState(1)", CALL(cuDevicePrimaryCtxGetState, (int, unsigned *, int *), 1, &flags, &active));
    SAY("  active", active);
    CALL(cuDevicePrimaryCtxGetState, (int, unsigned *, int *), 0, &flags, &active);
    SAY("  active on device 0", active);
    SAY("cuDevicePrimaryCtxRelease(1)", CALL(cuDevicePrimaryCtxRelease_v2, (int), 1));
}

static void pointers(void) {
    ptr more = 0;
    int ordinal = -1;
    handle owner = NULL;
    size_t size = 0;
    ptr base = 0;
    SAY("addresses differ", data[0] + MOST <= data[1] || data[1] + MOST <= data[0]);
    for (int i = 0; i < 2; i++) {
        current(1 - i);
        SAY("cuPointerGetAttribute(DEVICE_ORDINAL) of the other's", CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &ordinal, 9, data[i] + 5));
        SAY("  device", ordinal);
        CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &owner, 1, data[i]);
        SAY("  its context", owner == contexts[i]);
        SAY("cuMemGetAddressRange", CALL(cuMemGetAddressRange_v2, (ptr *, size_t *, ptr), &base, &size, data[i] + 9));
        SAY("  base and size", base == data[i] && size == MOST);
        SAY("cuMemsetD32 of the other's", set(data[i], 77 + i));
        SAY("  value", word(data[i]));
        unsigned value = 99;
        SAY("cuMemcpyHtoD to the other's", CALL(cuMemcpyHtoD_v2, (ptr, void *, size_t), data[i], &value, 4));
        SAY("  value", word(data[i]));
        SAY("cuMemcpyHtoD past its end", CALL(cuMemcpyHtoD_v2, (ptr, void *, size_t), data[i] + MOST - 2, &value, 4));
    }
    current(1);
    SAY("cuMemAlloc", CALL(cuMemAlloc_v2, (ptr *, size_t), &more, 1000));
    current(0);
    SAY("cuMemFree of the other's", CALL(cuMemFree_v2, (ptr), more));
    SAY("cuMemFree again", CALL(cuMemFree_v2, (ptr), more));
    SAY("cuMemcpyHtoD to what was freed", CALL(cuMemcpyHtoD_v2, (ptr, void *, size_t), more, host, 4));
    SAY("cuMemcpyDtoD from what was freed", CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), data[0], more, 4));
    size_t left = 0, all = 0;
    for (int i = 0; i < 2; i++) {
        current(i);
        SAY("cuMemGetInfo", CALL(cuMemGetInfo_v2, (size_t *, size_t *), &left, &all));
        SAY("  what is used is not free", (all - left) >> 20 >= 8);
    }
}

static void copies(void) {
    static const size_t sizes[] = {0, 1, 4097, LARGE};
    for (int to = 0; to < 2; to++)
        for (int in = 0; in < 2; in++)
            for (int how = 0; how < 5; how++) {
                unsigned long long hash = 0;
                int code = 0;
                for (int n = 0; n < 4; n++) {
                    size_t bytes = sizes[n];
                    current(1 - to);
                    for (size_t i = 0; i < bytes; i++) host[i] = (unsigned char)(i * 7 + i / 251 + n + how + 3 * to);
                    code |= CALL(cuMemcpyHtoD_v2, (ptr, void *, size_t), data[1 - to] + 3, host, bytes);
                    code |= CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), data[to], 0, MOST);
                    current(in);
                    ptr there = data[to] + 5, here = data[1 - to] + 3;
                    switch (how) {
                    case 0: code |= CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), there, here, bytes); break;
                    case 1: code |= CALL(cuMemcpyPeer, (ptr, handle, ptr, handle, size_t), there, contexts[to], here, contexts[1 - to], bytes); break;
                    case 2: code |= CALL(cuMemcpy, (ptr, ptr, size_t), there, here, bytes); break;
                    case 3: code |= across(there, to, here, bytes, in); break;
                    default: code |= CALL(cuMemcpyDtoDAsync_v2, (ptr, ptr, size_t, handle), there, here, bytes, streams[in]);
                    }
                    code |= finish(in);
                    code |= CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, data[to], MOST);
                    hash ^= sum(back, MOST);
                    if (memcmp(back + 5, host, bytes) || back[4] || back[5 + bytes]) code |= 1 << 16;
                }
                printf("copy to %d, in %d, form %d %d\n", to, in, how, code);
                printf("  sum %llu\n", hash);
            }
    current(0);
    SAY("cuMemcpyPeer past the end", CALL(cuMemcpyPeer, (ptr, handle, ptr, handle, size_t), data[1] + MOST - 4, contexts[1], data[0], contexts[0], 8));
    SAY("cuMemcpyPeer from past the end", CALL(cuMemcpyPeer, (ptr, handle, ptr, handle, size_t), data[1], contexts[1], data[0] + MOST - 4, contexts[0], 8));
    SAY("cuMemcpyPeer of no context", CALL(cuMemcpyPeer, (ptr, handle, ptr, handle, size_t), data[1], (handle)0x1234560, data[0], contexts[0], 8));
    SAY("cuMemcpyDtoD to nothing", CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), 0x1000, data[1], 8));
    SAY("cuMemcpyDtoDAsync in no stream", CALL(cuMemcpyDtoDAsync_v2, (ptr, ptr, size_t, handle), data[0], data[1], 8, (handle)0x1234560));
}

static void boxes(void) {
    handle arrays[2] = {NULL, NULL};
    static unsigned char texels[64 * 48 * 4], found[64 * 48 * 4];
    for (int i = 0; i < 2; i++) {
        current(i);
        arrays[i] = made(64, 48, 0, U8, 4, 0);
    }
    for (size_t i = 0; i < sizeof texels; i++) texels[i] = (unsigned char)(i * 5 + i / 256);
    current(0);
    SAY("to an array", move(arrays[0], texels, 0, 0, 0, 256, 48, 1, 1, NULL));
    box copy;
    memset(&copy, 0, sizeof copy);
    copy.src = (struct corner){.x = 16, .y = 3, .type = ARRAY, .array = arrays[0]};
    copy.dst = (struct corner){.x = 32, .y = 7, .type = ARRAY, .array = arrays[1]};
    copy.width = 128, copy.height = 40, copy.depth = 1;
    SAY("an array to the other's", CALL(cuMemcpy3D_v2, (const box *), &copy));
    SAY("from that, under the other context", move(arrays[1], found, 32, 7, 0, 128, 40, 1, 0, NULL));
    SAY("  sum", sum(found, 128 * 40));
    copy.dst = (struct corner){.type = DEVICE, .device = data[1] + 100, .pitch = 300};
    SAY("an array to the other's memory", CALL(cuMemcpy3DAsync_v2, (const box *, handle), &copy, streams[0]));
    finish(0);
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), found, data[1] + 100, 300 * 39 + 128);
    SAY("  sum of a row", sum(found + 300 * 39, 128));
    copy.src = (struct corner){.type = DEVICE, .device = data[1] + 100, .pitch = 300};
    copy.dst = (struct corner){.type = DEVICE, .device = data[0] + 64, .pitch = 200};
    SAY("rows to the other's rows", CALL(cuMemcpy3DAsync_v2, (const box *, handle), &copy, streams[1]));
    finish(1);
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), found, data[0] + 64 + 200 * 39, 128);
    SAY("  sum of a row", sum(found, 128));
    copy.width = 256;
    SAY("rows that overlap", CALL(cuMemcpy3DAsync_v2, (const box *, handle), &copy, streams[1]));
    for (int i = 0; i < 2; i++) SAY("cuArrayDestroy", CALL(cuArrayDestroy, (handle), arrays[i]));
}

static void events(void) {
    float time = 0;
    handle mine = NULL;
    current(0);
    SAY("cuEventQuery of the other's", CALL(cuEventQuery, (handle), stamps[1]));
    SAY("cuEventSynchronize of the other's", CALL(cuEventSynchronize, (handle), stamps[1]));
    SAY("cuStreamQuery of the other's", CALL(cuStreamQuery, (handle), streams[1]));
    SAY("cuEventRecord of the other's", CALL(cuEventRecord, (handle, handle), stamps[1], streams[0]));
    SAY("cuEventRecord of the other's, default stream", CALL(cuEventRecord, (handle, handle), stamps[1], NULL));
    SAY("cuEventRecord in the other's stream", CALL(cuEventRecord, (handle, handle), stamps[0], streams[1]));
    SAY("cuEventRecord there", record(1));
    SAY("cuStreamSynchronize there", finish(1));
    SAY("cuEventElapsedTime of both", CALL(cuEventElapsedTime, (float *, handle, handle), &time, stamps[0], stamps[1]));
    SAY("cuStreamWaitEvent for one that was never recorded", follow(1));
    SAY("cuStreamWaitEvent of no event", CALL(cuStreamWaitEvent, (handle, handle, unsigned), streams[0], (handle)0x1234560, 0));
    SAY("cuStreamWaitEvent of no stream", CALL(cuStreamWaitEvent, (handle, handle, unsigned), (handle)0x1234560, stamps[1], 0));
    SAY("cuStreamWaitEvent(bad flags)", CALL(cuStreamWaitEvent, (handle, handle, unsigned), streams[0], stamps[1], 8));
    SAY("cuStreamCreate", CALL(cuStreamCreate, (handle *, unsigned), &mine, 1));
    SAY("cuStreamDestroy under the other context", (current(1), CALL(cuStreamDestroy_v2, (handle), mine)));
    SAY("cuStreamDestroy again", CALL(cuStreamDestroy_v2, (handle), mine));
    SAY("cuLaunchKernel of the other's function", launch(adds[0], streams[1], (void *[]){&data[1], &(unsigned){1}}));
    SAY("cuLaunchKernel of the other's, default stream", launch(adds[0], NULL, (void *[]){&data[1], &(unsigned){1}}));
    int value = 0;
    SAY("cuFuncGetAttribute of the other's", CALL(cuFuncGetAttribute, (int *, unsigned, handle), &value, 0, adds[0]));
    for (int i = 0; i < 2; i++) {
        current(i);
        set(data[0], 0), set(data[1], 0);
        spin(0, data[0], 300000);
        record(0);
        SAY("cuStreamWaitEvent of the other's", follow(1));
        SAY("cuMemcpyPeerAsync behind it", across(data[1], 1, data[0], 4, 1));
        add(1, data[1], 5);
        record(1);
        SAY("cuCtxWaitEvent of the other's", CALL(cuCtxWaitEvent, (handle, handle), contexts[0], stamps[1]));
        SAY("cuMemcpyPeerAsync back", across(data[0], 0, data[1], 4, 0));
        add(0, data[0], 7);
        SAY("cuStreamSynchronize", finish(0));
        SAY("  value", word(data[0]));
    }
}

/* Each device adds to what it has from the other, with the same two events all the time. */
static void chain(int rounds) {
    set(data[0], 0), set(data[1], 0);
    current(0);
    int code = 0;
    for (int i = 0; i < rounds; i++) {
        int to = i % 2;
        code |= add(1 - to, data[1 - to], i + 1);
        code |= record(1 - to) | follow(to) | across(data[to], to, data[1 - to], 4, to) | record(to) | follow(1 - to);
    }
    printf("chain of %d %d\n", rounds, code);
    finish(0), finish(1);
    SAY("  value", word(data[rounds % 2 ? 1 : 0]));
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER;
static int gate, calls;
static void pass(void *unused) {
    pthread_mutex_lock(&lock);
    while (!gate) pthread_cond_wait(&told, &lock);
    calls++;
    pthread_mutex_unlock(&lock);
}
static void open_gate(int is_open) {
    pthread_mutex_lock(&lock);
    gate = is_open;
    pthread_cond_broadcast(&told);
    pthread_mutex_unlock(&lock);
}

/* A stream stands until this thread goes on: nothing that waits for it may keep this thread. */
static void standing(void) {
    handle free_stream = NULL;
    for (int i = 0; i < 2; i++) {
        current(i);
        set(data[0], 0), set(data[1], 0), set(data[i] + 64, 0);
        open_gate(0);
        SAY("cuLaunchHostFunc", CALL(cuLaunchHostFunc, (handle, void *, void *), streams[i], pass, NULL));
        add(i, data[i], 3);
        record(i);
        SAY("cuStreamWaitEvent behind a function", follow(1 - i));
        SAY("cuMemcpyPeerAsync behind a function", across(data[1 - i], 1 - i, data[i], 4, 1 - i));
        add(1 - i, data[1 - i], 4);
        record(1 - i);
        /* Anew, behind what waits for it: the wait above is for the first one. */
        SAY("cuStreamWaitEvent back", follow(i));
        SAY("cuMemcpyPeerAsync back", across(data[i] + 4, i, data[1 - i], 4, i));
        add(i, data[i] + 4, 5);
        record(i);
        SAY("cuStreamQuery", CALL(cuStreamQuery, (handle), streams[1 - i]));
        open_gate(1);
        SAY("cuStreamSynchronize", finish(i));
        SAY("  value there", word(data[1 - i]));
        SAY("  value here", word(data[i] + 4));
        current(i);
        CALL(cuStreamCreate, (handle *, unsigned), &free_stream, 1);
        SAY("cuStreamWaitValue32", CALL(cuStreamWaitValue32_v2, (handle, ptr, unsigned, unsigned), streams[i], data[i] + 64, 1, 0));
        add(i, data[i], 10);
        record(i);
        SAY("cuStreamWaitEvent behind a wait", follow(1 - i));
        SAY("cuMemcpyPeerAsync behind a wait", across(data[1 - i], 1 - i, data[i], 4, 1 - i));
        SAY("cuStreamQuery", CALL(cuStreamQuery, (handle), streams[1 - i]));
        SAY("cuStreamWriteValue32", CALL(cuStreamWriteValue32_v2, (handle, ptr, unsigned, unsigned), free_stream, data[i] + 64, 1, 0));
        SAY("cuStreamSynchronize", finish(1 - i));
        SAY("  value there", word(data[1 - i]));
        current(i);
        CALL(cuCtxSynchronize, (void));
        CALL(cuStreamDestroy_v2, (handle), free_stream);
    }
    SAY("functions ran", calls);
    /* Functions on both, and many waits ahead of them. */
    set(data[0], 0), set(data[1], 0);
    int code = 0;
    for (int i = 0; i < 10; i++) {
        int to = i % 2;
        code |= CALL(cuLaunchHostFunc, (handle, void *, void *), streams[1 - to], pass, NULL);
        code |= add(1 - to, data[1 - to], 1) | record(1 - to) | follow(to) | across(data[to], to, data[1 - to], 4, to) | record(to) | follow(1 - to);
    }
    SAY("functions and waits of both", code);
    SAY("cuStreamSynchronize", finish(0) | finish(1));
    SAY("  value", word(data[0]));
    SAY("functions ran", calls);
}

static void pinned(void) {
    unsigned *buffer = NULL;
    current(0);
    SAY("cuMemHostAlloc", CALL(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&buffer, 1 << 20, 0));
    buffer[0] = 0;
    set(data[0], 0), set(data[1], 0);
    current(1);
    SAY("cuMemHostRegister of it", CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), buffer, 4096, 0));
    spin(1, data[1], 200000);
    SAY("cuMemcpyDtoHAsync from the other's", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), buffer, data[1], 1 << 20, streams[1]));
    record(1);
    SAY("cuStreamWaitEvent", follow(0));
    SAY("cuMemcpyHtoDAsync", CALL(cuMemcpyHtoDAsync_v2, (ptr, void *, size_t, handle), data[0], buffer, 1 << 20, streams[0]));
    add(0, data[0], 1);
    SAY("cuStreamSynchronize", finish(0));
    SAY("  value", word(data[0]));
    SAY("  pinned value", buffer[0]);
    SAY("cuMemcpyDtoHAsync in the other's stream", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), buffer + 1, data[0], 4, streams[1]));
    SAY("cuMemcpyHtoDAsync in the other's stream", CALL(cuMemcpyHtoDAsync_v2, (ptr, void *, size_t, handle), data[0] + 8, buffer, 4, streams[1]));
    SAY("cuStreamSynchronize", finish(1));
    SAY("  values", buffer[1] == 200001 && word(data[0] + 8) == 200000);
    unsigned flags = 9;
    SAY("cuMemHostGetFlags", CALL(cuMemHostGetFlags, (unsigned *, void *), &flags, buffer));
    SAY("cuMemFreeHost under the other context", CALL(cuMemFreeHost, (void *), buffer));
    SAY("cuMemFreeHost again", CALL(cuMemFreeHost, (void *), buffer));
}

static void libraries(void) {
    handle library = NULL, kernel = NULL, owner = NULL, function = NULL;
    ptr bias[2] = {0, 0};
    int value = -1;
    size_t size = 0;
    current(-1);
    SAY("cuLibraryLoadData", CALL(cuLibraryLoadData, (handle *, const void *, unsigned *, void **, unsigned, unsigned *, void **, unsigned), &library, PTX, NULL, NULL, 0, NULL, NULL, 0));
    SAY("cuLibraryGetKernel", CALL(cuLibraryGetKernel, (handle *, handle, const char *), &kernel, library, "add"));
    for (int i = 0; i < 2; i++) {
        current(i);
        unsigned n = 20 + i;
        set(data[i], 0);
        SAY("cuLibraryGetGlobal", CALL(cuLibraryGetGlobal, (ptr *, size_t *, handle, const char *), &bias[i], &size, library, "bias"));
        SAY("  size", size);
        SAY("cuMemsetD32 of it", set(bias[i], 100 * (i + 1)));
        SAY("cuLaunchKernel of the kernel", launch(kernel, streams[i], (void *[]){&data[i], &n}));
        SAY("cuKernelGetFunction", CALL(cuKernelGetFunction, (handle *, handle), &function, kernel));
        SAY("cuLaunchKernel of its function", launch(function, streams[i], (void *[]){&data[i], &n}));
        SAY("cuStreamSynchronize", finish(i));
        SAY("  value", word(data[i]));
        SAY("cuKernelSetAttribute", CALL(cuKernelSetAttribute, (unsigned, int, handle, int), 8, 1000 + i, kernel, i));
        SAY("cuKernelGetAttribute", CALL(cuKernelGetAttribute, (int *, unsigned, handle, int), &value, 8, kernel, i));
        SAY("  value", value);
        SAY("cuKernelGetLibrary", CALL(cuKernelGetLibrary, (handle *, handle), &owner, kernel));
        SAY("  it is that", owner == library);
        SAY("cuOccupancyMaxActiveBlocksPerMultiprocessor", CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *, handle, int, size_t), &value, kernel, 32, 0));
        SAY("  some", value > 0);
    }
    SAY("cuLaunchKernel of the other's function", launch(function, streams[0], (void *[]){&data[0], &(unsigned){1}}));
    SAY("cuLibraryUnload", CALL(cuLibraryUnload, (handle), library));
    for (int i = 0; i < 2; i++) {
        current(i);
        SAY("cuLaunchKernel of what is gone", launch(kernel, streams[i], (void *[]){&data[i], &(unsigned){1}}));
    }
}

static void pools(void) {
    handle pool = NULL, default_pool = NULL;
    ptr at = 0;
    int device = -1;
    current(0);
    SAY("cuDeviceGetDefaultMemPool(1)", CALL(cuDeviceGetDefaultMemPool, (handle *, int), &default_pool, 1));
    SAY("cuMemAllocAsync in the other's stream", CALL(cuMemAllocAsync, (ptr *, size_t, handle), &at, 4096, streams[1]));
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &device, 9, at);
    SAY("  device", device);
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &pool, 17, at);
    SAY("  pool", pool == default_pool);
    SAY("cuMemcpyPeerAsync to it", across(at, 1, data[0], 4096, 1));
    SAY("cuMemFreeAsync", CALL(cuMemFreeAsync, (ptr, handle), at, streams[1]));
    SAY("cuStreamSynchronize", finish(1));
    uint64_t threshold = 1;
    SAY("cuMemPoolSetAttribute", CALL(cuMemPoolSetAttribute, (handle, unsigned, void *), default_pool, 4, &threshold));
    SAY("cuMemPoolTrimTo", CALL(cuMemPoolTrimTo, (handle, size_t), default_pool, 0));
}

struct kernel { handle function; unsigned grid[3], block[3], shared; void **params, **extra; };
static void graphs(void) {
    handle graph = NULL, node = NULL, exec = NULL, nodes[4];
    size_t count = 4;
    unsigned n = 6;
    current(1);
    set(data[1], 1);
    SAY("cuGraphCreate", CALL(cuGraphCreate, (handle *, unsigned), &graph, 0));
    current(0);
    struct kernel add_n = {adds[1], {1, 1, 1}, {1, 1, 1}, 0, (void *[]){&data[1], &n}, NULL};
    SAY("cuGraphAddKernelNode under the other context", CALL(cuGraphAddKernelNode, (handle *, handle, handle *, size_t, void *), &node, graph, NULL, 0, &add_n));
    SAY("cuGraphGetNodes", CALL(cuGraphGetNodes, (handle, handle *, size_t *), graph, nodes, &count));
    SAY("  it is that", count == 1 && nodes[0] == node);
    SAY("cuGraphInstantiate", CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &exec, graph, 0));
    SAY("cuGraphLaunch in the other's stream", CALL(cuGraphLaunch, (handle, handle), exec, streams[1]));
    SAY("cuStreamSynchronize", finish(1));
    SAY("  value", word(data[1]));
    SAY("cuGraphExecDestroy", CALL(cuGraphExecDestroy, (handle), exec));
    SAY("cuGraphDestroy", CALL(cuGraphDestroy, (handle), graph));
    SAY("cuStreamBeginCapture in the other's stream", CALL(cuStreamBeginCapture_v2, (handle, unsigned), streams[1], 2));
    SAY("cuLaunchKernel", add(1, data[1], 6));
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), streams[1], &graph));
    count = 4;
    SAY("cuGraphGetNodes", CALL(cuGraphGetNodes, (handle, handle *, size_t *), graph, nodes, &count));
    SAY("  nodes", count);
    SAY("cuGraphDestroyNode", CALL(cuGraphDestroyNode, (handle), nodes[0]));
    SAY("cuGraphDestroy", CALL(cuGraphDestroy, (handle), graph));
}

static ptr parts[2];
static int failures[2];
static void *work(void *argument) {
    int own = argument != NULL;
    int code = current(own);
    for (unsigned i = 0; i < 40; i++) {
        ptr at = 0;
        code |= CALL(cuMemAlloc_v2, (ptr *, size_t), &at, 70000);
        code |= CALL(cuMemsetD32Async, (ptr, unsigned, size_t, handle), at, i, 1, streams[own]);
        code |= add(own, at, 1);
        code |= CALL(cuMemcpyPeerAsync, (ptr, handle, ptr, handle, size_t, handle), parts[1 - own], contexts[1 - own], at, contexts[own], 4, streams[own]);
        code |= finish(own);
        code |= CALL(cuMemFree_v2, (ptr), at);
    }
    failures[own] = code;
    return NULL;
}
static void threads(void) {
    pthread_t both[2];
    for (int i = 0; i < 2; i++) {
        current(i);
        CALL(cuMemAlloc_v2, (ptr *, size_t), &parts[i], 4096);
    }
    for (size_t i = 0; i < 2; i++) pthread_create(&both[i], NULL, work, (void *)i);
    for (int i = 0; i < 2; i++) pthread_join(both[i], NULL);
    for (int i = 0; i < 2; i++) {
        SAY("a thread's calls", failures[i]);
        SAY("  what the other has brought", word(parts[i]));
        CALL(cuMemFree_v2, (ptr), parts[i]);
    }
}

struct prop { int kind, handles, location, id; void *win32; unsigned char flags[8]; };
struct access { int location, id, flags; };
static void mappings(void) {
    ptr at = 0;
    uint64_t memory = 0, flags = 9;
    struct prop prop = {1, 0, 1, 1, NULL, {0}};
    struct access access = {1, 1, 3};
    size_t bytes = 4 << 20;
    current(1);
    SAY("cuMemAddressReserve", CALL(cuMemAddressReserve, (ptr *, size_t, size_t, ptr, uint64_t), &at, bytes, 0, 0, 0));
    current(0);
    SAY("cuMemCreate on device 1", CALL(cuMemCreate, (uint64_t *, size_t, void *, uint64_t), &memory, bytes, &prop, 0));
    SAY("cuMemMap", CALL(cuMemMap, (ptr, size_t, size_t, uint64_t, uint64_t), at, bytes, 0, memory, 0));
    SAY("cuMemSetAccess", CALL(cuMemSetAccess, (ptr, size_t, void *, size_t), at, bytes, &access, 1));
    SAY("cuMemGetAccess", CALL(cuMemGetAccess, (uint64_t *, void *, ptr), &flags, &access, at));
    SAY("  flags", flags);
    set(data[0], 4242);
    SAY("cuMemcpyDtoD to it", CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), at + 4096, data[0], 4));
    SAY("  value", word(at + 4096));
    SAY("cuMemUnmap", CALL(cuMemUnmap, (ptr, size_t), at, bytes));
    SAY("cuMemRelease", CALL(cuMemRelease, (uint64_t), memory));
    SAY("cuMemAddressFree", CALL(cuMemAddressFree, (ptr, size_t), at, bytes));
}

static void peers(void) {
    int can = -1, value = -1;
    current(0);
    SAY("peer cuDeviceCanAccessPeer", CALL(cuDeviceCanAccessPeer, (int *, int, int), &can, 0, 1));
    SAY("peer   it can", can);
    SAY("peer cuDeviceGetP2PAttribute", CALL(cuDeviceGetP2PAttribute, (int *, unsigned, int, int), &value, 2, 0, 1));
    SAY("peer   access", value);
    SAY("peer cuCtxEnablePeerAccess", CALL(cuCtxEnablePeerAccess, (handle, unsigned), contexts[1], 0));
    SAY("peer cuCtxDisablePeerAccess", CALL(cuCtxDisablePeerAccess, (handle), contexts[1]));
    SAY("cuCtxDisablePeerAccess again", CALL(cuCtxDisablePeerAccess, (handle), contexts[1]));
    SAY("cuCtxEnablePeerAccess(bad flags)", CALL(cuCtxEnablePeerAccess, (handle, unsigned), contexts[1], 1));
    SAY("cuCtxEnablePeerAccess of no context", CALL(cuCtxEnablePeerAccess, (handle, unsigned), (handle)0x1234560, 0));
    SAY("cuDeviceCanAccessPeer(beyond)", CALL(cuDeviceCanAccessPeer, (int *, int, int), &can, 0, 9));
    SAY("cuDeviceGetP2PAttribute(no attribute)", CALL(cuDeviceGetP2PAttribute, (int *, unsigned, int, int), &value, 99, 0, 1));
}

static void both(void) {
    SAY("cuInit", CALL(cuInit, (unsigned), 0));
    for (int i = 0; i < 2; i++) {
        SAY("cuCtxCreate", CALL(cuCtxCreate_v2, (handle *, unsigned, int), &contexts[i], 0, i));
        SAY("cuMemAlloc", CALL(cuMemAlloc_v2, (ptr *, size_t), &data[i], MOST));
        SAY("cuStreamCreate", CALL(cuStreamCreate, (handle *, unsigned), &streams[i], 1));
        SAY("cuEventCreate", CALL(cuEventCreate, (handle *, unsigned), &stamps[i], 0));
        SAY("cuModuleLoadData", CALL(cuModuleLoadData, (handle *, const void *), &modules[i], PTX));
    }
    current(0);
    for (int i = 0; i < 2; i++) {
        SAY("cuModuleGetFunction", CALL(cuModuleGetFunction, (handle *, handle, const char *), &adds[i], modules[i], "add"));
        CALL(cuModuleGetFunction, (handle *, handle, const char *), &spins[i], modules[i], "spin");
    }
}

/* What is of one server, and says so. */
static void apart(void) {
    handle graph = NULL, object = NULL, node = NULL;
    unsigned n = 1;
    ptr at = 0;
    current(0);
    SAY("cuStreamBeginCapture", CALL(cuStreamBeginCapture_v2, (handle, unsigned), streams[0], 2));
    SAY("cuMemcpyPeerAsync in a capture", across(data[1], 1, data[0], 4, 0));
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), streams[0], &graph));
    spin(1, data[1], 300000), record(1);
    SAY("cuStreamBeginCapture", CALL(cuStreamBeginCapture_v2, (handle, unsigned), streams[0], 2));
    SAY("cuStreamWaitEvent in a capture", follow(0));
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), streams[0], &graph));
    SAY("cuLaunchKernel behind captures", add(0, data[0], 1) | finish(0) | finish(1));
    CALL(cuGraphCreate, (handle *, unsigned), &graph, 0);
    struct kernel kernel = {adds[1], {1, 1, 1}, {1, 1, 1}, 0, (void *[]){&data[1], &n}, NULL};
    SAY("a graph with the other's kernel", CALL(cuGraphAddKernelNode, (handle *, handle, handle *, size_t, void *), &node, graph, NULL, 0, &kernel));
    current(1);
    SAY("cuUserObjectCreate", CALL(cuUserObjectCreate, (handle *, void *, void *, unsigned, unsigned), &object, NULL, pass, 1, 1));
    SAY("a graph with the other's object", CALL(cuGraphRetainUserObject, (handle, handle, unsigned, unsigned), graph, object, 1, 0));
    SAY("cuMemAllocManaged", CALL(cuMemAllocManaged, (ptr *, size_t, unsigned), &at, 4096, 1));
    *(volatile unsigned *)at = 321;
    SAY("cuMemcpyDtoD from the other's managed memory", CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), data[0], at, 4));
    SAY("  value", word(data[0]));
    SAY("cuMemcpyDtoD to it", (set(data[0], 654), CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), at, data[0], 4)));
    SAY("  value", *(volatile unsigned *)at);
    current(0);
    SAY("cuMemFree of it", CALL(cuMemFree_v2, (ptr), at));
}

static void tell(int device) {
    unsigned value = 0;
    SAY("device", device);
    SAY("cuCtxSetCurrent", current(device));
    SAY("cuMemAlloc", CALL(cuMemAlloc_v2, (ptr *, size_t), &(ptr){0}, 4096));
    SAY("cuMemcpyHtoD", CALL(cuMemcpyHtoD_v2, (ptr, void *, size_t), data[device], &value, 4));
    SAY("cuLaunchKernel", add(device, data[device], 9));
    SAY("cuStreamSynchronize", finish(device));
    SAY("cuMemcpyDtoH", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, data[device], 4));
    SAY("  value", value);
    SAY("cuMemcpyPeer from the other", CALL(cuMemcpyPeer, (ptr, handle, ptr, handle, size_t), data[device], contexts[device], data[1 - device], contexts[1 - device], 4));
    record(device);
    SAY("cuStreamWaitEvent of the other's", follow(device));
}
static void lost(void) {
    char line[16];
    ptr at = 0;
    current(0);
    SAY("ready", 0);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return;
    /* The first call that waits learns of it. */
    add(0, data[0], 1);
    SAY("lost: cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("lost: cuMemAlloc", CALL(cuMemAlloc_v2, (ptr *, size_t), &at, 4096));
    SAY("lost: cuStreamCreate", CALL(cuStreamCreate, (handle *, unsigned), &(handle){NULL}, 0));
    current(1);
    int count = -1;
    handle popped = NULL;
    tell(0);
    SAY("cuDeviceGetCount", CALL(cuDeviceGetCount, (int *), &count));
    SAY("  devices", count);
    SAY("cuCtxPopCurrent", CALL(cuCtxPopCurrent_v2, (handle *), &popped));
    tell(1);
    SAY("cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), contexts[1]));
}

int main(int count, char **arguments) {
    const char *mode = count > 1 ? arguments[1] : "";
    load();
    if (!strcmp(mode, "list")) return list(), 0;
    host = malloc(MOST), back = malloc(MOST);
    both();
    if (!strcmp(mode, "apart")) return apart(), 0;
    if (!strcmp(mode, "lost")) return lost(), 0;
    contexts_of_both();
    pointers();
    copies();
    boxes();
    events();
    chain(1), chain(8), chain(61);
    standing();
    pinned();
    libraries();
    pools();
    graphs();
    threads();
    mappings();
    peers();
    for (int i = 0; i < 2; i++) SAY("cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), contexts[i]));
    return 0;
}
