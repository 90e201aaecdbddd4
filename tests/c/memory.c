/* Memory in all its forms, on a driver and through the remoting: each line is a fact and what the driver says of it. */
#include "by_name.h"
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define SAY(fact, value) printf("%-52s %lld\n", fact, (long long)(value))
enum { HOST = 1, DEVICE = 2, ARRAY = 3, UNIFIED = 4 };

typedef struct {
    size_t src_x, src_y;
    unsigned src_type;
    const void *src_host;
    ptr src_device;
    handle src_array;
    size_t src_pitch;
    size_t dst_x, dst_y;
    unsigned dst_type;
    void *dst_host;
    ptr dst_device;
    handle dst_array;
    size_t dst_pitch, width, height;
} flat;

typedef struct {
    size_t src_x, src_y, src_z, src_lod;
    unsigned src_type;
    const void *src_host;
    ptr src_device;
    handle src_array, src_context;
    size_t src_pitch, src_height;
    size_t dst_x, dst_y, dst_z, dst_lod;
    unsigned dst_type;
    void *dst_host;
    ptr dst_device;
    handle dst_array, dst_context;
    size_t dst_pitch, dst_height, width, height, depth;
} solid;

static ptr take(size_t bytes) {
    ptr at = 0;
    CALL(cuMemAlloc_v2, (ptr *, size_t), &at, bytes);
    return at;
}

static unsigned char *fetch(ptr at, size_t bytes) {
    unsigned char *back = malloc(bytes);
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, at, bytes);
    return back;
}

/* FNV-1a, to compare much in one number. */
static long long sum(const void *bytes, size_t count) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < count; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
    return (long long)(hash >> 1);
}

static long long sum_at(ptr at, size_t bytes) {
    unsigned char *back = fetch(at, bytes);
    long long result = sum(back, bytes);
    free(back);
    return result;
}

static void strided(handle context) {
    enum { PITCH = 100, ROWS = 50, BYTES = PITCH * ROWS };
    static unsigned char host[BYTES], back[BYTES];
    for (int i = 0; i < BYTES; i++) host[i] = (unsigned char)(i * 7 + i / 256);
    ptr a = take(BYTES), b = take(BYTES);
    CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), a, 0xaa, BYTES);
    CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), b, 0xbb, BYTES);

    flat in = {.src_x = 3, .src_y = 2, .src_type = HOST, .src_host = host, .src_pitch = PITCH, .dst_x = 5, .dst_y = 1,
               .dst_type = DEVICE, .dst_device = a, .dst_pitch = PITCH, .width = 40, .height = 30};
    SAY("cuMemcpy2D to the device", CALL(cuMemcpy2D_v2, (flat *), &in));
    SAY("  bytes", sum_at(a, BYTES));
    flat across = in;
    across.src_type = across.dst_type = DEVICE;
    across.src_device = a, across.dst_device = b;
    SAY("cuMemcpy2DUnaligned on the device", CALL(cuMemcpy2DUnaligned_v2, (flat *), &across));
    SAY("  bytes", sum_at(b, BYTES));
    memset(back, 0xcc, BYTES);
    flat out = in;
    out.src_type = DEVICE, out.src_device = b, out.dst_type = HOST, out.dst_host = back;
    SAY("cuMemcpy2D to the host", CALL(cuMemcpy2D_v2, (flat *), &out));
    SAY("  bytes", sum(back, BYTES));
    out.src_type = out.dst_type = UNIFIED, out.dst_device = (ptr)(uintptr_t)back, out.dst_host = NULL, out.height = 3;
    SAY("cuMemcpy2DAsync by address", CALL(cuMemcpy2DAsync_v2, (flat *, handle), &out, NULL));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("  bytes", sum(back, BYTES));
    flat bad = in;
    bad.dst_pitch = 44;
    SAY("cuMemcpy2D(narrow pitch)", CALL(cuMemcpy2D_v2, (flat *), &bad));
    bad = in, bad.height = 50;
    SAY("cuMemcpy2D(past the end)", CALL(cuMemcpy2D_v2, (flat *), &bad));
    bad = in, bad.dst_y = (size_t)-1;
    SAY("cuMemcpy2D(overflow)", CALL(cuMemcpy2D_v2, (flat *), &bad));
    bad = in, bad.dst_type = 9;
    SAY("cuMemcpy2D(no such type)", CALL(cuMemcpy2D_v2, (flat *), &bad));
    bad = in, bad.src_host = NULL, bad.src_x = bad.src_y = 0;
    SAY("cuMemcpy2D(NULL source)", CALL(cuMemcpy2D_v2, (flat *), &bad));
    bad = in, bad.width = 0;
    SAY("cuMemcpy2D(nothing)", CALL(cuMemcpy2D_v2, (flat *), &bad));
    SAY("cuMemcpy2D(NULL)", CALL(cuMemcpy2D_v2, (flat *), NULL));
    SAY("cuMemcpy2DAsync(no stream)", CALL(cuMemcpy2DAsync_v2, (flat *, handle), &in, (handle)0x123450));
    SAY("  nothing has changed", sum_at(a, BYTES));

    solid box = {.src_x = 1, .src_y = 1, .src_z = 1, .src_type = HOST, .src_host = host, .src_pitch = 20, .src_height = 25,
                 .dst_x = 2, .dst_type = DEVICE, .dst_device = a, .dst_pitch = 25, .dst_height = 10, .width = 10, .height = 8,
                 .depth = 5};
    SAY("cuMemcpy3D to the device", CALL(cuMemcpy3D_v2, (solid *), &box));
    SAY("  bytes", sum_at(a, BYTES));
    solid back_box = box;
    memset(back, 0xcc, BYTES);
    back_box.src_type = DEVICE, back_box.src_device = a, back_box.src_pitch = 25, back_box.src_height = 10;
    back_box.dst_type = HOST, back_box.dst_host = back, back_box.dst_pitch = 30, back_box.dst_height = 9;
    SAY("cuMemcpy3DAsync to the host", CALL(cuMemcpy3DAsync_v2, (solid *, handle), &back_box, NULL));
    CALL(cuCtxSynchronize, (void));
    SAY("  bytes", sum(back, BYTES));
    solid low = box;
    low.dst_height = 7;
    SAY("cuMemcpy3D(slices too low)", CALL(cuMemcpy3D_v2, (solid *), &low));
    low = box, low.src_lod = 1;
    SAY("cuMemcpy3D(level of detail)", CALL(cuMemcpy3D_v2, (solid *), &low));
    solid between = back_box;
    between.dst_type = DEVICE, between.dst_device = b, between.src_context = between.dst_context = context;
    SAY("cuMemcpy3DPeer", CALL(cuMemcpy3DPeer, (solid *), &between));
    SAY("cuMemcpy3DPeerAsync", CALL(cuMemcpy3DPeerAsync, (solid *, handle), &between, NULL));
    SAY("  bytes", sum_at(b, BYTES));
    between.src_context = (handle)0x123450;
    SAY("cuMemcpy3DPeer(no context)", CALL(cuMemcpy3DPeer, (solid *), &between));
    SAY("cuMemcpyPeer", CALL(cuMemcpyPeer, (ptr, handle, ptr, handle, size_t), b, context, a, context, BYTES));
    SAY("cuMemcpyPeerAsync", CALL(cuMemcpyPeerAsync, (ptr, handle, ptr, handle, size_t, handle), b + 8, context, a, context, 64, NULL));
    SAY("  bytes", sum_at(b, BYTES));
    SAY("cuMemcpyPeer(past the end)", CALL(cuMemcpyPeer, (ptr, handle, ptr, handle, size_t), b + 8, context, a, context, BYTES));

    /* More than one frame carries, of rows that lie apart on both sides. */
    enum { WIDE = 3000, TALL = 7000, APART = 4096 };
    unsigned char *large = malloc((size_t)APART * TALL), *again = calloc(APART, TALL);
    for (size_t i = 0; i < (size_t)APART * TALL; i++) large[i] = (unsigned char)(i >> 5);
    ptr wide = take((size_t)APART * TALL);
    CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), wide, 1, (size_t)APART * TALL);
    flat huge = {.src_type = HOST, .src_host = large, .src_pitch = APART, .dst_type = DEVICE, .dst_device = wide, .dst_pitch = APART,
                 .width = WIDE, .height = TALL};
    SAY("cuMemcpy2D of 21 MB", CALL(cuMemcpy2D_v2, (flat *), &huge));
    SAY("  bytes", sum_at(wide, (size_t)APART * TALL));
    huge.src_type = DEVICE, huge.src_device = wide, huge.dst_type = HOST, huge.dst_host = again;
    SAY("cuMemcpy2D of 21 MB back", CALL(cuMemcpy2D_v2, (flat *), &huge));
    SAY("  bytes", sum(again, (size_t)APART * TALL));
    CALL(cuMemFree_v2, (ptr), wide);
    free(large), free(again);

    SAY("cuMemsetD2D8", CALL(cuMemsetD2D8_v2, (ptr, size_t, unsigned char, size_t, size_t), a + 1, 33, 0x5c, 7, 9));
    SAY("cuMemsetD2D16", CALL(cuMemsetD2D16_v2, (ptr, size_t, unsigned short, size_t, size_t), a + 1000, 34, 0x1234, 7, 9));
    SAY("cuMemsetD2D32", CALL(cuMemsetD2D32_v2, (ptr, size_t, unsigned, size_t, size_t), a + 2000, 36, 0x12345678, 7, 9));
    SAY("cuMemsetD2D8Async", CALL(cuMemsetD2D8Async, (ptr, size_t, unsigned char, size_t, size_t, handle), a + 3001, 8, 1, 8, 9, NULL));
    SAY("cuMemsetD2D16Async", CALL(cuMemsetD2D16Async, (ptr, size_t, unsigned short, size_t, size_t, handle), a + 3500, 40, 2, 8, 9, NULL));
    SAY("cuMemsetD2D32Async", CALL(cuMemsetD2D32Async, (ptr, size_t, unsigned, size_t, size_t, handle), a + 4000, 40, 3, 8, 9, NULL));
    SAY("  bytes", sum_at(a, BYTES));
    SAY("cuMemsetD2D32(odd)", CALL(cuMemsetD2D32_v2, (ptr, size_t, unsigned, size_t, size_t), a + 2, 36, 1, 7, 9));
    SAY("cuMemsetD2D32(odd pitch)", CALL(cuMemsetD2D32_v2, (ptr, size_t, unsigned, size_t, size_t), a, 30, 1, 7, 9));
    SAY("cuMemsetD2D32(narrow pitch)", CALL(cuMemsetD2D32_v2, (ptr, size_t, unsigned, size_t, size_t), a, 24, 1, 7, 9));
    SAY("cuMemsetD2D32(past the end)", CALL(cuMemsetD2D32_v2, (ptr, size_t, unsigned, size_t, size_t), a, 100, 1, 7, 51));
    SAY("cuMemsetD2D8(overflow)", CALL(cuMemsetD2D8_v2, (ptr, size_t, unsigned char, size_t, size_t), a, 1ull << 60, 1, 7, 1ull << 10));
    CALL(cuMemFree_v2, (ptr), a);
    CALL(cuMemFree_v2, (ptr), b);
}

