/* Events of whole contexts, pools and prefetches by location, conditional graphs, nodes that write and wait for values, names of graphs,
   logs, core dumps: each line is a fact that must be the same on a driver and through the remoting. */
#include "by_name.h"
#include <string.h>
#include <unistd.h>

#define SAY(fact, value) printf("%-56s %lld\n", fact, (long long)(value))

/* `count` adds 1 to a word and sets the condition while the sum is below a limit; `cudaGraphSetConditional` is the device runtime's. */
static const char *PTX =
    ".version 8.3\n.target sm_70\n.address_size 64\n"
    ".extern .func cudaGraphSetConditional(.param .b64 handle, .param .b32 value);\n"
    ".visible .entry count(.param .u64 data, .param .u64 handle, .param .u32 limit) {\n"
    "  .reg .pred %p; .reg .u32 %r<4>; .reg .u64 %d<3>;\n"
    "  ld.param.u64 %d0, [data]; ld.param.u64 %d1, [handle]; ld.param.u32 %r0, [limit];\n"
    "  ld.global.u32 %r1, [%d0]; add.u32 %r1, %r1, 1; st.global.u32 [%d0], %r1;\n"
    "  setp.lt.u32 %p, %r1, %r0; selp.u32 %r2, 1, 0, %p;\n"
    "  { .param .b64 a; .param .b32 b; st.param.b64 [a], %d1; st.param.b32 [b], %r2;\n"
    "    call cudaGraphSetConditional, (a, b); }\n"
    "  ret;\n}\n"
    ".visible .entry set(.param .u64 handle, .param .u32 value) {\n"
    "  .reg .u32 %r<2>; .reg .u64 %d<2>;\n"
    "  ld.param.u64 %d0, [handle]; ld.param.u32 %r0, [value];\n"
    "  { .param .b64 a; .param .b32 b; st.param.b64 [a], %d0; st.param.b32 [b], %r0;\n"
    "    call cudaGraphSetConditional, (a, b); }\n"
    "  ret;\n}\n"
    ".visible .entry spin(.param .u64 data, .param .u32 rounds) {\n"
    "  .reg .pred %p; .reg .u32 %r<4>; .reg .u64 %d<2>;\n"
    "  ld.param.u64 %d0, [data]; ld.param.u32 %r0, [rounds]; mov.u32 %r1, 0;\n"
    "again: add.u32 %r1, %r1, 1; setp.lt.u32 %p, %r1, %r0; @%p bra again;\n"
    "  ld.global.u32 %r2, [%d0]; add.u32 %r2, %r2, %r1; st.global.u32 [%d0], %r2; ret;\n}\n";

struct kernel { handle function; unsigned grid[3], block[3], shared; void **params, **extra; };
struct fill { ptr dst; size_t pitch; unsigned value, element; size_t width, height; };
struct conditional { uint64_t handle; unsigned kind, size; handle *graphs; handle context; };
struct operation { unsigned kind, pad; ptr address; uint64_t value; unsigned flags, pad2; ptr alias; uint64_t rest; };
struct operations { handle context; unsigned count; struct operation *list; unsigned flags; };
struct any { unsigned type; int reserved[3]; union { struct kernel kernel; struct conditional conditional; struct operations operations; struct fill fill; handle handle; long long words[29]; } of; long long last; };
struct location { int kind, id; };

static handle context, stream, module, count, set, spin;
static ptr data;

static unsigned word(int at) {
    unsigned value = 0;
    CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, data + 4 * at, 4);
    return value;
}
static void clear(void) {
    CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), data, 0, 256);
    CALL(cuCtxSynchronize, (void));
}
static handle function(const char *name) {
    handle found = NULL;
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &found, module, name);
    return found;
}
static int kernel_node(handle *node, handle graph, handle *after, size_t n, handle of, void **params) {
    struct kernel kernel = {of, {1, 1, 1}, {1, 1, 1}, 0, params, NULL};
    return CALL(cuGraphAddKernelNode, (handle *, handle, handle *, size_t, void *), node, graph, after, n, &kernel);
}
static int fill_node(handle *node, handle graph, int at, unsigned value) {
    struct fill fill = {data + 4 * at, 0, value, 4, 1, 1};
    return CALL(cuGraphAddMemsetNode, (handle *, handle, handle *, size_t, void *, handle), node, graph, NULL, 0, &fill, context);
}
static int launch(handle graph, int times) {
    handle exec = NULL;
    int code = CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &exec, graph, 0);
    for (int i = 0; !code && i < times; i++) code = CALL(cuGraphLaunch, (handle, handle), exec, stream);
    if (!code) code = CALL(cuStreamSynchronize, (handle), stream);
    if (exec) CALL(cuGraphExecDestroy, (handle), exec);
    return code;
}

static void events(void) {
    handle event = NULL, other = NULL, elsewhere = NULL, second = NULL;
    CALL(cuEventCreate, (handle *, unsigned), &event, 2);
    CALL(cuStreamCreate, (handle *, unsigned), &second, 1);
    SAY("cuCtxRecordEvent(no context)", CALL(cuCtxRecordEvent, (handle, handle), (handle)0x1234560, event));
    SAY("cuCtxRecordEvent(no event)", CALL(cuCtxRecordEvent, (handle, handle), context, (handle)0x1234560));
    unsigned rounds = 3000000;
    clear();
    CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), spin, 1, 1, 1, 1, 1, 1, 0, stream, ((void *[]){&data, &rounds}), NULL);
    SAY("cuCtxRecordEvent", CALL(cuCtxRecordEvent, (handle, handle), context, event));
    SAY("cuCtxWaitEvent", CALL(cuCtxWaitEvent, (handle, handle), context, event));
    rounds = 7;
    CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), spin, 1, 1, 1, 1, 1, 1, 0, second, ((void *[]){&data, &rounds}), NULL);
    SAY("cuStreamSynchronize of the other stream", CALL(cuStreamSynchronize, (handle), second));
    SAY("  it came behind the first one", word(0));
    SAY("cuEventSynchronize", CALL(cuEventSynchronize, (handle), event));
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &elsewhere, 0, 0);
    CALL(cuEventCreate, (handle *, unsigned), &other, 2);
    SAY("cuCtxRecordEvent(of another context)", CALL(cuCtxRecordEvent, (handle, handle), context, other));
    SAY("cuCtxRecordEvent there", CALL(cuCtxRecordEvent, (handle, handle), elsewhere, other));
    SAY("cuCtxWaitEvent for it here", CALL(cuCtxWaitEvent, (handle, handle), context, other));
    CALL(cuCtxDestroy_v2, (handle), elsewhere);
    SAY("cuStreamBeginCapture", CALL(cuStreamBeginCapture_v2, (handle, unsigned), second, 0));
    SAY("cuCtxRecordEvent in a capture", CALL(cuCtxRecordEvent, (handle, handle), context, event));
    handle graph = NULL;
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), second, &graph));
    SAY("cuStreamBeginCapture", CALL(cuStreamBeginCapture_v2, (handle, unsigned), second, 0));
    SAY("cuCtxWaitEvent in a capture", CALL(cuCtxWaitEvent, (handle, handle), context, event));
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), second, &graph));
    CALL(cuStreamDestroy_v2, (handle), second);
    CALL(cuEventDestroy_v2, (handle), event);
}

