/* The runtime API: errors, memory, launches, symbols, threads, streams; once by each version's library. */
#include "runtime.h"

#define N 1000

static void errors(void) {
    int value = -1;
    void *p = &value;
    FACT("cudaGetLastError at first", last_error());
    FACT("cudaGetDeviceCount", CALL(cudaGetDeviceCount, (int *), &value));
    FACT("devices", value);
    FACT("cudaSetDevice(9)", CALL(cudaSetDevice, (int), 9));
    FACT("cudaPeekAtLastError", CALL(cudaPeekAtLastError, (void)));
    FACT("cudaGetDevice, which changes no error", CALL(cudaGetDevice, (int *), &value));
    FACT("  the device", value);
    FACT("cudaGetLastError", last_error());
    FACT("cudaGetLastError again", last_error());
    FACT("cudaMalloc(0)", CALL(cudaMalloc, (void **, size_t), &p, 0));
    FACT("  nothing", p == NULL);
    FACT("cudaMalloc(1 PiB)", CALL(cudaMalloc, (void **, size_t), &p, (size_t)1 << 50));
    FACT("cudaMalloc(no place)", CALL(cudaMalloc, (void **, size_t), NULL, 4));
    FACT("cudaFree(NULL)", CALL(cudaFree, (void *), NULL));
    FACT("cudaFree(host memory)", CALL(cudaFree, (void *), &value));
    FACT("cudaMallocManaged(0)", CALL(cudaMallocManaged, (void **, size_t, unsigned), &p, 0, 1));
    FACT("cudaMemcpy(kind 9)", copy(&value, &value, 4, 9));
    FACT("cudaMemcpy of nothing", copy(&value, &value, 0, TO_DEVICE));
    FACT("cudaFreeHost(NULL)", CALL(cudaFreeHost, (void *), NULL));
    FACT("cudaStreamSynchronize(nonsense)", synchronize(&value));
    last_error();
    const char *(*text)(int) = find("cudaGetErrorName");
    printf("%s %s %s\n", text(0), text(35), text(12345));
    text = find("cudaGetErrorString");
    printf("%s, %s\n", text(0), text(2));
}

static void attributes(void) {
    struct { int type, device; void *on_device, *on_host; long rest[8]; } at;
    int (*ask)(void *, const void *) = find("cudaPointerGetAttributes");
    void *plain = malloc(64), *device = device_memory(64), *pinned = NULL, *managed = NULL;
    CALL(cudaMallocHost, (void **, size_t), &pinned, 64);
    CALL(cudaMallocManaged, (void **, size_t, unsigned), &managed, 64, 1);
    FACT("cudaPointerGetAttributes(unregistered)", ask(&at, plain));
    FACT("  type and device", at.type * 100 + at.device);
    FACT("cudaPointerGetAttributes(device)", ask(&at, (char *)device + 8));
    FACT("  type, device, same address", at.type * 100 + at.device * 10 + (at.on_device == (char *)device + 8));
    FACT("cudaPointerGetAttributes(pinned)", ask(&at, pinned));
    FACT("  type, host address", at.type * 10 + (at.on_host == pinned));
    FACT("cudaPointerGetAttributes(managed)", ask(&at, managed));
    FACT("  type, both", at.type * 10 + (at.on_host == managed && at.on_device == managed));
    FACT("cudaHostRegister", CALL(cudaHostRegister, (void *, size_t, unsigned), plain, 64, 0));
    FACT("cudaHostUnregister", CALL(cudaHostUnregister, (void *), plain));
    FACT("cudaHostUnregister again", CALL(cudaHostUnregister, (void *), plain));
    FACT("cudaGetLastError", last_error());
    CALL(cudaFree, (void *), device), CALL(cudaFreeHost, (void *), pinned), CALL(cudaFree, (void *), managed);
    free(plain);
}

