"""PTX of kernels.cu by NVRTC: `python compile.py kernels.cu kernels.ptx`, in an environment with nvidia-cuda-nvrtc-cu12."""

import ctypes
import glob
import os
import sys
import sysconfig

OPTIONS = [b"--gpu-architecture=compute_86", b"--use_fast_math"]


def main(source, target):
    site = sysconfig.get_paths()["purelib"]
    (library,) = glob.glob(os.path.join(site, "nvidia/cuda_nvrtc/lib/libnvrtc.so.*"))
    nvrtc = ctypes.CDLL(library)

    def call(name, *arguments):
        return getattr(nvrtc, name)(*arguments)

    def text(size_of, get):
        size = ctypes.c_size_t()
        if call(size_of, program, ctypes.byref(size)):
            sys.exit(f"{size_of} failed")
        buffer = ctypes.create_string_buffer(size.value)
        if call(get, program, buffer):
            sys.exit(f"{get} failed")
        return buffer.value

    program = ctypes.c_void_p()
    with open(source, "rb") as f:
        code = f.read()
    if call("nvrtcCreateProgram", ctypes.byref(program), code, os.path.basename(source).encode(), 0, None, None):
        sys.exit("nvrtcCreateProgram failed")
    if call("nvrtcCompileProgram", program, len(OPTIONS), (ctypes.c_char_p * len(OPTIONS))(*OPTIONS)):
        sys.exit(text("nvrtcGetProgramLogSize", "nvrtcGetProgramLog").decode())
    with open(target, "wb") as f:
        f.write(text("nvrtcGetPTXSize", "nvrtcGetPTX"))


main(*sys.argv[1:])
