/* Memory in every way that CUDA has, as it comes. `write`: fills it with a pattern, and ends without giving it back. `free`: the same, and gives all
   back first. `look`: says how many words of it have the pattern. */
#include "by_name.h"
#include <string.h>

enum { PATTERN = 0xa5, MIB = 1 << 20, GRANULE = 2 << 20, HOW_OFTEN = 3 };

typedef struct { size_t width, height; unsigned format, channels; } flat_array;
typedef struct { size_t width, height, depth; unsigned format, channels, flags; } deep_array;
typedef struct { unsigned kind, handles, location, device; uint64_t rest[2]; } physical_kind;
typedef struct { int kind, id, flags; } access_kind;
typedef struct {
    size_t src_x, src_y; unsigned src_kind; const void *src_host; ptr src_device; handle src_array; size_t src_pitch;
    size_t dst_x, dst_y; unsigned dst_kind; void *dst_host; ptr dst_device; handle dst_array; size_t dst_pitch;
    size_t width, height;
} flat_copy;

static int writes, frees, failed;
static size_t found, words;
static unsigned char *room;

static void expect(const char *what, int code) {
    if (!code) return;
    failed++;
    printf("%s %d\n", what, code);
}
#define DO(name, types, ...) expect(#name, CALL(name, types, __VA_ARGS__))

static void count(const char *what, const void *bytes, size_t size) {
    const uint32_t *at = bytes;
    size_t before = found;
    for (size_t i = 0; i < size / 4; i++) found += at[i] == 0xa5a5a5a5u;
    words += size / 4;
    if (found > before && !writes) printf("found %zu in %s\n", found - before, what);
}

static void linear(const char *what, ptr at, size_t bytes) {
    if (writes) {
        DO(cuMemsetD8_v2, (ptr, unsigned char, size_t), at, PATTERN, bytes);
    } else {
        DO(cuMemcpyDtoH_v2, (void *, ptr, size_t), room, at, bytes);
        count(what, room, bytes);
    }
}

static void flat(const char *what, handle array, size_t width, size_t height) {
    flat_copy copy = {0};
    copy.width = width, copy.height = height;
    if (writes) {
        memset(room, PATTERN, width * height);
        copy.src_kind = 1, copy.src_host = room, copy.src_pitch = width;
        copy.dst_kind = 3, copy.dst_array = array;
    } else {
        copy.src_kind = 3, copy.src_array = array;
        copy.dst_kind = 1, copy.dst_host = room, copy.dst_pitch = width;
    }
    DO(cuMemcpy2D_v2, (const flat_copy *), &copy);
    if (!writes) count(what, room, width * height);
}

static void host(const char *what, void *at, size_t bytes) {
    if (writes) memset(at, PATTERN, bytes);
    else count(what, at, bytes);
}

static void all(void) {
    static const size_t sizes[] = {1024, 300 << 10, 5 * MIB, 40 * MIB};
    handle stream, pool, array;
    size_t pitch;
    ptr at;
    void *own;
    DO(cuStreamCreate, (handle *, unsigned), &stream, 1);
    for (int i = 0; i < 4; i++) {
        DO(cuMemAlloc_v2, (ptr *, size_t), &at, sizes[i]);
        linear("cuMemAlloc", at, sizes[i]);
        if (frees) DO(cuMemFree_v2, (ptr), at);
        DO(cuMemAllocAsync, (ptr *, size_t, handle), &at, sizes[i], stream);
        DO(cuStreamSynchronize, (handle), stream);
        linear("cuMemAllocAsync", at, sizes[i]);
        if (frees) DO(cuMemFreeAsync, (ptr, handle), at, stream);
    }
    DO(cuMemAllocPitch_v2, (ptr *, size_t *, size_t, size_t, unsigned), &at, &pitch, 1000, 3000, 4);
    linear("cuMemAllocPitch", at, pitch * 3000);
    if (frees) DO(cuMemFree_v2, (ptr), at);
    DO(cuDeviceGetDefaultMemPool, (handle *, int), &pool, 0);
    DO(cuMemAllocFromPoolAsync, (ptr *, size_t, handle, handle), &at, MIB, pool, stream);
    DO(cuStreamSynchronize, (handle), stream);
    linear("cuMemAllocFromPoolAsync", at, MIB);
    if (frees) DO(cuMemFreeAsync, (ptr, handle), at, stream);
    flat_array shape = {4096, 256, 0x20, 1};
    DO(cuArrayCreate_v2, (handle *, const flat_array *), &array, &shape);
    flat("cuArrayCreate", array, 16384, 256);
    if (frees) DO(cuArrayDestroy, (handle), array);
    deep_array deep = {256, 128, 0, 0x20, 4, 2};
    DO(cuArray3DCreate_v2, (handle *, const deep_array *), &array, &deep);
    flat("cuArray3DCreate", array, 4096, 128);
    if (frees) DO(cuArrayDestroy, (handle), array);
    physical_kind kind = {1, 0, 1, 0, {0, 0}};
    access_kind access = {1, 0, 3};
    uint64_t physical;
    DO(cuMemCreate, (uint64_t *, size_t, void *, uint64_t), &physical, 2 * GRANULE, &kind, 0);
    DO(cuMemAddressReserve, (ptr *, size_t, size_t, ptr, uint64_t), &at, 2 * GRANULE, 0, 0, 0);
    DO(cuMemMap, (ptr, size_t, size_t, uint64_t, uint64_t), at, 2 * GRANULE, 0, physical, 0);
    DO(cuMemSetAccess, (ptr, size_t, void *, size_t), at, 2 * GRANULE, &access, 1);
    linear("cuMemCreate", at, 2 * GRANULE);
    DO(cuMemAllocManaged, (ptr *, size_t, unsigned), &at, 3 * MIB, 1);
    host("managed memory, here", (void *)at, MIB);
    linear("managed memory, there", at + MIB, 2 * MIB);
    if (frees) DO(cuMemFree_v2, (ptr), at);
    DO(cuMemHostAlloc, (void **, size_t, unsigned), &own, 3 * MIB, 2);
    host("cuMemHostAlloc", own, 3 * MIB);
    DO(cuMemAllocHost_v2, (void **, size_t), &own, MIB);
    host("cuMemAllocHost", own, MIB);
    if (frees) DO(cuMemFreeHost, (void *), own);
    DO(cuCtxSynchronize, (void));
}

int main(int argc, char **argv) {
    handle context;
    const char *what = argc > 1 ? argv[1] : "";
    writes = strcmp(what, "look") != 0;
    frees = !strcmp(what, "free");
    room = malloc(48 * MIB);
    load();
    DO(cuInit, (unsigned), 0);
    DO(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    for (int i = 0; i < HOW_OFTEN; i++) all();
    printf("failed %d\nlooked %d\nfound %zu\n", failed, words > 1000000, found);
    return 0;
}
