/* Stream capture and graphs: each line is a fact that must be the same on a driver and through the remoting. */
#include "by_name.h"
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define SAY(fact, value) printf("%-52s %lld\n", fact, (long long)(value))
#define LAUNCH(function, stream, ...)                                                                                             \
    CALL(cuLaunchKernel,                                                                                                            \
         (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), function, 1, 1, \
         1, N, 1, 1, 0, stream, (void *[]){__VA_ARGS__}, NULL)

enum { N = 64 };
static const char *PTX =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .entry add(.param .u64 data, .param .u32 value) {\n"
    "  .reg .u32 %r<4>; .reg .u64 %d<4>;\n"
    "  ld.param.u64 %d0, [data]; ld.param.u32 %r0, [value]; mov.u32 %r1, %tid.x;\n"
    "  mul.wide.u32 %d1, %r1, 4; add.u64 %d2, %d0, %d1;\n"
    "  ld.global.u32 %r2, [%d2]; add.u32 %r3, %r2, %r0; st.global.u32 [%d2], %r3; ret;\n}\n";

/* cuda.h's structures, as far as they are needed. */
struct kernel { handle function; unsigned grid[3], block[3], shared; void **params, **extra; };
struct end { size_t x, y, z, lod; unsigned type; void *host; ptr device; handle array; void *reserved; size_t pitch, height; };
struct copy { struct end src, dst; size_t width, height, depth; };
struct fill { ptr dst; size_t pitch; unsigned value, element; size_t width, height; };
struct host { void (*function)(void *); void *data; };
struct alloc { int type, types, location, device; void *win; size_t most; char rest[56]; void *access; size_t count, bytes; ptr address; };
struct any { unsigned type; int reserved[3]; union { struct kernel kernel; struct host host; handle event; ptr address; long long words[29]; } of; long long last; };

static uint32_t in[N], out[N], results[N];
static ptr data;
static handle stream, add, context;
static int calls, sum_seen;

static void count(void *of) { calls++; (void)of; }
static void look(void *of) { calls++; sum_seen = (int)((uint32_t *)of)[0]; }
static void prepare(void *of) { for (int i = 0; i < N; i++) ((uint32_t *)of)[i] = 500 + i; calls++; }
static void destroyed(void *of) { *(volatile int *)of += 1; }

static int bad(uint32_t first) {
    int wrong = 0;
    for (int i = 0; i < N; i++) wrong += out[i] != first + i;
    return wrong;
}
static int fetch(uint32_t first) {
    memset(out, 0, sizeof out);
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), out, data, sizeof out);
    return bad(first);
}
static handle launched(handle graph, int *code) {
    handle exec = NULL;
    *code = CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &exec, graph, 0);
    if (!*code) *code = CALL(cuGraphLaunch, (handle, handle), exec, stream);
    return exec;
}
static size_t nodes_of(handle graph) {
    size_t nodes = 0;
    CALL(cuGraphGetNodes, (handle, handle *, size_t *), graph, NULL, &nodes);
    return nodes;
}