static void host_memory(void) {
    enum { BYTES = 40000 };
    unsigned flags = 99;
    unsigned char *pinned = NULL, *own = malloc(3 * BYTES);
    SAY("cuMemHostAlloc(portable)", CALL(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&pinned, BYTES, 1));
    SAY("cuMemHostGetFlags", CALL(cuMemHostGetFlags, (unsigned *, void *), &flags, pinned));
    SAY("  portable", flags & 1);
    SAY("cuMemHostAlloc(nothing)", CALL(cuMemHostAlloc, (void **, size_t, unsigned), &(void *){0}, 0, 0));
    SAY("cuMemHostAlloc(no such flag)", CALL(cuMemHostAlloc, (void **, size_t, unsigned), &(void *){0}, BYTES, 64));
    SAY("cuMemHostRegister", CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), own, BYTES, 1));
    SAY("cuMemHostRegister again", CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), own, BYTES, 1));
    SAY("cuMemHostRegister(overlap)", CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), own + BYTES - 1, BYTES, 0));
    SAY("cuMemHostRegister(pinned)", CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), pinned, 16, 0));
    SAY("cuMemHostRegister(nothing)", CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), own + 2 * BYTES, 0, 0));
    SAY("cuMemHostRegister(NULL)", CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), NULL, 16, 0));
    SAY("cuMemHostRegister(no such flag)", CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), own + 2 * BYTES, 16, 64));
    SAY("cuMemHostRegister(io memory)", CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), own + 2 * BYTES, 16, 4));
    SAY("cuMemHostGetFlags(registered)", CALL(cuMemHostGetFlags, (unsigned *, void *), &flags, own));
    SAY("cuMemHostGetFlags(pageable)", CALL(cuMemHostGetFlags, (unsigned *, void *), &flags, own + 2 * BYTES));

    handle stream = NULL;
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    ptr at = take(BYTES);
    for (int i = 0; i < BYTES; i++) pinned[i] = (unsigned char)(i * 3);
    SAY("cuMemcpyHtoDAsync(pinned)", CALL(cuMemcpyHtoDAsync_v2, (ptr, const void *, size_t, handle), at, pinned, BYTES, stream));
    SAY("cuMemcpyDtoHAsync(registered)", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), own, at, BYTES, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  bytes", sum(own, BYTES));
    SAY("cuMemcpyDtoHAsync(past the end of it)", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), own + 8, at, BYTES, stream));
    SAY("cuMemsetD32(pinned)", CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), (ptr)(uintptr_t)pinned, 0x01020304, 100));
    SAY("  bytes", sum(pinned, BYTES));
    SAY("cuMemcpy(registered to pinned)", CALL(cuMemcpy, (ptr, ptr, size_t), (ptr)(uintptr_t)pinned, (ptr)(uintptr_t)own, 1000));
    SAY("  bytes", sum(pinned, BYTES));
    CALL(cuStreamDestroy_v2, (handle), stream);
    CALL(cuMemFree_v2, (ptr), at);

    SAY("cuMemHostUnregister(inside)", CALL(cuMemHostUnregister, (void *), own + 1));
    SAY("cuMemHostUnregister(pinned)", CALL(cuMemHostUnregister, (void *), pinned));
    SAY("cuMemHostUnregister", CALL(cuMemHostUnregister, (void *), own));
    SAY("cuMemHostUnregister again", CALL(cuMemHostUnregister, (void *), own));
    SAY("cuMemFreeHost(inside)", CALL(cuMemFreeHost, (void *), pinned + 4096));
    SAY("cuMemFreeHost", CALL(cuMemFreeHost, (void *), pinned));
    SAY("cuMemFreeHost again", CALL(cuMemFreeHost, (void *), pinned));
    free(own);
}

