"""What comes out of one step of a task: values only, nothing has happened yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol

import pyarrow as pa

from streamflow.batch import Headers, MicroBatch, TopicPartition
from streamflow.core.recall import NOTHING_LEARNED, Learned

#: Event time is held as microseconds since the epoch; this one is after all others.
INFINITY = 2**63 - 1


@dataclass(frozen=True)
class Raw:
    """A record as it came, byte for byte. Of the rows that are made of one, `index` tells which."""

    tp: TopicPartition
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    index: int = 0

    @staticmethod
    def of(batch: MicroBatch, row: int) -> Raw:
        """The record in this row of a batch."""
        return Raw(
            batch.tp,
            batch.offsets[row],
            batch.timestamps[row],
            batch.keys[row],
            batch.values[row],
            batch.headers[row],
        )

    def with_header(self, name: str, value: str) -> Raw:
        """With this header instead of any of its name."""
        kept = (header for header in self.headers if header[0] != name)
        return replace(self, headers=(*kept, (name, value.encode())))

    def __str__(self) -> str:
        return f"{self.tp}@{self.offset}"


@dataclass(frozen=True)
class Reject:
    """A record that cannot go on: where it stopped, and why.

    `reason` is one of `no-value, not-json, invalid, unstorable, wrong-key, event-time, future,
    rule, gate-tripped, failed, late, envelope`. `says_no_value` is known of words that pydantic has
    itself.
    """

    raw: Raw
    stage: str
    reason: str
    message: str
    field: str = ""
    rule: str = ""
    severity: str = "critical"
    says_no_value: bool = False


@dataclass(frozen=True)
class Failure:
    """A record that must not be passed by, though a stage's function fails on it."""

    offset: int
    stage: str
    message: str
    on_error: Literal["retry", "halt"]


def first_failure(one: Failure | None, other: Failure | None) -> Failure | None:
    """That of the earlier record; of two of one record, the first."""
    if one is None or other is None:
        return one or other
    return other if other.offset < one.offset else one


@dataclass(frozen=True)
class Late:
    """A record that came when a window of it was final already. Times in microseconds.

    `missed` are the bounds of the windows it came too late for, by start; `watermark` is the one
    before the record in its partition.
    """

    raw: Raw
    window: str
    missed: tuple[tuple[int, int], ...]
    event_time: int
    watermark: int

    @property
    def lateness(self) -> int:
        """How far the record's event time lies behind the watermark before it."""
        return self.watermark - self.event_time


@dataclass(frozen=True)
class Extents:
    """What a task remembers of checks, besides the partials of extents that are not over.

    Attributes:
        rows: How many rows have come, where extents are of rows.
        next: Where the extent after the last one that is over starts; None before the first.
        empty: How many of the last ones had no rows.
        counts: The row counts of the last ones, the newest last.
        offset: The offset after the rows of the last one that had any.
    """

    rows: int = 0
    next: int | None = None
    empty: int = 0
    counts: tuple[int, ...] = ()
    offset: int = 0


@dataclass(frozen=True)
class Tally:
    """What a task remembers of its quality over extents, of which one is open.

    Attributes:
        rows: How many records have come, where extents are of records.
        clock: Where they are of time, the largest event time so far.
        start: Where the open one starts; None when there is none, or no time yet.
        records: How many records are in it.
        counts: How many of them were rejected, refused for a reason, or have broken a rule.
        examples: The offsets of the first of these.
        first: Where its records lie: the first offset, and `next`, the offset after them.
        latest: The largest timestamp of its records in Kafka, in microseconds.
    """

    rows: int = 0
    clock: int | None = None
    start: int | None = None
    records: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[int]] = field(default_factory=dict)
    first: int = 0
    next: int = 0
    latest: int = 0


@dataclass(frozen=True)
class Breaker:
    """What a task remembers of a threshold. Times in microseconds.

    Attributes:
        of: The signature of the threshold.
        phase: "closed", counting; "open", tripped; or "half_open", judging a few rows.
        rows: Rows in the extent; while open, those since it tripped; half open, those judged.
        bad: How many of them break the rules.
        recent: For an extent of rows one bit for each, 1 for broken, the first in the lowest.
        window: For an extent of time the start of the window it counts in.
        clock: The largest event time that has come to the gate.
        opened: The clock when it tripped last, and `tripped`, the offset of the row.
        fetched: When the batch of that row was fetched, in milliseconds.
        resumed: When it was decided, in milliseconds, that a partition that it had stopped goes on.
    """

    of: str
    phase: Literal["closed", "open", "half_open"] = "closed"
    rows: int = 0
    bad: int = 0
    recent: bytes = b""
    window: int | None = None
    clock: int | None = None
    opened: int | None = None
    tripped: int | None = None
    fetched: int | None = None
    resumed: int | None = None


@dataclass(frozen=True)
class Decision:
    """What a clock has decided for a partition, whose rows before `offset` it comes after.

    `idle` gives it `watermark`, `end_of_input` an infinite one. It is recorded in the commit it
    causes, so that it is in force from there on whatever crashes, and can be applied again by a
    replay. `at` is when it was taken, None where that is not kept; times are microseconds.
    """

    kind: Literal["idle", "end_of_input"]
    offset: int
    watermark: int = INFINITY
    at: int | None = None


