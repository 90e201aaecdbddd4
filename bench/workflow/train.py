"""A training step in tinygrad: `train.py make FILE` captures it once, `train.py run STEPS FILE` times it and prints JSON."""

import json
import os
import pickle
import statistics
import sys
import time

os.environ.setdefault("DEV", "CUDA:PTX")
os.environ.setdefault("PARALLEL", "0")
os.environ.setdefault("CACHELEVEL", "0")

import numpy as np
from tinygrad import Tensor, TinyJit, dtypes, nn
from tinygrad.helpers import Context

BATCH, SIDE, CLASSES, SET = 512, 28, 10, 60_000


class Model:
    """Of tinygrad's own first example, beautiful_mnist."""

    def __init__(self):
        self.layers = [
            nn.Conv2d(1, 32, 5),
            Tensor.relu,
            nn.Conv2d(32, 32, 5),
            Tensor.relu,
            nn.BatchNorm(32),
            Tensor.max_pool2d,
            nn.Conv2d(32, 64, 3),
            Tensor.relu,
            nn.Conv2d(64, 64, 3),
            Tensor.relu,
            nn.BatchNorm(64),
            Tensor.max_pool2d,
            lambda x: x.flatten(1),
            nn.Linear(576, CLASSES),
        ]

    def __call__(self, x):
        return x.sequential(self.layers)


class Training:
    """The captured step with everything that it changes."""

    def __init__(self):
        Tensor.manual_seed(1)
        model = Model()
        optimizer = nn.optim.Adam(nn.state.get_parameters(model), lr=1e-3)

        def step(pictures, classes):
            with Context(TRAINING=1):
                optimizer.zero_grad()
                loss = model(pictures.cast(dtypes.float32) / 255).sparse_categorical_crossentropy(classes).backward()
                return loss.realize(*optimizer.schedule_step())

        self.step = TinyJit(step)

    def __getstate__(self):
        return {"step": self.step}

    def run(self, pictures, classes):
        return self.step(Tensor(pictures).realize(), Tensor(classes).realize()).item()


def batches(count):
    """Pictures drawn from a set as large as MNIST's, with nothing on them."""
    random = np.random.default_rng(1)
    pictures = random.integers(0, 256, (SET, 1, SIDE, SIDE), np.uint8)
    classes = random.integers(0, CLASSES, SET, np.int32)
    for _ in range(count):
        began = time.perf_counter()
        drawn = random.integers(0, SET, BATCH)
        yield began, (pictures[drawn], classes[drawn])


def make(file):
    training = Training()
    for _, batch in batches(2):  # runs as it goes, then captures
        training.run(*batch)
    with open(file + ".part", "wb") as f:
        pickle.dump(training, f)
    os.replace(file + ".part", file)


def run(steps, file):
    with open(file, "rb") as f:  # of `make`
        training = pickle.load(f)
    times = []
    for began, batch in batches(steps + 3):
        training.run(*batch)
        times.append(time.perf_counter() - began)
    print(json.dumps({"step_ms": 1000 * statistics.median(times[3:])}))


if sys.argv[1] == "make":
    make(sys.argv[2])
else:
    run(int(sys.argv[2]), sys.argv[3])
