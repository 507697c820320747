"""A partition waits while it has a reason to, and the consumer is told no more than it must be."""

import asyncio

from streamflow.batch import TopicPartition
from streamflow.engine.pauses import Pauses
from tests.unit.test_lanes import Consumer

ONE, OTHER = TopicPartition("orders", 0), TopicPartition("orders", 1)


def test_it_waits_for_its_reasons_and_after_a_rebalance_until_its_lane_is_open() -> None:
    async def go() -> None:
        log: list[str] = []
        pauses = Pauses(Consumer(log))
        await pauses.remove(ONE, "gate")
        await pauses.add(ONE, "gate")
        assert (pauses.reasons(ONE), pauses.reasons(OTHER)) == ({"gate"}, frozenset())
        assert log == ["resume orders[0]", "pause orders[0]"]
        log.clear()
        pauses.forget()
        await pauses.hold([ONE, OTHER], "opening")
        assert log == ["pause orders[0]", "pause orders[1]"]
        log.clear()
        await pauses.add(ONE, "gate")
        await pauses.remove(ONE, "opening")
        await pauses.remove(OTHER, "opening")
        assert (pauses.reasons(ONE), pauses.reasons(OTHER)) == ({"gate"}, frozenset())
        assert log == ["pause orders[0]", "resume orders[1]"]

    asyncio.run(go())
