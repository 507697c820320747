"""The states of an app on Kafka: looked at, and settled where they disagree with the group."""

import asyncio
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition
from click.testing import CliRunner

from streamflow.broker import Broker
from streamflow.cli import main
from streamflow.demo.flights import flight_records
from tests.integration.worker import WorkerUnderTest

FLIGHTS = 600


@pytest.fixture
def under_test(kafka: Broker, fresh: str, tmp_path: Path) -> Iterator[WorkerUnderTest]:
    yielded = WorkerUnderTest(kafka.bootstrap, fresh, tmp_path)
    yielded.create("flights", 1)
    yielded.produce("flights", islice(flight_records(), FLIGHTS), 1)
    yield yielded
    yielded.close()


def state(under_test: WorkerUnderTest, command: str, *words: str) -> Any:
    app = ("--app-id", under_test.app, "--topic-prefix", under_test.prefix)
    where = ("topologies.flights", "--broker", under_test.bootstrap, *app)
    return CliRunner().invoke(main, ["state", command, *where, *words])


def shown(under_test: WorkerUnderTest) -> dict[str, Any]:
    done = state(under_test, "show", "--json", "--state-dir", str(under_test.folder / "state"))
    assert done.exit_code == 0, done.output
    (task,) = orjson.loads(done.stdout)
    return task


def move_group(under_test: WorkerUnderTest, to: int) -> None:
    """As somebody does by hand."""

    async def go() -> None:
        consumer = AIOKafkaConsumer(
            **under_test.connection, group_id=under_test.app, enable_auto_commit=False
        )
        await consumer.start()
        try:
            tp = KafkaTopicPartition(under_test.prefix + "flights", 0)
            consumer.assign([tp])
            await consumer.commit({tp: to})
        finally:
            await consumer.stop()

    asyncio.run(go())


def begin_from_backups(under_test: WorkerUnderTest, copies: Path) -> None:
    """The worker's disk is lost, but for copies that it and the command have made."""
    local = ("--state-dir", str(under_test.folder / "state"))
    app = ("topologies.flights", "--app-id", under_test.app)
    made = CliRunner().invoke(main, ["state", "backup", *app, *local, "--to", str(copies)])
    assert made.exit_code == 0, made.output
    shutil.rmtree(under_test.folder / "state")
    restoring = ("restore", *local, "--from", str(copies))
    done = state(under_test, *restoring, "--worker-id", "another")
    assert done.exit_code == 0, done.output
    assert f"put back from {copies}" in done.stdout
    again = state(under_test, *restoring, "--worker-id", "another")
    assert again.exit_code == 1
    assert "there is a state in" in again.stdout


def test_a_group_that_was_moved_by_hand_is_settled_and_a_state_discarded(
    under_test: WorkerUnderTest,
) -> None:
    copies = under_test.folder / "backups"
    backed_up = {"STREAMFLOW_BACKUP_DIR": str(copies), "STREAMFLOW_BACKUP_INTERVAL": "0.3"}
    worker = under_test.start("--commit-interval", "0.2", **backed_up)
    under_test.wait_until(worker, lambda: under_test.committed("flights", 1) == FLIGHTS)
    found = shown(under_test)
    assert (found["position"], found["group_offset"], found["stop"]) == (FLIGHTS, FLIGHTS, FLIGHTS)
    assert found["entries"]["meta"] == 1
    assert found["entries"]["windows"] > 0
    assert found["local"]["in_use"]
    refused = state(under_test, "reset", "--to", "changelog", "--yes")
    assert refused.exit_code == 2
    assert (
        f"workers of '{under_test.app}' seem to be running: its group has 1 member, on 127."
        in refused.stderr
    )
    under_test.wait_until(worker, lambda: [*copies.glob("*/*/*/BACKUP.json")] != [])
    worker.terminate()
    under_test.finish(worker)
    begin_from_backups(under_test, copies)

    move_group(under_test, FLIGHTS - 100)
    settle = ("--source", "flights", "--partition", "0", "--to", "changelog")
    asked = state(under_test, "reset", *settle)
    assert asked.exit_code == 1
    assert f"which was {FLIGHTS - 100}, becomes {FLIGHTS}" in asked.stdout
    assert shown(under_test)["group_offset"] == FLIGHTS - 100
    done = state(under_test, "reset", *settle, "--yes")
    assert done.exit_code == 0, done.output
    under_test.wait_until_committed("flights", 1, FLIGHTS)

    under_test.produce("flights", islice(flight_records(), FLIGHTS, FLIGHTS + 50), 1)
    finished = under_test.finish(under_test.start("--until-end", **backed_up))
    assert finished["totals"]["in"] == FLIGHTS + 50
    assert finished["restored"] < 10, "the reset's commit, after the backup"

    anew = state(under_test, "reset", "--to", "earliest", "--discard", "--yes")
    assert anew.exit_code == 0, anew.output
    found = shown(under_test)
    assert (found["position"], found["entries"]) == (0, {"meta": 1})
