/* CUDA arrays and the copies to and from them: each line is a fact that must be the same on a driver and through the remoting. */
#include "images.h"

static unsigned char in[1 << 16], out[1 << 16];

static void descriptors(void) {
    flat_array flat = {40, 30, U16, 2};
    solid_array told;
    unsigned old[6] = {0};
    handle array = NULL, other = NULL;
    SAY("cuArrayCreate(NULL)", CALL(cuArrayCreate_v2, (handle *, const flat_array *), NULL, &flat));
    SAY("cuArrayCreate(no descriptor)", CALL(cuArrayCreate_v2, (handle *, const flat_array *), &array, NULL));
    SAY("cuArrayCreate", CALL(cuArrayCreate_v2, (handle *, const flat_array *), &array, &flat));
    SAY("  handle", array != NULL);
    memset(&flat, 7, sizeof flat);
    SAY("cuArrayGetDescriptor", CALL(cuArrayGetDescriptor_v2, (flat_array *, handle), &flat, array));
    SAY("  as made", flat.width == 40 && flat.height == 30 && flat.format == U16 && flat.channels == 2);
    SAY("cuArray3DGetDescriptor", CALL(cuArray3DGetDescriptor_v2, (solid_array *, handle), &told, array));
    SAY("  as made", told.width == 40 && told.height == 30 && told.depth == 0 && told.format == U16 && told.channels == 2 && !told.flags);
    SAY("cuArrayGetDescriptor(NULL)", CALL(cuArrayGetDescriptor_v2, (flat_array *, handle), NULL, array));
    SAY("cuArrayGetDescriptor(nothing)", CALL(cuArrayGetDescriptor_v2, (flat_array *, handle), &flat, (handle)0x123450));
    SAY("cuArrayGetDescriptor(a stream)", CALL(cuArrayGetDescriptor_v2, (flat_array *, handle), &flat, stream));
    SAY("cuArrayGetDescriptor v1", CALL(cuArrayGetDescriptor, (unsigned *, handle), old, array));
    SAY("  as made", old[0] == 40 && old[1] == 30 && old[2] == U16 && old[3] == 2);
    unsigned first[4] = {9, 8, F32, 4};
    SAY("cuArrayCreate v1", CALL(cuArrayCreate, (handle *, const unsigned *), &other, first));
    SAY("cuArray3DGetDescriptor v1", CALL(cuArray3DGetDescriptor, (unsigned *, handle), old, other));
    SAY("  as made", old[0] == 9 && old[1] == 8 && old[2] == 0 && old[3] == F32 && old[4] == 4 && !old[5]);
    SAY("cuArrayDestroy", CALL(cuArrayDestroy, (handle), other));
    unsigned third[6] = {9, 8, 7, U8, 1, SURFACE};
    SAY("cuArray3DCreate v1", CALL(cuArray3DCreate, (handle *, const unsigned *), &other, third));
    CALL(cuArray3DGetDescriptor_v2, (solid_array *, handle), &told, other);
    SAY("  as made", told.width == 9 && told.height == 8 && told.depth == 7 && told.flags == SURFACE);
    SAY("cuArrayGetPlane(no planes)", CALL(cuArrayGetPlane, (handle *, handle, unsigned), &(handle){0}, other, 0));
    SAY("cuArrayGetPlane(NULL)", CALL(cuArrayGetPlane, (handle *, handle, unsigned), NULL, other, 0));
    SAY("cuArrayGetSparseProperties", CALL(cuArrayGetSparseProperties, (void *, handle), out, other));
    SAY("cuArrayGetSparseProperties(nothing)", CALL(cuArrayGetSparseProperties, (void *, handle), out, NULL));
    SAY("cuArrayGetMemoryRequirements", CALL(cuArrayGetMemoryRequirements, (void *, handle, int), out, other, 0));
    SAY("cuArrayGetMemoryRequirements(device 9)", CALL(cuArrayGetMemoryRequirements, (void *, handle, int), out, other, 9));
    CALL(cuArrayDestroy, (handle), other);
    SAY("cuArrayDestroy of it", CALL(cuArrayDestroy, (handle), array));
    SAY("cuArrayDestroy again", CALL(cuArrayDestroy, (handle), array));
    SAY("cuArrayGetDescriptor afterwards", CALL(cuArrayGetDescriptor_v2, (flat_array *, handle), &flat, array));
    static const struct { const char *what; solid_array shape; } wrong[] = {
        {"  no width", {0, 4, 0, U8, 1, 0}},
        {"  no height", {4, 0, 4, U8, 1, 0}},
        {"  three channels", {4, 4, 0, U8, 3, 0}},
        {"  no channel", {4, 4, 0, U8, 0, 0}},
        {"  no such format", {4, 4, 0, 7, 1, 0}},
        {"  no such flag", {4, 4, 0, U8, 1, 0x1000}},
        {"  a cube of four faces", {4, 4, 4, U8, 1, CUBE}},
        {"  a cube that is none", {4, 5, 6, U8, 1, CUBE}},
        {"  layers without layers", {4, 4, 0, U8, 1, LAYERED}},
        {"  gathering from one dimension", {4, 0, 0, U8, 1, GATHER}},
        {"  too wide", {1 << 20, 0, 0, U8, 1, 0}},
        {"  too deep", {16, 16, 1 << 20, U8, 1, 0}},
        {"  beyond all numbers", {(size_t)-1, (size_t)-1, (size_t)-1, F32, 4, 0}},
        {"  beyond 32 bits", {(1ull << 32) + 8, 8, 0, F32, 4, 0}},
        {"  larger than the device", {16384, 16384, 16384, F32, 4, 0}},
        {"  sparse", {64, 64, 0, U8, 1, 0x40}},
        {"  mapped later", {64, 64, 0, U8, 1, 0x80}},
    };
    SAY("cuArray3DCreate of", 0);
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
        SAY(wrong[i].what, CALL(cuArray3DCreate_v2, (handle *, const solid_array *), &array, &wrong[i].shape));
    int value = 0;
    for (int attribute = 14; attribute < 78; attribute++) {
        if (!(attribute == 14 || attribute == 51 || (attribute >= 21 && attribute < 31) || (attribute >= 42 && attribute < 50) ||
              (attribute >= 52 && attribute < 75) || attribute == 77))
            continue;
        char fact[32];
        CALL(cuDeviceGetAttribute, (int *, int, int), &value, attribute, 0);
        snprintf(fact, sizeof fact, "attribute %d", attribute);
        SAY(fact, value);
    }
    for (int attribute = 112; attribute < 122; attribute += 9) {
        CALL(cuDeviceGetAttribute, (int *, int, int), &value, attribute, 0);
        SAY("sparse or mapped later", value);
    }
}

