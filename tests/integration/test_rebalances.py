"""Two, then three workers of one app come and go while data flows; some are only thought dead.

Whatever happens to them: what they left behind is what the log of the source says, nothing missing
and nothing twice. How long nothing was committed is printed, not judged: machines differ.
"""

import asyncio
import re
import signal
import sys
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from streamflow.batch import TopicPartition
from streamflow.broker import Broker
from streamflow.core.names import Names
from streamflow.edges.kafka_admin import KafkaOffsets
from streamflow.engine.faults import FREEZE_VARIABLE
from tests.chaos.fleet import Worker
from tests.chaos.rig import Rig, rig
from tests.chaos.verdict import Verdict

PARTITIONS = 3
Story = Callable[[Rig], Awaitable[None]]
JOINED = "Setting newly assigned partitions {Topic"
STANDING = re.compile(r"(\S+): standing by, up to")
OPENED = re.compile(r"(\S+): open at \d+, (\d+) offsets of its changelog read")
#: Readings that leave something in the states of all tasks.
ENOUGH = 3_000
REVOKED = "Revoking previously assigned partitions frozenset({Topic"


def joined(worker: Worker) -> int:
    """How often a worker has been given partitions."""
    return worker.log.read_text(errors="replace").count(JOINED)


def revoked(worker: Worker) -> int:
    """How often its partitions were taken away."""
    return worker.log.read_text(errors="replace").count(REVOKED)


async def at_work(app: Rig, *workers: Worker) -> None:
    """Wait until each has partitions, and all that was in the source is committed."""
    for worker in workers:
        await app.until(lambda worker=worker: joined(worker), f"{worker.name} joins")
    await app.caught_up("all is committed")


async def join_leave_and_kill(app: Rig) -> None:
    one, two = app.fleet.start("one"), app.fleet.start("two")
    await at_work(app, one, two)
    three = app.fleet.start("three")
    await at_work(app, three)
    await app.end(one)
    await at_work(app)
    two.kill()
    await at_work(app)
    assert revoked(three)


async def wake_after_others_went_on(app: Rig) -> None:
    """One stops with all of a transaction sent, the next owner in the middle of a roll."""
    in_commit = app.fleet.start("one", **{FREEZE_VARIABLE: "commit:8"})
    await app.until(lambda: in_commit.frozen, "it stops in a commit")
    in_roll = app.fleet.start("two", **{FREEZE_VARIABLE: "files-written:2"})
    await app.until(lambda: in_roll.frozen, "the next owner stops in a roll")
    in_commit.send(signal.SIGCONT)
    await app.until(lambda: joined(in_commit) > 1, "it is a member again")
    await at_work(app)
    in_roll.send(signal.SIGCONT)
    await app.until(lambda: joined(in_roll) > 1, "so is the other")
    await at_work(app)


async def come_back_in_time(app: Rig) -> None:
    """Members with ids of their own, which their partitions wait for."""
    session = {"STREAMFLOW_SESSION_TIMEOUT": "30"}
    one, two = (
        app.fleet.start(name, STREAMFLOW_INSTANCE_ID=name, **session) for name in ("one", "two")
    )
    await at_work(app, one, two)
    before = revoked(two)
    one.kill()
    await at_work(app, app.fleet.start("one", STREAMFLOW_INSTANCE_ID="one", **session))
    assert revoked(two) == before, "the others keep what they have"


