"""Records that are known byte for byte are told before they are decoded.

Most records of a data set that is sent again are those of the last time. `changed` would find each
of them unchanged: it keeps, with what it knows of a key, a hash of the bytes that the last record
of that version had. A record of these bytes changes nothing but the watermark, so that its event
time, which is kept too, is all that is needed of it.

That holds where bytes decide everything up to `changed`: the way there is a line of gates without
thresholds, filters and maps in SQL over the record's own fields, event time is made of the value,
and no quality is kept over extents, which count records. `Known` is made of a plan only where that
is so. What a record was decided by is hashed with it, so that hashes which another version of a
topology has left behind are met by nothing.

Within a micro-batch a key can change before its former bytes come again: then these are decoded
after all (`advance.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import repeat

import pyarrow as pa
import pyarrow.compute as pc
import pydantic
import xxhash

from streamflow.batch import MicroBatch
from streamflow.changes import Changed, Content
from streamflow.core.describe import describe_source, describe_stage
from streamflow.core.plan import Node, TaskPlan
from streamflow.epochs import Epoch
from streamflow.event_time import years_around
from streamflow.nested import models_of
from streamflow.schema import EVENT_TIME, LINEAGE, TIMESTAMP, WARNINGS
from streamflow.stages import Filter, Gate, Map
from streamflow.told import UNTOLD

#: In place of the hash of a record that is always decoded.
NOTHING = bytes(16)
#: What differs between two records of the same bytes.
_OF_THE_RECORD = re.compile(rf"\b({'|'.join(LINEAGE.names)})\b")
#: How Python writes what it has no better words for: another process would write the same of
#: another thing.
_ADDRESS = " at 0x"


@dataclass(frozen=True)
class Learned:
    """Hashes of what is known from now on, with event times; and of what is not any more."""

    times: Mapping[bytes, int]
    gone: frozenset[bytes]


NOTHING_LEARNED = Learned({}, frozenset())


@dataclass(frozen=True)
class Recalled:
    """A micro-batch, parted: `rest` has to be decoded, and the other records are unchanged: of
    these there are offsets and event times. `hashes` are those of the rest, `all` those of both.
    """

    rest: MicroBatch
    hashes: Sequence[bytes]
    offsets: pa.Array
    times: pa.Array
    all: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.offsets)

    def among(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Offsets and event times of what is known among these rows, by offset."""
        if not len(self):
            return rows
        known = [self.offsets, pc.cast(self.times, TIMESTAMP)]
        names = ["_offset", EVENT_TIME.name]
        columns = [pa.concat_arrays([rows[n], c]) for n, c in zip(names, known, strict=True)]
        both = pa.RecordBatch.from_arrays(columns, names)
        return both.take(pc.array_sort_indices(both["_offset"]))

    def hashes_of(self, rows: pa.RecordBatch, places: pa.Array) -> pa.Array:
        """The hashes of rows by the places of their records. A row with warnings has none: gates
        have to count it each time.
        """
        hashes = pa.array(self.hashes, pa.binary()).take(places)
        return pc.if_else(pc.is_valid(rows.column(WARNINGS.name)), NOTHING, hashes)

    @staticmethod
    def nothing(batch: MicroBatch) -> Recalled:
        """All of it has to be decoded."""
        none = pa.array([], pa.int64())
        return Recalled(batch, [NOTHING] * len(batch), none, none, ())


@dataclass(frozen=True)
class Known:
    """The hashes of what a task knows, with event times in microseconds: at most `most`.

    What is in it is in the task's state; what is in the state need not be in it.

    Affects: `learn` changes it. Caller: the task, when a step has become its own.
    """

    stage: Changed
    salt: bytes
    most: int
    times: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def learn(self, learned: Learned) -> None:
        """Take over what a step has learned."""
        for gone in learned.gone:
            self.times.pop(gone, None)
        room = self.most - len(self.times)
        new = learned.times
        self.times.update(new if len(new) <= room else dict(list(new.items())[: max(room, 0)]))


