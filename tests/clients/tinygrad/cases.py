"""Every operation of tinygrad's Tensor, with operands: what it is asked for on both devices.

A case is a name, a function of its operands, the operands, and the dtypes that it is run for.
"""

import math
from collections import namedtuple

from inputs import ALL, FLOATS, INTS, NUMBERS, SIGNED, Of
from tinygrad import Context, Tensor, dtypes

Case = namedtuple("Case", "name function operands types")
FLOAT = (dtypes.float,)
CASES = []


def case(name, function, *operands, types=FLOAT):
    CASES.append(Case(name, function, operands, types))


def same(names, *operands, types=FLOAT, **keywords):
    """Methods that take the operands and nothing else."""
    for name in names.split():
        case(name, lambda *t, name=name: getattr(t[0], name)(*t[1:], **keywords), *operands, types=types)


A, B = Of(7, 33), Of(7, 33)
UNIT, POSITIVE = Of(7, 33, low=-0.95, high=0.95), Of(7, 33, low=0.05, high=9.0)
SMALL = Of(7, 33, low=0, high=5)
CUBE, IMAGE = Of(3, 4, 5), Of(2, 4, 11, 13)

# One value each.
same("asin acos atanh", UNIT, types=FLOATS)
same("log log2 log10 sqrt rsqrt", POSITIVE, types=FLOATS)
same("acosh", Of(7, 33, low=1.05, high=9.0), types=FLOATS)
same(
    "asinh atan ceil celu cos cosh elu erf exp exp2 floor gelu hardsigmoid hardswish hardtanh isfinite isinf isnan leaky_relu "
    "logsigmoid mish quick_gelu relu relu6 round selu sigmoid silu sin sinh softplus softsign swish tan tanh trunc",
    A,
    types=FLOATS,
)
same("reciprocal", POSITIVE, types=FLOATS)
same("abs neg sign square relu", A, types=NUMBERS)
same("bitwise_not", A, types=(*INTS, dtypes.bool))
same("logical_not contiguous clone detach contiguous_backward", A, types=ALL)
same("exp sin sqrt sigmoid", SMALL, types=INTS)
case("gelu exact", lambda t: t.gelu(approximate="none"), A)
# tinygrad's own sine for the CPU is of no more digits than those of a float.
case("sin far", lambda t: t.sin(), Of(7, 33, low=-4000.0, high=4000.0))
SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 65504.0, 6e-8)
case(
    "special values",
    lambda t: [f(s) for s in (t.const_like(0) + Tensor(SPECIAL, dtype=t.dtype),) for f in (Tensor.isnan, Tensor.isinf, Tensor.isfinite, Tensor.relu, Tensor.sqrt, Tensor.exp2, Tensor.log2, Tensor.reciprocal, Tensor.trunc, Tensor.sign, Tensor.exp, Tensor.tanh, Tensor.abs)],
    Of(len(SPECIAL)),
    types=FLOATS,
)
case("clamp", lambda t: (t.clamp(-1, 2), t.clip(0, 2), t.clamp(min_=1), t.clip(max_=1)), A, types=NUMBERS)
case("half float double bfloat16 int long short bool", lambda t: (t.half(), t.float(), t.double(), t.bfloat16(), t.int(), t.long(), t.short(), t.bool()),
     Of(7, 33, low=0, high=3), types=ALL)