class Begun(NamedTuple):
    """Since which commit a stage remembers keys, 0 for ever, and what it compares."""

    commit: int
    compared: str

    def label(self, stage: str) -> str:
        """What its entries are kept under."""
        return f"{stage}\1{self.commit}" if self.commit else stage


@dataclass(frozen=True)
class TaskState:
    """All that a task remembers, besides what its store holds.

    Attributes:
        commit: Number of the last commit; 0 before the first.
        position: The next offset of the source partition.
        seen: The largest event time that all windows have seen; without windows, that there was so
            far. None before the first row.
        idle: The last watermark that the partition was given while it was idle, None for none.
        ended: The offset at which the end of a bounded input was declared.
        totals: Records per exit over all commits: the conservation line.
        rules: How many records broke each rule, over all commits.
        open: Per window operator, partials that no commit has stored yet.
        taken: Keys of stored partials that are in `open` again; the next commit erases them.
        due: Per session operator, a time before which no session can end; None is unknown.
        marks: Per stage that remembers keys, the largest event time that has come to it; and per
            window operator (`mark_of`), that of the records which were not rejected on the way to
            it.
        kept: Per stage that remembers keys, entries of keys that no commit has stored yet, a
            mapping for each step.
        breakers: What is remembered of each threshold, by its name.
        extents: What is remembered of checks, by the key of their plan.
        tallies: What is remembered of the quality over extents, by the key of its plan.
        epoch: The number of the owner that has written it, where commits were not transactions
            ever; it never falls.
        provisional: Was it committed without a transaction? Then its rows count when its trailer is
            named.
        joined: Per sink that the topology was given later, the last commit before that.
        born: When its first commit was made, in milliseconds: it tells this state from one that was
            discarded, or lost with its changelog. None before.
        lag: The out-of-orderness that its watermarks were made with, in microseconds. None where
            that is not kept: as the plan has it.
        memories: Per stage that remembers keys, since when, and what it compares. None where that
            is not kept: since ever, as the plan has it.
        leftover: Memories of stages that are not there any more, until their entries are erased.
        early: Window operators that have ever given early results: a table may have one.
    """

    commit: int = 0
    position: int = 0
    seen: int | None = None
    idle: int | None = None
    ended: int | None = None
    totals: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[str, int] = field(default_factory=dict)
    open: Mapping[str, pa.Table] = field(default_factory=dict)
    taken: frozenset[bytes] = frozenset()
    due: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, tuple[Mapping[bytes, bytes], ...]] = field(default_factory=dict)
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    extents: Mapping[str, Extents] = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    joined: Mapping[str, int] = field(default_factory=dict)
    epoch: int = 0
    provisional: bool = False
    born: int | None = None
    lag: int | None = None
    memories: Mapping[str, Begun] | None = None
    leftover: tuple[str, ...] = ()
    early: frozenset[str] = frozenset()

    def watermark(self, out_of_orderness: int, window: str | None = None) -> int | None:
        """The watermark after everything so far, of a window operator or the smallest of all; None
        before the first row or decision.
        """
        if self.ended is not None:
            return INFINITY
        seen = self.seen if window is None else self.marks.get(mark_of(window))
        if seen is None:
            return self.idle
        rows = seen - out_of_orderness
        return rows if self.idle is None else max(rows, self.idle)

    def begun(self, stage: str) -> Begun:
        """Since when a stage remembers keys."""
        return (self.memories or {}).get(stage, Begun(0, ""))


def mark_of(window: str) -> str:
    """What the event time that a window operator has seen is kept under."""
    return f"window {window}"


@dataclass(frozen=True)
class Step:
    """The state after a micro-batch, and all that it sends out.

    `rows` and `forwarded` are by the number of their outlet; the latter has each record's event
    time (microseconds) beside it. So has `aside`: by topic, what stages have dropped to a side;
    `results` are in the schema of the window's results, followed by a column `__latest`, the
    largest event time in each. `failure` is the record at `stop`, where that has to be done, or the
    function mended, before anything goes on. `learned` is what can be
    recalled after it.
    """

    state: TaskState
    start: int
    stop: int
    rows: Mapping[int, tuple[pa.RecordBatch, ...]] = field(default_factory=dict)
    forwarded: Mapping[int, tuple[tuple[Raw, int], ...]] = field(default_factory=dict)
    aside: Mapping[str, tuple[tuple[Raw, int], ...]] = field(default_factory=dict)
    rejects: tuple[Reject, ...] = ()
    late: Mapping[str, tuple[Late, ...]] = field(default_factory=dict)
    results: Mapping[str, tuple[pa.RecordBatch, ...]] = field(default_factory=dict)
    erased: tuple[bytes, ...] = ()
    decisions: tuple[Decision, ...] = ()
    counts: Counter[str] = field(default_factory=Counter[str])
    rules: Counter[str] = field(default_factory=Counter[str])
    failure: Failure | None = None
    stopped: Mapping[str, int] = field(default_factory=dict)
    learned: Learned = NOTHING_LEARNED

    @property
    def sends_nothing(self) -> bool:
        """Does it only lead to another state?"""
        some = self.rows or self.forwarded or self.aside or self.rejects or self.late
        return not some and not self.results


class StateView(Protocol):
    """What the core may ask of a task's committed state."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of `keys`; None where there is none."""
        ...

    def scan(
        self, start: bytes, stop: bytes, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """The entries with `start <= key < stop`, in key order; the first `limit` of them."""
        ...
