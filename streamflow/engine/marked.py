"""Which entries of a changelog count: those that a meta record follows, the mark of their commit.

In transactions every commit is whole, and so every entry counts. Without them a crash can leave
entries that no mark follows, and an owner that was thought dead can write on after another one has
taken over. The log's order settles it, for every reader in the same way: a mark counts whose epoch
is none below the last one's and whose commit is none before it, and so do the entries between them.

A state that is made anew is read as if all counted, since nearly always all does; where something
turns out to be void it is read once more, with entries held back until their mark comes.

Entries that do not count are void, but they have the keys of ones that do, and one day the broker
would keep them instead. So whoever finds some writes the values that count once more; the broker is
told (`min.compaction.lag.ms`) to leave the log as it is for longer than that takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from streamflow.core.keys import META, Mark, mark_of

#: Entries that are held back until their mark comes. Where more come without one, as where a log is
#: compacted, they are let through; should no mark follow after all, everything is read once more.
HOLD_ENTRIES = 250_000

Entry = tuple[bytes, bytes | None]
Entries = list[Entry]


class Overrun(Exception):
    """Entries that were let through turn out to be void: read again, and hold all back."""


class Marked:
    """Takes the entries of a changelog in order, and gives those that count.

    `meta` is the meta record of the local state that they are applied to.
    """

    def __init__(self, meta: bytes | None, hold: float = HOLD_ENTRIES) -> None:
        self._mark: Mark | None = None if meta is None else mark_of(meta)
        self._is_local = True
        self._hold = hold
        self._held: Entries = []
        self._overrun = False
        self._void: set[bytes] = set()

    @property
    def holds(self) -> bool:
        """Is anything held back until its mark comes? Else `let_through` does what `take` does."""
        return self._hold > NOTHING

    @property
    def whole(self) -> bool:
        """Does everything so far count?"""
        return not self._held and not self._void and not self._overrun

    def take(self, given: Iterable[Entry]) -> Entries:
        """What is known to count by now, of these and of what was held back."""
        entries, counting = list(given), Entries()
        start = 0
        for place in [i for i, entry in enumerate(entries) if entry[0] == META]:
            group = [*self._held, *entries[start : place + 1]]
            self._held, start = [], place + 1
            if self._counts(entries[place][1]):
                counting += group
                self._overrun = False
                self._void -= {key for key, _ in group} if self._void else set()
            else:
                self._drop(group)
        self._held += entries[start:]
        if len(self._held) > self._hold:
            counting += self._held
            self._held, self._overrun = [], True
        return counting

    def let_through(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """All of these, as they are gone through: they are taken to count before their mark comes.

        Raises:
            Overrun: some of what was let through does not count.
        """
        key = b"" if self._overrun else META
        for entry in entries:
            key, value = entry
            if key == META and not self._counts(value):
                raise Overrun
            yield entry
        self._overrun = key != META

    def void(self) -> frozenset[bytes]:
        """At the end: the keys of entries that do not count, after the last one that does."""
        held, self._held = self._held, []
        if held or self._overrun:
            self._drop(held)
        return frozenset(self._void)

    def _counts(self, meta: bytes | None) -> bool:
        mark, last = mark_of(meta or b"{}"), self._mark
        if last is not None:
            anew = mark.born != last.born and (self._is_local or mark.epoch >= last.epoch)
            if not anew and (mark.epoch < last.epoch or mark.commit < last.commit):
                return False
        self._mark, self._is_local = mark, False
        return True

    def _drop(self, group: Entries) -> None:
        if self._overrun:
            raise Overrun
        self._void |= {key for key, _ in group}


#: Holds everything back, or nothing.
ALL, NOTHING = math.inf, 0
