"""What every `Outbox` must keep, and what a `read_committed` reader sees of it.

Run `LAWS`, each with a fresh `OutboxBench`. They are coroutines, since a real outbox waits for a
network; over memory ports `run_sync` drives them.

@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_my_outbox_keeps_the_contract(law, my_bench):
    asyncio.run(law(my_bench))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from streamflow.batch import Record, TopicPartition
from streamflow.errors import Fenced, Refused, TaskLost, Unavailable
from streamflow.ports import Outbox

#: What a topic takes at the most unless it says otherwise: Kafka's default `max.message.bytes`.
RECORD_LIMIT = 1_048_588
PARTITIONS = 4
#: Keys and their 32-bit murmur2, as Kafka's own tests have them.
MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


class OutboxBench(Protocol):
    """A fresh topic of `PARTITIONS` partitions that takes records up to `RECORD_LIMIT`."""

    topic: str

    def outbox(self) -> Outbox:
        """A producer that nobody has fenced yet; all of them have the same transactional id."""
        ...

    async def committed(self, tp: TopicPartition) -> list[tuple[int, Record]]:
        """What a `read_committed` reader gets up to the end there is for it now, with offsets."""
        ...

    async def end(self, tp: TopicPartition) -> int:
        """The offset that comes next for a `read_committed` reader."""
        ...

    async def position(self, tp: TopicPartition) -> int | None:
        """The group's next offset for a partition, None for none."""
        ...


def first(bench: OutboxBench) -> TopicPartition:
    """The topic's first partition."""
    return TopicPartition(bench.topic, 0)


def records(values: Iterable[object]) -> list[Record]:
    """Records with these values."""
    return [Record(b"k", str(value).encode()) for value in values]


async def fenced(bench: OutboxBench) -> Outbox:
    """The next owner. What earlier ones did is decided and visible, or gone, when it is there."""
    outbox = bench.outbox()
    await outbox.fence()
    return outbox


async def write(bench: OutboxBench, to: TopicPartition | str, some: Sequence[Record]) -> int:
    """One transaction of a new owner; returns the highest next offset of what it wrote."""
    outbox = await fenced(bench)
    await outbox.begin()
    await outbox.produce(to, some)
    ends = await outbox.flush()
    await outbox.commit()
    await outbox.close()
    await (await fenced(bench)).close()
    return max(ends.values())


async def raises(step: Awaitable[object], kind: type[Exception] = TaskLost) -> Exception:
    """Let a step fail with an error of this kind, and return it."""
    try:
        await step
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


async def a_record_comes_out_as_it_went_in(bench: OutboxBench) -> None:
    sent = [
        Record(b"k", b"v", 1_357_000_000_000, (("a", b"1"), ("b", None), ("a", b"2"), ("c", b""))),
        Record(None, b"\x00\xff", 0),
        Record(b"", b"", 1),
        Record(b"tombstone", None, 2),
    ]
    await write(bench, first(bench), sent)
    assert [record for _, record in await bench.committed(first(bench))] == sent


async def a_record_without_a_time_gets_the_present(bench: OutboxBench) -> None:
    await write(bench, first(bench), [Record(b"k", b"v", None)])
    ((_, record),) = await bench.committed(first(bench))
    assert record.timestamp is not None
    assert record.timestamp > 0


async def a_partition_keeps_the_order_of_sends(bench: OutboxBench) -> None:
    outbox = await fenced(bench)
    await outbox.begin()
    large = [Record(b"k", b"%04d" % i + b"x" * 200_000) for i in range(12)]
    await outbox.produce(first(bench), large)
    await outbox.produce(first(bench), records(range(2_000)))
    await outbox.produce(first(bench), large[:1])
    await outbox.flush()
    await outbox.commit()
    await outbox.close()
    await (await fenced(bench)).close()
    found = [record.value for _, record in await bench.committed(first(bench))]
    sent = [r.value for r in [*large, *records(range(2_000)), large[0]]]
    assert found == sent


async def keys_choose_partitions_as_kafka_does(bench: OutboxBench) -> None:
    await write(bench, bench.topic, [Record(key, b"v") for key in MURMUR2])
    for key, hashed in MURMUR2.items():
        home = TopicPartition(bench.topic, (hashed & 0x7FFFFFFF) % PARTITIONS)
        assert key in [record.key for _, record in await bench.committed(home)], (key, home)


async def records_without_a_key_stay_together_in_the_first_partition(bench: OutboxBench) -> None:
    await write(bench, bench.topic, [Record(None, b"1"), Record(b"abc", b"2"), Record(None, b"3")])
    found = [record.value for _, record in await bench.committed(first(bench)) if not record.key]
    assert found == [b"1", b"3"]


