"""Softmax and entropy with the same bits on every processor.

`math.exp` and `math.log` may differ in the last bit between C libraries, and a threshold comparison turns that bit
into another decision. These use float64 + - * /, polynomials and `math.fsum` only, which IEEE 754 fixes exactly.
`exps` and `logs` do the same to many numbers at once, an operation after the other, and give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_LN2_HIGH = 0.693147180369123816490  # 33 bits: n * _LN2_HIGH is exact for |n| < 2^20
_LN2_LOW = 1.90821492927058770002e-10
_INV_LN2 = 1.44269504088896338700
_EXP_COEFFICIENTS = tuple(1.0 / math.factorial(k) for k in range(13, -1, -1))
_LOG_COEFFICIENTS = tuple(1.0 / (2 * k + 1) for k in range(16, -1, -1))
_SQRT_HALF = 0.70710678118654752440


def exp(x: float) -> float:
    """`e**x` for x <= 0, relative error below 1e-15; 0.0 below -700."""
    if x < -700.0:
        return 0.0
    n = math.floor(x * _INV_LN2 + 0.5)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    value = 0.0
    for coefficient in _EXP_COEFFICIENTS:
        value = value * r + coefficient
    return math.ldexp(value, n)


def log(x: float) -> float:
    """Natural logarithm of x > 0, relative error below 1e-15 (atanh series)."""
    mantissa, exponent = math.frexp(x)
    if mantissa < _SQRT_HALF:
        mantissa, exponent = mantissa * 2.0, exponent - 1
    s = (mantissa - 1.0) / (mantissa + 1.0)
    s2 = s * s
    series = 0.0
    for coefficient in _LOG_COEFFICIENTS:
        series = series * s2 + coefficient
    return exponent * _LN2_HIGH + (2.0 * s * series + exponent * _LN2_LOW)


def exps(x: Numbers) -> Numbers:
    """`exp` of each number, the same bits."""
    near = np.maximum(x, -701.0)
    n = np.floor(near * _INV_LN2 + 0.5)
    r = (near - n * _LN2_HIGH) - n * _LN2_LOW
    value = np.zeros_like(r)
    for coefficient in _EXP_COEFFICIENTS:
        value = value * r + coefficient
    return np.where(x < -700.0, 0.0, np.ldexp(value, n.astype(np.int32)))


def logs(x: Numbers) -> Numbers:
    """`log` of each number, the same bits."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < _SQRT_HALF
    mantissa, exponent = np.where(small, mantissa * 2.0, mantissa), (exponent - small).astype(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    s2 = s * s
    series = np.zeros_like(s)
    for coefficient in _LOG_COEFFICIENTS:
        series = series * s2 + coefficient
    return exponent * _LN2_HIGH + (2.0 * s * series + exponent * _LN2_LOW)


def softmax(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    """`p_i = exp(z_i / temperature) / sum_j exp(z_j / temperature)`; N finite logits in, N probabilities out."""
    scaled = [float(z) / temperature for z in logits]
    top = max(scaled)
    weights = [exp(z - top) for z in scaled]
    total = math.fsum(weights)
    return [w / total for w in weights]


def margin(probabilities: Sequence[float]) -> float:
    """By how much the most probable of two or more classes leads the next one, 0 to 1; 1 for a single class."""
    if len(probabilities) < 2:
        return 1.0
    second, first = sorted(probabilities)[-2:]
    return first - second


def normalized_entropy(probabilities: Sequence[float]) -> float:
    """`NE = - sum_i p_i log p_i / log N`, in [0, 1] (ECC-SNN, eq. 11); 0 for a single class."""
    if len(probabilities) < 2:
        return 0.0
    entropy = -math.fsum(p * log(p) for p in probabilities if p > 0.0)
    return min(1.0, max(0.0, entropy / log(float(len(probabilities)))))
