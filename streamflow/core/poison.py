"""What a topic will not take, and what becomes of it.

A record that is too large for its topic, too old for it, or without the key that it asks for would
fail every commit it is in. It becomes a dead letter of class `sink` instead: the record as it was
to be sent, with the topic it was for, the offsets of the source it was made from, and why. A dead
letter that is itself too large keeps its coordinates, sizes, hashes and as much of its value as
fits, at the most `KEPT_BYTES`.

Checked here is what a topic's settings tell. What the broker refuses all the same is found by the
engine (`engine/suspects.py`), and comes back here by its `identity`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b, sha256

from streamflow.batch import Headers, Record, TopicPartition
from streamflow.core.headers import CONTEXT, LINEAGE_HEADER, lineage_of, undelivered
from streamflow.errors import StateRefused

#: Of the value of a dead letter that does not fit, this much is kept.
KEPT_BYTES = 64 * 1024
#: What Kafka puts before the records of a batch.
BATCH_OVERHEAD = 61
#: A record's own framing is below this, and that of each of its headers below `_HEADER`.
_RECORD, _HEADER = 40, 10
#: The number of the commit is the end of a lineage header; where commits fall is no identity.
_COMMIT_BYTES = 8

Outputs = list[tuple[TopicPartition | str, Sequence[Record]]]


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """What a topic takes, by its settings.

    Attributes:
        bytes: The largest batch of records (`max.message.bytes`); None where that is not known.
        oldest_ms: How far a timestamp may lie back (`message.timestamp.before.max.ms`); None for
            any.
        keyed: Does every record need a key, as where `cleanup.policy` is compact?
    """

    bytes: int | None = None
    oldest_ms: int | None = None
    keyed: bool = False


UNKNOWN = TopicLimits()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a topic does not take a record."""

    reason: str
    message: str


@dataclass(frozen=True)
class Screen:
    """What is known of what topics take: by their settings, and of single records."""

    limits: Mapping[str, TopicLimits] = field(default_factory=dict[str, TopicLimits])
    refused: Mapping[bytes, str] = field(default_factory=dict[bytes, str])

    def chunk_bytes(self, topic: str, wanted: int) -> int:
        """How large the values of records that can be divided may be, at the most `wanted`."""
        limit = self.limits.get(topic, UNKNOWN).bytes
        return wanted if limit is None else max(1, min(wanted, limit - BATCH_OVERHEAD - 1_000))

    def problem(self, topic: str, record: Record, now_ms: int) -> Problem | None:
        """Why the topic does not take the record; None where nothing is known against it."""
        limits = self.limits.get(topic, UNKNOWN)
        if limits.bytes is not None and _bound(record) > limits.bytes:
            size = batch_bytes(record)
            if size > limits.bytes:
                words = f"{topic} takes {limits.bytes:,} bytes, and the record makes {size:,}"
                return Problem("too-large", words)
        if limits.oldest_ms is not None and record.timestamp is not None:
            age = now_ms - record.timestamp
            if age > limits.oldest_ms:
                most = timedelta(milliseconds=limits.oldest_ms)
                words = f"{topic} takes no timestamp that is older than {most}"
                return Problem("timestamp", words)
        if limits.keyed and record.key is None:
            return Problem("no-key", f"{topic} is compacted, and takes no record without a key")
        if self.refused:
            said = self.refused.get(identity(topic, record))
            return None if said is None else Problem("refused", f"{topic} refuses it: {said}")
        return None

    def must_fit(
        self, topic: str, records: Iterable[Record], now_ms: int, name: Callable[[Record], str]
    ) -> None:
        """Raises `StateRefused` for a record of the engine's own that its topic does not take."""
        for record in records:
            problem = self.problem(topic, record, now_ms)
            if problem is not None:
                raise StateRefused(own_refused(topic, name(record), problem.message))


@dataclass(frozen=True)
class Screened:
    """What can be sent; and how many records could not, in all and by topic."""

    outputs: Outputs
    counts: Counter[str]
    rules: Counter[str]


def screened(
    screen: Screen,
    outputs: Outputs,
    tp: TopicPartition,
    topology: str,
    letters: Sequence[str | None],
    now_ms: int,
) -> Screened:
    """Outputs of a task on `tp` without what their topics do not take.

    `letters` names the topics of dead letters: the first is where those that are made here go, in
    the order of their offsets among the others; None drops and counts them.
    """
    kept: Outputs = []
    made: list[Record] = []
    rules = Counter[str]()
    for to, records in outputs:
        topic = to if isinstance(to, str) else to.topic
        problems = {
            i: problem
            for i, record in enumerate(records)
            if (problem := screen.problem(topic, record, now_ms)) is not None
        }
        if problems and topic in letters:
            room = screen.limits.get(topic, UNKNOWN).bytes
            short = {i: _shortened(topic, records[i], room, p) for i, p in problems.items()}
            kept.append((to, [short.get(i, record) for i, record in enumerate(records)]))
            continue
        for i, problem in problems.items():
            headers = undelivered(records[i], tp, topic, problem.reason, problem.message, topology)
            made.append(records[i]._replace(timestamp=now_ms, headers=headers))
        rules[f"{topic}:undelivered"] += len(problems)
        some = [record for i, record in enumerate(records) if i not in problems]
        kept.append((to, some if problems else records))
    if made and letters[0] is not None:
        kept = _with_letters(screen, kept, letters[0], made, now_ms)
    return Screened(kept, +Counter(undelivered=len(made)), +rules)


