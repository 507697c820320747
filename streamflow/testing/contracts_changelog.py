"""What every `Changelog` must keep. Run `LAWS`, each with a fresh `ChangelogBench`.

They are coroutines, since a real changelog waits for a network; over memory ports `run_sync`
drives them.

@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_my_changelog_keeps_the_contract(law, my_bench):
    asyncio.run(law(my_bench))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from streamflow.batch import Record, TopicPartition
from streamflow.ports import Changelog
from streamflow.testing.contracts_outbox import OutboxBench, fenced, first, records, write


class ChangelogBench(OutboxBench, Protocol):
    """A bench whose first partition is read as a changelog."""

    def changelog(self) -> Changelog:
        """A reader of the topic's first partition."""
        ...

    async def trim(self, tp: TopicPartition, before: int) -> None:
        """Delete the records below an offset."""
        ...


async def an_empty_changelog_has_empty_bounds(bench: ChangelogBench) -> None:
    changelog = bench.changelog()
    assert await changelog.bounds() == (0, 0)
    assert list(await changelog.read(0, 0)) == []
    await changelog.close()


async def everything_committed_lies_within_the_bounds(bench: ChangelogBench) -> None:
    changelog = bench.changelog()
    for turn in range(1, 4):
        end = await write(bench, first(bench), records("ab"))
        start, stop = await changelog.bounds()
        assert start == 0
        assert stop >= end
        assert list(await changelog.read(start, stop)) == [(b"k", b"a"), (b"k", b"b")] * turn
    await changelog.close()


async def values_of_none_are_tombstones(bench: ChangelogBench) -> None:
    sent = [Record(b"a", b""), Record(b"a", None), Record(b"b\x00\xff", b"\x00")]
    await write(bench, first(bench), sent)
    changelog = bench.changelog()
    found = list(await changelog.read(*await changelog.bounds()))
    assert found == [(b"a", b""), (b"a", None), (b"b\x00\xff", b"\x00")]
    await changelog.close()


async def a_read_is_half_open(bench: ChangelogBench) -> None:
    end = await write(bench, first(bench), records(range(10)))
    changelog = bench.changelog()
    for start, stop in ((0, 10), (3, 7), (9, 10), (4, 4), (0, 1)):
        found = [value for _, value in await changelog.read(start, stop)]
        assert found == [str(i).encode() for i in range(start, stop)]
    assert list(await changelog.read(end, (await changelog.bounds())[1])) == []
    await changelog.close()


async def a_read_may_go_back(bench: ChangelogBench) -> None:
    await write(bench, first(bench), records("abc"))
    changelog = bench.changelog()
    assert len(await changelog.read(0, 3)) == 3
    assert len(await changelog.read(0, 3)) == 3
    assert len(await changelog.read(1, 2)) == 1
    await changelog.close()


async def parts_of_a_read_are_the_whole(bench: ChangelogBench) -> None:
    for turn in range(5):
        await write(bench, first(bench), records(range(turn * 10, turn * 10 + 10)))
    changelog = bench.changelog()
    start, stop = await changelog.bounds()
    found = [
        int(value or b"")
        for at in range(start, stop, 7)
        for _, value in await changelog.read(at, min(at + 7, stop))
    ]
    assert found == list(range(50))
    await changelog.close()


async def fetches_one_after_the_other_are_the_whole(bench: ChangelogBench) -> None:
    for turn in range(3):
        await write(bench, first(bench), records(range(turn * 100, turn * 100 + 100)))
    changelog = bench.changelog()
    start, stop = await changelog.bounds()
    for last in (stop, stop - 50, start + 1, start):
        position, found = start, list[bytes | None]()
        while position < last:
            entries, after = await changelog.fetch(position, last)
            found += [value for _, value in entries]
            assert position <= after <= last
            position = after
        assert found == [value for _, value in await changelog.read(start, last)]
    await changelog.close()


async def aborted_records_are_skipped(bench: ChangelogBench) -> None:
    outbox = await fenced(bench)
    for value, commits in (("a", True), ("b", False), ("c", True), ("d", False)):
        await outbox.begin()
        await outbox.produce(first(bench), records([value] * 3))
        await outbox.flush()
        await (outbox.commit() if commits else outbox.abort())
    await outbox.close()
    await (await fenced(bench)).close()
    changelog = bench.changelog()
    found = [value for _, value in await changelog.read(*await changelog.bounds())]
    assert found == [b"a"] * 3 + [b"c"] * 3
    await changelog.close()


async def an_open_transaction_lies_beyond_the_bounds(bench: ChangelogBench) -> None:
    await write(bench, first(bench), records("a"))
    changelog = bench.changelog()
    bounds = await changelog.bounds()
    outbox = await fenced(bench)
    await outbox.begin()
    await outbox.produce(first(bench), records("b"))
    await outbox.flush()
    assert await changelog.bounds() == bounds
    assert list(await changelog.read(*bounds)) == [(b"k", b"a")]
    await outbox.commit()
    await outbox.close()
    await (await fenced(bench)).close()
    assert (await changelog.bounds())[1] > bounds[1]
    await changelog.close()


async def bounds_start_at_the_first_record_still_there(bench: ChangelogBench) -> None:
    await write(bench, first(bench), records(range(10)))
    await bench.trim(first(bench), 6)
    changelog = bench.changelog()
    start, stop = await changelog.bounds()
    assert start == 6
    assert [value for _, value in await changelog.read(start, stop)] == [b"6", b"7", b"8", b"9"]
    await changelog.close()


async def more_than_one_fetch_is_read_whole(bench: ChangelogBench) -> None:
    large = [Record(b"%d" % i, b"x" * 800_000) for i in range(15)]
    await write(bench, first(bench), large)
    changelog = bench.changelog()
    found = list(await changelog.read(*await changelog.bounds()))
    assert [key for key, _ in found] == [record.key for record in large]
    assert all(len(value or b"") == 800_000 for _, value in found)
    await changelog.close()


async def close_never_raises_and_bounds_may_be_asked_for_again(bench: ChangelogBench) -> None:
    changelog = bench.changelog()
    await changelog.close()
    await write(bench, first(bench), records("a"))
    bounds = await changelog.bounds()
    await changelog.close()
    await changelog.close()
    assert await changelog.bounds() == bounds
    assert len(await changelog.read(*bounds)) == 1
    await changelog.close()


LAWS: Sequence[Callable[[ChangelogBench], Awaitable[None]]] = (
    an_empty_changelog_has_empty_bounds,
    everything_committed_lies_within_the_bounds,
    values_of_none_are_tombstones,
    a_read_is_half_open,
    a_read_may_go_back,
    parts_of_a_read_are_the_whole,
    fetches_one_after_the_other_are_the_whole,
    aborted_records_are_skipped,
    an_open_transaction_lies_beyond_the_bounds,
    bounds_start_at_the_first_record_still_there,
    more_than_one_fetch_is_read_whole,
    close_never_raises_and_bounds_may_be_asked_for_again,
)
