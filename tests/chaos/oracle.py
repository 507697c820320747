"""What the topology has to make of the log of its source, in plain Python, without the engine."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import orjson

from tests.chaos.log import TABLES, TOPICS, Logged, Rows
from tests.chaos.topology import GRACE, OUT_OF_ORDERNESS, WINDOW


def expected(log: Iterable[Logged]) -> Mapping[str, Rows]:
    """The outcome of a log that has ended; partitions do not know of each other."""
    partitions: defaultdict[int, list[Logged]] = defaultdict(list)
    for record in log:
        partitions[record.partition].append(record)
    names = (*TOPICS, *(f"{table}*" for table in TABLES))
    total: dict[str, Rows] = {name: Counter() for name in names}
    for records in partitions.values():
        for name, rows in _partition(records).items():
            total[name].update(rows)
    return total


def _partition(records: Iterable[Logged]) -> dict[str, list[tuple[Any, ...]]]:
    out: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    seen: set[str] = set()
    latest: datetime | None = None
    windows: defaultdict[tuple[str, datetime], list[int]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.offset):
        row = orjson.loads(record.value)
        at, where = datetime.fromisoformat(row["at"]), (record.partition, record.offset)
        if row["value"] is None:
            out["dead"].append((*where, record.value))
            continue
        watermark = None if latest is None else latest - OUT_OF_ORDERNESS
        latest = at if latest is None else max(latest, at)
        if row["event"] in seen:
            continue
        seen.add(row["event"])
        out["passed"].append((*where, record.value))
        out["readings*"].append((*where, row["sensor"], row["event"], row["value"], at))
        start = at.replace(second=0)
        if watermark is not None and watermark >= start + WINDOW + GRACE:
            out["late"].append((*where, record.value, start, watermark))
        else:
            windows[row["sensor"], start].append(row["value"])
    for (sensor, start), values in windows.items():
        result = (sensor, start, len(values), sum(values), max(values))
        out["minutes"].append(result)
        out["minutes*"].append(result)
    return out
