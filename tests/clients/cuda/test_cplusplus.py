"""CUDA C++ through nvcc and nvrtc, beside numpy."""

import functions
import ml_dtypes
import numpy as np
import pytest
from compilers import module
from driver import Buffer, call, launch

EVERY = pytest.mark.parametrize("compiler", ["nvcc", "debug", "nvrtc"])
RNG = np.random.default_rng(7)


def zeros(*shape, dtype=np.int32):
    return Buffer(np.zeros(shape, dtype))


@EVERY
def test_templates(compiler):
    a, b, out = Buffer(RNG.standard_normal((100, 5))), Buffer(RNG.standard_normal((100, 5))), zeros(100, dtype=np.float64)
    launch(module(compiler, "basics.cu").function("dots"), 2, 64, a, b, out, 100)
    np.testing.assert_allclose(out.read(), (a.like * b.like).sum(1), rtol=1e-12)


@EVERY
def test_virtual_functions(compiler):
    out = zeros(64, dtype=np.float32)
    launch(module(compiler, "basics.cu").function("areas"), 1, 64, out)
    i = np.arange(64)
    np.testing.assert_array_equal(out.read(), np.where(i % 2, i * i, 3 * i * i))


@EVERY
def test_recursion(compiler):
    out = zeros(32)
    launch(module(compiler, "basics.cu").function("recursion"), 1, 32, out)
    np.testing.assert_array_equal(out.read(), 2 * (np.arange(32) % 4) + 3)


@EVERY
def test_pointers_to_functions(compiler):
    x, out = Buffer(RNG.standard_normal(64).astype(np.float32)), zeros(64, dtype=np.float32)
    launch(module(compiler, "basics.cu").function("pointers"), 1, 64, x, out)
    np.testing.assert_array_equal(out.read(), np.where(np.arange(64) % 2, x.like * x.like, 2 * x.like))


@EVERY
def test_constants_and_shared_memory(compiler):
    loaded = module(compiler, "basics.cu")
    weights = RNG.integers(-9, 9, 64).astype(np.int32)
    address, size = loaded.global_("weights")
    assert size == weights.nbytes
    call("cuMemcpyHtoD_v2", address, weights.ctypes.data_as(__import__("ctypes").c_void_p), weights.nbytes)
    x, out = Buffer(RNG.integers(-99, 99, 512).astype(np.int32)), zeros(512)
    launch(loaded.function("weighted"), 4, 128, x, out, 512, shared=512)
    blocks = x.like.reshape(4, 128)
    wanted = sum(w * np.roll(blocks, -k, axis=1) for k, w in enumerate(weights))
    np.testing.assert_array_equal(out.read(), wanted.ravel())


@EVERY
def test_warps(compiler):
    x, out = Buffer(RNG.integers(0, 1000, 256).astype(np.int32)), zeros(256)
    launch(module(compiler, "basics.cu").function("warp_sums"), 2, 128, x, out)
    warps = x.like.reshape(8, 32)
    wanted = warps.cumsum(1) * 100 + (warps & 1).sum(1, keepdims=True) + 50 * (warps > 900).any(1, keepdims=True)
    np.testing.assert_array_equal(out.read(), wanted.ravel())


