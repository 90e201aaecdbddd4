"""Bytes of memory that one thread takes while its block is resident: `python resident.py kernels.ptx`.

All blocks of the kernel `resident` wait for each other, as many as the device says it holds at once. What the process has grown by at its
largest is theirs.
"""

import ctypes
import sys

THREADS = 256
MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT

cuda = ctypes.CDLL("libcuda.so.1")


def call(name, *arguments):
    if error := getattr(cuda, name)(*arguments):
        sys.exit(f"{name}: CUDA error {error}")


def peak():
    with open("/proc/self/status") as f:
        (line,) = [line for line in f if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def allocate(words):
    address = ctypes.c_uint64()
    call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(4 * words))
    call("cuMemsetD32_v2", address, 0, ctypes.c_size_t(words))
    return address


def main(file):
    device, count, each = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    context, module, function = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    with open(file, "rb") as f:
        text = f.read()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    call("cuModuleLoadData", ctypes.byref(module), text)
    call("cuModuleGetFunction", ctypes.byref(function), module, b"resident")
    call("cuDeviceGetAttribute", ctypes.byref(count), MULTIPROCESSORS, device)
    call("cuOccupancyMaxActiveBlocksPerMultiprocessor", ctypes.byref(each), function, THREADS, ctypes.c_size_t(0))
    blocks = count.value * each.value
    source, target = allocate(1024), allocate(blocks * THREADS)

    def launch(blocks):
        arguments = [source, target, allocate(1), ctypes.c_uint32(blocks)]
        pointers = (ctypes.c_void_p * 4)(*[ctypes.addressof(argument) for argument in arguments])
        call("cuLaunchKernel", function, blocks, 1, 1, THREADS, 1, 1, 0, None, pointers, None)
        call("cuCtxSynchronize")

    launch(1)
    before = peak()
    launch(blocks)
    print((peak() - before) / (blocks * THREADS))
    print(f"{blocks} blocks of {THREADS} threads", file=sys.stderr)


main(*sys.argv[1:])
