"""Finds the record that the broker does not take, where nothing told so before.

Goals: one record must not stop its partition for ever, and no other must share its fate.

Plan: the broker refuses a whole batch of a producer, and does not say which record of it. A send
that failed leaves the producer unusable, so the task is lost and taken up again, as after a crash;
what was in that batch is remembered here, over the lives of the task. The next time these records
go in parts, in batches of their own, and so the part that is refused is `PARTS` times smaller: as
much as six halvings at once. When one is refused alone, it is a dead letter from then on. A commit
that succeeds ends the search: what was looked for is in it, or will be refused again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from streamflow.batch import Record
from streamflow.core.poison import identity
from streamflow.errors import Refused

PARTS = 64


class Suspects:
    """What the broker has refused of one task's records since its last commit."""

    def __init__(self) -> None:
        self._alone: dict[bytes, str] = {}
        self._suspects: set[bytes] = set()

    @property
    def alone(self) -> Mapping[bytes, str]:
        """The broker's words for each record that it has refused alone, by identity."""
        return self._alone

    def learn(self, refused: Refused) -> None:
        """Remember a refusal."""
        among = {identity(refused.topic, record) for record in refused.records}
        if len(among) == 1:
            self._alone |= dict.fromkeys(among, refused.why)
        else:
            self._suspects = among

    def apart(self, topic: str, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """The records in order, in parts to be sent in batches of their own."""
        if not self._suspects:
            yield records
            return
        size = max(1, len(self._suspects) // PARTS)
        marked = [(identity(topic, record) in self._suspects, record) for record in records]
        for suspected, run in groupby(marked, key=lambda entry: entry[0]):
            some = [record for _, record in run]
            step = size if suspected else len(some)
            yield from (some[i : i + step] for i in range(0, len(some), step))

    def forget(self) -> None:
        """A commit has succeeded."""
        self._alone.clear()
        self._suspects.clear()
