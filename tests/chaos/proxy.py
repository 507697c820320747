"""A TCP proxy on loopback between clients and brokers, which knows where requests begin and end.

Clients find a broker by what it says in its answers, so the port in there is replaced by the
proxy's own for it: both are four bytes after the same address. A request or an answer of some kind
can be held, dropped, or be the last thing of its connection; and everybody can be refused for a
while.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

#: Kafka's numbers of requests.
PRODUCE, INIT_PRODUCER_ID, ADD_PARTITIONS, END_TXN = 0, 22, 24, 26
LOOPBACK = "127.0.0.1"
#: How long the broker has to answer what a client has asked that has gone.
LAST_SECONDS = 1.0

Way = Literal["request", "answer"]


@dataclass
class Trouble:
    """What happens to the next request of a kind, or to its answer.

    `then` is waited for before the bytes go on; with `drop` they never do, with `cut` the
    connection ends instead.
    """

    kind: int
    way: Way
    drop: bool = False
    cut: bool = False
    then: asyncio.Event | None = None
    met: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Carries bytes between clients and the brokers of a cluster. Use `proxied`."""

    def __init__(self) -> None:
        #: By the port of a broker that of the proxy for it.
        self.ports: dict[int, int] = {}
        self.refusing = False
        #: Connections that clients have made, those that were refused included.
        self.accepted = 0
        self.delay: Callable[[], float] = lambda: 0.0
        self._troubles: list[Trouble] = []
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{LOOPBACK}:{port}" for port in self.ports.values())

    def trouble(self, trouble: Trouble) -> Trouble:
        """Let it happen once."""
        self._troubles.append(trouble)
        return trouble

    def cut(self) -> int:
        """End every connection; returns how many there were."""
        for writer in list(self._open):
            writer.transport.abort()
        return len(self._open) // 2

    async def accept(
        self, broker: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry the bytes of one client to the broker at this port, and back."""
        self.accepted += 1
        if self.refusing:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(LOOPBACK, broker)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._open |= both
        kinds: dict[int, int] = {}
        carrying = [
            asyncio.create_task(self._carry(reader, back, kinds, "request")),
            asyncio.create_task(self._carry(there, writer, kinds, "answer")),
        ]
        try:
            await asyncio.wait(carrying, return_when=asyncio.FIRST_COMPLETED)
            if kinds and not carrying[1].done():  # what has been asked for is still done
                await asyncio.wait(carrying[1:], timeout=LAST_SECONDS)
        finally:
            for task in carrying:
                task.cancel()
            self._open -= both
            for one in both:
                one.transport.abort()

    async def _carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        kinds: dict[int, int],
        way: Way,
    ) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                size = await source.readexactly(4)
                body = await source.readexactly(struct.unpack(">i", size)[0])
                if way == "request":
                    kind, _, correlation = struct.unpack_from(">hhi", body)
                    kinds[correlation] = kind
                else:
                    kind = kinds.pop(struct.unpack_from(">i", body)[0], -1)
                    for theirs, ours in self.ports.items():
                        body = body.replace(self._address(theirs), self._address(ours))
                if await self._goes_on(kind, way):
                    await asyncio.sleep(self.delay())
                    target.write(size + body)
                    await target.drain()

    async def _goes_on(self, kind: int, way: Way) -> bool:
        for trouble in self._troubles:
            if (trouble.kind, trouble.way) == (kind, way):
                self._troubles.remove(trouble)
                trouble.met.set()
                if trouble.then is not None:
                    await trouble.then.wait()
                if trouble.cut:
                    raise ConnectionResetError
                return not trouble.drop
        return True

    @staticmethod
    def _address(port: int) -> bytes:
        return LOOPBACK.encode() + struct.pack(">i", port)


@asynccontextmanager
async def proxied(*brokers: int) -> AsyncGenerator[Proxy]:
    """A proxy in front of the brokers at these ports, for as long as the block lasts."""
    proxy = Proxy()
    servers: list[asyncio.Server] = []
    for broker in brokers:
        server = await asyncio.start_server(partial(proxy.accept, broker), LOOPBACK, 0)
        proxy.ports[broker] = server.sockets[0].getsockname()[1]
        servers.append(server)
    try:
        yield proxy
    finally:
        for server in servers:
            server.close()
        proxy.cut()
