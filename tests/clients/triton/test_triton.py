"""Kernels that Triton compiles to PTX with no GPU, launched by the driver API, beside numpy."""

import re

import kernels
import ml_dtypes
import numpy as np
import pytest
import triton
from driver import Buffer, Error, Module, launch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64", "int32": "i32", "int64": "i64", "int8": "i8",
         "uint32": "u32", "float8_e5m2": "fp8e5", "float8_e4m3fn": "fp8e4nv"}  # fmt: skip
TARGETS = [80, 86, 89, 90]


# For sm_90 Triton makes matrix products of these, which softgpu refuses by design.
REFUSED = re.compile(r"the instruction `(wgmma\.[a-z.]*)` is not supported")


@pytest.fixture(params=TARGETS, ids=lambda capability: f"sm_{capability}")
def run(request, driver_said):
    def run(kernel, grid, *arguments, warps=4, stages=3, **constants):
        names = iter(kernel.arg_names)
        signature = {}
        for value in arguments:
            if isinstance(value, Buffer):
                signature[next(names)] = "*" + TYPES[value.like.dtype.name]
            else:
                signature[next(names)] = "fp32" if isinstance(value, np.float32) else "i32"
        signature |= dict.fromkeys(constants, "constexpr")
        source = ASTSource(kernel, signature=signature, constexprs=constants)
        made = triton.compile(source, target=GPUTarget("cuda", request.param, 32), options={"num_warps": warps, "num_stages": stages})
        # Two pointers for scratch memory, which none of these kernels needs.
        nothing = np.uint64(0)
        try:
            function = Module(made.asm["ptx"]).function(made.metadata.name)
            launch(function, grid, 32 * warps, *arguments, nothing, nothing, shared=made.metadata.shared)
        except Error:
            # Through the remoting, the answer to the launch is the first that tells it.
            refused = REFUSED.search(driver_said())
            if refused and request.param == 90:
                pytest.skip(f"refused by design: Triton writes {refused[1]} for sm_90")
            raise

    return run


def normal(*shape, dtype=np.float32, seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def whole(low, high, *shape, dtype=np.int32, seed=1):
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16, np.int32, np.int64, np.int8])
@pytest.mark.parametrize("warps", [1, 4, 8])
def test_add(run, dtype, warps):
    x, y = (Buffer(whole(-50, 50, 1000, seed=s).astype(dtype)) for s in (1, 2))
    out = Buffer(np.zeros(1000, dtype))
    run(kernels.add, 4, x, y, out, 1000, BLOCK=256, warps=warps)
    np.testing.assert_array_equal(out.read(), x.like + y.like)


