"""Sides of a stream that need not lead anywhere: what is dropped there is counted in any case."""

from __future__ import annotations

from collections.abc import Sequence

from streamflow.changes import Changed
from streamflow.core.plan import Node
from streamflow.core.tree import path_of
from streamflow.destinations import Topic
from streamflow.edge import Edge, Exit
from streamflow.errors import TopologyError
from streamflow.stages import Dedup
from streamflow.stream import Stream

#: The stages that drop records to a side.
SIDES = {"duplicates": Dedup, "conflicts": Changed}


def is_side(edge: Edge) -> bool:
    """Does this edge start from such a side?"""
    return isinstance(edge.origin, Exit) and edge.origin.kind in SIDES


def side_topics(where: str, tree: Node, edges: Sequence[Edge]) -> dict[str, tuple[str, str]]:
    """The side and its topic of each stage whose side leads somewhere, by the stage's name.

    Raises:
        TopologyError: a side goes two ways, or is that of a stream which goes nowhere.
    """
    known = {id(node.stage) for node in tree}
    found: dict[str, tuple[str, str]] = {}
    for edge in filter(is_side, edges):
        side = edge.origin
        assert isinstance(side, Exit)
        assert isinstance(side.of, Stream)
        path = path_of(side.of)
        if any(id(stage) not in known for stage in path):
            raise TopologyError(
                f"{where}: {side} is that of a stream which goes nowhere; take it of one that "
                "does, or add .to(...), a window or .drop() for it"
            )
        for stage in path:
            if isinstance(stage, SIDES[side.kind]) and isinstance(edge.destination, Topic):
                given = found.setdefault(stage.name, (side.kind, edge.destination.name))
                if given[1] != edge.destination.name:
                    raise TopologyError(f"{where}: {side} goes two ways")
    return found


def check_deletions(where: str, stream: Stream) -> None:
    """Raises `TopologyError` where deletions would pass for records."""
    detected = any(isinstance(stage, Changed) for stage in stream.stages)
    if stream.source.tombstones == "delete" and not detected:
        raise TopologyError(
            f"{where}: some records of {stream} delete their keys, but nothing tells them from "
            "others; add .changed(...)"
        )