static void mipmaps(void) {
    solid_array shape = {64, 32, 0, F32, 1, 0}, told;
    handle all = NULL, level = NULL, again = NULL, array = NULL;
    SAY("cuMipmappedArrayCreate(NULL)", CALL(cuMipmappedArrayCreate, (handle *, const solid_array *, unsigned), NULL, &shape, 3));
    SAY("cuMipmappedArrayCreate", CALL(cuMipmappedArrayCreate, (handle *, const solid_array *, unsigned), &all, &shape, 100));
    SAY("cuMipmappedArrayGetLevel(NULL)", CALL(cuMipmappedArrayGetLevel, (handle *, handle, unsigned), NULL, all, 0));
    SAY("cuMipmappedArrayGetLevel(7)", CALL(cuMipmappedArrayGetLevel, (handle *, handle, unsigned), &level, all, 7));
    SAY("cuMipmappedArrayGetLevel(6)", CALL(cuMipmappedArrayGetLevel, (handle *, handle, unsigned), &level, all, 6));
    SAY("cuMipmappedArrayGetLevel(2)", CALL(cuMipmappedArrayGetLevel, (handle *, handle, unsigned), &level, all, 2));
    CALL(cuMipmappedArrayGetLevel, (handle *, handle, unsigned), &again, all, 2);
    SAY("  the same", level == again);
    SAY("cuArray3DGetDescriptor of it", CALL(cuArray3DGetDescriptor_v2, (solid_array *, handle), &told, level));
    SAY("  width", told.width);
    SAY("  height", told.height);
    SAY("  depth", told.depth);
    for (int i = 0; i < 16 * 8; i++) ((float *)in)[i] = (float)i;
    SAY("a copy to it", move(level, in, 0, 0, 0, 64, 8, 1, 1, NULL));
    SAY("a copy beyond it", move(level, in, 0, 0, 0, 68, 8, 1, 1, NULL));
    memset(out, 0, 512);
    SAY("a copy from it", move(level, out, 0, 0, 0, 64, 8, 1, 0, NULL));
    SAY("  bytes", !memcmp(in, out, 512));
    SAY("cuArrayDestroy of it", CALL(cuArrayDestroy, (handle), level));
    SAY("cuMipmappedArrayGetSparseProperties", CALL(cuMipmappedArrayGetSparseProperties, (void *, handle), out, all));
    SAY("cuMipmappedArrayGetMemoryRequirements", CALL(cuMipmappedArrayGetMemoryRequirements, (void *, handle, int), out, all, 0));
    array = made(8, 8, 0, U8, 1, 0);
    SAY("cuMipmappedArrayDestroy of an array", CALL(cuMipmappedArrayDestroy, (handle), array));
    SAY("cuArrayDestroy of a mipmapped array", CALL(cuArrayDestroy, (handle), all));
    CALL(cuArrayDestroy, (handle), array);
    SAY("cuMipmappedArrayDestroy", CALL(cuMipmappedArrayDestroy, (handle), all));
    SAY("cuMipmappedArrayDestroy again", CALL(cuMipmappedArrayDestroy, (handle), all));
    SAY("cuArray3DGetDescriptor of its level", CALL(cuArray3DGetDescriptor_v2, (solid_array *, handle), &told, level));
    SAY("cuMipmappedArrayGetLevel of it", CALL(cuMipmappedArrayGetLevel, (handle *, handle, unsigned), &level, all, 0));
    shape.width = 0;
    SAY("cuMipmappedArrayCreate(no width)", CALL(cuMipmappedArrayCreate, (handle *, const solid_array *, unsigned), &all, &shape, 3));
    shape = (solid_array){32, 32, 6, U8, 4, CUBE};
    SAY("cuMipmappedArrayCreate(cube)", CALL(cuMipmappedArrayCreate, (handle *, const solid_array *, unsigned), &all, &shape, 0));
    SAY("  level 1", CALL(cuMipmappedArrayGetLevel, (handle *, handle, unsigned), &level, all, 1));
    CALL(cuMipmappedArrayDestroy, (handle), all);
    shape = (solid_array){32, 16, 8, U16, 2, 0};
    CALL(cuMipmappedArrayCreate, (handle *, const solid_array *, unsigned), &all, &shape, 9);
    CALL(cuMipmappedArrayGetLevel, (handle *, handle, unsigned), &level, all, 2);
    CALL(cuArray3DGetDescriptor_v2, (solid_array *, handle), &told, level);
    SAY("a volume's level 2", told.width * 10000 + told.height * 100 + told.depth);
    CALL(cuMipmappedArrayDestroy, (handle), all);
}

