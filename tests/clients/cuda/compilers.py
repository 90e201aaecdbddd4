"""pip's nvcc and nvrtc: CUDA C++ of this folder to an image for the driver."""

import ctypes
import functools
import pathlib
import subprocess
import tempfile
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p

import nvidia
from driver import Module

HERE = pathlib.Path(__file__).parent
ROOT = next(path for path in map(pathlib.Path, nvidia.__path__) for path in [path / "cu13"] if path.is_dir())
OPTIONS = ["-std=c++17", "--expt-relaxed-constexpr"]


def nvcc(name, *options):
    """A fat binary with PTX, as in a program."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.fatbin"
        command = [ROOT / "bin/nvcc", "-fatbin", "-gencode=arch=compute_80,code=compute_80", *OPTIONS, *options, "-o", out, HERE / name]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return out.read_bytes()


def nvrtc(name, *options):
    """PTX, by the library."""
    library = ctypes.CDLL(str(next((ROOT / "lib").glob("libnvrtc.so.*"))))
    program, size = c_void_p(), c_size_t()
    source = (HERE / name).read_bytes()
    includes = [f"-I{ROOT}/include", f"-I{ROOT}/include/cccl", f"-I{HERE}"]
    words = [*includes, "-arch=compute_86", "-std=c++17", "-default-device", *options]
    words = (c_char_p * len(words))(*(word.encode() for word in words))
    assert library.nvrtcCreateProgram(byref(program), c_char_p(source), name.encode(), c_int(0), None, None) == 0
    failed = library.nvrtcCompileProgram(program, len(words), words)
    library.nvrtcGetProgramLogSize(program, byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    library.nvrtcGetPTXSize(program, byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    library.nvrtcGetPTX(program, ptx)
    return ptx.value


MAKE = {
    "nvcc": nvcc,
    "debug": lambda name: nvcc(name, "-G"),
    "fast": lambda name: nvcc(name, "-use_fast_math"),
    "nvrtc": nvrtc,
}


@functools.cache
def module(compiler, name):
    return Module(MAKE[compiler](name))
