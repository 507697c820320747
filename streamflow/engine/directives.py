"""What operators say of an app's partitions: to stand, and to go on.

The last word on each partition is kept in a compacted topic of the app, beside its changelogs. So
it reaches every worker, whoever has the partition, and holds over kills and rebalances until
something else is said. All of it is read before anything of a partition is processed; a broker that
is away afterwards takes nothing back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import orjson

from streamflow.batch import Record, TopicPartition
from streamflow.ports import Changelog

log = logging.getLogger(__name__)

#: How often it is read.
PERIOD_SECONDS = 1.0


@dataclass(frozen=True)
class Directive:
    """What was said last of a partition: to stand, or to go on, also where a gate had stopped it
    before; when, by whom, and why.
    """

    paused: bool
    at: datetime
    by: str
    why: str = ""

    @property
    def words(self) -> str:
        """By whom, when and why, for a person."""
        return f"by {self.by} at {self.at:%Y-%m-%d %H:%M:%S}" + (f": {self.why}" * bool(self.why))


def record_of(tp: TopicPartition, said: Directive) -> Record:
    """The record that says it."""
    value = {"paused": said.paused, "at": said.at, "by": said.by, "why": said.why}
    return Record(str(tp).encode(), orjson.dumps(value))


class Directives:
    """The last word on each partition.

    Caller: the host, for as long as it is there; `run` beside everything else.
    """

    def __init__(self, open_log: Callable[[], Changelog]) -> None:
        #: Has everything been read that was there?
        self.known = asyncio.Event()
        self._open_log = open_log
        self._said: dict[bytes, Directive] = {}
        self._read_to: int | None = None

    def on(self, tp: TopicPartition) -> Directive | None:
        """The last word on a partition."""
        return self._said.get(str(tp).encode())

    async def run(self) -> None:
        """Read until cancelled."""
        topic = self._open_log()
        try:
            while True:
                try:
                    await self.turn(topic)
                except Exception as error:  # what was said before still holds
                    log.warning("the control topic cannot be read now: %r", error)
                    await topic.close()
                await asyncio.sleep(PERIOD_SECONDS)
        finally:
            await topic.close()

    async def turn(self, topic: Changelog) -> None:
        """Read what is new."""
        first, stop = await topic.bounds()
        start = first if self._read_to is None else max(first, self._read_to)
        for key, value in await topic.read(start, stop):
            try:
                said = orjson.loads(value or b"null")
                at = datetime.fromisoformat(said["at"])
                self._said[key] = Directive(bool(said["paused"]), at, said["by"], said["why"])
            except (ValueError, TypeError, KeyError) as error:
                log.error("the control topic has a record for %r that says nothing: %r", key, error)
        self._read_to = stop
        self.known.set()
