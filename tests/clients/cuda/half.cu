// half and bfloat16, alone and in pairs.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

template <typename T> __device__ T mixed(T a, T b, T c) {
    T r = __hfma(a, b, c) + __hmul(a, b) - __hsub(c, a) / __hmax(__habs(b), T(1.0f));
    r = __hlt(a, b) ? r + hsqrt(__habs(c)) : r - hexp(__hmin(a, T(2.0f)));
    return r + hfloor(c) + T(float(__hgt(b, c)));
}

extern "C" __global__ void mixed_half(const __half *a, const __half *b, const __half *c, __half *out) {
    int i = threadIdx.x;
    out[i] = mixed(a[i], b[i], c[i]);
}

extern "C" __global__ void mixed_bfloat(const __nv_bfloat16 *a, const __nv_bfloat16 *b, const __nv_bfloat16 *c, __nv_bfloat16 *out) {
    int i = threadIdx.x;
    out[i] = mixed(a[i], b[i], c[i]);
}

extern "C" __global__ void pairs(const __half2 *a, const __half2 *b, __half2 *out, float *sums) {
    int i = threadIdx.x;
    __half2 r = __hfma2(a[i], b[i], __hadd2(a[i], b[i]));
    out[i] = __hmax2(r, __lowhigh2highlow(r));
    atomicAdd(sums, __low2float(r) + __high2float(r));
}
