"""What is said of extents, by checks and of quality, as records of a topic."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from streamflow.batch import Record, TopicPartition
from streamflow.core.headers import Origin, traceparent
from streamflow.core.json_values import json_rows, to_json


def extent_records(
    results: pa.RecordBatch, tp: TopicPartition, commit: int, now_ms: int
) -> Iterator[Record]:
    """As JSON, keyed by what says it, partition and extent so that compaction keeps the last."""
    names = [name for name in results.schema.names if not name.startswith("_")]
    values = json_rows(results.select(names))
    ranges = results.select(["_offset_first", "_offset_next", "__latest"]).columns
    trace = traceparent(Origin(tp, results["_offset_first"][0].as_py(), 0, commit))
    for value, first, stop, latest in zip(
        values, *(column.to_pylist() for column in ranges), strict=True
    ):
        where = {"topic": tp.topic, "partition": tp.partition}
        offsets = {"offset_first": first, "offset_next": stop}
        start = value["window_start"] if value["row_first"] is None else value["row_first"]
        says = [value[name] for name in ("quality", "checks", "check") if name in value]
        key = [*says, tp.topic, tp.partition, start]
        headers = (trace, Origin(tp, first, stop, commit).header())
        time = min(latest // 1000, now_ms)
        yield Record(to_json(key), to_json(value | where | offsets), time, headers)
