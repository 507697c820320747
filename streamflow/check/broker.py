"""Does a broker answer, and does it let this client write in transactions?"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer

from streamflow.check.finding import Finding
from streamflow.counted import counted
from streamflow.edges.kafka_admin import KafkaAdmin
from streamflow.engine.chosen import NEEDED, chosen
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError
from streamflow.service import broker_answers

#: A broker that has just been started needs some seconds for its first transaction.
TRANSACTION_SECONDS = 20.0


async def check_broker(
    connection: Mapping[str, Any], app: str, settings: Settings
) -> list[Finding]:
    """The broker's answer first; whether transactions work only if there was one, and they are
    wanted.
    """
    servers = connection["bootstrap_servers"]
    try:
        await broker_answers(settings)
        async with KafkaAdmin(connection) as admin:
            delivery = await _delivery(admin, settings)
            standbys = await _standbys(admin, app, settings.standby_replicas)
    except SettingsError:
        return [
            Finding.problem(
                "broker",
                f"no Kafka broker answers at {servers}",
                "start one with `streamflow broker`, or name another with --broker",
            )
        ]
    return [
        Finding.ok("broker", f"broker {servers} answers"),
        delivery or await _transactions(connection, f"{app}-check-{uuid.uuid4().hex}"),
        *standbys,
    ]


async def _delivery(admin: KafkaAdmin, settings: Settings) -> Finding | None:
    """What there is to say where commits are not transactions; None where they are."""
    try:
        found = chosen(tuple(await admin.lacks(NEEDED)), settings)
    except SettingsError as error:
        return Finding.problem("transactions", str(error), "see docs/operating.md on delivery")
    if found.words is not None:
        return Finding.warning("transactions", found.words, "see docs/operating.md on delivery")
    if found.delivery == "at_least_once":
        what = "delivery is at least once: topics may get records again after a crash"
        return Finding.ok("transactions", what)
    return None


async def _standbys(admin: KafkaAdmin, app: str, replicas: int) -> list[Finding]:
    return [standing_by(replicas, len(await admin.members(app)))] if replicas else []


def standing_by(replicas: int, workers: int) -> Finding:
    """Are there workers enough for so many standbys of each task? None run before the first."""
    of_each = f"{counted(replicas, 'standby')} of each task"
    if not 0 < workers <= replicas:
        return Finding.ok("standbys", f"{of_each}, where {replicas + 1} workers or more run")
    return Finding.warning(
        "standbys",
        f"{of_each}: {replicas + 1} workers are needed, and now it is {workers}",
        "start more workers of the app, or lower STREAMFLOW_STANDBY_REPLICAS",
    )


async def _transactions(connection: Mapping[str, Any], transactional_id: str) -> Finding:
    """Begin and abort a transaction under an id that nobody else uses."""
    producer: Any = AIOKafkaProducer(**connection, transactional_id=transactional_id)
    try:
        async with asyncio.timeout(TRANSACTION_SECONDS):
            await producer.start()
            await producer.begin_transaction()
            await producer.abort_transaction()
    except Exception as error:
        return Finding.problem(
            "transactions",
            f"the broker begins no transaction for {transactional_id!r}: {error!r}",
            "let this user write to transactional ids (ACL Write and Describe), and see that "
            "__transaction_state has enough in-sync replicas",
        )
    finally:
        await _stop(producer)
    return Finding.ok("transactions", "the broker takes transactions")


async def _stop(producer: Any) -> None:
    """Stop a producer that may still be waiting for an id it will never get."""
    try:
        async with asyncio.timeout(5):
            await producer.stop()
    except Exception:
        await producer.client.close()
