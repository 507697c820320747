"""A worker that is started before its broker, and one that runs where doors are closed later."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

from streamflow.broker import Broker
from streamflow.demo.flights import flight_records
from tests.chaos.proxy import proxied
from tests.integration.test_web import free_port, get
from tests.integration.worker import WorkerUnderTest

PARTITIONS, FLIGHTS = 2, 300
CLOSED_SECONDS = 1.5
#: Of each connection that was lost.
KNOCKS_A_SECOND = 6


@asynccontextmanager
async def counted(count: Callable[[], int]) -> AsyncGenerator[list[float]]:
    """How much it grows in a second, while the block lasts."""
    rates: list[float] = []
    before, began = count(), time.monotonic()
    yield rates
    rates.append((count() - before) / (time.monotonic() - began))


def test_a_worker_waits_for_its_broker_and_knocks_seldom_where_doors_are_closed(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    direct = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path)
    direct.create("flights", PARTITIONS)
    direct.produce("flights", islice(flight_records(), FLIGHTS), PARTITIONS)
    asyncio.run(_story(direct))


async def _story(direct: WorkerUnderTest) -> None:
    port = free_port()
    async with proxied(int(direct.bootstrap.rpartition(":")[2])) as proxy:
        app = WorkerUnderTest(proxy.bootstrap, direct.app, direct.folder)
        proxy.refusing = True
        worker = app.start("--web-port", str(port), "--commit-interval", "0.2")

        async def until(reached: Callable[[], bool]) -> None:
            await asyncio.to_thread(app.wait_until, worker, reached)

        try:
            await until(lambda: get(port, "/ready")[1].get("state") == "waiting")
            status, live = await asyncio.to_thread(get, port, "/live")
            assert (status, live["state"]) == (200, "waiting")
            assert live["waiting_for"].startswith(f"no Kafka broker answers at {proxy.bootstrap}")
            assert (await asyncio.to_thread(get, port, "/ready"))[0] == 503

            proxy.refusing = False
            await until(lambda: direct.committed("flights", PARTITIONS) == FLIGHTS)

            proxy.refusing = True
            lost = proxy.cut()
            async with counted(lambda: proxy.accepted) as knocks:
                await asyncio.sleep(CLOSED_SECONDS)
            assert 0 < knocks[0] < lost * KNOCKS_A_SECOND

            proxy.refusing = False
            await until(lambda: get(port, "/ready")[0] == 200)
            worker.terminate()
            await asyncio.to_thread(app.finish, worker, 60)
        finally:
            app.close()
