"""Prints how long each kernel of one frame takes on this device, in seconds: {"name": seconds}, in the order in which they run.

The kernels are those of examples/echo, one by one instead of as a graph, each timed by events. Medians of FRAMES frames.
"""

import json
import os
import statistics
import sys

sys.path.insert(0, os.environ["ECHO_HOME"])
os.environ["JIT"] = "2"  # captured, but played kernel by kernel

import classify  # sets what tinygrad reads as it is imported
import numpy as np
from clip import HEIGHT, WIDTH
from network import Network
from tinygrad.runtime.ops_cuda import CUDAProgram

FRAMES = 9

times = {}
launch = CUDAProgram.__call__


def timed(self, *arguments, **options):
    seconds = launch(self, *arguments, **(options | {"wait": True}))
    times.setdefault(self.name, []).append(seconds)
    return seconds


network = Network(classify.weights())
CUDAProgram.__call__ = timed
for _ in range(FRAMES):
    network.probabilities(np.zeros((HEIGHT, WIDTH), np.uint8))
print(json.dumps({name: statistics.median(each) * len(each) / FRAMES for name, each in times.items()}))
