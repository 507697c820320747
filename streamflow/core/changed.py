"""Change detection: rows that say something new of their key pass, all others are dropped.

Each row has a version: `by` where that is a field, else its event time; then the sequence. A row
older than the newest version known of its key has lost a conflict; of equal ones the later offset
counts. What is known of a key, besides that version, is the content of the last row that counted.

A micro-batch is judged as a whole: its rows, and before them what is held of their keys, are sorted
by key, and running maxima within each key stand for what a loop over the rows would hold. So it
does not matter how often a key comes, nor how the partition is cut.

In the state (`memory.py`) each key has its version, and a hash of its content.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.changes import CHANGE, Changed, Content
from streamflow.core.memory import Memory, digest, joined_of, keys_of
from streamflow.core.recall import NOTHING, NOTHING_LEARNED, Known, Learned
from streamflow.core.step import INFINITY, StateView, TaskState
from streamflow.core.watermark import after_all, before_each
from streamflow.nested import INT64_MIN
from streamflow.schema import EVENT_TIME

#: When it is forgotten, version, sequence and content; event time and hash of the last record of
#: that version (`recall.py`).
_ENTRY = struct.Struct(">qqq16sq16s")
_RECORD = struct.Struct(">q16s")
#: Entries that are read at once.
PIECE = 10_000
#: Contents that are no hash: of what was deleted, and of any row where `by` is a field.
DELETED, PRESENT = b"-" * 16, b"+" * 16
_HELD = pa.schema(
    [
        ("key", pa.int64()),
        ("version", pa.int64()),
        ("sequence", pa.int64()),
        ("content", pa.binary()),
        ("time", pa.int64()),
        ("hash", pa.binary()),
        ("until", pa.int64()),
        ("watermark", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Detected:
    """What becomes of each row: its `_change`, null where it is dropped; and which of those lost a
    conflict.
    """

    changes: pa.Array
    lost: pa.Array
    state: TaskState
    learned: Learned


@dataclass(frozen=True)
class Heard:
    """Rows that come to the stage, which of them say that their key was deleted, if any can, and
    the hashes of their records; and event times of records that are known and unchanged.
    """

    rows: pa.RecordBatch
    deleted: pa.Array | None
    hashes: pa.Array
    recalled: pa.Array


def memory_of(stage: Changed, state: TaskState) -> Memory:
    """Where the stage remembers."""
    return Memory(b"c", stage.name, stage.forget_after, state.begun(stage.name).label(stage.name))


def detect(stage: Changed, heard: Heard, state: TaskState, lag: int, view: StateView) -> Detected:
    """Judge rows, of which some may say that their key was deleted, and remember them.

    A deletion without a version deletes what is known, which stays as new as it was.
    """
    times = pc.cast(heard.rows.column(EVENT_TIME.name), pa.int64())
    mark = state.marks.get(stage.name)
    latest = after_all(heard.recalled, after_all(times, mark))
    if latest is not None:
        state = replace(state, marks={**state.marks, stage.name: latest})
    if not len(times):
        none = pa.array([], CHANGE.type)
        return Detected(none, pc.is_valid(none), state, NOTHING_LEARNED)
    encoded = pc.dictionary_encode(keys_of(heard.rows, stage.keys))
    keys: list[bytes] = encoded.dictionary.to_pylist()
    memory = memory_of(stage, state)
    found = memory.look_up(keys, state, view)
    held = _held(found)
    marks = pc.subtract(before_each(times, mark), lag)
    came = _came(stage, heard, times, pc.cast(encoded.indices, pa.int64()), marks)
    both = pa.concat_tables([held, came]).combine_chunks()
    order = pc.sort_indices(both.column("key"))
    judged = _judge(stage, both.take(order))
    place = pc.sort_indices(order)[held.num_rows :]
    entries = dict(zip(keys, _entries(judged), strict=True))
    new = {key: entries[key] for key, old in zip(keys, found, strict=True) if entries[key] != old}
    kept = {**state.kept, stage.name: (*state.kept.get(stage.name, ()), new)}
    gone = (old for key, old in zip(keys, found, strict=True) if old is not None and key in new)
    return Detected(
        judged.change.take(place),
        judged.lost.take(place),
        replace(state, kept=kept),
        Learned(_hashes_in(new.values()), frozenset(_hashes_in(gone))),
    )


def _held(found: list[bytes | None]) -> pa.Table:
    """What is held of the keys that are known, as rows that came before all others."""
    keys = [key for key, value in enumerate(found) if value is not None]
    data = b"".join(value for value in found if value is not None)
    values = list(zip(*_ENTRY.iter_unpack(data), strict=True)) or [()] * 6
    ends, *known = values
    columns: list[Any] = [keys, *known, ends, [None] * len(keys)]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, _HELD, strict=True)], _HELD)


def _came(
    stage: Changed, heard: Heard, times: pa.Array, keys: pa.Array, marks: pa.Array
) -> pa.Table:
    rows, hashes, n = heard.rows, heard.hashes, heard.rows.num_rows
    if isinstance(stage.by, str):
        version, contents = pc.cast(rows.column(stage.by), pa.int64()), pa.repeat(PRESENT, n)
    else:
        version = times
        # In whatever order the model has them; and another field of the same value is another one.
        fields = sorted(stage.fields)
        salt = digest("\n".join(fields).encode())
        joined = joined_of(rows, fields).to_pylist()
        contents = pa.array([digest(one, salt) for one in joined], pa.binary())
    sequence = pa.repeat(0, n)
    if stage.sequence is not None:
        sequence = pc.cast(rows.column(stage.sequence), pa.int64())
    contents = pc.cast(contents, pa.binary())
    if heard.deleted is not None:
        contents = pc.if_else(heard.deleted, DELETED, contents)
        hashes = pc.if_else(heard.deleted, NOTHING, hashes)
        # Only a field of its own says how old a deletion is: its event time may be Kafka's.
        own = isinstance(stage.by, str) and not stage.by.startswith("_")
        unknown = pc.or_(pc.is_null(sequence), not own)
        version = pc.if_else(pc.and_(heard.deleted, unknown), None, version)
    forgets = stage.forget_after is not None
    ends = pc.add(times, stage.forget_after) if forgets else pa.repeat(INFINITY, n)
    return pa.table([keys, version, sequence, contents, times, hashes, ends, marks], _HELD)


@dataclass(frozen=True)
class _Judged:
    """Rows in the order of their keys, and what is known after each: version and `until`."""

    change: pa.Array
    lost: pa.Array
    last: pa.Array
    version: pa.Array
    sequence: pa.Array
    content: pa.Array
    time: pa.Array
    hash: pa.Array
    until: pa.Array


def _judge(stage: Changed, rows: pa.Table) -> _Judged:
    """All columns here are in the order of the keys; "before" is within a key."""
    columns = {name: rows.column(name).combine_chunks() for name in rows.schema.names}
    key, content = columns["key"], columns["content"]
    first = pc.fill_null(pc.not_equal(key, _shifted(key)), True)
    start, ends = first, columns["until"]
    if stage.forget_after is not None:
        ends, before = _highest(first, ends)
        # A key that is forgotten begins anew: what was held of it is as if it had never been.
        over = pc.fill_null(pc.greater_equal(columns["watermark"], before), False)
        start = pc.or_(first, over)
    ranks, versions, sequences = _ranks(columns["version"], columns["sequence"])
    rank, before = _highest(start, ranks)
    delete = pc.equal(content, DELETED)
    newer, same = pc.greater(ranks, before), pc.equal(ranks, before)
    # A deletion that does not say how old it is counts; of equal ones a later one does.
    counts = pc.or_(newer, pc.and_(delete, pc.or_(same, pc.is_null(columns["version"]))))
    if isinstance(stage.by, Content):
        counts = pc.or_(counts, same)
    counts = pc.if_else(start, True, counts)
    places = pa.array(range(len(key)), pa.int64())
    counted = pc.fill_null_forward(pc.if_else(counts, places, None))
    at = pc.fill_null_forward(pc.if_else(pc.or_kleene(counts, same), places, None))
    previous = pc.if_else(start, None, content.take(_shifted(counted)))
    change = _change(counts, delete, content, previous, isinstance(stage.by, str))
    equal = same if isinstance(stage.by, str) else pc.equal(content, previous)
    lost = pc.if_else(counts, False, pc.invert(equal))
    return _Judged(
        change,
        lost,
        _last(first),
        versions.take(rank),
        sequences.take(rank),
        content.take(counted),
        columns["time"].take(at),
        columns["hash"].take(at),
        ends,
    )


def _change(
    counts: pa.Array, delete: pa.Array, content: pa.Array, previous: pa.Array, by_field: bool
) -> pa.Array:
    """What the rows that count did to their keys; null for the others, and where nothing."""
    gone = pc.fill_null(pc.equal(previous, DELETED), True)
    moved = pa.repeat(True, len(content)) if by_field else pc.not_equal(content, previous)
    kept = pc.if_else(gone, "new", pc.if_else(moved, "changed", None))
    removed = pc.if_else(gone, pa.scalar(None, CHANGE.type), "deleted")
    return pc.if_else(counts, pc.if_else(delete, removed, kept), None)


def _entries(judged: _Judged) -> list[bytes]:
    """What is held of each key afterwards, in the order of the keys."""
    known = (
        judged.until,
        judged.version,
        judged.sequence,
        judged.content,
        judged.time,
        judged.hash,
    )
    columns = [column.filter(judged.last).to_pylist() for column in known]
    return list(map(_ENTRY.pack, *columns))


def _hashes_in(entries: Iterable[bytes]) -> dict[bytes, int]:
    """The hashes of records, and their event times."""
    found = (_RECORD.unpack_from(entry, _ENTRY.size - _RECORD.size) for entry in entries)
    return {known: time for time, known in found if known != NOTHING}


def learn_stored(known: Known, state: TaskState, view: StateView) -> None:
    """Let all that is stored be known, as far as there is room."""
    prefix = memory_of(known.stage, state).prefix
    start, stop, most = prefix, prefix[:-1] + b"\1", known.most
    while most > 0:
        entries = view.scan(start, stop, limit=min(most, PIECE))
        if not entries:
            return
        known.learn(Learned(_hashes_in(value for _, value in entries), frozenset()))
        most -= len(entries)
        start = entries[-1][0] + b"\0"


def _shifted(column: pa.Array) -> pa.Array:
    """Each row has the value of the one before it; the first has null."""
    return pa.concat_arrays([pa.nulls(1, column.type), column[:-1]])


def _last(first: pa.Array) -> pa.Array:
    """The last row of each key, by the first ones."""
    return pa.concat_arrays([first[1:], pa.array([True])])


def _highest(start: pa.Array, values: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The largest value up to each row since the last start, and the one before it, if any.

    One running maximum for all: the values of later runs are lifted above those of earlier ones.
    """
    ranks = pc.subtract(pc.cast(pc.rank(values, tiebreaker="dense"), pa.int64()), 1)
    distinct = pc.unique(values)
    distinct = distinct.take(pc.sort_indices(distinct))
    run = pc.multiply(pc.cumulative_sum(pc.cast(start, pa.int64())), len(values))
    highest = pc.subtract(pc.cumulative_max(pc.add(run, ranks)), run)
    reached = distinct.take(highest)
    return reached, pc.if_else(start, None, _shifted(reached))


def _ranks(version: pa.Array, sequence: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The rank of each row's version among all, from 0, and the versions and sequences by rank.

    What has no version is below all others.
    """
    lowest = pc.is_null(version)
    columns = [pc.if_else(lowest, INT64_MIN, column) for column in (version, sequence)]
    pairs = pa.table(columns, ["version", "sequence"])
    order = pc.sort_indices(pairs, [("version", "ascending"), ("sequence", "ascending")])
    inorder = [column.combine_chunks() for column in pairs.take(order).columns]
    steps = [pc.not_equal(column, _shifted(column)) for column in inorder]
    step = pc.fill_null(pc.or_(*steps), True)
    ranks = pc.subtract(pc.cumulative_sum(pc.cast(step, pa.int64())), 1)
    versions, sequences = (column.filter(step) for column in inorder)
    return ranks.take(pc.sort_indices(order)), versions, sequences
