"""64-bit hashes of values in columns, the same on every machine and in every run.

Words of 8 bytes are mixed by SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number
generators" (2014). Numbers are one word. Text and bytes are several, one after the other over the
whole column; what is long is hashed value by value, so that one long value costs no more than that.
They are no defence against values that are made to collide.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.part import canonical
from streamflow.aggregates.reductions import flat

_WORD = 8
#: Bytes above which a value is hashed on its own.
_LONG = 64


def hashes(column: Any) -> pa.Array:
    """A hash for each value, uint64; null for null. Equal values have equal hashes.

    A value's hash is that of its number, bytes or text: types are not told apart.
    """
    values = canonical(flat(column))
    kind = values.type
    if pa.types.is_floating(kind):
        made = _mix(pc.cast(values, pa.float64()).view(pa.uint64()))
    elif pa.types.is_temporal(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        whole = values.view(pa.int32()) if pa.types.is_date32(kind) else values
        made = _mix(pc.cast(whole, pa.int64()).view(pa.uint64()))
    else:
        text = pc.cast(values, pa.string()) if pa.types.is_decimal(kind) else values
        made = _of_bytes(pc.fill_null(pc.cast(text, pa.binary()), b""))
    return pc.if_else(values.is_valid(), made, pa.scalar(None, pa.uint64()))


def _of_bytes(values: pa.Array) -> pa.Array:
    lengths = pc.binary_length(values)
    made = _mix(pc.cast(lengths, pa.uint64()))
    for start in range(0, min(pc.max(lengths).as_py() or 0, _LONG), _WORD):
        longer = pc.greater(lengths, start)
        words = _words(values.filter(longer), start)
        made = pc.replace_with_mask(made, longer, _mix(pc.bit_wise_xor(made.filter(longer), words)))
    long = pc.greater(lengths, _LONG)
    digests = [_digest(value) for value in values.filter(long).to_pylist()]
    return pc.replace_with_mask(made, long, pa.array(digests, pa.uint64()))


def _words(values: pa.Array, start: int) -> pa.Array:
    """The 8 bytes of each value from `start` on, as integers; zeros where it ends before."""
    sliced = pc.binary_slice(values, start, start + _WORD).view(pa.string())
    padded = pc.ascii_rpad(sliced, _WORD, padding="\0")
    return pa.Array.from_buffers(pa.uint64(), len(padded), [None, padded.buffers()[2]])


def _digest(value: bytes) -> int:
    return int.from_bytes(blake2b(value, digest_size=_WORD).digest(), "little")


def _mix(words: pa.Array) -> pa.Array:
    """Other words, a different one for each, in which every bit depends on all."""
    words = pc.add(words, _constant(0x9E3779B97F4A7C15))
    words = pc.multiply(_fold(words, 30), _constant(0xBF58476D1CE4E5B9))
    words = pc.multiply(_fold(words, 27), _constant(0x94D049BB133111EB))
    return _fold(words, 31)


def _fold(words: pa.Array, bits: int) -> pa.Array:
    return pc.bit_wise_xor(words, pc.shift_right(words, _constant(bits)))


def _constant(value: int) -> pa.Scalar[Any]:
    return pa.scalar(value, pa.uint64())