static handle conditional(handle graph, uint64_t variable, unsigned kind, unsigned size, handle **bodies, int *code, handle *after, size_t n) {
    struct any any;
    handle node = NULL;
    memset(&any, 0, sizeof any);
    any.type = 13;
    any.of.conditional = (struct conditional){variable, kind, size, NULL, context};
    *code = CALL(cuGraphAddNode, (handle *, handle, handle *, size_t, void *), &node, graph, after, n, &any);
    *bodies = any.of.conditional.graphs;
    return node;
}

static void conditionals(void) {
    handle graph = NULL, node = NULL, first = NULL, *bodies = NULL;
    uint64_t variable = 0;
    unsigned limit = 5, type = 0;
    int code;
    CALL(cuGraphCreate, (handle *, unsigned), &graph, 0);
    SAY("cuGraphConditionalHandleCreate(flags)", CALL(cuGraphConditionalHandleCreate, (uint64_t *, handle, handle, unsigned, unsigned), &variable, graph, context, 1, 2));
    SAY("cuGraphConditionalHandleCreate", CALL(cuGraphConditionalHandleCreate, (uint64_t *, handle, handle, unsigned, unsigned), &variable, graph, context, 1, 1));
    SAY("  a handle", variable != 0);
    conditional(graph, variable ^ 0x4000, 1, 1, &bodies, &code, NULL, 0);
    SAY("cuGraphAddNode (no such handle)", code);
    conditional(graph, variable, 1, 2, &bodies, &code, NULL, 0);
    SAY("cuGraphAddNode (while, two bodies)", code);
    conditional(graph, variable, 0, 3, &bodies, &code, NULL, 0);
    SAY("cuGraphAddNode (if, three bodies)", code);
    conditional(graph, variable, 3, 1, &bodies, &code, NULL, 0);
    SAY("cuGraphAddNode (no such kind)", code);
    node = conditional(graph, variable, 1, 1, &bodies, &code, NULL, 0);
    SAY("cuGraphAddNode (while)", code);
    CALL(cuGraphNodeGetType, (handle, unsigned *), node, &type);
    SAY("  its type", type);
    SAY("  a body", bodies && bodies[0] != NULL);
    SAY("cuGraphAddKernelNode in the body", kernel_node(&first, bodies[0], NULL, 0, count, (void *[]){&data, &variable, &limit}));
    SAY("cuGraphDestroy of the body", CALL(cuGraphDestroy, (handle), bodies[0]));
    clear();
    SAY("a loop", launch(graph, 1));
    SAY("  rounds", word(0));
    SAY("three more times, the value is set anew", launch(graph, 3));
    SAY("  rounds", word(0));
    struct any got;
    memset(&got, 0xff, sizeof got);
    SAY("cuGraphNodeGetParams (conditional)", CALL(cuGraphNodeGetParams, (handle, void *), node, &got));
    SAY("  as it was made", got.type == 13 && got.of.conditional.handle == variable && got.of.conditional.kind == 1 && got.of.conditional.size == 1 && got.of.conditional.graphs[0] == bodies[0] && got.of.conditional.context == context);
    handle clone = NULL;
    SAY("cuGraphClone", CALL(cuGraphClone, (handle *, handle), &clone, graph));
    clear();
    SAY("the clone", launch(clone, 1));
    SAY("  rounds", word(0));
    CALL(cuGraphDestroy, (handle), clone);
    CALL(cuGraphDestroy, (handle), graph);
    SAY("cuGraphAddEmptyNode to the body, which is gone", CALL(cuGraphAddEmptyNode, (handle *, handle, handle *, size_t), &first, bodies[0], NULL, 0) != 0);

    for (unsigned value = 0; value < 2; value++) {
        uint64_t choice = 0;
        CALL(cuGraphCreate, (handle *, unsigned), &graph, 0);
        CALL(cuGraphConditionalHandleCreate, (uint64_t *, handle, handle, unsigned, unsigned), &choice, graph, context, 0, 0);
        kernel_node(&first, graph, NULL, 0, set, (void *[]){&choice, &value});
        conditional(graph, choice, 0, 2, &bodies, &code, &first, 1);
        SAY("cuGraphAddNode (if, else)", code);
        fill_node(&node, bodies[0], 1, 11);
        fill_node(&node, bodies[1], 2, 22);
        clear();
        SAY(value ? "if so" : "if not", launch(graph, 1));
        SAY("  the one", word(1));
        SAY("  the other", word(2));
        CALL(cuGraphDestroy, (handle), graph);
    }
    for (unsigned value = 1; value < 5; value += 2) {
        uint64_t choice = 0;
        CALL(cuGraphCreate, (handle *, unsigned), &graph, 0);
        CALL(cuGraphConditionalHandleCreate, (uint64_t *, handle, handle, unsigned, unsigned), &choice, graph, context, value, 1);
        conditional(graph, choice, 2, 3, &bodies, &code, NULL, 0);
        SAY("cuGraphAddNode (switch)", code);
        for (int i = 0; i < 3; i++) fill_node(&node, bodies[i], i, 30 + i);
        clear();
        SAY("a switch", launch(graph, 1));
        SAY("  sum", word(0) + word(1) + word(2));
        CALL(cuGraphDestroy, (handle), graph);
    }
    /* A loop within a branch. */
    uint64_t inner = 0;
    handle *within = NULL;
    CALL(cuGraphCreate, (handle *, unsigned), &graph, 0);
    CALL(cuGraphConditionalHandleCreate, (uint64_t *, handle, handle, unsigned, unsigned), &variable, graph, context, 1, 1);
    CALL(cuGraphConditionalHandleCreate, (uint64_t *, handle, handle, unsigned, unsigned), &inner, graph, context, 1, 1);
    conditional(graph, variable, 0, 1, &bodies, &code, NULL, 0);
    conditional(bodies[0], inner, 1, 1, &within, &code, NULL, 0);
    SAY("cuGraphAddNode (while in if)", code);
    kernel_node(&first, within[0], NULL, 0, count, (void *[]){&data, &inner, &limit});
    clear();
    SAY("a loop in a branch", launch(graph, 1));
    SAY("  rounds", word(0));
    struct { void (*function)(void *); void *data; } host = {(void (*)(void *))free, NULL};
    int added = CALL(cuGraphAddHostNode, (handle *, handle, handle *, size_t, void *), &node, bodies[0], NULL, 0, &host);
    SAY("a host function in a body is refused", added != 0 || launch(graph, 1) != 0);
    CALL(cuGraphDestroy, (handle), graph);
}

