// What the programs of the three sides share: a table of kernels, and what a side has to be able to do.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

using Dim = std::array<uint32_t, 3>;
using Scalar = std::variant<uint32_t, float>;

struct Buffer {
    size_t words; // of 32 bits
    enum Fill { Zero, Unit, Bytes } fill; // Unit: floats from `low` to `high`; Bytes: random bits
    float low = 0, high = 1;
};

// Arguments of a kernel are its buffers, then its scalars; the same on every side.
struct Kernel {
    std::string name;
    std::vector<Buffer> buffers;
    std::vector<Scalar> scalars;
    Dim grid, block;
    size_t output;             // which buffer is compared
    bool integers = false;     // holds u32, not floats
    bool foreign = false;      // on the device side it comes from a file of its own, which says its grid and block
};

struct Side {
    virtual ~Side() = default;
    virtual void prepare(const Kernel &kernel, const std::vector<std::vector<uint32_t>> &data) = 0;
    virtual void launch() = 0; // and wait
    virtual std::vector<uint32_t> read(size_t buffer) = 0;
};

// Each program has one.
std::unique_ptr<Side> make_side(const std::string &sources);

[[noreturn]] void fail(const std::string &message);
std::string read_file(const std::string &path);
