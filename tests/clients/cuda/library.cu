// libcu++ and CUB, as far as they work within a block: barriers, asynchronous copies, atomics, sorting, scans.
#include <cuda/atomic>
#include <cuda/barrier>
#include <cuda/pipeline>
#include <cuda/std/complex>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/warp/warp_reduce.cuh>

extern "C" __global__ void sorted(const unsigned *in, unsigned *out) {
    using Sort = cub::BlockRadixSort<unsigned, 128, 4>;
    __shared__ typename Sort::TempStorage storage;
    unsigned keys[4];
    for (int i = 0; i < 4; i++) keys[i] = in[blockIdx.x * 512 + threadIdx.x * 4 + i];
    Sort(storage).Sort(keys);
    for (int i = 0; i < 4; i++) out[blockIdx.x * 512 + threadIdx.x * 4 + i] = keys[i];
}

extern "C" __global__ void scanned(const int *in, int *out, int *total) {
    using Scan = cub::BlockScan<int, 128>;
    using Reduce = cub::BlockReduce<int, 128>;
    __shared__ union {
        typename Scan::TempStorage scan;
        typename Reduce::TempStorage reduce;
    } storage;
    int i = blockIdx.x * 128 + threadIdx.x, v = in[i], sum;
    Scan(storage.scan).InclusiveSum(v, sum);
    __syncthreads();
    int all = Reduce(storage.reduce).Sum(v);
    out[i] = sum;
    if (threadIdx.x == 0) total[blockIdx.x] = all;
}

extern "C" __global__ void copied(const int *in, int *out) {
    using Barrier = cuda::barrier<cuda::thread_scope_block>;
    __shared__ int tile[256];
#pragma nv_diag_suppress static_var_with_dynamic_init
    __shared__ Barrier barrier;
    if (threadIdx.x == 0) init(&barrier, blockDim.x);
    __syncthreads();
    cuda::memcpy_async(tile + threadIdx.x * 4, in + blockIdx.x * 256 + threadIdx.x * 4, cuda::aligned_size_t<16>(16), barrier);
    barrier.arrive_and_wait();
    for (int i = threadIdx.x; i < 256; i += blockDim.x) out[blockIdx.x * 256 + i] = tile[255 - i] * 2;
}

extern "C" __global__ void piped(const int *in, int *out, int steps) {
    __shared__ int stage[2][64];
    auto pipe = cuda::make_pipeline();
    int sum = 0;
    for (int at = 0, asked = 0; at < steps; at++) {
        for (; asked < steps && asked < at + 2; asked++) {
            pipe.producer_acquire();
            cuda::memcpy_async(&stage[asked % 2][threadIdx.x], in + asked * 64 + threadIdx.x, sizeof(int), pipe);
            pipe.producer_commit();
        }
        pipe.consumer_wait();
        sum = sum * 3 + stage[at % 2][threadIdx.x];
        pipe.consumer_release();
    }
    out[threadIdx.x] = sum;
}

extern "C" __global__ void counted(const int *in, int *counts, unsigned long long *wide, double *sum) {
    int v = in[blockIdx.x * blockDim.x + threadIdx.x];
    cuda::atomic_ref<int, cuda::thread_scope_device>(counts[v % 8]).fetch_add(1, cuda::memory_order_relaxed);
    cuda::atomic_ref<unsigned long long>(*wide).fetch_max(v, cuda::memory_order_acq_rel);
    atomicAdd(sum, v * 0.5);
}

extern "C" __global__ void complexes(const float2 *in, float2 *out) {
    cuda::std::complex<float> z(in[threadIdx.x].x, in[threadIdx.x].y);
    z = exp(z) * conj(z) + sqrt(z);
    out[threadIdx.x] = make_float2(z.real(), z.imag());
}
