// Matrix fragments of mma.h.
#include <mma.h>
using namespace nvcuda::wmma;

template <typename In, typename Out, typename Store, int M, int N, int K, typename A, typename B>
__device__ void multiply(const A *a, const B *b, Store *c, int n, int k) {
    int row = blockIdx.y * M, column = blockIdx.x * N;
    fragment<accumulator, M, N, K, Out> sum;
    fill_fragment(sum, Out(0));
    for (int at = 0; at < k; at += K) {
        fragment<matrix_a, M, N, K, In, row_major> x;
        fragment<matrix_b, M, N, K, In, col_major> y;
        load_matrix_sync(x, a + row * k + at, k);
        load_matrix_sync(y, b + column * k + at, k);
        mma_sync(sum, x, y, sum);
    }
    store_matrix_sync(c + row * n + column, sum, n, mem_row_major);
}

extern "C" __global__ void half_float(const __half *a, const __half *b, float *c, int n, int k) { multiply<__half, float, float, 16, 16, 16>(a, b, c, n, k); }
extern "C" __global__ void half_half(const __half *a, const __half *b, __half *c, int n, int k) { multiply<__half, __half, __half, 32, 8, 16>(a, b, c, n, k); }
extern "C" __global__ void bytes(const signed char *a, const signed char *b, int *c, int n, int k) { multiply<signed char, int, int, 16, 16, 16>(a, b, c, n, k); }
extern "C" __global__ void bfloats(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c, int n, int k) { multiply<__nv_bfloat16, float, float, 8, 32, 16>(a, b, c, n, k); }
extern "C" __global__ void tf32(const float *a, const float *b, float *c, int n, int k) { multiply<precision::tf32, float, float, 16, 16, 8>(a, b, c, n, k); }
extern "C" __global__ void doubles(const double *a, const double *b, double *c, int n, int k) { multiply<double, double, double, 8, 8, 4>(a, b, c, n, k); }
