/* Graphs by the runtime API: captured, built, changed; kernel nodes name host functions. */
#include "runtime.h"
#include <semaphore.h>

enum { N = 256 };
static handle stream, graph, executable;
static int *x, *y, *host;

static int sum(void) {
    int total = 0;
    copy(host, y, 4 * N, TO_HOST);
    for (int i = 0; i < N; i++) total += host[i];
    return total;
}

static int run(int times) {
    int error = 0;
    while (times-- && !error) error = CALL(cudaGraphLaunch, (handle, handle), executable, stream);
    return error ? error : synchronize(stream);
}

static int called;
static void call(void *data) { called += *(int *)data; }

static void captured(void) {
    int status = 9;
    size_t count = 0;
    handle nodes[8];
    unsigned long long id = 0;
    FACT("cudaStreamBeginCapture(legacy)", CALL(cudaStreamBeginCapture, (handle, int), NULL, 0));
    FACT("cudaStreamBeginCapture", CALL(cudaStreamBeginCapture, (handle, int), stream, 0));
    FACT("cudaStreamIsCapturing", CALL(cudaStreamIsCapturing, (handle, int *), stream, &status));
    FACT("  status", status);
    FACT("cudaMemsetAsync", CALL(cudaMemsetAsync, (void *, int, size_t, handle), y, 0, 4 * N, stream));
    FACT("cudaLaunchKernel", scale(stream, x, y, 2, N));
    FACT("cudaMalloc in a capture", CALL(cudaMalloc, (void **, size_t), (void **)&id, 4));
    FACT("cudaStreamEndCapture", CALL(cudaStreamEndCapture, (handle, handle *), stream, &graph));
    last_error();
    FACT("cudaStreamBeginCapture(relaxed)", CALL(cudaStreamBeginCapture, (handle, int), stream, 2));
    CALL(cudaMemsetAsync, (void *, int, size_t, handle), y, 0, 4 * N, stream);
    FACT("cudaLaunchKernel", scale(stream, x, y, 2, N));
    FACT("cudaStreamEndCapture", CALL(cudaStreamEndCapture, (handle, handle *), stream, &graph));
    FACT("cudaGraphGetNodes", CALL(cudaGraphGetNodes, (handle, handle *, size_t *), graph, NULL, &count));
    FACT("  nodes", count);
    FACT("cudaGraphInstantiateWithFlags", CALL(cudaGraphInstantiateWithFlags, (handle *, handle, unsigned long long), &executable, graph, 0));
    FACT("cudaGraphLaunch", run(3));
    FACT("  sum", sum());

    /* The captured kernel is the host's function. */
    CALL(cudaGraphGetNodes, (handle, handle *, size_t *), graph, nodes, &count);
    for (size_t i = 0; i < count; i++) {
        int type = 9;
        struct kernel_node of = {0};
        CALL(cudaGraphNodeGetType, (handle, int *), nodes[i], &type);
        if (type != 0) continue;
        FACT("cudaGraphKernelNodeGetParams", CALL(cudaGraphKernelNodeGetParams, (handle, void *), nodes[i], &of));
        FACT("  function, block, first value", (of.function == &scale_stub) * 1000 + of.block.x + *(int *)of.params[2]);
        int a = 10, n = N;
        void *args[] = {&x, &y, &a, &n};
        of.params = args;
        FACT("cudaGraphExecKernelNodeSetParams", CALL(cudaGraphExecKernelNodeSetParams, (handle, handle, const void *), executable, nodes[i], &of));
        FACT("cudaGraphLaunch", run(1));
        FACT("  sum", sum());
        of.function = &stranger;
        FACT("cudaGraphExecKernelNodeSetParams(stranger)", CALL(cudaGraphExecKernelNodeSetParams, (handle, handle, const void *), executable, nodes[i], &of));
    }
    last_error();
    FACT("cudaGraphExecDestroy", CALL(cudaGraphExecDestroy, (handle), executable));
    FACT("cudaGraphDestroy", CALL(cudaGraphDestroy, (handle), graph));
}

