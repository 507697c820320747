"""From a topology's table to what the sink stage needs to know of it."""

from __future__ import annotations

from streamflow.core.names import Names
from streamflow.core.plan import SinkPlan
from streamflow.core.sink_spec import SinkSpec
from streamflow.topology import Topology


def table_spec(
    topology: Topology, names: Names, sink: SinkPlan, partitions: int | None = None
) -> SinkSpec:
    """The spec of a table; equal columns have the same schema id. `partitions` is how many tasks
    write it, where that is known.
    """
    by, tasks = sink.table.partition_by, topology.tasks
    zones = [part.zone for part in by]
    return SinkSpec(
        name=sink.name,
        path=names.table(sink.table.location),
        schema=sink.schema,
        schema_id=sink.schema_id,
        topology=topology.name,
        topology_version=topology.version,
        partition_by=sink.partition_by,
        target_bytes=sink.table.target_bytes,
        roll_interval=sink.table.roll_interval,
        inactivity_interval=sink.table.inactivity_interval,
        closing=sink.closing,
        partitions=partitions,
        storage=sink.table.storage,
        layout=sink.layout,
        folders=sink.folders,
        times=sink.columns(part.column for part in by if part.name != part.column),
        zones=tuple(zones) if set(zones) - {"UTC"} else (),
        compatibility=sink.table.compatibility,
        run=names.run,
        origin=next(((names.app, t.source.topic) for t in tasks if sink in t.all_sinks), ()),
        source=None if sink.source is None else names.source(sink.source),
    )
