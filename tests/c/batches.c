/* Copies that come as lists, and arrays in streams, captures and graphs: each line is a fact that must be the same on a driver and through
   the remoting. */
#include "images.h"

struct hints { unsigned order; int src[2], dst[2]; unsigned flags; };
struct operand { unsigned type; union { struct { ptr at; size_t row, rows; int hint[2]; } memory; struct { handle array; size_t x, y, z; } array; } of; };
struct operation { struct operand src, dst; size_t width, height, depth; unsigned order, flags; };
enum { POINTER = 1, OF_ARRAY };

static unsigned char in[1 << 14], out[1 << 14];
static ptr device;
static unsigned char *pinned;

static void lines(void) {
    ptr to[] = {device, device + 3000, device + 100, (ptr)(uintptr_t)out}, from[] = {(ptr)(uintptr_t)in, (ptr)(uintptr_t)pinned, device + 5000, device};
    size_t sizes[] = {100, 200, 300, 400}, places[] = {0, 2, 3}, failed = 7;
    struct hints hints[] = {{1, {0}, {0}, 0}, {2, {0}, {0}, 1}, {3, {1, 0}, {1, 0}, 0}};
#define BATCH(dsts, count, of, where, kinds, on)                                                                                                     \
    CALL(cuMemcpyBatchAsync, (ptr *, ptr *, size_t *, size_t, void *, size_t *, size_t, size_t *, handle), dsts, from, sizes, count, of, where, kinds, \
         &failed, on)
    memset(out, 0, sizeof out);
    CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), device, 0, 8192);
    SAY("cuMemcpyBatchAsync", BATCH(to, 3, hints, places, 2, stream));
    SAY("  none failed", failed == (size_t)-1);
    SAY("cuMemcpyBatchAsync v2", CALL(cuMemcpyBatchAsync_v2, (ptr *, ptr *, size_t *, size_t, void *, size_t *, size_t, handle), to + 3, from + 3, sizes + 3, 1,
                                      hints, places, 1, stream));
    SAY("cuMemcpyBatchAsync v2 ptsz", CALL(cuMemcpyBatchAsync_v2_ptsz, (ptr *, ptr *, size_t *, size_t, void *, size_t *, size_t, handle), to + 3, from + 3,
                                           sizes + 3, 1, hints, places, 1, NULL));
    CALL(cuCtxSynchronize, (void));
    SAY("  bytes", sum(out, 400));
    SAY("cuMemcpyBatchAsync(nothing)", BATCH(to, 0, hints, places, 1, stream));
    SAY("cuMemcpyBatchAsync(legacy stream)", BATCH(to, 3, hints, places, 2, NULL));
    SAY("cuMemcpyBatchAsync(CU_STREAM_LEGACY)", BATCH(to, 3, hints, places, 2, (handle)1));
    SAY("cuMemcpyBatchAsync(no stream)", BATCH(to, 3, hints, places, 2, (handle)0x123450));
    SAY("cuMemcpyBatchAsync(no hints)", BATCH(to, 3, NULL, places, 0, stream));
    SAY("cuMemcpyBatchAsync(more hints than copies)", BATCH(to, 1, hints, places, 2, stream));
    SAY("cuMemcpyBatchAsync(NULL)", BATCH(NULL, 1, hints, places, 1, stream));
    places[0] = 1;
    SAY("cuMemcpyBatchAsync(not from the first on)", BATCH(to, 3, hints, places, 1, stream));
    places[0] = 0, places[1] = 3;
    SAY("cuMemcpyBatchAsync(place beyond)", BATCH(to, 3, hints, places, 2, stream));
    places[1] = 2, places[2] = 2;
    SAY("cuMemcpyBatchAsync(places in no order)", BATCH(to, 4, hints, places, 3, stream));
    places[2] = 3, hints[1].order = 0;
    SAY("cuMemcpyBatchAsync(no order)", BATCH(to, 4, hints, places, 3, stream));
    hints[1].order = 4;
    SAY("cuMemcpyBatchAsync(no such order)", BATCH(to, 4, hints, places, 3, stream));
    hints[1].order = 2, hints[1].flags = 2;
    SAY("cuMemcpyBatchAsync(no such flag)", BATCH(to, 4, hints, places, 3, stream));
    SAY("  no copy's fault", failed == (size_t)-1);
    hints[1].flags = 0, sizes[2] = 1 << 20;
    CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), device, 9, 8192);
    SAY("cuMemcpyBatchAsync(past the end)", BATCH(to, 4, hints, places, 3, stream));
    SAY("  which", failed);
    CALL(cuCtxSynchronize, (void));
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), out, device, 8192);
    int same = 1;
    for (int i = 0; i < 8192; i++) same &= out[i] == 9;
    SAY("  none was made", same);
    SAY("cuMemcpyWithAttributesAsync", CALL(cuMemcpyWithAttributesAsync, (ptr, ptr, size_t, void *, handle), device, from[0], 5000, hints, stream));
    SAY("cuMemcpyWithAttributesAsync ptsz", CALL(cuMemcpyWithAttributesAsync_ptsz, (ptr, ptr, size_t, void *, handle), (ptr)(uintptr_t)out, device, 5000, hints, NULL));
    CALL(cuCtxSynchronize, (void));
    SAY("cuMemcpyWithAttributesAsync(legacy)", CALL(cuMemcpyWithAttributesAsync, (ptr, ptr, size_t, void *, handle), (ptr)(uintptr_t)out, device, 5000, hints, NULL));
    SAY("  bytes", !memcmp(in, out, 5000));
    SAY("cuMemcpyWithAttributesAsync(NULL)", CALL(cuMemcpyWithAttributesAsync, (ptr, ptr, size_t, void *, handle), device, from[0], 5000, NULL, stream));
    hints[0].order = 0;
    SAY("cuMemcpyWithAttributesAsync(no order)", CALL(cuMemcpyWithAttributesAsync, (ptr, ptr, size_t, void *, handle), device, from[0], 5000, hints, stream));
}

