"""A launch and a graph of two launches of a kernel, and how many milliseconds that took until the stream was done."""

import ctypes
import time

cuda = ctypes.CDLL("libcuda.so.1")
PTX = b".version 6.5\n.target sm_50\n.address_size 64\n.visible .entry slow(.param .u32 n) { ret; }\n\0"


class Node(ctypes.Structure):
    _fields_ = [
        ("function", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("params", ctypes.POINTER(ctypes.c_void_p)),
        ("extra", ctypes.c_void_p),
        ("kernel", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
    ]


def check(result):
    assert result == 0, f"CUDA error {result}"


def made(call, *arguments):
    place = ctypes.c_void_p()
    check(call(ctypes.byref(place), *arguments))
    return place


check(cuda.cuInit(0))
context = made(cuda.cuCtxCreate_v2, 0, 0)
kernel = made(cuda.cuModuleGetFunction, made(cuda.cuModuleLoadData, PTX), b"slow")
stream = made(cuda.cuStreamCreate, 1)
params = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(ctypes.c_uint(1)), ctypes.c_void_p))
graph = made(cuda.cuGraphCreate, 0)
node = Node(kernel, (1, 1, 1), (1, 1, 1), 0, params)
first = made(cuda.cuGraphAddKernelNode_v2, graph, None, ctypes.c_size_t(0), ctypes.byref(node))
last = made(cuda.cuGraphAddKernelNode_v2, graph, ctypes.byref(first), ctypes.c_size_t(1), ctypes.byref(node))
executable = made(cuda.cuGraphInstantiateWithFlags, graph, ctypes.c_ulonglong(0))
check(cuda.cuStreamSynchronize(stream))

began = time.perf_counter()
check(cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, params, None))
check(cuda.cuGraphLaunch(executable, stream))
check(cuda.cuStreamSynchronize(stream))
print(1000 * (time.perf_counter() - began))
check(cuda.cuGraphExecDestroy(executable))
check(cuda.cuGraphDestroy(graph))
check(cuda.cuCtxSynchronize())
