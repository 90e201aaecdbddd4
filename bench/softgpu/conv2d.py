"""The kernel that tinygrad makes of a convolution: `python conv2d.py FOLDER` writes conv2d.ptx, and its name, grid and block in
conv2d.launch. Sizes and order of arguments are those of the table in main.cpp."""

import os
import sys

os.environ["DEV"] = "CUDA:PTX"

from tinygrad import Tensor  # noqa: E402
from tinygrad.runtime import ops_cuda  # noqa: E402


def main(folder):
    seen = []

    class Recorded(ops_cuda.CUDAProgram):
        def __call__(self, *args, **sizes):
            seen.append((self.name, self.lib, args, sizes["global_size"], sizes["local_size"]))
            return super().__call__(*args, **sizes)

    ops_cuda.CUDAProgram = Recorded
    image, weights = Tensor.zeros(8, 32, 64, 64).contiguous().realize(), Tensor.zeros(32, 32, 3, 3).contiguous().realize()
    seen.clear()
    out = image.conv2d(weights, padding=1).realize()
    if len(seen) != 1:
        sys.exit(f"tinygrad made {len(seen)} kernels of the convolution: {[name for name, *_ in seen]}")
    name, text, args, grid, block = seen[0]
    order = [tensor.uop.buffer.get_buf("CUDA").value for tensor in (out, image, weights)]
    if [arg.value for arg in args] != order:
        sys.exit("the kernel's arguments are not output, image, weights")
    with open(os.path.join(folder, "conv2d.ptx"), "wb") as f:
        f.write(text)
    with open(os.path.join(folder, "conv2d.launch"), "w") as f:
        print(name, *grid, *block, file=f)


main(*sys.argv[1:])
