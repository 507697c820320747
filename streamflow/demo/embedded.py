"""The demonstration without a Kafka: the same topology in the embedded mode."""

from __future__ import annotations

import base64
import importlib
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from streamflow.batch import Headers, Record
from streamflow.clock import Clock
from streamflow.demo.flights import flight_records
from streamflow.demo.outcome import LETTERS, Outcome, some_row, table_size
from streamflow.edges.partitioner import default_partition
from streamflow.local import PARTITIONS, LocalRun

MODULE = "topologies.flights"


def demo_embedded(folder: Path, console: Console, clock: Clock) -> Outcome:
    """Run the flights through the embedded mode, in this process."""
    topology = importlib.import_module(MODULE).topology
    lake = folder / "lake"
    started = clock.monotonic()
    with console.status("running the flights in the embedded mode"):
        result = LocalRun(topology, lake, clock=clock).run({"flights": flight_records()})
    seconds = clock.monotonic() - started
    with result.topics["flights.dlq"].open("rb") as lines:
        letters = [_record(line) for line in islice(lines, LETTERS)]
    traced = some_row(lake, "flights")
    return Outcome(
        totals=result.totals,
        tables=[table_size(lake, "flights"), table_size(lake, "hourly")],
        letters=letters,
        traced=traced,
        original=_input(traced.tp.partition, traced.offset),
        seconds=seconds,
        lake=lake,
    )


def _input(partition: int, offset: int) -> Record:
    """The input record that had this offset: without a log, the input is read again."""
    places: dict[bytes | None, int] = {}
    position = 0
    for record in flight_records():
        if record.key not in places:
            places[record.key] = default_partition(record.key or b"", PARTITIONS)
        if places[record.key] == partition:
            if position == offset:
                return record
            position += 1
    raise LookupError(f"the input has no record {offset} of partition {partition}")


def _record(line: bytes) -> Record:
    document = orjson.loads(line)
    headers: Headers = tuple((name, _bytes(value)) for name, value in document["headers"])
    return Record(
        _bytes(document["key"]), _bytes(document["value"]), document["timestamp"], headers
    )


def _bytes(text: Any) -> bytes | None:
    if isinstance(text, dict):
        return base64.b64decode(text["base64"])
    return None if text is None else text.encode()
