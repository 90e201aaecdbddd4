"""The network in tinygrad, on whatever device `DEV` names: four strided 3x3 convolutions, a mean over the picture, one linear layer.

4.6 million multiply-adds a frame. Weights arrive as one copy: the data part of a safetensors file is one block of f32,
and each layer reads its slice of it.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import pickle
import struct
import sys

import numpy as np
from tinygrad import Device, Tensor, TinyJit, dtypes
from tinygrad.device import Buffer

from clip import HEIGHT, WIDTH

MAX_WEIGHT_BYTES = 1 << 20
MAX_COMPILED_BYTES = 64 << 20
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


def identity(path):
    """What a compiled network was made from: another of these makes another network, or another form of it."""

    def digest(name):
        with open(name, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()

    versions = [f"{package} {importlib.metadata.version(package)}" for package in ("tinygrad", "numpy")]
    return {
        "weights": digest(path),
        "source": digest(__file__),
        "python": sys.version,
        "packages": versions,
        "device": f"{os.environ.get('DEV', '')} {Device.DEFAULT}",
    }


def architecture():
    """The device's instruction set, as a number that grows: code for a lower one runs on a higher one. 0 where there is none."""
    name = str(getattr(Device[Device.DEFAULT], "arch", ""))
    return int(name[3:]) if name.startswith("sm_") and name[3:].isdigit() else 0


class Network:
    """`rows` x `columns` is the size of the frames it takes (the tests use small ones)."""

    compiled_ahead = False

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
            self.warm_up()

    def warm_up(self):
        self.probabilities(np.zeros(self._frame.shape[2:], np.uint8))

    def __getstate__(self):
        # The captured step holds the weights.
        return {"classes": self.classes, "_frame": self._frame, "_step": self._step}

    def save(self, file, path):
        """Writes the compiled network, made from the weights at `path`, for `open_network`."""
        body = pickle.dumps(self, protocol=5)
        head = {"identity": identity(path), "architecture": architecture(), "body": hashlib.sha256(body).hexdigest()}
        with open(file + ".part", "wb") as f:
            f.write(json.dumps(head).encode() + b"\n" + body)
        os.replace(file + ".part", file)

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


def read_compiled(compiled, path):
    """The pickle in the file `compiled`, which is whole, and made for these weights and this device."""
    with open(compiled, "rb") as f:
        head, body = json.loads(f.readline(1 << 16)), f.read(MAX_COMPILED_BYTES)
    if head["body"] != hashlib.sha256(body).hexdigest():
        raise ValueError("it is damaged")
    if differs := [name for name, value in identity(path).items() if head["identity"][name] != value]:
        raise ValueError(f"it was made with another {', '.join(differs)}")
    if head["architecture"] > architecture():
        raise ValueError("it was made for a device of a higher compute capability")
    return body


def open_network(path, compiled=None):
    """The network of the weights at `path`: the one in the file `compiled` (of build.py) if that fits, else compiled here and now.

    A pickle can run any code, so whoever may write `compiled` may do what this function may, as with its source.
    """
    if not compiled:
        return Network(path)
    try:
        body = read_compiled(compiled, path)
    except (OSError, ValueError, KeyError) as e:
        print(f"classify: compiling the network here, since {compiled} is of no use: {e!r}", file=sys.stderr)
        return Network(path)
    network = pickle.loads(body)
    network.compiled_ahead = True
    network.warm_up()
    return network