/* Each attribute of a pointer, as far as it is the same everywhere: results always, values where they are no addresses or ids. */
static void attributes(const char *what, ptr pointer, ptr base, handle context) {
    char line[96];
    for (unsigned which = 0; which <= 21; which++) {
        uint64_t value = 0x5555555555555555;
        int result = CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &value, which, pointer);
        snprintf(line, sizeof line, "attribute %u of %s", which, what);
        SAY(line, result);
        if (result) continue;
        snprintf(line, sizeof line, "  value of %u", which);
        switch (which) {
        case 1: SAY(line, value == (uint64_t)(uintptr_t)context ? 1 : value == 0 ? 0 : -1); break;
        case 3: case 4: SAY(line, value == pointer); break;
        case 11: case 19: SAY(line, value == base); break;
        case 7: case 20: SAY(line, value != 0); break;
        default: SAY(line, value);
        }
    }
}

static void several(const char *what, ptr pointer, ptr base) {
    unsigned which[] = {2, 11, 12, 9, 6, 4};
    unsigned type = 77;
    ptr start = 77, host = 77;
    size_t size = 77;
    int device = 77;
    unsigned char sync = 77;
    void *data[] = {&type, &start, &size, &device, &sync, &host};
    char line[96];
    snprintf(line, sizeof line, "cuPointerGetAttributes of %s", what);
    SAY(line, CALL(cuPointerGetAttributes, (unsigned, unsigned *, void **, ptr), 6, which, data, pointer));
    SAY("  type", type);
    SAY("  start", start == base);
    SAY("  size", size);
    SAY("  device", device);
    SAY("  sync", sync);
    SAY("  host", host == 0 || host == pointer);
}

static void pointers(handle context) {
    ptr device = take(5000);
    void *pinned = NULL, *own = malloc(8192);
    CALL(cuMemHostAlloc, (void **, size_t, unsigned), &pinned, 8192, 0);
    CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), own, 8192, 0);
    ptr pinned_at = (ptr)(uintptr_t)pinned, own_at = (ptr)(uintptr_t)own;
    attributes("device memory", device + 100, device, context);
    attributes("pinned memory", pinned_at + 100, pinned_at, context);
    attributes("registered memory", own_at, own_at, context);
    attributes("nothing", (ptr)(uintptr_t)&device, 0, context);
    several("device memory", device + 8, device);
    several("pinned memory", pinned_at, pinned_at);
    several("nothing", 64, 0);
    unsigned which[] = {2, 5}, on = 1;
    void *data[] = {&on, &on};
    SAY("cuPointerGetAttributes(tokens)", CALL(cuPointerGetAttributes, (unsigned, unsigned *, void **, ptr), 2, which, data, device));
    SAY("cuPointerGetAttributes(none)", CALL(cuPointerGetAttributes, (unsigned, unsigned *, void **, ptr), 0, which, data, device));
    on = 1;
    SAY("cuPointerSetAttribute(sync)", CALL(cuPointerSetAttribute, (const void *, unsigned, ptr), &on, 6, device));
    SAY("cuPointerSetAttribute(sync) of pinned memory", CALL(cuPointerSetAttribute, (const void *, unsigned, ptr), &on, 6, pinned_at));
    SAY("cuPointerSetAttribute(type)", CALL(cuPointerSetAttribute, (const void *, unsigned, ptr), &on, 2, device));
    SAY("cuPointerSetAttribute of nothing", CALL(cuPointerSetAttribute, (const void *, unsigned, ptr), &on, 6, 64));
    several("memory that synchronises", device, device);
    SAY("cuMemGetAddressRange(pinned)", CALL(cuMemGetAddressRange_v2, (ptr *, size_t *, ptr), NULL, NULL, pinned_at));
    SAY("cuMemGetAddressRange(nothing)", CALL(cuMemGetAddressRange_v2, (ptr *, size_t *, ptr), NULL, NULL, 64));
    SAY("cuMemGetAddressRange(only the size)", CALL(cuMemGetAddressRange_v2, (ptr *, size_t *, ptr), NULL, &(size_t){0}, device));
    uint64_t first = 0, second = 0;
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &first, 7, device);
    CALL(cuMemFree_v2, (ptr), device);
    device = take(5000);
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &second, 7, device);
    SAY("  a new id for new memory", first != second);
    CALL(cuMemFree_v2, (ptr), device);
    SAY("attribute of freed memory", CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &first, 2, device));
    CALL(cuMemHostUnregister, (void *), own);
    CALL(cuMemFreeHost, (void *), pinned);
    free(own);
}

typedef struct {
    unsigned type, handle_types;
    struct { unsigned kind; int id; } location;
    void *security;
    size_t max_size;
    unsigned short usage;
    unsigned char reserved[54];
} pool_props;

typedef struct {
    struct { unsigned kind; int id; } location;
    unsigned flags;
} access_description;

static const unsigned char *PTX = (const unsigned char *)
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .global .align 4 .u32 variable[8];\n"
    ".visible .entry add(.param .u64 data, .param .u32 n, .param .u32 term) {\n"
    "  .reg .pred %p; .reg .u32 %r<8>; .reg .u64 %d<4>;\n"
    "  ld.param.u64 %d0, [data]; ld.param.u32 %r0, [n]; ld.param.u32 %r1, [term];\n"
    "  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x; mad.lo.u32 %r5, %r2, %r3, %r4;\n"
    "  setp.ge.u32 %p, %r5, %r0; @%p ret;\n"
    "  mul.wide.u32 %d1, %r5, 4; add.u64 %d2, %d0, %d1;\n"
    "  ld.global.u32 %r6, [%d2]; add.u32 %r7, %r6, %r1; st.global.u32 [%d2], %r7; ret;\n}\n"
    ".visible .entry late(.param .u64 data, .param .u32 n, .param .u32 value) {\n"
    "  .reg .pred %p; .reg .u32 %r<4>; .reg .u64 %d<2>;\n"
    "  ld.param.u64 %d0, [data]; ld.param.u32 %r0, [n]; ld.param.u32 %r1, [value]; mov.u32 %r2, 0;\n"
    "again:\n  add.u32 %r2, %r2, 1; setp.lt.u32 %p, %r2, %r0; @%p bra again;\n"
    "  st.global.u32 [%d0], %r1; ret;\n}\n";
static handle add, late;

static int launch_add(ptr data, unsigned n, unsigned term, handle stream) {
    void *params[] = {&data, &n, &term};
    return CALL(cuLaunchKernel,
                (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), add,
                (n + 127) / 128, 1, 1, 128, 1, 1, 0, stream, params, NULL);
}

static long long pool_value(handle pool, unsigned attribute) {
    uint64_t value = 0;
    int result = CALL(cuMemPoolGetAttribute, (handle, unsigned, void *), pool, attribute, &value);
    return result ? -result : (long long)value;
}