static void launches(void) {
    static int x[N], y[N];
    for (int i = 0; i < N; i++) x[i] = i, y[i] = 1;
    void *dx = device_memory(sizeof x), *dy = device_memory(sizeof y);
    FACT("cudaMemcpy in", copy(dx, x, sizeof x, TO_DEVICE) + copy(dy, y, sizeof y, DEFAULT));
    FACT("cudaLaunchKernel", scale(NULL, dx, dy, 3, N));
    FACT("cudaMemcpy out", copy(y, dy, sizeof y, TO_HOST));
    int wrong = 0;
    for (int i = 0; i < N; i++) wrong += y[i] != 3 * i + 1 + 5;
    FACT("  wrong values", wrong);
    void *args[] = {&dx, &dy, &wrong, &wrong};
    FACT("cudaLaunchKernel(block of 4096)", launch("cudaLaunchKernel", &scale_stub, 1, 4096, NULL, args));
    FACT("cudaLaunchKernel(no grid)", launch("cudaLaunchKernel", &scale_stub, 0, 32, NULL, args));
    FACT("cudaLaunchKernel(not registered)", launch("cudaLaunchKernel", &stranger, 1, 32, NULL, args));
    FACT("cudaLaunchKernel(not in the code)", launch("cudaLaunchKernel", &absent_stub, 1, 32, NULL, args));
    FACT("cudaGetLastError", last_error());
    dim3 d;
    size_t shared;
    handle stream;
    FACT("__cudaPopCallConfiguration of none", CALL(__cudaPopCallConfiguration, (dim3 *, dim3 *, size_t *, void *), &d, &d, &shared, &stream));
    FACT("cudaMemcpy on the device", copy(dx, dy, sizeof y, ON_DEVICE));
    FACT("cudaMemcpy to the host", copy(x, dx, sizeof y, DEFAULT));
    FACT("  the same", memcmp(x, y, sizeof x));
    FACT("cudaMemcpy on the host", copy(x, "12345678", 8, HOST_TO_HOST));
    FACT("  copied", memcmp(x, "12345678", 8));
    handle kernel = NULL;
    FACT("__cudaGetKernel", CALL(__cudaGetKernel, (handle *, const void *), &kernel, &scale_stub));
    int a = 0, n = 1, zero = 0;
    void *more[] = {&dx, &dy, &a, &n};
    dim3 one = {1, 1, 1};
    copy(dy, &zero, 4, TO_DEVICE);
    FACT("__cudaLaunchKernel", CALL(__cudaLaunchKernel, (handle, dim3, dim3, void **, size_t, handle), kernel, one, one, more, 0, NULL));
    copy(&zero, dy, 4, TO_HOST);
    FACT("  offset", zero);
    last_error();
    CALL(cudaFree, (void *), dx), CALL(cudaFree, (void *), dy);
}

static void symbols(void) {
    typedef const void *symbol;
    int value = 77, table[4] = {0}, more[2] = {30, 40};
    size_t size = 0;
    void *address = NULL;
    FACT("cudaGetSymbolSize", CALL(cudaGetSymbolSize, (size_t *, symbol), &size, &table_var));
    FACT("  bytes", size);
    FACT("cudaGetSymbolAddress", CALL(cudaGetSymbolAddress, (void **, symbol), &address, &offset_var));
    FACT("cudaGetSymbolAddress(stranger)", CALL(cudaGetSymbolAddress, (void **, symbol), &address, &stranger));
    int (*to)(symbol, symbol, size_t, size_t, int) = find("cudaMemcpyToSymbol");
    int (*from)(void *, symbol, size_t, size_t, int) = find("cudaMemcpyFromSymbol");
    FACT("cudaMemcpyToSymbol", to(&offset_var, &value, 4, 0, TO_DEVICE));
    value = 0;
    FACT("cudaMemcpy from its address", copy(&value, address, 4, TO_HOST));
    FACT("  value", value);
    FACT("cudaMemcpyToSymbol(offset)", to(&table_var, more, 8, 8, DEFAULT));
    FACT("cudaMemcpyFromSymbol", from(table, &table_var, 16, 0, TO_HOST));
    FACT("  sum", table[0] + table[1] + table[2] + table[3]);
    FACT("cudaMemcpyToSymbol(past the end)", to(&table_var, more, 8, 12, TO_DEVICE));
    FACT("cudaMemcpyToSymbol(to the host)", to(&table_var, more, 8, 0, TO_HOST));
    value = 5;
    FACT("cudaMemcpyToSymbol back", to(&offset_var, &value, 4, 0, TO_DEVICE));
    last_error();
}