def identity(topic: str, record: Record) -> bytes:
    """What tells a record from the others for its topic, also when its task does its work again
    and commits fall elsewhere: what it holds, and what it was made from.
    """
    made = blake2b(topic.encode(), digest_size=16)
    lineage = dict(record.headers).get(LINEAGE_HEADER) or b""
    for part in (record.key, record.value, lineage[:-_COMMIT_BYTES]):
        made.update(b"-" if part is None else b"%d:%b" % (len(part), part))
    return made.digest()


def batch_bytes(record: Record) -> int:
    """The bytes of a Kafka batch, uncompressed, that holds this record alone."""
    body = 3 + _sized(record.key) + _sized(record.value) + _varint(len(record.headers))
    for name, value in record.headers:
        body += _sized(name.encode()) + _sized(value)
    return BATCH_OVERHEAD + _varint(body) + body


def own_refused(topic: str, what: str, why: str) -> str:
    """The words for a record that nobody but streamflow can have, and that cannot be written."""
    return (
        f"{what} cannot be written: {why}. Nothing of its commit is done; raise max.message.bytes"
        f" of {topic}, or give it the settings that streamflow makes it with, and start again"
    )


def _with_letters(
    screen: Screen, outputs: Outputs, topic: str, made: list[Record], now_ms: int
) -> Outputs:
    """With dead letters in the order of their offsets, where they come from one record, among those
    that are there.
    """
    others = [record for to, records in outputs if to == topic for record in records]
    room = screen.limits.get(topic, UNKNOWN).bytes
    for record in made:
        problem = screen.problem(topic, record, now_ms)
        others.append(record if problem is None else _shortened(topic, record, room, problem))
    others.sort(key=lambda record: lineage_of(record)[0])
    return [*((to, records) for to, records in outputs if to != topic), (topic, others)]


def _shortened(topic: str, letter: Record, room: int | None, problem: Problem) -> Record:
    """A dead letter with less of its value, its own headers and its key, until it fits.

    Raises:
        StateRefused: it is not its size, or nothing is left to take away.
    """
    if problem.reason != "too-large" or room is None:
        raise StateRefused(own_refused(topic, _letter(letter), problem.message))
    own = max(i for i, (name, _) in enumerate(letter.headers) if name == CONTEXT)
    context, mine = letter.headers[own:-1], letter.headers[:own]
    enough = min(len(letter.value or b""), KEPT_BYTES, room // 4)
    cut: list[str] = []
    for part in ("value", "headers", "key"):
        cut.append(part)
        made = letter._replace(
            value=None,
            key=None if "key" in cut else letter.key,
            headers=(
                *(() if "headers" in cut else mine),
                *context,
                *_marks(letter, mine, cut),
                letter.headers[-1],
            ),
        )
        rest = room - batch_bytes(made) - _HEADER
        if rest >= (0 if part == "key" else enough):
            value = None if letter.value is None else letter.value[: min(rest, KEPT_BYTES)]
            return made._replace(value=value)
    raise StateRefused(own_refused(topic, _letter(letter), problem.message))


def _letter(letter: Record) -> str:
    context = {name: (value or b"").decode(errors="replace") for name, value in letter.headers}
    topic, partition = context[CONTEXT], context["__connect.errors.partition"]
    return f"the dead letter of {topic}[{partition}]@{context['__connect.errors.offset']}"


def _marks(letter: Record, mine: Headers, cut: Sequence[str]) -> Headers:
    """What says that a dead letter is not whole, and lets the whole one be known."""
    value, key = letter.value or b"", letter.key or b""
    made: list[tuple[str, bytes | None]] = [
        ("streamflow.truncated", ",".join(cut).encode()),
        ("streamflow.value.bytes", b"%d" % len(value)),
        ("streamflow.value.sha256", sha256(value).hexdigest().encode()),
    ]
    if "headers" in cut:
        made.append(("streamflow.headers.count", b"%d" % len(mine)))
    if "key" in cut:
        made.append(("streamflow.key.bytes", b"%d" % len(key)))
        made.append(("streamflow.key.sha256", sha256(key).hexdigest().encode()))
    return tuple(made)


def _bound(record: Record) -> int:
    """At least `batch_bytes`, and cheaper."""
    size = BATCH_OVERHEAD + _RECORD + len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += _HEADER + 4 * len(name) + len(value or b"")
    return size


def _sized(data: bytes | None) -> int:
    return 1 if data is None else _varint(len(data)) + len(data)


def _varint(number: int) -> int:
    """The bytes of a length as Kafka writes it: zigzag, seven bits a byte."""
    return max(1, -(-(number << 1).bit_length() // 7))