static void pools(handle context) {
    enum { COUNT = 4 << 20, BYTES = 4 * COUNT };
    handle pool = NULL, standard = NULL, current = NULL, stream = NULL, other = NULL;
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    CALL(cuStreamCreate, (handle *, unsigned), &other, 1);
    SAY("cuDeviceGetDefaultMemPool", CALL(cuDeviceGetDefaultMemPool, (handle *, int), &standard, 0));
    SAY("cuDeviceGetMemPool", CALL(cuDeviceGetMemPool, (handle *, int), &current, 0));
    SAY("  is the default", current == standard);
    SAY("cuDeviceGetMemPool(99)", CALL(cuDeviceGetMemPool, (handle *, int), &current, 99));
    pool_props props = {.type = 1, .location = {1, 0}};
    SAY("cuMemPoolCreate", CALL(cuMemPoolCreate, (handle *, pool_props *), &pool, &props));
    for (unsigned attribute = 0; attribute <= 9; attribute++) {
        char line[40];
        snprintf(line, sizeof line, "  pool attribute %u", attribute);
        SAY(line, pool_value(pool, attribute));
    }
    pool_props bad = props;
    bad.type = 0;
    SAY("cuMemPoolCreate(no type)", CALL(cuMemPoolCreate, (handle *, pool_props *), &(handle){0}, &bad));
    bad = props, bad.location.id = 99;
    SAY("cuMemPoolCreate(no device)", CALL(cuMemPoolCreate, (handle *, pool_props *), &(handle){0}, &bad));
    bad = props, bad.handle_types = 1;
    SAY("cuMemPoolCreate(for other processes)", CALL(cuMemPoolCreate, (handle *, pool_props *), &(handle){0}, &bad));
    SAY("cuMemPoolCreate(NULL)", CALL(cuMemPoolCreate, (handle *, pool_props *), &(handle){0}, NULL));

    ptr a = 0, b = 0, c = 0;
    SAY("cuMemAllocAsync(nothing)", CALL(cuMemAllocAsync, (ptr *, size_t, handle), &a, 0, stream));
    SAY("cuMemAllocAsync(no stream)", CALL(cuMemAllocAsync, (ptr *, size_t, handle), &a, 16, (handle)0x123450));
    SAY("cuMemAllocAsync(1 PiB)", CALL(cuMemAllocAsync, (ptr *, size_t, handle), &a, (size_t)1 << 50, stream));
    SAY("cuMemAllocFromPoolAsync(no pool)", CALL(cuMemAllocFromPoolAsync, (ptr *, size_t, handle, handle), &a, 16, (handle)0x123450, stream));
    SAY("cuMemAllocFromPoolAsync", CALL(cuMemAllocFromPoolAsync, (ptr *, size_t, handle, handle), &a, BYTES, pool, stream));
    SAY("  used", pool_value(pool, 7) == BYTES);
    SAY("  reserved", pool_value(pool, 5) >= BYTES);
    SAY("cuMemsetD32Async", CALL(cuMemsetD32Async, (ptr, unsigned, size_t, handle), a, 5, COUNT, stream));
    SAY("cuLaunchKernel", launch_add(a, COUNT, 7, stream));
    SAY("cuMemAllocFromPoolAsync", CALL(cuMemAllocFromPoolAsync, (ptr *, size_t, handle, handle), &b, BYTES, pool, stream));
    SAY("cuMemcpyDtoDAsync", CALL(cuMemcpyDtoDAsync_v2, (ptr, ptr, size_t, handle), b, a, BYTES, stream));
    SAY("cuMemFreeAsync", CALL(cuMemFreeAsync, (ptr, handle), a, stream));
    SAY("cuMemFreeAsync again", CALL(cuMemFreeAsync, (ptr, handle), a, stream));
    SAY("cuMemcpyDtoH(freed)", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &(int){0}, a, 4));
    SAY("cuMemAllocFromPoolAsync", CALL(cuMemAllocFromPoolAsync, (ptr *, size_t, handle, handle), &c, BYTES, pool, stream));
    SAY("cuMemsetD32Async", CALL(cuMemsetD32Async, (ptr, unsigned, size_t, handle), c, 1, COUNT, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  bytes", sum_at(b, BYTES));
    SAY("  bytes", sum_at(c, BYTES));
    uint64_t of_pool = 0, of_context = 77;
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &of_pool, 17, b);
    SAY("  knows its pool", of_pool == (uint64_t)(uintptr_t)pool);
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &of_context, 1, b);
    SAY("  context", of_context);
    SAY("cuMemFree of such memory", CALL(cuMemFree_v2, (ptr), b));
    SAY("cuMemFreeAsync", CALL(cuMemFreeAsync, (ptr, handle), c, other));
    SAY("cuMemFreeAsync(inside)", CALL(cuMemFreeAsync, (ptr, handle), c + 512, other));
    SAY("cuMemFreeAsync(no stream)", CALL(cuMemFreeAsync, (ptr, handle), c, (handle)0x123450));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("  used", pool_value(pool, 7));
    SAY("  reserved", pool_value(pool, 5));
    SAY("  most used", pool_value(pool, 8) >= 2 * BYTES);

    uint64_t threshold = (uint64_t)-1, zero = 0;
    unsigned off = 0;
    SAY("cuMemPoolSetAttribute(threshold)", CALL(cuMemPoolSetAttribute, (handle, unsigned, void *), pool, 4, &threshold));
    SAY("  threshold", pool_value(pool, 4));
    SAY("cuMemPoolSetAttribute(reuse)", CALL(cuMemPoolSetAttribute, (handle, unsigned, void *), pool, 2, &off));
    SAY("  reuse", pool_value(pool, 2));
    SAY("cuMemPoolSetAttribute(most used)", CALL(cuMemPoolSetAttribute, (handle, unsigned, void *), pool, 8, &zero));
    SAY("  most used", pool_value(pool, 8));
    SAY("cuMemPoolSetAttribute(most used, 1)", CALL(cuMemPoolSetAttribute, (handle, unsigned, void *), pool, 8, &threshold));
    SAY("cuMemPoolSetAttribute(used)", CALL(cuMemPoolSetAttribute, (handle, unsigned, void *), pool, 7, &zero));
    SAY("cuMemAllocFromPoolAsync", CALL(cuMemAllocFromPoolAsync, (ptr *, size_t, handle, handle), &a, BYTES, pool, stream));
    SAY("cuMemFreeAsync", CALL(cuMemFreeAsync, (ptr, handle), a, stream));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("  reserved", pool_value(pool, 5) >= BYTES);
    SAY("cuMemAllocFromPoolAsync", CALL(cuMemAllocFromPoolAsync, (ptr *, size_t, handle, handle), &b, BYTES, pool, other));
    SAY("  the same memory", a == b);
    CALL(cuMemFreeAsync, (ptr, handle), b, other);
    CALL(cuCtxSynchronize, (void));
    SAY("cuMemPoolTrimTo", CALL(cuMemPoolTrimTo, (handle, size_t), pool, 0));
    SAY("  reserved", pool_value(pool, 5));

    access_description access = {{1, 0}, 3};
    unsigned flags = 77;
    SAY("cuMemPoolSetAccess", CALL(cuMemPoolSetAccess, (handle, access_description *, size_t), pool, &access, 1));
    SAY("cuMemPoolGetAccess", CALL(cuMemPoolGetAccess, (unsigned *, handle, void *), &flags, pool, &access.location));
    SAY("  flags", flags);
    access.flags = 0;
    SAY("cuMemPoolSetAccess(none for the owner)", CALL(cuMemPoolSetAccess, (handle, access_description *, size_t), pool, &access, 1));
    access.flags = 9;
    SAY("cuMemPoolSetAccess(no such flags)", CALL(cuMemPoolSetAccess, (handle, access_description *, size_t), pool, &access, 1));
    access.location.id = 99;
    SAY("cuMemPoolGetAccess(no device)", CALL(cuMemPoolGetAccess, (unsigned *, handle, void *), &flags, pool, &access.location));
    access.location.kind = 2;
    SAY("cuMemPoolGetAccess(host)", CALL(cuMemPoolGetAccess, (unsigned *, handle, void *), &flags, pool, &access.location));

    SAY("cuDeviceSetMemPool", CALL(cuDeviceSetMemPool, (int, handle), 0, pool));
    SAY("cuMemAllocAsync", CALL(cuMemAllocAsync, (ptr *, size_t, handle), &a, 100, NULL));
    CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &of_pool, 17, a);
    SAY("  from the pool", of_pool == (uint64_t)(uintptr_t)pool);
    SAY("cuMemPoolDestroy(default)", CALL(cuMemPoolDestroy, (handle), standard));
    SAY("cuMemPoolDestroy", CALL(cuMemPoolDestroy, (handle), pool));
    SAY("cuMemPoolDestroy again", CALL(cuMemPoolDestroy, (handle), pool));
    CALL(cuDeviceGetMemPool, (handle *, int), &current, 0);
    SAY("  the default is current again", current == standard);
    SAY("  its memory is still there", CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), a, 1, 100));
    SAY("cuMemFreeAsync", CALL(cuMemFreeAsync, (ptr, handle), a, NULL));
    SAY("cuMemAllocAsync", CALL(cuMemAllocAsync, (ptr *, size_t, handle), &a, 100, stream));
    SAY("cuMemFreeAsync", CALL(cuMemFreeAsync, (ptr, handle), a, stream));

    props.max_size = 16 << 20;
    CALL(cuMemPoolCreate, (handle *, pool_props *), &pool, &props);
    SAY("cuMemAllocFromPoolAsync(more than it may)", CALL(cuMemAllocFromPoolAsync, (ptr *, size_t, handle, handle), &a, 32 << 20, pool, stream));
    SAY("cuMemAllocFromPoolAsync(all of it)", CALL(cuMemAllocFromPoolAsync, (ptr *, size_t, handle, handle), &a, 16 << 20, pool, stream));
    CALL(cuMemFreeAsync, (ptr, handle), a, stream);
    CALL(cuMemPoolDestroy, (handle), pool);

    /* More in total than the device has: what is freed in a stream's order is had again. */
    size_t free_bytes = 0, total = 0;
    int result = CALL(cuMemGetInfo_v2, (size_t *, size_t *), &free_bytes, &total);
    size_t part = total / 8 >> 21 << 21;
    for (int i = 0; !result && i < 40; i++) {
        result = CALL(cuMemAllocAsync, (ptr *, size_t, handle), &a, part, i % 2 ? stream : other);
        if (!result) result = CALL(cuMemsetD8Async, (ptr, unsigned char, size_t, handle), a, 1, 4096, i % 2 ? stream : other);
        if (!result) result = CALL(cuMemFreeAsync, (ptr, handle), a, i % 2 ? stream : other);
    }
    SAY("40 times an eighth of the device", result);
    CALL(cuStreamDestroy_v2, (handle), stream);
    CALL(cuStreamDestroy_v2, (handle), other);
    (void)context;
}

