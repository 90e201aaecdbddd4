"""tinygrad's tensor API on the CUDA device beside its own CPU backend."""

import ast
import os
import re

import cases
import inputs
import numpy as np
import pytest
from tinygrad import Context, Device, Tensor, dtypes

CUDA = os.environ["CLIENT_DEVICE"]
# Its PTX renderer has one text for all floats.
NO_PTX = re.compile(r"`((?:sqrt|ex2|lg2|sin|rcp)\.approx\.f64)`")
# (absolute, relative): the devices' approximations differ, and so does the order of their sums.
TOLERANCE = {
    dtypes.half: (1e-2, 1e-2),
    dtypes.bfloat16: (5e-2, 5e-2),
    dtypes.float: (2e-5, 1e-3),
    dtypes.double: (1e-7, 1e-6),
}


def supported(dtype):
    for device in (CUDA, "CPU"):
        with Context(DEV=device):
            if dtype not in Device[Device.DEFAULT].renderer.supported_dtypes():
                return False
    return True


SUPPORTED = [dtype for dtype in (*inputs.ALL, *inputs.FP8) if supported(dtype)]


def on(device, function, operands):
    """What a function makes of the operands there, as (dtype, values)."""
    with Context(DEV=device):
        results = function(*(inputs.tensor(*operand) for operand in operands))
        read = []
        for t in results if isinstance(results, (tuple, list)) else (results,):
            wide = t.cast(dtypes.float) if t.dtype in (dtypes.bfloat16, *inputs.FP8) else t
            read.append((t.dtype, wide.numpy()))
        return read


def agree(name, function, operands):
    for (dtype, got), (wanted_dtype, wanted) in zip(on(CUDA, function, operands), on("CPU", function, operands), strict=True):
        assert dtype == wanted_dtype and got.shape == wanted.shape
        # What the case computed in may be narrower than what it returns.
        narrow = [t for _, t in operands if t in TOLERANCE] + [dtype]
        absolute, relative = max((TOLERANCE.get(t, (0, 0)) for t in narrow))
        if not dtypes.is_float(dtype):
            np.testing.assert_array_equal(got, wanted, err_msg=name)
        else:
            np.testing.assert_allclose(got, wanted, atol=absolute, rtol=relative, err_msg=name)


RUNS = [(case, dtype) for case in cases.CASES for dtype in case.types if dtype in SUPPORTED]


@pytest.mark.parametrize("case, dtype", RUNS, ids=[f"{case.name}-{dtype.name}" for case, dtype in RUNS])
def test_case(case, dtype, driver_said):
    rng = inputs.generator(case.name)
    try:
        agree(case.name, case.function, [operand.values(rng, dtype) for operand in case.operands])
    except RuntimeError as error:
        unknown = NO_PTX.search(driver_said())
        if unknown and "PTX" in str(error):
            pytest.skip(f"tinygrad writes {unknown[1]}, which PTX does not have")
        raise


@pytest.mark.parametrize("source", SUPPORTED, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("target", SUPPORTED, ids=lambda dtype: dtype.name)
def test_cast(source, target):
    signed = source not in inputs.UNSIGNED and target not in inputs.UNSIGNED
    operand = inputs.Of(129, low=-100 if signed else 0, high=100).values(inputs.generator("cast"), source)
    functions = [lambda t: t.cast(target)]
    # Any bits as a number of few are as likely to be no number: those are compared as bits.
    if source.itemsize == target.itemsize and not dtypes.is_float(target) and dtypes.bool not in (source, target):
        functions.append(lambda t: t.bitcast(target))
    for function in functions:
        agree("cast", function, [operand])


def test_every_name_has_a_case():
    """A name of the API is in a case, or is said to be no operation."""
    words = set()
    for file in (cases.__file__, __file__):
        for node in ast.walk(ast.parse(open(file).read())):
            if isinstance(node, ast.Attribute):
                words.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.update(node.value.split())
    assert {name for name in dir(Tensor) if not name.startswith("_")} - words == set()


@pytest.mark.parametrize("captured", [False, True], ids=["once", "captured"])
def test_jit(captured):
    """Several kernels, again and again: the third call is a graph's launch."""
    from tinygrad import TinyJit

    def step(x, w):
        return ((x @ w).relu() + x).softmax().realize()

    def steps(x, w):
        run = TinyJit(step) if captured else step
        for _ in range(5):
            x = run(x.contiguous().realize(), w).clone().realize()
        return x

    rng = inputs.generator("jit")
    agree("jit", steps, [inputs.Of(16, 16).values(rng, dtypes.float) for _ in range(2)])
