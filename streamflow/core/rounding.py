"""Numbers rounded down to multiples, in columns."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def floor_to(values: pa.Array, size: int, offset: int = 0) -> pa.Array:
    """Rounded down to a multiple of `size`, plus `offset`, also below zero; int64."""
    shifted = pc.subtract(values, offset)
    quotient = pc.divide(shifted, size)
    remainder = pc.subtract(shifted, pc.multiply(quotient, size))
    floor = pc.subtract(quotient, pc.cast(pc.less(remainder, 0), pa.int64()))
    return pc.add(pc.multiply(floor, size), offset)