async def a_topic_by_name_keeps_the_order_of_sends_per_partition(bench: OutboxBench) -> None:
    keys = list(MURMUR2)
    sent = [Record(keys[i % len(keys)], str(i).encode()) for i in range(600)]
    outbox = await fenced(bench)
    await outbox.begin()
    await outbox.produce(bench.topic, sent[:300])
    await outbox.produce(bench.topic, sent[300:])
    ends = await outbox.flush()
    await outbox.commit()
    await outbox.close()
    await (await fenced(bench)).close()
    total = 0
    for partition in range(PARTITIONS):
        tp = TopicPartition(bench.topic, partition)
        found = await bench.committed(tp)
        numbers = [int(record.value or b"") for _, record in found]
        assert numbers == sorted(numbers)
        assert ends.get(tp, 0) == (found[-1][0] + 1 if found else 0)
        total += len(found)
    assert total == len(sent)


async def flush_gives_the_offset_after_the_last_record(bench: OutboxBench) -> None:
    outbox = await fenced(bench)
    for _ in range(3):
        before = await bench.end(first(bench))
        await outbox.begin()
        await outbox.produce(first(bench), records("abc"))
        await outbox.produce(first(bench), records("d"))
        ends = await outbox.flush()
        await outbox.commit()
        await outbox.close()
        outbox = await fenced(bench)
        found = await bench.committed(first(bench))
        assert [offset for offset, _ in found[-4:]] == list(range(before, before + 4))
        assert ends == {first(bench): before + 4}
        assert await bench.end(first(bench)) > ends[first(bench)]  # the marker of the commit
    await outbox.close()


async def an_empty_transaction_is_one(bench: OutboxBench) -> None:
    outbox = await fenced(bench)
    await outbox.begin()
    await outbox.produce(first(bench), [])
    assert not await outbox.flush()
    await outbox.commit()
    await outbox.begin()
    await outbox.abort()
    await outbox.begin()
    await outbox.produce(first(bench), records("a"))
    await outbox.flush()
    await outbox.commit()
    await outbox.close()
    await (await fenced(bench)).close()
    assert len(await bench.committed(first(bench))) == 1


async def nothing_is_seen_before_the_commit(bench: OutboxBench) -> None:
    outbox = await fenced(bench)
    await outbox.begin()
    await outbox.produce(first(bench), records("abc"))
    await outbox.flush()
    await outbox.offsets({first(bench): 7})
    assert await bench.end(first(bench)) == 0
    assert await bench.committed(first(bench)) == []
    assert await bench.position(first(bench)) is None
    await outbox.commit()
    await outbox.close()
    await (await fenced(bench)).close()
    assert len(await bench.committed(first(bench))) == 3
    assert await bench.position(first(bench)) == 7


async def an_aborted_transaction_is_never_seen(bench: OutboxBench) -> None:
    outbox = await fenced(bench)
    await outbox.begin()
    await outbox.produce(first(bench), records("ab"))
    await outbox.flush()
    await outbox.offsets({first(bench): 7})
    await outbox.abort()
    await outbox.begin()
    await outbox.produce(first(bench), records("c"))
    await outbox.abort()  # without a flush
    await outbox.begin()
    await outbox.produce(first(bench), records("d"))
    await outbox.flush()
    await outbox.commit()
    await outbox.close()
    await (await fenced(bench)).close()
    assert [record.value for _, record in await bench.committed(first(bench))] == [b"d"]
    assert await bench.position(first(bench)) is None


async def offsets_move_with_the_transaction_only(bench: OutboxBench) -> None:
    source, other = first(bench), TopicPartition(bench.topic, 1)
    outbox = await fenced(bench)
    for end in (3, 9):
        await outbox.begin()
        await outbox.offsets({source: end, other: 1})
        await outbox.commit()
    await outbox.begin()
    await outbox.offsets({source: 12})
    await outbox.abort()
    await outbox.close()
    await (await fenced(bench)).close()
    assert await bench.position(source) == 9
    assert await bench.position(other) == 1


async def a_refused_record_is_said_in_flush_and_can_be_aborted(bench: OutboxBench) -> None:
    outbox = await fenced(bench)
    await outbox.begin()
    await outbox.produce(first(bench), records("a"))
    await outbox.produce(first(bench), [Record(b"k", b"x" * (RECORD_LIMIT + 1))])
    await outbox.produce(TopicPartition(bench.topic, 1), records("b"))
    await raises(outbox.flush())
    await outbox.abort()
    await outbox.close()
    await write(bench, first(bench), records("c"))
    assert [record.value for _, record in await bench.committed(first(bench))] == [b"c"]
    assert await bench.committed(TopicPartition(bench.topic, 1)) == []


async def a_refusal_names_the_records_of_one_call(bench: OutboxBench) -> None:
    """Those of one partition: others of the call are not under suspicion."""
    large = Record(b"large", b"x" * (RECORD_LIMIT + 1))
    for suspects in ([large], [*records("ab"), large, *records("c")]):
        outbox = await fenced(bench)
        await outbox.begin()
        await outbox.produce(first(bench), records("def"))
        await outbox.produce(first(bench), suspects)
        refused = await raises(outbox.flush(), Refused)
        assert isinstance(refused, Refused)
        assert refused.topic == bench.topic
        assert large in refused.records
        assert all(record in suspects for record in refused.records)
        await outbox.abort()
        await outbox.close()


