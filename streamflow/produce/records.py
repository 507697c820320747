"""Turns what inputs give into records, or says where it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import orjson

from streamflow.batch import Record
from streamflow.clock import Clock
from streamflow.errors import StreamflowError
from streamflow.keying import field_of, key_of, keys_for, why_no_key
from streamflow.produce.chunk import Chunk, Input
from streamflow.produce.limits import Limits
from streamflow.produce.timestamps import to_millis
from streamflow.sources import Source


@dataclass(frozen=True)
class RecordRules:
    """How a value becomes a record.

    Attributes:
        keys: The field whose text is the key, or several, which are a JSON object.
        source: Makes keys as this source takes them, in place of `keys`; none with neither.
        timestamp: The field that holds the time; the time of sending if None.
        keep_bad: Send a value that breaks the rules too: without the key or the timestamp that
            cannot be had.
    """

    keys: tuple[str, ...] = ()
    source: Source | None = None
    timestamp: str | None = None
    keep_bad: bool = False


class Records:
    """The records of some inputs, in order; counts what it has seen.

    Attributes:
        bad: Values that broke the rules and were kept.
        nbytes: Bytes of all values so far.
    """

    def __init__(
        self, inputs: Sequence[Input], rules: RecordRules, limits: Limits, clock: Clock
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
            StreamflowError: naming the place of the first value that breaks the rules, or the
                file that cannot be read on; all records before it have been yielded.
        """
        for source in self._inputs:
            try:
                for chunk in source.chunks():
                    yield from self._records(source, chunk)
            except StreamflowError as error:
                raise StreamflowError(f"{error}; what comes before it was sent") from error

    def _records(self, source: Input, chunk: Chunk) -> Iterator[list[Record]]:
        self._now = self._clock.now()
        records: list[Record] = []
        keyed = self._rules.source
        made = keys_for(keyed, chunk.values) if keyed else repeat(None)
        for index, (value, key) in enumerate(zip(chunk.values, made, strict=False)):
            try:
                records.append(self._record(value, chunk.broken.get(index), key))
            except ValueError as error:
                yield records
                raise StreamflowError(f"{source.where(chunk.places[index])}: {error}") from error
            self.nbytes += len(value)
        yield records

    def _record(self, value: bytes, broken: str | None, key: bytes | None) -> Record:
        """Raises ValueError for a value that cannot be sent."""
        refused = self._limits.refuses_size(len(value))
        if refused is not None:
            raise ValueError(refused if broken is None else f"{broken}; {refused}")
        if broken is not None:
            self._bad(broken)
            return Record(None, value)
        try:
            document = orjson.loads(value)
        except ValueError as error:
            self._bad(f"not JSON: {error}")
            return Record(None, value)
        timestamp = None
        try:
            keyed = self._rules.source
            if keyed is not None:
                if key is None and keyed.keys:
                    raise ValueError(why_no_key(keyed, value))
            elif self._rules.keys:
                key = key_of(document, self._rules.keys)
            if self._rules.timestamp is not None:
                timestamp = self._timestamp(document, self._rules.timestamp)
        except ValueError as error:
            self._bad(str(error))
        return Record(key, value, timestamp)

    def _timestamp(self, document: Any, field: str) -> int:
        try:
            millis = to_millis(field_of(document, field))
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