static void captures(void) {
    unsigned status = 9, three = 3;
    handle graph = NULL, second = NULL, exec = NULL, event = NULL;
    int code;
    SAY("cuStreamIsCapturing", CALL(cuStreamIsCapturing, (handle, unsigned *), stream, &status));
    SAY("  status", status);
    SAY("cuStreamBeginCapture(bad mode)", CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 7));
    SAY("cuStreamBeginCapture(legacy)", CALL(cuStreamBeginCapture_v2, (handle, unsigned), NULL, 0));
    SAY("cuStreamEndCapture before", CALL(cuStreamEndCapture, (handle, handle *), stream, &graph));
    SAY("cuStreamBeginCapture", CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 0));
    SAY("cuStreamBeginCapture again", CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 0));
    CALL(cuStreamIsCapturing, (handle, unsigned *), stream, &status);
    SAY("  status", status);
    SAY("cuMemsetD32Async", CALL(cuMemsetD32Async, (ptr, unsigned, size_t, handle), data, 0, N, stream));
    SAY("cuMemcpyHtoDAsync", CALL(cuMemcpyHtoDAsync_v2, (ptr, void *, size_t, handle), data, in, sizeof in, stream));
    SAY("cuLaunchKernel", LAUNCH(add, stream, &data, &three));
    handle info = NULL;
    const handle *last = NULL;
    size_t lasts = 9;
    uint64_t id = 0;
    SAY("cuStreamGetCaptureInfo", CALL(cuStreamGetCaptureInfo_v2, (handle, unsigned *, uint64_t *, handle *, const handle **, size_t *),
                                       stream, &status, &id, &info, &last, &lasts));
    SAY("  active, one node last", status == 1 && id && info && lasts == 1 && last[0]);
    const uint64_t *edges = NULL;
    SAY("cuStreamGetCaptureInfo with edges",
        CALL(cuStreamGetCaptureInfo_v3, (handle, unsigned *, uint64_t *, handle *, const handle **, const uint64_t **, size_t *), stream, &status, &id, &info,
             &last, &edges, &lasts));
    SAY("  its edge has no data", lasts == 1 && edges && edges[0] == 0);
    unsigned type = 99;
    SAY("cuGraphNodeGetType of it", CALL(cuGraphNodeGetType, (handle, unsigned *), last[0], &type));
    SAY("  type", type);
    handle last_node = last[0];
    CALL(cuStreamCreate, (handle *, unsigned), &second, 1);
    CALL(cuEventCreate, (handle *, unsigned), &event, 0);
    SAY("cuEventRecord", CALL(cuEventRecord, (handle, handle), event, stream));
    SAY("cuStreamWaitEvent", CALL(cuStreamWaitEvent, (handle, handle, unsigned), second, event, 0));
    CALL(cuStreamIsCapturing, (handle, unsigned *), second, &status);
    SAY("  the other stream's status", status);
    SAY("cuLaunchKernel there", LAUNCH(add, second, &data, &three));
    SAY("cuEventQuery of a captured event", CALL(cuEventQuery, (handle), event));
    CALL(cuEventRecord, (handle, handle), event, second);
    SAY("cuStreamWaitEvent back", CALL(cuStreamWaitEvent, (handle, handle, unsigned), stream, event, 0));
    SAY("cuMemcpyDtoHAsync", CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), results, data, sizeof results, stream));
    SAY("cuLaunchHostFunc", CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), stream, look, results));
    SAY("cuStreamEndCapture in the wrong stream", CALL(cuStreamEndCapture, (handle, handle *), second, &graph));
    SAY("cuStreamEndCapture, invalid by that", CALL(cuStreamEndCapture, (handle, handle *), stream, &graph));
    SAY("  no graph", graph == NULL);
    SAY("  its node is gone", CALL(cuGraphNodeGetType, (handle, unsigned *), last_node, &type));

    /* The same again, to the end. */
    CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 2);
    CALL(cuMemcpyHtoDAsync_v2, (ptr, void *, size_t, handle), data, in, sizeof in, stream);
    LAUNCH(add, stream, &data, &three);
    CALL(cuMemcpyDtoHAsync_v2, (void *, ptr, size_t, handle), results, data, sizeof results, stream);
    CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), stream, look, results);
    SAY("cuMemAlloc while a relaxed capture goes on", CALL(cuMemAlloc_v2, (ptr *, size_t), &(ptr){0}, 64));
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), stream, &graph));
    SAY("  nodes", nodes_of(graph));
    exec = launched(graph, &code);
    SAY("cuGraphLaunch", code);
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  the function saw", sum_seen);
    SAY("  results are here", results[0] == 3 && results[N - 1] == 3 + N - 1);
    for (int i = 0; i < N; i++) in[i] = 100 + i;
    for (int i = 0; i < 3; i++) CALL(cuGraphLaunch, (handle, handle), exec, stream);
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    SAY("  new bytes went, new results came", results[0] == 103 && results[N - 1] == 103 + N - 1);
    SAY("  calls", calls);
    handle moved = NULL;
    SAY("cuGraphClone", CALL(cuGraphClone, (handle *, handle), &moved, graph));
    SAY("cuGraphDestroy", CALL(cuGraphDestroy, (handle), graph));
    SAY("cuGraphDestroy again", CALL(cuGraphDestroy, (handle), graph));
    for (int i = 0; i < N; i++) in[i] = 200 + i;
    handle exec2 = launched(moved, &code);
    SAY("cuGraphLaunch of the clone", code);
    SAY("cuGraphExecDestroy under way", CALL(cuGraphExecDestroy, (handle), exec2));
    CALL(cuGraphDestroy, (handle), moved);
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  results all the same", results[0] == 203 && sum_seen == 203);
    CALL(cuGraphExecDestroy, (handle), exec);
    for (int i = 0; i < N; i++) in[i] = i;

    /* What a capture forbids. */
    CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 0);
    SAY("cuMemAlloc in a global capture", CALL(cuMemAlloc_v2, (ptr *, size_t), &(ptr){0}, 64));
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), stream, &graph));
    CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 0);
    SAY("cuStreamSynchronize in a capture", CALL(cuStreamSynchronize, (handle), stream));
    SAY("cuLaunchKernel in an invalid one", LAUNCH(add, stream, &data, &three));
    CALL(cuStreamIsCapturing, (handle, unsigned *), stream, &status);
    SAY("  status", status);
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), stream, &graph));
    CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 0);
    SAY("cuCtxSynchronize in a capture", CALL(cuCtxSynchronize, (void)));
    CALL(cuStreamEndCapture, (handle, handle *), stream, &graph);
    unsigned mode = 2;
    SAY("cuThreadExchangeStreamCaptureMode", CALL(cuThreadExchangeStreamCaptureMode, (unsigned *), &mode));
    SAY("  mode before", mode);
    CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 0);
    SAY("cuMemAlloc, relaxed thread", CALL(cuMemAlloc_v2, (ptr *, size_t), &(ptr){0}, 64));
    SAY("cuThreadExchangeStreamCaptureMode", CALL(cuThreadExchangeStreamCaptureMode, (unsigned *), &mode));
    SAY("  mode before", mode);
    CALL(cuStreamEndCapture, (handle, handle *), stream, &graph);
    SAY("  an empty graph", nodes_of(graph));
    /* Into a graph that is there. */
    handle node = NULL, empty = NULL;
    CALL(cuGraphAddEmptyNode, (handle *, handle, handle *, size_t), &empty, graph, NULL, 0);
    SAY("cuStreamBeginCaptureToGraph", CALL(cuStreamBeginCaptureToGraph, (handle, handle, handle *, void *, size_t, unsigned), stream,
                                            graph, &empty, NULL, 1, 0));
    LAUNCH(add, stream, &data, &three);
    SAY("cuStreamUpdateCaptureDependencies", CALL(cuStreamUpdateCaptureDependencies, (handle, handle *, size_t, unsigned), stream, &empty, 1, 1));
    LAUNCH(add, stream, &data, &three);
    SAY("cuStreamEndCapture, one kernel set aside", CALL(cuStreamEndCapture, (handle, handle *), stream, &node));
    SAY("  the graph has", nodes_of(graph));
    CALL(cuStreamBeginCaptureToGraph, (handle, handle, handle *, void *, size_t, unsigned), stream, graph, &empty, NULL, 1, 0);
    LAUNCH(add, stream, &data, &three);
    SAY("cuStreamEndCapture that need not say which graph", CALL(cuStreamEndCapture, (handle, handle *), stream, NULL));
    SAY("  the graph has", nodes_of(graph));
    CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 0);
    SAY("cuStreamEndCapture(NULL) of a graph of its own", CALL(cuStreamEndCapture, (handle, handle *), stream, NULL));
    CALL(cuStreamEndCapture, (handle, handle *), stream, &node);
    CALL(cuGraphDestroy, (handle), node);
    /* A capture goes on from a node that the program has added to its graph. */
    handle captured = NULL, added = NULL;
    CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 0);
    LAUNCH(add, stream, &data, &three);
    CALL(cuStreamGetCaptureInfo_v2, (handle, unsigned *, uint64_t *, handle *, const handle **, size_t *), stream, &status, &id, &captured, &last, &lasts);
    SAY("cuGraphAddEmptyNode to a graph that is captured", CALL(cuGraphAddEmptyNode, (handle *, handle, const handle *, size_t), &added, captured, last, lasts));
    SAY("cuStreamUpdateCaptureDependencies", CALL(cuStreamUpdateCaptureDependencies, (handle, handle *, size_t, unsigned), stream, &added, 1, 1));
    LAUNCH(add, stream, &data, &three);
    SAY("cuStreamEndCapture behind it", CALL(cuStreamEndCapture, (handle, handle *), stream, &captured));
    SAY("  nodes", nodes_of(captured));
    CALL(cuGraphDestroy, (handle), captured);
    CALL(cuStreamBeginCapture_v2, (handle, unsigned), stream, 0);
    CALL(cuEventRecord, (handle, handle), event, stream);
    CALL(cuStreamWaitEvent, (handle, handle, unsigned), second, event, 0);
    LAUNCH(add, second, &data, &three);
    SAY("cuStreamEndCapture, one kernel unjoined", CALL(cuStreamEndCapture, (handle, handle *), stream, &node));
    SAY("cuStreamDestroy of a capturing stream",
        (CALL(cuStreamBeginCapture_v2, (handle, unsigned), second, 0), CALL(cuStreamDestroy_v2, (handle), second)));
    SAY("cuMemAlloc afterwards", CALL(cuMemAlloc_v2, (ptr *, size_t), &(ptr){0}, 64));
    CALL(cuGraphDestroy, (handle), graph);
}

