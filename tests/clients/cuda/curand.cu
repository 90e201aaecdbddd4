// Generators of curand_kernel.h. The same text is compiled for the host, by g++, as the reference.
#include <curand_kernel.h>

#ifdef __CUDACC__
#define KERNEL(name, ...) extern "C" __global__ void name(__VA_ARGS__, int n)
#define THREAD int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return
#else
#define KERNEL(name, ...) extern "C" void name(__VA_ARGS__, int i)
#define THREAD
#endif

template <typename State> QUALIFIERS void fill(State &state, unsigned *bits, float *floats, double *doubles) {
    for (int k = 0; k < 3; k++) bits[k] = curand(&state);
    floats[0] = curand_uniform(&state);
    doubles[0] = curand_uniform_double(&state);
    floats[1] = curand_normal(&state);
    floats[2] = curand_log_normal(&state, 0.5f, 0.25f);
    doubles[1] = curand_normal_double(&state);
    bits[3] = curand_poisson(&state, 4.5);
}

KERNEL(xorwow, unsigned *bits, float *floats, double *doubles) {
    THREAD;
    curandStateXORWOW_t state;
    curand_init(1234, i, 5 * i, &state);
    fill(state, bits + 4 * i, floats + 3 * i, doubles + 2 * i);
}
KERNEL(mrg, unsigned *bits, float *floats, double *doubles) {
    THREAD;
    curandStateMRG32k3a_t state;
    curand_init(1234, i, 7, &state);
    fill(state, bits + 4 * i, floats + 3 * i, doubles + 2 * i);
}
KERNEL(philox, unsigned *bits, float *floats, double *doubles) {
    THREAD;
    curandStatePhilox4_32_10_t state;
    curand_init(1234, i, 3, &state);
    fill(state, bits + 4 * i, floats + 3 * i, doubles + 2 * i);
}
