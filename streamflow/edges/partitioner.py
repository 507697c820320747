"""Kafka's default partitioner, so that a key goes where every other client puts it.

It is murmur2 with the seed of Java's client. The key of a result is new nearly every time, and in
Python alone each takes 4 us; many at once are hashed as columns, for 0.9 us each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from aiokafka.partitioner import murmur2

#: Fewer keys than this are sooner hashed one by one.
FEW = 64
_SEED, _MIX, _SHIFT = 0x9747B28C, 0x5BD1E995, 24
_U32 = pa.uint32()


def default_partition(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`, as Java's client chooses it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def default_partitions(keys: Sequence[bytes], partitions: int) -> list[int]:
    """The partition of each key, as `default_partition`."""
    if len(keys) < FEW:
        return [default_partition(key, partitions) for key in keys]
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        by_length[len(key)].append(place)
    placed = [0] * len(keys)
    for length, places in by_length.items():
        hashes = _murmur2([keys[place] for place in places], length)
        positive = pc.cast(pc.bit_wise_and(hashes, _word(0x7FFFFFFF)), pa.int64())
        rest = pc.subtract(positive, pc.multiply(pc.divide(positive, partitions), partitions))
        for place, partition in zip(places, rest.to_pylist(), strict=True):
            placed[place] = partition
    return placed


def _murmur2(keys: Sequence[bytes], length: int) -> pa.Array:
    """The hashes of keys of one length, word by word."""
    whole = pa.array(keys, pa.binary())
    hashes: Any = pa.repeat(_word(_SEED ^ length), len(keys))
    for start in range(0, length - length % 4, 4):
        word = pc.multiply(_words(whole, start), _word(_MIX))
        word = pc.multiply(_shift_xor(word, _SHIFT), _word(_MIX))
        hashes = pc.bit_wise_xor(pc.multiply(hashes, _word(_MIX)), word)
    if length % 4:
        hashes = pc.bit_wise_xor(hashes, _words(whole, length - length % 4))
        hashes = pc.multiply(hashes, _word(_MIX))
    hashes = pc.multiply(_shift_xor(hashes, 13), _word(_MIX))
    return _shift_xor(hashes, 15)


def _words(keys: pa.Array, start: int) -> pa.Array:
    """The four bytes from `start` of every key, little endian; missing ones are zero."""
    bytes_ = pc.binary_slice(keys, start, start + 4)
    padded = pc.binary_slice(pc.binary_join_element_wise(bytes_, b"\0\0\0", b""), 0, 4)
    return pc.cast(padded, pa.binary(4)).view(_U32)


def _shift_xor(words: pa.Array, bits: int) -> pa.Array:
    return pc.bit_wise_xor(words, pc.shift_right(words, _word(bits)))


def _word(number: int) -> pa.Scalar:
    return pa.scalar(number, _U32)