static void values(void) {
    handle graph = NULL, node = NULL, behind = NULL, exec = NULL;
    struct operation list[2] = {{2, 0, 0, 40, 0, 0, 0, 0}, {5, 0, 0, 0x500000006, 0, 0, 0, 0}};
    list[0].address = data, list[1].address = data + 8;
    struct operations params = {context, 2, list, 0}, got;
    CALL(cuGraphCreate, (handle *, unsigned), &graph, 0);
    SAY("cuGraphAddBatchMemOpNode(flags)", (params.flags = 1, CALL(cuGraphAddBatchMemOpNode, (handle *, handle, handle *, size_t, void *), &node, graph, NULL, 0, &params)));
    params.flags = 0, list[1].address = data + 4;
    SAY("cuGraphAddBatchMemOpNode(out of place)", CALL(cuGraphAddBatchMemOpNode, (handle *, handle, handle *, size_t, void *), &node, graph, NULL, 0, &params));
    list[1].address = data + 8;
    SAY("cuGraphAddBatchMemOpNode", CALL(cuGraphAddBatchMemOpNode, (handle *, handle, handle *, size_t, void *), &node, graph, NULL, 0, &params));
    SAY("cuGraphBatchMemOpNodeGetParams", CALL(cuGraphBatchMemOpNodeGetParams, (handle, void *), node, &got));
    SAY("  as it was made", got.context == context && got.count == 2 && got.list[0].value == 40 && got.list[1].address == data + 8 && !got.flags);
    clear();
    SAY("written", launch(graph, 1));
    SAY("  32 bits", word(0));
    SAY("  64 bits", word(2) * 100 + word(3));
    list[0].value = 41;
    SAY("cuGraphBatchMemOpNodeSetParams", CALL(cuGraphBatchMemOpNodeSetParams, (handle, void *), node, &params));
    SAY("written", launch(graph, 1));
    SAY("  the new value", word(0));
    CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &exec, graph, 0);
    list[0].value = 42;
    SAY("cuGraphExecBatchMemOpNodeSetParams", CALL(cuGraphExecBatchMemOpNodeSetParams, (handle, handle, void *), exec, node, &params));
    CALL(cuGraphLaunch, (handle, handle), exec, stream);
    CALL(cuStreamSynchronize, (handle), stream);
    SAY("  the newest value", word(0));
    /* Waits until another stream writes, then fills. */
    struct operation wait = {1, 0, 0, 77, 1, 0, 0, 0};
    wait.address = data + 16;
    struct operations waits = {context, 1, &wait, 0};
    handle other = NULL, waiting = NULL;
    CALL(cuGraphCreate, (handle *, unsigned), &other, 0);
    SAY("cuGraphAddBatchMemOpNode (wait)", CALL(cuGraphAddBatchMemOpNode, (handle *, handle, handle *, size_t, void *), &waiting, other, NULL, 0, &waits));
    struct fill fill = {data, 0, 99, 4, 1, 1};
    CALL(cuGraphAddMemsetNode, (handle *, handle, handle *, size_t, void *, handle), &behind, other, &waiting, 1, &fill, context);
    handle second = NULL, last = NULL;
    CALL(cuStreamCreate, (handle *, unsigned), &second, 1);
    CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &last, other, 0);
    SAY("cuGraphLaunch of a wait", CALL(cuGraphLaunch, (handle, handle), last, stream));
    SAY("cuStreamQuery", CALL(cuStreamQuery, (handle), stream));
    SAY("cuStreamWriteValue32", CALL(cuStreamWriteValue32_v2, (handle, ptr, unsigned, unsigned), second, data + 16, 77, 0));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  filled", word(0));
    SAY("cuStreamBeginCapture", CALL(cuStreamBeginCapture_v2, (handle, unsigned), second, 0));
    SAY("cuStreamWriteValue32 in a capture", CALL(cuStreamWriteValue32_v2, (handle, ptr, unsigned, unsigned), second, data, 123, 0));
    handle captured = NULL, nodes[2] = {NULL};
    size_t n = 2;
    unsigned type = 0;
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), second, &captured));
    CALL(cuGraphGetNodes, (handle, handle *, size_t *), captured, nodes, &n);
    CALL(cuGraphNodeGetType, (handle, unsigned *), nodes[0], &type);
    SAY("  a node of its type", n == 1 && type == 12);
    SAY("launched", launch(captured, 1));
    SAY("  written", word(0));
    CALL(cuGraphExecDestroy, (handle), exec), CALL(cuGraphExecDestroy, (handle), last);
    CALL(cuGraphDestroy, (handle), graph), CALL(cuGraphDestroy, (handle), other), CALL(cuGraphDestroy, (handle), captured);
    CALL(cuStreamDestroy_v2, (handle), second);
}

