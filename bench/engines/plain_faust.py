"""Faust as its manual shows it: an agent, one event at a time.

It does less than the topology it is compared with: it checks each flight against the same pydantic
model and counts flights per origin and hour. It writes no Parquet, no dead letters and no results,
and its counts are a dict, not a table with a changelog. All choices are in Faust's favour:

- values come as bytes and go through `model_validate_json`: a `faust.Record` with `validation=True`
  takes longer for the same fields;
- nothing is logged or served, and offsets are committed rarely.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import faust
from arguments import answer, arguments
from pydantic import ValidationError

from topologies.flights import Flight

given = arguments()
app = faust.App(
    given.name,
    broker=f"kafka://{given.broker}",
    store="memory://",
    datadir=given.folder,
    web_enabled=False,
    topic_disable_leader=True,
    topic_allow_declare=False,
    consumer_auto_offset_reset="earliest",
    broker_commit_every=100_000,
)
flights = app.topic(
    f"{given.prefix}flights", key_type=bytes, value_type=bytes, value_serializer="raw"
)
hourly: Counter[tuple[str, int]] = Counter()
rejected = 0
done = asyncio.Event()


@app.agent(flights)
async def count(stream: faust.StreamT[bytes]) -> None:
    """Flights per origin and hour of their schedule."""
    global rejected  # noqa: PLW0603
    seen = 0
    async for value in stream:
        try:
            flight = Flight.model_validate_json(value)
        except ValidationError:
            rejected += 1
        else:
            if flight.dep_time is None:
                rejected += 1
            else:
                hourly[flight.origin, int(flight.time_hour.timestamp()) // 3600] += 1
        seen += 1
        if seen == given.records:
            done.set()


async def main() -> None:
    """Run until enough events were handled."""
    started = time.monotonic()
    await app.start()
    if given.records:
        await done.wait()
    handled = hourly.total() + rejected
    await app.stop()
    answer(handled, time.monotonic() - started)


asyncio.run(main())
