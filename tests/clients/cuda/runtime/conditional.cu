// Graphs whose bodies run as device code says, by the device runtime's function.
#include "check.h"

__global__ void choose(cudaGraphConditionalHandle handle, const int *value) { cudaGraphSetConditional(handle, *value); }
__global__ void again(cudaGraphConditionalHandle handle, int *left) { cudaGraphSetConditional(handle, --*left > 0); }
__global__ void add(int *sum, int value) { *sum += value; }

static int *device;

static cudaGraphNode_t conditional(cudaGraph_t graph, cudaGraphNode_t after, cudaGraphConditionalHandle handle,
                                   cudaGraphConditionalNodeType type, unsigned size, cudaGraph_t *bodies) {
    cudaGraphNodeParams params = {};
    params.type = cudaGraphNodeTypeConditional;
    params.conditional.handle = handle;
    params.conditional.type = type;
    params.conditional.size = size;
    cudaGraphNode_t node;
    OK(cudaGraphAddNode(&node, graph, &after, nullptr, after ? 1 : 0, &params));
    for (unsigned i = 0; i < size; i++) bodies[i] = params.conditional.phGraph_out[i];
    return node;
}

static cudaGraphNode_t kernel(cudaGraph_t graph, const void *function, void **args) {
    cudaKernelNodeParams params = {};
    params.func = const_cast<void *>(function);
    params.gridDim = params.blockDim = dim3(1, 1, 1);
    params.kernelParams = args;
    cudaGraphNode_t node;
    OK(cudaGraphAddKernelNode(&node, graph, nullptr, 0, &params));
    return node;
}

// What the sum is after a launch with this word.
static int run(cudaGraphExec_t executable, int word) {
    int words[2] = {word, 0};
    OK(cudaMemcpy(device, words, sizeof words, cudaMemcpyHostToDevice));
    OK(cudaGraphLaunch(executable, 0));
    OK(cudaMemcpy(words, device, sizeof words, cudaMemcpyDeviceToHost));
    return words[1];
}

static cudaGraphExec_t instantiated(cudaGraph_t graph) {
    cudaGraphExec_t executable;
    OK(cudaGraphInstantiate(&executable, graph, 0));
    return executable;
}

// IF with an ELSE, WHILE, SWITCH: built by hand.
static void built() {
    for (cudaGraphConditionalNodeType type : {cudaGraphCondTypeIf, cudaGraphCondTypeWhile, cudaGraphCondTypeSwitch}) {
        const unsigned size = type == cudaGraphCondTypeWhile ? 1 : type == cudaGraphCondTypeIf ? 2 : 3;
        cudaGraph_t graph, bodies[3];
        cudaGraphConditionalHandle handle;
        OK(cudaGraphCreate(&graph, 0));
        const bool repeats = type == cudaGraphCondTypeWhile;
        OK(cudaGraphConditionalHandleCreate(&handle, graph, repeats, cudaGraphCondAssignDefault));
        void *words = device, *sum = device + 1;
        void *choosing[] = {&handle, &words};
        cudaGraphNode_t first = repeats ? nullptr : kernel(graph, (const void *)choose, choosing);
        conditional(graph, first, handle, type, size, bodies);
        for (unsigned i = 0; i < size; i++) {
            int value = i ? 10 * i : 1;
            void *adding[] = {&sum, &value};
            cudaGraphNode_t node = kernel(bodies[i], (const void *)add, adding);
            if (!repeats) continue;
            cudaGraphNode_t next = kernel(bodies[i], (const void *)again, choosing);
            OK(cudaGraphAddDependencies(bodies[i], &node, &next, nullptr, 1));
        }
        cudaGraphExec_t executable = instantiated(graph);
        switch (type) {
            case cudaGraphCondTypeIf:
                IS(run(executable, 1), 1);
                IS(run(executable, 0), 10);
                break;
            case cudaGraphCondTypeWhile:
                IS(run(executable, 10), 10);
                break;
            default:
                IS(run(executable, 0), 1);
                IS(run(executable, 2), 20);
                IS(run(executable, 9), 0);
        }
        OK(cudaGraphExecDestroy(executable));
        OK(cudaGraphDestroy(graph));
    }
}

// A body that is captured, and a body within a body.
static void captured() {
    cudaStream_t stream;
    cudaGraph_t graph, body, inner;
    cudaGraphConditionalHandle handle, within;
    OK(cudaStreamCreate(&stream));
    OK(cudaGraphCreate(&graph, 0));
    OK(cudaGraphConditionalHandleCreate(&handle, graph, 1, cudaGraphCondAssignDefault));
    OK(cudaGraphConditionalHandleCreate(&within, graph, 0, 0));
    conditional(graph, nullptr, handle, cudaGraphCondTypeWhile, 1, &body);
    OK(cudaStreamBeginCaptureToGraph(stream, body, nullptr, nullptr, 0, cudaStreamCaptureModeRelaxed));
    again<<<1, 1, 0, stream>>>(handle, device);
    choose<<<1, 1, 0, stream>>>(within, device);
    const cudaGraphNode_t *last;
    size_t count;
    cudaStreamCaptureStatus status;
    OK(cudaStreamGetCaptureInfo(stream, &status, nullptr, nullptr, &last, nullptr, &count));
    IS(count, 1);
    conditional(body, *last, within, cudaGraphCondTypeIf, 1, &inner);
    OK(cudaStreamEndCapture(stream, &body));
    int three = 3;
    void *sum = device + 1, *adding[] = {&sum, &three};
    kernel(inner, (const void *)add, adding);
    cudaGraphExec_t executable = instantiated(graph);
    IS(run(executable, 5), 12);
    OK(cudaGraphExecDestroy(executable));
    OK(cudaGraphDestroy(graph));
    OK(cudaStreamDestroy(stream));
}

int main() {
    OK(cudaMalloc(&device, 2 * sizeof(int)));
    built();
    captured();
    OK(cudaFree(device));
    std::puts("ok");
}
