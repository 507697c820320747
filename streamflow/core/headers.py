"""Headers that streamflow adds to what it sends: lineage, trace, dead-letter and late context.

The lineage header has a constant size, so it is one object per batch: where the record comes from
as (hash of the topic, partition, first and next offset) and the commit that sent it. `traceparent`
is W3C Trace Context: the trace of the incoming record goes on, else one is made from the origin.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, lru_cache
from hashlib import blake2b

from streamflow.batch import Headers, Record, TopicPartition
from streamflow.core.step import Late, Raw, Reject
from streamflow.failed_words import as_bytes, cut

LINEAGE_HEADER = "streamflow.lineage"
TRACEPARENT = "traceparent"
#: The first of the headers that make a record a dead letter.
CONTEXT = "__connect.errors.topic"
#: What Kafka Connect calls the stages that are not the topology's own.
CONVERTERS = {"decode": "VALUE_CONVERTER", "sink": "KAFKA_PRODUCE"}
_LINEAGE = struct.Struct(">B8siqqQ")
_TRACE = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True)
class Origin:
    """Where an output record comes from: a half-open range of one source partition."""

    tp: TopicPartition
    first: int
    next: int
    commit: int

    def header(self) -> tuple[str, bytes]:
        """The lineage header."""
        return LINEAGE_HEADER, _LINEAGE.pack(
            1, topic_hash(self.tp.topic), self.tp.partition, self.first, self.next, self.commit
        )


@cache
def topic_hash(topic: str) -> bytes:
    """The eight bytes that stand for a topic in a lineage header."""
    return blake2b(topic.encode(), digest_size=8).digest()


def read_lineage(value: bytes, topics: list[str]) -> Origin:
    """The origin in a lineage header, its topic found among `topics`.

    Raises:
        ValueError: not such a header, or of a topic that is not among them.
    """
    version, digest, partition, first, stop, commit = _LINEAGE.unpack(value)
    names = [topic for topic in topics if topic_hash(topic) == digest]
    if version != 1 or not names:
        raise ValueError(f"a lineage header of version {version} and an unknown topic")
    return Origin(TopicPartition(names[0], partition), first, stop, commit)


def traceparent(origin: Origin, incoming: Headers = ()) -> tuple[str, bytes]:
    """The trace header of an output: the incoming trace with a new span, or a new trace."""
    seed = f"{origin.tp}@{origin.first}..{origin.next}#{origin.commit}".encode()
    made = blake2b(seed, digest_size=24).hexdigest().encode()
    trace, span, flags = made[:32], made[32:], b"00"
    for name, value in incoming:
        match = _TRACE.fullmatch(value or b"") if name == TRACEPARENT else None
        if match:
            trace, flags = match[1], match[3]
    return TRACEPARENT, b"00-" + trace + b"-" + span + b"-" + flags


def forwarded(raw: Raw, commit: int) -> Headers:
    """The record's own headers, its trace continued, and its lineage."""
    origin = Origin(raw.tp, raw.offset, raw.offset + 1, commit)
    kept = tuple(header for header in raw.headers if header[0] not in (TRACEPARENT, LINEAGE_HEADER))
    return (*kept, traceparent(origin, raw.headers), origin.header())


def dead_letter(reject: Reject, topology: str, commit: int) -> Headers:
    """The record's own headers first, byte for byte, then Kafka Connect's context and ours."""
    raw = reject.raw
    origin = Origin(raw.tp, raw.offset, raw.offset + 1, commit)
    return (
        *raw.headers,
        *_context(raw.tp, topology, reject.stage, reject.reason, reject.message),
        *_judgement(reject.rule, reject.severity, reject.field),
        ("__connect.errors.offset", b"%d" % raw.offset),
        ("streamflow.timestamp", b"%d" % raw.timestamp),
        origin.header(),
    )


def undelivered(
    record: Record, tp: TopicPartition, topic: str, reason: str, message: str, topology: str
) -> Headers:
    """A record that `topic` does not take as a dead letter of class `sink`; it was made on `tp`.

    It is for that topic still, and not for the source: there it would be processed twice.
    """
    first, stop = lineage_of(record)
    return (
        *record.headers[:-1],
        *_context(tp, topology, "sink", reason, message),
        *_judgement("", "critical", ""),
        ("__connect.errors.offset", b"%d" % first),
        ("streamflow.offset_next", b"%d" % stop),
        ("streamflow.timestamp", b"%d" % (-1 if record.timestamp is None else record.timestamp)),
        ("streamflow.topic", topic.encode()),
        record.headers[-1],
    )


def lineage_of(record: Record) -> tuple[int, int]:
    """The offsets `[first, next)` that a record of an output was made from; its last header has
    them.
    """
    name, value = record.headers[-1]
    assert name == LINEAGE_HEADER, f"the last header of an output is {name!r}"
    return _LINEAGE.unpack(value or b"")[3:5]


def _context(tp: TopicPartition, topology: str, stage: str, reason: str, message: str) -> Headers:
    return _context_of(tp, topology, stage, reason, cut(message))


def _judgement(rule: str, severity: str, field: str) -> Headers:
    return _judgement_of(rule, severity, cut(field))


@lru_cache(maxsize=1024)
def _context_of(
    tp: TopicPartition, topology: str, stage: str, reason: str, message: str
) -> Headers:
    """What the dead letters of one cause share; made once, since causes are few."""
    converter = CONVERTERS.get(stage, "TRANSFORMATION")
    context = {
        CONTEXT: tp.topic,
        "__connect.errors.partition": tp.partition,
        "__connect.errors.connector.name": topology,
        "__connect.errors.task.id": tp.partition,
        "__connect.errors.stage": converter,
        "__connect.errors.class.name": "streamflow",
        "__connect.errors.exception.class.name": f"streamflow.Reject:{reason}",
        "__connect.errors.exception.message": message,
        "streamflow.stage": stage,
        "streamflow.reason": reason,
    }
    return tuple((name, as_bytes(str(value))) for name, value in context.items())


@lru_cache(maxsize=1024)
def _judgement_of(rule: str, severity: str, field: str) -> Headers:
    context = {"streamflow.rule": rule, "streamflow.severity": severity, "streamflow.field": field}
    return tuple((name, as_bytes(value)) for name, value in context.items())


def late_record(late: Late, commit: int) -> Headers:
    """The record's own headers, then which window it missed and by how much."""
    raw = late.raw
    origin = Origin(raw.tp, raw.offset, raw.offset + 1, commit)
    return (*forwarded(raw, commit)[:-1], *_lateness(late), origin.header())


def late_dead_letter(late: Late, topology: str, commit: int) -> Headers:
    """A late record as a dead letter: its context is that of both."""
    message = f"late for {late.window} by {timedelta(microseconds=late.lateness)}"
    reject = Reject(late.raw, late.window, "late", message, severity="warning")
    *own, lineage = dead_letter(reject, topology, commit)
    return (*own, *_lateness(late), lineage)


def _lateness(late: Late) -> Headers:
    start, end = late.missed[0]
    context = {
        "streamflow.late.window": late.window,
        "streamflow.late.window_start_us": start,
        "streamflow.late.window_end_us": end,
        "streamflow.late.watermark_us": late.watermark,
        "streamflow.late.lateness_us": late.lateness,
    }
    if len(late.missed) > 1:
        windows = ",".join(f"{start}/{end}" for start, end in late.missed)
        context["streamflow.late.windows_us"] = windows
    return tuple((name, as_bytes(str(value))) for name, value in context.items())
