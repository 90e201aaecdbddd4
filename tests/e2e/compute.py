"""Unmodified tinygrad against numpy, on whatever device DEV names; an assertion fails where they differ."""

import numpy as np
from tinygrad import Tensor, TinyJit

rng = np.random.default_rng(1)
a, b = (rng.standard_normal((64, 64), dtype=np.float32) for _ in range(2))
assert np.allclose((Tensor(a) @ Tensor(b)).numpy(), a @ b, atol=1e-3), "f32 product"

x, w = rng.standard_normal((3, 16, 16), dtype=np.float32), rng.standard_normal((4, 3, 3, 3), dtype=np.float32)
windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
want = np.einsum("cijkl,ockl->oij", windows, w)
assert np.allclose(Tensor(x[None]).conv2d(Tensor(w)).numpy()[0], want, atol=1e-3), "convolution"

e = np.exp(a - a.max(1, keepdims=True))
assert np.allclose(Tensor(a).softmax().numpy(), e / e.sum(1, keepdims=True), atol=1e-5), "softmax"
assert np.array_equal((Tensor(a).half() + Tensor(b).half()).numpy(), a.astype(np.float16) + b.astype(np.float16)), "f16 sum"
numbers = np.arange(1000, dtype=np.int32)
assert (Tensor(numbers) * 7 % 13).sum().item() == int((numbers * 7 % 13).sum()), "integers"


@TinyJit
def step(t, u):
    return ((t @ u).relu() + 1).sum(1).realize()


for turn in range(5):
    t = rng.standard_normal((64, 64), dtype=np.float32)
    got = step(Tensor(t).realize(), Tensor(b).realize()).numpy()
    assert np.allclose(got, (np.maximum(t @ b, 0) + 1).sum(1), atol=1e-2), f"captured step, turn {turn}"
print("computes right")