static void names(void) {
    handle graphs[2], node[3], exec = NULL;
    unsigned ids[3], locals[3];
    uint64_t tools[3];
    for (int i = 0; i < 2; i++) CALL(cuGraphCreate, (handle *, unsigned), &graphs[i], 0);
    for (int i = 0; i < 3; i++) fill_node(&node[i], graphs[i / 2], i, 1);
    for (int i = 0; i < 2; i++) SAY("cuGraphGetId", CALL(cuGraphGetId, (handle, unsigned *), graphs[i], &ids[i]));
    for (int i = 0; i < 3; i++) {
        SAY("cuGraphNodeGetLocalId", CALL(cuGraphNodeGetLocalId, (handle, unsigned *), node[i], &locals[i]));
        SAY("cuGraphNodeGetToolsId", CALL(cuGraphNodeGetToolsId, (handle, uint64_t *), node[i], &tools[i]));
    }
    CALL(cuGraphInstantiateWithFlags, (handle *, handle, uint64_t), &exec, graphs[0], 0);
    SAY("cuGraphExecGetId", CALL(cuGraphExecGetId, (handle, unsigned *), exec, &ids[2]));
    SAY("  all different", ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    SAY("  different within a graph", locals[0] != locals[1]);
    SAY("  different everywhere", tools[0] != tools[1] && tools[1] != tools[2] && tools[0] != tools[2]);
    SAY("cuGraphGetId(NULL)", CALL(cuGraphGetId, (handle, unsigned *), graphs[0], NULL));
    char path[64], text[4096], name[64];
    snprintf(path, sizeof path, "graph.%d.dot", (int)getpid());
    SAY("cuGraphDebugDotPrint", CALL(cuGraphDebugDotPrint, (handle, const char *, unsigned), graphs[0], path, 0));
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[length] = 0;
    if (file) fclose(file);
    unlink(path);
    snprintf(name, sizeof name, "graph_%u_node_%u", ids[0], locals[1]);
    SAY("  the picture has these names", strstr(text, name) != NULL);
    struct any got;
    SAY("cuGraphNodeGetParams", CALL(cuGraphNodeGetParams, (handle, void *), node[1], &got));
    SAY("  a fill", got.type == 2 && got.of.fill.dst == data + 4 && got.of.fill.value == 1 && got.of.fill.element == 4);
    SAY("cuGraphNodeGetParams(NULL)", CALL(cuGraphNodeGetParams, (handle, void *), node[1], NULL));
    handle made = NULL;
    struct any any;
    memset(&any, 0, sizeof any);
    any.type = 5;
    SAY("cuGraphAddNode_v3", CALL(cuGraphAddNode_v3, (handle *, handle, handle *, void *, size_t, void *), &made, graphs[0], node, NULL, 1, &any));
    SAY("cuGraphAddNode_v3(NULL)", CALL(cuGraphAddNode_v3, (handle *, handle, handle *, void *, size_t, void *), &made, graphs[0], node, NULL, 1, NULL));
    got.of.fill.value = 5;
    SAY("cuGraphNodeSetParams_v2", CALL(cuGraphNodeSetParams_v2, (handle, void *), node[1], &got));
    clear();
    SAY("cuGraphLaunch", launch(graphs[0], 1));
    SAY("  the new value", word(1));
    CALL(cuGraphExecDestroy, (handle), exec);
    for (int i = 0; i < 2; i++) CALL(cuGraphDestroy, (handle), graphs[i]);
}

static void places(void) {
    handle pool = NULL, device_pool = NULL;
    struct location here = {1, 0}, nowhere = {1, 99}, host = {2, 0}, none = {0, 0}, odd = {77, 0};
    SAY("cuMemGetDefaultMemPool", CALL(cuMemGetDefaultMemPool, (handle *, void *, unsigned), &pool, &here, 1));
    CALL(cuDeviceGetDefaultMemPool, (handle *, int), &device_pool, 0);
    SAY("  the device's", pool == device_pool);
    SAY("cuMemGetDefaultMemPool(no such device)", CALL(cuMemGetDefaultMemPool, (handle *, void *, unsigned), &pool, &nowhere, 1));
    SAY("cuMemGetDefaultMemPool(host)", CALL(cuMemGetDefaultMemPool, (handle *, void *, unsigned), &pool, &host, 1));
    SAY("cuMemGetDefaultMemPool(managed, nowhere)", CALL(cuMemGetDefaultMemPool, (handle *, void *, unsigned), &pool, &none, 2));
    SAY("cuMemGetDefaultMemPool(pinned, nowhere)", CALL(cuMemGetDefaultMemPool, (handle *, void *, unsigned), &pool, &none, 1));
    SAY("cuMemGetDefaultMemPool(no such kind of place)", CALL(cuMemGetDefaultMemPool, (handle *, void *, unsigned), &pool, &odd, 1));
    SAY("cuMemSetMemPool", CALL(cuMemSetMemPool, (void *, unsigned, handle), &here, 1, device_pool));
    SAY("cuMemGetMemPool", CALL(cuMemGetMemPool, (handle *, void *, unsigned), &pool, &here, 1));
    SAY("  the same", pool == device_pool);
    SAY("cuMemSetMemPool(no pool)", CALL(cuMemSetMemPool, (void *, unsigned, handle), &here, 1, (handle)0x123450) != 0);
    ptr managed = 0;
    CALL(cuMemAllocManaged, (ptr *, size_t, unsigned), &managed, 1 << 16, 1);
    ptr ranges[3] = {managed, managed + 8192, managed + 16384};
    size_t sizes[3] = {4096, 4096, 4096}, firsts[2] = {0, 2};
    struct location to[2] = {{1, 0}, {2, 0}};
    int last = 0;
    SAY("cuMemPrefetchBatchAsync", CALL(cuMemPrefetchBatchAsync, (ptr *, size_t *, size_t, void *, size_t *, size_t, uint64_t, handle), ranges, sizes, 3, to, firsts, 2, 0, stream));
    CALL(cuMemRangeGetAttribute, (void *, size_t, unsigned, ptr, size_t), &last, 4, 4, ranges[1], 4096);
    SAY("  the second range went to", last);
    CALL(cuMemRangeGetAttribute, (void *, size_t, unsigned, ptr, size_t), &last, 4, 4, ranges[2], 4096);
    SAY("  the third range went to", last);
    firsts[1] = 0;
    SAY("cuMemPrefetchBatchAsync(order)", CALL(cuMemPrefetchBatchAsync, (ptr *, size_t *, size_t, void *, size_t *, size_t, uint64_t, handle), ranges, sizes, 3, to, firsts, 2, 0, stream));
    SAY("cuMemPrefetchBatchAsync(flags)", CALL(cuMemPrefetchBatchAsync, (ptr *, size_t *, size_t, void *, size_t *, size_t, uint64_t, handle), ranges, sizes, 3, to, firsts, 1, 1, stream));
    SAY("cuMemPrefetchBatchAsync(NULL stream)", CALL(cuMemPrefetchBatchAsync, (ptr *, size_t *, size_t, void *, size_t *, size_t, uint64_t, handle), ranges, sizes, 3, to, firsts, 1, 0, NULL));
    SAY("cuMemDiscardBatchAsync", CALL(cuMemDiscardBatchAsync, (ptr *, size_t *, size_t, uint64_t, handle), ranges, sizes, 3, 0, stream));
    ranges[2] = data;
    SAY("cuMemDiscardBatchAsync(not managed)", CALL(cuMemDiscardBatchAsync, (ptr *, size_t *, size_t, uint64_t, handle), ranges, sizes, 3, 0, stream));
    SAY("cuMemDiscardAndPrefetchBatchAsync", CALL(cuMemDiscardAndPrefetchBatchAsync, (ptr *, size_t *, size_t, void *, size_t *, size_t, uint64_t, handle), ranges, sizes, 2, to, firsts, 1, 0, stream));
    SAY("cuMemGetLocationInfo(granularity)", CALL(cuMemGetLocationInfo, (ptr, size_t, size_t, size_t, void *), managed, 4096, 8192, 0, to));
    CALL(cuMemFree_v2, (ptr), managed);
    unsigned operations[2] = {0, 99}, capabilities[2] = {7, 7};
    SAY("cuDeviceGetHostAtomicCapabilities", CALL(cuDeviceGetHostAtomicCapabilities, (unsigned *, unsigned *, unsigned, int), capabilities, operations, 1, 0));
    SAY("  of a sum", capabilities[0]);
    SAY("cuDeviceGetHostAtomicCapabilities(99)", CALL(cuDeviceGetHostAtomicCapabilities, (unsigned *, unsigned *, unsigned, int), capabilities, operations, 2, 0));
    SAY("cuDeviceGetHostAtomicCapabilities(none)", CALL(cuDeviceGetHostAtomicCapabilities, (unsigned *, unsigned *, unsigned, int), capabilities, operations, 0, 0));
    SAY("cuDeviceGetP2PAtomicCapabilities", CALL(cuDeviceGetP2PAtomicCapabilities, (unsigned *, unsigned *, unsigned, int, int), capabilities, operations, 1, 0, 1));
    SAY("  of a sum", capabilities[0]);
    SAY("cuDeviceGetP2PAtomicCapabilities(itself)", CALL(cuDeviceGetP2PAtomicCapabilities, (unsigned *, unsigned *, unsigned, int, int), capabilities, operations, 1, 0, 0));
}

static int heard, heard_length;
static void hear(void *of, unsigned level, char *message, size_t length) {
    heard += of == &heard && level == 0;
    heard_length = length > 0 && strlen(message) == length;
}

static void logs(void) {
    unsigned at = 0, before;
    handle callback = NULL;
    char text[512];
    size_t size = sizeof text;
    SAY("cuLogsCurrent(flags)", CALL(cuLogsCurrent, (unsigned *, unsigned), &at, 1));
    SAY("cuLogsCurrent", CALL(cuLogsCurrent, (unsigned *, unsigned), &at, 0));
    SAY("cuLogsDumpToMemory", CALL(cuLogsDumpToMemory, (unsigned *, char *, size_t *, unsigned), &at, text, &size, 0));
    SAY("  nothing yet", size);
    SAY("cuLogsRegisterCallback(NULL)", CALL(cuLogsRegisterCallback, (void *, void *, handle *), NULL, NULL, &callback));
    SAY("cuLogsRegisterCallback", CALL(cuLogsRegisterCallback, (void (*)(void *, unsigned, char *, size_t), void *, handle *), hear, &heard, &callback));
    CALL(cuDeviceGetNvSciSyncAttributes, (void *, int, int), text, 0, 1);
    SAY("  heard", heard);
    SAY("  its length", heard_length);
    before = at, size = sizeof text;
    SAY("cuLogsDumpToMemory", CALL(cuLogsDumpToMemory, (unsigned *, char *, size_t *, unsigned), &at, text, &size, 0));
    SAY("  names the call", strstr(text, "cuDeviceGetNvSciSyncAttributes") != NULL && size == strlen(text));
    SAY("  went on", at != before);
    size = 4, at = before;
    SAY("cuLogsDumpToMemory(no room)", CALL(cuLogsDumpToMemory, (unsigned *, char *, size_t *, unsigned), &at, text, &size, 0));
    SAY("  size", size);
    SAY("cuLogsDumpToFile", CALL(cuLogsDumpToFile, (unsigned *, const char *, unsigned), NULL, "log.txt", 0));
    FILE *file = fopen("log.txt", "r");
    SAY("  a line", file && fgets(text, sizeof text, file) != NULL);
    if (file) fclose(file);
    unlink("log.txt");
    SAY("cuLogsDumpToFile(nowhere)", CALL(cuLogsDumpToFile, (unsigned *, const char *, unsigned), NULL, "/no/such/place", 0));
    SAY("cuLogsUnregisterCallback", CALL(cuLogsUnregisterCallback, (handle), callback));
    SAY("cuLogsUnregisterCallback again", CALL(cuLogsUnregisterCallback, (handle), callback));
}

static void dumped(void *of, int pid, int device) { (void)of, (void)pid, (void)device; }

static void dumps(void) {
    char name[1024] = "x", wanted[1024], machine[256] = "";
    unsigned char on = 9;
    unsigned flags = 9;
    size_t size = 0;
    handle callback = NULL;
    SAY("cuCoredumpGetAttribute(size)", CALL(cuCoredumpGetAttribute, (unsigned, void *, size_t *), 7, NULL, &size));
    SAY("  of flags", size);
    CALL(cuCoredumpGetAttribute, (unsigned, void *, size_t *), 5, NULL, &size);
    SAY("  of a name", size);
    for (unsigned attribute = 1; attribute < 5; attribute++) {
        size = 1;
        SAY("cuCoredumpGetAttribute", CALL(cuCoredumpGetAttribute, (unsigned, void *, size_t *), attribute, &on, &size));
        SAY("  default", on);
    }
    size = 4;
    SAY("cuCoredumpGetAttributeGlobal(flags)", CALL(cuCoredumpGetAttributeGlobal, (unsigned, void *, size_t *), 7, &flags, &size));
    SAY("  default", flags);
    size = sizeof name;
    SAY("cuCoredumpGetAttributeGlobal(file)", CALL(cuCoredumpGetAttributeGlobal, (unsigned, void *, size_t *), 5, name, &size));
    gethostname(machine, sizeof machine - 1);
    snprintf(wanted, sizeof wanted, "core.cuda.%s.%d", machine, (int)getpid());
    SAY("  default", !strcmp(name, wanted));
    size = 3;
    SAY("cuCoredumpGetAttributeGlobal(no room)", CALL(cuCoredumpGetAttributeGlobal, (unsigned, void *, size_t *), 5, name, &size));
    SAY("cuCoredumpGetAttributeGlobal(99)", CALL(cuCoredumpGetAttributeGlobal, (unsigned, void *, size_t *), 99, name, &size));
    size = sizeof "of all";
    SAY("cuCoredumpSetAttributeGlobal(file)", CALL(cuCoredumpSetAttributeGlobal, (unsigned, void *, size_t *), 5, "of all", &size));
    size = sizeof name;
    CALL(cuCoredumpGetAttribute, (unsigned, void *, size_t *), 5, name, &size);
    SAY("  seen in the context", !strcmp(name, "of all"));
    size = sizeof "own";
    SAY("cuCoredumpSetAttribute(file)", CALL(cuCoredumpSetAttribute, (unsigned, void *, size_t *), 5, "own", &size));
    size = sizeof name;
    CALL(cuCoredumpGetAttribute, (unsigned, void *, size_t *), 5, name, &size);
    SAY("  seen in the context", !strcmp(name, "own"));
    CALL(cuCoredumpGetAttributeGlobal, (unsigned, void *, size_t *), 5, name, &size);
    SAY("  and not elsewhere", !strcmp(name, "of all"));
    size = sizeof "pipe";
    SAY("cuCoredumpSetAttribute(pipe)", CALL(cuCoredumpSetAttribute, (unsigned, void *, size_t *), 6, "pipe", &size));
    flags = 1 << 12, size = 4;
    SAY("cuCoredumpSetAttribute(no such flag)", CALL(cuCoredumpSetAttribute, (unsigned, void *, size_t *), 7, &flags, &size));
    flags = 0x12f;
    SAY("cuCoredumpSetAttribute(flags)", CALL(cuCoredumpSetAttribute, (unsigned, void *, size_t *), 7, &flags, &size));
    on = 0, size = 1;
    SAY("cuCoredumpSetAttribute(off)", CALL(cuCoredumpSetAttribute, (unsigned, void *, size_t *), 1, &on, &size));
    SAY("cuCoredumpRegisterStartCallback(NULL)", CALL(cuCoredumpRegisterStartCallback, (void *, void *, handle *), NULL, NULL, &callback));
    SAY("cuCoredumpRegisterStartCallback", CALL(cuCoredumpRegisterStartCallback, (void (*)(void *, int, int), void *, handle *), dumped, NULL, &callback));
    SAY("cuCoredumpDeregisterCompleteCallback of it", CALL(cuCoredumpDeregisterCompleteCallback, (handle), callback));
    SAY("cuCoredumpDeregisterStartCallback", CALL(cuCoredumpDeregisterStartCallback, (handle), callback));
    SAY("cuCoredumpDeregisterStartCallback again", CALL(cuCoredumpDeregisterStartCallback, (handle), callback));
}

struct sm { unsigned type, inside[23], count, least, alignment, flags, locality, rest[5]; void *next; };
struct group { unsigned count, together, preferred, flags, locality, reserved[11]; };

static void greens(void) {
    struct sm whole, parts[8], rest, again;
    unsigned n = 0;
    handle description = NULL, green = NULL, lane = NULL, inner = NULL, primary = NULL, current = NULL, of = NULL, event = NULL, other = NULL;
    uint64_t id = 0, lane_id = 0;
    SAY("cuDeviceGetDevResource(kind)", CALL(cuDeviceGetDevResource, (int, void *, unsigned), 0, &whole, 99));
    SAY("cuDeviceGetDevResource(device)", CALL(cuDeviceGetDevResource, (int, void *, unsigned), 99, &whole, 1));
    SAY("cuDeviceGetDevResource", CALL(cuDeviceGetDevResource, (int, void *, unsigned), 0, &whole, 1));
    SAY("  multiprocessors", whole.type == 1 ? whole.count : 0);
    SAY("  least part", whole.least);
    SAY("  alignment", whole.alignment);
    int processors = 0;
    CALL(cuDeviceGetAttribute, (int *, int, int), &processors, 16, 0);
    SAY("  as the attribute says", processors == (int)whole.count);
    SAY("cuDevSmResourceSplitByCount(how many)", CALL(cuDevSmResourceSplitByCount, (void *, unsigned *, void *, void *, unsigned, unsigned), NULL, &n, &whole, NULL, 0, 5));
    SAY("  parts", n);
    SAY("cuDevSmResourceSplitByCount(too many)", CALL(cuDevSmResourceSplitByCount, (void *, unsigned *, void *, void *, unsigned, unsigned), NULL, &n, &whole, NULL, 0, 999));
    SAY("cuDevSmResourceSplitByCount(flags)", CALL(cuDevSmResourceSplitByCount, (void *, unsigned *, void *, void *, unsigned, unsigned), NULL, &n, &whole, NULL, 8, 4));
    n = 2;
    SAY("cuDevSmResourceSplitByCount", CALL(cuDevSmResourceSplitByCount, (void *, unsigned *, void *, void *, unsigned, unsigned), parts, &n, &whole, &rest, 0, 5));
    SAY("  parts", n);
    SAY("  sizes", parts[0].count * 100 + parts[1].count);
    SAY("  left", rest.type == 1 ? rest.count : 0);
    unsigned more = 1;
    SAY("cuDevSmResourceSplitByCount of a part", CALL(cuDevSmResourceSplitByCount, (void *, unsigned *, void *, void *, unsigned, unsigned), &again, &more, &parts[0], NULL, 0, 2));
    struct group wanted[2] = {{4, 2, 0, 0, 0, {0}}, {0, 2, 0, 1, 0, {0}}};
    SAY("cuDevSmResourceSplit", CALL(cuDevSmResourceSplit, (void *, unsigned, void *, void *, unsigned, void *), parts + 2, 2, &whole, &rest, 0, wanted));
    SAY("  found", wanted[1].count);
    SAY("  nothing left", rest.type);
    wanted[0].count = 3;
    SAY("cuDevSmResourceSplit(odd)", CALL(cuDevSmResourceSplit, (void *, unsigned, void *, void *, unsigned, void *), parts + 2, 1, &whole, &rest, 0, wanted));
    SAY("cuDevResourceGenerateDesc(none)", CALL(cuDevResourceGenerateDesc, (handle *, void *, unsigned), &description, parts, 0));
    SAY("cuDevResourceGenerateDesc(nothing)", CALL(cuDevResourceGenerateDesc, (handle *, void *, unsigned), &description, &rest, 1));
    again = parts[1], parts[1] = whole;
    SAY("cuDevResourceGenerateDesc(of two splits)", CALL(cuDevResourceGenerateDesc, (handle *, void *, unsigned), &description, parts, 2));
    parts[1] = again;
    SAY("cuDevResourceGenerateDesc", CALL(cuDevResourceGenerateDesc, (handle *, void *, unsigned), &description, parts, 2));
    SAY("cuGreenCtxCreate(flags)", CALL(cuGreenCtxCreate, (handle *, handle, int, unsigned), &green, description, 0, 2));
    SAY("cuGreenCtxCreate(no description)", CALL(cuGreenCtxCreate, (handle *, handle, int, unsigned), &green, (handle)0x123450, 0, 1));
    SAY("cuGreenCtxCreate(other device)", CALL(cuGreenCtxCreate, (handle *, handle, int, unsigned), &green, description, 1, 1));
    SAY("cuGreenCtxCreate", CALL(cuGreenCtxCreate, (handle *, handle, int, unsigned), &green, description, 0, 1));
    unsigned flags = 0;
    int active = 0;
    CALL(cuDevicePrimaryCtxGetState, (int, unsigned *, int *), 0, &flags, &active);
    SAY("  the primary context is active", active);
    SAY("cuGreenCtxGetDevResource", CALL(cuGreenCtxGetDevResource, (handle, void *, unsigned), green, &again, 1));
    SAY("  both parts", again.count);
    SAY("cuGreenCtxGetId", CALL(cuGreenCtxGetId, (handle, uint64_t *), green, &id));
    SAY("cuGreenCtxGetId(no context)", CALL(cuGreenCtxGetId, (handle, uint64_t *), (handle)0x123450, &id));
    SAY("cuCtxFromGreenCtx", CALL(cuCtxFromGreenCtx, (handle *, handle), &inner, green));
    SAY("cuCtxDestroy of it", CALL(cuCtxDestroy_v2, (handle), inner));
    CALL(cuDevicePrimaryCtxRetain, (handle *, int), &primary, 0);
    SAY("cuCtxPushCurrent", CALL(cuCtxPushCurrent_v2, (handle), inner));
    CALL(cuCtxGetCurrent, (handle *), &current);
    SAY("  is current", current == inner && inner != primary);
    SAY("cuGreenCtxGetId(NULL)", CALL(cuGreenCtxGetId, (handle, uint64_t *), NULL, &lane_id));
    SAY("  the same", id == lane_id);
    SAY("cuCtxGetDevResource", CALL(cuCtxGetDevResource, (handle, void *, unsigned), inner, &again, 1));
    SAY("  both parts", again.count);
    SAY("cuGreenCtxStreamCreate(blocking)", CALL(cuGreenCtxStreamCreate, (handle *, handle, unsigned, int), &lane, green, 0, 0));
    SAY("cuGreenCtxStreamCreate", CALL(cuGreenCtxStreamCreate, (handle *, handle, unsigned, int), &lane, green, 1, 0));
    SAY("cuStreamGetGreenCtx", CALL(cuStreamGetGreenCtx, (handle, handle *), lane, &of));
    SAY("  of this one", of == green);
    SAY("cuStreamGetCtx_v2", CALL(cuStreamGetCtx_v2, (handle, handle *, handle *), lane, &current, &of));
    SAY("  of both", current == inner && of == green);
    SAY("cuStreamGetDevResource", CALL(cuStreamGetDevResource, (handle, void *, unsigned), lane, &again, 1));
    SAY("  both parts", again.count);
    /* Memory, code and events are the primary context's. */
    ptr memory = 0, behind;
    handle code = NULL, kernel = NULL;
    unsigned rounds = 1000, values[2] = {0, 0};
    CALL(cuMemAlloc_v2, (ptr *, size_t), &memory, 64);
    CALL(cuMemsetD8_v2, (ptr, unsigned char, size_t), memory, 0, 64);
    CALL(cuCtxSynchronize, (void)); /* the lane waits for no other stream */
    SAY("cuModuleLoadData", CALL(cuModuleLoadData, (handle *, const void *), &code, PTX));
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &kernel, code, "spin");
    behind = memory + 4; /* nothing orders the two kernels, so each has its own word */
    SAY("cuEventCreate", CALL(cuEventCreate, (handle *, unsigned), &event, 2));
    SAY("cuLaunchKernel in the lane", CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), kernel, 1, 1, 1, 1, 1, 1, 0, lane, ((void *[]){&memory, &rounds}), NULL));
    SAY("cuLaunchKernel in the default stream", CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), kernel, 1, 1, 1, 1, 1, 1, 0, NULL, ((void *[]){&behind, &rounds}), NULL));
    SAY("cuGreenCtxRecordEvent", CALL(cuGreenCtxRecordEvent, (handle, handle), green, event));
    SAY("cuGreenCtxWaitEvent", CALL(cuGreenCtxWaitEvent, (handle, handle), green, event));
    SAY("cuEventSynchronize", CALL(cuEventSynchronize, (handle), event));
    CALL(cuCtxPopCurrent_v2, (handle *), &current);
    CALL(cuCtxPushCurrent_v2, (handle), primary);
    SAY("cuCtxSynchronize of the primary one", CALL(cuCtxSynchronize, (void)));
    SAY("cuMemcpyDtoH there", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), values, memory, 8));
    SAY("  both have run", values[0] + values[1]);
    SAY("cuCtxRecordEvent of the primary one", CALL(cuCtxRecordEvent, (handle, handle), primary, event));
    CALL(cuCtxPopCurrent_v2, (handle *), &current);
    CALL(cuEventCreate, (handle *, unsigned), &other, 2);
    SAY("cuGreenCtxRecordEvent(of another context)", CALL(cuGreenCtxRecordEvent, (handle, handle), green, other));
    SAY("cuGreenCtxDestroy", CALL(cuGreenCtxDestroy, (handle), green));
    SAY("cuGreenCtxDestroy again", CALL(cuGreenCtxDestroy, (handle), green));
    SAY("cuStreamSynchronize of its stream", CALL(cuStreamSynchronize, (handle), lane));
    SAY("cuStreamDestroy", CALL(cuStreamDestroy_v2, (handle), lane));
    SAY("cuCtxPushCurrent", CALL(cuCtxPushCurrent_v2, (handle), inner));
    SAY("cuMemFree", (CALL(cuCtxPushCurrent_v2, (handle), primary), CALL(cuMemFree_v2, (ptr), memory)));
    CALL(cuCtxPopCurrent_v2, (handle *), &current);
    SAY("cuDevicePrimaryCtxRelease", CALL(cuDevicePrimaryCtxRelease_v2, (int), 0));
    CALL(cuDevicePrimaryCtxGetState, (int, unsigned *, int *), 0, &flags, &active);
    SAY("  the primary context is active", active);
}