static void boxes(void) {
    handle array = made(40, 30, 5, U16, 2, 0), other = made(40, 30, 0, F32, 1, 0), narrow = made(40, 30, 0, U8, 1, 0);
    struct operation list[] = {
        {.src = {POINTER, .of.memory = {(ptr)(uintptr_t)in, 50, 12}}, .dst = {OF_ARRAY, .of.array = {array, 4, 10, 1}}, 30, 10, 3, 1, 0},
        {.src = {POINTER, .of.memory = {(ptr)(uintptr_t)pinned}}, .dst = {OF_ARRAY, .of.array = {other}}, 40, 30, 1, 2, 1},
        {.src = {POINTER, .of.memory = {(ptr)(uintptr_t)in + 5}}, .dst = {POINTER, .of.memory = {device, 64, 9}}, 60, 8, 4, 3, 0},
    };
    struct operation back = {.src = {OF_ARRAY, .of.array = {array}}, .dst = {POINTER, .of.memory = {(ptr)(uintptr_t)out}}, 40, 10, 5, 1, 0};
    struct operation change = {.src = {OF_ARRAY, .of.array = {other, 3, 4, 0}}, .dst = {OF_ARRAY, .of.array = {array, 1, 2, 4}}, 20, 20, 1, 1, 0}, bad;
    size_t failed = 7;
#define BOXES(count, of, flags, on) CALL(cuMemcpy3DBatchAsync, (size_t, void *, size_t *, uint64_t, handle), count, of, &failed, flags, on)
    CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), device, 0, 8192);
    move(array, out, 0, 0, 0, 160, 30, 5, 1, NULL);
    SAY("cuMemcpy3DBatchAsync", BOXES(3, list, 0, stream));
    SAY("  none failed", failed == (size_t)-1);
    SAY("cuMemcpy3DBatchAsync v2", CALL(cuMemcpy3DBatchAsync_v2, (size_t, void *, uint64_t, handle), 1, &change, 0, stream));
    SAY("cuMemcpy3DBatchAsync v2 ptsz(flags)", CALL(cuMemcpy3DBatchAsync_v2_ptsz, (size_t, void *, uint64_t, handle), 1, &change, 1, NULL));
    SAY("cuMemcpy3DWithAttributesAsync", CALL(cuMemcpy3DWithAttributesAsync, (void *, uint64_t, handle), &back, 0, stream));
    CALL(cuCtxSynchronize, (void));
    SAY("  bytes", sum(out, 160 * 10 * 5));
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), out, device, 64 * 9 * 4);
    SAY("  bytes", sum(out, 64 * 9 * 4));
    SAY("cuMemcpy3DWithAttributesAsync(NULL)", CALL(cuMemcpy3DWithAttributesAsync, (void *, uint64_t, handle), NULL, 0, stream));
    SAY("cuMemcpy3DWithAttributesAsync(flags)", CALL(cuMemcpy3DWithAttributesAsync, (void *, uint64_t, handle), &back, 1, stream));
    SAY("cuMemcpy3DBatchAsync(nothing)", BOXES(0, list, 0, stream));
    SAY("cuMemcpy3DBatchAsync(NULL)", BOXES(1, NULL, 0, stream));
    SAY("cuMemcpy3DBatchAsync(flags)", BOXES(1, list, 1, stream));
    SAY("cuMemcpy3DBatchAsync(legacy stream)", BOXES(1, list, 0, NULL));
