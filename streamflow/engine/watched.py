"""A changelog that remembers how far it was read, and can be read at leisure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, islice

from streamflow.clock import Clock
from streamflow.ports import Changelog

Rest = Callable[[float], Awaitable[object]]

#: Entries of a piece by which the bytes of all are judged.
SAMPLE = 100


class Watched:
    """A `Changelog` that counts the offsets that are passed over in another one. It does not look
    at entries, which may be made while they are taken.
    """

    def __init__(self, changelog: Changelog) -> None:
        self.offsets = 0
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
    ) -> tuple[Iterable[tuple[bytes, bytes | None]], int]:
        """See `Changelog.fetch`."""
        entries, self.position = await self._changelog.fetch(start, stop)
        self.offsets += self.position - start
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
        #: About so many bytes has an entry, key and value; None before there was one.
        self.entry_bytes: float | None = None
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
    ) -> tuple[Iterable[tuple[bytes, bytes | None]], int]:
        """See `Changelog.fetch`."""
        if self._since is not None:
            busy = self._clock.monotonic() - self._since
            await self._rest(busy * (1 / self._share - 1))
        self._since = self._clock.monotonic()
        entries, position = await super().fetch(start, stop)
        rest = iter(entries)
        few = list(islice(rest, SAMPLE))
        if few:
            size = sum(len(key or b"") + len(value or b"") for key, value in few)
            self.entry_bytes = size / len(few)
        return chain(few, rest), position
