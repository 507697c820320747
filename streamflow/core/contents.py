"""What each topic of a topology holds: one kind of records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamflow.core.plan import TaskPlan
from streamflow.errors import TopologyError


def check_topics(name: str, plans: Sequence[TaskPlan]) -> None:
    """A topic holds one kind of records, each once; its reader could not tell two kinds apart.

    Dead letters and late records say in their headers where they come from, so those of several
    sources or windows can share a topic; so can results of checks, and records of several sources
    with one model.
    """
    seen: set[tuple[str, str]] = set()
    holds: dict[str, tuple[object, str]] = {}
    for plan in plans:
        for topic, kind, words in _written(plan):
            if (topic, words) in seen:
                raise TopologyError(
                    f"topology {name!r}: {words} go to {topic!r} twice; leave one .to(...) out"
                )
            seen.add((topic, words))
            first, first_words = holds.setdefault(topic, (kind, words))
            if kind != first:
                raise TopologyError(
                    f"topology {name!r}: {topic!r} would hold {first_words} and {words}, which are "
                    "different kinds of records; send each kind to a topic of its own"
                )


def _written(plan: TaskPlan) -> Iterator[tuple[str, object, str]]:
    """Each topic of a plan with what it gets: the kind, and words for it."""
    name, model = plan.source.topic, plan.source.contract.model
    ways = [(topic, outlet.model) for outlet in plan.outlets for topic in outlet.topics]
    for topic, rows in dict.fromkeys(ways):
        also = "" if rows is model else f" as {rows.__name__}"
        yield topic, ("records", rows), f"the records of {name!r}{also}"
    if plan.rejected_topic is not None:
        yield plan.rejected_topic, "dead letters", f"the dead letters of {name!r}"
    if plan.routed is not None and plan.routed.topic is not None:
        yield plan.routed.topic, "dead letters", f"the routed records of {name!r}"
    if plan.quality_topic is not None:
        yield plan.quality_topic, "quality records", f"the quality records of {name!r}"
    for side, topic in sorted(set(plan.sides.values())):
        yield topic, (side, model), f"the {side} of {name!r}"
    yield from _results(plan)


def _results(plan: TaskPlan) -> Iterator[tuple[str, object, str]]:
    model = plan.source.contract.model
    for window in plan.windows:
        for topic in window.topics:
            yield topic, ("results", window.name), f"the results of {window.name!r}"
        if window.late_topic is not None:
            yield window.late_topic, ("late", model), f"the late records of {window.name!r}"
    for rolling in plan.rolling:
        for topic in rolling.topics:
            yield topic, "quality of extents", f"the quality of {rolling.name!r}"
    for checks in plan.checks:
        for topic in checks.topics:
            yield topic, "check results", f"the results of {checks.name!r}"
