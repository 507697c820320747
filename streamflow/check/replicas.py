"""Does what is written outlive a broker, where there are several?"""

from __future__ import annotations

from collections.abc import Mapping

from streamflow.check.finding import Finding

#: Kafka's own: the offsets of groups, and what became of transactions.
KAFKA_S_OWN = ("__consumer_offsets", "__transaction_state")
IN_SYNC = "min.insync.replicas"


def check_replicas(
    brokers: int, replicas: Mapping[str, int], configs: Mapping[str, Mapping[str, str]]
) -> list[Finding]:
    """Warnings of topics, by name their replicas and settings; those that are missing are left out.

    One broker alone has nobody to give copies to.
    """
    if brokers < 2:
        return []
    found: list[Finding] = []
    for topic, config in configs.items():
        copies = replicas.get(topic)
        if copies == 1:
            found.append(_alone(topic, brokers))
        elif copies is not None and copies >= 3 and int(config.get(IN_SYNC, 2)) < 2:
            found.append(_unsafe(topic, copies))
    return found


def _alone(topic: str, brokers: int) -> Finding:
    return Finding.warning(
        "topic",
        f"topic {topic!r} has one replica on a cluster of {brokers} brokers: while the one that "
        "has it is away nothing goes on, and with its disk all is gone",
        f"give it more with kafka-reassign-partitions.sh; {_setting(topic)} is for topics that "
        "are made",
    )


def _setting(topic: str) -> str:
    if topic == KAFKA_S_OWN[0]:
        return "the brokers' offsets.topic.replication.factor"
    if topic == KAFKA_S_OWN[1]:
        return "the brokers' transaction.state.log.replication.factor"
    return "STREAMFLOW_REPLICATION_FACTOR"


def _unsafe(topic: str, copies: int) -> Finding:
    return Finding.warning(
        "topic",
        f"topic {topic!r} has {copies} replicas and {IN_SYNC}=1: what one broker alone has counts "
        "as written, and is gone with it",
        f"set {IN_SYNC}=2 on topic {topic}, or on all brokers",
    )
