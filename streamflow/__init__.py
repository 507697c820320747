"""streamflow: Kafka topics in, trustworthy Parquet and topics out."""

from streamflow.aggregates import Count, Distinct, Max, Mean, Min, Sum
from streamflow.destinations import day, month, parquet, topic
from streamflow.errors import StreamflowError, TopologyError
from streamflow.rules import Rule
from streamflow.topology import Topology, source
from streamflow.windows import Tumbling

__all__ = [
    "Count",
    "Distinct",
    "Max",
    "Mean",
    "Min",
    "Rule",
    "StreamflowError",
    "Sum",
    "Topology",
    "TopologyError",
    "Tumbling",
    "day",
    "month",
    "parquet",
    "source",
    "topic",
]
