"""What leaves a topology of sensitive fields: the last thing that is done to rows and records.

A commit's steps are masked as a whole, before anything is made of them, so there is one place where
it can be forgotten. What stays inside, states and their changelogs, is left as it is.

    rows, results -> columns by their marks
    records as they came -> JSON: fields by their marks, those that the model does not have left out
    dead letters -> also their words, where they may have a value
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final

import msgspec
import pyarrow as pa
from pydantic import BaseModel

from streamflow.core.plan import TaskPlan
from streamflow.core.sensitive_fields import fields_of_key
from streamflow.core.step import Raw, Reject, Step
from streamflow.errors import SettingsError
from streamflow.record_keys import is_key, key_text
from streamflow.sensitive import WITHHELD, Sensitive, hashed, ways_of

#: Says of a record that left masked which of its fields are not as they came; `*` for its value.
MASKED_HEADER: Final = "streamflow.masked"
HIDDEN: Final = "****"
#: Bytes of a hash: two of a thousand million texts are alike with a chance of 1 in 10^20.
DIGEST_BYTES: Final = 16
_ROW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE = msgspec.json.Encoder().encode
#: Reasons whose words never have a value.
_WITHOUT_VALUES: Final = {"no-value", "not-json", "gate-tripped", "late", "envelope"}

Ways = Mapping[str, Sensitive]


@dataclass(frozen=True)
class Masks:
    """Masks values; `key` is that of the hashes. Equal values and keys give equal masks."""

    key: bytes

    def text(self, mark: Sensitive, value: str) -> str | None:
        """What leaves instead of a text."""
        if mark.way == "withheld":
            return None
        if mark.way == "hashed":
            given = value.encode(errors="surrogateescape")
            made = blake2b(given, key=self.key, digest_size=DIGEST_BYTES)
            return made.hexdigest()
        shown = mark.shown if len(value) >= 2 * mark.shown else 0
        return HIDDEN + (value[-shown:] if shown else "")

    def column(self, mark: Sensitive, column: pa.Array) -> pa.Array:
        """The same of a column; each different text is masked once."""
        if mark.way == "withheld":
            # Not `pa.nulls`, in whose structs also fields are null that never are.
            return pa.array([None] * len(column), column.type)
        different = column.dictionary_encode()
        texts = [self.text(mark, value) for value in different.dictionary.to_pylist()]
        return pa.array(texts, column.type).take(different.indices)

    def rows(self, ways: Ways, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows with these fields masked."""
        for name, mark in ways.items():
            place = batch.schema.get_field_index(name)
            made = self.column(mark, batch.column(place))
            batch = batch.set_column(place, batch.schema.field(place), made)
        return batch

    def key_of(self, key: bytes | None) -> bytes | None:
        """The hash of a record's key."""
        made = None if key is None else self.text(hashed(), key.decode(errors="surrogateescape"))
        return None if made is None else made.encode()


@dataclass(frozen=True)
class Json:
    """How JSON objects of a model leave: by the name that a field has there its field's name, and
    the fields that are marked. A name that two fields have is that of the marked one. `keyed` are
    the fields that are made of the records' key.
    """

    fields: Mapping[str, str]
    ways: Ways
    keyed: frozenset[str]

    @staticmethod
    def taken(model: type[BaseModel], schema: pa.Schema, keys: Sequence[str]) -> Json:
        """Those that a model takes; a field is known by its name and its aliases."""
        fields, ways = {name: name for name in model.model_fields}, ways_of(schema)
        for name, info in model.model_fields.items():
            for alias in (info.alias, *getattr(info.validation_alias, "choices", ())):
                if isinstance(alias, str) and fields.get(alias) not in ways:
                    fields[alias] = name
        return Json(fields, ways, frozenset(keys))

    @staticmethod
    def made(schema: pa.Schema, keyed: frozenset[str]) -> Json:
        """Those that are made of rows; a field has its own name."""
        return Json({name: name for name in schema.names}, ways_of(schema), keyed)

    def hides(self, name: str) -> bool:
        """Does a field not leave as it came? So do fields that nobody declared."""
        return self.fields.get(name) is None or self.fields[name] in self.ways

    def mark(self, name: str) -> Sensitive | None:
        """That of a field, by its name in JSON."""
        return self.ways.get(self.fields[name])