static void captured(void) {
    handle graph = NULL, second = NULL, nodes[8];
    ptr memory = 0;
    unsigned type = 99, value = 0;
    size_t n = 8;
    CALL(cuStreamCreate, (handle *, unsigned), &second, 1);
    SAY("cuStreamBeginCapture", CALL(cuStreamBeginCapture_v2, (handle, unsigned), second, 0));
    SAY("cuMemAllocAsync in a capture", CALL(cuMemAllocAsync, (ptr *, size_t, handle), &memory, 4096, second));
    SAY("cuMemsetD32Async", CALL(cuMemsetD32Async, (ptr, unsigned, size_t, handle), memory, 7, 16, second));
    SAY("cuMemcpyDtoDAsync", CALL(cuMemcpyDtoDAsync_v2, (ptr, ptr, size_t, handle), data, memory, 4, second));
    SAY("cuMemFreeAsync in a capture", CALL(cuMemFreeAsync, (ptr, handle), memory, second));
    SAY("cuMemFreeAsync of other memory", CALL(cuMemFreeAsync, (ptr, handle), data, second));
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), second, &graph));
    SAY("cuGraphGetNodes", CALL(cuGraphGetNodes, (handle, handle *, size_t *), graph, nodes, &n));
    SAY("  nodes", n);
    CALL(cuGraphNodeGetType, (handle, unsigned *), nodes[0], &type);
    SAY("  the first one allocates", type);
    clear();
    SAY("launched", launch(graph, 2));
    value = word(0);
    SAY("  went through its memory", value);
    CALL(cuGraphDestroy, (handle), graph);
    /* Memory that outlives its graph's launch is the program's to free, each time. */
    handle exec = NULL;
    SAY("cuStreamBeginCapture", CALL(cuStreamBeginCapture_v2, (handle, unsigned), second, 0));
    SAY("cuMemAllocAsync in a capture", CALL(cuMemAllocAsync, (ptr *, size_t, handle), &memory, 4096, second));
    CALL(cuMemsetD32Async, (ptr, unsigned, size_t, handle), memory, 8, 16, second);
    SAY("cuStreamEndCapture", CALL(cuStreamEndCapture, (handle, handle *), second, &graph));
    SAY("cuGraphInstantiate", CALL(cuGraphInstantiateWithFlags, (handle *, handle, unsigned long long), &exec, graph, 0));
    CALL(cuGraphDestroy, (handle), graph);
    for (int i = 0; i < 2; i++) {
        SAY("cuGraphLaunch", CALL(cuGraphLaunch, (handle, handle), exec, second));
        CALL(cuStreamSynchronize, (handle), second);
        value = 0;
        SAY("cuMemcpyDtoH", CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), &value, memory, 4));
        SAY("  its memory is there", value);
        SAY("cuMemFree", CALL(cuMemFree_v2, (ptr), memory));
    }
    CALL(cuGraphExecDestroy, (handle), exec);
    CALL(cuStreamDestroy_v2, (handle), second);
}

