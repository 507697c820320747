"""Turns lines of JSON into records; the bytes of a line stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from streamflow.batch import Record
from streamflow.clock import Clock
from streamflow.errors import StreamflowError
from streamflow.produce.limits import Limits
from streamflow.produce.timestamps import to_millis

#: Bytes that are read at once.
READ_BYTES = 256 * 1024


@dataclass(frozen=True)
class Input:
    """An open file.

    Attributes:
        name: In messages.
        read: Gives up to so many bytes as soon as there are any; nothing at the end.
    """

    name: str
    read: Callable[[int], bytes | None]


@dataclass(frozen=True)
class LineRules:
    """How a line becomes a record.

    Attributes:
        key: The field whose text is the key; no key if None.
        timestamp: The field that holds the time; the time of sending if None.
        keep_bad: Send a line that breaks the rules too: without the key or the timestamp that
            cannot be had.
    """

    key: str | None = None
    timestamp: str | None = None
    keep_bad: bool = False


class Lines:
    """The records of some files, in order; counts what it has seen.

    Attributes:
        bad: Lines that broke the rules and were kept.
        nbytes: Bytes of all values so far.
    """

    def __init__(
        self, inputs: Sequence[Input], rules: LineRules, limits: Limits, clock: Clock
    ) -> None:
        self.bad = 0
        self.nbytes = 0
        self._inputs = inputs
        self._rules = rules
        self._limits = limits
        self._clock = clock
        self._now = clock.now()

    def chunks(self) -> Iterator[list[Record]]:
        """The records, as many at a time as were read at once.

        Raises:
            StreamflowError: naming file and line of the first line that breaks the rules, or the
                file that cannot be read on; all records before it have been yielded.
        """
        for source in self._inputs:
            number = 0
            rest: list[bytes] = []
            while data := _more(source):
                *lines, tail = data.split(b"\n")
                if lines:
                    lines[0] = b"".join([*rest, lines[0]])
                    rest = []
                    yield from self._records(source.name, number, lines)
                    number += len(lines)
                rest.append(tail)
            if last := b"".join(rest):
                yield from self._records(source.name, number, [last])

    def _records(self, name: str, number: int, lines: list[bytes]) -> Iterator[list[Record]]:
        self._now = self._clock.now()
        records: list[Record] = []
        for at, line in enumerate(lines, number + 1):
            try:
                records.append(self._record(line))
            except ValueError as error:
                yield records
                raise StreamflowError(
                    f"{name}:{at}: {error}; what comes before it was sent"
                ) from error
            self.nbytes += len(line)
        yield records

    def _record(self, line: bytes) -> Record:
        """Raises ValueError for a line that cannot be sent."""
        refused = self._limits.refuses_size(len(line))
        if refused is not None:
            raise ValueError(refused)
        try:
            document = orjson.loads(line)
        except ValueError as error:
            self._bad(f"not JSON: {error}")
            return Record(None, line)
        key, timestamp = None, None
        try:
            if self._rules.key is not None:
                key = _key(document, self._rules.key)
            if self._rules.timestamp is not None:
                timestamp = self._timestamp(document, self._rules.timestamp)
        except ValueError as error:
            self._bad(str(error))
        return Record(key, line, timestamp)

    def _timestamp(self, document: Any, field: str) -> int:
        try:
            millis = to_millis(_field(document, field))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"field {field!r}: {error}") from error
        refused = self._limits.refuses_time(millis, self._now)
        if refused is not None:
            raise ValueError(f"field {field!r}: {refused}")
        return millis

    def _bad(self, reason: str) -> None:
        if not self._rules.keep_bad:
            raise ValueError(f"{reason}; --keep-bad sends such lines too")
        self.bad += 1


def _more(source: Input) -> bytes | None:
    try:
        return source.read(READ_BYTES)
    except StreamflowError as error:
        raise StreamflowError(f"{error}; what comes before it was sent") from error


def _field(document: Any, name: str) -> Any:
    if not isinstance(document, dict):
        raise ValueError(f"the line is no JSON object, so it has no field {name!r}")
    if name not in document:
        raise ValueError(f"there is no field {name!r}; it has {sorted(document)}")
    return document[name]


def _key(document: Any, name: str) -> bytes:
    value = _field(document, name)
    if isinstance(value, str):
        return value.encode()
    if value is None or isinstance(value, dict | list):
        raise ValueError(
            f"field {name!r} is {type(value).__name__}, not text or a number to key by"
        )
    return orjson.dumps(value)