# Two values each.
same("add sub mul maximum minimum eq ne", A, B, types=ALL)
same("div", A, POSITIVE, types=FLOATS)
same("pow", POSITIVE, Of(7, 33, low=-2, high=2), types=FLOATS)
same("copysign", A, B, types=FLOATS)
same("logaddexp", A, B, types=FLOATS)
same("fmod mod", A, Of(7, 33, low=1, high=5), types=NUMBERS)
same("bitwise_and bitwise_or bitwise_xor", A, B, types=(*INTS, dtypes.bool))
same("isclose allclose", A, B, types=FLOATS)
same("lerp", A, B, Of(7, 33, low=0, high=1), types=FLOATS)
case("lshift rshift", lambda t: (t.lshift(3), t.rshift(2), t << 1, t >> 1), SMALL, types=INTS)
case("shifts by tensors", lambda t, n: (t << n, t >> n), SMALL, SMALL, types=(dtypes.uint, dtypes.ulong))
case("comparisons", lambda a, b: (a < b, a <= b, a > b, a >= b, a == b, a != b), A, B, types=ALL)
case("reflected", lambda t: (2 + t, 2 - t, 2 * t, -t), A, types=NUMBERS)
case("reflected division", lambda t: (2 / t, 2**t, 7 // t, 7 % t, t // 2, t % 2, t**2), Of(7, 33, low=1, high=5), types=(dtypes.float, dtypes.int))
case("reflected bits", lambda t: (3 & t, 3 | t, 3 ^ t, ~t, t & 5, t | 5, t ^ 5), A, types=INTS)
case("division modes", lambda a, b: (a.div(b, rounding_mode="floor"), a.div(b, rounding_mode="trunc"), a // b, a % b), A, Of(7, 33, low=1, high=5), types=NUMBERS)
case("whole powers", lambda t: (t**0, t**1, t**2, t**3), A, types=(*FLOATS, *SIGNED))
case("broadcasting", lambda a, b, c: (a + b, a * c, b - c), Of(3, 1, 5), Of(4, 1), Of(1), types=ALL)
case("where", lambda c, a, b: c.where(a, b), Of(7, 33, dtype=dtypes.bool), A, B, types=ALL)
case("where with constants", lambda c, a: (c.where(a, 1), c.where(0, a)), Of(7, 33, dtype=dtypes.bool), A, types=ALL)
case("masked_fill", lambda a, c: a.masked_fill(c, 2), A, Of(7, 33, dtype=dtypes.bool), types=NUMBERS)
case("promotion", lambda a, b, c: (a + b, a * c, b - c, a.maximum(b)), A, Of(7, 33, dtype=dtypes.half), Of(7, 33, dtype=dtypes.char), types=NUMBERS)
case("usum uprod ufix", lambda a, b: (a.usum(b), a.uprod(b), a.ufix(3) + a), A, B)

# Many values to one.
same("sum max min prod", Of(3, 4, 5, low=-2, high=2), types=NUMBERS)
same("all any", Of(3, 4, dtype=dtypes.bool))
same("mean var std std_mean var_mean", CUBE, types=FLOATS)
same("logsumexp softmax log_softmax softmin", CUBE, types=FLOATS)
for axis in (0, 1, -1, (0, 2)):
    case(f"reductions along {axis}", lambda t, axis=axis: (t.sum(axis), t.max(axis), t.min(axis), t.mean(axis, keepdim=True)), CUBE, types=(dtypes.float, dtypes.half, dtypes.int))
case("sum of many", lambda t: (t.sum(), t.sum(0), t.sum(1), t.max(1)), Of(130, 1027, low=0, high=1), types=(dtypes.float, dtypes.int, dtypes.half))
case("sum with a dtype", lambda t: (t.sum(dtype=dtypes.double), t.prod(dtype=dtypes.float)), Of(3, 4), types=NUMBERS)
case("var without correction", lambda t: (t.var(correction=0), t.std(0, correction=2), t.var(1, keepdim=True)), CUBE)
case("argmax argmin", lambda t: (t.argmax(), t.argmin(), t.argmax(1), t.argmin(-1, keepdim=True)), Of(5, 9, distinct=True), types=(dtypes.float, dtypes.int))
case("cumsum cumprod", lambda t: (t.cumsum(0), t.cumsum(1), t.cumprod(1)), Of(4, 9, low=-1.5, high=1.5), types=(*FLOATS, dtypes.int))
case("cummax cummin", lambda t: (*t.cummax(1), *t.cummin(0)), Of(5, 9, distinct=True), types=(dtypes.float, dtypes.int))
case("long cumsum", lambda t: t.cumsum(), Of(3000, low=0, high=1), types=(dtypes.float, dtypes.int))
case("logcumsumexp", lambda t: t.logcumsumexp(1), Of(4, 9))
case("normalize", lambda t: (t.normalize(), t.normalize(p=1, dim=0)), Of(4, 9))

# Order.
case("sort argsort", lambda t: (*t.sort(), *t.sort(0, descending=True), t.argsort()), Of(5, 13, distinct=True), types=(dtypes.float, dtypes.int, dtypes.half))
case("topk", lambda t: (*t.topk(4), *t.topk(3, largest=False)), Of(5, 13, distinct=True), types=(dtypes.float, dtypes.int))

# Movement, for every dtype: it is also loads and stores.
MOVED = {
    "reshape view": lambda t: (t.reshape(12, 5), t.view(5, -1), t.reshape(2, 6, 5) + 0),
    "permute transpose": lambda t: (t.permute(2, 0, 1), t.transpose(0, 2), t[0].T),
    "expand": lambda t: t.reshape(3, 1, 4, 5).expand(3, 2, 4, 5),
    "flip": lambda t: (t.flip(0), t.flip((1, 2))),
    "pad": lambda t: (t.pad((1, 2)), t.pad(((0, 1), (2, 0), (1, 1)), value=1), t.pad_to(4, 5, 6)),
    "shrink": lambda t: (t.shrink(((0, 2), (1, 3), None)), t.shrink_to(2, 2, 2)),
    "squeeze unsqueeze": lambda t: (t.unsqueeze(1), t.unsqueeze(-1).squeeze(-1)),
    "flatten unflatten": lambda t: (t.flatten(), t.flatten(1), t.unflatten(1, (2, 2))),
    "cat stack": lambda t: (t.cat(t, dim=1), t.stack(t, t, dim=2)),
    "split chunk": lambda t: (*t.split(2, dim=1), *t.chunk(2, dim=2), *t.split((1, 2), dim=0)),
    "repeat": lambda t: (t.repeat(2, 1, 3), t.repeat_interleave(2, dim=1)),
    "roll": lambda t: (t.roll(1), t.roll((1, -2), (0, 2))),
    "tril triu": lambda t: (t.tril(), t.triu(1), t.tril(-1)),
    "diagonal": lambda t: (t.diagonal(), t.diagonal(1, 1, 2), t[0, 0].diag()),
    "unfold": lambda t: t.unfold(2, 3, 1),
    "rearrange": lambda t: t.rearrange("a b c -> c (a b)"),
    "meshgrid": lambda t: t[0, 0].meshgrid(t[0, :, 0]),
    "indexing": lambda t: (t[1], t[:, 1:3], t[..., ::2], t[::-1], t[None, 1, ..., -1], t[0, 1, 2]),
    "sum of moved": lambda t: t.permute(2, 0, 1).pad((1, 1)).sum(0),
}
for name, function in MOVED.items():
    case(name, function, CUBE, types=ALL)
for mode in ("reflect", "replicate", "circular"):
    case(f"pad {mode}", lambda t, mode=mode: t.pad((1, 2, 2, 1), mode=mode), IMAGE, types=(dtypes.float, dtypes.int))

# Elements by index.
INDEX = Of(3, 4, low=0, high=2, dtype=dtypes.int)
case("gather", lambda t, i: t.gather(1, i), Of(3, 4), INDEX, types=ALL)
case("scatter", lambda t, s: t.scatter(1, Tensor([[0, 1], [2, 3], [1, 0]]), s), Of(3, 4), Of(3, 2), types=NUMBERS)
case("scatter with a reduction", lambda t, i: (t.scatter(1, i, 2, reduce="add"), t.scatter(1, i, 3, reduce="multiply")), Of(3, 4), INDEX, types=(dtypes.float, dtypes.int))
for reduce in ("sum", "prod", "mean", "amax", "amin"):
    case(f"scatter_reduce {reduce}", lambda t, i, s, r=reduce: (t.scatter_reduce(0, i, s, r), t.scatter_reduce(1, i, s, r, include_self=False)), Of(3, 4), INDEX, Of(3, 4))
case("indexing by tensors", lambda t, i: (t[i], t[:, i], t[i, i]), Of(3, 4), INDEX, types=ALL)
case("one_hot", lambda i: i.one_hot(5), INDEX)
case("masked_select nonzero", lambda t, c: (t.masked_select(c), c.nonzero(), t.masked_select(c, size=9)), Of(4, 5), Of(4, 5, dtype=dtypes.bool), types=(dtypes.float, dtypes.int))


def assigned(t):
    t = t.clone()
    t[1, 1:3] = 2
    t[0] = t[2]
    u = Tensor.zeros(3, 4, 5, dtype=t.dtype).contiguous().realize()
    u.assign(t + 1 if t.dtype != dtypes.bool else t)
    return t, u, t.clone().replace(u)


case("setitem assign replace", assigned, CUBE, types=ALL)


def in_place(t):
    u = t.clone().realize()
    u += 1
    u *= 2
    u -= 3
    return u


case("in place", in_place, CUBE, types=NUMBERS)

# Products.
case("matmul dot", lambda a, b: (a @ b, a.dot(b), a.matmul(b)), Of(17, 33), Of(33, 9), types=(*FLOATS, dtypes.int, dtypes.uchar))
case("matmul of tiles", lambda a, b: a @ b, Of(64, 64), Of(64, 64), types=(dtypes.float, dtypes.half, dtypes.double))
case("matmul summed in float", lambda a, b: a.matmul(b, dtype=dtypes.float), Of(64, 64), Of(64, 64), types=(dtypes.half,))
case("batched matmul", lambda a, b: a @ b, Of(3, 8, 16), Of(3, 16, 8))
case("vectors", lambda a, b: (a @ b, a.dot(b)), Of(33), Of(33))
case("einsum", lambda a, b: (Tensor.einsum("ij,kj->ik", a, b), Tensor.einsum("ij->ji", a), Tensor.einsum("ij,ij->", a, b)), Of(5, 7), Of(5, 7))
case("linear", lambda t, w, b: t.linear(w, b), Of(5, 7), Of(7, 3), Of(3), types=(dtypes.float, dtypes.half))
case("sequential", lambda t: t.sequential([Tensor.relu, lambda x: x * 2]), A)

# Networks.
W = Of(6, 4, 3, 3, low=-1, high=1)
for options in ({}, {"stride": 2}, {"padding": 1}, {"dilation": 2}, {"stride": (2, 1), "padding": (1, 0, 2, 1)}):
    case(f"conv2d {options}", lambda t, w, b, o=options: t.conv2d(w, b, **o), IMAGE, W, Of(6), types=(dtypes.float, dtypes.half))
case("conv2d in groups", lambda t, w: t.conv2d(w, groups=2), IMAGE, Of(6, 2, 3, 3))
case("conv2d of integers", lambda t, w: t.conv2d(w), IMAGE, W, types=(dtypes.int,))
case("conv1d conv3d", lambda a, v, b, w: (a.conv2d(v), b.conv2d(w)), Of(2, 3, 9), Of(4, 3, 3), Of(1, 2, 5, 5, 5), Of(3, 2, 2, 2, 2))
case("conv_transpose2d", lambda t, w: (t.conv_transpose2d(w), t.conv_transpose2d(w, stride=2, padding=1, output_padding=1)), IMAGE, Of(4, 3, 3, 3, low=-1, high=1))
case("image_conv2d image_dot", lambda t, w, a, b: (t.image_conv2d(w), a.image_dot(b)), Of(1, 4, 8, 8), Of(4, 4, 3, 3), Of(8, 16), Of(16, 8))
case("avg_pool2d", lambda t: (t.avg_pool2d(), t.avg_pool2d((3, 2), stride=2, padding=1), t.avg_pool2d(3, ceil_mode=True, count_include_pad=False)), IMAGE, types=(dtypes.float, dtypes.half))
case("max_pool2d", lambda t: (t.max_pool2d(), t.max_pool2d((3, 2), stride=1, dilation=2), t.max_pool2d(3, padding=1)), IMAGE, types=(dtypes.float, dtypes.int))


def unpooled(t):
    values, indices = t.max_pool2d(return_indices=True)
    return values, indices, values.max_unpool2d(indices)


case("max_unpool2d", unpooled, Of(1, 2, 6, 8, distinct=True))
for mode in ("linear", "nearest", "nearest-exact"):
    case(f"interpolate {mode}", lambda t, mode=mode: t.interpolate((7, 17), mode=mode), IMAGE)
case("interpolate aligned", lambda t: t.interpolate((7, 17), align_corners=True), IMAGE)
case("batchnorm", lambda t, w, b, m, s: t.batchnorm(w, b, m, s), IMAGE, Of(4), Of(4), Of(4), Of(4, low=0.5, high=2))
case("layernorm", lambda t: (t.layernorm(), t.layernorm((1, 2))), CUBE, types=(dtypes.float, dtypes.half))
Q = Of(2, 4, 8, 16)
case("scaled_dot_product_attention", lambda q, k, v: (q.scaled_dot_product_attention(k, v), q.scaled_dot_product_attention(k, v, is_causal=True)), Q, Q, Q, types=(dtypes.float, dtypes.half))
case("masked attention", lambda q, k, v, m: q.scaled_dot_product_attention(k, v, attn_mask=m), Q, Q, Q, Of(8, 8))
case("grouped attention", lambda q, k, v: q.scaled_dot_product_attention(k, v, enable_gqa=True), Q, Of(2, 2, 8, 16), Of(2, 2, 8, 16))

# Losses.
LABELS = Of(6, low=0, high=4, dtype=dtypes.int)
case("binary_crossentropy", lambda p, y: (p.binary_crossentropy(y), p.binary_crossentropy_logits(y), p.binary_crossentropy_logits(y, reduction="none")), Of(6, low=0.1, high=0.9), Of(6, low=0, high=1))
case("cross_entropy", lambda t, y: (t.cross_entropy(y), t.cross_entropy(y, label_smoothing=0.1, reduction="sum"), t.sparse_categorical_crossentropy(y)), Of(6, 5), LABELS)
case("nll_loss", lambda t, y: (t.log_softmax().nll_loss(y), t.log_softmax().nll_loss(y, reduction="none")), Of(6, 5), LABELS)

# Making.
case("full ones zeros", lambda t: (Tensor.full((5,), 3, dtype=t.dtype) + t, Tensor.ones(5, dtype=t.dtype) - t, Tensor.zeros(5, dtype=t.dtype) * t), Of(5), types=NUMBERS)
case("full_like ones_like zeros_like const_like", lambda t: (t.full_like(2) + t, t.ones_like() + t, t.zeros_like() + t, t.const_like(1) + t, Tensor.const(2) * t), Of(5), types=NUMBERS)
case("arange linspace eye", lambda t: (Tensor.arange(3, 40, 2, dtype=t.dtype), Tensor.linspace(0, 5, 11), Tensor.eye(5, 7, dtype=t.dtype)), Of(1), types=(dtypes.float, dtypes.int, dtypes.half))

# Numbers that only look random: both devices make the same from a seed.
case("threefry", lambda a, b: a.threefry(b), Of(64, low=0, high=1 << 62), Of(64, low=0, high=1 << 62), types=(dtypes.ulong,))
case("random_bits", lambda a, b: Tensor.random_bits(a, b, 33), Of(2, low=0, high=1 << 30), Of(2, low=0, high=1 << 30), types=(dtypes.uint,))


def seeded(make):
    def function(t):
        Tensor.manual_seed(42)
        return make(t)

    return function


for name, make in {
    "rand": lambda: Tensor.rand(4, 33),
    "randn": lambda: Tensor.randn(4, 33),
    "randint": lambda: Tensor.randint(4, 33, low=-5, high=99),
    "normal": lambda: Tensor.normal(4, 33, mean=2, std=3),
    "uniform": lambda: Tensor.uniform(4, 33, low=-2, high=2),
    "scaled_uniform": lambda: Tensor.scaled_uniform(4, 33),
    "glorot_uniform": lambda: Tensor.glorot_uniform(4, 33),
    "kaiming_uniform": lambda: Tensor.kaiming_uniform(4, 33),
    "kaiming_normal": lambda: Tensor.kaiming_normal(4, 33),
    "randperm": lambda: Tensor.randperm(33),
}.items():
    case(name, seeded(lambda t, make=make: make()), Of(1))
case("rand_like randn_like", seeded(lambda t: (t.rand_like(), t.randn_like())), A, types=(dtypes.float, dtypes.half))
case("multinomial", seeded(lambda t: t.multinomial(8, replacement=True)), Of(3, 9, low=0.1, high=1))


def dropped(t):
    Tensor.manual_seed(42)
    with Context(TRAINING=1):
        return t.dropout(0.4)


case("dropout", dropped, A)

# Linear algebra, in what does not depend on signs that either may choose.
def factored(t):
    q, r = t.qr()
    u, s, v = t.svd()
    return q @ r, r.abs(), u @ s.diag() @ v, s


case("qr svd", factored, Of(4, 4, low=-1, high=1))
case("newton_schulz", lambda t: t.newton_schulz(steps=5, params=(3.4445, -4.7750, 2.0315)), Of(6, 6, low=-1, high=1))
case("keccak", lambda t: (t.keccak(), t.keccak("shake_128")), Of(100, low=0, high=255), types=(dtypes.uchar,))


# Derivatives: operations of their own to the devices.
def derived(function):
    def gradients(*operands):
        operands = [t.clone().realize() for t in operands]
        loss = function(*operands).square().mean()
        return loss.gradient(*operands)

    return gradients


for name, function, operands in (
    ("sigmoid", Tensor.sigmoid, (A,)),
    ("softmax", Tensor.softmax, (CUBE,)),
    ("matmul", Tensor.matmul, (Of(8, 12), Of(12, 6))),
    ("conv2d", lambda t, w: t.conv2d(w, padding=1), (IMAGE, W)),
    ("max_pool2d", lambda t: t.max_pool2d(), (Of(2, 3, 8, 8, distinct=True),)),
    ("layernorm", lambda t: t.layernorm() * 3, (CUBE,)),
    ("cumsum", lambda t: t.cumsum(1), (CUBE,)),
):
    case(f"gradient of {name}", derived(function), *operands)


def backward(t, w):
    t, w = t.clone().realize(), w.clone().realize()
    t.is_param_(), w.is_param_()
    (t @ w).relu().sum().backward()
    return t.grad, w.grad


case("backward", backward, Of(8, 12), Of(12, 6))

# Names that are no computation on a device, with what they are.
NO_OPERATIONS = {
    "what a tensor says of itself": "device dtype shape ndim grad uop is_param T numel max_numel max_shape nbytes element_size size is_floating_point",
    "reading, as every case does": "numpy tolist data item realize",
    "how work is scheduled": "alu as_param call callify custom_kernel linear_with_vars schedule_linear manual_seed is_param_",
    "another device": "to to_ shard shard_ shard_like from_blob from_url",
    "values are not defined": "empty empty_like invalids",
    "the hardware decoder": "decode_hevc_frame",
    "keccak of a mebibyte, which takes minutes to schedule for any device": "hash",
}
