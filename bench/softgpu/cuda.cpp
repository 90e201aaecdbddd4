// The device side: PTX on whatever libcuda.so.1 the loader finds. Written against the driver API's documented signatures, so that no
// toolkit need be there.
//
// `PROGRAM SOURCES resident BLOCKS -` is another run: it prints the bytes of memory that a thread takes while all are resident.
#include "bench.hpp"

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <fstream>
#include <sstream>

namespace {

using Device = int;
using Handle = void *;
using Pointer = unsigned long long;

void check(int error, const char *what) {
    if (error != 0) fail(std::string(what) + ": CUDA error " + std::to_string(error));
}

template <class... Arguments> void call(const char *name, Arguments... arguments) {
    static void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) fail(dlerror());
    auto function = reinterpret_cast<int (*)(Arguments...)>(dlsym(library, name));
    if (!function) fail(std::string("libcuda.so.1 has no ") + name);
    check(function(arguments...), name);
}

struct Cuda : Side {
    std::string sources;
    Handle module = nullptr, function = nullptr;
    std::vector<Pointer> buffers;
    std::vector<size_t> words;
    std::vector<Scalar> scalars;
    std::vector<void *> parameters;
    Dim grid, block;

    explicit Cuda(const std::string &folder) : sources(folder) {
        Device device;
        Handle context;
        call("cuInit", 0u);
        call("cuDeviceGet", &device, 0);
        call("cuDevicePrimaryCtxRetain", &context, device);
        call("cuCtxSetCurrent", context);
    }

    void load(const std::string &file, const std::string &name) {
        const std::string text = read_file(file);
        call("cuModuleLoadData", &module, static_cast<const void *>(text.c_str()));
        call("cuModuleGetFunction", &function, module, name.c_str());
    }

    void prepare(const Kernel &kernel, const std::vector<std::vector<uint32_t>> &data) override {
        grid = kernel.grid, block = kernel.block;
        std::string name = kernel.name, file = sources + "/kernels.ptx";
        if (kernel.foreign) {
            std::istringstream launch(read_file(sources + "/" + kernel.name + ".launch"));
            launch >> name;
            for (auto *dim : {&grid, &block})
                for (auto &size : *dim) launch >> size;
            if (!launch) fail("the launch of " + kernel.name + " cannot be read");
            file = sources + "/" + kernel.name + ".ptx";
        }
        load(file, name);
        for (const auto &bytes : data) {
            Pointer address;
            call("cuMemAlloc_v2", &address, bytes.size() * 4);
            call("cuMemcpyHtoD_v2", address, static_cast<const void *>(bytes.data()), bytes.size() * 4);
            buffers.push_back(address);
            words.push_back(bytes.size());
        }
        scalars = kernel.scalars;
        for (auto &buffer : buffers) parameters.push_back(&buffer);
        for (auto &scalar : scalars) std::visit([&](auto &value) { parameters.push_back(&value); }, scalar);
    }
    void launch() override {
        call("cuLaunchKernel", function, grid[0], grid[1], grid[2], block[0], block[1], block[2], 0u, Handle(nullptr),
             parameters.data(), static_cast<void **>(nullptr));
        call("cuCtxSynchronize");
    }
    std::vector<uint32_t> read(size_t buffer) override {
        std::vector<uint32_t> data(words[buffer]);
        call("cuMemcpyDtoH_v2", static_cast<void *>(data.data()), buffers[buffer], data.size() * 4);
        return data;
    }
};

} // namespace

std::unique_ptr<Side> make_side(const std::string &sources) { return std::make_unique<Cuda>(sources); }