/* As compiled code does before it touches one. */
static void managed(void) {
    struct { int type, device; void *on_device, *on_host; long rest[8]; } at;
    void *address = NULL;
    int value = 50;
    size_t size = 0;
    FACT("no pointer before", tally == NULL);
    FACT("__cudaInitModule", ((char (*)(void **))find("__cudaInitModule"))(registered));
    FACT("  the variable's value", tally ? *tally : -1);
    if (!tally) return;
    *tally = 20;
    FACT("cudaLaunchKernel", launch("cudaLaunchKernel", &count_stub, 1, 1, NULL, NULL));
    FACT("cudaDeviceSynchronize", CALL(cudaDeviceSynchronize, (void)));
    FACT("  counted", *tally);
    FACT("cudaGetSymbolAddress", CALL(cudaGetSymbolAddress, (void **, const void *), &address, &tally));
    FACT("  that of its memory", address == tally);
    FACT("cudaGetSymbolAddress of its memory", CALL(cudaGetSymbolAddress, (void **, const void *), &address, tally));
    FACT("  the same", address == tally);
    FACT("cudaGetSymbolSize", CALL(cudaGetSymbolSize, (size_t *, const void *), &size, &tally));
    FACT("  bytes", size);
    FACT("cudaMemcpyToSymbol", CALL(cudaMemcpyToSymbol, (const void *, const void *, size_t, size_t, int), &tally, &value, 4, 0, TO_DEVICE));
    FACT("  the host has it", *tally);
    FACT("cudaPointerGetAttributes(variable)", CALL(cudaPointerGetAttributes, (void *, const void *), &at, tally));
    FACT("  managed, both addresses", at.type * 10 + (at.on_host == tally && at.on_device == tally));
    FACT("cudaFree", CALL(cudaFree, (void *), tally));
    CALL(cudaSetDevice, (int), 1);
    FACT("cudaLaunchKernel on the other device", launch("cudaLaunchKernel", &count_stub, 1, 1, NULL, NULL));
    CALL(cudaDeviceSynchronize, (void));
    FACT("  it is one for both", *tally);
    CALL(cudaSetDevice, (int), 0);
    last_error();
}

static void functions(void) {
    struct { size_t shared, constant, local; int threads, registers, ptx, binary, ca, dynamic, carveout, more[30]; } of = {0};
    int blocks = 0, value = 0;
    FACT("cudaFuncGetAttributes", CALL(cudaFuncGetAttributes, (void *, const void *), &of, &scale_stub));
    FACT("  threads and PTX version", of.threads * 100 + of.ptx);
    FACT("cudaFuncSetAttribute(60 KiB)", CALL(cudaFuncSetAttribute, (const void *, int, int), &scale_stub, 8, 61440));
    CALL(cudaFuncGetAttributes, (void *, const void *), &of, &scale_stub);
    FACT("  dynamic shared memory", of.dynamic);
    FACT("cudaFuncSetAttribute(1 MiB)", CALL(cudaFuncSetAttribute, (const void *, int, int), &scale_stub, 8, 1 << 20));
    FACT("cudaFuncSetAttribute(unknown)", CALL(cudaFuncSetAttribute, (const void *, int, int), &scale_stub, 99, 1));
    FACT("cudaFuncGetAttributes(stranger)", CALL(cudaFuncGetAttributes, (void *, const void *), &of, &stranger));
    FACT("cudaOccupancy…", CALL(cudaOccupancyMaxActiveBlocksPerMultiprocessor, (int *, const void *, int, size_t), &blocks, &scale_stub, 256, 0));
    FACT("  some", blocks > 0);
    FACT("cudaDeviceGetAttribute", CALL(cudaDeviceGetAttribute, (int *, int, int), &value, 75, 0));
    handle function = NULL, kernel = NULL;
    FACT("cudaGetFuncBySymbol", CALL(cudaGetFuncBySymbol, (handle *, const void *), &function, &scale_stub));
    FACT("cudaGetKernel", CALL(cudaGetKernel, (handle *, const void *), &kernel, &scale_stub));
    void *memory = device_memory(4);
    int zero = 0, a = 1, n = 1;
    void *args[] = {&memory, &memory, &a, &n};
    copy(memory, &zero, 4, TO_DEVICE);
    FACT("cudaLaunchKernel of a kernel's handle", launch("cudaLaunchKernel", kernel, 1, 1, NULL, args));
    FACT("cudaLaunchKernel of a function's", launch("cudaLaunchKernel", function, 1, 1, NULL, args));
    copy(&zero, memory, 4, TO_HOST);
    FACT("  both ran", zero);
    last_error();
    CALL(cudaFree, (void *), memory);
}

