// The OpenCL side, on PoCL.
#define CL_TARGET_OPENCL_VERSION 120
#include "bench.hpp"

#include <CL/cl.h>
#include <cstring>

namespace {

void check(cl_int error, const char *what) {
    if (error != CL_SUCCESS) fail(std::string(what) + ": OpenCL error " + std::to_string(error));
}

cl_platform_id pocl() {
    cl_platform_id platforms[16];
    cl_uint count = 0;
    clGetPlatformIDs(16, platforms, &count);
    for (cl_uint at = 0; at < count && at < 16; at++) {
        char name[256] = "";
        clGetPlatformInfo(platforms[at], CL_PLATFORM_NAME, sizeof name, name, nullptr);
        if (strcmp(name, "Portable Computing Language") == 0) return platforms[at];
    }
    fail("PoCL is not among the OpenCL platforms (Debian: apt install pocl-opencl-icd)");
}

struct OpenCl : Side {
    cl_context context;
    cl_command_queue queue;
    cl_program program;
    cl_kernel kernel;
    std::vector<cl_mem> buffers;
    std::vector<size_t> words;
    size_t global[3], local[3];

    explicit OpenCl(const std::string &sources) {
        cl_device_id device;
        cl_int error;
        check(clGetDeviceIDs(pocl(), CL_DEVICE_TYPE_CPU, 1, &device, nullptr), "clGetDeviceIDs");
        context = clCreateContext(nullptr, 1, &device, nullptr, nullptr, &error);
        check(error, "clCreateContext");
        queue = clCreateCommandQueue(context, device, 0, &error);
        check(error, "clCreateCommandQueue");
        const std::string text = read_file(sources + "/kernels.cl");
        const char *start = text.c_str();
        program = clCreateProgramWithSource(context, 1, &start, nullptr, &error);
        check(error, "clCreateProgramWithSource");
        check(clBuildProgram(program, 1, &device, "-cl-fast-relaxed-math", nullptr, nullptr), "clBuildProgram");
    }

    void prepare(const Kernel &what, const std::vector<std::vector<uint32_t>> &data) override {
        cl_int error;
        kernel = clCreateKernel(program, what.name.c_str(), &error);
        check(error, "clCreateKernel");
        cl_uint at = 0;
        for (const auto &bytes : data) {
            buffers.push_back(clCreateBuffer(context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, bytes.size() * 4,
                                             const_cast<uint32_t *>(bytes.data()), &error));
            check(error, "clCreateBuffer");
            words.push_back(bytes.size());
            check(clSetKernelArg(kernel, at++, sizeof(cl_mem), &buffers.back()), "clSetKernelArg");
        }
        for (const auto &scalar : what.scalars)
            std::visit([&](auto value) { check(clSetKernelArg(kernel, at++, sizeof value, &value), "clSetKernelArg"); }, scalar);
        for (int axis = 0; axis < 3; axis++) {
            local[axis] = what.block[axis];
            global[axis] = size_t(what.grid[axis]) * what.block[axis];
        }
    }
    void launch() override {
        check(clEnqueueNDRangeKernel(queue, kernel, 3, nullptr, global, local, 0, nullptr, nullptr), "clEnqueueNDRangeKernel");
        check(clFinish(queue), "clFinish");
    }
    std::vector<uint32_t> read(size_t buffer) override {
        std::vector<uint32_t> data(words[buffer]);
        check(clEnqueueReadBuffer(queue, buffers[buffer], CL_TRUE, 0, data.size() * 4, data.data(), 0, nullptr, nullptr),
              "clEnqueueReadBuffer");
        return data;
    }
};

} // namespace

std::unique_ptr<Side> make_side(const std::string &sources) { return std::make_unique<OpenCl>(sources); }
