"""A warm standby: the state of another worker's task, kept near the end of its changelog.

Goal: a task that is taken over, after a crash or a rebalance, has next to nothing to read, however
big its state is.

A standby reads, and writes its own disk, nothing else: it has no producer, fences nobody and
commits nothing. What it does is `restore`, again and again, with all that a restore takes care of:
entries that do not count (`marked.py`), another birth of the state, one that is too old. So its
state is at any moment one that a restore may begin with, and a task that opens it does with it what
it does with any: fence, restore the rest, seek.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from streamflow.clock import Clock, millis
from streamflow.engine.commit import APPLIED, APPLIED_AT
from streamflow.engine.restore import restore
from streamflow.engine.watched import Leisurely, Rest
from streamflow.ports import StateStore, Tail

#: Following takes no more than this share of the time of one core.
SHARE = 0.25
#: At the end of its changelog a state is said to be of now so often, that it does not grow old.
FRESH_MS = 600_000
#: How long a connection may take to close, as where the broker is away.
STOP_SECONDS = 2.0


@dataclass(frozen=True)
class StandbyPorts:
    """What a standby has of the world: where it reads, and its local state."""

    changelog: Tail
    store: StateStore


@dataclass(frozen=True)
class Lag:
    """How far a standby is behind the end of its changelog: offsets, and about how many bytes;
    None for what is not known yet. `problem` says why it does not follow now.
    """

    records: int | None = None
    bytes: int | None = None
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for a machine."""
        return asdict(self)


class Standby:
    """Follows one changelog, which the words of a refusal call `name`. Its database is open from
    the first `turn` to `close`.
    """

    def __init__(
        self,
        name: str,
        open_ports: Callable[[], StandbyPorts],
        clock: Clock,
        rest: Rest = asyncio.sleep,
    ) -> None:
        #: Up to where its state is whole; None while that is not known.
        self.applied: int | None = None
        self.problem: str | None = None
        #: It cannot be followed until it is dealt out anew.
        self.given_up = False
        #: How often it was refused on end.
        self.refused = 0
        self._name = name
        self._open = open_ports
        self._clock = clock
        self._rest = rest
        self._ports: StandbyPorts | None = None
        self._reading: Leisurely | None = None
        self._stop: int | None = None

    @property
    def lag(self) -> Lag:
        """How far it is behind what it has seen of the changelog's end."""
        reading, stop = self._reading, self._stop
        at = self.applied if reading is None or reading.position is None else reading.position
        if at is None or stop is None:
            return Lag(problem=self.problem)
        behind = max(stop - at, 0)
        each = reading.entry_bytes if reading is not None else None
        size = round(behind * each) if each is not None else None if behind else 0
        return Lag(behind, size, self.problem)

    async def turn(self, bounds: tuple[int, int] | None = None) -> None:
        """Apply what there is; `bounds` are the changelog's, looked up if left out. Broken off, it
        leaves a state that a restore may begin with.

        Raises:
            StateRefused: the changelog has lost what the local state has.
        """
        if self._ports is None or self._reading is None:
            self._ports = self._open()
            self._reading = Leisurely(self._ports.changelog, self._clock, SHARE, self._rest)
        store, reading = self._ports.store, self._reading
        reading.told = bounds
        reading.told = _, self._stop = await reading.bounds()
        await restore(store, reading, self._clock, self._name)
        applied, at = store.get([APPLIED, APPLIED_AT])
        self.applied = int(applied or 0)
        now_ms = millis(self._clock.now())
        if now_ms - int(at or 0) > FRESH_MS:  # there was nothing to apply for so long
            store.apply([(APPLIED_AT, b"%d" % now_ms)])
        self.problem = None

    async def close(self) -> None:
        """Let the database and the connection go; the next turn opens them again."""
        ports, self._ports, self._reading = self._ports, None, None
        if ports is not None:
            ports.store.close()
            with suppress(TimeoutError):  # whoever waits for the database need not wait for this
                async with asyncio.timeout(STOP_SECONDS):
                    await ports.changelog.stop()