#define WRONG(what, from, edit) (bad = from, edit, SAY(what, BOXES(1, &bad, 0, stream)))
    WRONG("  no width", list[0], bad.width = 0);
    WRONG("  no depth", list[0], bad.depth = 0);
    WRONG("  narrow rows", list[0], bad.src.of.memory.row = 29);
    WRONG("  low layers", list[0], bad.src.of.memory.rows = 9);
    WRONG("  no order", list[0], bad.order = 0);
    WRONG("  no such flag", list[0], bad.flags = 4);
    WRONG("  no such operand", list[0], bad.src.type = 3);
    WRONG("  beyond the array", list[0], bad.dst.of.array.z = 3);
    WRONG("  beyond all numbers", list[0], bad.dst.of.array.x = (size_t)-1);
    WRONG("  no array", list[0], bad.dst.of.array.array = (handle)0x123450);
    WRONG("  texels of other sizes", change, bad.dst.of.array.array = narrow);
    WRONG("  past the end", list[2], bad.dst.of.memory.at = device + 8000);
    SAY("  which", failed);
    handle all[] = {array, other, narrow};
    for (int i = 0; i < 3; i++) CALL(cuArrayDestroy, (handle), all[i]);
}

static void prepare(void *of) { for (int i = 0; i < 512; i++) ((unsigned char *)of)[i] = (unsigned char)(i * 5 + 1); }

/* What a function of the program's writes goes with the copy behind it. */
static void functions(void) {
    handle line = made(512, 0, 0, U8, 1, 0);
    memset(pinned, 0, 1024);
    CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), stream, prepare, pinned);
    SAY("cuMemcpyHtoAAsync behind a function", CALL(cuMemcpyHtoAAsync_v2, (handle, size_t, const void *, size_t, handle), line, 0, pinned, 512, stream));
    SAY("cuMemcpyAtoHAsync", CALL(cuMemcpyAtoHAsync_v2, (void *, handle, size_t, size_t, handle), pinned + 512, line, 0, 512, stream));
    CALL(cuStreamSynchronize, (handle), stream);
    prepare(out);
    SAY("  bytes", !memcmp(out, pinned, 512) && !memcmp(out, pinned + 512, 512));
    CALL(cuArrayDestroy, (handle), line);
}

static handle launched(handle graph) {
    handle exec = NULL;
    SAY("cuGraphInstantiate", CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &exec, graph, 0));
    SAY("cuGraphLaunch", CALL(cuGraphLaunch, (handle, handle), exec, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    return exec;
}

static void captures(void) {
    handle array = made(32, 16, 0, U8, 4, 0), copy = made(32, 16, 0, U8, 4, 0), graph = NULL, exec = NULL;
    size_t nodes = 0;
    memset(out, 0, sizeof out);
    SAY("cuStreamBeginCapture", CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 0));
    SAY("cuArrayCreate in a capture", make(&(handle){0}, 8, 8, 0, U8, 1, 0));
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), stream, &graph));
    CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 2);
    SAY("a copy to an array", move(array, in, 0, 0, 0, 128, 16, 1, 1, stream));
    box between = {.src = {.type = ARRAY, .array = array}, .dst = {.type = ARRAY, .array = copy}, .width = 128, .height = 16, .depth = 1};
    SAY("array to array", CALL(cuMemcpy3DAsync_v2, (const box *, handle), &between, stream));
    box away = {.src = {.type = ARRAY, .array = copy, .x = 64}, .dst = {.type = DEVICE, .device = device, .pitch = 64}, .width = 64, .height = 16, .depth = 1};
    SAY("array to device", CALL(cuMemcpy3DAsync_v2, (const box *, handle), &away, stream));
    SAY("a copy from an array", move(copy, out, 0, 0, 0, 128, 16, 1, 0, stream));
    box rows = {.src = {.type = DEVICE, .device = device, .pitch = 64}, .dst = {.type = HOST, .host = out + 4096, .pitch = 100, .x = 4}, .width = 64, .height = 16, .depth = 1};
    SAY("rows to the host", CALL(cuMemcpy3DAsync_v2, (const box *, handle), &rows, stream));
    SAY("a row of an array", CALL(cuMemcpyAtoHAsync_v2, (void *, handle, size_t, size_t, handle), out + 8192, array, 64, 64, stream));
    SAY("beyond an array", move(array, in, 0, 0, 0, 132, 16, 1, 1, stream));
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), stream, &graph));
    CALL(cuGraphGetNodes, (handle, handle *, size_t *), graph, NULL, &nodes);
    SAY("  nodes", nodes);
    SAY("  nothing has happened", out[0] == 0 && out[1] == 0);
    exec = launched(graph);
    SAY("  bytes", !memcmp(out, in, 2048));
    SAY("  bytes", sum(out + 4096, 1600));
    SAY("  bytes", !memcmp(out + 8192, in + 64, 64));
    for (int i = 0; i < 2048; i++) in[i] ^= 0x5a;
    CALL(cuGraphLaunch, (handle, handle), exec, stream);
    CALL(cuStreamSynchronize, (handle), stream);
    SAY("  new bytes", !memcmp(out, in, 2048) && !memcmp(out + 8192, in + 64, 64));
    CALL(cuGraphExecDestroy, (handle), exec);
    CALL(cuGraphDestroy, (handle), graph);
    CALL(cuArrayDestroy, (handle), array);
    CALL(cuArrayDestroy, (handle), copy);
}

