"""Trouble between the workers and the broker, and of the broker itself."""

import asyncio
import random
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from streamflow.broker import Broker, running_broker
from tests.chaos.proxy import END_TXN, Proxy, Trouble, Way

#: What may happen, and how often in comparison.
ACTS = {"cut": 3, "lose": 2, "late": 1, "slow": 1, "refuse": 1, "break": 1}
WAYS: tuple[Way, Way] = ("request", "answer")
#: Seconds: of slow answers; of refused connections; until the broker may break again.
SLOW, REFUSED, WHOLE = 5.0, (5.0, 60.0), 120.0
#: The end of a transaction that is late comes when it has been given up.
LATE = 18.0


class BreakableBroker:
    """A broker that can be killed (-9), and goes on with its data at the same address."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._stack = ExitStack()
        self._broker = self._started(None)

    @property
    def port(self) -> int:
        return self._broker.port

    @property
    def bootstrap(self) -> str:
        return self._broker.bootstrap

    def break_it(self) -> None:
        """As a power cut would; returns when it answers again."""
        self._broker.kill()
        self._stack.close()
        self._broker = self._started(self._broker.port)

    def close(self) -> None:
        """Stop it for good."""
        self._stack.close()

    def _started(self, port: int | None) -> Broker:
        running = running_broker(port=port, data_dir=self._folder, say=self._say)
        return self._stack.enter_context(running)


class Network:
    """Makes trouble between workers and broker; each act is over by itself."""

    def __init__(self, rng: random.Random, proxy: Proxy, broker: BreakableBroker) -> None:
        self._rng = rng
        self._proxy = proxy
        self._broker = broker
        self._whole_since = asyncio.get_running_loop().time()

    async def act(self) -> str | None:
        """Do something until it is over; returns what it was, None where it was nothing."""
        act = self._rng.choices(list(ACTS), list(ACTS.values()))[0]
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
            return self._break_broker()
        return act

    def _break_broker(self) -> str | None:
        now = asyncio.get_running_loop().time()
        if now - self._whole_since < WHOLE:
            return None
        self._broker.break_it()
        self._whole_since = asyncio.get_running_loop().time()
        return "break"

    async def _met(self, trouble: Trouble) -> None:
        """Wait until a commit meets the trouble, which it does as soon as there is one."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._proxy.trouble(trouble).met.wait(), 60)
