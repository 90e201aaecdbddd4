// Launches in all their forms, functions' attributes, symbols, errors.
#include "check.h"
#include <cooperative_groups.h>
#include <vector>

namespace cg = cooperative_groups;

__constant__ float factors[4];
__device__ int counter;
__device__ float table[8] = {1, 2, 3, 4, 5, 6, 7, 8};

template <typename T, int K> __global__ void scale(T *data, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) data[i] = data[i] * T(K) + T(factors[i % 4]);
}

struct Big {
    int values[100];
};

__global__ void by_value(Big big, int *sum) {
    extern __shared__ int space[];
    space[threadIdx.x] = threadIdx.x < 100 ? big.values[threadIdx.x] : 0;
    __syncthreads();
    atomicAdd(sum, space[(threadIdx.x + 1) % blockDim.x]);
}

__global__ void count() { atomicAdd(&counter, 1); }

__global__ void whole_grid(int *data, int n, int *total) {
    cg::grid_group grid = cg::this_grid();
    for (int i = grid.thread_rank(); i < n; i += grid.size()) data[i] = 2 * i;
    grid.sync();
    for (int i = grid.thread_rank(); i < n; i += grid.size()) atomicAdd(total, data[n - 1 - i]);
}

__launch_bounds__(64) __global__ void bounded(int *out) { *out = blockDim.x; }

int main() {
    const int n = 1000;
    float host[4] = {1, 2, 3, 4}, *data;
    std::vector<float> values(n);
    for (int i = 0; i < n; i++) values[i] = i;
    OK(cudaMemcpyToSymbol(factors, host, sizeof host));
    OK(cudaMalloc(&data, n * sizeof(float)));
    OK(cudaMemcpy(data, values.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    scale<float, 3><<<dim3(8), dim3(128)>>>(data, n);
    OK(cudaGetLastError());
    OK(cudaMemcpy(values.data(), data, n * sizeof(float), cudaMemcpyDefault));
    for (int i = 0; i < n; i++) IS(values[i], 3 * i + 1 + i % 4);

    Big big;
    int expected = 0, *sum, got;
    for (int i = 0; i < 100; i++) expected += big.values[i] = i * i;
    OK(cudaMalloc(&sum, sizeof(int)));
    OK(cudaMemset(sum, 0, sizeof(int)));
    by_value<<<1, 128, 128 * sizeof(int)>>>(big, sum);
    OK(cudaMemcpy(&got, sum, sizeof got, cudaMemcpyDeviceToHost));
    IS(got, expected);

    // More dynamic shared memory than without a word.
    cudaFuncAttributes attributes;
    OK(cudaFuncGetAttributes(&attributes, by_value));
    IS(attributes.sharedSizeBytes, 0);
    by_value<<<1, 128, 60 * 1024>>>(big, sum);
    IS(cudaGetLastError(), cudaErrorInvalidValue);
    OK(cudaFuncSetAttribute(by_value, cudaFuncAttributeMaxDynamicSharedMemorySize, 60 * 1024));
    by_value<<<1, 128, 60 * 1024>>>(big, sum);
    OK(cudaDeviceSynchronize());

    // By a configuration with attributes, and of the whole grid.
    cudaLaunchConfig_t config = {};
    config.gridDim = 10;
    config.blockDim = 32;
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 0;
    config.attrs = &attribute;
    config.numAttrs = 1;
    OK(cudaLaunchKernelEx(&config, count));
    OK(cudaMemcpyFromSymbol(&got, counter, sizeof got));
    IS(got, 320);
    int blocks = 0, least = 0, size = 0, many = 500, *numbers;
    OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, whole_grid, 64, 0));
    IS(blocks > 0, true);
    OK(cudaOccupancyMaxPotentialBlockSize(&least, &size, count));
    IS(size >= 32 && least > 0, true);
    OK(cudaMalloc(&numbers, many * sizeof(int)));
    OK(cudaMemset(sum, 0, sizeof(int)));
    void *arguments[] = {&numbers, &many, &sum};
    OK(cudaLaunchCooperativeKernel(whole_grid, dim3(2), dim3(64), arguments));
    OK(cudaMemcpy(&got, sum, sizeof got, cudaMemcpyDeviceToHost));
    IS(got, many * (many - 1));
    IS(cudaLaunchCooperativeKernel(whole_grid, dim3(1 << 20), dim3(64), arguments), cudaErrorCooperativeLaunchTooLarge);
    IS(cudaGetLastError(), cudaErrorCooperativeLaunchTooLarge);

    bounded<<<1, 64>>>(sum);
    OK(cudaGetLastError());
    OK(cudaFuncGetAttributes(&attributes, bounded));
    IS(attributes.maxThreadsPerBlock, 64);
    count<<<1, 2048>>>();
    IS(cudaPeekAtLastError(), cudaErrorInvalidConfiguration);
    IS(cudaGetLastError(), cudaErrorInvalidConfiguration);
    OK(cudaGetLastError());

    void *address;
    size_t bytes;
    OK(cudaGetSymbolAddress(&address, table));
    OK(cudaGetSymbolSize(&bytes, table));
    IS(bytes, sizeof table);
    float two[2];
    OK(cudaMemcpy(two, (float *)address + 4, sizeof two, cudaMemcpyDeviceToHost));
    IS(two[0] + two[1], 11);
    OK(cudaMemcpyFromSymbol(two, table, sizeof two, 6 * sizeof(float)));
    IS(two[0] + two[1], 15);

    const char *name;
    OK(cudaFuncGetName(&name, count));
    IS(name[0], '_');
    cudaFunction_t function;
    OK(cudaGetFuncBySymbol(&function, (const void *)count));
    IS(function != nullptr, true);
    OK(cudaDeviceReset());
    std::puts("ok");
}
