// The device side: compiled to PTX by NVRTC, run by softgpu.
typedef unsigned int uint;

extern "C" __global__ void saxpy(const float *x, float *y, float a, uint n) {
    uint i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}

// Each block sums one part of x.
extern "C" __global__ void reduction(const float *x, float *out, uint part) {
    __shared__ float warps[32];
    const float *mine = x + (size_t)blockIdx.x * part;
    float sum = 0;
    for (uint i = threadIdx.x; i < part; i += blockDim.x) sum += mine[i];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffff, sum, step);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < blockDim.x / 32 ? warps[threadIdx.x] : 0.0f;
        for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffff, sum, step);
        if (threadIdx.x == 0) out[blockIdx.x] = sum;
    }
}

#define TILE 16
extern "C" __global__ void sgemm(const float *a, const float *b, float *c, uint n) {
    __shared__ float as[TILE][TILE], bs[TILE][TILE];
    uint x = threadIdx.x, y = threadIdx.y;
    uint column = blockIdx.x * TILE + x, row = blockIdx.y * TILE + y;
    float sum = 0;
    for (uint tile = 0; tile < n; tile += TILE) {
        as[y][x] = a[row * n + tile + x];
        bs[y][x] = b[(tile + y) * n + column];
        __syncthreads();
#pragma unroll
        for (int k = 0; k < TILE; k++) sum += as[y][k] * bs[k][x];
        __syncthreads();
    }
    c[row * n + column] = sum;
}

// What all bodies do to the first ones.
extern "C" __global__ void nbody(const float4 *body, float4 *force, uint n, float softening) {
    __shared__ float4 tile[256];
    uint i = blockIdx.x * blockDim.x + threadIdx.x;
    float4 me = body[i];
    float fx = 0, fy = 0, fz = 0;
    for (uint start = 0; start < n; start += blockDim.x) {
        tile[threadIdx.x] = body[start + threadIdx.x];
        __syncthreads();
#pragma unroll 8
        for (uint j = 0; j < 256; j++) {
            float4 other = tile[j];
            float dx = other.x - me.x, dy = other.y - me.y, dz = other.z - me.z;
            float inverse = rsqrtf(dx * dx + dy * dy + dz * dz + softening);
            float pull = other.w * inverse * inverse * inverse;
            fx += dx * pull, fy += dy * pull, fz += dz * pull;
        }
        __syncthreads();
    }
    force[i] = make_float4(fx, fy, fz, 0);
}

__device__ float normal(float d) {
    float k = 1.0f / (1.0f + 0.2316419f * fabsf(d));
    float sum = k * (0.31938153f + k * (-0.356563782f + k * (1.781477937f + k * (-1.821255978f + k * 1.330274429f))));
    float tail = 0.39894228040143267794f * expf(-0.5f * d * d) * sum;
    return d > 0 ? 1.0f - tail : tail;
}

extern "C" __global__ void black_scholes(const float *price, const float *strike, const float *years, float *call, float *put,
                                         float rate, float volatility, uint n) {
    uint i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float s = price[i], x = strike[i], t = years[i];
    float root = sqrtf(t);
    float d1 = (logf(s / x) + (rate + 0.5f * volatility * volatility) * t) / (volatility * root);
    float d2 = d1 - volatility * root;
    float n1 = normal(d1), n2 = normal(d2), discount = x * expf(-rate * t);
    call[i] = s * n1 - discount * n2;
    put[i] = discount * (1.0f - n2) - s * (1.0f - n1);
}

// Of bytes, four a word.
extern "C" __global__ void histogram(const uint *words, uint *out, uint n) {
    __shared__ uint bins[256];
    bins[threadIdx.x] = 0;
    __syncthreads();
    for (uint i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        uint word = words[i];
        atomicAdd(&bins[word & 255], 1);
        atomicAdd(&bins[word >> 8 & 255], 1);
        atomicAdd(&bins[word >> 16 & 255], 1);
        atomicAdd(&bins[word >> 24], 1);
    }
    __syncthreads();
    atomicAdd(&out[threadIdx.x], bins[threadIdx.x]);
}

// Seven points; a thread goes through all planes of its column.
extern "C" __global__ void stencil(const float *in, float *out, uint nx, uint ny, uint nz) {
    uint x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x == 0 || y == 0 || x >= nx - 1 || y >= ny - 1) return;
    uint plane = nx * ny, at = y * nx + x;
    float below = in[at], here = in[at + plane];
    for (uint z = 1; z < nz - 1; z++) {
        at += plane;
        float above = in[at + plane];
        out[at] = 0.4f * here + 0.1f * (below + above + in[at - 1] + in[at + 1] + in[at - nx] + in[at + nx]);
        below = here, here = above;
    }
}

extern "C" __global__ void mandelbrot(uint *out, uint width, uint height, uint limit) {
    uint x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    float cr = -2.2f + 3.2f * x / width, ci = -1.2f + 2.4f * y / height;
    float r = 0, i = 0;
    uint n = 0;
    while (n < limit && r * r + i * i < 4.0f) {
        float next = r * r - i * i + cr;
        i = 2.0f * r * i + ci;
        r = next;
        n++;
    }
    out[y * width + x] = n;
}

extern "C" __global__ void fma_chain(const float *in, float *out, float a, float b, uint steps, uint n) {
    uint i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = in[i];
#pragma unroll 16
    for (uint k = 0; k < steps; k++) v = v * a + b;
    out[i] = v;
}

// Not timed: all blocks wait for each other, each thread with 28 values in registers, so that all are there at once.
extern "C" __global__ void resident(const float *in, float *out, uint *arrived, uint blocks) {
    uint i = blockIdx.x * blockDim.x + threadIdx.x;
    float values[28];
#pragma unroll
    for (int k = 0; k < 28; k++) values[k] = in[(i + k) & 1023];
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicAdd(arrived, 1);
        while (*(volatile uint *)arrived < blocks) {}
    }
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (int k = 0; k < 28; k++) sum = sum * 0.5f + values[k];
    out[i] = sum;
}