def test_elementwise(run):
    x, out = Buffer(normal(1000)), Buffer(np.zeros(1000, np.float32))
    run(kernels.elementwise, 4, x, out, 1000, BLOCK=256)
    v = x.like.astype(np.float64)
    erf = np.vectorize(__import__("math").erf)
    v = np.exp(-v * v) + np.sqrt(np.abs(v)) + np.log(1 + v * v) + np.sin(v) * np.cos(v) + 1 / (1 + np.exp(-v)) + erf(v)
    w = np.where(v > 1, np.floor(v), np.ceil(v)) + np.maximum(v, 0.5) + (v * v + v) + 1 / np.sqrt(1 + v * v)
    np.testing.assert_allclose(out.read(), w, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("columns", [64, 781])
def test_softmax(run, columns):
    x, out = Buffer(normal(7, columns)), Buffer(np.zeros((7, columns), np.float32))
    run(kernels.softmax, 7, x, out, columns, BLOCK=1024)
    e = np.exp(x.like - x.like.max(1, keepdims=True))
    np.testing.assert_allclose(out.read(), e / e.sum(1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_layernorm(run):
    x, w, b = Buffer(normal(5, 300, dtype=np.float16)), Buffer(normal(300, seed=2)), Buffer(normal(300, seed=3))
    out = Buffer(np.zeros((5, 300), np.float32))
    run(kernels.layernorm, 5, x, w, b, out, 300, BLOCK=512)
    v = x.like.astype(np.float32)
    wanted = (v - v.mean(1, keepdims=True)) / np.sqrt(v.var(1, keepdims=True) + 1e-5) * w.like + b.like
    np.testing.assert_allclose(out.read(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize(
    "dtype, total, precision, error",
    [
        (np.float16, np.float32, "tf32", 1e-3),
        (ml_dtypes.bfloat16, np.float32, "tf32", 1e-3),
        (np.float32, np.float32, "tf32", 2e-2),
        (np.float32, np.float32, "ieee", 1e-4),
        (np.int8, np.int32, "tf32", 0),
    ],
    ids=["f16", "bf16", "tf32", "f32", "s8"],
)
def test_matmul(run, dtype, total, precision, error, stages):
    shape = M, N, K = 70, 72, 96
    make = (lambda *s, seed: whole(-100, 100, *s, seed=seed)) if dtype == np.int8 else normal
    a, b = Buffer(make(M, K, seed=1).astype(dtype)), Buffer(make(K, N, seed=2).astype(dtype))
    c = Buffer(np.zeros((M, N), total))
    acc = kernels.tl.int32 if total == np.int32 else kernels.tl.float32
    run(kernels.matmul, (2, 2), a, b, c, *shape, BM=64, BN=64, BK=32, ACC=acc, PRECISION=precision, stages=stages)
    wanted = a.like.astype(np.float64) @ b.like.astype(np.float64)
    np.testing.assert_allclose(c.read(), wanted, rtol=error, atol=error * 10)


def test_attention(run):
    q, k, v = (Buffer(normal(128, 64, dtype=np.float16, seed=s)) for s in (1, 2, 3))
    out = Buffer(np.zeros((128, 64), np.float32))
    run(kernels.attention, 2, q, k, v, out, np.float32(0.125), 128, D=64, BM=64, BN=32)
    score = q.like.astype(np.float32) @ k.like.astype(np.float32).T * 0.125
    score[np.triu_indices(128, 1)] = -np.inf
    p = np.exp(score - score.max(1, keepdims=True))
    wanted = p / p.sum(1, keepdims=True) @ v.like.astype(np.float32)
    np.testing.assert_allclose(out.read(), wanted, rtol=2e-2, atol=5e-3)


def test_random(run):
    out, bits = Buffer(np.zeros(8192, np.float32)), Buffer(np.zeros(4096, np.int32))
    run(kernels.random, 16, out, 42, 4096, BLOCK=256)
    run(kernels.random_integers, 16, bits, 42, 4096, BLOCK=256)
    uniform, gauss = out.read().reshape(2, 4096)
    # Philox 4x32-10 with the seed as key and the index as counter.
    np.testing.assert_array_equal(bits.read().view(np.uint32), philox(42, np.arange(4096, dtype=np.uint64)))
    assert 0 <= uniform.min() and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.02
    assert abs(gauss.mean()) < 0.06 and abs(gauss.std() - 1) < 0.06


def philox(key, counter):
    c0, c1, c2, c3 = counter, *(np.zeros_like(counter) for _ in range(3))
    k0, k1, mask = key, 0, 0xFFFFFFFF
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (b >> np.uint64(32)) ^ c1 ^ np.uint64(k0), b & np.uint64(mask), (a >> np.uint64(32)) ^ c3 ^ np.uint64(k1), a & np.uint64(mask)
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c0.astype(np.uint32)


def test_atomics(run):
    x = Buffer(whole(-1000, 1000, 3000))
    total, largest, counts = (Buffer(np.full(n, start, np.int32)) for n, start in ((1, 0), (1, -5000), (16, 0)))
    run(kernels.atomics, 12, x, total, largest, counts, 3000, BLOCK=256)
    assert total.read()[0] == x.like.sum() and largest.read()[0] == x.like.max()
    np.testing.assert_array_equal(counts.read(), np.bincount(x.like & 15, minlength=16))


@pytest.mark.parametrize("warps", [1, 4])
def test_scans(run, warps):
    x = Buffer(normal(2, 512))
    sums, products = (Buffer(np.zeros((2, 512), np.float32)) for _ in range(2))
    run(kernels.scans, 2, x, sums, products, BLOCK=512, warps=warps)
    np.testing.assert_allclose(sums.read(), x.like.cumsum(1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(products.read(), (1 + x.like * 0.01).cumprod(1), rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_order(run, dtype):
    x = Buffer(np.stack([np.random.default_rng(s).permutation(128) for s in range(3)]).astype(dtype))
    out, where = Buffer(np.zeros_like(x.like)), Buffer(np.zeros((3, 2), np.int32))
    run(kernels.order, 3, x, out, where, BLOCK=128)
    np.testing.assert_array_equal(out.read(), np.sort(x.like, 1))
    np.testing.assert_array_equal(where.read(), np.stack([x.like.argmax(1), x.like.argmin(1)], 1))


def test_histogram(run):
    x, out = Buffer(whole(0, 32, 1024)), Buffer(np.zeros(32, np.int32))
    run(kernels.histogram, 1, x, out, 1024, BLOCK=1024, BINS=32)
    np.testing.assert_array_equal(out.read(), np.bincount(x.like, minlength=32))


def test_shapes(run):
    x, out = Buffer(normal(32, 64)), Buffer(np.zeros((32, 64), np.float32))
    run(kernels.shapes, 1, x, out, R=32, C=64)
    v = x.like.T.reshape(32, 64)
    np.testing.assert_allclose(out.read(), v[:, ::-1] + v.sum(0) + v.max(1)[:, None], rtol=1e-4, atol=1e-4)


def test_gather(run):
    x, index, out = Buffer(normal(32, 64)), Buffer(whole(0, 32, 32, 64)), Buffer(np.zeros((32, 64), np.float32))
    run(kernels.gathered, 1, x, index, out, R=32, C=64)
    np.testing.assert_array_equal(out.read(), np.take_along_axis(x.like, index.like, 0))


@pytest.mark.parametrize("small", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn])
def test_convert(run, request, small):
    name = TYPES[np.dtype(small).name]
    if name == "fp8e4nv" and "[sm_8" in request.node.name and "[sm_89" not in request.node.name:
        pytest.skip("Triton has no fp8e4nv for targets below sm_89")
    x = Buffer(normal(1000) * 10)
    out, back = Buffer(np.zeros(1000, small)), Buffer(np.zeros(1000, np.float32))
    element = {"fp16": "float16", "bf16": "bfloat16", "fp8e5": "float8e5", "fp8e4nv": "float8e4nv"}[name]
    run(kernels.convert, 4, x, out, back, 1000, SMALL=getattr(kernels.tl, element), BLOCK=256)
    wanted = x.like.astype(small)
    np.testing.assert_array_equal(out.read().view(f"u{wanted.itemsize}"), wanted.view(f"u{wanted.itemsize}"))
    np.testing.assert_array_equal(back.read(), wanted.astype(np.float32))


def test_integers(run):
    x, y = Buffer(whole(1, 1 << 30, 1000, dtype=np.uint32)), Buffer(whole(1, 1 << 12, 1000, dtype=np.uint32, seed=2))
    out = Buffer(np.zeros(1000, np.uint32))
    run(kernels.integers, 4, x, y, out, 1000, BLOCK=256)
    a, b = x.like, y.like
    high = ((a.astype(np.uint64) * b) >> np.uint64(32)).astype(np.uint32)
    np.testing.assert_array_equal(out.read(), (a // b) * 3 + a % b + (a ^ b) + (a << 3) + (a >> 2) + (a & b) - (a | b) + high)


def test_loops(run):
    x, out = Buffer(np.arange(1, 257, dtype=np.int32)), Buffer(np.zeros(256, np.int32))
    run(kernels.loops, 1, x, out, 256, BLOCK=256)

    def steps(n):
        count = 0
        while n > 1:
            n, count = (n // 2 if n % 2 == 0 else 3 * n + 1), count + 1
        return count

    np.testing.assert_array_equal(out.read(), [steps(n) for n in range(1, 257)])
