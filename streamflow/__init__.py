"""streamflow: Kafka topics in, trustworthy Parquet and topics out.

What a topology is written with is imported when it is first asked for, so that `streamflow --help`
does not wait for Arrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamflow.aggregates import (
        AggregateFunction,
        ApproxDistinct,
        Collect,
        Count,
        Distinct,
        First,
        Frequent,
        Last,
        Max,
        Mean,
        Min,
        Quantile,
        StdDev,
        Sum,
        TopK,
        Variance,
    )
    from streamflow.archives import archive
    from streamflow.changes import content
    from streamflow.checks import (
        Freshness,
        Measure,
        NullRate,
        RowCount,
        Share,
        Unique,
        Volume,
    )
    from streamflow.destinations import Upkeep, delta, parquet, topic
    from streamflow.enrich import Cache, per_key
    from streamflow.envelopes import debezium
    from streamflow.epochs import epoch
    from streamflow.errors import StreamflowError, TopologyError
    from streamflow.event_time import header, kafka_timestamp
    from streamflow.former_names import formerly
    from streamflow.leap_second import LeapDatetime
    from streamflow.partition_by import day, hour, month
    from streamflow.retry import CircuitBreaker, ErrorClass, RetryPolicy
    from streamflow.rules import Rule
    from streamflow.sensitive import cleared, hashed, masked, withheld
    from streamflow.sources import source
    from streamflow.stages import cast
    from streamflow.thresholds import Threshold
    from streamflow.topology import Topology
    from streamflow.triggers import every, update
    from streamflow.windows import Calendar, Hopping, Session, Sliding, Tumbling
    from streamflow.writer_settings import ColumnSettings, WriterSettings

__all__ = [
    "AggregateFunction",
    "ApproxDistinct",
    "Cache",
    "Calendar",
    "CircuitBreaker",
    "Collect",
    "ColumnSettings",
    "Count",
    "Distinct",
    "ErrorClass",
    "First",
    "Frequent",
    "Freshness",
    "Hopping",
    "Last",
    "LeapDatetime",
    "Max",
    "Mean",
    "Measure",
    "Min",
    "NullRate",
    "Quantile",
    "RetryPolicy",
    "RowCount",
    "Rule",
    "Session",
    "Share",
    "Sliding",
    "StdDev",
    "StreamflowError",
    "Sum",
    "Threshold",
    "TopK",
    "Topology",
    "TopologyError",
    "Tumbling",
    "Unique",
    "Upkeep",
    "Variance",
    "Volume",
    "WriterSettings",
    "archive",
    "cast",
    "cleared",
    "content",
    "day",
    "debezium",
    "delta",
    "epoch",
    "every",
    "formerly",
    "hashed",
    "header",
    "hour",
    "kafka_timestamp",
    "masked",
    "month",
    "parquet",
    "per_key",
    "source",
    "topic",
    "update",
    "withheld",
]

_HOMES = {
    "aggregates": (
        "AggregateFunction",
        "ApproxDistinct",
        "Collect",
        "Count",
        "Distinct",
        "First",
        "Frequent",
        "Last",
        "Max",
        "Mean",
        "Min",
        "Quantile",
        "StdDev",
        "Sum",
        "TopK",
        "Variance",
    ),
    "archives": ("archive",),
    "changes": ("content",),
    "checks": ("Freshness", "Measure", "NullRate", "RowCount", "Share", "Unique", "Volume"),
    "envelopes": ("debezium",),
    "destinations": ("Upkeep", "delta", "parquet", "topic"),
    "partition_by": ("day", "hour", "month"),
    "enrich": ("Cache", "per_key"),
    "epochs": ("epoch",),
    "errors": ("StreamflowError", "TopologyError"),
    "event_time": ("header", "kafka_timestamp"),
    "former_names": ("formerly",),
    "leap_second": ("LeapDatetime",),
    "retry": ("CircuitBreaker", "ErrorClass", "RetryPolicy"),
    "rules": ("Rule",),
    "sensitive": ("cleared", "hashed", "masked", "withheld"),
    "stages": ("cast",),
    "sources": ("source",),
    "thresholds": ("Threshold",),
    "topology": ("Topology",),
    "triggers": ("every", "update"),
    "windows": ("Calendar", "Hopping", "Session", "Sliding", "Tumbling"),
    "writer_settings": ("ColumnSettings", "WriterSettings"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"streamflow.{module}"), name)
    raise AttributeError(f"module 'streamflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
