"""cuRAND: the generators of its header, and the PTX that its library carries."""

import ctypes
import pathlib
import subprocess

import numpy as np
import pytest
from compilers import HERE, ROOT, module
from driver import Buffer, Error, Module, call, launch

COUNT = 200


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The same text for the host."""
    out = tmp_path_factory.mktemp("curand") / "curand.so"
    source = HERE / "curand.cu"
    words = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w", "-DQUALIFIERS=static inline", f"-I{ROOT}/include"]
    subprocess.run(["g++", "-x", "c++", *words, "-o", out, source], check=True, capture_output=True, text=True)
    return ctypes.CDLL(str(out))


@pytest.mark.parametrize("compiler", ["nvcc", "nvrtc"])
@pytest.mark.parametrize("generator", ["xorwow", "mrg", "philox"])
def test_header(compiler, generator, host):
    kinds = ((4, np.uint32), (3, np.float32), (2, np.float64))
    made = [Buffer(np.zeros((COUNT, width), kind)) for width, kind in kinds]
    launch(module(compiler, "curand.cu").function(generator), 2, 128, *made, COUNT)
    wanted = [np.zeros((COUNT, width), kind) for width, kind in kinds]
    for i in range(COUNT):
        getattr(host, generator)(*(w.ctypes.data_as(ctypes.c_void_p) for w in wanted), i)
    np.testing.assert_array_equal(made[0].read(), wanted[0])
    for got, want in zip(made[1:], wanted[1:]):
        np.testing.assert_allclose(got.read(), want, rtol=2e-5, atol=2e-6)


def containers():
    """The fat binaries within the library: each begins with a word that nothing else has."""
    path = next((ROOT / "lib").glob("libcurand.so.*"))
    data, magic = path.read_bytes(), bytes.fromhex("50ed55ba01001000")
    at, found = data.find(magic), []
    while at >= 0:
        size = int.from_bytes(data[at + 8 : at + 16], "little") + 16
        found.append(data[at : at + size])
        at = data.find(magic, at + size)
    return found


PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_library(part):
    """Every kernel of the PTX among them can be compiled."""
    kernels, refused = 0, []
    for image in containers()[part::PARTS]:
        try:
            module = Module(image)
        except Error as error:
            # Most of them are machine code alone.
            assert "NO_BINARY_FOR_GPU" in str(error)
            continue
        for name, kernel in module.functions():
            kernels += 1
            try:
                call("cuFuncLoad", kernel)
            except Error as error:
                refused.append(f"{name}: {error}")
    assert kernels and not refused, refused
