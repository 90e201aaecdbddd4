"""What the functions of math.cu are, in double precision, and where: (function, low, high)."""

import math

import numpy as np
import scipy.special as sp

ONE = {
    "sin": (np.sin, -1e5, 1e5), "cos": (np.cos, -1e5, 1e5), "tan": (np.tan, -20, 20), "asin": (np.arcsin, -1, 1),
    "acos": (np.arccos, -1, 1), "atan": (np.arctan, -50, 50), "sinh": (np.sinh, -20, 20), "cosh": (np.cosh, -20, 20),
    "tanh": (np.tanh, -5, 5), "asinh": (np.arcsinh, -1e3, 1e3), "acosh": (np.arccosh, 1, 1e3), "atanh": (np.arctanh, -0.99, 0.99),
    "exp": (np.exp, -80, 80), "exp2": (np.exp2, -120, 120), "exp10": (lambda x: 10.0**x, -30, 30), "expm1": (np.expm1, -5, 5),
    "log": (np.log, 1e-30, 1e30), "log2": (np.log2, 1e-3, 1e3), "log10": (np.log10, 1e-3, 1e3), "log1p": (np.log1p, -0.9, 10),
    "sqrt": (np.sqrt, 0, 1e10), "rsqrt": (lambda x: 1 / np.sqrt(x), 1e-10, 1e10), "cbrt": (np.cbrt, -1e10, 1e10),
    "rcbrt": (lambda x: 1 / np.cbrt(x), 1e-10, 1e10), "erf": (sp.erf, -4, 4), "erfc": (np.vectorize(math.erfc), -4, 8), "erfcx": (sp.erfcx, -2, 30),
    "tgamma": (sp.gamma, 0.1, 30), "lgamma": (sp.gammaln, 3, 1e4), "floor": (np.floor, -99, 99), "ceil": (np.ceil, -99, 99),
    "trunc": (np.trunc, -99, 99), "rint": (np.rint, -99, 99), "round": (lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x), -99, 99),
    "fabs": (np.abs, -99, 99), "sinpi": (lambda x: np.sin(np.pi * (x - 2 * np.rint(x / 2))), -50, 50),
    "cospi": (lambda x: np.cos(np.pi * (x - 2 * np.rint(x / 2))), -50, 50), "j0": (sp.j0, 0, 8), "j1": (sp.j1, 0, 8),
    "y0": (sp.y0, 0.1, 8), "y1": (sp.y1, 0.1, 8), "normcdf": (lambda x: np.vectorize(math.erfc)(-x / math.sqrt(2)) / 2, -1.5, 5), "logb": (lambda x: np.floor(np.log2(x)), 1e-3, 1e3),
}  # fmt: skip
TWO = {
    "pow": (np.power, 0.01, 20), "atan2": (np.arctan2, -9, 9), "hypot": (np.hypot, -1e3, 1e3), "fmod": (np.fmod, -99, 99),
    "remainder": (np.vectorize(math.remainder), -99, 99), "fdim": (lambda x, y: np.maximum(x - y, 0), -9, 9),
    "copysign": (np.copysign, -9, 9), "nextafter": (np.nextafter, -9, 9), "fmax": (np.fmax, -9, 9), "fmin": (np.fmin, -9, 9),
}  # fmt: skip
# By how many units in the last place the programming guide lets the device be off, at most, in what is listed here;
# Bessel functions are judged by their absolute error.
ULPS = {"tgamma": 11, "lgamma": 8, "erfcx": 8, "normcdf": 8, "pow": 9, "rcbrt": 3, "erfc": 8, "sinh": 4, "tan": 5}
ABSOLUTE = {"j0": 3e-6, "j1": 3e-6, "y0": 3e-6, "y1": 3e-6, "sinpi": 1e-6, "cospi": 1e-6}
