"""Graphs that tinygrad's JIT makes, and networks trained on scikit-learn's handwritten digits, beside tinygrad's own CPU backend."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tinygrad import Context, Tensor, TinyJit, Variable, nn
from tinygrad.runtime.graph import cuda as graphs

DEVICES = pytest.mark.parametrize("device", ["CUDA", "CUDA:PTX"])
# Sums are in another order on each device.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


@pytest.fixture
def launches(monkeypatch):
    """How often a graph of CUDA's is launched."""
    count = []
    launch = graphs.CUDAGraph.__call__

    def counted(*arguments, **keywords):
        count.append(1)
        return launch(*arguments, **keywords)

    monkeypatch.setattr(graphs.CUDAGraph, "__call__", counted)
    return count


def values(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Graphs.


@DEVICES
def test_a_graph_has_new_inputs(device, launches):
    """Its kernels get other buffers at each launch."""
    with Context(DEV=device):
        step = TinyJit(lambda x, w: ((x @ w).contiguous().relu() + x).sum(1).realize())
        w = Tensor(values(32, 32)).realize()
        for seed in range(6):
            x = values(8, 32, seed=seed)
            wanted = (np.maximum(x @ values(32, 32), 0) + x).sum(1)
            np.testing.assert_allclose(step(Tensor(x).realize(), w).numpy(), wanted, **CLOSE)
    assert launches


@DEVICES
def test_a_graph_has_new_sizes(device, launches):
    """A variable changes the grid of its kernels."""
    with Context(DEV=device):
        size = Variable("size", 1, 64)
        whole = Tensor(values(64, 16)).realize()
        step = TinyJit(lambda t: ((t * 2 + 1).sum(0) * 3).realize())
        for n in (3, 10, 64, 17, 5, 40):
            got = step(whole[: size.bind(n)]).numpy()
            np.testing.assert_allclose(got, ((values(64, 16)[:n] * 2 + 1).sum(0)) * 3, **CLOSE)


@DEVICES
def test_a_graph_writes_where_it_reads(device, launches):
    with Context(DEV=device):
        state = Tensor.zeros(1000).contiguous().realize()

        @TinyJit
        def step(x):
            state.assign(state * 0.5 + x).realize()
            return (state + 0).realize()

        wanted = np.zeros(1000, np.float32)
        for seed in range(7):
            x = values(1000, seed=seed)
            wanted = wanted * np.float32(0.5) + x
            np.testing.assert_allclose(step(Tensor(x).realize()).numpy(), wanted, **CLOSE)
    assert launches


@DEVICES
def test_many_graphs_are_alive(device, launches):
    with Context(DEV=device):
        steps = [TinyJit(lambda x, k=k: ((x + k).relu() * (k + 1)).contiguous().sum(0).realize()) for k in range(8)]
        for seed in range(4):
            x = values(5, 64, seed=seed)
            for k, step in enumerate(steps):
                np.testing.assert_allclose(step(Tensor(x).realize()).numpy(), (np.maximum(x + k, 0) * (k + 1)).sum(0), **CLOSE)


# Training.


def digits():
    data = load_digits()
    images, labels = (data.images / 16).astype(np.float32), data.target.astype(np.int32)
    order = np.random.default_rng(3).permutation(len(images))
    return images[order], labels[order]


class Dense:
    def __init__(self):
        self.first, self.second = nn.Linear(64, 48), nn.Linear(48, 10)

    def __call__(self, x):
        return self.second(self.first(x.reshape(-1, 64)).relu())


class Convolutional:
    def __init__(self):
        self.first, self.second, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm(8)
        self.last = nn.Linear(64, 10)

    def __call__(self, x):
        x = self.norm(self.first(x.reshape(-1, 1, 8, 8))).relu().max_pool2d()
        return self.last(self.second(x).relu().max_pool2d().flatten(1))


def trained(device, make, optimizer, steps, batch=128):
    """The loss at each step, and the share of unseen digits that are right."""
    images, labels = digits()
    with Context(DEV=device):
        Tensor.manual_seed(7)
        model = make()
        optimizer = optimizer(nn.state.get_parameters(model))

        @TinyJit
        def step(x, y):
            with Context(TRAINING=1):
                optimizer.zero_grad()
                loss = model(x).sparse_categorical_crossentropy(y).backward()
                return loss.realize(*optimizer.schedule_step())

        losses = []
        for n in range(steps):
            at = slice(n * batch % 1280, n * batch % 1280 + batch)
            losses.append(step(Tensor(images[at]).realize(), Tensor(labels[at]).realize()).item())
        seen = model(Tensor(images[1400:]).realize()).argmax(1).numpy()
        return np.array(losses), (seen == labels[1400:]).mean()


@pytest.mark.parametrize(
    "make, optimizer, steps, share",
    [
        (Dense, lambda p: nn.optim.SGD(p, lr=0.3, momentum=0.9), 60, 0.85),
        (Dense, lambda p: nn.optim.Adam(p, lr=0.01), 60, 0.85),
        (Convolutional, lambda p: nn.optim.AdamW(p, lr=0.01), 40, 0.8),
    ],
    ids=["dense by SGD", "dense by Adam", "convolutional by AdamW"],
)
@DEVICES
def test_training(device, make, optimizer, steps, share, launches):
    losses, right = trained(device, make, optimizer, steps)
    assert len(launches) >= steps - 3
    assert losses[-5:].mean() < 0.5 * losses[0] and right > share
    # The same numbers begin both; small differences grow with the steps.
    beside, _ = trained("CPU", make, optimizer, 6)
    np.testing.assert_allclose(losses[:6], beside, rtol=2e-2)
