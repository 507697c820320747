"""Rows on all their ways: through the tree of stages, to where they leave it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from streamflow.batch import MicroBatch
from streamflow.changes import Changed
from streamflow.core.chain import Chained, check_folders, part, pass_on
from streamflow.core.decode import Decoded
from streamflow.core.enrichment import NO_ANSWERS, Answers, Ask, Keyed, enriched
from streamflow.core.plan import Node, Outlet, TaskPlan
from streamflow.core.recall import NOTHING_LEARNED, Learned, Recalled
from streamflow.core.step import Failure, Raw, Reject, StateView, TaskState, first_failure
from streamflow.enrich import Enrich
from streamflow.envelopes import TOMBSTONE
from streamflow.expand import Expand
from streamflow.schema import WARNINGS
from streamflow.stages import Arm, Branch, Dedup, Stage

Rows = pa.RecordBatch
T = TypeVar("T")


@dataclass(frozen=True)
class Arrived:
    """Rows at an outlet with the place of their record in the micro-batch.

    `refused` are the records that were rejected on the way here: not those that another way from a
    fork has rejected, nor those of which only rows were that an expansion had made.
    """

    outlet: Outlet
    rows: Rows
    places: pa.Array
    refused: list[Reject]


@dataclass
class Flow:
    """What became of the rows of a micro-batch.

    A row that goes several ways at a fork is one more row for each way but one: `forked`; so is
    each row but one that is made of a row: `expanded`. So
    rows in + forked + expanded = rows at outlets + rejects + dropped.

    `rules`, `dropped`, `state`, `stop`, `failure` and `learned` are as in `Chained`; `aside` has by
    topic the records that stages have dropped to a side, with their event times; `broken` by rule,
    the places of the rows that broke it in each gate.
    """

    state: TaskState
    rejects: list[Reject]
    arrived: list[Arrived] = field(default_factory=list[Arrived])
    rules: Counter[str] = field(default_factory=Counter[str])
    dropped: int = 0
    forked: int = 0
    expanded: int = 0
    stop: int | None = None
    failure: Failure | None = None
    broken: dict[str, list[pa.Array]] = field(default_factory=dict[str, list[pa.Array]])
    learned: Learned = NOTHING_LEARNED
    aside: dict[str, list[tuple[Raw, int]]] = field(
        default_factory=dict[str, list[tuple[Raw, int]]]
    )

    def take(self, after: Chained) -> None:
        """Add what a stage has done."""
        self.state = after.state
        self.rejects += after.rejects
        self.rules += after.rules
        self.dropped += after.dropped
        self.expanded += after.expanded
        # Where anything can be recalled, one stage learns.
        self.learned = after.learned if after.learned is not NOTHING_LEARNED else self.learned
        if after.stop is not None:
            self.stop = after.stop if self.stop is None else min(self.stop, after.stop)
        for name, places in after.broken.items():
            self.broken.setdefault(name, []).append(places)
        self.failure = first_failure(self.failure, after.failure)


#: What asks for answers, is sent them, and comes to a `T`.
Asking = Generator[Ask, Answers, T]


def flow(
    plan: TaskPlan,
    recalled: Recalled,
    decoded: Decoded,
    before: TaskState,
    view: StateView,
    known: dict[Enrich, Answers],
) -> Asking[Flow]:
    """Take decoded rows through all stages of all streams, each stage once.

    `known` are answers from before, which are not asked for again; it gets those that are.
    """
    rows = decoded.rows.append_column(WARNINGS, pa.nulls(decoded.rows.num_rows, WARNINGS.type))
    found = Flow(before, list(decoded.rejects), dropped=decoded.empty)
    found.rules += Counter({TOMBSTONE: decoded.empty})
    walk = _Walk(plan, recalled, view, decoded.deleted, known, found)
    yield from walk.at(plan.tree, rows, decoded.places, _Refused(list(decoded.rejects)))
    walk.flow.arrived.sort(key=lambda arrived: arrived.outlet.number)
    return walk.flow


@dataclass(frozen=True)
class _Refused:
    """The records that were rejected on a way so far; of one that was expanded only rows can be."""

    rejects: list[Reject]
    expanded: bool = False

    def then(self, rejects: list[Reject], expanded: bool = False) -> _Refused:
        more = [] if self.expanded else rejects
        return _Refused([*self.rejects, *more], self.expanded or expanded)


@dataclass
class _Walk:
    plan: TaskPlan
    recalled: Recalled
    view: StateView
    deleted: pa.Array | None
    known: dict[Enrich, Answers]
    flow: Flow

    @property
    def batch(self) -> MicroBatch:
        return self.recalled.rest

    def at(self, node: Node, rows: Rows, places: pa.Array, refused: _Refused) -> Asking[None]:
        """Do what a node does with the rows that come to it, and all that follows."""
        came = Chained(rows, places, self.flow.state)
        if isinstance(node.stage, Branch):
            yield from self._part(node, node.stage, came, refused)
            return
        after = came
        if isinstance(node.stage, Enrich):
            after = yield from self._enriched(node.stage, came)
            self.flow.take(after)
        elif node.stage is not None and not isinstance(node.stage, Arm):
            lag = self.plan.out_of_orderness
            after = pass_on(node.stage, self.recalled, came, lag, self.view, self.deleted)
            self.flow.take(after)
            self._set_aside(node.stage, after)
        refused = refused.then(after.rejects, isinstance(node.stage, Expand))
        ways = len(node.nodes) + (node.outlet is not None)
        self.flow.forked += after.rows.num_rows * (ways - 1)
        if node.outlet is not None:
            self._arrive(node.outlet, after, refused)
        for child in node.nodes:
            yield from self.at(child, after.rows, after.places, refused)

    def _enriched(self, stage: Enrich, came: Chained) -> Asking[Chained]:
        """The rows with answers, of which those that are not known are asked for."""
        keyed = Keyed.of(stage, came.rows)
        known = self.known.get(stage, NO_ANSWERS)
        missing = known.missing(keyed.keys)
        if missing:
            known = known.more((yield Ask(stage, missing)))
            self.known[stage] = known
        return enriched(stage, self.batch, came, keyed, known)

    def _set_aside(self, stage: Stage, after: Chained) -> None:
        """Keep what the stage has dropped, where its side leads somewhere."""
        if after.aside is None or not isinstance(stage, Dedup | Changed):
            return
        _, topic = self.plan.sides.get(stage.name, ("", None))
        if topic is not None:
            kept = self.flow.aside.setdefault(topic, [])
            for place, time in zip(*(column.to_pylist() for column in after.aside), strict=True):
                raw = Raw.of(self.batch, place)
                kept.append((raw.with_header("streamflow.stage", stage.name), time))

    def _part(self, node: Node, stage: Branch, came: Chained, refused: _Refused) -> Asking[None]:
        after, arms = part(stage, self.batch, came)
        self.flow.take(after)
        for child, arm in zip(node.nodes, arms, strict=True):
            rows, places = after.rows.take(arm), after.places.take(arm)
            yield from self.at(child, rows, places, refused.then(after.rejects))

    def _arrive(self, outlet: Outlet, after: Chained, refused: _Refused) -> None:
        came = Chained(after.rows, after.places, self.flow.state)
        found = check_folders(outlet.folder_columns, self.batch, came)
        self.flow.take(found)
        arrived = Arrived(outlet, found.rows, found.places, refused.then(found.rejects).rejects)
        self.flow.arrived.append(arrived)
