"""The Faust app: agents over micro-batches for the topology, and room for a user's own.

Constructing it opens nothing. Its agents only hand batches to the host's lanes, so they never
raise: Faust would acknowledge the batch and go on.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import faust
import mode

from streamflow.batch import TopicPartition
from streamflow.core.journal import State
from streamflow.engine.assignor import WarmAssignor
from streamflow.engine.fetch_share import FETCH_MEMORY
from streamflow.engine.host import Host
from streamflow.engine.idle_watch import Fetch
from streamflow.engine.inbox import Arrival
from streamflow.engine.journal import Journal
from streamflow.engine.seating import Seating
from streamflow.engine.settings import Settings
from streamflow.engine.transport import BatchTopic, BatchTransport
from streamflow.engine.web import add_pages
from streamflow.errors import SettingsError


class StreamflowApp(faust.App):
    """A Faust app whose batch topics carry micro-batches.

    `app.batch_topic("name")` gives a topic for your own agents: `async for batch in stream` yields
    `MicroBatch`. Ordinary topics and agents work as in any Faust app.
    """

    batch_topics: set[str]
    managed_topics: set[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.batch_topics = set()
        self.managed_topics = set()
        #: What this worker and its group tell each other about states.
        self.seating = Seating()
        #: Who deals out the partitions of the group; None leaves that to Kafka's client.
        self.group_assignor: WarmAssignor | None = None
        #: Bytes of all partitions that may wait for their tasks.
        self.fetch_memory = FETCH_MEMORY
        self._make_host: Callable[[], Host] | None = None
        self._make_journal: Callable[[Host], Journal] | None = None
        self._journal: Journal | None = None
        self._host: Host | None = None
        self._watch: asyncio.Task[None] | None = None
        super().__init__(*args, **kwargs)
        guarantee: Any = self.conf.processing_guarantee
        if guarantee.value != "at_least_once":
            raise SettingsError(
                "processing_guarantee: leave it at at_least_once; streamflow has transactions of "
                "its own, and Faust's exactly_once skips recovery"
            )

    @property
    def host(self) -> Host:
        """The topology's host; made at first use, so that importing an app opens nothing."""
        if self._host is None:
            if self._make_host is None:
                raise SettingsError("this app has no topology; build it with topology.faust_app()")
            self._host = self._make_host()
        return self._host

    def batch_topic(self, *names: str, **options: Any) -> BatchTopic:
        """A topic whose events are micro-batches. `maxsize` bounds the batches that wait."""
        return BatchTopic(self, topics=list(names), **options)

    def run_topology(
        self,
        topics: list[str],
        host: Callable[[], Host],
        journal: Callable[[Host], Journal],
        *,
        tasks: Collection[str],
        replicas: int = 0,
        fetch_memory: int = FETCH_MEMORY,
    ) -> None:
        """Declare the agents that feed the topology's lanes; of `topics`, `tasks` are its sources,
        each of whose states so many other workers are to keep warm.
        """
        self._make_host, self._make_journal = host, journal
        self.fetch_memory = fetch_memory
        self.group_assignor = WarmAssignor(self.seating, tasks, replicas)
        for name in topics:
            self.managed_topics.add(name)
            self.agent(self.batch_topic(name), name=f"streamflow.{name}")(self._stage)

    async def _stage(self, stream: Any) -> None:
        async for event in stream.noack().events():
            batch, event.message.batch = event.message.batch, None
            await self.host.receive(Arrival(batch, event.ack))

    def _new_transport(self) -> Any:
        return BatchTransport(self.conf.broker, self)

    async def on_first_start(self) -> None:
        """Make Faust's folder with its parents, which Faust itself does not."""
        make_folder(Path(self.conf.datadir))
        await super().on_first_start()

    async def on_start(self) -> None:
        """Make missing topics before anything is consumed."""
        await super().on_start()
        strategy: Any = self.boot_strategy
        for service in strategy.web_server():  # which tells that the broker is waited for
            await service.maybe_start()
        if self._make_host is not None:
            await self.host.prepare(BatchConsumption(self))
            if self.host.delivery == "at_least_once":
                self.managed_topics -= set(self.host.source_topics)  # Faust commits their offsets
            if self._make_journal is not None:
                self._journal = self._make_journal(self.host)
                self._journal.begin()
            self._watch = asyncio.create_task(self._end_with_host(), name="streamflow watch")

    async def _end_with_host(self) -> None:
        """End Faust's own worker too: with its input, or where a person has to look at something.

        It knows of signals and crashes only; `run_app` looks at the host itself.
        """
        await self.host.watch()
        root = self.beacon.root
        if root is not None and isinstance(root.data, mode.Worker):
            if self.host.failure is None:
                signal.raise_signal(signal.SIGTERM)
            else:
                await self.crash(self.host.failure)

    async def when_a_broker_answers(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Do a step of the start that needs one."""
        return await (step() if self._make_host is None else self.host.broker_wait.through(step))

    def on_webserver_init(self, web: Any) -> None:
        """Faust's web server is about to start: add `/live` and `/ready`."""
        super().on_webserver_init(web)
        if self._make_host is not None:
            add_pages(web, self)

    async def on_stop(self) -> None:
        """Commit what is in hand while the consumer is still a member of its group."""
        if self._host is not None:
            lanes = self._host.reading
            await self._host.close()
            if self._journal is not None:
                await self._journal.end(*self._ended(self._host), lanes)
        if self._watch is not None:
            self._watch.cancel()
        await super().on_stop()

    def _ended(self, host: Host) -> tuple[State, str]:
        """How it ends, and why."""
        if host.failure is not None:
            return "failed", str(host.failure)
        if self.crashed:
            return "failed", repr(self.crash_reason)
        return ("success" if host.finished.is_set() else "cancelled"), ""

    async def on_seek(self, assignment: Any) -> None:
        """Called by the consumer when partitions are ours and nothing is fetched yet."""
        if self._make_host is not None:
            await self.host.assign(assignment)

    async def on_revoke(self) -> None:
        """Called by the consumer while revoked partitions are still ours."""
        if self._host is not None:
            await self._host.revoke()


class BatchConsumption:
    """The consumer of an app's batch topics; see `Consumption`."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `Consumption.seek`."""
        await self._app.consumer.seek_batches(positions)

    async def pause(self, tps: Iterable[TopicPartition]) -> None:
        """See `Consumption.pause`."""
        await self._app.consumer.pause_batches(tps)

    async def resume(self, tps: Iterable[TopicPartition]) -> None:
        """See `Consumption.resume`."""
        await self._app.consumer.resume_batches(tps)

    async def rejoin(self) -> None:
        """See `Consumption.rejoin`."""
        await self._app.consumer.rejoin()

    def fetched(self, tp: TopicPartition) -> Fetch | None:
        """See `Consumption.fetched`."""
        return self._app.consumer.fetched(tp)

    @property
    def seating(self) -> Seating:
        """See `Consumption.seating`."""
        return self._app.seating


def make_folder(path: Path) -> None:
    """A folder and its parents."""
    path.mkdir(parents=True, exist_ok=True)


def faust_settings(settings: Settings, app_id: str) -> dict[str, Any]:
    """Faust's own settings, those that a topology's app must have."""
    session = settings.session_timeout.total_seconds()
    return {
        "id": app_id,
        "broker": [f"kafka://{server.strip()}" for server in settings.broker.split(",")],
        "store": "memory://",
        "datadir": str(settings.state_dir / "faust"),
        "autodiscover": False,
        "topic_disable_leader": True,
        "table_standby_replicas": 0,
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": settings.instance_id,
        "broker_session_timeout": session,
        "broker_heartbeat_interval": session / 5,
        "broker_commit_interval": 1.0,
        "stream_wait_empty": False,
        "stream_recovery_delay": 0.0,
        "stream_buffer_maxsize": 4096,
        "worker_redirect_stdouts": False,
        "web_enabled": settings.web_port is not None,
        "web_bind": settings.web_bind,
        "web_port": settings.web_port or 6066,
    }
