"""From the archives of a topology to their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamflow.archives import ARCHIVED, Archive
from streamflow.core.plan import SinkPlan, TaskPlan
from streamflow.core.tables import check_apart, sink_plan
from streamflow.destinations import Delta, Drop, Parquet, Topic
from streamflow.edge import Edge
from streamflow.errors import TopologyError

APART = "put the archive into a topology of its own, which is an app of its own"


def compile_archives(
    name: str, edges: Sequence[Edge], tasks: Sequence[TaskPlan]
) -> tuple[SinkPlan, ...]:
    """The tables of archives, whose edges these are, beside the tasks of the same topology.

    Raises:
        TopologyError: a topic would be read twice, or be written too; a table cannot be so.
    """
    where = f"topology {name!r}"
    sinks = tuple(_sink(edge.origin, edge.destination) for edge in edges if is_archive(edge))
    sources = {plan.source.topic for plan in tasks}
    written = {topic for plan in tasks for topic in plan.output_topics}
    seen: set[str | None] = set()
    for sink in sinks:
        topic = sink.source
        if topic in sources:
            raise TopologyError(
                f"{where}: {topic!r} is archived and a source of it too, and one app has one"
                f" position in a topic; {APART}"
            )
        if topic in written:
            raise TopologyError(f"{where} archives {topic!r}, which it also writes; {APART}")
        if topic in seen:
            raise TopologyError(
                f"{where}: {topic!r} is archived twice, and one app has one position in a topic;"
                " leave one .to(...) out, or put it into a topology of its own"
            )
        seen.add(topic)
    tables = [*(sink for plan in tasks for sink in plan.all_sinks), *sinks]
    names = [sink.name for sink in tables]
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise TopologyError(f"{where}: two tables are named {twice[0]!r}")
    check_apart(where, [sink.table for sink in tables])
    return sinks


def is_archive(edge: Edge) -> bool:
    """Is it the way of an archive?"""
    return isinstance(edge.origin, Archive)


def _sink(origin: object, table: Topic | Parquet | Drop) -> SinkPlan:
    assert isinstance(origin, Archive), "others are compiled to tasks"
    assert isinstance(table, Parquet), "an archive goes to a table"
    if isinstance(table, Delta):
        raise TopologyError(
            f"{origin}.to({table}): an archive is a plain table, whose chain of cuts says how far"
            " it is; say parquet(...)"
        )
    if table.revisions is not None:
        raise TopologyError(f"{table}: revisions are of the results of windows; leave it out")
    if table.layout.choose_folders:
        raise TopologyError(
            f'{table}: partition_by="auto" is for columns of records, which an archive does not'
            ' know; say day("_timestamp") or hour("_timestamp"), or leave it out'
        )
    return replace(sink_plan(table, ARCHIVED, origin), source=origin.topic)
