"""Between fp32 and the types that weights are kept in, in numpy, bit for bit as torch does it.

    widened(bits, "BF16")         exact: a bfloat16 is the upper half of an fp32
    rounded(values, "BF16")       once, to the nearest, of two equally near to the even one

numpy has no bfloat16: its bits come and go as uint16, as in weights.py. What is too large for a type becomes infinite.

Price: a few passes over the values; in blocks that fit into a cache they cost about as much as one over memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

TYPES = ("F32", "BF16", "F16")
"""safetensors' names of the types that are known here."""
_NAN = np.uint16(0x7FC0)
_EXPONENT = np.uint16(0x7F80)
"""All ones where a bfloat16 is infinite or no number."""


def widened(array: npt.NDArray[Any], dtype: str) -> Floats:
    """As fp32."""
    if dtype != "BF16":
        return array.astype(np.float32, copy=False)
    bits = array.astype(np.uint32)
    bits <<= np.uint32(16)
    return bits.view(np.float32)


def rounded(values: Floats, dtype: str) -> npt.NDArray[Any]:
    """As that type."""
    if dtype == "F32":
        return values
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype("<f2")
    bits = np.ascontiguousarray(values).view(np.uint32)
    upper = bits >> np.uint32(16)
    upper &= np.uint32(1)  # is the upper half odd?
    upper += np.uint32(0x7FFF)
    upper += bits
    upper >>= np.uint32(16)
    found = upper.astype("<u2")
    nan = np.isnan(values)
    if nan.any():
        found[nan] = _NAN
    return found


def is_finite(array: npt.NDArray[Any], dtype: str) -> bool:
    """Whether all values of that type are numbers."""
    if dtype == "BF16":
        return not bool(((array & _EXPONENT) == _EXPONENT).any())
    return bool(np.isfinite(array).all())
