// Runs one kernel on the side that this program is linked with: `PROGRAM SOURCES KERNEL SECONDS RESULT`. The first launch
// gives the result, which goes to RESULT as floats; then launches follow until the time is over. Prints seconds a launch.
#include "bench.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

void fail(const std::string &message) {
    fprintf(stderr, "%s\n", message.c_str());
    exit(1);
}

std::string read_file(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) fail("cannot read " + path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

// All data lie beyond a cache of 2 MiB.
static std::vector<Kernel> kernels() {
    using enum Buffer::Fill;
    constexpr uint32_t MEGA = 1 << 20;
    auto floats = [&](size_t words, float low = 0, float high = 1) { return Buffer{words, Unit, low, high}; };
    auto zero = [](size_t words) { return Buffer{words, Zero}; };
    const uint32_t edge = 768, bodies = 160 << 10, targets = 2048, options = 2 * MEGA, side = 256, depth = 64;
    const uint32_t batch = 8, channels = 32, image = 64;
    return {
        {"saxpy", {floats(4 * MEGA), floats(4 * MEGA)}, {2.5f, 4 * MEGA}, {4 * MEGA / 256, 1, 1}, {256, 1, 1}, 1},
        {"reduction", {floats(8 * MEGA), zero(512)}, {8 * MEGA / 512}, {512, 1, 1}, {256, 1, 1}, 1},
        {"sgemm", {floats(edge * edge), floats(edge * edge), zero(edge * edge)}, {edge},
         {edge / 16, edge / 16, 1}, {16, 16, 1}, 2},
        {"nbody", {floats(4 * bodies, -1, 1), zero(4 * targets)}, {bodies, 1e-3f}, {targets / 256, 1, 1}, {256, 1, 1}, 1},
        {"black_scholes", {floats(options, 5, 30), floats(options, 1, 100), floats(options, 0.25, 10), zero(options), zero(options)},
         {0.02f, 0.30f, options}, {options / 128, 1, 1}, {128, 1, 1}, 3},
        {"histogram", {Buffer{2 * MEGA, Bytes}, zero(256)}, {2 * MEGA}, {240, 1, 1}, {256, 1, 1}, 1, true},
        {"stencil", {floats(side * side * depth), zero(side * side * depth)}, {side, side, depth},
         {side / 32, side / 8, 1}, {32, 8, 1}, 1},
        {"mandelbrot", {zero(1024 * 768)}, {1024u, 768u, 256u}, {1024 / 16, 768 / 16, 1}, {16, 16, 1}, 0, true},
        {"fma_chain", {floats(MEGA), zero(MEGA)}, {0.999f, 0.001f, 512u, MEGA}, {MEGA / 256, 1, 1}, {256, 1, 1}, 1},
        {"conv2d", {zero(batch * channels * image * image), floats(batch * channels * image * image, -1, 1),
                    floats(channels * channels * 9, -1, 1)},
         {}, {image * image / 256, channels, batch}, {256, 1, 1}, 0, false, true},
    };
}

static std::vector<uint32_t> fill(const Buffer &buffer, uint32_t seed) {
    std::vector<uint32_t> words(buffer.words);
    uint32_t state = 0x9e3779b9u * (seed + 1);
    for (auto &word : words) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5;
        switch (buffer.fill) {
        case Buffer::Zero: word = 0; break;
        case Buffer::Bytes: word = state * 0x85ebca6bu; break;
        case Buffer::Unit:
            float value = buffer.low + (buffer.high - buffer.low) * float(state >> 8) / float(1 << 24);
            memcpy(&word, &value, 4);
        }
    }
    return words;
}

int main(int count, char **arguments) {
    if (count != 5) fail("usage: PROGRAM SOURCES KERNEL SECONDS RESULT");
    const std::string name = arguments[2];
    const double least = atof(arguments[3]);
    for (const auto &kernel : kernels()) {
        if (kernel.name != name) continue;
        std::vector<std::vector<uint32_t>> data;
        for (const auto &buffer : kernel.buffers) data.push_back(fill(buffer, data.size()));
        auto side = make_side(arguments[1]);
        side->prepare(kernel, data);
        side->launch();
        auto words = side->read(kernel.output);
        if (kernel.integers)
            for (auto &word : words) {
                float value = float(word);
                memcpy(&word, &value, 4);
            }
        std::ofstream result(arguments[4], std::ios::binary);
        result.write(reinterpret_cast<const char *>(words.data()), std::streamsize(words.size() * 4));
        if (!result.flush()) fail("cannot write the result");
        const auto began = std::chrono::steady_clock::now();
        double taken = 0;
        int launches = 0;
        while (taken < least) {
            side->launch();
            launches++;
            taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
        }
        printf("%.9f\n", taken / launches);
        return 0;
    }
    fail("there is no kernel " + name);
}
