// The functions of CUDA's math library, each over float and double. What they are is in functions.py.
#define ONE(name)                                                                                                                   \
    extern "C" __global__ void name##_double(const double *x, double *out, int n) {                                                \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                                                                           \
        if (i < n) out[i] = name(x[i]);                                                                                             \
    }                                                                                                                            \
    extern "C" __global__ void name##_float(const float *x, float *out, int n) {                                                   \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                                                                           \
        if (i < n) out[i] = name##f(x[i]);                                                                                          \
    }
#define TWO(name)                                                                                                                   \
    extern "C" __global__ void name##_double(const double *x, const double *y, double *out, int n) {                               \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                                                                           \
        if (i < n) out[i] = name(x[i], y[i]);                                                                                       \
    }                                                                                                                            \
    extern "C" __global__ void name##_float(const float *x, const float *y, float *out, int n) {                                   \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                                                                           \
        if (i < n) out[i] = name##f(x[i], y[i]);                                                                                    \
    }
ONE(sin) ONE(cos) ONE(tan) ONE(asin) ONE(acos) ONE(atan) ONE(sinh) ONE(cosh) ONE(tanh) ONE(asinh) ONE(acosh) ONE(atanh)
ONE(exp) ONE(exp2) ONE(exp10) ONE(expm1) ONE(log) ONE(log2) ONE(log10) ONE(log1p) ONE(sqrt) ONE(rsqrt) ONE(cbrt) ONE(rcbrt)
ONE(erf) ONE(erfc) ONE(erfcx) ONE(tgamma) ONE(lgamma) ONE(floor) ONE(ceil) ONE(trunc) ONE(rint) ONE(round) ONE(fabs)
ONE(sinpi) ONE(cospi) ONE(j0) ONE(j1) ONE(y0) ONE(y1) ONE(normcdf) ONE(logb)
TWO(pow) TWO(atan2) TWO(hypot) TWO(fmod) TWO(remainder) TWO(fdim) TWO(copysign) TWO(nextafter) TWO(fmax) TWO(fmin)
