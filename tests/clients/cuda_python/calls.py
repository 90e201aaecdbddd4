"""The driver's functions as cuda.bindings has them: a tuple whose first is the result."""

from cuda.bindings import driver


class CudaError(Exception):
    pass


def check(result):
    """What a call gives, if it is successful."""
    code, *given = result
    if code != driver.CUresult.CUDA_SUCCESS:
        raise CudaError(code.name)
    return given[0] if len(given) == 1 else tuple(given) or None


def launched(function, grid, block, values, kinds, stream=0, shared=0):
    check(driver.cuLaunchKernel(function, grid, 1, 1, block, 1, 1, shared, stream, (tuple(values), tuple(kinds)), 0))
