/* Memory and events between processes: each line is a fact that must be the same on a driver and through the remoting. The program starts
   itself again as the other process; the two take turns by bytes on a socket, so that their facts come in one order. */
#include "by_name.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAY(fact, value) printf("%-56s %lld\n", fact, (long long)(value))

typedef struct { unsigned char bytes[64]; } token;

enum { SMALL = 4096, MIDDLE = 3 << 20, LARGE = 40 << 20, LAZY = 1, NO_TIMING = 2, INTERPROCESS = 4, ROUNDS = 50 };

/* `wait` waits for a word that is not 0 and passes it on, `add` adds to a word. */
static const char *PTX =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .entry wait(.param .u64 flag, .param .u64 out) {\n"
    "  .reg .pred %p; .reg .u32 %r<2>; .reg .u64 %d<3>;\n"
    "  ld.param.u64 %d0, [flag]; ld.param.u64 %d1, [out];\n"
    "again: ld.volatile.global.u32 %r0, [%d0]; setp.eq.u32 %p, %r0, 0; @%p bra again;\n"
    "  st.global.u32 [%d1], %r0; ret;\n}\n"
    ".visible .entry add(.param .u64 word, .param .u32 value) {\n"
    "  .reg .u32 %r<3>; .reg .u64 %d<2>;\n"
    "  ld.param.u64 %d0, [word]; ld.param.u32 %r0, [value];\n"
    "  ld.volatile.global.u32 %r1, [%d0]; add.u32 %r1, %r1, %r0; st.volatile.global.u32 [%d0], %r1; ret;\n}\n";

static handle context, module, wait_kernel, add_kernel, stream;
static int other; /* the socket to the other process */

static void put(const void *bytes, size_t count) {
    fflush(stdout);
    if (write(other, bytes, count) != (ssize_t)count) exit(3);
}
static void get(void *bytes, size_t count) {
    for (size_t have = 0; have < count;) {
        ssize_t more = read(other, (char *)bytes + have, count - have);
        if (more <= 0) exit(4);
        have += more;
    }
}
/* The other one goes on; and wait for one's turn. */
static void go(void) { put("", 1); }
static void turn(void) {
    char byte;
    get(&byte, 1);
}

static void begin(void) {
    CALL(cuInit, (unsigned), 0);
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &wait_kernel, module, "wait");
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &add_kernel, module, "add");
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
}
static ptr take(size_t bytes) {
    ptr at = 0;
    CALL(cuMemAlloc_v2, (ptr *, size_t), &at, bytes);
    return at;
}
static int export(token *out, ptr at) { return CALL(cuIpcGetMemHandle, (token *, ptr), out, at); }
static int open_memory(ptr *out, token of) { return CALL(cuIpcOpenMemHandle_v2, (ptr *, token, unsigned), out, of, LAZY); }
static int close_memory(ptr at) { return CALL(cuIpcCloseMemHandle, (ptr), at); }
static int open_event(handle *out, token of) { return CALL(cuIpcOpenEventHandle, (handle *, token), out, of); }
/* The session of a remote program ends a moment after the program. */
static int open_dead_memory(token of) {
    ptr at = 0;
    int code = open_memory(&at, of);
    for (int tries = 0; tries < 5000 && !code; tries++) {
        close_memory(at);
        usleep(1000);
        code = open_memory(&at, of);
    }
    return code;
}
static int fill(ptr at, unsigned char value, size_t bytes) {
    int code = CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), at, value, bytes);
    return code ? code : CALL(cuCtxSynchronize, (void));
}
static void set(ptr at, unsigned value) { CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), at, &value, 4); }
static unsigned word(ptr at) {
    unsigned value = 0;
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, at, 4);
    return value;
}
static int launch(handle kernel, handle in, void *first, void *second) {
    return CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **),
                kernel, 1, 1, 1, 1, 1, 1, 0, in, ((void *[]){first, second}), NULL);
}
/* The first byte that is not as it should be, or -1. */
static long long differs(ptr at, size_t bytes, unsigned char value) {
    unsigned char *back = malloc(bytes);
    long long found = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, at, bytes) ? -2 : -1;
    for (size_t i = 0; found == -1 && i < bytes; i++)
        if (back[i] != value) found = (long long)i;
    free(back);
    return found;
}

static pid_t start(const char *role) {
    int pair[2];
    char number[16];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) exit(5);
    fcntl(pair[0], F_SETFD, FD_CLOEXEC);
    snprintf(number, sizeof number, "%d", pair[1]);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        execl("/proc/self/exe", "ipc", role, number, NULL);
        _exit(6);
    }
    close(pair[1]);
    other = pair[0];
    return child;
}
static int ended(pid_t child) {
    int status = -1;
    close(other);
    waitpid(child, &status, 0);
    return status;
}

/* What the first process makes for the others. */
struct offer { token small, middle, large, first, second; };

static void refusals(struct offer *offer, ptr small) {
    token out, none, wrong;
    ptr at = 0, ordered = 0, managed = 0, pinned = 0;
    handle event = NULL;
    char host[64];
    memset(&none, 0, sizeof none);
    SAY("cuIpcGetMemHandle(NULL)", export(NULL, small));
    SAY("cuIpcGetMemHandle(host)", export(&out, (ptr)(uintptr_t)host));
    SAY("cuIpcGetMemHandle(0)", export(&out, 0));
    CALL(cuMemAllocAsync, (ptr *, size_t, handle), &ordered, 4096, stream);
    SAY("cuIpcGetMemHandle(of a pool)", export(&out, ordered));
    CALL(cuMemAllocManaged, (ptr *, size_t, unsigned), &managed, 4096, 1);
    SAY("cuIpcGetMemHandle(managed)", export(&out, managed));
    CALL(cuMemAllocHost_v2, (ptr *, size_t), &pinned, 4096);
    SAY("cuIpcGetMemHandle(pinned)", export(&out, pinned));
    ptr gone = take(4096);
    CALL(cuMemFree_v2, (ptr), gone);
    SAY("cuIpcGetMemHandle(freed)", export(&out, gone));
    SAY("cuIpcOpenMemHandle of one's own", open_memory(&at, offer->small));
    SAY("cuIpcOpenMemHandle (first form)", CALL(cuIpcOpenMemHandle, (ptr *, token, unsigned), &at, offer->small, LAZY));
    SAY("cuIpcOpenMemHandle(NULL)", open_memory(NULL, offer->small));
    SAY("cuIpcOpenMemHandle(no flags)", CALL(cuIpcOpenMemHandle_v2, (ptr *, token, unsigned), &at, offer->small, 0));
    SAY("cuIpcOpenMemHandle(zeroes)", open_memory(&at, none));
    SAY("cuIpcOpenMemHandle(an event's)", open_memory(&at, offer->first));
    memset(&wrong, 0x5a, sizeof wrong);
    SAY("cuIpcOpenMemHandle(nonsense)", open_memory(&at, wrong));
    SAY("cuIpcCloseMemHandle of one's own", close_memory(small));
    SAY("cuIpcCloseMemHandle(0)", close_memory(0));
    SAY("cuEventCreate(interprocess, timing)", CALL(cuEventCreate, (handle *, unsigned), &event, INTERPROCESS));
    CALL(cuEventCreate, (handle *, unsigned), &event, NO_TIMING);
    SAY("cuIpcGetEventHandle(not interprocess)", CALL(cuIpcGetEventHandle, (token *, handle), &out, event));
    SAY("cuIpcGetEventHandle(no event)", CALL(cuIpcGetEventHandle, (token *, handle), &out, (handle)0x1234560));
    SAY("cuIpcGetEventHandle(NULL)", CALL(cuIpcGetEventHandle, (token *, handle), NULL, event));
    SAY("cuIpcOpenEventHandle of one's own", open_event(&event, offer->first));
    SAY("cuIpcOpenEventHandle(zeroes)", open_event(&event, none));
    SAY("cuIpcOpenEventHandle(a memory's)", open_event(&event, offer->small));
    SAY("cuIpcOpenEventHandle(NULL)", open_event(NULL, offer->first));
    CALL(cuMemFreeAsync, (ptr, handle), ordered, stream);
    CALL(cuMemFree_v2, (ptr), managed);
    CALL(cuMemFreeHost, (ptr), pinned);
}

