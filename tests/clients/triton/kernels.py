"""Kernels in Triton's language."""

import triton
import triton.language as tl


@triton.jit
def add(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    tl.store(out + i, tl.load(x + i, mask=mask) + tl.load(y + i, mask=mask), mask=mask)


@triton.jit
def elementwise(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    v = tl.load(x + i, mask=mask, other=1.0)
    v = tl.exp(-v * v) + tl.sqrt(tl.abs(v)) + tl.log(1.0 + v * v) + tl.sin(v) * tl.cos(v) + tl.sigmoid(v) + tl.erf(v)
    v = tl.where(v > 1.0, tl.floor(v), tl.ceil(v)) + tl.maximum(v, 0.5) + tl.fma(v, v, v) + tl.rsqrt(1.0 + v * v)
    tl.store(out + i, v, mask=mask)


@triton.jit
def softmax(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    v = tl.load(x + row * columns + i, mask=i < columns, other=-float("inf"))
    e = tl.exp(v - tl.max(v, axis=0))
    tl.store(out + row * columns + i, e / tl.sum(e, axis=0), mask=i < columns)


@triton.jit
def layernorm(x, weight, bias, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    mask = i < columns
    v = tl.load(x + row * columns + i, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(v, axis=0) / columns
    centred = tl.where(mask, v - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=0) / columns + 1e-5)
    w, b = tl.load(weight + i, mask=mask), tl.load(bias + i, mask=mask)
    tl.store(out + row * columns + i, centred * scale * w + b, mask=mask)


@triton.jit
def matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    total = tl.zeros((BM, BN), dtype=ACC)
    for at in range(0, K, BK):
        x = tl.load(a + rows[:, None] * K + (at + k)[None, :], mask=(rows[:, None] < M) & ((at + k)[None, :] < K), other=0.0)
        y = tl.load(b + (at + k)[:, None] * N + columns[None, :], mask=((at + k)[:, None] < K) & (columns[None, :] < N), other=0.0)
        total = tl.dot(x, y, total, input_precision=PRECISION, out_dtype=ACC)
    tl.store(c + rows[:, None] * N + columns[None, :], total, mask=(rows[:, None] < M) & (columns[None, :] < N))


@triton.jit
def attention(q, k, v, out, scale, N, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.arange(0, D)
    query = tl.load(q + rows[:, None] * D + d[None, :])
    total = tl.zeros((BM, D), dtype=tl.float32)
    largest = tl.full((BM,), -float("inf"), dtype=tl.float32)
    weight = tl.zeros((BM,), dtype=tl.float32)
    for at in range(0, N, BN):
        columns = at + tl.arange(0, BN)
        key = tl.load(k + columns[None, :] * D + d[:, None])
        value = tl.load(v + columns[:, None] * D + d[None, :])
        score = tl.dot(query, key) * scale
        score = tl.where(rows[:, None] >= columns[None, :], score, -float("inf"))
        new = tl.maximum(largest, tl.max(score, axis=1))
        p = tl.exp(score - new[:, None])
        keep = tl.exp(largest - new)
        weight = weight * keep + tl.sum(p, axis=1)
        total = total * keep[:, None] + tl.dot(p.to(tl.float16), value)
        largest = new
    tl.store(out + rows[:, None] * D + d[None, :], total / weight[:, None])


@triton.jit
def random(out, seed, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.rand(seed, i), mask=i < n)
    tl.store(out + n + i, tl.randn(seed, i), mask=i < n)


@triton.jit
def random_integers(out, seed, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.randint(seed, i), mask=i < n)


@triton.jit
def atomics(x, total, largest, counts, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    v = tl.load(x + i, mask=mask, other=0)
    tl.atomic_add(total, tl.sum(v, axis=0))
    tl.atomic_max(largest, tl.max(v, axis=0))
    tl.atomic_add(counts + (v & 15), 1, mask=mask)


@triton.jit
def scans(x, sums, products, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i)
    tl.store(sums + i, tl.cumsum(v, axis=0))
    tl.store(products + i, tl.cumprod(1.0 + v * 0.01, axis=0))


@triton.jit
def order(x, out, where, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    v = tl.load(x + row * BLOCK + i)
    tl.store(out + row * BLOCK + i, tl.sort(v))
    tl.store(where + 2 * row, tl.argmax(v, axis=0))
    tl.store(where + 2 * row + 1, tl.argmin(v, axis=0))


@triton.jit
def histogram(x, out, n, BLOCK: tl.constexpr, BINS: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i)
    tl.store(out + tl.arange(0, BINS), tl.histogram(v, BINS))


@triton.jit
def shapes(x, out, R: tl.constexpr, C: tl.constexpr):
    rows, columns = tl.arange(0, R), tl.arange(0, C)
    v = tl.load(x + rows[:, None] * C + columns[None, :])
    v = tl.reshape(tl.trans(v), (R, C))
    v = tl.flip(v, 1) + tl.sum(v, axis=0)[None, :] + tl.max(v, axis=1)[:, None]
    tl.store(out + rows[:, None] * C + columns[None, :], v)


@triton.jit
def gathered(x, index, out, R: tl.constexpr, C: tl.constexpr):
    rows, columns = tl.arange(0, R), tl.arange(0, C)
    at = rows[:, None] * C + columns[None, :]
    tl.store(out + at, tl.gather(tl.load(x + at), tl.load(index + at), axis=0))


@triton.jit
def convert(x, out, back, n, SMALL: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0.0)
    s = v.to(SMALL)
    tl.store(out + i, s, mask=i < n)
    tl.store(back + i, s.to(tl.float32), mask=i < n)


@triton.jit
def integers(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a, b = tl.load(x + i, mask=i < n, other=1), tl.load(y + i, mask=i < n, other=1)
    tl.store(out + i, (a // b) * 3 + a % b + (a ^ b) + (a << 3) + (a >> 2) + (a & b) - (a | b) + tl.umulhi(a, b), mask=i < n)


@triton.jit
def loops(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0)
    steps = tl.zeros((BLOCK,), dtype=tl.int32)
    while tl.max(v, axis=0) > 1:
        go = v > 1
        v = tl.where(go, tl.where(v % 2 == 0, v // 2, 3 * v + 1), v)
        steps += go.to(tl.int32)
    tl.store(out + i, steps, mask=i < n)
