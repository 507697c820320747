"""A changelog that remembers what was read of it, and can be read at leisure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

from streamflow.clock import Clock
from streamflow.ports import Changelog

Rest = Callable[[float], Awaitable[object]]

#: Entries of a fetch by which the bytes of all are judged.
SAMPLE = 100


class Watched:
    """A `Changelog` that counts what is read of another one."""

    def __init__(self, changelog: Changelog) -> None:
        self.entries = 0
        #: That were passed by.
        self.offsets = 0
        #: Of keys and values, about.
        self.bytes = 0
        #: Where reading goes on, once it has begun.
        self.position: int | None = None
        self._changelog = changelog

    async def bounds(self) -> tuple[int, int]:
        """See `Changelog.bounds`."""
        return await self._changelog.bounds()

    async def read(self, start: int, stop: int) -> Sequence[tuple[bytes, bytes | None]]:
        """See `Changelog.read`."""
        return await self._changelog.read(start, stop)

    async def fetch(
        self, start: int, stop: int
    ) -> tuple[Sequence[tuple[bytes, bytes | None]], int]:
        """See `Changelog.fetch`."""
        fetched, self.position = await self._changelog.fetch(start, stop)
        entries = list(fetched)
        if entries:
            few = list(islice(entries, SAMPLE))
            size = sum(len(key or b"") + len(value or b"") for key, value in few)
            self.entries += len(entries)
            self.offsets += self.position - start
            self.bytes += size * len(entries) // len(few)
        return entries, self.position

    async def close(self) -> None:
        """See `Changelog.close`."""
        await self._changelog.close()


class Leisurely(Watched):
    """One that is read for no more than a share of the time, so that others are not held up: after
    each piece, what was done with it included, it rests. `bounds` are those it was told last.
    """

    def __init__(
        self, changelog: Changelog, clock: Clock, share: float, rest: Rest = asyncio.sleep
    ) -> None:
        super().__init__(changelog)
        self.told: tuple[int, int] | None = None
        self._clock = clock
        self._share = share
        self._rest = rest
        self._since: float | None = None

    async def bounds(self) -> tuple[int, int]:
        """What it was told, or else what there is now."""
        self._since = None
        return await super().bounds() if self.told is None else self.told

    async def fetch(
        self, start: int, stop: int
    ) -> tuple[Sequence[tuple[bytes, bytes | None]], int]:
        """See `Changelog.fetch`."""
        if self._since is not None:
            busy = self._clock.monotonic() - self._since
            await self._rest(busy * (1 / self._share - 1))
        self._since = self._clock.monotonic()
        return await super().fetch(start, stop)
