"""From a topology's table to what the sink stage needs to know of it."""

from __future__ import annotations

from streamflow.core.cut import SinkSpec
from streamflow.core.plan import SinkPlan
from streamflow.topology import Topology


def sink_spec(topology: Topology, sink: SinkPlan) -> SinkSpec:
    """The spec of a table; the schema's id follows from its columns."""
    return SinkSpec(
        name=sink.name,
        path=sink.table.path,
        schema=sink.schema,
        partition_by=tuple(part.name for part in sink.table.partition_by),
        target_bytes=sink.table.target_bytes,
        roll_interval=sink.table.roll_interval,
        topology=topology.name,
        version=topology.version,
    )
