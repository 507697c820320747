"""One app under trouble: its workers, its input, and the verdict at the end."""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.feed import Feed
from tests.chaos.fleet import Fleet, Worker
from tests.chaos.verdict import Verdict, judge

END_SECONDS, FINISH_SECONDS = 40.0, 300.0


@dataclass
class Rig:
    """Whoever holds it starts workers and troubles them, then asks for the verdict."""

    fleet: Fleet
    feed: Feed
    over: asyncio.Event

    async def until(self, reached: Callable[[], object], what: str, seconds: float = 90) -> None:
        """Wait for something, or fail with what the workers said."""
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                words = "\n".join(f"== {w.log.name}\n{w.words()}" for w in self.fleet.alive)
                raise AssertionError(f"not within {seconds:.0f} s: {what}\n{words}")
            await asyncio.sleep(0.05)

    async def caught_up(self, what: str) -> None:
        """Wait until all that is in the source now is committed."""
        ends = self.feed.ends
        assert len(ends) == self.feed.partitions, "watched first"
        await self.until(
            lambda: all(at >= end for at, end in zip(self.feed.committed, ends, strict=True)), what
        )

    async def end(self, worker: Worker) -> None:
        """Tell a worker to end, and wait until it has, well."""
        worker.send(signal.SIGCONT)
        worker.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(END_SECONDS):
                while worker.alive:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            worker.send(signal.SIGUSR1)
            await asyncio.sleep(1)
            words = worker.words()
            worker.kill()
            raise AssertionError(f"worker {worker.log.name} does not end:\n{words}") from None

    async def verdict(self, *instances: str) -> Verdict:
        """End the input and all workers, let one take it to its end, and compare.

        Static members do not leave: each of these has to come back for what is its own.
        """
        self.over.set()
        await asyncio.gather(*(self.end(worker) for worker in self.fleet.alive))
        last = [
            self.fleet.start(name, "--until-end", STREAMFLOW_INSTANCE_ID=name) for name in instances
        ] or [self.fleet.start("last", "--until-end")]
        await self.until(
            lambda: not self.fleet.alive, "the last takes all to its end", FINISH_SECONDS
        )
        for worker in last:
            assert worker.process.returncode == 0, f"it did not finish:\n{worker.words()}"
        return await judge(self.feed.bootstrap, self.fleet.prefix, self.fleet.lake)


@asynccontextmanager
async def rig(
    bootstrap: str,
    app: str,
    folder: Path,
    *,
    partitions: int,
    seed: int,
    through: str | None = None,
) -> AsyncGenerator[Rig]:
    """An app whose input flows for as long as the block lasts; no worker outlives it.

    Workers reach the broker `through` another address, where there is one.
    """
    fleet = Fleet(through or bootstrap, app, folder)
    feed = Feed(bootstrap, app, f"{fleet.prefix}readings", partitions, seed)
    await feed.create()
    over = asyncio.Event()
    flows = [asyncio.create_task(feed.send(over)), asyncio.create_task(feed.watch(over))]
    try:
        yield Rig(fleet, feed, over)
    finally:
        over.set()
        fleet.close()
        await asyncio.gather(*flows)
