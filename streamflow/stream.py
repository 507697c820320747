"""Records of a source and what happens to them on their way: `source(...)` gives a `Stream`.

Each stage gives a `Stream` again; `window` gives a `Windowed`, whose only method is `aggregate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import BaseModel

from streamflow.changes import ALL_FIELDS, CHANGE, Changed, Content, changed_on
from streamflow.checking import Checks, checks_on
from streamflow.checks import Check
from streamflow.destinations import Drop, Parquet, Topic
from streamflow.edge import Edge, Exit, edge_to, side_of
from streamflow.enrich import Cache, Limits, Lookup, OnLookupError, PerKey, enrich_on
from streamflow.errors import TopologyError
from streamflow.expand import Explode, expand_stage, map_rows_stage
from streamflow.extents import Extent
from streamflow.gates import gate_on, routed_side
from streamflow.on_error import OnError
from streamflow.quality import Quality, quality_on
from streamflow.results import Windowed, windowed
from streamflow.retry import HALF_OF_TEN, THREE_TIMES, CircuitBreaker, RetryPolicy
from streamflow.rules import Rule
from streamflow.stages import (
    REMAKING,
    Arm,
    Cast,
    Dedup,
    Expression,
    Gate,
    Stage,
    branch_stage,
    dedup_stage,
    filter_stage,
    map_stage,
    with_lineage,
)
from streamflow.thresholds import Threshold
from streamflow.triggers import Early, LatePolicy
from streamflow.windows import Window

if TYPE_CHECKING:
    from streamflow.sources import Source


@dataclass(frozen=True, eq=False)
class Stream:
    """Records of a source that came through all stages so far. Streams fork: any number of stages,
    windows and destinations can start from one.
    """

    source: Source
    stages: tuple[Stage, ...] = ()

    def __str__(self) -> str:
        return repr(self.source.topic)

    @property
    def schema(self) -> pa.Schema:
        """Columns that stages, windows and sinks can use."""
        rows = with_lineage(self._fields)
        detected = any(isinstance(stage, Changed) for stage in self.stages)
        return rows.append(CHANGE) if detected else rows

    @property
    def model(self) -> type[BaseModel]:
        """The model of its rows."""
        maps = [stage for stage in self.stages if isinstance(stage, REMAKING)]
        return maps[-1].model if maps else self.source.contract.model

    @property
    def keys(self) -> tuple[str, ...]:
        """The fields of the record's key; a map has to take them all over under their names."""
        keys = self.source.keys
        for stage in self.stages:
            if isinstance(stage, REMAKING):
                taken = set(stage.schema.names).difference(stage.columns)
                keys = keys if taken.issuperset(keys) else ()
        return keys

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of all gates."""
        return tuple(rule for gate in self.gates for rule, _ in gate.rules)

    @property
    def rejected(self) -> Exit:
        """What is not a record of the contract, breaks a rule that rejects, or fails in a stage.

        A source has one rejected side, for all streams that come from it; say where it goes once,
        on any of them.
        """
        return Exit(self, "rejected")

    @property
    def quality(self) -> Exit:
        """A record for each commit: how many records came, left by which exit, and broke which
        rules, with a score from 0 to 100, and how its thresholds stand.
        """
        return Exit(self, "quality")

    def quality_over(self, extent: Extent, *, name: str = "quality") -> Quality:
        """The same for each extent of the source's records: windows of event time, or n records."""
        return quality_on(self, extent, name)

    @property
    def routed(self) -> Exit:
        """What thresholds route away, where it is not to be with the other rejected records."""
        return routed_side(self)

    @property
    def duplicates(self) -> Exit:
        """What `dedup` drops, with the bytes it came with; it need not lead anywhere."""
        return side_of(self, "duplicates", Dedup)

    @property
    def conflicts(self) -> Exit:
        """What `changed` drops because something newer is known; it need not lead anywhere."""
        return side_of(self, "conflicts", Changed)

    def nullable(self, name: str) -> bool:
        """Can this column be null? The key cannot: it is compared with the record's key."""
        return name not in self.keys and self.schema.field(name).nullable

    def gate(self, *rules: Rule, threshold: Threshold | None = None) -> Stream:
        """Check rules on each record; see `Rule` for what breaking one means.

        Args:
            rules: In the order in which they are looked at.
            threshold: How many records may break any of these rules, and what happens then.
        """
        made = gate_on(self, rules, threshold)
        return Stream(self.source, (*self.stages, made))

    def filter(self, condition: Expression, *, on_error: OnError = "dead_letter") -> Stream:
        """Keep the records on which a condition is true, and drop the others: as SQL's WHERE, also
        those on which it is NULL. Dropped records are counted, and do move the watermark.

        Args:
            condition: SQL, as in a `Rule`, or a function from a `pa.RecordBatch` to truth values.
            on_error: What a record on which it fails does; see `streamflow.on_error`.
        """
        stage = filter_stage(condition, on_error, self.schema, f"filter on {self}")
        return Stream(self.source, (*self.stages, stage))

    def map(
        self,
        model: type[BaseModel],
        *,
        on_error: OnError = "dead_letter",
        **columns: Expression | Cast,
    ) -> Stream:
        """Make rows of another model: select, rename, compute, fill and cast in one step.

        Each field of `model` is computed by the expression of its name, SQL or a function from a
        `pa.RecordBatch` to a column; without one, the stream's field of that name is taken over.
        Values are cast to the field's type without loss. A row on which that fails, or which has a
        null where the model allows none, leaves by `on_error`. An expression must look at each row
        alone.

        Args:
            model: What the rows are from here on; a table has its fields, a topic gets its JSON.
            on_error: As for `filter`. A field of this name can only be taken over.
            columns: Expressions by field; `cast(...)` says what becomes of values that do not fit.
        """
        stage = map_stage(model, columns, on_error, self.schema, f"map on {self}")
        return Stream(self.source, (*self.stages, stage))

    def map_rows(
        self,
        model: type[BaseModel],
        function: Callable[[dict[str, Any]], Any],
        *,
        on_error: OnError = "dead_letter",
    ) -> Stream:
        """Make rows of another model by a Python function of one row. Slow: it is called for each
        row, about 15 us and what it does; take `map` wherever columns will do.

        The function is given the fields of the row as a dict, and gives a `model`, or a dict that
        is validated as one. A row on which it fails, or whose topic's key it changes, leaves by
        `on_error` (see `streamflow.on_error`). It must look at nothing but its row.
        """
        stage = map_rows_stage(model, function, on_error, self.keys, f"map_rows on {self}")
        return Stream(self.source, (*self.stages, stage))

    def expand(
        self, model: type[BaseModel], by: str | Explode, *, on_error: OnError = "dead_letter"
    ) -> Stream:
        """Make zero or more rows of another model of each row.

        Fields of `model` that are not made are taken over by name. `_index` counts the rows of a
        record. A row of which none is made is dropped, and counted. A row on which it fails, also
        on one of the rows that are made of it, leaves as a whole, by `on_error`.

        Args:
            model: What the rows are from here on.
            by: A field that is a list: a row for each element, which is the field of that name. Or
                a function from a `pa.RecordBatch` to `(parents, rows)`: a column that says for each
                row of the `pa.RecordBatch` `rows` the number of the row it is made from, rising.
                It must look at each row alone.
            on_error: What a record on which it fails does; see `streamflow.on_error`.
        """
        if isinstance(by, str):
            self.need("expand", by)
        stage = expand_stage(model, by, on_error, self.schema, f"expand on {self}")
        return Stream(self.source, (*self.stages, stage))

    def enrich(  # noqa: PLR0913 - what a call is, and what it may cost
        self,
        model: type[BaseModel],
        lookup: Lookup | PerKey,
        *,
        key: str | tuple[str, ...],
        timeout: timedelta = timedelta(seconds=10),
        concurrency: int = 4,
        batch: int = 1_000,
        cache: Cache | None = None,
        retry: RetryPolicy | None = THREE_TIMES,
        breaker: CircuitBreaker | None = HALF_OF_TEN,
        on_error: OnLookupError = "dead_letter",
    ) -> Stream:
        """Make rows of another model, whose new fields are answers of an `async def` function.

        Fields of `model` that the stream does not have are looked up, the others taken over. Of a
        micro-batch each distinct key is asked for once, and its order is kept. A key that is left
        out of the answers makes nulls; so does one that is null, for which nobody is asked. What
        others answer is no state: a record that is done again may get another answer.

        Args:
            model: What the rows are from here on.
            lookup: Given a list of keys, it gives a mapping of keys to mappings, or models, of the
                looked up fields. Or `per_key(function)`, of a function of one key.
            key: The fields to ask by; where they are several, a key is a tuple.
            timeout: How long a call may take, from when it is made.
            concurrency: How many calls may be under way at once, in a worker.
            batch: How many keys a call has at the most.
            cache: Whether answers are kept over micro-batches, and for how long.
            retry: When a call that failed in passing is made again; None for never.
            breaker: When none is made for a time, and the partition waits; None for never.
            on_error: What a record does whose key's answer failed, was too late, or is not what the
                model says: see `streamflow.on_error`; or "null", nulls in all fields looked up.
        """
        limits = Limits(timeout, concurrency, batch, retry, breaker)
        made = enrich_on(self, model, lookup, key, limits, cache, on_error)
        return Stream(self.source, (*self.stages, made))

    def branch(
        self, *conditions: Expression, on_error: OnError = "dead_letter"
    ) -> tuple[Stream, ...]:
        """Part the records: a stream for each condition, and one for the rest.

        A record goes into the stream of the first condition that is true on it; where none is, also
        where they are NULL, into the last. Each of the streams has to lead somewhere, or end in
        `.drop()`. How many records go into each is counted.

        Args:
            conditions: SQL, as in a `Rule`, or functions from a `pa.RecordBatch` to truth values. A
                condition is looked at only where those before it were not true.
            on_error: What a record on which one fails does; see `streamflow.on_error`.
        """
        stage = branch_stage(conditions, on_error, self.schema, f"branch on {self}")
        arms = range(len(conditions) + 1)
        return tuple(Stream(self.source, (*self.stages, Arm(stage, arm))) for arm in arms)

    def dedup(self, *keys: str, within: timedelta, name: str | None = None) -> Stream:
        """Pass the first record of each key, and drop the others that come within a time.

        A record is a duplicate when its event time is before that of the record that passed
        `+ within`, or older than it; a key is forgotten when the watermark, as this stage sees it,
        is there too. Put it after the gates: a record that passes here and is rejected later still
        makes the next of its key a duplicate. Keys that are remembered are in the state, about 60
        bytes each; dropped records are counted, and do move the watermark.

        Args:
            keys: The fields that tell records apart.
            within: How long a record makes others of its key duplicates.
            name: What its state and its count are kept under, instead of the keys; two that run
                side by side need different ones.
        """
        for key in keys:
            self.need("dedup", key)
        known = [one.name for one in self.stages if isinstance(one, Dedup)]
        stage = dedup_stage(keys, within, name, known, self.schema, f"dedup on {self}")
        return Stream(self.source, (*self.stages, stage))

    def changed(
        self,
        *keys: str,
        by: str | Content = ALL_FIELDS,
        sequence: str | None = None,
        forget_after: timedelta | None = None,
    ) -> Stream:
        """Pass the records that say something new of their key, and drop the others.

        Rows get a column `_change`: "new", "changed" or "deleted". A record that says what is known
        already is unchanged; one that is older than what is known has lost a conflict. Both are
        dropped and counted, and move the watermark. What is known of each key is in the state, some
        100 bytes. Put it after the gates, and before windows.

        Args:
            keys: The fields that say what a record is about; they should contain the topic's key.
            by: A field, an int or an AwareDatetime, that every change moves forward: a record in
                which it is the same is unchanged. Or `content(...)`: one of the same contents is
                unchanged, and which is older is told by event time.
            sequence: A field that orders records where `by`, or the event time, is the same. Where
                nothing does, the later offset counts.
            forget_after: A key without a record for this long, as the watermark of this stage sees
                it, is forgotten: its next record is new, however old, and deleting it says nothing.
                Without it keys are remembered for ever.
        """
        stage = changed_on(self, keys, by, sequence, forget_after)
        return Stream(self.source, (*self.stages, stage))

    def window(
        self,
        window: Window,
        *,
        by: str | Sequence[str],
        grace: timedelta = timedelta(0),
        early: Early | None = None,
        late: LatePolicy = "side_output",
    ) -> Windowed:
        """Group records by fields and event-time windows.

        A window's one final result comes when the watermark is at its end plus `grace`.

        Args:
            window: `Tumbling`, `Hopping`, `Calendar`, `Session` or `Sliding`.
            by: Fields to group by; the topic's key must be among them.
            grace: How long after its end a window waits for rows that are behind the watermark.
            early: Results before the final one, with `final` false: `"at_end"`, when the watermark
                is at the window's end; `every(interval)`, for each window that has rows, when the
                watermark passes a multiple of `interval`. Several that are passed at once give one.
            late: What becomes of rows that come after the final result: `"side_output"`, the side
                `late` of the results; `"dead_letter"`, the rejected side, with the reason `late`;
                `update(keep=...)`, a corrected result with the next `revision`, at most one for
                each window, group and commit, until the watermark is `keep` further on; then the
                side `late`.
        """
        return windowed(self, window, by, grace, early, late)

    def check(
        self,
        *checks: Check,
        over: Extent,
        grace: timedelta = timedelta(0),
        name: str = "checks",
    ) -> Checks:
        """Hold checks against many records at once, in each partition by itself; see `Check`.

        Args:
            checks: Each gives one result for each extent.
            over: The extent: windows of event time, or so many records as they come.
            grace: How long after its end a window waits for rows that are behind the watermark.
            name: What they are reported under; those side by side need different ones.
        """
        return checks_on(self, checks, over, grace, name)

    def to(self, destination: Topic | Parquet) -> Edge:
        """Send the records on: to a topic with their original bytes, or to a table as rows."""
        if isinstance(destination, Parquet):
            for part in destination.partition_by:
                self.need(str(destination), part.column)
            if destination.revisions is not None:
                raise TopologyError(
                    f"{destination}: revisions={destination.revisions!r} is for "
                    "results of windows; records have none"
                )
        return edge_to(self, destination, Topic, Parquet)

    def drop(self) -> Edge:
        """Lose them on purpose: where only the rejected matter, or on an arm of a branch. They are
        counted as passed.
        """
        return Edge(self, Drop())

    def need(self, step: str, name: object) -> None:
        """Raises `TopologyError` unless its rows have this column."""
        if not isinstance(name, str) or name not in self.schema.names:
            has = sorted(self._fields.names)
            raise TopologyError(
                f"{step}: {self.model.__name__} has no field {name!r}; it has {has}"
            )

    @property
    def gates(self) -> list[Gate]:
        """Its gates."""
        return [stage for stage in self.stages if isinstance(stage, Gate)]

    @property
    def _fields(self) -> pa.Schema:
        maps = [stage for stage in self.stages if isinstance(stage, REMAKING)]
        return maps[-1].schema if maps else self.source.contract.schema
