// The same in C++: parts of the work go to all threads, the inner loops are left to the compiler.
#include "bench.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace {

struct Arguments {
    std::vector<std::vector<uint32_t>> buffers;
    std::vector<Scalar> scalars;

    float *floats(size_t at) { return reinterpret_cast<float *>(buffers[at].data()); }
    uint32_t *words(size_t at) { return buffers[at].data(); }
    uint32_t count(size_t at) const { return std::get<uint32_t>(scalars[at]); }
    float real(size_t at) const { return std::get<float>(scalars[at]); }
};

void saxpy(Arguments &the) {
    const float *x = the.floats(0), a = the.real(0);
    float *y = the.floats(1);
    const int n = int(the.count(1));
#pragma omp parallel for
    for (int i = 0; i < n; i++) y[i] = a * x[i] + y[i];
}

void reduction(Arguments &the) {
    const int part = int(the.count(0)), parts = int(the.buffers[1].size());
#pragma omp parallel for
    for (int at = 0; at < parts; at++) {
        const float *mine = the.floats(0) + size_t(at) * part;
        float sum = 0;
        for (int i = 0; i < part; i++) sum += mine[i];
        the.floats(1)[at] = sum;
    }
}

void sgemm(Arguments &the) {
    constexpr int TILE = 64;
    const int n = int(the.count(0));
    const float *a = the.floats(0), *b = the.floats(1);
    float *c = the.floats(2);
#pragma omp parallel for schedule(dynamic)
    for (int rows = 0; rows < n; rows += TILE)
        for (int columns = 0; columns < n; columns += TILE) {
            float sums[TILE][TILE] = {};
            for (int tile = 0; tile < n; tile += TILE)
                for (int y = 0; y < TILE; y++)
                    for (int k = tile; k < tile + TILE; k++) {
                        const float factor = a[(rows + y) * n + k];
                        for (int x = 0; x < TILE; x++) sums[y][x] += factor * b[k * n + columns + x];
                    }
            for (int y = 0; y < TILE; y++) memcpy(c + (rows + y) * n + columns, sums[y], sizeof sums[y]);
        }
}

void nbody(Arguments &the) {
    const int n = int(the.count(0)), targets = int(the.buffers[1].size() / 4);
    const float softening = the.real(1);
    const float *body = the.floats(0);
    // A tile as four arrays, so that its bodies fill vectors.
    constexpr int TILE = 1024;
#pragma omp parallel
    {
        std::vector<float> x(TILE), y(TILE), z(TILE), mass(TILE);
#pragma omp for
        for (int first = 0; first < targets; first += 64) {
            float sums[64][3] = {};
            for (int start = 0; start < n; start += TILE) {
                for (int j = 0; j < TILE; j++) {
                    const float *other = body + 4 * (start + j);
                    x[j] = other[0], y[j] = other[1], z[j] = other[2], mass[j] = other[3];
                }
                for (int i = 0; i < 64; i++) {
                    const float *me = body + 4 * (first + i);
                    float fx = 0, fy = 0, fz = 0;
                    for (int j = 0; j < TILE; j++) {
                        const float dx = x[j] - me[0], dy = y[j] - me[1], dz = z[j] - me[2];
                        const float inverse = 1.0f / sqrtf(dx * dx + dy * dy + dz * dz + softening);
                        const float pull = mass[j] * inverse * inverse * inverse;
                        fx += dx * pull, fy += dy * pull, fz += dz * pull;
                    }
                    sums[i][0] += fx, sums[i][1] += fy, sums[i][2] += fz;
                }
            }
            for (int i = 0; i < 64; i++) memcpy(the.floats(1) + 4 * (first + i), sums[i], sizeof sums[i]);
        }
    }
}

inline float normal(float d) {
    const float k = 1.0f / (1.0f + 0.2316419f * fabsf(d));
    const float sum = k * (0.31938153f + k * (-0.356563782f + k * (1.781477937f + k * (-1.821255978f + k * 1.330274429f))));
    const float tail = 0.39894228040143267794f * expf(-0.5f * d * d) * sum;
    return d > 0 ? 1.0f - tail : tail;
}

void black_scholes(Arguments &the) {
    const float *price = the.floats(0), *strike = the.floats(1), *years = the.floats(2);
    float *call = the.floats(3), *put = the.floats(4);
    const float rate = the.real(0), volatility = the.real(1);
    const int n = int(the.count(2));
#pragma omp parallel for
    for (int i = 0; i < n; i++) {
        const float s = price[i], x = strike[i], t = years[i];
        const float root = sqrtf(t);
        const float d1 = (logf(s / x) + (rate + 0.5f * volatility * volatility) * t) / (volatility * root);
        const float d2 = d1 - volatility * root;
        const float n1 = normal(d1), n2 = normal(d2), discount = x * expf(-rate * t);
        call[i] = s * n1 - discount * n2;
        put[i] = discount * (1.0f - n2) - s * (1.0f - n1);
    }
}

