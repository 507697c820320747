"""What every `Outbox` without transactions must keep.

Run `LAWS`, each with a fresh `PlainBench`, as those of `contracts_outbox`; many hold here too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from streamflow.batch import Record, TopicPartition
from streamflow.errors import Fenced, Refused
from streamflow.ports import Outbox
from streamflow.testing import contracts_outbox as shared
from streamflow.testing.contracts_outbox import (
    RECORD_LIMIT,
    OutboxBench,
    fenced,
    first,
    raises,
    records,
)


class PlainBench(OutboxBench, Protocol):
    """A bench whose outboxes have no transactions."""

    def transactional(self) -> Outbox:
        """A producer with transactions, of the same id as the others, that nobody has fenced."""
        ...


async def what_was_flushed_is_there_and_stays_there(bench: PlainBench) -> None:
    outbox = await fenced(bench)
    await outbox.begin()
    await outbox.produce(first(bench), records("ab"))
    await outbox.flush()
    assert [record.value for _, record in await bench.committed(first(bench))] == [b"a", b"b"]
    await outbox.abort()
    assert len(await bench.committed(first(bench))) == 2
    await outbox.close()


async def offsets_meet_and_nothing_else_takes_one(bench: PlainBench) -> None:
    """By this an owner knows that nobody has written in between."""
    outbox = await fenced(bench)
    at = 0
    for turn in range(3):
        await outbox.begin()
        await outbox.produce(first(bench), records("abc"))
        assert await outbox.flush() == {first(bench): at + 3}
        await outbox.produce(first(bench), records("d"))
        assert await outbox.flush() == {first(bench): at + 4}
        await outbox.commit()
        at += 4
        if turn == 1:
            await outbox.close()
            outbox = await fenced(bench)
    await outbox.close()
    assert await bench.end(first(bench)) == at


async def the_groups_offset_is_left_alone(bench: PlainBench) -> None:
    outbox = await fenced(bench)
    await outbox.begin()
    await outbox.offsets({first(bench): 7})
    await outbox.commit()
    await outbox.close()
    assert await bench.position(first(bench)) is None


async def an_owner_with_transactions_is_fenced(bench: PlainBench) -> None:
    old = bench.transactional()
    await old.fence()
    await old.begin()
    await old.produce(first(bench), records("a"))
    await old.flush()
    new = await fenced(bench)
    await raises(old.commit(), Fenced)
    await old.close()
    await new.begin()
    await new.produce(first(bench), records("b"))
    await new.flush()
    await new.close()
    assert [record.value for _, record in await bench.committed(first(bench))] == [b"b"]


async def another_owner_is_not_kept_out(bench: PlainBench) -> None:
    """Its epoch tells; see `engine/takeover.py`."""
    old, new = await fenced(bench), await fenced(bench)
    for outbox in (new, old):
        await outbox.begin()
        await outbox.produce(first(bench), records("a"))
        await outbox.flush()
        await outbox.close()
    assert len(await bench.committed(first(bench))) == 2


async def a_refused_batch_is_said_and_the_others_are_there(bench: PlainBench) -> None:
    outbox = await fenced(bench)
    await outbox.begin()
    large = Record(b"k", b"x" * (RECORD_LIMIT + 1))
    await outbox.produce(TopicPartition(bench.topic, 1), records("a"))
    await outbox.produce(first(bench), [large])
    refused = await raises(outbox.flush(), Refused)
    assert isinstance(refused, Refused)
    assert list(refused.records) == [large]
    await outbox.close()
    assert await bench.committed(first(bench)) == []
    assert len(await bench.committed(TopicPartition(bench.topic, 1))) == 1


Law = Callable[[PlainBench], Awaitable[None]]

LAWS: Sequence[Law] = (
    shared.a_record_comes_out_as_it_went_in,
    shared.a_record_without_a_time_gets_the_present,
    shared.a_partition_keeps_the_order_of_sends,
    shared.keys_choose_partitions_as_kafka_does,
    shared.records_without_a_key_stay_together_in_the_first_partition,
    shared.a_topic_by_name_keeps_the_order_of_sends_per_partition,
    shared.a_refusal_names_the_records_of_one_call,
    shared.a_topic_that_is_not_there_is_an_outage,
    shared.a_record_just_below_the_limit_is_taken,
    what_was_flushed_is_there_and_stays_there,
    offsets_meet_and_nothing_else_takes_one,
    the_groups_offset_is_left_alone,
    an_owner_with_transactions_is_fenced,
    another_owner_is_not_kept_out,
    a_refused_batch_is_said_and_the_others_are_there,
)
