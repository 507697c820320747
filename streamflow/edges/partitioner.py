"""Kafka's default partitioner, so that a key goes where every other client puts it."""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def default_partition(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`, as Java's client chooses it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
