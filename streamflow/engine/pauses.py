"""Which partitions of a worker wait, and why: one runs when it has no reason to wait.

Goals: a partition that waits keeps its place, and the worker its membership in the group. So a
pause is aiokafka's own, below Faust: Faust's would leave a partition out of its polls, and when
every partition is left out it polls no more, for which aiokafka leaves the group after five
minutes. Here the fetcher passes a paused partition by, and polls go on.

aiokafka forgets its pauses in a rebalance, so all partitions of ours are held before anything is
fetched (Faust lets records through only after that), and each is let go when its lane is open and
has said its own reasons. What was fetched before a pause may still arrive; the lane leaves it, and
seeks back when it goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from streamflow.batch import TopicPartition
from streamflow.engine.idle_watch import Fetch
from streamflow.engine.seating import Seating

#: The lane is not open yet; a gate has tripped; an operator has said so; the circuit breaker of a
#: stage is open; too many rows wait for a table; a disk does not take what is written, or is nearly
#: full; or the lane waits for something, and what has arrived for it is enough.
Reason = Literal["opening", "gate", "operator", "breaker", "pressure", "disk", "space", "inbox"]


class Consumption(Protocol):
    """The consumer, as far as where and whether it reads is decided from outside."""

    async def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from these positions."""
        ...

    async def pause(self, tps: Iterable[TopicPartition]) -> None:
        """Fetch nothing more from assigned partitions, and go on polling. Idempotent."""
        ...

    async def resume(self, tps: Iterable[TopicPartition]) -> None:
        """Fetch from assigned partitions again. Idempotent."""
        ...

    async def rejoin(self) -> None:
        """Join the group again: partitions are revoked, and those that are still ours assigned."""
        ...

    def fetched(self, tp: TopicPartition) -> Fetch | None:
        """The last fetch of a partition that succeeded; None before the first, while it is paused
        and while it is not ours.
        """
        ...

    @property
    def seating(self) -> Seating:
        """What is said to the group when it is joined, and what it said last."""
        ...


class Pauses:
    """The reasons for which partitions wait; tells the consumer when there is a first or no more.

    Caller: the host and its lanes, in one event loop.
    Affects: the consumer.
    """

    def __init__(self, consumption: Consumption) -> None:
        self._consumption = consumption
        self._reasons: defaultdict[TopicPartition, dict[Reason, str]] = defaultdict(dict)

    def reasons(self, tp: TopicPartition) -> frozenset[Reason]:
        """Why a partition waits; nothing when it runs."""
        return frozenset(self._reasons.get(tp, ()))

    def words(self) -> dict[TopicPartition, dict[Reason, str]]:
        """Of all partitions that wait the reasons, each with what there is to say of it."""
        return {tp: dict(reasons) for tp, reasons in self._reasons.items() if reasons}

    async def add(self, tp: TopicPartition, reason: Reason, words: str = "") -> None:
        """Let a partition wait, also for this. Idempotent."""
        self._reasons[tp][reason] = words
        await self._consumption.pause([tp])

    async def remove(self, tp: TopicPartition, reason: Reason) -> None:
        """Let a partition run, unless it waits for something else too. Idempotent."""
        self._reasons[tp].pop(reason, None)
        if not self._reasons[tp]:
            del self._reasons[tp]
            await self._consumption.resume([tp])

    def forget(self) -> None:
        """No partition is ours any more."""
        self._reasons.clear()

    async def hold(self, tps: Iterable[TopicPartition], reason: Reason) -> None:
        """Let partitions wait that have just been assigned; the consumer has forgotten all else."""
        held = list(tps)
        for tp in held:
            self._reasons[tp][reason] = ""
        await self._consumption.pause(held)