static size_t free_bytes(void) {
    size_t free = 0, total = 0;
    CALL(cuMemGetInfo_v2, (size_t *, size_t *), &free, &total);
    return free;
}

/* What the other process makes of memory. */
static ptr opened_memory(const struct offer *offer, ptr *middle, ptr *large) {
    ptr small = 0, again = 0, base = 0;
    size_t size = 0, before = free_bytes();
    unsigned kind = 0, capable = 9, managed = 9;
    int device = -1;
    token damaged = offer->small, out;
    handle owner = NULL;
    SAY("other: cuIpcOpenMemHandle", open_memory(&small, offer->small));
    SAY("other: cuIpcOpenMemHandle of 3 MiB", open_memory(middle, offer->middle));
    SAY("other: cuIpcOpenMemHandle of 40 MiB", open_memory(large, offer->large));
    SAY("  nothing is charged for it", free_bytes() == before);
    damaged.bytes[30] ^= 0xff;
    SAY("other: cuIpcOpenMemHandle(damaged)", open_memory(&again, damaged));
    SAY("other: cuMemGetAddressRange", CALL(cuMemGetAddressRange_v2, (ptr *, size_t *, ptr), &base, &size, small + 100));
    SAY("  begins there", base == small);
    SAY("  bytes", size);
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &kind, 2, small);
    SAY("  is the device's", kind == 2);
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &owner, 1, small);
    SAY("  belongs to the context that opened it", owner == context);
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &device, 9, small);
    SAY("  device", device);
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &managed, 8, small);
    SAY("  managed", managed & 0xff);
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &capable, 10, small);
    SAY("  can be passed on", capable & 0xff);
    SAY("  has a host pointer", CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &base, 4, small));
    SAY("other: cuIpcGetMemHandle of it", export(&out, small));
    SAY("other: cuMemFree of it", CALL(cuMemFree_v2, (ptr), small));
    SAY("other: cuMemFreeAsync of it", CALL(cuMemFreeAsync, (ptr, handle), small, stream));
    SAY("other: cuMemRetainAllocationHandle of it", CALL(cuMemRetainAllocationHandle, (uint64_t *, ptr), &base, small));
    SAY("other: cuMemUnmap of it", CALL(cuMemUnmap, (ptr, size_t), small, SMALL));
    SAY("other: cuIpcCloseMemHandle(inside)", close_memory(small + 512));
    SAY("  the first one's bytes", differs(small + 64, SMALL - 64, 0x11));
    SAY("  of 3 MiB", differs(*middle, MIDDLE, 0x22));
    SAY("  of 40 MiB", differs(*large, LARGE, 0x33));
    SAY("other: a fill past the end", CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), small, 0, SMALL + 1));
    SAY("other: a copy past the end", CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), *middle, small, SMALL + 1));
    SAY("other: a copy before the beginning", CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), *middle, small - 4, 4));
    SAY("other: cuIpcOpenMemHandle again", open_memory(&again, offer->small));
    SAY("  the same place", again == small);
    SAY("other: cuIpcCloseMemHandle", close_memory(small));
    SAY("  there is still one", differs(small + 64, SMALL - 64, 0x11));
    SAY("other: a fill", fill(small + 1024, 0x44, 512));
    SAY("other: a fill of 40 MiB", fill(*large, 0x55, LARGE));
    SAY("other: a copy between the two", CALL(cuMemcpyDtoD_v2, (ptr, ptr, size_t), *middle, *large, MIDDLE));
    CALL(cuCtxSynchronize, (void));
    return small;
}