static void shapes(void) {
    static const char *code =
        ".version 7.0\n.target sm_70\n.address_size 64\n"
        ".visible .entry wants() .reqntid 8, 4, 1 { ret; }\n"
        ".visible .entry most() .maxntid 64, 1, 1 { ret; }\n";
    handle loaded = NULL, wants = NULL, most = NULL;
    CALL(cuModuleLoadData, (handle *, const void *), &loaded, code);
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &wants, loaded, "wants");
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &most, loaded, "most");
    const unsigned blocks[][3] = {{8, 4, 1}, {8, 2, 1}, {4, 8, 1}, {32, 1, 1}, {8, 4, 2}, {8, 4, 1}};
    for (unsigned i = 0; i < 6; i++) SAY("cuLaunchKernel of a required shape", CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), wants, 1, 1, 1, blocks[i][0], blocks[i][1], blocks[i][2], 0, stream, NULL, NULL));
    for (unsigned i = 0; i < 6; i++) SAY("cuLaunchKernel of at most 64 threads", CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), most, 1, 1, 1, blocks[i][0], blocks[i][1], blocks[i][2], 0, stream, NULL, NULL));
    SAY("cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    CALL(cuModuleUnload, (handle), loaded);
}

static int inside = -1, inside_callback = -1;
static void asks(void *of) { inside = CALL(cuStreamQuery, (handle), of); }
static void asks_too(handle of, int status, void *data_of) { inside_callback = CALL(cuMemFree_v2, (ptr), 0); (void)of, (void)status, (void)data_of; }

