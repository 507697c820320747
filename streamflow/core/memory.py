"""What a stage remembers of each key: looked up at once for a micro-batch, stored with a commit.

Each key has an entry, `kind | stage | 0 | key`; of a stage that was not there from the beginning
the number of the commit before follows its name (`inherited.py`). The value starts with the time,
in microseconds, at which it is forgotten; infinity is never. Keys that are forgotten at about the
same time are listed together, `x | stage | 0 | time | commit | chunk`, so that they can be erased
without looking at all others. Entries are erased after their time; nobody sees when, since an entry
that is over is not heeded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.part import canonical
from streamflow.core.keys import entries_of, keys_in, list_range
from streamflow.core.step import StateView, TaskState

TIME = struct.Struct(">q")
#: A longer key is kept as its hash of 16 bytes: two of 10^12 keys are equal by chance in 10^-14.
LONGEST = 40
#: Keys are listed by the time at which they are forgotten, rounded up to this part of the time for
#: which they are remembered.
_PARTS = 16


@dataclass(frozen=True)
class Memory:
    """Where a stage's entries are: `kind` is one byte; a key is remembered for `span`, or ever.
    They are kept under `label`.
    """

    kind: bytes
    stage: str
    span: int | None
    label: str

    @property
    def prefix(self) -> bytes:
        """What the keys of its entries start with."""
        return self.kind + self.label.encode() + b"\0"

    def look_up(
        self, keys: Sequence[bytes], state: TaskState, view: StateView
    ) -> list[bytes | None]:
        """The value of each of these keys, which are different; one multi-get for all."""
        found: dict[bytes, bytes | None] = {}
        steps = state.kept.get(self.stage, ())
        missing: Sequence[bytes] = keys
        if steps:
            for step in steps:
                found |= {key: step[key] for key in step.keys() & keys}
            missing = [key for key in keys if key not in found]
        if missing:
            prefix = self.prefix
            # In order, as the database lies.
            asked = sorted(missing)
            stored = view.get([prefix + key for key in asked])
            found |= dict(zip(asked, stored, strict=True))
        return list(map(found.__getitem__, keys))

    def store(
        self, state: TaskState, lag: int, view: StateView, commit: int, limit: int
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """The changes of a commit: what came to be known since the last, less what is over."""
        new: dict[bytes, bytes] = {}
        for step in state.kept.get(self.stage, ()):
            new |= step
        mark = state.marks.get(self.stage)
        if mark is not None and self.span is not None:
            yield from self._forgotten(mark - lag, view, new)
        prefix = self.prefix
        for key, value in new.items():
            yield prefix + key, value
        if self.span is None:
            return
        size = max(self.span // _PARTS, 1)
        lists: dict[int, list[bytes]] = {}
        for key, value in new.items():
            lists.setdefault(-(-until_of(value) // size) * size, []).append(key)
        for until, keys in lists.items():
            yield from entries_of(self.label, until, commit, keys, limit)

    def _forgotten(
        self, watermark: int, view: StateView, new: Mapping[bytes, bytes]
    ) -> Iterator[tuple[bytes, None]]:
        """Tombstones of keys that are over. One known anew since has a later time of its own."""
        lists = view.scan(*list_range(self.label, watermark + 1))
        keys = {key for _, data in lists for key in keys_in(data)} - new.keys()
        prefix = self.prefix
        entries = [prefix + key for key in sorted(keys)]
        for entry, value in zip(entries, view.get(entries) if entries else (), strict=True):
            if value is not None and until_of(value) <= watermark:
                yield entry, None
        for name, _ in lists:
            yield name, None


def until_of(value: bytes) -> int:
    """When an entry is forgotten."""
    return TIME.unpack_from(value)[0]


def keys_of(rows: pa.RecordBatch, names: Sequence[str]) -> pa.Array:
    """One binary key per row, different for different values; null is a value of its own."""
    joined = joined_of(rows, names)
    long = pc.greater(pc.binary_length(joined), LONGEST)
    if not long.true_count:
        return joined
    hashed = [b"#" + digest(key) for key in joined.filter(long).to_pylist()]
    return pc.replace_with_mask(joined, long, pa.array(hashed, pa.binary()))


def joined_of(rows: pa.RecordBatch, names: Sequence[str]) -> pa.Array:
    """The values of these fields in one, different where any of them is."""
    parts = [_part(rows.column(name)) for name in names]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"\0", pa.binary()))


def digest(data: bytes, salt: bytes = b"") -> bytes:
    """A hash of 128 bits, another one with another salt of up to 16 bytes."""
    return blake2b(data, digest_size=16, salt=salt).digest()


def _part(column: pa.Array) -> pa.Array:
    """Values as bytes that tell where they end: numbers have no zero byte, texts say their length.

    Null is `n`, which neither is.
    """
    kind = column.type
    column = canonical(column)
    if pa.types.is_timestamp(kind):
        column = pc.cast(column, pa.int64())
    if pa.types.is_nested(kind):
        texts = [None if item is None else repr(item) for item in column.to_pylist()]
        column = pa.array(texts, pa.string())
    if pa.types.is_string(column.type) or pa.types.is_binary(kind):
        column = pc.cast(column, pa.binary())
        sizes = pc.cast(pc.cast(pc.binary_length(column), pa.string()), pa.binary())
        column = pc.binary_join_element_wise(sizes, column, pa.scalar(b":", pa.binary()))
    else:
        column = pc.cast(pc.cast(column, pa.string()), pa.binary())
    return pc.fill_null(column, pa.scalar(b"n", pa.binary())) if column.null_count else column
