"""Deduplication: the first record of each key within a time passes, the others are dropped.

Judged by event time alone. A row is a duplicate when its key is remembered from an event time `t`
and its own lies before `t + within`. The stage has a watermark of its own: the largest event time
that has come to it before a row, less the out-of-orderness; a key is remembered until that is at
`t + within`. So neither micro-batches and commits nor what later stages do can be seen.

In the state each key has an entry, `d | stage | key`, with the time at which it is forgotten; and
keys that are forgotten at about the same time are listed together, `x | stage | time | commit`, so
that they can be erased without looking at all others. The entries are erased after their time;
nobody sees when, since an entry that is over is not heeded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.keys import entries_of, keys_in, list_range
from streamflow.core.step import StateView, TaskState
from streamflow.core.watermark import after_all, before_each
from streamflow.schema import EVENT_TIME
from streamflow.stages import Dedup

_TIME = struct.Struct(">q")
#: A longer key is kept as its hash of 16 bytes: two of 10^12 keys are equal by chance in 10^-14.
LONGEST = 40
#: Keys are listed by the time at which they are forgotten, rounded up to this part of `within`.
_PARTS = 16


def deduplicate(
    stage: Dedup, rows: pa.RecordBatch, state: TaskState, lag: int, view: StateView
) -> tuple[pa.Array, TaskState]:
    """True for each row that is no duplicate, and the state after all of them."""
    times = pc.cast(rows.column(EVENT_TIME.name), pa.int64())
    if not len(times):
        return pa.array([], pa.bool_()), state
    mark = state.marks.get(stage.name)
    keys = keys_of(rows, stage.keys)
    known = _known(stage, keys, state, view)
    new: dict[bytes, int] = {}
    keep: list[bool] = []
    marks = before_each(times, mark).to_pylist()
    for key, time, seen in zip(keys, times.to_pylist(), marks, strict=True):
        until = known.get(key)
        passes = until is None or time >= until or (seen is not None and seen - lag >= until)
        if passes:
            known[key] = new[key] = time + stage.within
        keep.append(passes)
    latest = after_all(times, mark)
    assert latest is not None
    kept = (*state.kept.get(stage.name, ()), new)
    after = replace(
        state,
        marks={**state.marks, stage.name: latest},
        kept={**state.kept, stage.name: kept},
    )
    return pa.array(keep, pa.bool_()), after


def keys_of(rows: pa.RecordBatch, names: tuple[str, ...]) -> list[bytes]:
    """One key per row, different for different values; null is a value of its own."""
    parts = [_part(rows.column(name)) for name in names]
    joined = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))
    return [key if len(key) <= LONGEST else _hash(key) for key in joined.to_pylist()]


def _part(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = pc.cast(column, pa.int64())
    if not pa.types.is_binary(kind):
        column = pc.cast(pc.cast(column, pa.string()), pa.binary())
    sizes = pc.cast(pc.cast(pc.binary_length(column), pa.string()), pa.binary())
    sized = pc.binary_join_element_wise(sizes, column, pa.scalar(b":", pa.binary()))
    return pc.fill_null(sized, pa.scalar(b"n", pa.binary()))


def _hash(key: bytes) -> bytes:
    return b"#" + blake2b(key, digest_size=16).digest()


def _known(stage: Dedup, keys: list[bytes], state: TaskState, view: StateView) -> dict[bytes, int]:
    """When the keys are forgotten, of those that are known: one look-up for all of them."""
    known: dict[bytes, int] = {}
    missing = set(keys)
    for step in reversed(state.kept.get(stage.name, ())):
        here = step.keys() & missing
        known |= {key: step[key] for key in here}
        missing -= here
    if missing:
        asked = sorted(missing)
        prefix = _prefix(stage)
        found = view.get([prefix + key for key in asked])
        known |= {
            key: _TIME.unpack(value)[0]
            for key, value in zip(asked, found, strict=True)
            if value is not None
        }
    return known


def _prefix(stage: Dedup) -> bytes:
    return b"d" + stage.name.encode() + b"\0"


def store(
    stage: Dedup, state: TaskState, lag: int, view: StateView, commit: int, limit: int
) -> Iterator[tuple[bytes, bytes | None]]:
    """The changes of a commit: what came to be known since the last, less what is over."""
    new: dict[bytes, int] = {}
    for step in state.kept.get(stage.name, ()):
        new |= step
    mark = state.marks.get(stage.name)
    if mark is not None:
        yield from _forgotten(stage, mark - lag, view, new)
    size, prefix = max(stage.within // _PARTS, 1), _prefix(stage)
    lists: dict[int, list[bytes]] = {}
    for key, until in new.items():
        yield prefix + key, _TIME.pack(until)
        lists.setdefault(-(-until // size) * size, []).append(key)
    for until, keys in lists.items():
        yield from entries_of(stage.name, until, commit, keys, limit)


def _forgotten(
    stage: Dedup, watermark: int, view: StateView, new: Mapping[bytes, int]
) -> Iterator[tuple[bytes, None]]:
    """Tombstones of keys that are over. One that passed again since has a later time of its own."""
    lists = view.scan(*list_range(stage.name, watermark + 1))
    keys = {key for _, data in lists for key in keys_in(data)} - set(new)
    prefix = _prefix(stage)
    entries = [prefix + key for key in sorted(keys)]
    for entry, value in zip(entries, view.get(entries) if entries else (), strict=True):
        if value is not None and _TIME.unpack(value)[0] <= watermark:
            yield entry, None
    for name, _ in lists:
        yield name, None
