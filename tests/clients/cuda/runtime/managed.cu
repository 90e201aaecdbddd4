// Variables that host and device share: read and written on both sides by their names.
#include "check.h"
#include <cstring>

struct Node {
    Node *next;
    double value;
};

const int n = 1500;
__managed__ int counter = 40;
__managed__ int table[n] = {1, 2, 3};
__managed__ Node first, second = {nullptr, 2.5};
__managed__ Node *head;
__device__ int step = 5;
static __managed__ float hidden;

__global__ void advance() {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) table[i] += counter + step;
}

__global__ void link() {
    counter += step;
    hidden = 0.5f;
    first.next = &second;
    first.value = second.value * 2;
    head = &first;
}

__global__ void sum(double *into) {
    for (Node *at = head; at; at = at->next) *into += at->value;
}

int main() {
    // Before any call of the runtime's.
    IS(counter, 40);
    IS(table[2], 3);
    counter = 100;
    advance<<<6, 256>>>();
    OK(cudaDeviceSynchronize());
    IS(table[0], 106);
    IS(table[n - 1], 105);
    IS(counter, 100);
    link<<<1, 1>>>();
    OK(cudaDeviceSynchronize());
    IS(counter, 105);
    IS(hidden, 0.5);
    IS(head == &first && head->next == &second, true);
    IS(head->value, 5);
    second.value = 10;
    double *total;
    OK(cudaMallocManaged(&total, sizeof *total));
    *total = 1;
    sum<<<1, 1>>>(total);
    OK(cudaDeviceSynchronize());
    IS(*total, 16);
    OK(cudaFree(total));

    // By the calls for symbols and for addresses.
    int *address, value = 7;
    size_t bytes;
    OK(cudaGetSymbolAddress((void **)&address, counter));
    IS(address == &counter, true);
    OK(cudaGetSymbolSize(&bytes, table));
    IS(bytes, sizeof table);
    OK(cudaMemcpyToSymbol(counter, &value, sizeof value));
    IS(counter, 7);
    counter = 9;
    OK(cudaMemcpyFromSymbol(&value, counter, sizeof value));
    IS(value, 9);
    OK(cudaMemcpy(table, table + 1, sizeof *table, cudaMemcpyDefault));
    IS(table[0], 107);
    OK(cudaMemset(table, 0, sizeof table));
    OK(cudaDeviceSynchronize());
    IS(table[n - 1], 0);
    cudaPointerAttributes attributes;
    OK(cudaPointerGetAttributes(&attributes, &counter));
    IS(attributes.type, cudaMemoryTypeManaged);
    IS(attributes.hostPointer == &counter && attributes.devicePointer == &counter, true);
    IS(cudaFree(&counter), cudaErrorInvalidValue);
    IS(cudaGetLastError(), cudaErrorInvalidValue);
    cudaStream_t stream;
    OK(cudaStreamCreate(&stream));
    OK(cudaStreamAttachMemAsync(stream, table, 0, cudaMemAttachGlobal));

    // In a graph, and on another device: there is one of each for all.
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    advance<<<6, 256, 0, stream>>>();
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaGraphInstantiate(&executable, graph, 0));
    for (int round = 1; round < 4; round++) {
        counter = round;
        OK(cudaGraphLaunch(executable, stream));
        OK(cudaStreamSynchronize(stream));
    }
    IS(table[n - 1], 21);
    OK(cudaGraphExecDestroy(executable));
    OK(cudaGraphDestroy(graph));
    OK(cudaStreamDestroy(stream));
    OK(cudaSetDevice(1));
    counter = 50;
    link<<<1, 1>>>();
    OK(cudaDeviceSynchronize());
    IS(counter, 55);
    OK(cudaSetDevice(0));
    link<<<1, 1>>>();
    OK(cudaDeviceSynchronize());
    IS(counter, 60);
    std::puts("ok");
}
