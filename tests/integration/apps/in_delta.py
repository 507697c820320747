"""The flights in Delta tables, which their workers see to."""

from dataclasses import replace

from streamflow import Topology, Upkeep, delta
from streamflow.destinations import Parquet
from streamflow.edge import Edge
from topologies.flights import topology as flights


def in_delta(edge: Edge) -> Edge:
    """The same rows, in a Delta table of the same path."""
    table = edge.destination
    if not isinstance(table, Parquet):
        return edge
    parts = table.partition_by
    return replace(edge, destination=delta(table.path, partition_by=parts, upkeep=Upkeep()))


topology = Topology(flights.name, *(in_delta(edge) for edge in flights.edges))