async def stand_by(app: Rig) -> None:
    """Each follows what the other has; one dies, and the other has next to nothing to read."""
    follows = {"STREAMFLOW_STANDBY_REPLICAS": "1"}
    one, two = (app.fleet.start(name, **follows) for name in ("one", "two"))
    await at_work(app, one, two)

    def followed() -> set[str]:
        logs = [worker.log.read_text(errors="replace") for worker in (one, two)]
        return {tp for log in logs for tp in STANDING.findall(log.rpartition(JOINED)[2])}

    await app.until(lambda: len(followed()) == PARTITIONS, "each task has a standby")
    await app.until(lambda: app.feed.sent > ENOUGH, "there is something to restore")
    await app.caught_up("all is committed")
    said = len(two.log.read_text(errors="replace"))
    one.kill()

    def opened() -> list[tuple[str, str]]:
        return OPENED.findall(two.log.read_text(errors="replace")[said:])

    every = {f"{app.fleet.prefix}readings[{partition}]" for partition in range(PARTITIONS)}
    await app.until(lambda: {tp for tp, _ in opened()} == every, "the other has all tasks")
    await at_work(app)
    read = opened()
    whole = await changelogs(app)
    assert all(size > 300 for size in whole.values()), whole
    for tp, entries in read:
        assert int(entries) < whole[tp] / 10, f"{tp} read {entries} of {whole[tp]}"


async def changelogs(app: Rig) -> dict[str, int]:
    """How many offsets of its changelog each task would read from nothing."""
    offsets = KafkaOffsets({"bootstrap_servers": app.feed.bootstrap})
    await offsets.start()
    try:
        topic = Names(app.fleet.app, app.fleet.prefix).changelog("readings")
        tps = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        bounds = await offsets.bounds(tps)
        return {
            f"{app.fleet.prefix}readings[{tp.partition}]": stop - first
            for tp, (first, stop) in bounds.items()
        }
    finally:
        await offsets.stop()


#: All are told at once, since most of each is waiting.
STORIES: dict[str, Story] = {
    "come back in time": come_back_in_time,
    "join, leave and kill": join_leave_and_kill,
    "stand by": stand_by,
    "wake after others went on": wake_after_others_went_on,
}


async def told(kafka: Broker, name: str, folder: Path) -> Verdict:
    """Tell a story while data flows, and judge what came of it."""
    app = f"{folder.name}-{uuid.uuid4().hex[:8]}"
    async with rig(kafka.bootstrap, app, folder, partitions=PARTITIONS, seed=1) as under_test:
        await STORIES[name](under_test)
        static = ("one", "two") if name == "come back in time" else ()
        verdict = await under_test.verdict(*static)
        took = under_test.feed.longest_stall
        sys.stdout.write(f"{name}: longest time without a commit {took:.1f} s\n")
        return verdict


@pytest.fixture(scope="module")
def verdicts(
    kafka: Broker, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Verdict | BaseException]:
    folders = [tmp_path_factory.mktemp(name.replace(" ", "-").replace(",", "")) for name in STORIES]

    async def all_told() -> list[Verdict | BaseException]:
        telling = [told(kafka, name, folder) for name, folder in zip(STORIES, folders, strict=True)]
        return await asyncio.gather(*telling, return_exceptions=True)

    return dict(zip(STORIES, asyncio.run(all_told()), strict=True))


def exact(verdict: Verdict | BaseException) -> bool:
    if isinstance(verdict, BaseException):
        raise verdict
    assert min(verdict.rows.values()) > 0, f"too little to prove anything: {verdict.rows}"
    return not verdict.examples()


def test_workers_that_join_leave_and_are_killed_lose_nothing_and_repeat_nothing(
    verdicts: dict[str, Verdict | BaseException],
) -> None:
    assert exact(verdicts["join, leave and kill"])


def test_a_standby_takes_over_and_restores_the_last_few_records_alone(
    verdicts: dict[str, Verdict | BaseException],
) -> None:
    assert exact(verdicts["stand by"])


def test_workers_thought_dead_in_a_commit_and_in_a_roll_wake_and_change_nothing(
    verdicts: dict[str, Verdict | BaseException],
) -> None:
    assert exact(verdicts["wake after others went on"])


def test_a_static_member_that_comes_back_in_time_lets_the_others_keep_what_they_have(
    verdicts: dict[str, Verdict | BaseException],
) -> None:
    assert exact(verdicts["come back in time"])
