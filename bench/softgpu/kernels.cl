// The same on OpenCL; what a warp's shuffles do is done in local memory.

kernel void saxpy(global const float *x, global float *y, float a, uint n) {
    uint i = get_global_id(0);
    if (i < n) y[i] = a * x[i] + y[i];
}

kernel void reduction(global const float *x, global float *out, uint part) {
    local float sums[256];
    uint me = get_local_id(0);
    global const float *mine = x + (size_t)get_group_id(0) * part;
    float sum = 0;
    for (uint i = me; i < part; i += get_local_size(0)) sum += mine[i];
    sums[me] = sum;
    for (uint step = 128; step > 0; step /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (me < step) sums[me] += sums[me + step];
    }
    if (me == 0) out[get_group_id(0)] = sums[0];
}

#define TILE 16
kernel void sgemm(global const float *a, global const float *b, global float *c, uint n) {
    local float as[TILE][TILE], bs[TILE][TILE];
    uint x = get_local_id(0), y = get_local_id(1);
    uint column = get_global_id(0), row = get_global_id(1);
    float sum = 0;
    for (uint tile = 0; tile < n; tile += TILE) {
        as[y][x] = a[row * n + tile + x];
        bs[y][x] = b[(tile + y) * n + column];
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
        for (int k = 0; k < TILE; k++) sum += as[y][k] * bs[k][x];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    c[row * n + column] = sum;
}

kernel void nbody(global const float4 *body, global float4 *force, uint n, float softening) {
    local float4 tile[256];
    uint me_at = get_local_id(0), i = get_global_id(0);
    float4 me = body[i];
    float fx = 0, fy = 0, fz = 0;
    for (uint start = 0; start < n; start += get_local_size(0)) {
        tile[me_at] = body[start + me_at];
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint j = 0; j < 256; j++) {
            float4 other = tile[j];
            float dx = other.x - me.x, dy = other.y - me.y, dz = other.z - me.z;
            float inverse = native_rsqrt(dx * dx + dy * dy + dz * dz + softening);
            float pull = other.w * inverse * inverse * inverse;
            fx += dx * pull, fy += dy * pull, fz += dz * pull;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    force[i] = (float4)(fx, fy, fz, 0);
}

float normal(float d) {
    float k = 1.0f / (1.0f + 0.2316419f * fabs(d));
    float sum = k * (0.31938153f + k * (-0.356563782f + k * (1.781477937f + k * (-1.821255978f + k * 1.330274429f))));
    float tail = 0.39894228040143267794f * native_exp(-0.5f * d * d) * sum;
    return d > 0 ? 1.0f - tail : tail;
}

kernel void black_scholes(global const float *price, global const float *strike, global const float *years, global float *call,
                          global float *put, float rate, float volatility, uint n) {
    uint i = get_global_id(0);
    if (i >= n) return;
    float s = price[i], x = strike[i], t = years[i];
    float root = native_sqrt(t);
    float d1 = (native_log(s / x) + (rate + 0.5f * volatility * volatility) * t) / (volatility * root);
    float d2 = d1 - volatility * root;
    float n1 = normal(d1), n2 = normal(d2), discount = x * native_exp(-rate * t);
    call[i] = s * n1 - discount * n2;
    put[i] = discount * (1.0f - n2) - s * (1.0f - n1);
}

kernel void histogram(global const uint *words, global uint *out, uint n) {
    local uint bins[256];
    uint me = get_local_id(0);
    bins[me] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = get_global_id(0); i < n; i += get_global_size(0)) {
        uint word = words[i];
        atomic_inc(&bins[word & 255]);
        atomic_inc(&bins[word >> 8 & 255]);
        atomic_inc(&bins[word >> 16 & 255]);
        atomic_inc(&bins[word >> 24]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    atomic_add(&out[me], bins[me]);
}

kernel void stencil(global const float *in, global float *out, uint nx, uint ny, uint nz) {
    uint x = get_global_id(0), y = get_global_id(1);
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

kernel void mandelbrot(global uint *out, uint width, uint height, uint limit) {
    uint x = get_global_id(0), y = get_global_id(1);
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

kernel void fma_chain(global const float *in, global float *out, float a, float b, uint steps, uint n) {
    uint i = get_global_id(0);
    if (i >= n) return;
    float v = in[i];
    for (uint k = 0; k < steps; k++) v = v * a + b;
    out[i] = v;
}

#define CHANNELS 32
#define EDGE 64
kernel void conv2d(global float *out, global const float *in, global const float *weights) {
    uint pixel = get_global_id(0), to = get_global_id(1), image = get_global_id(2);
    int x = pixel % EDGE, y = pixel / EDGE;
    float sum = 0;
    for (int from = 0; from < CHANNELS; from++) {
        global const float *plane = in + (image * CHANNELS + from) * EDGE * EDGE;
        global const float *w = weights + (to * CHANNELS + from) * 9;
        for (int dy = 0; dy < 3; dy++)
            for (int dx = 0; dx < 3; dx++) {
                int sx = x + dx - 1, sy = y + dy - 1;
                if (sx >= 0 && sx < EDGE && sy >= 0 && sy < EDGE) sum += plane[sy * EDGE + sx] * w[dy * 3 + dx];
            }
    }
    out[(image * CHANNELS + to) * EDGE * EDGE + pixel] = sum;
}
