"""A worker that waits for answers from a real service: it stays in its group, and loses nothing."""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow.dataset as ds
import pytest

from streamflow.batch import Record
from streamflow.broker import Broker
from streamflow.edges.partitioner import default_partition
from streamflow.engine.inbox import QUEUE_BATCHES
from tests.integration.worker import WorkerUnderTest

PARTITIONS = 2
START = datetime(2024, 5, 1, tzinfo=UTC)
#: One shop of each partition.
SLOW, WELL = (
    next(n for n in map(str, range(100)) if default_partition(n.encode(), PARTITIONS) == p)
    for p in range(PARTITIONS)
)
#: The session time-out of the workers here.
SESSION_SECONDS = 6


class Prices:
    """The service: it answers with the length of a name, keeps silent about what is held, and hangs
    up while it is down.
    """

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.down = False
        self.waiting = 0
        self.hung_up = 0
        self.address = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        skus = orjson.loads(await reader.readline())
        if self.held & set(skus):
            self.waiting += 1
            await reader.read()  # until the worker gives up
        elif self.down:
            self.hung_up += 1
        else:
            writer.write(orjson.dumps({sku: len(sku) for sku in skus}) + b"\n")
        writer.close()


@pytest.fixture
def prices() -> Iterator[Prices]:
    service = Prices()
    yield service
    service.close()


@pytest.fixture
def under_test(
    kafka: Broker, fresh: str, tmp_path: Path, prices: Prices
) -> Iterator[WorkerUnderTest]:
    yielded = WorkerUnderTest(
        kafka.bootstrap,
        fresh,
        tmp_path,
        "tests.integration.enriching",
        {"PRICES_AT": prices.address},
    )
    yielded.create("sales", PARTITIONS)
    yield yielded
    yielded.close()


def send(under_test: WorkerUnderTest, shop: str, first: int, *skus: str) -> None:
    values = [{"shop": shop, "sku": sku, "n": first + n, "at": START} for n, sku in enumerate(skus)]
    records = [Record(shop.encode(), orjson.dumps(value)) for value in values]
    under_test.produce("sales", records, PARTITIONS)


def priced(under_test: WorkerUnderTest, shop: str) -> list[tuple[int, Any]]:
    rows = [orjson.loads(record.value or b"") for record in under_test.read("priced")]
    return [(row["n"], row["cents"]) for row in rows if row["shop"] == shop]


def test_a_partition_that_waits_holds_nobody_up_and_a_kill_then_loses_nothing(
    under_test: WorkerUnderTest, prices: Prices
) -> None:
    prices.held = {"held"}
    skus = ["tea", "milk", "held", "tea", "coffee"]
    send(under_test, SLOW, 0, *skus)
    worker = under_test.start("--commit-interval", "0.05")
    under_test.wait_until(worker, lambda: prices.waiting > 0)
    deadline, sent = time.monotonic() + SESSION_SECONDS + 2, 0
    while sent < 2 * QUEUE_BATCHES or time.monotonic() < deadline:
        send(under_test, SLOW, len(skus), "tea")  # it gets more than it holds
        skus.append("tea")
        send(under_test, WELL, sent, "tea")
        sent += 1
        expected = sent
        under_test.wait_until(
            worker, lambda expected=expected: under_test.committed("sales", PARTITIONS) >= expected
        )
    assert priced(under_test, SLOW) == []
    assert prices.waiting == 1  # nobody took the partition away, or asked a second time
    under_test.kill(worker)

    prices.held = set()
    under_test.finish(under_test.start("--until-end"))
    assert priced(under_test, SLOW) == [(n, len(sku)) for n, sku in enumerate(skus)]
    assert priced(under_test, WELL) == [(n, 3) for n in range(sent)]
    rows = ds.dataset(under_test.lake / "priced").to_table().to_pylist()
    table = sorted((row["n"], row["cents"]) for row in rows if row["shop"] == SLOW)
    assert table == [(n, len(sku)) for n, sku in enumerate(skus)]
    assert len(rows) == len(skus) + sent


def test_a_service_that_is_down_for_some_time_makes_no_dead_letters(
    under_test: WorkerUnderTest, prices: Prices
) -> None:
    prices.down = True
    send(under_test, SLOW, 0, "tea", "milk", "tea")
    worker = under_test.start("--commit-interval", "0.05")
    under_test.wait_until(worker, lambda: prices.hung_up >= 3)
    assert priced(under_test, SLOW) == []
    prices.down = False
    under_test.wait_until(worker, lambda: len(priced(under_test, SLOW)) == 3)
    worker.send_signal(signal.SIGTERM)
    summary = under_test.finish(worker)
    assert priced(under_test, SLOW) == [(0, 3), (1, 4), (2, 3)]
    assert summary["totals"]["passed"] == 3
    assert under_test.read("dlq") == []