/* Copies to pinned memory are in stream order, wait for nothing, and are there when a synchronise says so. */
static void landings(void) {
    enum { BYTES = 20 << 20, STEPS = 3000000 };
    unsigned char *pinned = NULL, *second = NULL;
    handle stream = NULL, other = NULL, event = NULL;
    CALL(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&pinned, BYTES, 0);
    CALL(cuMemHostAlloc, (void **, size_t, unsigned), (void **)&second, BYTES, 0);
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    CALL(cuStreamCreate, (handle *, unsigned), &other, 1);
    CALL(cuEventCreate, (handle *, unsigned), &event, 2);
    ptr a = take(BYTES), b = take(BYTES);
    CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), a, 1, BYTES / 4);
    unsigned steps = STEPS, value = 2;
    void *params[] = {&a, &steps, &value};
    SAY("a launch that takes its time", CALL(cuLaunchKernel,
        (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), late, 1, 1, 1, 1, 1, 1,
        0, stream, params, NULL));
    SAY("cuMemcpyDtoHAsync behind it", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), pinned, a, BYTES, stream));
    SAY("cuStreamQuery", CALL(cuStreamQuery, (handle), stream));
    SAY("cuEventRecord", CALL(cuEventRecord, (handle, handle), event, stream));
    SAY("cuStreamWaitEvent", CALL(cuStreamWaitEvent, (handle, handle, unsigned), other, event, 0));
    SAY("cuStreamSynchronize of a stream that follows", CALL(cuStreamSynchronize, (handle), other));
    SAY("  bytes", sum(pinned, BYTES));

    /* What is read was written by a copy just before. */
    SAY("cuMemsetD8Async", CALL(cuMemsetD8Async, (ptr, unsigned char, size_t, handle), a, 9, BYTES, stream));
    SAY("cuMemcpyDtoHAsync", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), pinned + 64, a, BYTES / 2, stream));
    SAY("cuMemcpyHtoDAsync", CALL(cuMemcpyHtoDAsync_v2, (ptr, const void *, size_t, handle), b, pinned, BYTES, stream));
    SAY("cuMemcpyDtoHAsync", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), second, b, BYTES, stream));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("  bytes", sum(second, BYTES));

    /* Many small ones, and rows that lie apart. */
    memset(second, 0, BYTES);
    for (int i = 0; i < 300; i++) {
        CALL(cuMemsetD8Async, (ptr, unsigned char, size_t, handle), a + 100 * i, (unsigned char)i, 100, stream);
        CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), second + 128 * i, a + 100 * i, 100, stream);
    }
    flat rows = {.src_type = DEVICE, .src_device = b, .src_pitch = 300, .dst_type = HOST, .dst_host = second + 50000, .dst_pitch = 200,
                 .width = 200, .height = 1000};
    SAY("cuMemcpy2DAsync(packed)", CALL(cuMemcpy2DAsync_v2, (flat *, handle), &rows, stream));
    rows.dst_pitch = 250, rows.dst_host = second + 500000;
    SAY("cuMemcpy2DAsync(apart)", CALL(cuMemcpy2DAsync_v2, (flat *, handle), &rows, stream));
    CALL(cuEventRecord, (handle, handle), event, stream);
    SAY("cuEventSynchronize", CALL(cuEventSynchronize, (handle), event));
    SAY("  bytes", sum(second, BYTES));

    /* Given up while they are on their way. */
    void *own = malloc(BYTES);
    CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), own, BYTES, 0);
    CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), own, b, BYTES, stream);
    SAY("cuMemHostUnregister at once", CALL(cuMemHostUnregister, (void *), own));
    SAY("  bytes", sum(own, BYTES));
    CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), pinned, b, BYTES, other);
    SAY("cuMemFreeHost at once", CALL(cuMemFreeHost, (void *), pinned));
    CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), second, b, BYTES, other);
    SAY("cuStreamDestroy at once", CALL(cuStreamDestroy_v2, (handle), other));
    CALL(cuMemFree_v2, (ptr), b);
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("  bytes", sum(second, BYTES));
    CALL(cuMemFreeHost, (void *), second);
    CALL(cuMemFree_v2, (ptr), a);
    CALL(cuStreamDestroy_v2, (handle), stream);
    CALL(cuEventDestroy_v2, (handle), event);
    free(own);
}

static long long count_wrong(const unsigned *words, int count, unsigned expected) {
    long long wrong = 0;
    for (int i = 0; i < count; i++) wrong += words[i] != expected + (unsigned)i;
    return wrong;
}

