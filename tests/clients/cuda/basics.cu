// The language: templates, virtual functions, recursion, pointers to functions, memory of every kind, shuffles, printf, new.
#ifndef __CUDACC_RTC__
#include <cstdio>
#endif

template <typename T, int N> struct Vector {
    T at[N];
    __device__ T dot(const Vector &other) const {
        T sum = 0;
        for (int i = 0; i < N; i++) sum += at[i] * other.at[i];
        return sum;
    }
};

extern "C" __global__ void dots(const Vector<double, 5> *a, const Vector<double, 5> *b, double *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i].dot(b[i]);
}

struct Shape {
    __device__ virtual float area() const = 0;
    __device__ virtual ~Shape() {}
};
struct Square : Shape {
    float side;
    __device__ Square(float s) : side(s) {}
    __device__ float area() const override { return side * side; }
};
struct Circle : Shape {
    float radius;
    __device__ Circle(float r) : radius(r) {}
    __device__ float area() const override { return 3.0f * radius * radius; }
};

extern "C" __global__ void areas(float *out) {
    int i = threadIdx.x;
    Shape *shape = i % 2 ? static_cast<Shape *>(new Square(i)) : static_cast<Shape *>(new Circle(i));
    out[i] = shape ? shape->area() : -1;
    delete shape;
}

__device__ __noinline__ int ackermann(int m, int n) {
    return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

extern "C" __global__ void recursion(int *out) { out[threadIdx.x] = ackermann(2, threadIdx.x % 4); }

__device__ float twice(float x) { return 2 * x; }
__device__ float squared(float x) { return x * x; }
__device__ float (*const operations[])(float) = {twice, squared};

extern "C" __global__ void pointers(const float *in, float *out) { out[threadIdx.x] = operations[threadIdx.x % 2](in[threadIdx.x]); }

__constant__ int weights[64];
__device__ int counter;

extern "C" __global__ void weighted(const int *in, int *out, int n) {
    extern __shared__ int tile[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = i < n ? in[i] : 0;
    __syncthreads();
    int sum = 0;
    for (int k = 0; k < 64; k++) sum += weights[k] * tile[(threadIdx.x + k) % blockDim.x];
    if (i < n) out[i] = sum;
    if (threadIdx.x == 0) atomicAdd(&counter, 1);
}

extern "C" __global__ void warp_sums(const int *in, int *out) {
    int v = in[blockIdx.x * blockDim.x + threadIdx.x], inclusive = v;
    for (int step = 1; step < 32; step *= 2) {
        int other = __shfl_up_sync(~0u, inclusive, step);
        if (threadIdx.x % 32 >= step) inclusive += other;
    }
    unsigned odd = __ballot_sync(~0u, v & 1);
    out[blockIdx.x * blockDim.x + threadIdx.x] = inclusive * 100 + __popc(odd) + (__any_sync(~0u, v > 900) ? 50 : 0);
}

extern "C" __global__ void divergent(int *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, x = i, steps = 0;
    while (x > 1 && steps < 200) {
        switch (x % 4) {
        case 0: x /= 4; break;
        case 1: x = 3 * x + 1; break;
        case 2: x /= 2; break;
        default: x += 5; continue;
        }
        steps++;
    }
    if (i < n) out[i] = steps;
}

// A lock that threads of one warp fight for: each must get on while others wait.
__device__ int lock;
extern "C" __global__ void locked(int *sum) {
    for (bool done = false; !done;) {
        if (atomicCAS(&lock, 0, 1) == 0) {
            __threadfence();
            *(volatile int *)sum += threadIdx.x;
            __threadfence();
            atomicExch(&lock, 0);
            done = true;
        }
    }
}

extern "C" __global__ void say() {
    if (threadIdx.x == 1) printf("%d %s %5.2f %c %llx %%\n", 42, "text", 2.5, 'c', 0x123456789abcULL);
}
