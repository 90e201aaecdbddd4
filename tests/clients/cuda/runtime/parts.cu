// Relocatable code, linked when the program starts; with parts_more.cu.
#include "check.h"

extern __device__ int shared_counter;
__device__ int twice(int value);
void launch_other(int *out);

__global__ void kernel(int *out) {
    atomicAdd(&shared_counter, 1);
    out[threadIdx.x] = twice(threadIdx.x) + shared_counter * 0;
}

int main() {
    int *out, host[32];
    OK(cudaMalloc(&out, sizeof host));
    kernel<<<1, 32>>>(out);
    OK(cudaMemcpy(host, out, sizeof host, cudaMemcpyDeviceToHost));
    IS(host[21], 42);
    launch_other(out);
    OK(cudaMemcpy(host, out, sizeof host, cudaMemcpyDeviceToHost));
    IS(host[0], 32);
    std::puts("ok");
}