@dataclass(frozen=True)
class Exits:
    """Masks all that a task's steps send out.

    Attributes:
        plan: What the task does.
        masks: How values are masked.
    """

    plan: TaskPlan
    masks: Masks

    def leaving(self, step: Step) -> Step:
        """A step whose exits are masked; its state is as it was."""
        return replace(
            step,
            rows={n: self._batches(self._rows[n], batches) for n, batches in step.rows.items()},
            results={
                name: self._batches(self._results.get(name, {}), batches)
                for name, batches in step.results.items()
            },
            forwarded={
                n: tuple((self._masked(raw, self._made[n]), time) for raw, time in records)
                for n, records in step.forwarded.items()
            },
            aside={
                topic: tuple((self._as_it_came(raw), time) for raw, time in records)
                for topic, records in step.aside.items()
            },
            rejects=tuple(map(self._reject, step.rejects)),
            late={
                name: tuple(replace(late, raw=self._as_it_came(late.raw)) for late in rows)
                for name, rows in step.late.items()
            },
        )

    def words(self, message: str) -> str:
        """What may be said aloud of an error of a user's function: of which kind it is."""
        return f"{message.partition(':')[0]} {WITHHELD}"

    @cached_property
    def _rows(self) -> dict[int, Ways]:
        return {outlet.number: ways_of(outlet.schema) for outlet in self.plan.outlets}

    @cached_property
    def _results(self) -> dict[str, Ways]:
        return {window.name: ways_of(window.schema) for window in self.plan.windows}

    @cached_property
    def _made(self) -> dict[int, Json]:
        keyed = fields_of_key(self.plan)
        return {one.number: Json.made(one.schema, keyed[one.number]) for one in self.plan.outlets}

    @cached_property
    def _source(self) -> Json:
        contract = self.plan.source.contract
        return Json.taken(contract.model, contract.schema, self.plan.source.keys)

    def _batches(self, ways: Ways, batches: Iterable[pa.RecordBatch]) -> tuple[pa.RecordBatch, ...]:
        return tuple(self.masks.rows(ways, batch) for batch in batches)

    def _as_it_came(self, raw: Raw) -> Raw:
        """A record of the source. Of an envelope nobody knows where it says what: it is withheld
        whole.
        """
        if self.plan.source.envelope is None or raw.value is None:
            return self._masked(raw, self._source)
        return self._keyed(raw, None, self._source).with_header(MASKED_HEADER, "*")

    def _masked(self, raw: Raw, json: Json) -> Raw:
        """A record whose value has its fields masked; one that is no JSON object is withheld."""
        if raw.value is None:
            return self._keyed(raw, None, json)
        row = _row(raw.value)
        if row is None:
            return self._keyed(raw, None, json).with_header(MASKED_HEADER, "*")
        hidden = sorted(name for name in row if json.hides(name))
        if not hidden:
            return self._keyed(raw, raw.value, json)
        made = {
            name: value if mark is None else self._value(mark, value)
            for name, value, mark in (
                (name, value, json.mark(name))
                for name, value in row.items()
                if json.fields.get(name) is not None
            )
        }
        known = ",".join(name for name in hidden if name in made)
        return self._keyed(raw, _ENCODE(made), json).with_header(MASKED_HEADER, known)

    def _value(self, mark: Sensitive, value: msgspec.Raw) -> str | None:
        """A value of JSON; one that is no text is none that the model takes, and is withheld."""
        found = _decoded(value)
        return self.masks.text(mark, found) if isinstance(found, str) else None

    def _keyed(self, raw: Raw, value: bytes | None, json: Json) -> Raw:
        """With its key hashed, where a model marks the field it is of, or nobody says which."""
        fields, key = self.plan.source.key_fields, raw.key
        if key is not None and len(fields) == 1 and self.plan.source.envelope is not None:
            key = key_text(key, fields[0])
        marked = (self._source.keyed & self._source.ways.keys()) | (json.keyed & json.ways.keys())
        strange = key is not None and not is_key(key, fields)
        hides = marked or (strange and (self._source.ways or json.ways))
        return replace(raw, key=self.masks.key_of(key) if hides else key, value=value)

    def _reject(self, reject: Reject) -> Reject:
        raw, field = self._as_it_came(reject.raw), reject.field
        if reject.reason == "wrong-key" and self._source.ways:
            raw = replace(raw, key=self.masks.key_of(reject.raw.key))
        name = field.partition(".")[0]
        if reject.reason == "invalid" and self._source.hides(name):
            # Of a marked one what is within may be the key of a mapping; others nobody declared.
            field = name if name in self._source.fields else ""
        return replace(reject, raw=raw, field=field, message=_words_of(reject))


def sensitive_field(plan: TaskPlan) -> str | None:
    """A field of a task that does not leave as it is; None where there is none."""
    schemas = [
        plan.source.contract.schema,
        *(outlet.schema for outlet in plan.outlets),
        *(window.schema for window in plan.windows),
    ]
    return next((name for schema in schemas for name in ways_of(schema)), None)


def exits_of(plan: TaskPlan, masks: Masks | None) -> Exits | None:
    """What masks the exits of a task; None where nothing of it is sensitive.

    Raises:
        SettingsError: there is something, and no key to mask it with.
    """
    field = sensitive_field(plan)
    if field is None:
        return None
    if masks is None:
        raise SettingsError(
            f"topology {plan.topology!r}: field {field!r} is sensitive, and there is no key to mask"
            " it with: set STREAMFLOW_MASKING_KEY to a secret of 16 to 64 bytes, the same for all"
            " workers, and keep it"
        )
    return Exits(plan, masks)


def require_key(plans: Iterable[TaskPlan], masks: Masks | None) -> None:
    """Raises `SettingsError` where a field is sensitive, and there is no key to mask it with."""
    for plan in plans:
        exits_of(plan, masks)


def _row(value: bytes) -> dict[str, msgspec.Raw] | None:
    """The fields of a JSON object; None for anything else."""
    try:
        return _ROW.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _decoded(value: msgspec.Raw) -> Any:
    """A value of JSON; None where it cannot be read, as null."""
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _words_of(reject: Reject) -> str:
    """What is wrong with a record, in words that have no value of it: those that streamflow and
    pydantic have for it themselves.
    """
    if reject.reason in _WITHOUT_VALUES or reject.says_no_value:
        return reject.message
    if reject.reason == "rule":
        return f"breaks rule {reject.rule!r}"
    kind = reject.message.partition(":")[0] if reject.reason == "failed" else reject.reason
    return f"{kind} {WITHHELD}"