/* Memory that the host uses by the same pointer, where work is known to be done. */
static void shared(const char *what, unsigned *words, int count, ptr at) {
    unsigned *own = malloc(4 * (size_t)count);
    handle stream = NULL, event = NULL;
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    CALL(cuEventCreate, (handle *, unsigned), &event, 2);
    printf("%s\n", what);
    for (int i = 0; i < count; i++) words[i] = (unsigned)i;
    SAY("cuLaunchKernel", launch_add(at, (unsigned)count, 5, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  wrong", count_wrong(words, count, 5));
    for (int i = 0; i < 1000; i++) words[i] += 2;
    SAY("cuLaunchKernel", launch_add(at, 1000, 1, stream));
    SAY("cuLaunchKernel", launch_add(at + 4000, (unsigned)count - 1000, 3, stream));
    CALL(cuEventRecord, (handle, handle), event, stream);
    SAY("cuEventSynchronize", CALL(cuEventSynchronize, (handle), event));
    SAY("  wrong", count_wrong(words, count, 8));
    SAY("cuMemcpyDtoH", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), own, at, 4 * (size_t)count));
    SAY("  wrong", count_wrong(own, count, 8));
    words[7] = 1000;
    SAY("cuMemcpyDtoH of what the host has written", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), own, at, 4 * (size_t)count));
    SAY("  the word", own[7]);
    for (int i = 0; i < count; i++) own[i] = (unsigned)i + 70;
    SAY("cuMemcpyHtoD", CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), at, own, 4 * (size_t)count));
    SAY("  wrong", count_wrong(words, count, 70));
    SAY("cuMemsetD32", CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), at, 9, (size_t)count));
    CALL(cuCtxSynchronize, (void));
    SAY("  filled", words[0] == 9 && words[count - 1] == 9);
    ptr device = take(4 * (size_t)count);
    words[3] = 33;
    SAY("cuMemcpyDtoDAsync", CALL(cuMemcpyDtoDAsync_v2, (ptr, ptr, size_t, handle), device, at, 4 * (size_t)count, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), own, device, 4 * (size_t)count);
    SAY("  the word", own[3]);
    SAY("  its neighbour", own[4]);
    SAY("cuMemcpy past the end", CALL(cuMemcpy, (ptr, ptr, size_t), at + 4, device, 4 * (size_t)count));
    CALL(cuMemFree_v2, (ptr), device);
    CALL(cuStreamDestroy_v2, (handle), stream);
    CALL(cuEventDestroy_v2, (handle), event);
    free(own);
}

typedef struct {
    unsigned kind;
    int id;
} location;

/* Hints are remembered. */
static void hints(ptr at, handle stream) {
    enum { HALF = 1 << 20 };
    int word = 77, list[3] = {77, 77, 77};
    SAY("cuMemAdvise(read mostly)", CALL(cuMemAdvise, (ptr, size_t, unsigned, int), at, HALF, 1, 0));
    SAY("cuMemAdvise(preferred)", CALL(cuMemAdvise, (ptr, size_t, unsigned, int), at, 2 * HALF, 3, 0));
    SAY("cuMemAdvise(accessed by)", CALL(cuMemAdvise, (ptr, size_t, unsigned, int), at, 2 * HALF, 5, -1));
    SAY("cuMemAdvise_v2(accessed by)", CALL(cuMemAdvise_v2, (ptr, size_t, unsigned, location), at, HALF, 5, (location){1, 0}));
    SAY("cuMemAdvise(no such)", CALL(cuMemAdvise, (ptr, size_t, unsigned, int), at, HALF, 9, 0));
    SAY("cuMemAdvise(no device)", CALL(cuMemAdvise, (ptr, size_t, unsigned, int), at, HALF, 3, 99));
    SAY("cuMemAdvise(nothing)", CALL(cuMemAdvise, (ptr, size_t, unsigned, int), at, 0, 1, 0));
    SAY("cuMemAdvise(past the end)", CALL(cuMemAdvise, (ptr, size_t, unsigned, int), at, 1 << 30, 1, 0));
    SAY("cuMemAdvise(not managed)", CALL(cuMemAdvise, (ptr, size_t, unsigned, int), 64, 8, 1, 0));
    SAY("cuMemPrefetchAsync", CALL(cuMemPrefetchAsync, (ptr, size_t, int, handle), at, HALF, 0, stream));
    SAY("cuMemPrefetchAsync_v2", CALL(cuMemPrefetchAsync_v2, (ptr, size_t, location, unsigned, handle), at + HALF, HALF, (location){2, 0}, 0, stream));
    SAY("cuMemPrefetchAsync(no device)", CALL(cuMemPrefetchAsync, (ptr, size_t, int, handle), at, HALF, 99, stream));
    SAY("cuMemPrefetchAsync(no stream)", CALL(cuMemPrefetchAsync, (ptr, size_t, int, handle), at, HALF, 0, (handle)0x123450));
    for (unsigned which = 0; which <= 9; which++)
        for (int halves = 1; halves <= 2; halves++) {
            char line[64];
            snprintf(line, sizeof line, "cuMemRangeGetAttribute(%u, %d)", which, halves);
            word = 77;
            SAY(line, CALL(cuMemRangeGetAttribute, (void *, size_t, unsigned, ptr, size_t), &word, 4, which, at, (size_t)halves * HALF));
            SAY("  value", word);
        }
    void *data[] = {&word, list};
    size_t sizes[] = {4, 12};
    unsigned which[] = {2, 3};
    SAY("cuMemRangeGetAttributes", CALL(cuMemRangeGetAttributes, (void **, size_t *, unsigned *, size_t, ptr, size_t), data, sizes, which, 2, at, HALF));
    for (int i = 0; i < 3; i++) SAY("  accessed by", list[i]);
    SAY("cuMemRangeGetAttributes(none)", CALL(cuMemRangeGetAttributes, (void **, size_t *, unsigned *, size_t, ptr, size_t), data, sizes, which, 0, at, HALF));
    SAY("cuMemRangeGetAttribute(odd size)", CALL(cuMemRangeGetAttribute, (void *, size_t, unsigned, ptr, size_t), &word, 3, 1, at, HALF));
}