static void built(void) {
    handle fill, in, kernel, out, host_node, symbol;
    int a = 3, n = N, seven = 7, offset = 100, five = 5;
    void *args[] = {&x, &y, &a, &n};
    struct memset_node memset_of = {y, 0, 1, 4, N, 1};
    struct kernel_node kernel_of = {&scale_stub, {4, 1, 1}, {64, 1, 1}, 0, args, NULL};
    struct host_node host_of = {call, &seven};
    int *source = malloc(4 * N), *target = malloc(4 * N);
    for (int i = 0; i < N; i++) source[i] = i, target[i] = 0;
    FACT("cudaGraphCreate", CALL(cudaGraphCreate, (handle *, unsigned), &graph, 0));
    FACT("cudaGraphAddMemsetNode", CALL(cudaGraphAddMemsetNode, (handle *, handle, const handle *, size_t, const void *), &fill, graph, NULL, 0, &memset_of));
    FACT("cudaGraphAddMemcpyNode1D", CALL(cudaGraphAddMemcpyNode1D, (handle *, handle, const handle *, size_t, void *, const void *, size_t, int), &in, graph, NULL, 0, x, source, 4 * N, TO_DEVICE));
    FACT("cudaGraphAddMemcpyNodeToSymbol", CALL(cudaGraphAddMemcpyNodeToSymbol, (handle *, handle, const handle *, size_t, const void *, const void *, size_t, size_t, int), &symbol, graph, NULL, 0, &offset_var, &offset, 4, 0, TO_DEVICE));
    handle before[] = {fill, in, symbol};
    FACT("cudaGraphAddKernelNode", CALL(cudaGraphAddKernelNode, (handle *, handle, const handle *, size_t, const void *), &kernel, graph, before, 3, &kernel_of));
    FACT("cudaGraphAddMemcpyNode1D", CALL(cudaGraphAddMemcpyNode1D, (handle *, handle, const handle *, size_t, void *, const void *, size_t, int), &out, graph, &kernel, 1, target, y, 4 * N, TO_HOST));
    FACT("cudaGraphAddHostNode", CALL(cudaGraphAddHostNode, (handle *, handle, const handle *, size_t, const void *), &host_node, graph, &out, 1, &host_of));
    FACT("cudaGraphInstantiate", CALL(cudaGraphInstantiate, (handle *, handle, unsigned long long), &executable, graph, 0));
    FACT("cudaGraphLaunch", run(1));
    FACT("  a value", target[10]);
    FACT("  called", called);
    struct copy3d of = {0};
    FACT("cudaGraphMemcpyNodeGetParams", CALL(cudaGraphMemcpyNodeGetParams, (handle, void *), out, &of));
    FACT("  kind, bytes, target", of.kind * 100000 + of.size.width * 10 + (of.dst.ptr == target));
    FACT("cudaGraphExecMemcpyNodeSetParams1D", CALL(cudaGraphExecMemcpyNodeSetParams1D, (handle, handle, void *, const void *, size_t, int), executable, out, target + 1, y, 4 * N - 4, TO_HOST));
    FACT("cudaGraphLaunch", run(1));
    FACT("  a value", target[11]);
    struct kernel_node read = {0};
    FACT("cudaGraphKernelNodeGetParams", CALL(cudaGraphKernelNodeGetParams, (handle, void *), kernel, &read));
    FACT("  function", read.function == &scale_stub);
    handle copied = NULL;
    FACT("cudaGraphClone", CALL(cudaGraphClone, (handle *, handle), &copied, graph));
    FACT("cudaGraphDestroy", CALL(cudaGraphDestroy, (handle), copied));
    CALL(cudaGraphExecDestroy, (handle), executable), CALL(cudaGraphDestroy, (handle), graph);
    CALL(cudaMemcpyToSymbol, (const void *, const void *, size_t, size_t, int), &offset_var, &five, 4, 0, TO_DEVICE);
    free(source), free(target);
}

/* cudaGraphNodeParams: kind, words that are 0, and what each kind has. */
struct any_node { int kind, zero[3]; union { struct kernel_node kernel; struct { int flags, zero[3]; struct copy3d copy; } memcpy; struct memset_node memset; long long words[29]; } of; long long zero2; };

static void any(int version) {
    struct any_node fill = {.kind = 2, .of.memset = {y, 0, 0, 4, N, 1}};
    int a = 1, n = N;
    void *args[] = {&x, &y, &a, &n};
    struct any_node kernel = {.kind = 0, .of.kernel = {&scale_stub, {4, 1, 1}, {64, 1, 1}, 0, args, NULL}};
    struct any_node out = {.kind = 1};
    out.of.memcpy.copy = (struct copy3d){.src = {y, 4 * N, 4 * N, 1}, .dst = {host, 4 * N, 4 * N, 1}, .size = {4 * N, 1, 1}, .kind = TO_HOST};
    handle first, second, third;
    typedef int (*add_node)(handle *, handle, const handle *, const void *, size_t, void *);
    add_node add = find(version == 12 ? "cudaGraphAddNode_v2" : "cudaGraphAddNode");
    CALL(cudaGraphCreate, (handle *, unsigned), &graph, 0);
    FACT("cudaGraphAddNode(memset)", add(&first, graph, NULL, NULL, 0, &fill));
    FACT("cudaGraphAddNode(kernel)", add(&second, graph, &first, NULL, 1, &kernel));
    FACT("cudaGraphAddNode(memcpy)", add(&third, graph, &second, NULL, 1, &out));
    FACT("cudaGraphInstantiate", CALL(cudaGraphInstantiate, (handle *, handle, unsigned long long), &executable, graph, 0));
    memset(host, 0, 4 * N);
    FACT("cudaGraphLaunch", run(1));
    FACT("  a value", host[20]);
    a = 4;
    FACT("cudaGraphExecNodeSetParams", CALL(cudaGraphExecNodeSetParams, (handle, handle, void *), executable, second, &kernel));
    FACT("cudaGraphLaunch", run(1));
    FACT("  a value", host[20]);
    size_t edges = 0;
    if (version == 12)
        FACT("cudaGraphGetEdges", CALL(cudaGraphGetEdges, (handle, handle *, handle *, size_t *), graph, NULL, NULL, &edges));
    else
        FACT("cudaGraphGetEdges", CALL(cudaGraphGetEdges, (handle, handle *, handle *, void *, size_t *), graph, NULL, NULL, NULL, &edges));
    FACT("  edges", edges);
    CALL(cudaGraphExecDestroy, (handle), executable), CALL(cudaGraphDestroy, (handle), graph);
}

