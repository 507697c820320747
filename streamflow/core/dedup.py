"""Deduplication: the first record of each key within a time passes, the others are dropped.

Judged by event time alone. A row is a duplicate when its key is remembered from an event time `t`
and its own lies before `t + within`. The stage has a watermark of its own: the largest event time
that has come to it before a row, less the out-of-orderness; a key is remembered until that is at
`t + within`. So neither micro-batches and commits nor what later stages do can be seen.

In the state (`memory.py`) each key has the time at which it is forgotten.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.core.memory import TIME, Memory, keys_of, until_of
from streamflow.core.step import StateView, TaskState
from streamflow.core.watermark import after_all, before_each
from streamflow.schema import EVENT_TIME
from streamflow.stages import Dedup


def memory_of(stage: Dedup, state: TaskState) -> Memory:
    """Where the stage remembers."""
    return Memory(b"d", stage.name, stage.within, state.begun(stage.name).label(stage.name))


def deduplicate(
    stage: Dedup, rows: pa.RecordBatch, state: TaskState, lag: int, view: StateView
) -> tuple[pa.Array, TaskState]:
    """True for each row that is no duplicate, and the state after all of them."""
    times = pc.cast(rows.column(EVENT_TIME.name), pa.int64())
    if not len(times):
        return pa.array([], pa.bool_()), state
    mark = state.marks.get(stage.name)
    marks = pc.subtract(before_each(times, mark), lag)
    encoded = pc.dictionary_encode(keys_of(rows, stage.keys))
    keys: list[bytes] = encoded.dictionary.to_pylist()
    held = memory_of(stage, state).look_up(keys, state, view)
    untils = [None if value is None else until_of(value) for value in held]
    ids = encoded.indices
    keep = _unknown(times, marks, pa.array(untils, pa.int64()).take(ids))
    new, keep = _first_ones(stage.within, ids, times, marks, keep)
    entries = {keys[i]: TIME.pack(until) for i, until in new.items()}
    latest = after_all(times, mark)
    assert latest is not None
    kept = (*state.kept.get(stage.name, ()), entries)
    after = replace(
        state,
        marks={**state.marks, stage.name: latest},
        kept={**state.kept, stage.name: kept},
    )
    return keep, after


def _unknown(times: pa.Array, marks: pa.Array, untils: pa.Array) -> pa.Array:
    """Which rows would pass if they were the only ones of their keys."""
    # Before the first row there is no watermark.
    passed = pc.fill_null(pc.greater_equal(marks, untils), False)
    over = pc.or_(pc.greater_equal(times, untils), passed)
    return pc.fill_null(over, True)


def _first_ones(
    within: int, ids: pa.Array, times: pa.Array, marks: pa.Array, keep: pa.Array
) -> tuple[dict[int, int], pa.Array]:
    """When the keys that pass are forgotten, by number of the key; and the rows that pass.

    Keys that pass and have several rows here are taken row by row: each pass decides on what
    follows. All others are decided already.
    """
    rows = pc.value_counts(ids)
    several = rows.field("values").filter(pc.greater(rows.field("counts"), 1))
    passing = pc.unique(ids.filter(keep))
    contested = several.filter(pc.is_in(several, value_set=passing))
    if not len(contested):
        made = pc.add(times.filter(keep), within).to_pylist()
        return dict(zip(ids.filter(keep).to_pylist(), made, strict=True)), keep
    apart = pc.is_in(ids, value_set=contested)
    alone = pc.and_not(keep, apart)
    made = pc.add(times.filter(alone), within).to_pylist()
    new = dict(zip(ids.filter(alone).to_pylist(), made, strict=True))
    columns = [column.filter(apart).to_pylist() for column in (ids, times, marks, keep)]
    verdicts: list[bool] = []
    for key, time, mark, first in zip(*columns, strict=True):
        until = new.get(key)
        passes = first if until is None else time >= until or (mark is not None and mark >= until)
        if passes:
            new[key] = time + within
        verdicts.append(passes)
    return new, pc.replace_with_mask(keep, apart, pa.array(verdicts, pa.bool_()))