static void *thread(void *memory) {
    int device = -1, value = 0;
    FACT("in a thread: cudaGetLastError", last_error());
    CALL(cudaGetDevice, (int *), &device);
    FACT("  its device", device);
    FACT("  cudaSetDevice(1)", CALL(cudaSetDevice, (int), 1));
    CALL(cudaGetDevice, (int *), &device);
    FACT("  its device now", device);
    value = 9;
    FACT("  cudaMemcpyToSymbol there", CALL(cudaMemcpyToSymbol, (const void *, const void *, size_t, size_t, int), &offset_var, &value, 4, 0, TO_DEVICE));
    void *there = device_memory(4);
    int zero = 0;
    copy(there, &zero, 4, TO_DEVICE);
    FACT("  cudaLaunchKernel there", scale(NULL, there, there, 0, 1));
    copy(&zero, there, 4, TO_HOST);
    FACT("  with that device's variable", zero);
    FACT("  cudaMemcpyPeer", CALL(cudaMemcpyPeer, (void *, int, const void *, int, size_t), memory, 0, there, 1, 4));
    FACT("  cudaFree", CALL(cudaFree, (void *), there));
    copy(&zero, &zero, 4, 77);
    return NULL;
}

static void threads(void) {
    pthread_t other;
    void *memory = device_memory(4);
    int value = 0, device = -1;
    copy(&value, &value, 4, 9);
    pthread_create(&other, NULL, thread, memory);
    pthread_join(other, NULL);
    FACT("cudaGetLastError is this thread's", last_error());
    CALL(cudaGetDevice, (int *), &device);
    FACT("the device too", device);
    FACT("cudaMemcpy of what came from there", copy(&value, memory, 4, TO_HOST));
    FACT("  value", value);
    CALL(cudaMemset, (void *, int, size_t), memory, 0, 4);
    FACT("cudaLaunchKernel here", scale(NULL, memory, memory, 0, 1));
    copy(&value, memory, 4, TO_HOST);
    FACT("  with this device's variable", value);
    CALL(cudaFree, (void *), memory);
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static int calls, callback_error;
static void wait_at_gate(void *unused) {
    (void)unused;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    calls = calls * 10 + 1;
}
static void then(void *two) { calls = calls * 10 + *(int *)two; }
static void callback(handle stream, int error, void *data) {
    callback_error = error;
    calls = calls * 10 + (stream == *(handle *)data ? 3 : 9);
}

static void streams(void) {
    handle stream = NULL, first = NULL, second = NULL;
    int two = 2, *pinned = NULL;
    float time = -1;
    void *memory = device_memory(4 * N), *async = NULL;
    unsigned flags = 9;
    unsigned long long legacy = 0, own = 0;
    FACT("cudaStreamCreateWithFlags", CALL(cudaStreamCreateWithFlags, (handle *, unsigned), &stream, 1));
    FACT("cudaStreamGetFlags", CALL(cudaStreamGetFlags, (handle, unsigned *), stream, &flags));
    FACT("  flags", flags);
    FACT("cudaEventCreate", CALL(cudaEventCreate, (handle *), &first) + CALL(cudaEventCreate, (handle *), &second));
    CALL(cudaHostAlloc, (void **, size_t, unsigned), (void **)&pinned, 4 * N, 0);
    pthread_mutex_lock(&gate);
    FACT("cudaEventRecord", CALL(cudaEventRecord, (handle, handle), first, stream));
    FACT("cudaLaunchHostFunc", CALL(cudaLaunchHostFunc, (handle, void (*)(void *), void *), stream, wait_at_gate, NULL));
    FACT("cudaStreamQuery while it waits", CALL(cudaStreamQuery, (handle), stream));
    FACT("  which is no error", last_error());
    CALL(cudaMemsetAsync, (void *, int, size_t, handle), memory, 0, 4 * N, stream);
    FACT("cudaLaunchKernel behind it", scale(stream, memory, memory, 0, N));
    pthread_mutex_unlock(&gate);
    FACT("cudaMemcpyAsync", CALL(cudaMemcpyAsync, (void *, const void *, size_t, int, handle), pinned, memory, 4 * N, TO_HOST, stream));
    CALL(cudaLaunchHostFunc, (handle, void (*)(void *), void *), stream, then, &two);
    FACT("cudaStreamAddCallback", CALL(cudaStreamAddCallback, (handle, void (*)(handle, int, void *), void *, unsigned), stream, callback, &stream, 0));
    CALL(cudaEventRecord, (handle, handle), second, stream);
    FACT("cudaEventSynchronize", CALL(cudaEventSynchronize, (handle), second));
    FACT("  all in order, the callback's stream", calls);
    FACT("  the callback's error", callback_error);
    FACT("  copied", pinned[0] + pinned[N - 1]);
    FACT("cudaEventElapsedTime", CALL(cudaEventElapsedTime, (float *, handle, handle), &time, first, second));
    FACT("  some", time >= 0);
    FACT("cudaMallocAsync", CALL(cudaMallocAsync, (void **, size_t, handle), &async, 4 * N, stream));
    CALL(cudaMemsetAsync, (void *, int, size_t, handle), async, 1, 4 * N, stream);
    CALL(cudaMemcpyAsync, (void *, const void *, size_t, int, handle), pinned, async, 4 * N, DEFAULT, stream);
    FACT("cudaFreeAsync", CALL(cudaFreeAsync, (void *, handle), async, stream));
    FACT("cudaStreamSynchronize", synchronize(stream));
    FACT("  filled", pinned[N - 1] == 0x01010101);
    FACT("cudaStreamGetId", CALL(cudaStreamGetId, (handle, unsigned long long *), NULL, &legacy) + CALL(cudaStreamGetId_ptsz, (handle, unsigned long long *), NULL, &own));
    FACT("  stream 0 is another one to code for per-thread streams", legacy != own);
    calls = 0;
    CALL(cudaLaunchHostFunc_ptsz, (handle, void (*)(void *), void *), NULL, then, &two);
    FACT("cudaStreamSynchronize_ptsz", CALL(cudaStreamSynchronize_ptsz, (handle), NULL));
    FACT("  called", calls);
    void *args[] = {&memory, &memory, &two, &two};
    FACT("cudaLaunchKernel_ptsz", launch("cudaLaunchKernel_ptsz", &scale_stub, 1, 32, NULL, args));
    FACT("cudaMemcpy_ptds", CALL(cudaMemcpy_ptds, (void *, const void *, size_t, int), pinned, memory, 8, TO_HOST));
    FACT("  scaled", pinned[0] + pinned[1]);
    FACT("cudaStreamDestroy", CALL(cudaStreamDestroy, (handle), stream));
    FACT("cudaEventDestroy", CALL(cudaEventDestroy, (handle), first) + CALL(cudaEventDestroy, (handle), second));
    CALL(cudaFree, (void *), memory), CALL(cudaFreeHost, (void *), pinned);
    last_error();
}

static void shapes(void) {
    static unsigned char in[12][40], out[12][40];
    void *rows = NULL;
    size_t pitch = 0;
    pitched cube = {0};
    for (int i = 0; i < 480; i++) in[i / 40][i % 40] = i;
    FACT("cudaMallocPitch", CALL(cudaMallocPitch, (void **, size_t *, size_t, size_t), &rows, &pitch, 40, 12));
    int (*copy2d)(void *, size_t, const void *, size_t, size_t, size_t, int) = find("cudaMemcpy2D");
    FACT("cudaMemcpy2D in", copy2d(rows, pitch, in, 40, 40, 12, TO_DEVICE));
    FACT("cudaMemset2D", CALL(cudaMemset2D, (void *, size_t, int, size_t, size_t), (char *)rows + pitch, pitch, 7, 10, 2));
    FACT("cudaMemcpy2D out", copy2d(out, 40, rows, pitch, 40, 12, TO_HOST));
    FACT("cudaMemcpy2D(pitch too small)", copy2d(rows, 20, in, 40, 40, 12, TO_DEVICE));
    memset(in[1], 7, 10), memset(in[2], 7, 10);
    FACT("  differs", memcmp(in, out, sizeof in));
    extent size = {40, 3, 4};
    FACT("cudaMalloc3D", CALL(cudaMalloc3D, (pitched *, extent), &cube, size));
    FACT("  sizes", cube.xsize * 100 + cube.ysize);
    struct copy3d p = {.src = {in, 40, 40, 3}, .dst = cube, .size = size, .kind = TO_DEVICE};
    FACT("cudaMemcpy3D in", CALL(cudaMemcpy3D, (const void *), &p));
    extent part = {5, 2, 4};
    FACT("cudaMemset3D", CALL(cudaMemset3D, (pitched, int, extent), cube, 9, part));
    struct copy3d q = {.src = cube, .dst = {out, 40, 40, 3}, .size = size, .kind = TO_HOST};
    FACT("cudaMemcpy3D out", CALL(cudaMemcpy3D, (const void *), &q));
    for (int z = 0; z < 4; z++) memset(in[3 * z], 9, 5), memset(in[3 * z + 1], 9, 5);
    FACT("  differs", memcmp(in, out, sizeof in));
    q.src_array = cube.ptr;
    FACT("cudaMemcpy3D(two sources)", CALL(cudaMemcpy3D, (const void *), &q));
    last_error();
    CALL(cudaFree, (void *), rows), CALL(cudaFree, (void *), cube.ptr);
}

static void devices(int version) {
    static unsigned char properties[2048];
    int value = 0, major = 0;
    memset(properties, 0xee, sizeof properties);
    const char *name = version == 12 ? "cudaGetDeviceProperties_v2" : "cudaGetDeviceProperties";
    FACT("cudaGetDeviceProperties", ((int (*)(void *, int))find(name))(properties, 0));
    CALL(cudaDeviceGetAttribute, (int *, int, int), &major, 75, 0);
    FACT("  the capability where it stands", *(int *)(properties + 360) == major);
    size_t size = version == 12 ? 1032 : 1008;
    FACT("  all of the structure and no more", properties[size - 1] == 0 && properties[size] == 0xee);
    FACT("cudaGetDeviceProperties(9)", ((int (*)(void *, int))find(name))(properties, 9));
    FACT("cudaRuntimeGetVersion", CALL(cudaRuntimeGetVersion, (int *), &value));
    FACT("  version", value / 1000);
    void *function = NULL;
    int status = 9;
    int (*entry)(const char *, void **, unsigned, unsigned long long, int *) = find("cudaGetDriverEntryPointByVersion");
    FACT("cudaGetDriverEntryPointByVersion", entry("cuDeviceGetCount", &function, 12000, 0, &status));
    FACT("  found", status * 10 + (function != NULL && ((int (*)(int *))function)(&value) == 0 && value == 2));
    FACT("cudaGetDriverEntryPointByVersion(absent)", entry("cuNoSuchThing", &function, 12000, 0, &status));
    FACT("  not found", status * 10 + (function == NULL));
    handle context = NULL;
    entry("cuCtxGetCurrent", &function, 12000, 0, &status);
    ((int (*)(handle *))function)(&context);
    FACT("the driver has a current context", context != NULL);
    FACT("cudaDeviceSynchronize", CALL(cudaDeviceSynchronize, (void)));
    size_t unused = 0;
    FACT("cudaGetExportTable", CALL(cudaGetExportTable, (const void **, const void *), (const void **)&function, &unused));
    FACT("cudaGetLastError", last_error());
}

static void end(void) {
    void *memory = device_memory(4);
    int zero = 0;
    FACT("cudaDeviceReset", CALL(cudaDeviceReset, (void)));
    FACT("cudaMemcpy to what was", copy(memory, &zero, 4, TO_DEVICE) != 0);
    last_error();
    memory = device_memory(4);
    copy(memory, &zero, 4, TO_DEVICE);
    FACT("cudaLaunchKernel afterwards", scale(NULL, memory, memory, 0, 1));
    FACT("cudaMemcpy", copy(&zero, memory, 4, TO_HOST));
    FACT("  with the variable as it was compiled", zero);
    FACT("cudaLaunchKernel(faults)", launch("cudaLaunchKernel", &fault_stub, 1, 1, NULL, NULL));
    FACT("cudaDeviceSynchronize", CALL(cudaDeviceSynchronize, (void)));
    FACT("cudaMalloc afterwards", CALL(cudaMalloc, (void **, size_t), &memory, 4));
    FACT("cudaGetLastError", last_error());
    FACT("cudaGetLastError, which stays", last_error());
}

int main(int count, char **words) {
    int version = count > 1 ? atoi(words[1]) : 13;
    char name[32];
    snprintf(name, sizeof name, "libcudart.so.%d", version);
    load(name);
    errors();
    managed();
    attributes();
    launches();
    symbols();
    functions();
    threads();
    streams();
    shapes();
    devices(version);
    end();
    return 0;
}
