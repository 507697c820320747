"""For tests of topologies: production code over memory ports, simulated time and crashes."""

from streamflow.engine.faults import COMMIT_POINTS, CRASH_POINTS, PLAIN_POINTS, ROLL_POINTS
from streamflow.testing.aggregates import check_aggregate
from streamflow.testing.driver import Crash, TopologyDriver

__all__ = [
    "COMMIT_POINTS",
    "CRASH_POINTS",
    "PLAIN_POINTS",
    "ROLL_POINTS",
    "Crash",
    "TopologyDriver",
    "check_aggregate",
]
