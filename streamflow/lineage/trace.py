"""From a row of a Parquet file back to the record it was made from, and to its original bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition

from streamflow.batch import Record, TopicPartition
from streamflow.counted import counted
from streamflow.errors import SettingsError


@dataclass(frozen=True)
class RowOrigin:
    """A row, where it lies, and which record it was made from."""

    file: Path
    row: int
    values: Mapping[str, Any]
    tp: TopicPartition
    offset: int

    def __str__(self) -> str:
        return f"{self.tp.topic}/{self.tp.partition}@{self.offset}"


def row_origin(file: Path, row: int) -> RowOrigin:
    """The origin of one row of a table that streamflow wrote.

    Raises:
        SettingsError: there is no such row, or the file has no lineage columns.
    """
    parquet = pyarrow.parquet.ParquetFile(file)
    if not 0 <= row < parquet.metadata.num_rows:
        raise SettingsError(
            f"{file} has {counted(parquet.metadata.num_rows, 'row')}, there is no row {row}"
        )
    missing = {"_topic", "_partition", "_offset"} - set(parquet.schema_arrow.names)
    if missing:
        raise SettingsError(f"{file} has no columns {sorted(missing)}; its rows have no one origin")
    values = parquet.read().slice(row, 1).to_pylist()[0]
    tp = TopicPartition(values["_topic"], values["_partition"])
    return RowOrigin(file, row, values, tp, values["_offset"])


async def original(connection: Mapping[str, Any], tp: TopicPartition, offset: int) -> Record:
    """The record at an offset, byte for byte.

    Raises:
        SettingsError: the topic no longer has it.
    """
    consumer = AIOKafkaConsumer(
        **connection, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        wanted = KafkaTopicPartition(*tp)
        consumer.assign([wanted])
        first = (await consumer.beginning_offsets([wanted]))[wanted]
        stop = (await consumer.end_offsets([wanted]))[wanted]
        if not first <= offset < stop:
            raise SettingsError(f"{tp} holds offsets {first} to {stop}, no longer {offset}")
        consumer.seek(wanted, offset)
        found = await consumer.getone(wanted)
        return Record(found.key, found.value, found.timestamp, tuple(found.headers))
    finally:
        await consumer.stop()
