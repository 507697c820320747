"""The tree of stages that the streams of a source make together.

Streams share the stages that they have in common: a stage that several of them come through is one
node, which does its work, counts and remembers once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from streamflow.changes import Changed
from streamflow.core.plan import Node, Outlet
from streamflow.errors import TopologyError
from streamflow.stages import Arm, Branch, Dedup, Gate, Stage
from streamflow.stream import Stream


@dataclass
class _Growing:
    """A node whose ways on are not all known yet; they are found by what their stage is."""

    stage: Stage | Branch | None
    outlet: Outlet | None = None
    ways: dict[int, _Growing] = field(default_factory=dict[int, "_Growing"])

    def grown(self) -> Node:
        ways = list(self.ways.values())
        if isinstance(self.stage, Branch):
            ways.sort(key=lambda way: way.stage.number if isinstance(way.stage, Arm) else 0)
        return Node(self.stage, self.outlet, tuple(way.grown() for way in ways))


def grow(where: str, outlets: Sequence[tuple[Stream, Outlet]]) -> Node:
    """The tree of all stages before these outlets.

    Raises:
        TopologyError: an arm of a branch leads nowhere, or two stages would remember or count
            different things under one name.
    """
    root = _Growing(None)
    for stream, outlet in outlets:
        at = root
        for stage in path_of(stream):
            at = at.ways.setdefault(id(stage), _Growing(stage))
        at.outlet = outlet
    tree = root.grown()
    _check_branches(where, tree)
    _check_names(where, tree)
    return tree


def path_of(stream: Stream) -> list[Stage | Branch]:
    """The stages that rows come through; a branch before its arm."""
    path: list[Stage | Branch] = []
    for stage in stream.stages:
        path += [stage.branch, stage] if isinstance(stage, Arm) else [stage]
    return path


def check_known(name: str, what: str, tree: Node, stream: Stream) -> None:
    """Raises `TopologyError` for something of a stream which goes nowhere."""
    known = {id(node.stage) for node in tree}
    if any(id(stage) not in known for stage in path_of(stream)):
        raise TopologyError(
            f"topology {name!r}: the {what} of {stream} is that of a stream which goes nowhere; "
            "take it of one that does, or add .to(...), a window or .drop() for it"
        )


def check_shared_topics(where: str, outlets: Sequence[tuple[Stream, Outlet]]) -> None:
    """Several streams may lead to one topic where a branch has parted them.

    Raises:
        TopologyError: a record could come to the topic twice.
    """
    ways = [(topic, stream) for stream, outlet in outlets for topic in outlet.topics]
    for (topic, one), (same, other) in combinations(ways, 2):
        if topic == same and not _part(one, other):
            raise TopologyError(
                f"{where}: the records of {one} go to {topic!r} twice; leave one .to(...) out, or "
                "send streams there that a branch(...) has parted, so that each comes once"
            )


def _part(one: Stream, other: Stream) -> bool:
    """Are they in different arms of a branch, so that no row comes into both?"""
    arms = {id(stage.branch): stage.number for stage in one.stages if isinstance(stage, Arm)}
    theirs = [stage for stage in other.stages if isinstance(stage, Arm)]
    return any(arms.get(id(arm.branch), arm.number) != arm.number for arm in theirs)


def _check_branches(where: str, tree: Node) -> None:
    for node in tree:
        if isinstance(node.stage, Branch):
            led = {way.stage.number for way in node.nodes if isinstance(way.stage, Arm)}
            for number, name in enumerate(node.stage.arms):
                if number not in led:
                    raise TopologyError(
                        f"{where}: the stream {name!r} leads nowhere; add .to(...), a window, or "
                        ".drop() to lose its records on purpose"
                    )


def _check_names(where: str, tree: Node) -> None:
    """What is remembered or counted under one name is of one stage."""
    stages = [node.stage for node in tree]
    gates = [stage for stage in stages if isinstance(stage, Gate)]
    named: list[tuple[str, str, Any]] = []
    named += [("deduplications", one.name, one) for one in stages if isinstance(one, Dedup)]
    changes = [stage for stage in stages if isinstance(stage, Changed)]
    named += [("change detections", one.name, one) for one in changes]
    named += [("rules", rule.name, rule) for gate in gates for rule, _ in gate.rules]
    named += [("thresholds", watch.name, watch) for gate in gates for watch in gate.watches]
    first: dict[tuple[str, str], Any] = {}
    for kind, name, one in named:
        # One rule can be in several gates; what it is broken by is the same in all of them.
        if first.setdefault((kind, name), one) is not one:
            raise TopologyError(
                f"{where}: two {kind} are named {name!r}, on streams side by side; give one of "
                "them another name"
            )