static int objects;
static sem_t destroyed;
static void gone(void *data) {
    objects += *(int *)data;
    sem_post(&destroyed);
}

/* The versions' headers name source and destination in opposite order. */
static void attributes(int version) {
    handle first = NULL, second = NULL;
    long long value[8] = {3}, found[2][8] = {{0}};
    int a = 1, n = N;
    void *args[] = {&x, &y, &a, &n};
    struct kernel_node of = {&scale_stub, {1, 1, 1}, {N, 1, 1}, 0, args, NULL};
    CALL(cudaGraphCreate, (handle *, unsigned), &graph, 0);
    CALL(cudaGraphAddKernelNode, (handle *, handle, handle *, size_t, void *), &first, graph, NULL, 0, &of);
    CALL(cudaGraphAddKernelNode, (handle *, handle, handle *, size_t, void *), &second, graph, NULL, 0, &of);
    FACT("cudaGraphKernelNodeSetAttribute(priority)", CALL(cudaGraphKernelNodeSetAttribute, (handle, int, void *), first, 8, value));
    handle source = first, target = second;
    if (version == 12)
        FACT("cudaGraphKernelNodeCopyAttributes", CALL(cudaGraphKernelNodeCopyAttributes, (handle, handle), source, target));
    else
        FACT("cudaGraphKernelNodeCopyAttributes", CALL(cudaGraphKernelNodeCopyAttributes, (handle, handle), target, source));
    CALL(cudaGraphKernelNodeGetAttribute, (handle, int, void *), first, 8, found[0]);
    CALL(cudaGraphKernelNodeGetAttribute, (handle, int, void *), second, 8, found[1]);
    FACT("  both have it", (int)found[0][0] * 10 + (int)found[1][0]);
    CALL(cudaGraphDestroy, (handle), graph);
}

static void updated(void) {
    handle other = NULL, object = NULL;
    struct { int result; handle node, from; } info = {9, NULL, NULL};
    int five = 5;
    for (int a = 2; a <= 3; a++) {
        FACT("cudaStreamBeginCapture", CALL(cudaStreamBeginCapture, (handle, int), stream, 1));
        CALL(cudaMemsetAsync, (void *, int, size_t, handle), y, 0, 4 * N, stream);
        scale(stream, x, y, a, N);
        FACT("cudaStreamEndCapture", CALL(cudaStreamEndCapture, (handle, handle *), stream, a == 2 ? &graph : &other));
    }
    FACT("cudaGraphInstantiate", CALL(cudaGraphInstantiate, (handle *, handle, unsigned long long), &executable, graph, 0));
    FACT("cudaGraphExecUpdate", CALL(cudaGraphExecUpdate, (handle, handle, void *), executable, other, &info));
    FACT("  result", info.result);
    FACT("cudaGraphUpload", CALL(cudaGraphUpload, (handle, handle), executable, stream));
    FACT("cudaGraphLaunch", run(1));
    FACT("  sum", sum());
    sem_init(&destroyed, 0, 0);
    FACT("cudaUserObjectCreate", CALL(cudaUserObjectCreate, (handle *, void *, void (*)(void *), unsigned, unsigned), &object, &five, gone, 1, 1));
    FACT("cudaGraphRetainUserObject", CALL(cudaGraphRetainUserObject, (handle, handle, unsigned, unsigned), other, object, 1, 1));
    CALL(cudaGraphExecDestroy, (handle), executable), CALL(cudaGraphDestroy, (handle), graph), CALL(cudaGraphDestroy, (handle), other);
    FACT("cudaDeviceSynchronize", CALL(cudaDeviceSynchronize, (void)));
    sem_wait(&destroyed);
    FACT("  destroyed once", objects == 5);
}

int main(int count, char **words) {
    int version = count > 1 ? atoi(words[1]) : 13;
    char name[32];
    snprintf(name, sizeof name, "libcudart.so.%d", version);
    load(name);
    CALL(cudaStreamCreate, (handle *), &stream);
    x = device_memory(4 * N), y = device_memory(4 * N);
    CALL(cudaMallocHost, (void **, size_t), (void **)&host, 4 * N);
    for (int i = 0; i < N; i++) host[i] = i;
    copy(x, host, 4 * N, TO_DEVICE);
    captured();
    built();
    any(version);
    attributes(version);
    FACT("cudaDeviceSynchronize", CALL(cudaDeviceSynchronize, (void)));
    updated();
    FACT("cudaGetLastError", last_error());
    return 0;
}