void histogram(Arguments &the) {
    const uint32_t *words = the.words(0);
    uint32_t *out = the.words(1);
    const int n = int(the.count(0));
#pragma omp parallel
    {
        uint32_t bins[256] = {};
#pragma omp for
        for (int i = 0; i < n; i++) {
            const uint32_t word = words[i];
            bins[word & 255]++, bins[word >> 8 & 255]++, bins[word >> 16 & 255]++, bins[word >> 24]++;
        }
#pragma omp critical
        for (int i = 0; i < 256; i++) out[i] += bins[i];
    }
}

void stencil(Arguments &the) {
    const float *in = the.floats(0);
    float *out = the.floats(1);
    const int nx = int(the.count(0)), ny = int(the.count(1)), nz = int(the.count(2)), plane = nx * ny;
#pragma omp parallel for
    for (int z = 1; z < nz - 1; z++)
        for (int y = 1; y < ny - 1; y++)
            for (int at = z * plane + y * nx + 1; at < z * plane + y * nx + nx - 1; at++)
                out[at] = 0.4f * in[at] +
                          0.1f * (in[at - plane] + in[at + plane] + in[at - 1] + in[at + 1] + in[at - nx] + in[at + nx]);
}

void mandelbrot(Arguments &the) {
    const int width = int(the.count(0)), height = int(the.count(1));
    const uint32_t limit = the.count(2);
#pragma omp parallel for schedule(dynamic)
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const float cr = -2.2f + 3.2f * float(x) / float(width), ci = -1.2f + 2.4f * float(y) / float(height);
            float r = 0, i = 0;
            uint32_t n = 0;
            while (n < limit && r * r + i * i < 4.0f) {
                const float next = r * r - i * i + cr;
                i = 2.0f * r * i + ci;
                r = next;
                n++;
            }
            the.words(0)[y * width + x] = n;
        }
}

void fma_chain(Arguments &the) {
    constexpr int PART = 128;
    const float *in = the.floats(0), a = the.real(0), b = the.real(1);
    float *out = the.floats(1);
    const int steps = int(the.count(2)), n = int(the.count(3));
#pragma omp parallel for
    for (int start = 0; start < n; start += PART) {
        float v[PART];
        memcpy(v, in + start, sizeof v);
        for (int k = 0; k < steps; k++)
            for (int i = 0; i < PART; i++) v[i] = v[i] * a + b;
        memcpy(out + start, v, sizeof v);
    }
}

void conv2d(Arguments &the) {
    constexpr int CHANNELS = 32, EDGE = 64;
    const float *in = the.floats(1), *weights = the.floats(2);
    float *out = the.floats(0);
    const int planes = int(the.buffers[0].size()) / (EDGE * EDGE);
#pragma omp parallel for
    for (int at = 0; at < planes; at++) {
        const int image = at / CHANNELS, to = at % CHANNELS;
        float *plane = out + at * EDGE * EDGE;
        std::fill(plane, plane + EDGE * EDGE, 0.0f);
        for (int from = 0; from < CHANNELS; from++) {
            const float *source = in + (image * CHANNELS + from) * EDGE * EDGE;
            const float *w = weights + (to * CHANNELS + from) * 9;
            for (int y = 0; y < EDGE; y++)
                for (int dy = std::max(0, 1 - y); dy < std::min(3, EDGE + 1 - y); dy++) {
                    const float *row = source + (y + dy - 1) * EDGE;
                    const float left = w[3 * dy], middle = w[3 * dy + 1], right = w[3 * dy + 2];
                    float *sums = plane + y * EDGE;
                    sums[0] += middle * row[0] + right * row[1];
                    for (int x = 1; x < EDGE - 1; x++) sums[x] += left * row[x - 1] + middle * row[x] + right * row[x + 1];
                    sums[EDGE - 1] += left * row[EDGE - 2] + middle * row[EDGE - 1];
                }
        }
    }
}

const std::pair<const char *, void (*)(Arguments &)> functions[] = {
    {"saxpy", saxpy},         {"reduction", reduction}, {"sgemm", sgemm},
    {"nbody", nbody},         {"black_scholes", black_scholes}, {"histogram", histogram},
    {"stencil", stencil},     {"mandelbrot", mandelbrot}, {"fma_chain", fma_chain},
    {"conv2d", conv2d},
};

struct Native : Side {
    Arguments arguments;
    void (*function)(Arguments &) = nullptr;

    void prepare(const Kernel &kernel, const std::vector<std::vector<uint32_t>> &data) override {
        arguments = {data, kernel.scalars};
        for (auto [name, found] : functions)
            if (kernel.name == name) function = found;
        if (!function) fail("there is no C++ for " + kernel.name);
    }
    void launch() override { function(arguments); }
    std::vector<uint32_t> read(size_t buffer) override { return arguments.buffers[buffer]; }
};

} // namespace

std::unique_ptr<Side> make_side(const std::string &) { return std::make_unique<Native>(); }
