"""Topics on Kafka: which there are, making those a topology needs, and trimming."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import sample
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import KafkaError, NodeNotReadyError, for_code
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.metadata import MetadataRequest

from streamflow.batch import TopicPartition
from streamflow.edges.kafka_group import (
    committed_offset,
    committed_partitions,
    group_members,
)
from streamflow.errors import NoBroker, SettingsError
from streamflow.fetch_ends import end_waiting_fetches
from streamflow.reconnects import space_out_connections

space_out_connections()
end_waiting_fetches()

_EXISTS = 36
#: Where a setting comes from, as the broker describes it: it was made for this topic.
_OF_THE_TOPIC = 1
#: A broker that is looked for at the start answers within this, or another attempt is made.
LOOK_MS = 10_000
#: Replicas of a topic that is made here, unless it is said, where there are as many brokers.
REPLICAS = 3
#: A broker has heard of a topic that was made within this.
KNOWN_SECONDS = 30.0


@dataclass(frozen=True)
class TopicSpec:
    """A topic to be made: name, partitions, Kafka's own topic settings, and how many brokers have
    each record; three if that is not said, or as many as there are.
    """

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    replicas: int | None = None


class KafkaAdmin:
    """A short-lived administrative connection; use it as `async with`.

    Raises:
        SettingsError: no broker answers.
    """

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = connection
        self._admin: Any = None

    async def __aenter__(self) -> KafkaAdmin:
        admin = AIOKafkaAdminClient(**self._connection)
        try:
            await admin.start()
        except Exception as error:
            with suppress(Exception):
                await admin.close()
            servers = self._connection.get("bootstrap_servers")
            raise NoBroker(
                f"no Kafka broker answers at {servers}; start one with `streamflow broker` or set "
                "STREAMFLOW_BROKER"
            ) from error
        self._admin = admin
        admin._send_request = partial(self._anywhere, admin._send_request)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._admin.close()

    async def _anywhere(
        self, send: Callable[..., Awaitable[Any]], request: Any, node_id: int | None = None
    ) -> Any:
        """Ask a broker; where it is all the same which, another one if it cannot be reached: one
        that has died is a member of its cluster for some seconds more.
        """
        brokers = [broker.nodeId for broker in self._admin._client.cluster.brokers()]
        if node_id is not None or not brokers:
            return await send(request, node_id)
        first, *others = sample(brokers, len(brokers))
        for broker in others:
            with suppress(NodeNotReadyError):
                return await send(request, broker)
        return await send(request, first)

    async def cluster(self) -> str:
        """The id of the cluster: another one with the same topics is not the same."""
        return (await self._admin.describe_cluster()).get("cluster_id") or ""

    async def brokers(self) -> list[int]:
        """The ids of the brokers that are there."""
        return [one["node_id"] for one in (await self._admin.describe_cluster())["brokers"]]

    async def replicas(self) -> dict[str, int]:
        """How many brokers have each record of a topic, by its name; the fewest, of partitions."""
        found = await self._admin.describe_topics(None)
        return {
            topic["topic"]: min(len(part["replicas"]) for part in topic["partitions"])
            for topic in found
            if topic["partitions"]
        }

    async def partitions(self, topics: Sequence[str]) -> dict[str, int]:
        """Partition counts of those topics that exist."""
        # Asked about by name, a missing topic is made by a broker that makes topics by itself.
        found = await self._admin.describe_topics(None)
        counts = {t["topic"]: len(t["partitions"]) for t in found if not t["error_code"]}
        return {topic: counts[topic] for topic in topics if topic in counts}

    async def config(self, topic: str) -> dict[str, str]:
        """The settings of a topic, the broker's defaults included."""
        return (await self.configs([topic]))[topic]

    async def lacks(self, apis: Mapping[int, str]) -> list[str]:
        """Those of these APIs, names by number, that the broker says it has not."""
        answer = await self._admin._send_request(ApiVersionRequest())
        has = {entry[0] for entry in answer.api_versions}
        return [name for number, name in apis.items() if number not in has]

    async def configs(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """The settings of topics, the broker's defaults included; without those that are missing or
        may not be looked at.
        """
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        responses = await self._admin.describe_configs(resources)
        found = [resource for response in responses for resource in response.resources]
        return {
            topic: {entry[0]: entry[1] for entry in entries}
            for code, _, _, topic, entries in found
            if code == 0
        }

    async def set_config(self, topic: str, name: str, value: str) -> None:
        """Change one setting of a topic, and leave its others as they are.

        Raises:
            SettingsError: the broker does not let us.
        """
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        [answer] = await self._admin.describe_configs([resource])
        [(_, _, _, _, entries)] = answer.resources
        # The request replaces all that was set for the topic, so that is said again.
        own = {entry[0]: entry[1] for entry in entries if entry[3] == _OF_THE_TOPIC}
        wanted = ConfigResource(ConfigResourceType.TOPIC, topic, own | {name: value})
        [changed] = await self._admin.alter_configs([wanted])
        [(code, message, *_)] = changed.resources
        if code:
            raise SettingsError(
                f"topic {topic}: {name}={value} cannot be set from here, so set it by hand: "
                f"{for_code(code).__name__} {message or ''}".rstrip()
            )

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Make the topics that do not exist yet; returns the names of those that were made.

        A topic that was made is known to every broker that answers when this returns.
        """
        if not specs:
            return []
        brokers = await self.brokers()
        topics = [
            NewTopic(
                spec.name,
                spec.partitions,
                spec.replicas or min(len(brokers), REPLICAS),
                topic_configs=dict(spec.config),
            )
            for spec in specs
        ]
        response = await self._admin.create_topics(topics)
        made: list[str] = []
        for name, code, *rest in response.topic_errors:
            if code == 0:
                made.append(name)
            elif code != _EXISTS:
                detail = f": {rest[0]}" if rest and rest[0] else ""
                raise SettingsError(f"topic {name}: {for_code(code).__name__}{detail}")
        for broker in brokers if made else ():
            await self._until_known(broker, made)
        return made

    async def _until_known(self, broker: int, topics: Sequence[str]) -> None:
        """The controller answers before the brokers have heard of the topic."""
        for _ in range(round(KNOWN_SECONDS / 0.05)):
            if not await self._unknown(broker, topics):
                return
            await asyncio.sleep(0.05)
        raise SettingsError(f"topics {list(topics)} were made, but broker {broker} lists them not")

    async def _unknown(self, broker: int, topics: Sequence[str]) -> set[str]:
        """Those that a broker has not heard of; one that does not answer hears of them later."""
        try:
            answer = await self._admin._send_request(MetadataRequest(None), broker)
        except KafkaError:
            return set()
        listed = answer.to_object()["topics"]
        return set(topics) - {one["topic"] for one in listed if not one["error_code"]}

    async def group_offset(self, group: str, tp: TopicPartition) -> int | None:
        """The next offset that a consumer group has committed, None for none."""
        return await committed_offset(self._admin, group, tp)

    async def group_partitions(self, group: str) -> list[TopicPartition]:
        """The partitions of which a consumer group has committed an offset, also long ago."""
        return await committed_partitions(self._admin, group)

    async def members(self, group: str) -> list[str]:
        """The hosts of a consumer group's members, one for each of them."""
        return await group_members(self._admin, group)

    async def trim(self, tp: TopicPartition, before: int) -> None:
        """Delete records below an offset."""
        await self._admin.delete_records({KafkaTopicPartition(*tp): RecordsToDelete(before)})


class KafkaOffsets:
    """Looks up offsets without joining a group, between `start` and `stop`."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        self._connection = connection
        self._consumer: Any = None

    async def start(self) -> None:
        """Connect."""
        self._consumer = AIOKafkaConsumer(
            **self._connection, isolation_level="read_committed", enable_auto_commit=False
        )
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise

    async def stop(self) -> None:
        """Give up the connection."""
        await self._consumer.stop()

    async def bounds(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """`(first, stop)` of each partition; stop is the last stable offset."""
        if not tps:
            return {}
        wanted = [KafkaTopicPartition(*tp) for tp in tps]
        first = await self._consumer.beginning_offsets(wanted)
        stop = await self._consumer.end_offsets(wanted)
        return {tp: (first[k], stop[k]) for tp, k in zip(tps, wanted, strict=True)}