static void nodes(void) {
    handle array = made(32, 16, 2, U8, 4, 0), graph = NULL, in_node = NULL, out_node = NULL, bad = NULL, exec = NULL, clone = NULL;
    box to = {.src = {.type = HOST, .host = in, .pitch = 128, .height = 16}, .dst = {.type = ARRAY, .array = array}, .width = 128, .height = 16, .depth = 2}, told;
    box from = {.src = {.type = ARRAY, .array = array, .z = 1}, .dst = {.type = HOST, .host = out, .pitch = 128, .height = 16}, .width = 128, .height = 16, .depth = 1};
    memset(out, 0, sizeof out);
    CALL(cuGraphCreate, (handle *, unsigned), &graph, 0);
#define ADD(node, before, count, params) \
    CALL(cuGraphAddMemcpyNode, (handle *, handle, handle *, size_t, const box *, handle), node, graph, before, count, params, context)
    SAY("cuGraphAddMemcpyNode to an array", ADD(&in_node, NULL, 0, &to));
    SAY("cuGraphAddMemcpyNode from it", ADD(&out_node, &in_node, 1, &from));
    from.src.z = 2;
    SAY("cuGraphAddMemcpyNode beyond it", ADD(&bad, NULL, 0, &from));
    from.src.z = 1, from.src.array = (handle)0x123450;
    SAY("cuGraphAddMemcpyNode of nothing", ADD(&bad, NULL, 0, &from));
    from.src.array = array, from.src.lod = 1;
    SAY("cuGraphAddMemcpyNode(level of detail)", ADD(&bad, NULL, 0, &from));
    from.src.lod = 0;
    SAY("cuGraphMemcpyNodeGetParams", CALL(cuGraphMemcpyNodeGetParams, (handle, box *), out_node, &told));
    SAY("  as made", told.src.array == array && told.src.type == ARRAY && told.src.z == 1 && told.dst.host == out && told.width == 128 && told.height == 16);
    exec = launched(graph);
    SAY("  bytes", !memcmp(out, in + 2048, 2048));
    SAY("cuGraphClone", CALL(cuGraphClone, (handle *, handle), &clone, graph));
    from.src.z = 0;
    SAY("cuGraphExecMemcpyNodeSetParams", CALL(cuGraphExecMemcpyNodeSetParams, (handle, handle, const box *, handle), exec, out_node, &from, context));
    CALL(cuGraphLaunch, (handle, handle), exec, stream);
    CALL(cuStreamSynchronize, (handle), stream);
    SAY("  bytes", !memcmp(out, in, 2048));
    from.src.x = 64, from.width = 64, from.dst.pitch = 64;
    SAY("cuGraphMemcpyNodeSetParams", CALL(cuGraphMemcpyNodeSetParams, (handle, const box *), out_node, &from));
    CALL(cuGraphMemcpyNodeGetParams, (handle, box *), out_node, &told);
    SAY("  as set", told.src.array == array && told.src.x == 64 && told.width == 64);
    handle second = launched(graph);
    SAY("  bytes", !memcmp(out, in + 64, 64) && !memcmp(out + 64, in + 192, 64));
    memset(out, 0, 2048);
    handle third = launched(clone);
    SAY("  bytes of the clone", !memcmp(out, in + 2048, 2048));
    handle all[] = {exec, second, third};
    for (int i = 0; i < 3; i++) CALL(cuGraphExecDestroy, (handle), all[i]);
    CALL(cuGraphDestroy, (handle), graph);
    CALL(cuGraphDestroy, (handle), clone);
    CALL(cuArrayDestroy, (handle), array);
}

int main(void) {
    begin();
    for (size_t i = 0; i < sizeof in; i++) in[i] = (unsigned char)(i * 31 + (i >> 8));
    CALL(cuMemAllocHost_v2, (void **, size_t), (void **)&pinned, 1 << 14);
    for (size_t i = 0; i < 1 << 14; i++) pinned[i] = (unsigned char)(i * 11 + (i >> 7));
    device = take(8192);
    lines();
    boxes();
    functions();
    captures();
    nodes();
    return 0;
}