static void in_another_context(const struct offer *offer) {
    handle second = NULL;
    ptr at = 0;
    unsigned kind = 0;
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &second, 0, 0);
    SAY("other: cuIpcOpenMemHandle in a second context", open_memory(&at, offer->middle));
    SAY("  its bytes", differs(at, MIDDLE, 0x55));
    CALL(cuCtxDestroy_v2, (handle), second);
    SAY("  gone with that context", CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &kind, 2, at));
    SAY("other: cuIpcCloseMemHandle afterwards", close_memory(at));
    int failed = 0;
    for (int i = 0; i < 100; i++) failed += open_memory(&at, offer->middle) != 0 || fill(at, 0x55, 4096) != 0 || close_memory(at) != 0;
    SAY("other: opened and closed 100 times, failed", failed);
}

static void child(void) {
    struct offer offer;
    ptr at = 0, middle = 0, large = 0;
    handle first = NULL, second = NULL;
    int failed = 0;
    get(&offer, sizeof offer);
    SAY("other: cuIpcOpenMemHandle before cuInit", open_memory(&at, offer.small));
    SAY("other: cuIpcOpenEventHandle before cuInit", open_event(&first, offer.first));
    CALL(cuInit, (unsigned), 0);
    SAY("other: cuIpcOpenMemHandle without a context", open_memory(&at, offer.small));
    SAY("other: cuIpcOpenEventHandle without a context", open_event(&first, offer.first));
    begin();
    ptr small = opened_memory(&offer, &middle, &large);
    go();

    /* The first process has recorded the event behind a kernel that waits for us. */
    turn();
    SAY("other: cuIpcOpenEventHandle", open_event(&first, offer.first));
    SAY("other: cuIpcOpenEventHandle of the second", open_event(&second, offer.second));
    token none;
    SAY("other: cuIpcGetEventHandle of it", CALL(cuIpcGetEventHandle, (token *, handle), &none, first) == 0);
    float ms = 0;
    SAY("other: cuEventElapsedTime", CALL(cuEventElapsedTime, (float *, handle, handle), &ms, first, second));
    SAY("other: cuEventQuery", CALL(cuEventQuery, (handle), first));
    SAY("other: cuStreamWaitEvent", CALL(cuStreamWaitEvent, (handle, handle, unsigned), stream, first, 0));
    unsigned value = 100;
    ptr sum = small + 8;
    SAY("other: cuLaunchKernel behind it", launch(add_kernel, stream, &sum, &value));
    SAY("other: cuStreamQuery", CALL(cuStreamQuery, (handle), stream));
    set(small, 7);
    SAY("other: cuEventSynchronize", CALL(cuEventSynchronize, (handle), first));
    SAY("other: cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  what the first one's kernel wrote", word(small + 4));
    SAY("  and its own, behind it", word(small + 8));

    /* And the other way round. */
    ptr flag = small + 12, seen = small + 16;
    launch(wait_kernel, stream, &flag, &seen);
    SAY("other: cuEventRecord", CALL(cuEventRecord, (handle, handle), second, stream));
    go();
    turn();
    SAY("other: cuEventQuery of its own", CALL(cuEventQuery, (handle), second));

    /* In turns, and nobody waits on the host. */
    ptr counter = small + 20;
    value = 1;
    for (int i = 0; i < ROUNDS; i++) {
        turn();
        failed += CALL(cuStreamWaitEvent, (handle, handle, unsigned), stream, first, 0) != 0;
        failed += launch(add_kernel, stream, &counter, &value) != 0;
        failed += CALL(cuEventRecord, (handle, handle), second, stream) != 0;
        go();
    }
    turn();
    SAY("other: failed in the rounds", failed);
    in_another_context(&offer);

    SAY("other: cuIpcCloseMemHandle of 3 MiB", close_memory(middle));
    SAY("other: cuIpcCloseMemHandle again", close_memory(middle));
    SAY("  it is gone", CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), middle, 0, 4));
    go();
    /* Freed there meanwhile, and one event destroyed. */
    turn();
    SAY("other: cuIpcOpenMemHandle of freed memory", open_memory(&at, offer.middle));
    SAY("other: cuEventDestroy", CALL(cuEventDestroy_v2, (handle), second));
    SAY("other: cuEventDestroy of the first", CALL(cuEventDestroy_v2, (handle), first));
    SAY("other: cuEventQuery of a destroyed one", CALL(cuEventQuery, (handle), first));
    SAY("other: cuIpcOpenEventHandle of a destroyed one", open_event(&second, offer.second));
    SAY("other: cuIpcOpenEventHandle again", open_event(&first, offer.first));

    /* Something of its own, for after its end. */
    token tokens[3];
    ptr own = take(8192), rest = take(8192);
    fill(own, 0x66, 8192);
    SAY("other: cuIpcGetMemHandle", export(&tokens[0], own));
    export(&tokens[1], rest);
    CALL(cuEventCreate, (handle *, unsigned), &second, NO_TIMING | INTERPROCESS);
    CALL(cuIpcGetEventHandle, (token *, handle), &tokens[2], second);
    put(tokens, sizeof tokens);
    turn();
    exit(0);
}