static struct copy to_device(void *host, ptr device) {
    struct copy copy;
    memset(&copy, 0, sizeof copy);
    copy.src.type = 1, copy.src.host = host, copy.dst.type = 2, copy.dst.device = device;
    copy.width = sizeof in, copy.height = copy.depth = 1;
    return copy;
}

static void graphs(void) {
    handle graph = NULL, kernel = NULL, fill = NULL, host = NULL, copy_in = NULL, copy_out = NULL, exec = NULL, nodes[16];
    unsigned value = 5, type = 99;
    int code;
    CALL(cuGraphCreate, (handle *, unsigned), &graph, 0);
    void *params[] = {&data, &value};
    struct kernel run = {add, {1, 1, 1}, {N, 1, 1}, 0, params, NULL};
    struct copy up = to_device(in, data), down = up;
    down.src = up.dst, down.dst = up.src, down.dst.host = results;
    struct fill zero = {data, 0, 0, 4, N, 1};
    struct host call = {prepare, in};
    SAY("cuGraphAddMemsetNode", CALL(cuGraphAddMemsetNode, (handle *, handle, handle *, size_t, void *, handle), &fill, graph, NULL, 0, &zero, context));
    zero.element = 3;
    SAY("cuGraphAddMemsetNode(element of 3)", CALL(cuGraphAddMemsetNode, (handle *, handle, handle *, size_t, void *, handle), &fill, graph, NULL, 0, &zero, context));
    SAY("cuGraphAddHostNode", CALL(cuGraphAddHostNode, (handle *, handle, handle *, size_t, void *), &host, graph, &fill, 1, &call));
    call.function = NULL;
    SAY("cuGraphAddHostNode(NULL)", CALL(cuGraphAddHostNode, (handle *, handle, handle *, size_t, void *), &(handle){0}, graph, NULL, 0, &call));
    SAY("cuGraphAddMemcpyNode from the host", CALL(cuGraphAddMemcpyNode, (handle *, handle, handle *, size_t, void *, handle), &copy_in, graph, &host, 1, &up, context));
    SAY("cuGraphAddKernelNode", CALL(cuGraphAddKernelNode, (handle *, handle, handle *, size_t, void *), &kernel, graph, &copy_in, 1, &run));
    SAY("cuGraphAddMemcpyNode to the host", CALL(cuGraphAddMemcpyNode, (handle *, handle, handle *, size_t, void *, handle), &copy_out, graph, &kernel, 1, &down, context));
    handle twice[] = {kernel, kernel};
    SAY("cuGraphAddEmptyNode(one dependency twice)", CALL(cuGraphAddEmptyNode, (handle *, handle, handle *, size_t), &(handle){0}, graph, twice, 2));
    SAY("  nodes", nodes_of(graph));
    size_t number = 16, edges = 0;
    SAY("cuGraphGetNodes", CALL(cuGraphGetNodes, (handle, handle *, size_t *), graph, nodes, &number));
    SAY("  all, and the rest is NULL", number == 5 && nodes[0] == fill && nodes[4] == copy_out && nodes[5] == NULL);
    number = 16;
    SAY("cuGraphGetRootNodes", CALL(cuGraphGetRootNodes, (handle, handle *, size_t *), graph, nodes, &number));
    SAY("  the first", number == 1 && nodes[0] == fill);
    SAY("cuGraphGetEdges", CALL(cuGraphGetEdges, (handle, handle *, handle *, size_t *), graph, NULL, NULL, &edges));
    SAY("  edges", edges);
    number = 16;
    CALL(cuGraphNodeGetDependencies, (handle, handle *, size_t *), kernel, nodes, &number);
    SAY("  before the kernel", number == 1 && nodes[0] == copy_in);
    number = 16;
    CALL(cuGraphNodeGetDependentNodes, (handle, handle *, size_t *), kernel, nodes, &number);
    SAY("  after the kernel", number == 1 && nodes[0] == copy_out);
    for (int i = 0; i < 5; i++) {
        CALL(cuGraphNodeGetType, (handle, unsigned *), (handle[]){fill, host, copy_in, kernel, copy_out}[i], &type);
        SAY("  type", type);
    }
    SAY("cuGraphAddDependencies(there is one)", CALL(cuGraphAddDependencies, (handle, handle *, handle *, size_t), graph, &copy_in, &kernel, 1));
    SAY("cuGraphAddDependencies", CALL(cuGraphAddDependencies, (handle, handle *, handle *, size_t), graph, &copy_out, &fill, 1));
    SAY("cuGraphInstantiate of a circle", CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &exec, graph, 0));
    SAY("cuGraphRemoveDependencies", CALL(cuGraphRemoveDependencies, (handle, handle *, handle *, size_t), graph, &copy_out, &fill, 1));
    SAY("cuGraphInstantiate(bad flags)", CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &exec, graph, 256));
    uint64_t with[4] = {0, 0, 1, 77}, flags = 9;
    SAY("cuGraphInstantiateWithParams", CALL(cuGraphInstantiateWithParams, (handle *, handle, void *), &exec, graph, with));
    SAY("  result", (uint32_t)with[3]);
    SAY("cuGraphExecGetFlags", CALL(cuGraphExecGetFlags, (handle, uint64_t *), exec, &flags));
    SAY("  flags", flags);
    calls = 0;
    SAY("cuGraphLaunch", CALL(cuGraphLaunch, (handle, handle), exec, stream));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  what the function wrote went through the kernel", results[0] == 505 && results[N - 1] == 505 + N - 1 && calls == 1);

    struct kernel asked;
    memset(&asked, 0, sizeof asked);
    SAY("cuGraphKernelNodeGetParams", CALL(cuGraphKernelNodeGetParams, (handle, void *), kernel, &asked));
    SAY("  function, shape and values", asked.function == add && asked.block[0] == N && *(unsigned *)asked.params[1] == 5 && *(ptr *)asked.params[0] == data);
    SAY("cuGraphKernelNodeGetParams of a fill", CALL(cuGraphKernelNodeGetParams, (handle, void *), fill, &asked));
    struct copy asked_copy;
    SAY("cuGraphMemcpyNodeGetParams", CALL(cuGraphMemcpyNodeGetParams, (handle, void *), copy_in, &asked_copy));
    SAY("  the program's own memory", asked_copy.src.host == in && asked_copy.dst.device == data && asked_copy.width == sizeof in);
    struct fill asked_fill;
    SAY("cuGraphMemsetNodeGetParams", CALL(cuGraphMemsetNodeGetParams, (handle, void *), fill, &asked_fill));
    SAY("  width", asked_fill.width);
    struct host asked_host;
    SAY("cuGraphHostNodeGetParams", CALL(cuGraphHostNodeGetParams, (handle, void *), host, &asked_host));
    SAY("  the program's own function", asked_host.function == prepare && asked_host.data == in);

    value = 7;
    SAY("cuGraphExecKernelNodeSetParams", CALL(cuGraphExecKernelNodeSetParams, (handle, handle, void *), exec, kernel, &run));
    call.function = count, call.data = NULL;
    SAY("cuGraphExecHostNodeSetParams", CALL(cuGraphExecHostNodeSetParams, (handle, handle, void *), exec, host, &call));
    uint32_t fresh[N];
    for (int i = 0; i < N; i++) fresh[i] = 1000 + i;
    up.src.host = fresh;
    SAY("cuGraphExecMemcpyNodeSetParams", CALL(cuGraphExecMemcpyNodeSetParams, (handle, handle, void *, handle), exec, copy_in, &up, context));
    CALL(cuGraphLaunch, (handle, handle), exec, stream);
    CALL(cuStreamSynchronize, (handle), stream);
    SAY("  other memory, other value, other function", results[0] == 1007 && calls == 2);
    SAY("cuGraphNodeSetEnabled", CALL(cuGraphNodeSetEnabled, (handle, handle, unsigned), exec, kernel, 0));
    unsigned enabled = 9;
    SAY("cuGraphNodeGetEnabled", CALL(cuGraphNodeGetEnabled, (handle, handle, unsigned *), exec, kernel, &enabled));
    SAY("  enabled", enabled);
    CALL(cuGraphLaunch, (handle, handle), exec, stream);
    CALL(cuStreamSynchronize, (handle), stream);
    SAY("  without the kernel", results[0]);
    value = 11;
    SAY("cuGraphKernelNodeSetParams", CALL(cuGraphKernelNodeSetParams, (handle, void *), kernel, &run));
    uint64_t update[3] = {77, 1, 1};
    SAY("cuGraphExecUpdate_v2", CALL(cuGraphExecUpdate_v2, (handle, handle, void *), exec, graph, update));
    SAY("  result", (uint32_t)update[0]);
    CALL(cuGraphNodeSetEnabled, (handle, handle, unsigned), exec, kernel, 1);
    CALL(cuGraphLaunch, (handle, handle), exec, stream);
    CALL(cuStreamSynchronize, (handle), stream);
    SAY("  as the graph has it now", results[0]);
    handle more = NULL;
    CALL(cuGraphClone, (handle *, handle), &more, graph);
    handle found = NULL;
    SAY("cuGraphNodeFindInClone", CALL(cuGraphNodeFindInClone, (handle *, handle, handle), &found, kernel, more));
    CALL(cuGraphNodeGetType, (handle, unsigned *), found, &type);
    SAY("  a kernel, not the same node", type == 0 && found != kernel);
    SAY("cuGraphDestroyNode", CALL(cuGraphDestroyNode, (handle), found));
    SAY("cuGraphDestroyNode again", CALL(cuGraphDestroyNode, (handle), found));
    SAY("  nodes left", nodes_of(more));
    SAY("cuGraphExecUpdate_v2 of another shape", CALL(cuGraphExecUpdate_v2, (handle, handle, void *), exec, more, update));
    SAY("  result", (uint32_t)update[0]);
    uint64_t attribute[8] = {0}, got[8] = {0};
    attribute[0] = 1;
    SAY("cuGraphKernelNodeSetAttribute(cooperative)", CALL(cuGraphKernelNodeSetAttribute, (handle, unsigned, void *), kernel, 2, attribute));
    SAY("cuGraphKernelNodeGetAttribute", CALL(cuGraphKernelNodeGetAttribute, (handle, unsigned, void *), kernel, 2, got));
    SAY("  value", got[0]);
    SAY("cuGraphDebugDotPrint", CALL(cuGraphDebugDotPrint, (handle, const char *, unsigned), graph, "/dev/null", 0));

    /* Graphs in graphs, events, memory, objects. */
    handle outer = NULL, child = NULL, inner = NULL, record = NULL, event = NULL, wait = NULL, asked_event = NULL;
    CALL(cuEventCreate, (handle *, unsigned), &event, 0);
    CALL(cuGraphCreate, (handle *, unsigned), &outer, 0);
    SAY("cuGraphAddChildGraphNode", CALL(cuGraphAddChildGraphNode, (handle *, handle, handle *, size_t, handle), &child, outer, NULL, 0, graph));
    SAY("cuGraphChildGraphNodeGetGraph", CALL(cuGraphChildGraphNodeGetGraph, (handle, handle *), child, &inner));
    SAY("  as many nodes", nodes_of(inner));
    SAY("cuGraphDestroy of it", CALL(cuGraphDestroy, (handle), inner));
    SAY("cuGraphAddEventRecordNode", CALL(cuGraphAddEventRecordNode, (handle *, handle, handle *, size_t, handle), &record, outer, &child, 1, event));
    SAY("cuGraphAddEventWaitNode", CALL(cuGraphAddEventWaitNode, (handle *, handle, handle *, size_t, handle), &wait, outer, &record, 1, event));
    SAY("cuGraphEventRecordNodeGetEvent", CALL(cuGraphEventRecordNodeGetEvent, (handle, handle *), record, &asked_event));
    SAY("  the same", asked_event == event);
    exec = launched(outer, &code);
    SAY("cuGraphLaunch", code);
    SAY("cuEventSynchronize", CALL(cuEventSynchronize, (handle), event));
    CALL(cuStreamSynchronize, (handle), stream);
    SAY("  results of the inner graph", results[0]);
    SAY("cuGraphDestroy", CALL(cuGraphDestroy, (handle), outer));
    SAY("  the inner graph's node is gone", CALL(cuGraphNodeGetType, (handle, unsigned *), record, &type));
    struct alloc memory;
    memset(&memory, 0, sizeof memory);
    memory.type = 1, memory.location = 1, memory.bytes = 1000;
    handle made = NULL, freed = NULL;
    CALL(cuGraphCreate, (handle *, unsigned), &outer, 0);
    SAY("cuGraphAddMemAllocNode", CALL(cuGraphAddMemAllocNode, (handle *, handle, handle *, size_t, void *), &made, outer, NULL, 0, &memory));
    SAY("  has an address", memory.address != 0);
    zero.element = 4, zero.dst = memory.address, zero.value = 9;
    SAY("cuGraphAddMemsetNode of it", CALL(cuGraphAddMemsetNode, (handle *, handle, handle *, size_t, void *, handle), &fill, outer, &made, 1, &zero, context));
    struct any any;
    memset(&any, 0, sizeof any);
    any.type = 11, any.of.address = memory.address;
    SAY("cuGraphAddNode (free)", CALL(cuGraphAddNode, (handle *, handle, handle *, size_t, void *), &freed, outer, &fill, 1, &any));
    any.of.address = data;
    SAY("cuGraphAddNode (free of other memory)", CALL(cuGraphAddNode, (handle *, handle, handle *, size_t, void *), &freed, outer, NULL, 0, &any));
    any.type = 99;
    SAY("cuGraphAddNode (no type)", CALL(cuGraphAddNode, (handle *, handle, handle *, size_t, void *), &freed, outer, NULL, 0, &any));
    ptr address = 0;
    SAY("cuGraphMemFreeNodeGetParams", CALL(cuGraphMemFreeNodeGetParams, (handle, ptr *), freed, &address));
    SAY("  the address", address == memory.address);
    SAY("cuGraphClone with memory", CALL(cuGraphClone, (handle *, handle), &more, outer));
    exec = launched(outer, &code);
    SAY("cuGraphLaunch", code);
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    uint64_t used = 0;
    SAY("cuDeviceGetGraphMemAttribute", CALL(cuDeviceGetGraphMemAttribute, (int, unsigned, void *), 0, 0, &used));
    SAY("  some", used > 0);
    SAY("cuDeviceGraphMemTrim", CALL(cuDeviceGraphMemTrim, (int), 0));
    CALL(cuGraphExecDestroy, (handle), exec);
    volatile int ends = 0;
    handle object = NULL;
    SAY("cuUserObjectCreate(flags)", CALL(cuUserObjectCreate, (handle *, void *, void (*)(void *), unsigned, unsigned), &object, (void *)&ends, destroyed, 1, 0));
    SAY("cuUserObjectCreate", CALL(cuUserObjectCreate, (handle *, void *, void (*)(void *), unsigned, unsigned), &object, (void *)&ends, destroyed, 1, 1));
    SAY("cuUserObjectRetain", CALL(cuUserObjectRetain, (handle, unsigned), object, 2));
    SAY("cuUserObjectRelease", CALL(cuUserObjectRelease, (handle, unsigned), object, 2));
    SAY("cuGraphRetainUserObject", CALL(cuGraphRetainUserObject, (handle, handle, unsigned, unsigned), outer, object, 1, 1));
    SAY("  alive", ends == 0);
    SAY("cuGraphDestroy", CALL(cuGraphDestroy, (handle), outer));
    for (int i = 0; i < 500 && !ends; i++) usleep(10000);
    SAY("  destroyed once", ends);
    CALL(cuGraphDestroy, (handle), graph);
    SAY("cuGraphAddEmptyNode to nothing", CALL(cuGraphAddEmptyNode, (handle *, handle, handle *, size_t), &(handle){0}, graph, NULL, 0));
}

