"""Which part of its sources a bounded run reads: `--from` and `--to`, and what became of them.

Offsets are next offsets, and a range is half open. A time means Kafka's own timestamps: the range
begins at, or ends before, the first record that is not older.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from streamflow.batch import TopicPartition
from streamflow.counted import counted
from streamflow.errors import SettingsError

#: What a run's id may be made of: it goes into names of topics and folders.
RUN_ID = r"^[A-Za-z0-9_-]{1,64}$"
#: Names that stand for something else where a run's id goes.
TAKEN = ("streamflow", "live")
FORMAT = 1
_COORDINATE = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)\[(?P<partition>\d+)\]@(?P<offset>\d+)")

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True)
class Bound:
    """One end of a range, as somebody said it: a time, offsets, or neither for all there is."""

    words: str
    time: datetime | None = None
    offsets: Offsets | None = None

    def at(self, tp: TopicPartition, all_there_is: int, by_time: Offsets) -> int:
        """The offset of this bound in a partition."""
        if self.time is not None:
            return by_time[tp]
        if self.offsets is None:
            return all_there_is
        if tp not in self.offsets:
            raise SettingsError(f"{self.words!r} gives no offset for {tp}; it takes one for each")
        return self.offsets[tp]


def parse_bound(option: str, words: str | None, all_there_is: str) -> Bound:
    """What `--from` or `--to` says; `all_there_is` is what is meant when it says nothing.

    Raises:
        SettingsError: it is neither a time with its zone nor coordinates.
    """
    if words is None or words == all_there_is:
        return Bound(all_there_is)
    found = [_COORDINATE.fullmatch(part.strip()) for part in words.split(",")]
    if all(found):
        places = [match for match in found if match is not None]
        tps = [TopicPartition(match["topic"], int(match["partition"])) for match in places]
        if len(set(tps)) < len(tps):
            raise SettingsError(f"{option} {words!r}: a partition is named twice")
        offsets = (int(match["offset"]) for match in places)
        return Bound(words, offsets=dict(zip(tps, offsets, strict=True)))
    try:
        time = datetime.fromisoformat(words)
    except ValueError:
        raise SettingsError(
            f"{option} {words!r}: neither {all_there_is!r}, nor a time such as "
            "2026-05-01T00:00:00Z, nor offsets such as flights[0]@1200,flights[1]@3400"
        ) from None
    if time.tzinfo is None:
        raise SettingsError(f"{option} {words!r}: a time needs its zone, as in {words}Z")
    return Bound(words, time=time)


@dataclass(frozen=True)
class Ranges:
    """What a run reads of each source partition, `[start, stop)`. It never changes afterwards."""

    run: str
    start: str
    stop: str
    offsets: Mapping[TopicPartition, tuple[int, int]]

    def encoded(self) -> bytes:
        """As a JSON document."""
        offsets = {str(tp): [*tp, *both] for tp, both in self.offsets.items()}
        document = {"format": FORMAT, "run": self.run, "from": self.start, "to": self.stop}
        return orjson.dumps({**document, "offsets": list(offsets.values())})

    @staticmethod
    def decoded(data: bytes) -> Ranges:
        """Raises `SettingsError` for a document that this version cannot read."""
        try:
            found: Any = orjson.loads(data)
            if found["format"] != FORMAT:
                raise ValueError(f"its format is {found['format']}")
            offsets = {
                TopicPartition(topic, partition): (start, stop)
                for topic, partition, start, stop in found["offsets"]
            }
            return Ranges(found["run"], found["from"], found["to"], offsets)
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"what is written down of this run cannot be read: {error}"
            ) from None

    def same_as(
        self, start: str | None, stop: str | None, partitions: Collection[TopicPartition]
    ) -> None:
        """Raises `SettingsError` when somebody asks for another part under the same id, or the
        sources have other partitions by now.
        """
        if set(self.offsets) != set(partitions):
            raise SettingsError(
                f"the run {self.run!r} began when its sources had"
                f" {counted(len(self.offsets), 'partition')}, "
                f"and now it is {len(partitions)}: keys have moved; take another --run-id"
            )
        for option, asked, mine in (("--from", start, self.start), ("--to", stop, self.stop)):
            if asked is not None and asked != mine:
                raise SettingsError(
                    f"the run {self.run!r} began with {option} {mine!r}, not {asked!r}; leave it "
                    "out to go on with that run, or take another --run-id"
                )


def resolve(
    run: str,
    start: Bound,
    stop: Bound,
    bounds: Mapping[TopicPartition, tuple[int, int]],
    times: tuple[Offsets, Offsets],
) -> Ranges:
    """The offsets of a run.

    `bounds` are `(first, stop)` of each source partition, what there is; `times` the first offsets
    that are not older than the times of `start` and `stop`, where these have one.

    Raises:
        SettingsError: a range that is not there, or ends before it starts.
    """
    for bound in (start, stop):
        for tp in (bound.offsets or {}).keys() - bounds.keys():
            raise SettingsError(f"{bound.words!r}: {tp} is none of {', '.join(map(str, bounds))}")
    made: dict[TopicPartition, tuple[int, int]] = {}
    for tp, (first, last) in bounds.items():
        begin, end = start.at(tp, first, times[0]), stop.at(tp, last, times[1])
        if begin < first:
            raise SettingsError(
                f"--from {start.words!r}: {tp} begins at {first}; what was before is deleted"
            )
        if end > last:
            raise SettingsError(
                f"--to {stop.words!r}: {tp} ends at {last}; a run waits for nothing"
            )
        if begin > end:
            raise SettingsError(
                f"--from {start.words!r} --to {stop.words!r}: in {tp} that is from {begin} to {end}"
            )
        made[tp] = (begin, end)
    return Ranges(run, start.words, stop.words, made)
