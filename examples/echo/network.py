"""The network in tinygrad, on whatever device `DEV` names: four strided 3x3 convolutions, a mean over the picture, one linear layer.

4.6 million multiply-adds a frame. Weights arrive as one copy: the data part of a safetensors file is one block of f32,
and each layer reads its slice of it.
"""

import json
import math
import struct

import numpy as np
from tinygrad import Tensor, TinyJit, dtypes
from tinygrad.device import Buffer

from clip import HEIGHT, WIDTH

MAX_WEIGHT_BYTES = 1 << 20
# Channels 1 -> 8 -> 16 -> 32 -> 64, then "head": 64 -> classes.
LAYERS = ("conv1", "conv2", "conv3", "conv4")


def read_weights(path):
    """(tensors: name -> (shape, first float), all floats, metadata) of a safetensors file of f32 tensors."""
    with open(path, "rb") as f:
        blob = f.read(MAX_WEIGHT_BYTES + 1)
    if len(blob) > MAX_WEIGHT_BYTES or len(blob) < 8:
        raise ValueError(f"{path}: {len(blob)} bytes are no weights of this network")
    (length,) = struct.unpack_from("<Q", blob)
    if length > len(blob) - 8:
        raise ValueError(f"{path}: header of {length} bytes in a file of {len(blob)}")
    header = json.loads(blob[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    # A copy, since the CUDA backend takes the address of the memory it copies from, and that of bytes cannot be had.
    floats = np.frombuffer(blob, np.float32, offset=8 + length).copy()
    tensors = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        if t["dtype"] != "F32" or begin % 4 or not 0 <= begin <= end <= floats.nbytes or end - begin != 4 * math.prod(t["shape"]):
            raise ValueError(f"{path}: tensor {name!r} is not an f32 tensor inside the file")
        tensors[name] = (t["shape"], begin // 4)
    return tensors, floats, metadata


class Network:
    """`rows` x `columns` is the size of the frames it takes (the tests use small ones)."""

    def __init__(self, path, rows=HEIGHT, columns=WIDTH):
        tensors, floats, metadata = read_weights(path)
        self.classes = json.loads(metadata["classes"])
        self._floats = Tensor(floats).realize()
        self._weights = {
            name: self._floats[first : first + math.prod(shape)].reshape(shape) for name, (shape, first) in tensors.items()
        }
        # The frame's place on the device: written before each step, so the captured graph never changes.
        self._frame = Tensor(np.zeros((1, 1, rows, columns), np.uint8)).realize()
        self._step = TinyJit(self._forward)
        # tinygrad runs the first call as it goes and captures a graph in the second.
        for _ in range(2):
            self.probabilities(np.zeros((rows, columns), np.uint8))

    def _forward(self):
        x = self._frame.cast(dtypes.float32) / 255
        for layer in LAYERS:
            # The border as an array of its own: the compiler takes half as long over convolutions that never look outside.
            x = x.pad((1, 1, 1, 1)).contiguous()
            x = x.conv2d(self._weights[f"{layer}.weight"], self._weights[f"{layer}.bias"], stride=2).relu()
        x = x.mean(axis=(2, 3)).linear(self._weights["head.weight"].transpose(), self._weights["head.bias"])
        return x.realize()

    def probabilities(self, small):
        """Class probabilities of one shrunk frame: one copy in, one graph launch, one copy out (the softmax of five numbers stays here)."""
        host = memoryview(bytearray(small.tobytes()))
        self._frame.uop.buffer.copy_from(Buffer("PYTHON", small.size, dtypes.uint8, opaque=host))
        logits = np.frombuffer(self._step().uop.buffer.as_memoryview(), np.float32).astype(np.float64)
        e = np.exp(logits - logits.max())
        return e / e.sum()