async def a_topic_that_is_not_there_is_an_outage(bench: OutboxBench) -> None:
    outbox = await fenced(bench)
    await outbox.begin()
    await raises(_produced(outbox, f"{bench.topic}-missing"), Unavailable)
    await outbox.close()


async def _produced(outbox: Outbox, topic: str) -> None:
    await outbox.produce(topic, records("a"))
    await outbox.flush()


async def a_record_just_below_the_limit_is_taken(bench: OutboxBench) -> None:
    large = Record(b"k", b"x" * (RECORD_LIMIT - 1_000))
    await write(bench, first(bench), [*records("a"), large, *records("b")])
    assert len(await bench.committed(first(bench))) == 3


async def a_later_owner_fences_every_step_of_an_earlier_one(bench: OutboxBench) -> None:
    """Wherever it is overtaken, the earlier owner commits nothing, and is told."""
    for overtaken in range(5):
        old = await fenced(bench)
        steps: list[Callable[[], Awaitable[object]]] = [
            old.begin,
            lambda old=old: old.produce(first(bench), records(["old"])),
            old.flush,
            lambda old=old: old.offsets({first(bench): 99}),
            old.commit,
        ]
        for step in steps[:overtaken]:
            await step()
        new = await fenced(bench)
        await raises(_all(steps[overtaken:]), Fenced)
        await old.close()
        await new.begin()
        await new.produce(first(bench), records(["new"]))
        await new.flush()
        await new.offsets({first(bench): overtaken})
        await new.commit()
        await new.close()
        await (await fenced(bench)).close()
        found = [record.value for _, record in await bench.committed(first(bench))]
        assert found == [b"new"] * (overtaken + 1)
        assert await bench.position(first(bench)) == overtaken


async def _all(steps: Iterable[Callable[[], Awaitable[object]]]) -> None:
    for step in steps:
        await step()


async def a_later_owner_finds_what_was_left_open_gone(bench: OutboxBench) -> None:
    for flushed in (True, False):
        outbox = await fenced(bench)
        await outbox.begin()
        await outbox.produce(first(bench), records("a"))
        if flushed:
            await outbox.flush()
        await outbox.offsets({first(bench): 7})
        await outbox.close()
        await (await fenced(bench)).close()
        assert await bench.committed(first(bench)) == []
        assert await bench.position(first(bench)) is None
    end = await write(bench, first(bench), records("b"))
    assert await bench.end(first(bench)) > end  # nothing is left open before it


async def a_later_owner_finds_every_commit_at_once(bench: OutboxBench) -> None:
    """A task reads its changelog and its offset just after it has fenced its predecessor."""
    outbox = await fenced(bench)
    for turn in range(1, 11):
        await outbox.begin()
        await outbox.produce(first(bench), records("a"))
        await outbox.flush()
        await outbox.offsets({first(bench): turn})
        await outbox.commit()
        new = await fenced(bench)
        assert len(await bench.committed(first(bench))) == turn
        assert await bench.position(first(bench)) == turn
        await outbox.close()
        outbox = new
    await outbox.close()


async def close_never_raises(bench: OutboxBench) -> None:
    await bench.outbox().close()
    outbox = await fenced(bench)
    await outbox.begin()
    await outbox.produce(first(bench), records("a"))
    await outbox.close()
    await outbox.close()
    old = await fenced(bench)
    await old.begin()
    await old.produce(first(bench), records("a"))
    await (await fenced(bench)).close()
    await raises(old.commit())
    await old.close()


LAWS: Sequence[Callable[[OutboxBench], Awaitable[None]]] = (
    a_record_comes_out_as_it_went_in,
    a_record_without_a_time_gets_the_present,
    a_partition_keeps_the_order_of_sends,
    keys_choose_partitions_as_kafka_does,
    records_without_a_key_stay_together_in_the_first_partition,
    a_topic_by_name_keeps_the_order_of_sends_per_partition,
    flush_gives_the_offset_after_the_last_record,
    an_empty_transaction_is_one,
    nothing_is_seen_before_the_commit,
    an_aborted_transaction_is_never_seen,
    offsets_move_with_the_transaction_only,
    a_refused_record_is_said_in_flush_and_can_be_aborted,
    a_refusal_names_the_records_of_one_call,
    a_topic_that_is_not_there_is_an_outage,
    a_record_just_below_the_limit_is_taken,
    a_later_owner_fences_every_step_of_an_earlier_one,
    a_later_owner_finds_what_was_left_open_gone,
    a_later_owner_finds_every_commit_at_once,
    close_never_raises,
)