/* One of several at once: fills its quarter. */
static void helper(int number) {
    token large;
    ptr at = 0;
    get(&large, sizeof large);
    begin();
    int code = open_memory(&at, large);
    if (!code) code = fill(at + (ptr)number * (LARGE / 4), (unsigned char)(0x70 + number), LARGE / 4);
    if (!code) code = close_memory(at);
    exit(code ? 7 : 0);
}

/* The client would place device memory there: has it placed by the driver, in the processes whose parts the variable names. */
static void occupy(const char *part) {
    const char *parts = getenv("OCCUPY");
    if (parts && strstr(parts, part)) mmap((void *)0x208000000000, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    occupy(argc == 3 ? "other" : "first");
    load();
    if (argc == 3) {
        other = atoi(argv[2]);
        fcntl(other, F_SETFD, FD_CLOEXEC);
        if (!strcmp(argv[1], "child")) child();
        helper(atoi(argv[1]));
    }
    token none, out, twice, inside;
    handle event = NULL, later = NULL, second = NULL;
    memset(&none, 0, sizeof none);
    SAY("cuIpcGetMemHandle before cuInit", export(&none, 4096));
    SAY("cuIpcGetEventHandle before cuInit", CALL(cuIpcGetEventHandle, (token *, handle), &none, NULL));
    SAY("cuIpcCloseMemHandle before cuInit", close_memory(4096));
    CALL(cuInit, (unsigned), 0);
    SAY("cuIpcGetMemHandle without a context", export(&none, 4096));
    begin();
    int supported = 0;
    CALL(cuDeviceGetAttribute, (int *, int, int), &supported, 125, 0);
    SAY("IPC_EVENT_SUPPORTED", supported);

    struct offer offer;
    take(512);
    ptr small = take(SMALL), middle = take(MIDDLE), large = take(LARGE);
    fill(small, 0x11, SMALL);
    fill(middle, 0x22, MIDDLE);
    fill(large, 0x33, LARGE);
    for (int i = 0; i < 16; i++) set(small + 4 * i, 0);
    SAY("cuIpcGetMemHandle", export(&offer.small, small));
    SAY("cuIpcGetMemHandle of 3 MiB", export(&offer.middle, middle));
    SAY("cuIpcGetMemHandle of 40 MiB", export(&offer.large, large));
    export(&twice, small);
    export(&inside, small + 1000);
    SAY("  the same again", !memcmp(&twice, &offer.small, 64));
    SAY("  and for an address inside", !memcmp(&inside, &offer.small, 64));
    SAY("  others for others", memcmp(&offer.middle, &offer.small, 64) && memcmp(&offer.middle, &offer.large, 64));
    SAY("cuEventCreate(interprocess)", CALL(cuEventCreate, (handle *, unsigned), &event, NO_TIMING | INTERPROCESS));
    CALL(cuEventCreate, (handle *, unsigned), &later, NO_TIMING | INTERPROCESS);
    SAY("cuIpcGetEventHandle", CALL(cuIpcGetEventHandle, (token *, handle), &offer.first, event));
    CALL(cuIpcGetEventHandle, (token *, handle), &offer.second, later);
    SAY("cuEventQuery of one that was never recorded", CALL(cuEventQuery, (handle), event));
    refusals(&offer, small);

    pid_t process = start("child");
    put(&offer, sizeof offer);
    turn();
    SAY("what the other one filled", differs(small + 1024, 512, 0x44));
    SAY("  nothing beside it", differs(small + 1536, SMALL - 1536, 0x11));
    SAY("  40 MiB", differs(large, LARGE, 0x55));
    SAY("  copied", differs(middle, MIDDLE, 0x55));

    ptr out_word = small + 4;
    launch(wait_kernel, stream, &small, &out_word);
    SAY("cuEventRecord behind a kernel that waits", CALL(cuEventRecord, (handle, handle), event, stream));
    go();
    turn();
    SAY("cuEventQuery of the other one's recording", CALL(cuEventQuery, (handle), later));
    CALL(cuStreamCreate, (handle *, unsigned), &second, 1);
    SAY("cuStreamWaitEvent for it", CALL(cuStreamWaitEvent, (handle, handle, unsigned), second, later, 0));
    ptr behind = small + 24, flag = small + 12;
    unsigned value = 9;
    launch(add_kernel, second, &behind, &value);
    SAY("cuStreamQuery", CALL(cuStreamQuery, (handle), second));
    SAY("cuStreamSynchronize of the first stream", CALL(cuStreamSynchronize, (handle), stream));
    set(flag, 8);
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), second));
    SAY("cuEventQuery", CALL(cuEventQuery, (handle), later));
    SAY("  what the other one's kernel wrote", word(small + 16));
    SAY("  and this one's, behind it", word(small + 24));
    go();

    ptr counter = small + 20;
    int failed = 0;
    value = 1;
    for (int i = 0; i < ROUNDS; i++) {
        failed += launch(add_kernel, stream, &counter, &value) != 0;
        failed += CALL(cuEventRecord, (handle, handle), event, stream) != 0;
        go();
        turn();
        failed += CALL(cuStreamWaitEvent, (handle, handle, unsigned), stream, later, 0) != 0;
    }
    SAY("failed in the rounds", failed);
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  counted in turns", word(counter));
    go();
    turn();

    SAY("cuMemFree of 3 MiB", CALL(cuMemFree_v2, (ptr), middle));
    ptr anew = take(MIDDLE);
    export(&out, anew);
    SAY("  another handle for the next", memcmp(&out, &offer.middle, 64) != 0);
    SAY("cuEventDestroy", CALL(cuEventDestroy_v2, (handle), later));
    go();
    token tokens[3];
    get(tokens, sizeof tokens);
    ptr theirs = 0;
    SAY("cuIpcOpenMemHandle of the other one's", open_memory(&theirs, tokens[0]));
    SAY("  its bytes", differs(theirs, 8192, 0x66));
    go();
    SAY("the other one's end", ended(process));
    SAY("cuIpcOpenMemHandle of a dead one's", open_dead_memory(tokens[1]));
    SAY("cuIpcOpenEventHandle of a dead one's", open_event(&later, tokens[2]));
    /* What was its memory is here as long as it is mapped. */
    fill(theirs, 0x67, 8192);
    SAY("cuIpcCloseMemHandle", close_memory(theirs));
    SAY("cuIpcCloseMemHandle again", close_memory(theirs));

    pid_t helpers[4];
    int sockets[4];
    for (int i = 0; i < 4; i++) {
        char role[] = {(char)('0' + i), 0};
        helpers[i] = start(role);
        sockets[i] = other;
        put(&offer.large, sizeof offer.large);
    }
    for (int i = 0; i < 4; i++) {
        other = sockets[i];
        failed += ended(helpers[i]) != 0;
        failed += differs(large + (ptr)i * (LARGE / 4), LARGE / 4, (unsigned char)(0x70 + i)) != -1;
    }
    SAY("four processes at once, failed", failed);
    SAY("cuMemFree of what has handles", CALL(cuMemFree_v2, (ptr), small));
    SAY("cuMemFree of 40 MiB", CALL(cuMemFree_v2, (ptr), large));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    return 0;
}