def known_of(plan: TaskPlan, most: int) -> Known | None:
    """Where to keep what a task knows; None where bytes alone do not decide."""
    stage = detection_of(plan)
    source = plan.source
    named = source.event_time
    if stage is None or plan.rolling or most <= 0 or source.missing_event_time != "dead_letter":
        return None
    if not (isinstance(named, str | Epoch) or callable(named)):
        return None
    model = source.contract.model
    lines = [describe_source(source), repr(plan.years), pydantic.VERSION]
    for one in models_of(model):
        lines += map(repr, (one.model_fields, one.model_config, one.__pydantic_decorators__))
    lines += [describe_stage(one) for one in plan.stages[: plan.stages.index(stage) + 1]]
    text = "\n".join(lines)
    if _ADDRESS in text or UNTOLD in text:
        return None
    return Known(stage, xxhash.xxh3_128_hexdigest(text.encode()).encode(), most)


def detection_of(plan: TaskPlan) -> Changed | None:
    """The stage that all records come to, if nothing on the way looks at more than their bytes."""
    for node in _line(plan.tree):
        match node.stage:
            case Changed() as stage:
                return stage if _by_fields(stage) else None
            case None | Gate() | Filter() | Map() as stage if _by_bytes(stage):
                continue
            case _:
                return None
    return None


def _line(node: Node) -> Iterator[Node]:
    """A node and those below it, up to where there is more than one way."""
    yield node
    if node.outlet is None and len(node.nodes) == 1:
        yield from _line(node.nodes[0])


def _by_fields(stage: Changed) -> bool:
    by = () if isinstance(stage.by, Content) else (stage.by,)
    used = {*stage.keys, *stage.fields, *by, stage.sequence}
    return stage.forget_after is None and not used & set(LINEAGE.names)


def _by_bytes(stage: Gate | Filter | Map | None) -> bool:
    match stage:
        case None:
            return True
        case Gate():
            said = [rule.condition for rule, _ in stage.rules]
        case Filter():
            said = [stage.condition]
        case _:
            said = list(stage.columns.values())
    if isinstance(stage, Gate) and stage.watches:
        return False
    return all(isinstance(one, str) and not _OF_THE_RECORD.search(one) for one in said)


def recall(
    plan: TaskPlan, batch: MicroBatch, known: Known | None, but: frozenset[bytes]
) -> Recalled:
    """Part a micro-batch into what is known, but for some hashes, and what has to be decoded."""
    if known is None or not len(batch):
        return Recalled.nothing(batch)
    hashes = _hashes(plan, batch, known.salt)
    times = pa.array(list(map(known.times.get, hashes)), pa.int64())
    found = pc.and_(pc.is_valid(times), _storable(batch))
    if plan.max_future is not None:
        found = pc.and_(found, pc.less_equal(times, batch.fetched * 1000 + plan.max_future))
    found = pc.fill_null(found, False)
    if but:
        found = pc.and_(found, pa.array([one not in but for one in hashes]))
    if not found.true_count:
        return replace(Recalled.nothing(batch), hashes=hashes)
    # Rows are picked, not sifted: nothing of the records that are known is touched again.
    rest = pc.indices_nonzero(pc.invert(found)).to_pylist()
    return Recalled(
        batch.only(rest),
        [hashes[row] for row in rest],
        pa.array(batch.offsets, pa.int64()).filter(found),
        times.filter(found),
        hashes,
    )


def _hashes(plan: TaskPlan, batch: MicroBatch, salt: bytes) -> list[bytes]:
    """A hash of each record's value, and of its key where that is compared with a field.

    What stands between the two is no UTF-8, which a value and a key that were taken are, so nothing
    else makes the same bytes. XXH3 takes a fifth of the time of a hash made for secrets: who could
    build two records of one hash may write to the topic, and hides no more by that than by a newer
    version of somebody's key.
    """
    keys = repeat(b"") if not plan.source.keys else batch.keys
    joined, hash_of = (b"\xff" + salt).join, xxhash.xxh3_128_digest
    return [
        NOTHING if value is None or key is None else hash_of(joined((value, key)))
        for value, key in zip(batch.values, keys, strict=False)
    ]


def _storable(batch: MicroBatch) -> pa.Array:
    """Does Kafka's timestamp fit a column?"""
    millis, years = pa.array(batch.timestamps, pa.int64()), years_around(timedelta(0))
    late = pc.less(millis, years.stop // 1000)
    return pc.and_(pc.greater_equal(millis, years.start // 1000), late)
