// Host threads that each have a default stream, callbacks, timing; built with --default-stream per-thread.
#include "check.h"
#include <atomic>
#include <thread>
#include <vector>

__global__ void step(unsigned *data, int n, unsigned salt) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] = data[i] * 1664525u + salt;
}

static std::atomic<int> called{0};
static void CUDART_CB after(cudaStream_t, cudaError_t status, void *) { called += status == cudaSuccess; }

static void work(int index) {
    const int n = 512, rounds = 20;
    unsigned *data, host[n];
    OK(cudaMallocAsync(&data, sizeof host, 0));
    OK(cudaMemsetAsync(data, 0, sizeof host, 0));
    for (int i = 0; i < rounds; i++) step<<<2, 256>>>(data, n, index);
    OK(cudaMemcpyAsync(host, data, sizeof host, cudaMemcpyDeviceToHost, 0));
    OK(cudaStreamAddCallback(0, after, nullptr, 0));
    OK(cudaFreeAsync(data, 0));
    OK(cudaStreamSynchronize(0));
    unsigned expected = 0;
    for (int i = 0; i < rounds; i++) expected = expected * 1664525u + index;
    for (unsigned value : host) IS(value, expected);
    // An error here is no other thread's.
    IS(cudaMemcpy(host, host, 4, cudaMemcpyKind(9)), cudaErrorInvalidMemcpyDirection);
    IS(cudaGetLastError(), cudaErrorInvalidMemcpyDirection);
}

int main() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; i++) threads.emplace_back(work, i);
    for (auto &thread : threads) thread.join();
    IS(called, 6);
    OK(cudaGetLastError());
    unsigned long long own, legacy;
    OK(cudaStreamGetId(0, &own));
    OK(cudaStreamGetId(cudaStreamLegacy, &legacy));
    IS(own != legacy, true);
    cudaEvent_t start, end;
    float time = -1;
    OK(cudaEventCreate(&start));
    OK(cudaEventCreate(&end));
    OK(cudaEventRecord(start));
    OK(cudaEventRecord(end));
    OK(cudaEventSynchronize(end));
    OK(cudaEventElapsedTime(&time, start, end));
    IS(time >= 0, true);
    OK(cudaDeviceSynchronize());
    std::puts("ok");
}