/* Two threads capture in the stream that each has of its own. */
static pthread_barrier_t both;
static handle graph_of_second;
static void *capture_second(void *unused) {
    unsigned status = 9, five = 5;
    uint64_t id = 0;
    handle info = NULL, own = (handle)2;
    const handle *last = NULL;
    size_t lasts = 0;
    CALL(cuCtxSetCurrent, (handle), context);
    CALL(cuStreamBeginCapture_v2, (handle, unsigned), own, 1);
    LAUNCH(add, own, &data, &five);
    CALL(cuStreamGetCaptureInfo_v2, (handle, unsigned *, uint64_t *, handle *, const handle **, size_t *), own, &status, &id, &info, &last, &lasts);
    pthread_barrier_wait(&both);
    /* The first thread's capture fails now. */
    pthread_barrier_wait(&both);
    LAUNCH(add, own, &data, &five);
    SAY("its capture goes on in the other thread", CALL(cuStreamEndCapture, (handle, handle *), own, &graph_of_second));
    SAY("  the graph is the one that was named", graph_of_second == info);
    SAY("  nodes", nodes_of(info));
    (void)unused;
    return NULL;
}
static void two_threads(void) {
    unsigned status = 9, one = 1;
    handle graph = NULL, own = (handle)2, fork = NULL, event = NULL;
    pthread_t second;
    int code;
    pthread_barrier_init(&both, NULL, 2);
    CALL(cuStreamCreate, (handle *, unsigned), &fork, 1);
    CALL(cuEventCreate, (handle *, unsigned), &event, 0);
    pthread_create(&second, NULL, capture_second, NULL);
    pthread_barrier_wait(&both);
    SAY("cuStreamBeginCapture in a thread's own stream", CALL(cuStreamBeginCapture_v2, (handle, unsigned), own, 1));
    LAUNCH(add, own, &data, &one);
    CALL(cuEventRecord, (handle, handle), event, own);
    CALL(cuStreamWaitEvent, (handle, handle, unsigned), fork, event, 0);
    LAUNCH(add, fork, &data, &one);
    SAY("cuStreamEndCapture, one kernel unjoined", CALL(cuStreamEndCapture, (handle, handle *), own, &graph));
    CALL(cuStreamIsCapturing, (handle, unsigned *), own, &status);
    SAY("  status", status);
    pthread_barrier_wait(&both);
    pthread_join(second, NULL);
    CALL(cuMemsetD32_v2, (ptr, unsigned, size_t), data, 0, N);
    handle exec = launched(graph_of_second, &code);
    SAY("cuGraphLaunch of the other's", code);
    CALL(cuStreamSynchronize, (handle), stream);
    fetch(0);
    SAY("  both kernels ran", out[0]);
    CALL(cuGraphExecDestroy, (handle), exec);
    CALL(cuGraphDestroy, (handle), graph_of_second);
    CALL(cuEventDestroy_v2, (handle), event);
    CALL(cuStreamDestroy_v2, (handle), fork);
}

int main(void) {
    load();
    CALL(cuInit, (unsigned), 0);
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    handle module = NULL;
    CALL(cuModuleLoadData, (handle *, const void *), &module, PTX);
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &add, module, "add");
    CALL(cuMemAlloc_v2, (ptr *, size_t), &data, sizeof in);
    for (int i = 0; i < N; i++) in[i] = i;
    captures();
    two_threads();
    graphs();
    SAY("the bytes of the last fill", fetch(0) > 0);
    return 0;
}
