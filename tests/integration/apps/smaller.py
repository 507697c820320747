"""The flights without one of their tables, which an earlier version of the topology had."""

from streamflow import Topology
from streamflow.destinations import Parquet
from topologies.flights import topology as flights

topology = Topology(
    flights.name,
    *(
        edge
        for edge in flights.edges
        if not (isinstance(edge.destination, Parquet) and edge.destination.path == "hourly")
    ),
)
