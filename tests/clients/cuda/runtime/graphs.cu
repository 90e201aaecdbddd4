// Graphs: captured over several streams, built of nodes of each kind, cloned, updated.
#include "check.h"
#include <vector>

__global__ void add(int *data, int value, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] += value;
}

__global__ void combine(const int *a, const int *b, int *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i] * 1000 + b[i];
}

__device__ int setting;
__global__ void use(int *out) { *out = setting; }

static int calls;
static void call(void *data) { calls += *static_cast<int *>(data); }

const int n = 300;

static int first(const int *device) {
    int value;
    OK(cudaMemcpy(&value, device, sizeof value, cudaMemcpyDeviceToHost));
    return value;
}

int main() {
    int *a, *b, *out;
    OK(cudaMalloc(&a, n * sizeof(int)));
    OK(cudaMalloc(&b, n * sizeof(int)));
    OK(cudaMalloc(&out, n * sizeof(int)));
    cudaStream_t one, two;
    cudaEvent_t fork, join;
    OK(cudaStreamCreate(&one));
    OK(cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking));
    OK(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    OK(cudaEventCreate(&join));

    // Two branches that meet.
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    OK(cudaStreamBeginCapture(one, cudaStreamCaptureModeGlobal));
    OK(cudaMemsetAsync(a, 0, n * sizeof(int), one));
    OK(cudaEventRecord(fork, one));
    OK(cudaStreamWaitEvent(two, fork));
    OK(cudaMemsetAsync(b, 0, n * sizeof(int), two));
    add<<<2, 256, 0, one>>>(a, 3, n);
    add<<<2, 256, 0, two>>>(b, 4, n);
    OK(cudaEventRecord(join, two));
    OK(cudaStreamWaitEvent(one, join));
    combine<<<2, 256, 0, one>>>(a, b, out, n);
    cudaStreamCaptureStatus status;
    OK(cudaStreamIsCapturing(two, &status));
    IS(status, cudaStreamCaptureStatusActive);
    OK(cudaStreamEndCapture(one, &graph));
    OK(cudaGraphInstantiate(&executable, graph));
    for (int i = 0; i < 3; i++) OK(cudaGraphLaunch(executable, two));
    OK(cudaStreamSynchronize(two));
    IS(first(out), 3004);

    // Another value for one of the kernels, in the executable graph alone.
    size_t count = 0;
    OK(cudaGraphGetNodes(graph, nullptr, &count));
    IS(count, 5);
    std::vector<cudaGraphNode_t> nodes(count);
    OK(cudaGraphGetNodes(graph, nodes.data(), &count));
    for (auto node : nodes) {
        cudaGraphNodeType type;
        OK(cudaGraphNodeGetType(node, &type));
        if (type != cudaGraphNodeTypeKernel) continue;
        cudaKernelNodeParams params;
        OK(cudaGraphKernelNodeGetParams(node, &params));
        if (params.func != (void *)add || *(int *)params.kernelParams[1] != 4) continue;
        int value = 9, length = n;
        void *arguments[] = {&b, &value, &length};
        params.kernelParams = arguments;
        OK(cudaGraphExecKernelNodeSetParams(executable, node, &params));
    }
    OK(cudaGraphLaunch(executable, one));
    OK(cudaStreamSynchronize(one));
    IS(first(out), 3009);

    // Built by hand: memory of the graph's own, a symbol, a host function, a child.
    cudaGraph_t built, child;
    cudaGraphNode_t node[8];
    std::vector<int> source(n, 50), target(n);
    int seven = 7, length = n, forty = 40;
    OK(cudaGraphCreate(&built, 0));
    cudaMemAllocNodeParams memory = {};
    memory.poolProps.allocType = cudaMemAllocationTypePinned;
    memory.poolProps.location.type = cudaMemLocationTypeDevice;
    memory.bytesize = n * sizeof(int);
    OK(cudaGraphAddMemAllocNode(&node[0], built, nullptr, 0, &memory));
    OK(cudaGraphAddMemcpyNode1D(&node[1], built, &node[0], 1, memory.dptr, source.data(), n * sizeof(int), cudaMemcpyHostToDevice));
    OK(cudaGraphAddMemcpyNodeToSymbol(&node[2], built, nullptr, 0, setting, &forty, sizeof(int), 0, cudaMemcpyHostToDevice));
    cudaKernelNodeParams kernel = {};
    void *arguments[] = {&memory.dptr, &seven, &length};
    kernel.func = (void *)add;
    kernel.gridDim = dim3(2);
    kernel.blockDim = dim3(256);
    kernel.kernelParams = arguments;
    OK(cudaGraphAddKernelNode(&node[3], built, &node[1], 1, &kernel));
    OK(cudaGraphAddMemcpyNode1D(&node[4], built, &node[3], 1, target.data(), memory.dptr, n * sizeof(int), cudaMemcpyDeviceToHost));
    OK(cudaGraphAddMemFreeNode(&node[5], built, &node[4], 1, memory.dptr));
    cudaHostNodeParams function = {call, &seven};
    OK(cudaGraphAddHostNode(&node[6], built, &node[4], 1, &function));
    OK(cudaGraphCreate(&child, 0));
    void *used[] = {&out};
    cudaKernelNodeParams reader = {};
    reader.func = (void *)use;
    reader.gridDim = reader.blockDim = dim3(1);
    reader.kernelParams = used;
    cudaGraphNode_t inner;
    OK(cudaGraphAddKernelNode(&inner, child, nullptr, 0, &reader));
    OK(cudaGraphAddChildGraphNode(&node[7], built, &node[2], 1, child));
    cudaGraphExec_t second;
    OK(cudaGraphInstantiate(&second, built));
    OK(cudaGraphLaunch(second, one));
    OK(cudaStreamSynchronize(one));
    IS(target[n - 1], 57);
    IS(calls, 7);
    IS(first(out), 40);

    cudaGraph_t clone;
    cudaGraphNode_t twin;
    OK(cudaGraphClone(&clone, graph));
    OK(cudaGraphNodeFindInClone(&twin, nodes[0], clone));
    IS(twin != nullptr, true);
    cudaGraphExecUpdateResultInfo info;
    OK(cudaGraphExecUpdate(executable, clone, &info));
    IS(info.result, cudaGraphExecUpdateSuccess);
    OK(cudaGraphLaunch(executable, one));
    OK(cudaDeviceSynchronize());
    IS(first(out), 3004);
    OK(cudaGraphExecDestroy(executable));
    OK(cudaGraphExecDestroy(second));
    OK(cudaGraphDestroy(graph));
    OK(cudaGraphDestroy(built));
    OK(cudaGraphDestroy(clone));
    std::puts("ok");
}
