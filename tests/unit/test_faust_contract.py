"""Names of Faust and aiokafka that the transport overrides or reads.

When a new release moves one of them, this fails first, and says which.
"""

import asyncio
import inspect
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, TopicPartitionState
from faust.app.base import App
from faust.topics import Topic
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage

from streamflow.fetched import _made, _wrap
from streamflow.group_errors import _send
from streamflow.reconnects import _connect, _update

OVERRIDDEN: list[tuple[Any, str, list[str]]] = [
    (Consumer, "getmany", ["self", "timeout"]),
    (Consumer, "_new_offset", ["self", "tp"]),
    (Consumer, "perform_seek", ["self"]),
    (Consumer, "on_partitions_revoked", ["self", "revoked"]),
    (Consumer, "_wait_next_records", ["self", "timeout"]),
    (driver.Consumer, "_new_consumer_thread", ["self"]),
    (driver.Consumer, "seek_wait", ["self", "partitions"]),
    (driver.Consumer, "_to_message", ["self", "tp", "record"]),
    (
        driver.AIOKafkaConsumerThread,
        "_fetch_records",
        ["self", "consumer", "active_partitions", "timeout", "max_records"],
    ),
    (driver.AIOKafkaConsumerThread, "_seek_wait", ["self", "consumer", "partitions"]),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
    (driver.Producer, "_new_producer", ["self", "transactional_id"]),
    (AIOKafkaClient, "bootstrap", ["self"]),
    (Topic, "_compile_decode", ["self"]),
    (aiokafka.AIOKafkaConsumer, "pause", ["self", "partitions"]),
    (aiokafka.AIOKafkaConsumer, "resume", ["self", "partitions"]),
    (driver.AIOKafkaConsumerThread, "call_thread", ["self", "fun", "args", "kwargs"]),
    (PartitionRecords, "_consumer_record", ["records", "tp", "record"]),
    (App, "_new_transport", ["self"]),
    (App, "on_start", ["self"]),
    (App, "on_stop", ["self"]),
    (App, "create_event", ["self", "key", "value", "headers", "message"]),
]


@pytest.mark.parametrize(
    ("owner", "name", "parameters"), OVERRIDDEN, ids=[f"{o.__name__}.{n}" for o, n, _ in OVERRIDDEN]
)
def test_an_overridden_name_has_the_signature_it_had(
    owner: Any, name: str, parameters: list[str]
) -> None:
    found = getattr(owner, name, None)
    assert found is not None, f"Faust no longer has {owner.__name__}.{name}"
    assert list(inspect.signature(found).parameters) == parameters


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Consumer, "_acked"),
        (Consumer, "_acked_index"),
        (Consumer, "_read_offset"),
        (Consumer, "_buffered_partitions"),
    ],
)
def test_the_consumer_keeps_the_attribute_the_transport_writes(owner: Any, name: str) -> None:
    assert f"self.{name}" in inspect.getsource(owner)


@pytest.mark.parametrize(
    "attribute", ["_isolation_level", "_max_partition_fetch_bytes", "_fetch_max_wait_ms"]
)
def test_aiokafka_reads_these_settings_when_it_starts_not_when_it_is_made(attribute: str) -> None:
    assert f"self.{attribute}" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)


def test_aiokafka_still_makes_its_records_through_the_name_that_is_replaced() -> None:
    assert "self._consumer_record(tp, record)" in inspect.getsource(PartitionRecords)
    assert list(inspect.signature(_wrap).parameters) == ["self", "tp", "record"]
    assert list(inspect.signature(_made).parameters)[:3] == ["self", "tp", "records"]
    assert "PartitionRecords(\n" in inspect.getsource(fetcher.Fetcher), "made by that name"


def test_aiokafka_still_connects_and_updates_through_the_names_that_are_replaced() -> None:
    assert list(inspect.signature(_connect).parameters) == ["self", "node_id", "group", "no_hint"]
    assert list(inspect.signature(_update).parameters) == ["self", "cluster_metadata", "topics"]
    source = inspect.getsource(AIOKafkaClient)
    assert source.count("await self._get_conn(") == 2, "for metadata, and to be ready"
    assert "ret = await self._metadata_update(self.cluster, topics)" in source
    assert "self._conns = {}" in source


def test_aiokafka_still_asks_for_committed_offsets_through_the_name_that_is_replaced() -> None:
    assert list(inspect.signature(_send).parameters) == ["self", "request"]
    asking = inspect.getsource(GroupCoordinator._do_fetch_commit_offsets)
    assert "await self._send_req(request)" in asking
    assert "response.error_code" not in asking, "it heeds it by itself now"
    for asks in (
        GroupCoordinator.fetch_committed_offsets,
        GroupCoordinator._maybe_refresh_commit_offsets,
    ):
        assert "if not err.retriable" in inspect.getsource(asks)


@pytest.mark.parametrize("attribute", ["lso", "timestamp", "paused"])
def test_aiokafka_says_what_the_last_fetch_of_a_partition_has_shown(attribute: str) -> None:
    async def go() -> None:
        assert hasattr(TopicPartitionState(Assignment([])), attribute)

    asyncio.run(go())
    assert "tp_state.timestamp = now_ms" in inspect.getsource(fetcher), "after the stable end"


def test_a_transport_is_chosen_by_class_attributes() -> None:
    assert driver.Transport.Consumer is driver.Consumer


def test_a_message_takes_the_arguments_that_the_transport_gives() -> None:
    message = ConsumerMessage("t", 0, 7, 0.0, 0, None, None, None, None, 0, 0, generation_id=1)
    assert (message.topic, message.offset, message.generation_id) == ("t", 7, 1)


def test_the_host_is_of_the_line_that_was_read() -> None:
    assert faust.__version__.startswith("0.15.")
    assert aiokafka.__version__.startswith("0.14.")
