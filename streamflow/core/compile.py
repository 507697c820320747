"""From a topology's edges to plans, one per source.

Compiling finds what is wrong with a topology as a whole: an exit that leads nowhere, two things of
one name, two kinds of records in one topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pyarrow as pa

from streamflow.archives import Archive
from streamflow.changes import Changed
from streamflow.checking import CHECKED, Checks
from streamflow.core.compile_checks import compile_checks
from streamflow.core.contents import check_topics
from streamflow.core.describe import digest
from streamflow.core.plan import (
    ChecksPlan,
    Node,
    Outlet,
    RollingPlan,
    RoutedPlan,
    SinkPlan,
    TaskPlan,
    WindowPlan,
)
from streamflow.core.read_back import check_read_back
from streamflow.core.result_types import check_folders_of, parts_of
from streamflow.core.revisions import with_revisions
from streamflow.core.sensitive_fields import check_sensitive, check_sensitive_results
from streamflow.core.sides import check_deletions, is_side, side_topics
from streamflow.core.tables import check_apart, sink_plan
from streamflow.core.tree import check_known, check_shared_topics, grow
from streamflow.destinations import Drop, Parquet, Topic
from streamflow.edge import Edge, Exit
from streamflow.errors import TopologyError
from streamflow.event_time import LONGEST, durations_of
from streamflow.extents import OverExtents
from streamflow.quality import QUALITY, Quality
from streamflow.results import Results
from streamflow.schema import AGGREGATE_LINEAGE, TIMESTAMP, WARNINGS
from streamflow.sensitive import ways_of
from streamflow.sources import Source
from streamflow.stages import REMAKING, Dedup, rules_of
from streamflow.stream import Stream
from streamflow.triggers import Every, Update
from streamflow.windows import micros


def compile_tasks(name: str, edges: Sequence[Edge]) -> tuple[TaskPlan, ...]:
    """Compile a topology's edges; one plan per source, in the order of their first edge.

    Raises:
        TopologyError: naming the topology, what is wrong and what to do.
    """
    if not edges:
        raise TopologyError(f"topology {name!r} has no edges; add at least one .to(...)")
    sources: dict[int, Source] = {}
    for edge in edges:
        found = _stream_of(edge).source
        sources.setdefault(id(found), found)
    topics = [source.topic for source in sources.values()]
    _no_twins(name, "source topics", topics)
    plans = tuple(_compile_task(name, source, edges) for source in sources.values())
    sinks = [sink for plan in plans for sink in plan.all_sinks]
    _no_twins(name, "tables", [sink.name for sink in sinks])
    check_apart(f"topology {name!r}", [sink.table for sink in sinks])
    for plan in plans:
        for topic in plan.output_topics:
            if topic in topics:
                raise TopologyError(f"topology {name!r} writes to {topic!r}, which it also reads")
    check_topics(name, plans)
    return plans


def _compile_task(name: str, source: Source, edges: Sequence[Edge]) -> TaskPlan:
    mine = [edge for edge in edges if _stream_of(edge).source is source]
    outlets = _outlets(name, mine)
    windows = _windows(mine)
    rolling = [edge.origin for edge in mine if isinstance(edge.origin, Quality)]
    rolling = list({id(one): one for one in rolling}.values())
    made = [*windows, *_checks(mine), *rolling]
    _no_twins(name, "results", [one.name for one in made])
    tree = grow(f"topology {name!r}", outlets)
    check_sensitive(f"topology {name!r}", source, [stream for stream, _ in outlets])
    check_shared_topics(f"topology {name!r}", outlets)
    rejected = _side_topic(name, "rejected", tree, outlets[0][0], mine)
    said = any(edge.side == "quality" for edge in mine)  # nothing is lost where it is not
    quality = _side_topic(name, "quality", tree, outlets[0][0], mine) if said else None
    away = any(edge.side == "routed" for edge in mine)  # else they go where rejected ones do
    routed = RoutedPlan(_side_topic(name, "routed", tree, outlets[0][0], mine)) if away else None
    dropped = side_topics(f"topology {name!r}", tree, mine)
    rolled = tuple(_compile_quality(name, tree, one, mine) for one in rolling)
    plan = TaskPlan(name, source, tree, rejected, quality, dropped, rolled, routed)
    _check_durations(plan, windows, [*_checks(mine), *rolling])
    return plan


def _outlets(name: str, edges: Sequence[Edge]) -> list[tuple[Stream, Outlet]]:
    """The streams that records leave from, in the order of their first edge."""
    streams: dict[int, Stream] = {}
    for edge in edges:
        if edge.side is None and not is_side(edge) and not isinstance(edge.origin, Quality):
            stream = _stream_of(edge)
            streams.setdefault(id(stream), stream)
    if not streams:
        raise TopologyError(
            f"topology {name!r}: the passed records of {_stream_of(edges[0])} go nowhere; add "
            ".to(...), a window, or .drop() where only the rejected matter"
        )
    return [
        (stream, _compile_outlet(name, number, stream, edges))
        for number, stream in enumerate(streams.values())
    ]


def _compile_outlet(name: str, number: int, stream: Stream, edges: Sequence[Edge]) -> Outlet:
    mine = [edge for edge in edges if _stream_of(edge) is stream]
    _check_dropped(name, stream, edges)
    check_deletions(f"topology {name!r}", stream)
    sinks, topics = _destinations(stream, mine, stream.schema, warnings=_flags(stream))
    remade = any(isinstance(stage, REMAKING) for stage in stream.stages)
    remade = remade or bool(ways_of(stream.schema))
    if remade:
        check_read_back(f"topology {name!r}: {stream}", stream.model, topics)
    return Outlet(
        number,
        stream.model,
        stream.schema,
        remade,
        tuple(_compile_window(name, results, edges) for results in _windows(mine)),
        tuple(_compile_checks(checks, edges) for checks in _checks(mine)),
        sinks,
        topics,
    )


def _windows(edges: Sequence[Edge]) -> list[Results]:
    found = [results for edge in edges if (results := _results_of(edge)) is not None]
    return list({id(results): results for results in found}.values())


def _checks(edges: Sequence[Edge]) -> list[Checks]:
    found = [edge.origin for edge in edges if isinstance(edge.origin, Checks)]
    return list({id(checks): checks for checks in found}.values())


def _compile_checks(checks: Checks, edges: Sequence[Edge]) -> ChecksPlan:
    sinks, topics = _destinations(checks, edges, CHECKED, warnings=False)
    return compile_checks(checks, topics, sinks)


def _compile_quality(name: str, tree: Node, quality: Quality, edges: Sequence[Edge]) -> RollingPlan:
    check_known(name, "quality", tree, quality.stream)
    sinks, topics = _destinations(quality, edges, QUALITY, warnings=False)
    rules = sorted(rule.name for rule in rules_of(node.stage for node in tree))
    key = f"{quality.name}~{quality.over!r} {digest(rules)[:8]}"
    return RollingPlan(quality.name, key, quality.counted, quality.extent, topics, sinks)


def _side_topic(
    name: str, kind: str, tree: Node, stream: Stream, edges: Sequence[Edge]
) -> str | None:
    """Where this side of all streams of a source goes; said once, on any of them."""
    sides = [edge for edge in edges if edge.side == kind]
    for edge in sides:
        check_known(name, f"{kind} side", tree, _stream_of(edge))
    return _exit_topic(name, Exit(stream, kind), sides)


def _compile_window(name: str, results: Results, edges: Sequence[Edge]) -> WindowPlan:
    windowed = results.windowed
    parts = parts_of(results)
    check_sensitive_results(f"topology {name!r}", results)
    extra = [
        pa.field("window_end", TIMESTAMP, nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("final", pa.bool_(), nullable=False),
    ]
    schema = pa.schema([*results.schema, *extra, *AGGREGATE_LINEAGE])
    sinks, topics = _destinations(results, edges, schema, warnings=False)
    sinks = tuple(with_revisions(results, sink) for sink in sinks)
    if not sinks and not topics:
        raise TopologyError(f"topology {name!r}: the results of {results} go nowhere; add .to(...)")
    check_folders_of(results, sinks)
    check_read_back(f"topology {name!r}: {results}", results.model, topics)
    return WindowPlan(
        results.name,
        windowed.window,
        micros(windowed.grace),
        windowed.by,
        tuple(results.aggregates.items()),
        parts,
        schema,
        topics,
        sinks,
        _late_topic(name, results, edges),
        windowed.early,
        micros(windowed.late.keep) if isinstance(windowed.late, Update) else 0,
        windowed.late == "dead_letter",
    )


def _late_topic(name: str, results: Results, edges: Sequence[Edge]) -> str | None:
    if results.windowed.late != "dead_letter":
        sides = [e for e in edges if isinstance(e.origin, Exit) and e.origin.of is results]
        return _exit_topic(name, results.late, sides)
    sides = [edge.origin for edge in edges if isinstance(edge.origin, Exit)]
    if any(side.of is results and side.kind == "late" for side in sides):
        raise TopologyError(
            f"topology {name!r}: late records of {results} are dead letters, so its late side is "
            'empty; leave it out, or take late="side_output"'
        )
    return None


def _check_durations(
    plan: TaskPlan, results: Sequence[Results], checks: Sequence[Checks | Quality]
) -> None:
    """Event times plus or less what a topology adds to them have to be times too."""
    source = plan.source
    given = [("out_of_orderness", micros(source.out_of_orderness))]
    given += [("max_future", micros(source.max_future or timedelta(0)))]
    given += [("idle_after", micros(source.idle_after or timedelta(0)))]
    given += [(stage.name, stage.within) for stage in plan.stages if isinstance(stage, Dedup)]
    changes = [stage for stage in plan.stages if isinstance(stage, Changed)]
    given += [(stage.name, stage.forget_after or 0) for stage in changes]
    given += [
        (f"{what} of the threshold {watch.name!r}", micros(length))
        for watch in plan.watches
        for what, length in watch.threshold.durations.items()
    ]
    for result in results:
        windowed = result.windowed
        lengths = {"grace": windowed.grace, **durations_of(windowed.window)}
        if isinstance(windowed.late, Update):
            lengths["keep"] = windowed.late.keep
        if isinstance(windowed.early, Every):
            lengths["every"] = windowed.early.interval
        given += [(f"{what} in {result}", micros(length)) for what, length in lengths.items()]
    for check in checks:
        lengths = {} if check.counted else durations_of(check.extent)
        if isinstance(check, Checks):
            lengths["grace"] = check.grace
        given += [(f"{what} in {check}", micros(length)) for what, length in lengths.items()]
    for what, length in given:
        if abs(length) > micros(LONGEST):
            raise TopologyError(
                f"topology {plan.topology!r}: {what} of {source.topic!r} is longer than "
                f"{LONGEST.days} days; durations are at most a century"
            )


def _destinations(
    origin: Stream | Results | Checks | Quality,
    edges: Sequence[Edge],
    schema: pa.Schema,
    *,
    warnings: bool,
) -> tuple[tuple[SinkPlan, ...], tuple[str, ...]]:
    mine = [edge.destination for edge in edges if edge.origin is origin]
    columns = pa.schema([*schema, WARNINGS]) if warnings else schema
    tables = [table for table in mine if isinstance(table, Parquet)]
    sinks = tuple(sink_plan(table, columns, origin) for table in tables)
    return sinks, tuple(topic.name for topic in mine if isinstance(topic, Topic))


def _check_dropped(name: str, stream: Stream, edges: Sequence[Edge]) -> None:
    """Records that are dropped by name go nowhere else, nor does what comes of them."""
    depth = len(stream.stages)
    after = [e for e in edges if e.side is None and not isinstance(e.origin, Quality)]
    after = [e for e in after if _stream_of(e).stages[:depth] == stream.stages]
    dropped = [e for e in after if e.origin is stream and isinstance(e.destination, Drop)]
    if dropped and len(after) > 1:
        raise TopologyError(
            f"topology {name!r}: the passed records of {stream} are sent on and dropped; "
            "leave .drop() out"
        )


def _exit_topic(name: str, side: Exit, edges: Sequence[Edge]) -> str | None:
    if len(edges) != 1:
        many = (
            "goes nowhere; add .to(topic(...)) or .drop() for it" if not edges else "goes two ways"
        )
        raise TopologyError(f"topology {name!r}: {side} {many}")
    destination = edges[0].destination
    return None if isinstance(destination, Drop) else destination.name


def _stream_of(edge: Edge) -> Stream:
    origin = edge.origin.of if isinstance(edge.origin, Exit) else edge.origin
    if isinstance(origin, OverExtents):
        return origin.stream
    assert not isinstance(origin, Archive), "these are compiled apart"
    return origin if isinstance(origin, Stream) else origin.windowed.stream


def _results_of(edge: Edge) -> Results | None:
    origin = edge.origin.of if isinstance(edge.origin, Exit) else edge.origin
    return origin if isinstance(origin, Results) else None


def _flags(stream: Stream) -> bool:
    return any(not rule.rejects for rule in stream.rules)


def _no_twins(name: str, what: str, names: Sequence[str]) -> None:
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise TopologyError(f"topology {name!r}: two {what} are named {twice[0]!r}")