static void rows(void) {
    handle line = made(1000, 0, 0, U16, 2, 0), other = made(1000, 0, 0, U16, 2, 0);
    ptr device = take(8192);
    unsigned char *pinned = NULL;
    CALL(cuMemAllocHost_v2, (void **, size_t), (void **)&pinned, 8192);
    SAY("cuMemcpyHtoA", CALL(cuMemcpyHtoA_v2, (handle, size_t, const void *, size_t), line, 0, in, 4000));
    SAY("cuMemcpyHtoA(offset)", CALL(cuMemcpyHtoA_v2, (handle, size_t, const void *, size_t), line, 400, in + 8000, 80));
    SAY("cuMemcpyHtoA(past the end)", CALL(cuMemcpyHtoA_v2, (handle, size_t, const void *, size_t), line, 400, in, 3604));
    SAY("cuMemcpyHtoA(half a texel)", CALL(cuMemcpyHtoA_v2, (handle, size_t, const void *, size_t), line, 2, in, 8));
    SAY("cuMemcpyHtoA(NULL)", CALL(cuMemcpyHtoA_v2, (handle, size_t, const void *, size_t), line, 0, NULL, 8));
    SAY("cuMemcpyHtoA(nothing)", CALL(cuMemcpyHtoA_v2, (handle, size_t, const void *, size_t), line, 0, NULL, 0));
    SAY("cuMemcpyHtoA(overflow)", CALL(cuMemcpyHtoA_v2, (handle, size_t, const void *, size_t), line, 8, in, (size_t)-4));
    SAY("cuMemcpyHtoA(no array)", CALL(cuMemcpyHtoA_v2, (handle, size_t, const void *, size_t), NULL, 0, in, 8));
    SAY("cuMemcpyAtoH", CALL(cuMemcpyAtoH_v2, (void *, handle, size_t, size_t), out, line, 0, 4000));
    SAY("  bytes", sum(out, 4000));
    SAY("cuMemcpyAtoD", CALL(cuMemcpyAtoD_v2, (ptr, handle, size_t, size_t), device + 100, line, 40, 2000));
    SAY("cuMemcpyAtoD(past the end)", CALL(cuMemcpyAtoD_v2, (ptr, handle, size_t, size_t), device + 8000, line, 0, 400));
    SAY("cuMemcpyAtoD(no memory)", CALL(cuMemcpyAtoD_v2, (ptr, handle, size_t, size_t), 0x1000, line, 0, 400));
    SAY("cuMemcpyDtoA", CALL(cuMemcpyDtoA_v2, (handle, size_t, ptr, size_t), other, 400, device + 100, 1600));
    SAY("cuMemcpyAtoA", CALL(cuMemcpyAtoA_v2, (handle, size_t, handle, size_t, size_t), line, 0, other, 400, 1600));
    SAY("cuMemcpyAtoA(past the end)", CALL(cuMemcpyAtoA_v2, (handle, size_t, handle, size_t, size_t), line, 0, other, 4000, 4));
    SAY("cuMemcpyAtoHAsync", CALL(cuMemcpyAtoHAsync_v2, (void *, handle, size_t, size_t, handle), out, line, 0, 4000, stream));
    SAY("  bytes", sum(out, 4000));
    for (int i = 0; i < 4000; i++) pinned[i] = (unsigned char)(i * 7);
    SAY("cuMemcpyHtoAAsync(pinned)", CALL(cuMemcpyHtoAAsync_v2, (handle, size_t, const void *, size_t, handle), line, 0, pinned, 4000, stream));
    SAY("cuMemcpyAtoHAsync(pinned)", CALL(cuMemcpyAtoHAsync_v2, (void *, handle, size_t, size_t, handle), pinned + 4000, line, 0, 4000, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  bytes", !memcmp(pinned, pinned + 4000, 4000));
    SAY("cuMemcpyHtoAAsync(no stream)", CALL(cuMemcpyHtoAAsync_v2, (handle, size_t, const void *, size_t, handle), line, 0, in, 8, (handle)0x123450));
    SAY("cuMemcpyHtoA v2 ptds", CALL(cuMemcpyHtoA_v2_ptds, (handle, size_t, const void *, size_t), line, 4, in + 77, 96));
    SAY("cuMemcpyAtoHAsync v2 ptsz", CALL(cuMemcpyAtoHAsync_v2_ptsz, (void *, handle, size_t, size_t, handle), out, line, 0, 4000, NULL));
    SAY("  bytes", sum(out, 4000));
    SAY("cuMemcpyHtoA v1", CALL(cuMemcpyHtoA, (handle, unsigned, const void *, unsigned), line, 8, in + 300, 100));
    SAY("cuMemcpyAtoA v1", CALL(cuMemcpyAtoA, (handle, unsigned, handle, unsigned, unsigned), other, 4, line, 8, 100));
    SAY("cuMemcpyAtoH v1", CALL(cuMemcpyAtoH, (void *, handle, unsigned, unsigned), out, other, 4, 100));
    SAY("  bytes", !memcmp(out, in + 300, 100));
    SAY("cuMemcpyAtoD v1", CALL(cuMemcpyAtoD, (unsigned, handle, unsigned, unsigned), (unsigned)device, line, 0, 4));
    SAY("cuMemcpyDtoA v1", CALL(cuMemcpyDtoA, (handle, unsigned, unsigned, unsigned), line, 0, (unsigned)device, 4));
    SAY("cuMemcpyHtoAAsync v1", CALL(cuMemcpyHtoAAsync, (handle, unsigned, const void *, unsigned, handle), line, 0, in, 400, stream));
    SAY("cuMemcpyAtoHAsync v1", CALL(cuMemcpyAtoHAsync, (void *, handle, unsigned, unsigned, handle), out, line, 0, 400, stream));
    SAY("  bytes", !memcmp(out, in, 400));
    SAY("cuArrayDestroy", CALL(cuArrayDestroy, (handle), line));
    SAY("cuMemcpyAtoH of it", CALL(cuMemcpyAtoH_v2, (void *, handle, size_t, size_t), out, line, 0, 4));
    CALL(cuArrayDestroy, (handle), other);
    CALL(cuMemFreeHost, (void *), pinned);
    CALL(cuMemFree_v2, (ptr), device);
}

static void boxes(void) {
    handle plane = made(64, 48, 0, U8, 4, 0), volume = made(20, 12, 7, F32, 1, 0), layers = made(16, 16, 5, HALF, 2, LAYERED);
    handle cube = made(8, 8, 6, U8, 1, CUBE), column = made(30, 0, 4, U32, 1, LAYERED);
    ptr device = take(1 << 16);
    SAY("cuMemcpy3D to an array", move(plane, in, 0, 0, 0, 256, 48, 1, 1, NULL));
    SAY("cuMemcpy3D to a part of it", move(plane, in + 999, 16, 5, 0, 100, 20, 1, 1, NULL));
    SAY("  beyond its rows", move(plane, in, 0, 40, 0, 256, 9, 1, 1, NULL));
    SAY("  beyond its columns", move(plane, in, 16, 0, 0, 256, 1, 1, 1, NULL));
    SAY("  beyond its slices", move(plane, in, 0, 0, 1, 4, 1, 1, 1, NULL));
    SAY("  two slices", move(plane, in, 0, 0, 0, 4, 1, 2, 1, NULL));
    SAY("  part of a texel", move(plane, in, 0, 0, 0, 6, 1, 1, 1, NULL));
    SAY("  nothing", move(plane, in, 0, 0, 0, 0, 1, 1, 1, NULL));
    SAY("  nothing, beyond", move(plane, in, 300, 0, 0, 0, 1, 1, 1, NULL));
    SAY("cuMemcpy3D from it", move(plane, out, 0, 0, 0, 256, 48, 1, 0, NULL));
    SAY("  bytes", sum(out, 256 * 48));
    SAY("a volume", move(volume, in, 0, 0, 0, 80, 12, 7, 1, NULL));
    SAY("  a part", move(volume, in + 5000, 8, 3, 2, 40, 5, 4, 1, stream));
    SAY("  back", move(volume, out, 0, 0, 0, 80, 12, 7, 0, stream));
    SAY("  bytes", sum(out, 80 * 12 * 7));
    SAY("layers", move(layers, in + 7, 0, 0, 1, 64, 16, 3, 1, NULL));
    SAY("  too many", move(layers, in, 0, 0, 3, 64, 16, 3, 1, NULL));
    SAY("  back", move(layers, out, 0, 0, 1, 64, 16, 3, 0, NULL));
    SAY("  bytes", !memcmp(out, in + 7, 64 * 16 * 3));
    SAY("faces", move(cube, in, 0, 0, 0, 8, 8, 6, 1, NULL));
    SAY("  one, back", move(cube, out, 0, 0, 4, 8, 8, 1, 0, NULL));
    SAY("  bytes", !memcmp(out, in + 4 * 64, 64));
    SAY("layers of a line", move(column, in, 0, 0, 0, 120, 1, 4, 1, NULL));
    SAY("  one, back", move(column, out, 40, 0, 3, 80, 1, 1, 0, NULL));
    SAY("  bytes", !memcmp(out, in + 3 * 120 + 40, 80));

    box between = {.src = {.type = ARRAY, .array = volume, .x = 8, .y = 1, .z = 1}, .dst = {.type = DEVICE, .device = device, .pitch = 100, .height = 9},
                   .width = 60, .height = 8, .depth = 3};
    SAY("cuMemcpy3D array to device", CALL(cuMemcpy3D_v2, (const box *), &between));
    box back = {.src = between.dst, .dst = {.type = ARRAY, .array = volume, .x = 0, .y = 0, .z = 4}, .width = 60, .height = 8, .depth = 3};
    SAY("cuMemcpy3DAsync device to array", CALL(cuMemcpy3DAsync_v2, (const box *, handle), &back, stream));
    back.dst.z = 5;
    SAY("  beyond it", CALL(cuMemcpy3DAsync_v2, (const box *, handle), &back, stream));
    back.dst.z = 4, back.src.type = UNIFIED;
    SAY("cuMemcpy3DPeer", CALL(cuMemcpy3DPeer, (const box *), &back));
    box twins = {.src = {.type = ARRAY, .array = volume, .z = 1}, .dst = {.type = ARRAY, .array = volume, .y = 4, .z = 6}, .width = 80, .height = 8, .depth = 1};
    SAY("cuMemcpy3DPeerAsync array to array", CALL(cuMemcpy3DPeerAsync, (const box *, handle), &twins, stream));
    twins.src.reserved = (void *)0x123450;
    SAY("cuMemcpy3DPeerAsync(no context)", CALL(cuMemcpy3DPeerAsync, (const box *, handle), &twins, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    move(volume, out, 0, 0, 0, 80, 12, 7, 0, NULL);
    SAY("  bytes", sum(out, 80 * 12 * 7));
    twins.src.reserved = NULL, twins.src.lod = 1;
    SAY("cuMemcpy3D(level of detail)", CALL(cuMemcpy3D_v2, (const box *), &twins));
    twins.src.lod = 0, twins.src.type = 9;
    SAY("cuMemcpy3D(no such memory)", CALL(cuMemcpy3D_v2, (const box *), &twins));

    struct { size_t sx, sy; unsigned stype; void *shost; ptr sdevice; handle sarray; size_t spitch, dx, dy; unsigned dtype; void *dhost; ptr ddevice; handle darray;
             size_t dpitch, width, height; } flat = {.stype = HOST, .shost = in, .spitch = 300, .sx = 4, .sy = 2, .dtype = ARRAY, .darray = plane, .dx = 8, .dy = 1, .width = 200, .height = 30};
    SAY("cuMemcpy2D", CALL(cuMemcpy2D_v2, (void *), &flat));
    SAY("cuMemcpy2DUnaligned", CALL(cuMemcpy2DUnaligned_v2, (void *), &flat));
    SAY("cuMemcpy2DAsync", CALL(cuMemcpy2DAsync_v2, (void *, handle), &flat, stream));
    flat.height = 48;
    SAY("cuMemcpy2D(too high)", CALL(cuMemcpy2D_v2, (void *), &flat));
    flat.height = 30, flat.darray = (handle)0x123450;
    SAY("cuMemcpy2D(no array)", CALL(cuMemcpy2D_v2, (void *), &flat));
    struct { unsigned sx, sy, stype; void *shost; unsigned sdevice; handle sarray; unsigned spitch, dx, dy, dtype; void *dhost; unsigned ddevice; handle darray;
             unsigned dpitch, width, height; } old = {.stype = ARRAY, .sarray = plane, .sx = 8, .sy = 1, .dtype = HOST, .dhost = out, .dpitch = 250, .width = 200, .height = 30};
    memset(out, 0, sizeof out);
    SAY("cuMemcpy2D v1", CALL(cuMemcpy2D, (void *), &old));
    SAY("cuMemcpy2DUnaligned v1", CALL(cuMemcpy2DUnaligned, (void *), &old));
    SAY("cuMemcpy2DAsync v1", CALL(cuMemcpy2DAsync, (void *, handle), &old, stream));
    SAY("  bytes", sum(out, 250 * 30));
    struct oldcorner { unsigned x, y, z, lod, type; void *host; unsigned device; handle array; void *reserved; unsigned pitch, height; };
    struct { struct oldcorner src, dst; unsigned width, height, depth; } older =
        {{.type = ARRAY, .array = volume, .z = 2}, {.type = HOST, .host = out}, 80, 12, 3};
    SAY("cuMemcpy3D v1", CALL(cuMemcpy3D, (void *), &older));
    SAY("cuMemcpy3DAsync v1", CALL(cuMemcpy3DAsync, (void *, handle), &older, stream));
    SAY("  bytes", sum(out, 80 * 12 * 3));

    /* More than one frame carries. */
    enum { WIDE = 3000, TALL = 2000 };
    handle large = made(WIDE, TALL, 0, U8, 4, 0);
    unsigned char *much = malloc(4 * WIDE * TALL), *again = calloc(4 * WIDE, TALL);
    for (size_t i = 0; i < 4 * WIDE * TALL; i++) much[i] = (unsigned char)(i >> 6);
    SAY("24 MB", move(large, much, 0, 0, 0, 4 * WIDE, TALL, 1, 1, NULL));
    SAY("  back", move(large, again, 0, 0, 0, 4 * WIDE, TALL, 1, 0, NULL));
    SAY("  bytes", !memcmp(much, again, 4 * WIDE * TALL));
    free(much), free(again);
    handle all[] = {plane, volume, layers, cube, column, large};
    for (unsigned i = 0; i < 6; i++) CALL(cuArrayDestroy, (handle), all[i]);
    CALL(cuMemFree_v2, (ptr), device);
}

static void memory(void) {
    size_t before = 0, with = 0, after = 0, total = 0;
    handle array = NULL, other = NULL;
    CALL(cuCtxSynchronize, (void));
    CALL(cuMemGetInfo_v2, (size_t *, size_t *), &before, &total);
    for (int round = 0; round < 20; round++) {
        array = made(2048, 2048, 0, F32, 4, 0);
        CALL(cuMemGetInfo_v2, (size_t *, size_t *), &with, &total);
        CALL(cuArrayDestroy, (handle), array);
        CALL(cuMemGetInfo_v2, (size_t *, size_t *), &after, &total);
        if (before - with < 64 << 20 || after != before) SAY("  memory is not given back in round", round);
    }
    SAY("an array takes", before - with);
    SAY("  and gives back", after - with);
    handle second = NULL;
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &second, 0, 0);
    CALL(cuMemGetInfo_v2, (size_t *, size_t *), &before, &total);
    array = made(2048, 2048, 0, F32, 4, 0);
    other = made(64, 64, 0, F32, 4, 0);
    solid_array shape = {1024, 1024, 0, F32, 4, 0}, told;
    handle levels = NULL;
    CALL(cuMipmappedArrayCreate, (handle *, const solid_array *, unsigned), &levels, &shape, 11);
    CALL(cuCtxSetCurrent, (handle), context);
    SAY("another context's array", CALL(cuArray3DGetDescriptor_v2, (solid_array *, handle), &told, other));
    SAY("  a copy to it", move(other, in, 0, 0, 0, 1024, 64, 1, 1, NULL));
    SAY("  its end", CALL(cuArrayDestroy, (handle), other));
    SAY("cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), second));
    CALL(cuCtxSynchronize, (void));
    CALL(cuMemGetInfo_v2, (size_t *, size_t *), &after, &total);
    SAY("  all is given back", after == before);
    SAY("  its array", CALL(cuArrayDestroy, (handle), array));
    SAY("  its mipmapped array", CALL(cuMipmappedArrayDestroy, (handle), levels));
    /* Of a gigabyte, many times half of it. */
    int code = 0;
    for (int round = 0; round < 12 && !code; round++) {
        ptr rest = take((size_t)256 << 20);
        code = make(&array, 16384, 2048, 0, F32, 4, 0);
        if (!code) code = CALL(cuArrayDestroy, (handle), array);
        CALL(cuMemFree_v2, (ptr), rest);
    }
    SAY("12 times half of the device", code);
    ptr rest = take((size_t)700 << 20);
    SAY("more than is left", make(&array, 16384, 2048, 0, F32, 4, 0));
    CALL(cuMemFree_v2, (ptr), rest);
    SAY("  afterwards", make(&array, 16384, 2048, 0, F32, 4, 0));
    CALL(cuArrayDestroy, (handle), array);
}

int main(void) {
    begin();
    for (size_t i = 0; i < sizeof in; i++) in[i] = (unsigned char)(i * 31 + (i >> 8));
    SAY("cuArrayCreate without a context", (CALL(cuCtxSetCurrent, (handle), NULL), make(&(handle){0}, 8, 8, 0, U8, 1, 0)));
    CALL(cuCtxSetCurrent, (handle), context);
    descriptors();
    mipmaps();
    rows();
    boxes();
    memory();
    return 0;
}