static void functions(void) {
    SAY("cuLaunchHostFunc_v2(mode)", CALL(cuLaunchHostFunc_v2, (handle, void (*)(void *), void *, unsigned), stream, asks, stream, 2));
    SAY("cuLaunchHostFunc_v2", CALL(cuLaunchHostFunc_v2, (handle, void (*)(void *), void *, unsigned), stream, asks, stream, 1));
    SAY("cuStreamAddCallback", CALL(cuStreamAddCallback, (handle, void (*)(handle, int, void *), void *, unsigned), stream, asks_too, NULL, 0));
    SAY("cuStreamSynchronize", CALL(cuStreamSynchronize, (handle), stream));
    SAY("  a call in a host function", inside);
    SAY("  a call in a callback", inside_callback);
}

int main(void) {
    load();
    SAY("cuCtxRecordEvent before cuInit", CALL(cuCtxRecordEvent, (handle, handle), NULL, NULL));
    CALL(cuInit, (unsigned), 0);
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    SAY("cuModuleLoadData", CALL(cuModuleLoadData, (handle *, const void *), &module, PTX));
    count = function("count"), set = function("set"), spin = function("spin");
    CALL(cuMemAlloc_v2, (ptr *, size_t), &data, 256);
    events();
    conditionals();
    values();
    names();
    places();
    logs();
    dumps();
    functions();
    greens();
    captured();
    shapes();
    return 0;
}
