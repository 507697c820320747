"""The ways out of a topology: what leaves, and where to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamflow.destinations import Destination, Drop, Parquet, Topic
from streamflow.errors import TopologyError

if TYPE_CHECKING:
    from streamflow.archives import Archive
    from streamflow.extents import OverExtents
    from streamflow.results import Results
    from streamflow.stream import Stream


@dataclass(frozen=True, eq=False)
class Edge:
    """One way out: what leaves, and where to."""

    origin: Stream | Results | OverExtents | Exit | Archive
    destination: Destination

    @property
    def side(self) -> str | None:
        """The kind of its exit, where that is one of all streams of a source; else None."""
        kind = self.origin.kind if isinstance(self.origin, Exit) else None
        return kind if kind in ("rejected", "quality", "routed") else None


@dataclass(frozen=True, eq=False)
class Exit:
    """A side on which records leave: the rejected of a stream, or the late of a window; what there
    is to say of the quality of a stream; what thresholds route away, which is rejected where that
    leads nowhere; and its duplicates and conflicts, which are dropped where these do.
    """

    of: Stream | Results
    kind: str

    def to(self, destination: Topic) -> Edge:
        """Send them to a topic, with their original bytes and the reason."""
        return edge_to(self, destination, Topic)

    def drop(self) -> Edge:
        """Lose them on purpose; they are counted."""
        return Edge(self, Drop())

    def __str__(self) -> str:
        return f"the {self.kind} side of {self.of}"


def edge_to(
    origin: Stream | Results | OverExtents | Exit | Archive,
    destination: Any,
    *kinds: type[Topic | Parquet],
) -> Edge:
    """The edge; raises `TopologyError` for a destination of another kind."""
    if not isinstance(destination, kinds):
        options = " or ".join(f"{kind.__name__.lower()}(...)" for kind in kinds)
        given = str(destination) if isinstance(destination, Destination) else repr(destination)
        raise TopologyError(f"{origin}.to({given}): give it a {options}")
    return Edge(origin, destination)


def side_of(stream: Stream, side: str, kind: type[Any]) -> Exit:
    """The side of a kind of stages; raises `TopologyError` where the stream has none of it."""
    if not any(isinstance(stage, kind) for stage in stream.stages):
        raise TopologyError(f"{stream} has no {kind.__name__.lower()} stage to give {side}")
    return Exit(stream, side)
