"""The runs of an app, written down on Kafka when they begin, so that every start of one means the
same part of the sources; and what became of them.

The topic `<app>-runs` has one record per run. Where two workers begin a run at the same time, there
are two, and the first one counts for both. The topic `<app>-journal` has the newest record of each
process of a worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition

from streamflow.batch import Record, TopicPartition
from streamflow.core.journal import Run, decode_execution, runs_of
from streamflow.core.names import Names, check_run
from streamflow.core.plan import TaskPlan
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec
from streamflow.edges.kafka_announcer import KafkaAnnouncer
from streamflow.edges.kafka_changelog import KafkaChangelog
from streamflow.errors import SettingsError
from streamflow.ranges import Ranges, parse_bound, resolve


class KafkaRuns:
    """Reads and writes the topic of an app's runs."""

    def __init__(self, connection: Mapping[str, Any], tp: TopicPartition) -> None:
        self._connection = connection
        self._tp = tp

    async def find(self, run: str) -> Ranges | None:
        """What a run reads; None when it has not begun."""
        records = await _all_of(self._connection, self._tp)
        mine = (value for key, value in records if key == run.encode() and value is not None)
        return next(map(Ranges.decoded, mine), None)

    async def begin(self, ranges: Ranges) -> Ranges:
        """Write down what a run reads; returns what counts."""
        async with KafkaAdmin(self._connection) as admin:
            keep = {"retention.ms": "-1", "cleanup.policy": "delete"}
            await admin.create([TopicSpec(self._tp.topic, 1, keep)])
        announcer = KafkaAnnouncer(self._connection, self._tp)
        try:
            await announcer.publish([Record(ranges.run.encode(), ranges.encoded())])
        finally:
            await announcer.close()
        found = await self.find(ranges.run)
        if found is None:
            raise SettingsError(f"the run {ranges.run!r} is not in {self._tp}: was it deleted?")
        return found


async def written_runs(connection: Mapping[str, Any], names: Names) -> list[Run]:
    """The runs of a live app, as they are written down: see `runs_of`. What a later version has
    written is left out.
    """
    begun = await _all_of(connection, names.runs)
    newest = dict(await _all_of(connection, names.journal))
    found = (decode_execution(value) for value in newest.values() if value is not None)
    return runs_of(
        [one for one in found if one is not None],
        [Ranges.decoded(value) for _, value in begun if value is not None],
    )


async def _all_of(
    connection: Mapping[str, Any], tp: TopicPartition
) -> Sequence[tuple[bytes, bytes | None]]:
    """The records of a partition, oldest first; none where there is no such topic."""
    async with KafkaAdmin(connection) as admin:
        if not await admin.partitions([tp.topic]):
            return []
    log = KafkaChangelog(connection, tp)
    try:
        return await log.read(*await log.bounds())
    finally:
        await log.close()


async def take_up_run(
    connection: Mapping[str, Any],
    names: Names,
    plans: Sequence[TaskPlan],
    words: tuple[str | None, str | None],
    bounds: Mapping[TopicPartition, tuple[int, int]],
) -> Ranges:
    """Go on with a run, or begin it: what it reads, by `--from` and `--to` where it begins.

    Raises:
        SettingsError: the words mean no part of the sources, or another than before; or the run's
            names are taken.
    """
    assert names.run is not None, "a run has a name"
    check_run(names.live, names, plans)
    runs = KafkaRuns(connection, names.live.runs)
    found = await runs.find(names.run)
    if found is not None:
        found.same_as(*words, bounds.keys())
        return found
    start = parse_bound("--from", words[0], "beginning")
    stop = parse_bound("--to", words[1], "end")
    await _refuse_another_app(connection, names, plans)
    times = [
        {} if bound.time is None else await offsets_at(connection, bounds, bound.time)
        for bound in (start, stop)
    ]
    return await runs.begin(resolve(names.run, start, stop, bounds, (times[0], times[1])))


async def _refuse_another_app(
    connection: Mapping[str, Any], names: Names, plans: Sequence[TaskPlan]
) -> None:
    """A run that has not begun has no state: what is there belongs to an app of that name."""
    changelogs = [names.changelog(plan.source.topic) for plan in plans]
    async with KafkaAdmin(connection) as admin:
        taken = await admin.partitions(changelogs)
    if taken:
        raise SettingsError(
            f"--run-id {names.run!r}: the topic {min(taken)!r} is there already, though this run "
            f"has not begun; does it belong to an app {names.app!r}? Choose another id"
        )


async def offsets_at(
    connection: Mapping[str, Any], bounds: Mapping[TopicPartition, tuple[int, int]], time: datetime
) -> dict[TopicPartition, int]:
    """The first offset of each partition whose record is not older, by Kafka's timestamps; the end
    where there is none.
    """
    consumer = AIOKafkaConsumer(**connection, enable_auto_commit=False)
    await consumer.start()
    try:
        millis = round(time.timestamp() * 1000)
        found = await consumer.offsets_for_times(
            {KafkaTopicPartition(*tp): millis for tp in bounds}
        )
    finally:
        await consumer.stop()
    made: dict[TopicPartition, int] = {}
    for tp, (_, stop) in bounds.items():
        at = found.get(KafkaTopicPartition(*tp))
        made[tp] = stop if at is None else min(at.offset, stop)
    return made
