"""Kernels of these tests, and arrays as cuda.core's buffers."""

import functools

import numpy as np
from cuda.core import Device, LaunchConfig, LegacyPinnedMemoryResource, Program, ProgramOptions, launch

SOURCE = r"""
template <typename T> __global__ void saxpy(T a, const T *x, const T *y, T *out, size_t n) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i < n) out[i] = a * x[i] + y[i];
}
extern "C" __global__ void fill(int *out, int value, size_t n) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i < n) out[i] = value + (int)i;
}
extern "C" __global__ void add(int *out, int value, size_t n) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i < n) out[i] += value;
}
extern "C" __global__ void reversed(const int *in, int *out) {
    extern __shared__ int part[];
    part[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = part[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void scalars(char c, short s, int i, long long l, float f, double d, bool b, double *out) {
    out[0] = c, out[1] = s, out[2] = i, out[3] = l, out[4] = f, out[5] = d, out[6] = b;
}
struct box { int a; double b; short c[3]; };
extern "C" __global__ void takes(box by_value, double *out) {
    out[0] = by_value.a, out[1] = by_value.b, out[2] = by_value.c[0] + by_value.c[1] + by_value.c[2];
}
__constant__ int weights[4];
__device__ int counter;
extern "C" __global__ void weighted(int *out) {
    out[threadIdx.x] = weights[threadIdx.x & 3];
    atomicAdd(&counter, 1);
}
extern "C" __global__ void late(int *where) { *where = 1; }
"""


@functools.cache
def code(source=SOURCE, names=()):
    """Compiled by nvrtc for the first device, as PTX: machine code is an NVIDIA driver's alone."""
    options = ProgramOptions(std="c++17", arch=f"sm_{Device(0).arch}")
    return Program(source, "c++", options).compile("ptx", name_expressions=names)


def kernel(name):
    return code().get_kernel(name)


def over(count, block=128, **more):
    return LaunchConfig(grid=(count + block - 1) // block, block=block, **more)


def pinned(array):
    """The host's memory with the array's values, as a buffer; and as numpy sees it."""
    buffer = LegacyPinnedMemoryResource().allocate(array.nbytes, stream=Device().default_stream)
    view = np.from_dlpack(buffer).view(array.dtype)[: array.size]
    view[:] = array.ravel()
    return buffer, view


def sent(stream, array):
    """A device's buffer with the array's values."""
    buffer = Device().allocate(array.nbytes, stream=stream)
    source, _ = pinned(array)
    buffer.copy_from(source, stream=stream)
    stream.sync()
    source.close(stream)
    return buffer


def read(stream, buffer, dtype):
    target, view = pinned(np.zeros(buffer.size, np.uint8))
    buffer.copy_to(target, stream=stream)
    stream.sync()
    values = view.view(dtype).copy()
    target.close(stream)
    return values


def run(stream, config, name, *arguments):
    launch(stream, config, kernel(name) if isinstance(name, str) else name, *arguments)
