"""The floor: aiokafka hands out records, and nothing is done with them."""

from __future__ import annotations

import asyncio
import time

from aiokafka import AIOKafkaConsumer
from arguments import answer, arguments


async def main() -> None:
    """Poll until all records were seen."""
    given = arguments()
    started = time.monotonic()
    consumer = AIOKafkaConsumer(
        f"{given.prefix}flights",
        bootstrap_servers=given.broker,
        group_id=given.name,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    seen = 0
    while seen < given.records:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            seen += len(records)
    await consumer.stop()
    answer(seen, time.monotonic() - started)


asyncio.run(main())
