"""The CUDA driver API by ctypes, as far as a small host program needs it."""

import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p

import numpy as np

_cuda = ctypes.CDLL("libcuda.so.1")


class Error(Exception):
    pass


def call(name, *arguments):
    code = getattr(_cuda, name)(*arguments)
    if code:
        text = c_char_p()
        _cuda.cuGetErrorName(code, byref(text))
        raise Error(f"{name}: {(text.value or b'?').decode()}")


class Buffer:
    """Device memory with an array's bytes in it."""

    def __init__(self, array):
        self.like = np.ascontiguousarray(array)
        self.pointer = c_uint64()
        call("cuMemAlloc_v2", byref(self.pointer), c_size_t(max(self.like.nbytes, 1)))
        call("cuMemcpyHtoD_v2", self.pointer, self.like.ctypes.data_as(c_void_p), c_size_t(self.like.nbytes))

    def read(self):
        array = np.empty_like(self.like)
        call("cuMemcpyDtoH_v2", array.ctypes.data_as(c_void_p), self.pointer, c_size_t(array.nbytes))
        return array


class Module:
    def __init__(self, image):
        """PTX as text, or a fat binary."""
        self.handle = c_void_p()
        image = image.encode() if isinstance(image, str) else image
        call("cuModuleLoadData", byref(self.handle), c_char_p(image + b"\0"))

    def function(self, name):
        function = c_void_p()
        call("cuModuleGetFunction", byref(function), self.handle, name.encode())
        return function

    def global_(self, name):
        address, size = c_uint64(), c_size_t()
        call("cuModuleGetGlobal_v2", byref(address), byref(size), self.handle, name.encode())
        return address, size.value

    def functions(self):
        """All kernels, with their names."""
        count = c_uint()
        call("cuModuleGetFunctionCount", byref(count), self.handle)
        handles = (c_void_p * count.value)()
        call("cuModuleEnumerateFunctions", handles, count, self.handle)
        named = []
        for handle in handles:
            name = c_char_p()
            call("cuFuncGetName", byref(name), c_void_p(handle))
            named.append((name.value.decode(), c_void_p(handle)))
        return named


def argument(value):
    """What a kernel's parameter points at: buffers pass their pointers, Python's int is a 32-bit one."""
    if isinstance(value, Buffer):
        return value.pointer
    if isinstance(value, np.generic):
        return value.tobytes()
    if isinstance(value, int):
        return c_int(value)
    return value


def launch(function, grid, block, *arguments, shared=0, cooperative=False):
    """Starts a kernel and waits for it."""
    values = [argument(value) for value in arguments]
    values = [(ctypes.c_char * len(v)).from_buffer_copy(v) if isinstance(v, bytes) else v for v in values]
    places = (c_void_p * max(len(values), 1))(*(ctypes.addressof(value) for value in values))
    sizes = [c_uint(n) for size in (grid, block) for n in (*(size if isinstance(size, tuple) else (size,)), 1, 1)[:3]]
    if shared > 48 << 10:
        call("cuFuncSetAttribute", function, c_int(8), c_int(shared))
    tail = (c_uint(shared), None, places)
    if cooperative:
        call("cuLaunchCooperativeKernel", function, *sizes, *tail)
    else:
        call("cuLaunchKernel", function, *sizes, *tail, None)
    call("cuCtxSynchronize")


def begin():
    """A context on the first device."""
    device, context = c_int(), c_void_p()
    call("cuInit", 0)
    call("cuDeviceGet", byref(device), 0)
    call("cuDevicePrimaryCtxRetain", byref(context), device)
    call("cuCtxSetCurrent", context)


begin()