static void managed(handle context) {
    enum { COUNT = 3000000 };
    ptr at = 0, other = 0;
    void *mapped = NULL;
    handle stream = NULL;
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    SAY("cuMemAllocManaged(no flags)", CALL(cuMemAllocManaged, (ptr *, size_t, unsigned), &at, 4, 0));
    SAY("cuMemAllocManaged(single)", CALL(cuMemAllocManaged, (ptr *, size_t, unsigned), &at, 4, 4));
    SAY("cuMemAllocManaged(nothing)", CALL(cuMemAllocManaged, (ptr *, size_t, unsigned), &at, 0, 1));
    /* A card may hang over it. */
    if (!guarding) SAY("cuMemAllocManaged(1 PiB)", CALL(cuMemAllocManaged, (ptr *, size_t, unsigned), &at, (size_t)1 << 50, 1));
    SAY("cuMemAllocManaged", CALL(cuMemAllocManaged, (ptr *, size_t, unsigned), &at, 4 * COUNT, 1));
    SAY("cuMemAllocManaged", CALL(cuMemAllocManaged, (ptr *, size_t, unsigned), &other, 100, 1));
    shared("managed memory", (unsigned *)(uintptr_t)at, COUNT, at);
    attributes("managed memory", at + 8, at, context);
    hints(at, stream);
    SAY("cuStreamAttachMemAsync", CALL(cuStreamAttachMemAsync, (handle, ptr, size_t, unsigned), stream, at, 0, 4));
    SAY("cuStreamAttachMemAsync(default, single)", CALL(cuStreamAttachMemAsync, (handle, ptr, size_t, unsigned), NULL, at, 0, 4));
    SAY("cuStreamAttachMemAsync(part)", CALL(cuStreamAttachMemAsync, (handle, ptr, size_t, unsigned), stream, at, 8, 1));
    SAY("cuStreamAttachMemAsync(not managed)", CALL(cuStreamAttachMemAsync, (handle, ptr, size_t, unsigned), stream, 64, 0, 1));
    SAY("cuMemFree(inside)", CALL(cuMemFree_v2, (ptr), at + 4096));
    SAY("cuMemFree", CALL(cuMemFree_v2, (ptr), at));
    SAY("cuMemFree again", CALL(cuMemFree_v2, (ptr), at));
    /* Left to the context. */
    memset((void *)(uintptr_t)other, 1, 100);

    SAY("cuMemHostAlloc(mapped)", CALL(cuMemHostAlloc, (void **, size_t, unsigned), &mapped, 4 * COUNT, 2));
    SAY("cuMemHostGetDevicePointer", CALL(cuMemHostGetDevicePointer_v2, (ptr *, void *, unsigned), &at, mapped, 0));
    SAY("cuMemHostGetDevicePointer(flags)", CALL(cuMemHostGetDevicePointer_v2, (ptr *, void *, unsigned), &other, mapped, 1));
    SAY("cuMemHostGetDevicePointer(nothing)", CALL(cuMemHostGetDevicePointer_v2, (ptr *, void *, unsigned), &other, &at, 0));
    unsigned flags = 0;
    SAY("cuMemHostGetFlags", CALL(cuMemHostGetFlags, (unsigned *, void *), &flags, mapped));
    SAY("  mapped", flags & 2);
    shared("mapped memory", mapped, COUNT, at);
    attributes("mapped host memory", at + 8, at, context);
    SAY("cuMemFree(mapped)", CALL(cuMemFree_v2, (ptr), at));
    SAY("cuMemFreeHost", CALL(cuMemFreeHost, (void *), mapped));
    SAY("cuMemFreeHost again", CALL(cuMemFreeHost, (void *), mapped));

    /* What is only pinned: kernels use it by the host's address. */
    SAY("cuMemHostAlloc(pinned)", CALL(cuMemHostAlloc, (void **, size_t, unsigned), &mapped, 4 * COUNT, 0));
    unsigned *words = mapped;
    at = (ptr)(uintptr_t)mapped;
    for (int i = 0; i < COUNT; i++) words[i] = (unsigned)i;
    SAY("cuLaunchKernel", launch_add(at, COUNT, 5, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  wrong", count_wrong(words, COUNT, 5));
    for (int i = 0; i < 1000; i++) words[i] += 2;
    SAY("cuLaunchKernel(inside)", launch_add(at + 4000, COUNT - 1000, 2, stream));
    ptr behind = take(4 * COUNT);
    SAY("cuMemcpyHtoDAsync", CALL(cuMemcpyHtoDAsync_v2, (ptr, const void *, size_t, handle), behind, mapped, 4 * COUNT, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  wrong", count_wrong(words, COUNT, 7));
    SAY("cuLaunchKernel", launch_add(behind, COUNT, 1, stream));
    SAY("cuMemcpyDtoHAsync", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), mapped, behind, 4 * COUNT, stream));
    SAY("cuLaunchKernel", launch_add(at, COUNT, 1, stream));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("  wrong", count_wrong(words, COUNT, 9));
    CALL(cuMemFree_v2, (ptr), behind);
    SAY("cuMemFreeHost", CALL(cuMemFreeHost, (void *), mapped));
    SAY("cuMemFreeHost again", CALL(cuMemFreeHost, (void *), mapped));
    /* Left to the context. */
    CALL(cuMemHostAlloc, (void **, size_t, unsigned), &mapped, 4096, 0);
    memset(mapped, 0, 4096);
    SAY("cuLaunchKernel", launch_add((ptr)(uintptr_t)mapped, 1024, 1, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  the last word", ((unsigned *)mapped)[1023]);

    unsigned *own = malloc(4 * COUNT + 100);
    memset(own, 1, 100);
    SAY("cuMemHostRegister(mapped)", CALL(cuMemHostRegister_v2, (void *, size_t, unsigned), own, 4 * COUNT, 2));
    SAY("cuMemHostGetDevicePointer(inside)", CALL(cuMemHostGetDevicePointer_v2, (ptr *, void *, unsigned), &other, own + 10, 0));
    SAY("cuMemHostGetDevicePointer", CALL(cuMemHostGetDevicePointer_v2, (ptr *, void *, unsigned), &at, own, 0));
    SAY("  forty bytes before", other - at == 40);
    shared("registered memory", own, COUNT, at);
    /* The host's address in copies, behind a kernel and before one. */
    CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), at, 1, COUNT);
    ptr device = take(4 * COUNT);
    SAY("cuLaunchKernel", launch_add(at, COUNT, 4, stream));
    SAY("cuMemcpyHtoDAsync", CALL(cuMemcpyHtoDAsync_v2, (ptr, const void *, size_t, handle), device, own, 4 * COUNT, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  bytes", sum_at(device, 4 * COUNT));
    CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), device, 30, COUNT);
    SAY("cuMemcpyDtoHAsync", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), own, device, 4 * COUNT, stream));
    SAY("cuLaunchKernel", launch_add(at, COUNT, 4, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  bytes", sum(own, 4 * COUNT));
    SAY("cuMemHostUnregister", CALL(cuMemHostUnregister, (void *), own));
    SAY("cuMemHostUnregister again", CALL(cuMemHostUnregister, (void *), own));
    free(own);
    CALL(cuMemFree_v2, (ptr), device);
    CALL(cuStreamDestroy_v2, (handle), stream);
}

typedef struct {
    unsigned type, handle_types;
    struct { unsigned kind; int id; } location;
    void *security;
    unsigned char flags[8];
} physical_props;

static void virtual_memory(void) {
    physical_props props = {.type = 1, .location = {1, 0}}, known = {0};
    size_t unit = 0, most = 0;
    SAY("cuMemGetAllocationGranularity", CALL(cuMemGetAllocationGranularity, (size_t *, physical_props *, unsigned), &unit, &props, 0));
    SAY("  bytes", unit);
    SAY("cuMemGetAllocationGranularity(recommended)", CALL(cuMemGetAllocationGranularity, (size_t *, physical_props *, unsigned), &most, &props, 1));
    SAY("cuMemGetAllocationGranularity(no such)", CALL(cuMemGetAllocationGranularity, (size_t *, physical_props *, unsigned), &most, &props, 2));
    physical_props bad = props;
    bad.handle_types = 2;
    SAY("cuMemCreate(for processes of Windows)", CALL(cuMemCreate, (handle *, size_t, physical_props *, uint64_t), &(handle){0}, unit, &bad, 0));
    bad = props, bad.location.id = 99;
    SAY("cuMemCreate(no device)", CALL(cuMemCreate, (handle *, size_t, physical_props *, uint64_t), &(handle){0}, unit, &bad, 0));
    SAY("cuMemCreate(odd size)", CALL(cuMemCreate, (handle *, size_t, physical_props *, uint64_t), &(handle){0}, unit + 1, &props, 0));
    SAY("cuMemCreate(1 PiB)", CALL(cuMemCreate, (handle *, size_t, physical_props *, uint64_t), &(handle){0}, (size_t)1 << 50, &props, 0));
    handle one = NULL, two = NULL, again = NULL;
    SAY("cuMemCreate", CALL(cuMemCreate, (handle *, size_t, physical_props *, uint64_t), &one, unit, &props, 0));
    SAY("cuMemCreate", CALL(cuMemCreate, (handle *, size_t, physical_props *, uint64_t), &two, 2 * unit, &props, 0));
    SAY("cuMemGetAllocationPropertiesFromHandle", CALL(cuMemGetAllocationPropertiesFromHandle, (physical_props *, handle), &known, two));
    SAY("  the same", known.type == 1 && known.location.kind == 1 && known.location.id == 0 && known.handle_types == 0);
    ptr at = 0, hinted = 0;
    SAY("cuMemAddressReserve(odd size)", CALL(cuMemAddressReserve, (ptr *, size_t, size_t, ptr, uint64_t), &at, unit + 1, 0, 0, 0));
    SAY("cuMemAddressReserve(odd alignment)", CALL(cuMemAddressReserve, (ptr *, size_t, size_t, ptr, uint64_t), &at, unit, 3, 0, 0));
    SAY("cuMemAddressReserve(flags)", CALL(cuMemAddressReserve, (ptr *, size_t, size_t, ptr, uint64_t), &at, unit, 0, 0, 8));
    SAY("cuMemAddressReserve", CALL(cuMemAddressReserve, (ptr *, size_t, size_t, ptr, uint64_t), &at, 8 * unit, 0, 0, 0));
    SAY("cuMemAddressReserve(aligned)", CALL(cuMemAddressReserve, (ptr *, size_t, size_t, ptr, uint64_t), &hinted, unit, 64 * unit, at, 0));
    SAY("  aligned", hinted % (64 * unit) == 0 && hinted != at);
    SAY("cuMemAddressFree", CALL(cuMemAddressFree, (ptr, size_t), hinted, unit));
    SAY("cuMemAddressFree again", CALL(cuMemAddressFree, (ptr, size_t), hinted, unit));

    SAY("cuMemMap(outside)", CALL(cuMemMap, (ptr, size_t, size_t, handle, uint64_t), at + 7 * unit, 2 * unit, 0, two, 0));
    SAY("cuMemMap(part)", CALL(cuMemMap, (ptr, size_t, size_t, handle, uint64_t), at, unit, 0, two, 0));
    SAY("cuMemMap(no handle)", CALL(cuMemMap, (ptr, size_t, size_t, handle, uint64_t), at, unit, 0, (handle)0x123450, 0));
    SAY("cuMemMap", CALL(cuMemMap, (ptr, size_t, size_t, handle, uint64_t), at, unit, 0, one, 0));
    SAY("cuMemMap(taken)", CALL(cuMemMap, (ptr, size_t, size_t, handle, uint64_t), at, unit, 0, one, 0));
    SAY("cuMemMap", CALL(cuMemMap, (ptr, size_t, size_t, handle, uint64_t), at + unit, 2 * unit, 0, two, 0));
    SAY("cuMemsetD8 without access", CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), at, 1, 16));
    access_description access = {{1, 0}, 3};
    uint64_t flags = 77;
    SAY("cuMemGetAccess", CALL(cuMemGetAccess, (uint64_t *, void *, ptr), &flags, &access.location, at));
    SAY("  flags", flags);
    SAY("cuMemSetAccess(beyond)", CALL(cuMemSetAccess, (ptr, size_t, access_description *, size_t), at, 4 * unit, &access, 1));
    SAY("cuMemSetAccess(none)", CALL(cuMemSetAccess, (ptr, size_t, access_description *, size_t), at, 3 * unit, &access, 0));
    SAY("cuMemSetAccess", CALL(cuMemSetAccess, (ptr, size_t, access_description *, size_t), at, 3 * unit, &access, 1));
    SAY("cuMemGetAccess", CALL(cuMemGetAccess, (uint64_t *, void *, ptr), &flags, &access.location, at + unit));
    SAY("  flags", flags);

    /* Neighbouring mappings are one range. */
    SAY("cuMemsetD32 over both", CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), at, 3, 3 * unit / 4));
    SAY("cuLaunchKernel over both", launch_add(at, 3 * unit / 4, 4, NULL));
    SAY("  bytes", sum_at(at, 3 * unit));
    SAY("cuMemsetD8(past the end)", CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), at + unit, 1, 2 * unit + 1));
    SAY("cuMemcpyDtoH(nothing mapped)", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &flags, at + 4 * unit, 8));
    attributes("mapped memory", at + unit + 8, at + unit, NULL);
    SAY("cuMemFree(mapped)", CALL(cuMemFree_v2, (ptr), at));
    SAY("cuMemAddressFree(mapped)", CALL(cuMemAddressFree, (ptr, size_t), at, 8 * unit));
    SAY("cuMemRelease", CALL(cuMemRelease, (handle), one));
    SAY("cuMemRelease again", CALL(cuMemRelease, (handle), one));
    SAY("  it lives on", sum_at(at, unit));
    SAY("cuMemRetainAllocationHandle", CALL(cuMemRetainAllocationHandle, (handle *, void *), &again, (void *)(uintptr_t)(at + 64)));
    SAY("cuMemRetainAllocationHandle(nothing)", CALL(cuMemRetainAllocationHandle, (handle *, void *), &(handle){0}, (void *)(uintptr_t)(at + 4 * unit)));
    SAY("cuMemUnmap(part)", CALL(cuMemUnmap, (ptr, size_t), at + unit, unit));
    SAY("cuMemUnmap", CALL(cuMemUnmap, (ptr, size_t), at, unit));
    SAY("cuMemUnmap again", CALL(cuMemUnmap, (ptr, size_t), at, unit));
    SAY("cuMemMap(elsewhere)", CALL(cuMemMap, (ptr, size_t, size_t, handle, uint64_t), at + 5 * unit, unit, 0, again, 0));
    CALL(cuMemSetAccess, (ptr, size_t, access_description *, size_t), at + 5 * unit, unit, &access, 1);
    SAY("  the same bytes", sum_at(at + 5 * unit, unit));
    SAY("cuMemUnmap", CALL(cuMemUnmap, (ptr, size_t), at + 5 * unit, unit));
    SAY("cuMemUnmap", CALL(cuMemUnmap, (ptr, size_t), at + unit, 2 * unit));
    SAY("cuMemRelease", CALL(cuMemRelease, (handle), again));
    SAY("cuMemRelease", CALL(cuMemRelease, (handle), two));
    SAY("cuMemAddressFree", CALL(cuMemAddressFree, (ptr, size_t), at, 8 * unit));

    /* Made and given back more often than the device could hold it. */
    size_t free_bytes = 0, total = 0;
    int result = CALL(cuMemGetInfo_v2, (size_t *, size_t *), &free_bytes, &total);
    size_t half = total / 2 / unit * unit;
    for (int i = 0; !result && i < 10; i++) {
        result = CALL(cuMemCreate, (handle *, size_t, physical_props *, uint64_t), &one, half, &props, 0);
        if (!result) result = CALL(cuMemAddressReserve, (ptr *, size_t, size_t, ptr, uint64_t), &at, half, 0, 0, 0);
        if (!result) result = CALL(cuMemMap, (ptr, size_t, size_t, handle, uint64_t), at, half, 0, one, 0);
        if (!result) result = CALL(cuMemRelease, (handle), one);
        if (!result) result = CALL(cuMemUnmap, (ptr, size_t), at, half);
        if (!result) result = CALL(cuMemAddressFree, (ptr, size_t), at, half);
    }
    SAY("10 times half of the device", result);
}

