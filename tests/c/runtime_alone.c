/* The runtime API where there is no libcuda.so.1; with a second argument, a program that has code and uses nothing of CUDA. */
#include "runtime.h"

int main(int count, char **words) {
    char name[32];
    snprintf(name, sizeof name, "libcudart.so.%s", count > 1 ? words[1] : "13");
    load(name);
    if (count > 2) return 0;
    int value = -1;
    void *memory = NULL;
    FACT("cudaDriverGetVersion", CALL(cudaDriverGetVersion, (int *), &value));
    FACT("  version", value);
    FACT("cudaRuntimeGetVersion", CALL(cudaRuntimeGetVersion, (int *), &value));
    FACT("cudaGetDeviceCount", CALL(cudaGetDeviceCount, (int *), &value));
    FACT("  devices", value);
    FACT("cudaMalloc", CALL(cudaMalloc, (void **, size_t), &memory, 4));
    FACT("cudaLaunchKernel", scale(NULL, memory, memory, 1, 1));
    FACT("cudaGetLastError", last_error());
    FACT("cudaGetLastError", last_error());
    FACT("cudaDeviceReset", CALL(cudaDeviceReset, (void)));
    return 0;
}