@EVERY
def test_divergence(compiler):
    out = zeros(1000)
    launch(module(compiler, "basics.cu").function("divergent"), 8, 128, out, 1000)

    def steps(x):
        count = 0
        while x > 1 and count < 200:
            if x % 4 == 3:
                x += 5
                continue
            x = {0: x // 4, 1: 3 * x + 1, 2: x // 2}[x % 4]
            count += 1
        return count

    np.testing.assert_array_equal(out.read(), [steps(x) for x in range(1000)])


@EVERY
def test_lock_within_a_warp(compiler):
    out = zeros(1)
    launch(module(compiler, "basics.cu").function("locked"), 2, 64, out)
    assert out.read()[0] == 2 * sum(range(64))


@EVERY
def test_printf(compiler, capfd):
    launch(module(compiler, "basics.cu").function("say"), 1, 4)
    assert capfd.readouterr().out == "42 text  2.50 c 123456789abc %\n"


@pytest.mark.parametrize("compiler", ["nvcc", "nvrtc"])
@pytest.mark.parametrize("kind", [np.float32, np.float64], ids=["float", "double"])
@pytest.mark.parametrize("name", [*functions.ONE, *functions.TWO])
def test_math(compiler, kind, name):
    f, low, high = functions.ONE.get(name) or functions.TWO[name]
    xs = [Buffer(np.random.default_rng(s).uniform(low, high, 2000).astype(kind)) for s in range(1 if name in functions.ONE else 2)]
    out = zeros(2000, dtype=kind)
    launch(module(compiler, "math.cu").function(f"{name}_{kind(0).dtype.name.replace('32', '').replace('float64', 'double')}"), 16, 128, *xs, out, 2000)
    if name == "nextafter":
        np.testing.assert_array_equal(out.read(), f(*(x.like for x in xs)))
        return
    wanted = f(*(x.like.astype(np.float64) for x in xs))
    ulp = np.spacing(np.abs(wanted).astype(kind)).astype(np.float64)
    # The reference is itself a few units of a double off.
    allowed = ulp * (functions.ULPS.get(name, 3) + (8 if kind == np.float64 else 0)) + functions.ABSOLUTE.get(name, 0)
    assert (np.abs(out.read().astype(np.float64) - wanted) <= allowed).all()


@EVERY
@pytest.mark.parametrize("name, dtype, error", [("half", np.float16, 4e-3), ("bfloat", ml_dtypes.bfloat16, 3e-2)])
def test_small_floats(compiler, name, dtype, error):
    a, b, c = (Buffer(RNG.standard_normal(256).astype(dtype)) for _ in range(3))
    out = zeros(256, dtype=dtype)
    launch(module(compiler, "half.cu").function(f"mixed_{name}"), 1, 256, a, b, c, out)
    x, y, z = (t.like.astype(np.float32) for t in (a, b, c))
    wanted = x * y + z + x * y - (z - x) / np.maximum(np.abs(y), 1)
    wanted = np.where(x < y, wanted + np.sqrt(np.abs(z)), wanted - np.exp(np.minimum(x, 2))) + np.floor(z) + (y > z)
    np.testing.assert_allclose(out.read().astype(np.float32), wanted, atol=error * 10, rtol=error)


@EVERY
def test_pairs_of_halves(compiler):
    a, b = (Buffer(RNG.integers(-4, 4, 128).astype(np.float16)) for _ in range(2))
    out, total = zeros(128, dtype=np.float16), zeros(1, dtype=np.float32)
    launch(module(compiler, "half.cu").function("pairs"), 1, 64, a, b, out, total)
    r = a.like * b.like + a.like + b.like
    np.testing.assert_array_equal(out.read(), np.maximum(r, r.reshape(-1, 2)[:, ::-1].ravel()))
    assert total.read()[0] == r.astype(np.float32).sum()


TENSOR = {
    "half_float": (np.float16, np.float32, 16, 16, 1e-3),
    "half_half": (np.float16, np.float16, 32, 8, 5e-2),
    "bytes": (np.int8, np.int32, 16, 16, 0),
    "bfloats": (ml_dtypes.bfloat16, np.float32, 8, 32, 1e-3),
    "tf32": (np.float32, np.float32, 16, 16, 1e-3),
    "doubles": (np.float64, np.float64, 8, 8, 1e-12),
}


@EVERY
@pytest.mark.parametrize("name", TENSOR)
def test_matrices(compiler, name):
    kind, result, M, N, error = TENSOR[name]
    m, n, k = 2 * M, 2 * N, 64
    make = (lambda *s: RNG.integers(-99, 99, s)) if kind == np.int8 else (lambda *s: RNG.standard_normal(s))
    a, b = make(m, k).astype(kind), make(n, k).astype(kind)
    if name == "tf32":
        a, b = ((t.view(np.uint32) & 0xFFFFE000).view(np.float32) for t in (a, b))
    a, b, c = Buffer(a), Buffer(b), zeros(m, n, dtype=result)
    launch(module(compiler, "tensor.cu").function(name), (n // N, m // M), 32, a, b, c, n, k)
    wanted = a.like.astype(np.float64) @ b.like.astype(np.float64).T
    np.testing.assert_allclose(c.read(), wanted, rtol=error, atol=error * 10)


@EVERY
def test_tiles(compiler):
    x, out = Buffer(RNG.integers(0, 100, 256).astype(np.int32)), zeros(256)
    launch(module(compiler, "groups.cu").function("tiles"), 2, 128, x, out)
    t = x.like.reshape(-1, 8)
    wanted = t.sum(1, keepdims=True) * 1000000 + t.max(1, keepdims=True) * 1000 + t.cumsum(1) - t + t[:, 3:4]
    np.testing.assert_array_equal(out.read(), wanted.ravel())


@EVERY
def test_active_threads(compiler):
    x, counter, places = Buffer(RNG.integers(0, 100, 256).astype(np.int32)), zeros(1), Buffer(np.full(256, -1, np.int32))
    launch(module(compiler, "groups.cu").function("active"), 2, 128, x, counter, places)
    taken = x.like % 3 == 0
    assert counter.read()[0] == taken.sum()
    assert sorted(places.read()[taken]) == list(range(taken.sum())) and (places.read()[~taken] == -1).all()


@EVERY
def test_whole_grid(compiler):
    n, times = 900, 5
    a, b = Buffer(RNG.integers(0, 100, n).astype(np.int32)), zeros(n)
    launch(module(compiler, "groups.cu").function("rounds"), 8, 128, a, b, n, times, cooperative=True)
    v = a.like
    for _ in range(times):
        v = np.roll(v, -1) + np.roll(v, -(n // 2)) % 1000
    np.testing.assert_array_equal((b if times % 2 else a).read(), v)


@EVERY
def test_sorting(compiler):
    x, out = Buffer(RNG.integers(0, 1 << 32, 1024, dtype=np.uint32)), zeros(1024, dtype=np.uint32)
    launch(module(compiler, "library.cu").function("sorted"), 2, 128, x, out)
    np.testing.assert_array_equal(out.read(), np.sort(x.like.reshape(2, 512), 1).ravel())


@EVERY
def test_scans(compiler):
    x, out, total = Buffer(RNG.integers(-99, 99, 256).astype(np.int32)), zeros(256), zeros(2)
    launch(module(compiler, "library.cu").function("scanned"), 2, 128, x, out, total)
    blocks = x.like.reshape(2, 128)
    np.testing.assert_array_equal(out.read(), blocks.cumsum(1).ravel())
    np.testing.assert_array_equal(total.read(), blocks.sum(1))


@EVERY
def test_asynchronous_copies(compiler):
    x, out = Buffer(RNG.integers(-99, 99, 512).astype(np.int32)), zeros(512)
    launch(module(compiler, "library.cu").function("copied"), 2, 64, x, out)
    np.testing.assert_array_equal(out.read(), x.like.reshape(2, 256)[:, ::-1].ravel() * 2)
    x, out = Buffer(RNG.integers(0, 9, (7, 64)).astype(np.int32)), zeros(64)
    launch(module(compiler, "library.cu").function("piped"), 1, 64, x, out, 7)
    wanted = np.zeros(64, np.int32)
    for row in x.like:
        wanted = wanted * 3 + row
    np.testing.assert_array_equal(out.read(), wanted)


@EVERY
def test_atomics(compiler):
    x = Buffer(RNG.integers(0, 1000, 1024).astype(np.int32))
    counts, most, total = zeros(8), zeros(1, dtype=np.uint64), zeros(1, dtype=np.float64)
    launch(module(compiler, "library.cu").function("counted"), 8, 128, x, counts, most, total)
    np.testing.assert_array_equal(counts.read(), np.bincount(x.like % 8, minlength=8))
    assert most.read()[0] == x.like.max() and total.read()[0] == x.like.sum() * 0.5


@EVERY
def test_complex_numbers(compiler):
    x, out = Buffer(RNG.standard_normal((64, 2)).astype(np.float32)), zeros(64, 2, dtype=np.float32)
    launch(module(compiler, "library.cu").function("complexes"), 1, 64, x, out)
    z = x.like[:, 0].astype(np.complex128) + 1j * x.like[:, 1]
    wanted = np.exp(z) * z.conj() + np.sqrt(z)
    np.testing.assert_allclose(out.read(), np.stack([wanted.real, wanted.imag], 1), rtol=1e-4, atol=1e-5)
