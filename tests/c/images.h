/* cuda.h's structures of arrays and copies, and what the programs about them share. */
#pragma once
#include "by_name.h"
#include <string.h>

#define SAY(fact, value) printf("%-58s %lld\n", fact, (long long)(value))

typedef struct { size_t width, height; unsigned format, channels; } flat_array;
typedef struct { size_t width, height, depth; unsigned format, channels, flags; } solid_array;
struct corner { size_t x, y, z, lod; unsigned type; void *host; ptr device; handle array; void *reserved; size_t pitch, height; };
typedef struct { struct corner src, dst; size_t width, height, depth; } box;
struct resource { unsigned type; union { handle array; struct { ptr at; unsigned format, channels; size_t size, height, pitch; } memory; int reserved[32]; } of; unsigned flags; };
struct sampling { unsigned address[3], filter, flags, anisotropy, mip_filter; float bias, min, max, border[4]; int reserved[12]; };
struct view { unsigned format; size_t width, height, depth; unsigned first_level, last_level, first_layer, last_layer; unsigned reserved[16]; };

enum { U8 = 1, U16 = 2, U32 = 3, S32 = 10, HALF = 16, F32 = 32 };
enum { LAYERED = 1, SURFACE = 2, CUBE = 4, GATHER = 8 };
enum { HOST = 1, DEVICE, ARRAY, UNIFIED };

static handle context, stream;

static unsigned long long sum(const void *bytes, size_t count) {
    unsigned long long hash = 1469598103934665603ull;
    for (size_t i = 0; i < count; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * 1099511628211ull;
    return hash >> 8;
}
static int make(handle *array, size_t width, size_t height, size_t depth, unsigned format, unsigned channels, unsigned flags) {
    solid_array shape = {width, height, depth, format, channels, flags};
    return CALL(cuArray3DCreate_v2, (handle *, const solid_array *), array, &shape);
}
static handle made(size_t width, size_t height, size_t depth, unsigned format, unsigned channels, unsigned flags) {
    handle array = NULL;
    int code = make(&array, width, height, depth, format, channels, flags);
    if (code) SAY("an array cannot be made", code);
    return array;
}
/* Packed host memory to or from a box of an array; in the stream if there is one. */
static int move(handle array, void *host, size_t x, size_t y, size_t z, size_t width, size_t height, size_t depth, int into, handle in) {
    box copy;
    memset(&copy, 0, sizeof copy);
    struct corner *at = into ? &copy.dst : &copy.src, *own = into ? &copy.src : &copy.dst;
    at->type = ARRAY, at->array = array, at->x = x, at->y = y, at->z = z;
    own->type = HOST, own->host = host;
    copy.width = width, copy.height = height, copy.depth = depth;
    return in ? CALL(cuMemcpy3DAsync_v2, (const box *, handle), &copy, in) : CALL(cuMemcpy3D_v2, (const box *), &copy);
}
__attribute__((unused)) static ptr take(size_t bytes) {
    ptr at = 0;
    int code = CALL(cuMemAlloc_v2, (ptr *, size_t), &at, bytes);
    if (code) SAY("memory cannot be had", code);
    return at;
}
__attribute__((unused)) static void begin(void) {
    load();
    CALL(cuInit, (unsigned), 0);
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
}
