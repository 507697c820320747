"""The storage plan of a table, from the point of view of one of its partitions.

Goals: all files of a table are written by one measured plan, whoever writes them; a plan costs next
to nothing; what a file depends on is in its cut, so that a plan may come, go or be damaged.

Plan: plans lie beside the table, numbered, under names that can be taken once. The first roll that
has enough rows makes one; whoever comes second finds the name taken and reads it. Later rolls are
profiled, and when they have become another thing than the plan was made of, a new one is measured,
which takes the next number if it saves enough. A partition looks at the next number at each roll.

The race: an owner that was thought dead makes a plan too. It takes a number or finds it taken;
either way the plan is one that was measured on rows of this table, and cuts name their settings.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final, Protocol, cast

import pyarrow as pa

from streamflow.clock import Timer, cpu_seconds
from streamflow.core.hive import Group
from streamflow.core.parquet import encode_parquet, why_not
from streamflow.counted import counted
from streamflow.errors import SettingsError
from streamflow.ports import TableFiles
from streamflow.storage.drift import drift
from streamflow.storage.plan import (
    Plan,
    decode_plan,
    encode_plan,
    make_plan,
    numbered,
    plan_name,
    plan_names,
)
from streamflow.storage.profile import profile
from streamflow.storage.sample import SAMPLE_ROWS
from streamflow.writer_settings import UNPLANNED, Aim, Storage, WriterSettings

log = logging.getLogger(__name__)

#: Of fewer rows nothing can be learned.
MIN_ROWS: Final = 1_000
#: A new plan has to make the sample that much smaller than the one it replaces.
GAIN: Final = 0.05
#: A plan that was made of few rows is looked at again when there are so many times more.
GROWN: Final = 4

#: Partitions of a table that roll at the same time measure once: guards the making of plans.
_making = threading.Lock()


class Planned(Protocol):
    """The rows of a roll, of which each of `groups` becomes a file."""

    @property
    def groups(self) -> Sequence[Group]:
        """The files to be."""
        ...

    @property
    def largest(self) -> Group:
        """The one with the most rows."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """The columns of the files."""
        ...

    def sample(self) -> pa.Table:
        """Up to `SAMPLE_ROWS` of the largest file."""
        ...


class Planner:
    """Says how the files of one rows partition are written. For one thread at a time.

    Args:
        files: Those of the table.
        storage: What the topology wants: an aim, settings of its own, or no plan.
        timer: What trials take is told by it.
    """

    def __init__(
        self, files: TableFiles, storage: Storage | WriterSettings, timer: Timer = cpu_seconds
    ) -> None:
        self._files = files
        self._storage = storage
        self._timer = timer
        self._plan: Plan | None = None
        self._unwritten: Plan | None = None
        self._fitting: dict[str, bool] = {}
        # Rolls under plans, and at how many of them the next look is due.
        self._rolls = self._next_look = 0
        #: What making and holding plans against the data has taken.
        self.seconds = 0.0

    def settings(self, schema_id: str, rows: Planned) -> WriterSettings:
        """How to write the files of a roll with rows of this schema.

        Raises `SinkUnavailable` where the table does not take a new plan; call it again later.
        """
        if isinstance(self._storage, WriterSettings):
            return self._storage if self._fits(schema_id, rows) else UNPLANNED
        if self._storage == "none" or not rows.groups:
            return UNPLANNED
        aim = cast("Aim", "balanced" if self._storage == "auto" else self._storage)
        started = self._timer()
        try:
            plan = self._known(schema_id, aim, rows.schema)
            if rows.largest.count >= MIN_ROWS:
                plan = self._looked_at(plan, schema_id, aim, rows)
        except (OSError, pa.ArrowException) as error:  # a type that Arrow does not compute with
            log.warning("a roll of schema %s is written without a plan: %s", schema_id, error)
            return UNPLANNED
        finally:
            self.seconds += self._timer() - started
        self._plan = plan
        return UNPLANNED if plan is None else plan.settings

    def _fits(self, schema_id: str, rows: Planned) -> bool:
        """Can a person's settings be had with these rows? They are for those of the topology as it
        is, and a column may have been of another type.
        """
        assert isinstance(self._storage, WriterSettings)
        if schema_id not in self._fitting:
            why = why_not(rows.schema, self._storage)
            if why is not None:
                log.warning("rows of schema %s are written without storage=: %s", schema_id, why)
            self._fitting[schema_id] = why is None
        return self._fitting[schema_id]

    def _known(self, schema_id: str, aim: Aim, schema: pa.Schema) -> Plan | None:
        """The newest plan that there is for this schema."""
        plan = self._plan
        if plan is not None and plan.schema_id == schema_id:
            follows = plan_name(schema_id, aim, plan.number + 1)
            if not self._files.exists(follows, private=True):
                return plan
        return self._newest(schema_id, aim, schema)[0]

    def _newest(self, schema_id: str, aim: Aim, schema: pa.Schema) -> tuple[Plan | None, int]:
        """The newest plan that can be followed, and the number of the next one.

        One that cannot, since it was damaged, edited or made by a version to come, is passed by.
        """
        names = plan_names(self._files.names(private=True), schema_id, aim)
        number = _number(names[-1]) + 1 if names else 0
        for name in reversed(names):
            try:
                plan = decode_plan(self._files.read(name, private=True), name)
            except SettingsError as error:
                log.warning("%s; it is passed by", error)
                continue
            problem = why_not(schema, plan.settings)
            if problem is None and plan.name == name:
                return plan, number
            log.warning("storage plan %s does not fit the rows: %s; it is passed by", name, problem)
        return None, number

    def _looked_at(self, plan: Plan | None, schema_id: str, aim: Aim, rows: Planned) -> Plan:
        """The plan, or one that takes its place, held against what the largest file has."""
        self._rolls += 1
        # One that another partition has made is followed once unseen: at the start of a table all
        # of them roll, and it was measured just now.
        if plan is not None and (plan is not self._plan or self._rolls < self._next_look):
            return plan
        sample = rows.sample()
        reason = "first rows" if plan is None else _changed(plan, sample)
        if plan is not None and reason is None:
            return plan
        self._next_look = 2 * self._rolls
        with _making:
            newest, number = self._newest(schema_id, aim, rows.schema)
            if newest is not None and (plan is None or newest.number > plan.number):
                return newest  # made meanwhile, by another partition here or elsewhere
            made = self._made(sample, schema_id, aim, reason or "")
            if plan is not None and not _saves(made, plan, sample):
                return plan
            return self._written(numbered(made, number), rows.schema)

    def _made(self, sample: pa.Table, schema_id: str, aim: Aim, reason: str) -> Plan:
        """A new plan; one that could not be written down is not measured again."""
        made = self._unwritten
        if made is None or made.schema_id != schema_id:
            made = make_plan(sample, aim, self._timer, schema_id, reason)
        self._unwritten = made
        return made

    def _written(self, plan: Plan, schema: pa.Schema) -> Plan:
        """The plan under its number, or that which has taken it."""
        taken = not self._files.create(plan.name, encode_plan(plan), private=True)
        self._unwritten = None
        if not taken:
            log.info("made storage plan %s: %s", plan.name, plan.reason)
            return plan
        return self._newest(plan.schema_id, plan.aim, schema)[0] or plan


def _number(name: str) -> int:
    return int(name.removesuffix(".json").rpartition("-")[2])


def _changed(plan: Plan, sample: pa.Table) -> str | None:
    """Why the plan is to be measured anew, in words."""
    if plan.rows * GROWN <= min(sample.num_rows, SAMPLE_ROWS):
        return f"{counted(sample.num_rows, 'row')} where there were {plan.rows:,}"
    found = drift(plan.profile, profile(sample))
    return "; ".join(found[:3]) or None


def _saves(made: Plan, plan: Plan, sample: pa.Table) -> bool:
    present = encode_parquet(sample, plan.settings, {}).size
    return made.bytes <= present * (1 - GAIN)