int main(void) {
    handle context = NULL;
    setvbuf(stdout, NULL, _IOLBF, 0);
    load();
    CALL(cuInit, (unsigned), 0);
    SAY("cuCtxCreate", CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0));
    int which[] = {99, 102, 115, 118}, value = 0;
    for (int i = 0; i < 4; i++) {
        char line[40];
        snprintf(line, sizeof line, "device attribute %d", which[i]);
        CALL(cuDeviceGetAttribute, (int *, int, int), &value, which[i], 0);
        SAY(line, value);
    }
    strided(context);
    host_memory();
    pointers(context);
    handle module = NULL;
    ptr variable = 0;
    CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &add, module, "add");
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &late, module, "late");
    CALL(cuModuleGetGlobal_v2, (ptr *, size_t *, handle, const char *), &variable, NULL, module, "variable");
    unsigned type = 0;
    SAY("attribute 2 of a variable", CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &type, 2, variable + 4));
    SAY("  type", type);
    handle owner = NULL;
    SAY("attribute 1 of a variable", CALL(cuPointerGetAttribute, (void *, unsigned, ptr), &owner, 1, variable));
    SAY("  its context", owner == context);
    landings();
    pools(context);
    virtual_memory();
    managed(context);
    SAY("cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), context));
    return 0;
}
