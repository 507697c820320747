"""Trouble between the workers and the broker, and of the broker itself."""

import asyncio
import random
from contextlib import suppress

from tests.chaos.brokers import Breakable
from tests.chaos.proxy import END_TXN, Proxy, Trouble, Way

#: What may happen, and how often in comparison.
ACTS = {"cut": 3, "lose": 2, "late": 1, "slow": 1, "refuse": 1}
WAYS: tuple[Way, Way] = ("request", "answer")
#: Seconds: of slow answers; of refused connections.
SLOW, REFUSED = 5.0, (5.0, 60.0)
#: The end of a transaction that is late comes when it has been given up.
LATE = 18.0


class Network:
    """Makes trouble between workers and broker; each act is over by itself."""

    def __init__(self, rng: random.Random, proxy: Proxy, broker: Breakable) -> None:
        self._rng = rng
        self._proxy = proxy
        self._broker = broker
        #: Seconds between acts upon workers, and how many of these are doomed from the start.
        self.pause, self.doomed = broker.pause, broker.doomed
        self._whole_since = asyncio.get_running_loop().time()

    async def act(self) -> str | None:
        """Do something until it is over; returns what it was, None where it was nothing."""
        acts = ACTS | {"break": self._broker.weight}
        act = self._rng.choices(list(acts), list(acts.values()))[0]
        if act == "cut":
            self._proxy.cut()
        elif act == "lose":
            await self._met(Trouble(END_TXN, self._rng.choice(WAYS), drop=True))
        elif act == "late":
            gate = asyncio.Event()
            await self._met(Trouble(END_TXN, self._rng.choice(WAYS), then=gate))
            await asyncio.sleep(LATE)
            gate.set()
        elif act == "slow":
            self._proxy.delay = lambda: self._rng.uniform(0, 0.1)
            await asyncio.sleep(SLOW)
            self._proxy.delay = lambda: 0.0
        elif act == "refuse":
            self._proxy.refusing = True
            self._proxy.cut()
            await asyncio.sleep(self._rng.uniform(*REFUSED))
            self._proxy.refusing = False
        else:
            return await self._break_broker()
        return act

    async def _break_broker(self) -> str | None:
        now = asyncio.get_running_loop().time()
        if now - self._whole_since < self._broker.rest:
            return None
        act = await self._broker.break_it()
        self._whole_since = asyncio.get_running_loop().time()
        return act

    async def _met(self, trouble: Trouble) -> None:
        """Wait until a commit meets the trouble, which it does as soon as there is one."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._proxy.trouble(trouble).met.wait(), 60)
