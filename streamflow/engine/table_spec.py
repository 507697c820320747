"""From a topology's table to what the sink stage needs to know of it."""

from __future__ import annotations

import hashlib

from streamflow.core.plan import SinkPlan
from streamflow.core.sink_spec import SinkSpec
from streamflow.topology import Topology


def table_spec(topology: Topology, sink: SinkPlan) -> SinkSpec:
    """The spec of a table; equal columns have the same schema id."""
    columns = "\n".join(f"{f.name}: {f.type} {f.nullable}" for f in sink.schema)
    return SinkSpec(
        name=sink.name,
        path=sink.table.path,
        schema=sink.schema,
        schema_id=hashlib.blake2b(columns.encode(), digest_size=6).hexdigest(),
        topology=topology.name,
        topology_version=topology.version,
        partition_by=tuple(part.name for part in sink.table.partition_by),
        target_bytes=sink.table.target_bytes,
        roll_interval=sink.table.roll_interval,
    )
