"""Between fp32 and the types that weights are kept in, in numpy, bit for bit as torch does it.

    widened(bits, "BF16")         exact: a bfloat16 is the upper half of an fp32
    rounded(values, "BF16")       once, to the nearest, of two equally near to the even one

numpy has no bfloat16: its bits come and go as uint16, as in weights.py. What is too large for the type becomes infinite.

Price: two passes over the values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

TYPES = ("F32", "BF16", "F16")
"""safetensors' names of the types that are known here."""
_NAN = 0x7FC0


def widened(array: npt.NDArray[Any], dtype: str) -> Floats:
    """As fp32."""
    if dtype != "BF16":
        return array.astype(np.float32, copy=False)
    return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)


def rounded(values: Floats, dtype: str) -> npt.NDArray[Any]:
    """As that type."""
    if dtype == "F32":
        return values
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype("<f2")
    bits = np.ascontiguousarray(values).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    upper = (bits + (np.uint32(0x7FFF) + odd)) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint16(_NAN), upper.astype("<u2"))
