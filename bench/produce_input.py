"""Makes the topics that are measured: some years of flights, and an empty one.

There is one year of real flights; each further one is the same, moved on by a year.

A process of its own, so that its memory is not counted for the engines.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from datetime import timedelta

from streamflow.batch import Record
from streamflow.demo.flights import flight_records
from streamflow.produce import produce_records
from streamflow.produce.topics import made_topic

PARTITIONS = 4
YEAR_MS = timedelta(days=365) // timedelta(milliseconds=1)


def flights(years: int, limit: int | None) -> Iterator[Record]:
    """The flights of so many years, in the order of their departure."""
    for later in range(years):
        for record in flight_records(limit):
            value = record.value or b""
            # The last evening's flights are in the next year already, in UTC.
            for year in (2014, 2013):
                for name in (b'"year":', b'"time_hour":"'):
                    value = value.replace(b"%s%d" % (name, year), b"%s%d" % (name, year + later))
            yield record._replace(value=value, timestamp=(record.timestamp or 0) + later * YEAR_MS)


async def main() -> None:
    """Produce the flights and print how many there are."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", required=True)
    parser.add_argument("--years", type=int, required=True)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    connection = {"bootstrap_servers": given.broker}
    for topic in ("empty.flights", "years.flights"):
        await made_topic(connection, topic, PARTITIONS)
    records = flights(given.years, given.limit)
    print(await produce_records(connection, "years.flights", records, PARTITIONS))


asyncio.run(main())
