"""cuda.bindings.nvrtc: compiling, what it says, and what the driver makes of the result."""

import numpy as np
import pytest
from cuda.bindings import driver, nvrtc
from calls import check

SOURCE = b"""
#ifndef FACTOR
#define FACTOR 2
#endif
template <int N> __global__ void scaled(int *out) { out[threadIdx.x] = N * FACTOR * threadIdx.x; }
__device__ int shared_by_all;
"""


def made(result):
    assert result[0] == nvrtc.nvrtcResult.NVRTC_SUCCESS, result[0]
    return result[1] if len(result) == 2 else result[1:]


def compiled(source, options=(), expressions=()):
    program = made(nvrtc.nvrtcCreateProgram(source, b"it.cu", 0, [], []))
    for expression in expressions:
        nvrtc.nvrtcAddNameExpression(program, expression)
    code = nvrtc.nvrtcCompileProgram(program, len(options), list(options))[0]
    log = b" " * made(nvrtc.nvrtcGetProgramLogSize(program))
    nvrtc.nvrtcGetProgramLog(program, log)
    if code != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        return program, code, log
    ptx = b" " * made(nvrtc.nvrtcGetPTXSize(program))
    nvrtc.nvrtcGetPTX(program, ptx)
    return program, ptx, log


def test_versions():
    major, minor = made(nvrtc.nvrtcVersion())
    assert (major, minor) >= (12, 0)
    architectures = made(nvrtc.nvrtcGetSupportedArchs())
    assert 80 in architectures and sorted(architectures) == list(architectures)


def test_errors_are_told():
    _, code, log = compiled(b"__global__ void broken() { nonsense; }")
    assert code == nvrtc.nvrtcResult.NVRTC_ERROR_COMPILATION and b"nonsense" in log
    assert nvrtc.nvrtcGetErrorString(code)[1] == b"NVRTC_ERROR_COMPILATION"


@pytest.mark.parametrize("arch", [75, 80, 86])
@pytest.mark.parametrize("factor", [2, 5])
def test_what_it_makes_runs(context, arch, factor):
    program, ptx, _ = compiled(SOURCE, [b"-arch=compute_%d" % arch, b"-DFACTOR=%d" % factor, b"-std=c++17"], [b"scaled<3>"])
    name = made(nvrtc.nvrtcGetLoweredName(program, b"scaled<3>"))
    module = check(driver.cuModuleLoadData(ptx))
    function = check(driver.cuModuleGetFunction(module, name))
    out = check(driver.cuMemAlloc(4 * 64))
    check(driver.cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, 0, ((out,), (None,)), 0))
    values = np.empty(64, np.int32)
    check(driver.cuMemcpyDtoH(values.ctypes.data, out, values.nbytes))
    np.testing.assert_array_equal(values, 3 * factor * np.arange(64))
    check(driver.cuMemFree(out))
    check(driver.cuModuleUnload(module))
    nvrtc.nvrtcDestroyProgram(program)


def test_machine_code_is_an_nvidia_drivers(context):
    """nvrtc makes it; softgpu runs PTX alone, and says so."""
    program, _, _ = compiled(SOURCE, [b"-arch=sm_86"], [b"scaled<1>"])
    cubin = b" " * made(nvrtc.nvrtcGetCUBINSize(program))
    nvrtc.nvrtcGetCUBIN(program, cubin)
    assert cubin.startswith(b"\x7fELF")
    assert driver.cuModuleLoadData(cubin)[0] == driver.CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU
