"""The memory ports keep what the real ones keep, so that a test over them means something."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from streamflow.batch import Record, TopicPartition
from streamflow.edges.memory import MemoryBroker, MemoryChangelog, MemoryOutbox, MemoryPlainOutbox
from streamflow.engine.sync import run_sync
from streamflow.ports import Outbox
from streamflow.testing import contracts_changelog, contracts_outbox, contracts_plain_outbox


class MemoryBench:
    """A bench of the contracts on a `MemoryBroker`."""

    topic = "topic"

    def __init__(self) -> None:
        self.broker = MemoryBroker(now_ms=1)
        self.broker.create(
            self.topic,
            contracts_outbox.PARTITIONS,
            record_bytes=contracts_outbox.RECORD_LIMIT,
        )

    def outbox(self) -> Outbox:
        return MemoryOutbox(self.broker, "producer")

    def changelog(self) -> MemoryChangelog:
        return MemoryChangelog(self.broker, TopicPartition(self.topic, 0))

    async def committed(self, tp: TopicPartition) -> list[tuple[int, Record]]:
        return list(self.broker.partition(tp).records)

    async def end(self, tp: TopicPartition) -> int:
        return self.broker.partition(tp).next_offset

    async def position(self, tp: TopicPartition) -> int | None:
        return self.broker.offsets.get(tp)

    async def trim(self, tp: TopicPartition, before: int) -> None:
        self.broker.partition(tp).trim(before)


class PlainMemoryBench(MemoryBench):
    """One whose outboxes have no transactions."""

    def outbox(self) -> Outbox:
        return MemoryPlainOutbox(self.broker, "producer")

    def transactional(self) -> Outbox:
        return super().outbox()


Law = Callable[[MemoryBench], Coroutine[Any, Any, None]]


@pytest.mark.parametrize("law", contracts_outbox.LAWS, ids=lambda law: law.__name__)
def test_the_outbox_keeps_the_contract(law: Law) -> None:
    run_sync(law(MemoryBench()))


@pytest.mark.parametrize("law", contracts_plain_outbox.LAWS, ids=lambda law: law.__name__)
def test_the_plain_outbox_keeps_the_contract(law: Any) -> None:
    run_sync(law(PlainMemoryBench()))


@pytest.mark.parametrize("law", contracts_changelog.LAWS, ids=lambda law: law.__name__)
def test_the_changelog_keeps_the_contract(law: Law) -> None:
    run_sync(law(MemoryBench()))
