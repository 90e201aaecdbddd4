"""Values for the operands of a case, the same for both devices."""

import zlib

import numpy as np
from tinygrad import Device, Tensor, dtypes

FP8 = (dtypes.fp8e4m3, dtypes.fp8e5m2)
SMALL_FLOATS = (dtypes.half, dtypes.bfloat16)
FLOATS = (*SMALL_FLOATS, dtypes.float, dtypes.double)
SIGNED = (dtypes.char, dtypes.short, dtypes.int, dtypes.long)
UNSIGNED = (dtypes.uchar, dtypes.ushort, dtypes.uint, dtypes.ulong)
INTS = SIGNED + UNSIGNED
NUMBERS = FLOATS + INTS
ALL = (*NUMBERS, dtypes.bool)


class Of:
    """An operand: its shape, the range of its values, and its dtype where that is not the case's."""

    def __init__(self, *shape, low=-3.0, high=3.0, dtype=None, distinct=False):
        self.shape, self.low, self.high, self.dtype, self.distinct = shape, low, high, dtype, distinct

    def values(self, rng, dtype):
        dtype = self.dtype or dtype
        if self.distinct:
            count = int(np.prod(self.shape))
            values = rng.permutation(count).reshape(self.shape) * 0.5 + self.low
        elif dtypes.is_float(dtype):
            values = rng.uniform(self.low, self.high, self.shape)
        elif dtype == dtypes.bool:
            return rng.integers(0, 2, self.shape).astype(np.bool_), dtype
        else:
            low = self.low if dtype not in UNSIGNED else max(self.low, 0)
            values = rng.integers(int(np.ceil(low)), int(np.floor(self.high)) + 1, self.shape)
        return values, dtype


def generator(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def tensor(values, dtype):
    """Rounded to the dtype on the host: a device that gets casts wrong must not get other values."""
    if dtype in (dtypes.bfloat16, *FP8):
        host = Tensor(np.asarray(values, dtype=np.float32), device="PYTHON").cast(dtype).realize()
        return host.to(Device.DEFAULT).realize()
    from tinygrad.dtype import _to_np_dtype

    return Tensor(np.asarray(values).astype(_to_np_dtype(dtype)), dtype=dtype).realize()
