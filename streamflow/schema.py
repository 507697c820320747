"""From a pydantic model to columns: the model is the contract, Arrow is how its rows are held.

Chunks of plain records go a short way (`plain.py`). Any other record is validated by pydantic
itself, through a `TypedDict` built from the model's own fields: the same semantics without the cost
of an object per record (measured on the flights, 300 B each: 2.3 us against 5.8 us for
`model_validate_json`; one joined array of all values took 3.8 us, since every row is then alive at
once). A model with validators of its own goes through the model.
"""

from __future__ import annotations

import datetime as dt
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from operator import itemgetter
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import AliasChoices, AwareDatetime, BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core.core_schema import ErrorType

from streamflow.arguments import is_model
from streamflow.errors import TopologyError
from streamflow.failed_words import words_of
from streamflow.former_names import Formerly, column_metadata, others, stored_name
from streamflow.nested import (
    can_be_typed,
    is_nested_model,
    models_of,
    taken_apart,
    typed_dict,
)
from streamflow.plain import plain_reader
from streamflow.sensitive import mark_of
from streamflow.storable import unfits, unsure

TIMESTAMP = pa.timestamp("us", tz="UTC")
#: Digits of a decimal column, before and after the point.
MOST_PLACES = 38
DECIMAL = pa.decimal128(MOST_PLACES, 9)

#: What every row carries of the record it was made from; `_index` counts rows of one record.
LINEAGE = pa.schema(
    [
        pa.field("_topic", pa.string(), nullable=False),
        pa.field("_partition", pa.int32(), nullable=False),
        pa.field("_offset", pa.int64(), nullable=False),
        pa.field("_index", pa.int32(), nullable=False),
        pa.field("_timestamp", TIMESTAMP, nullable=False),
    ]
)
EVENT_TIME = pa.field("_event_time", TIMESTAMP, nullable=False)
WARNINGS = pa.field("_warnings", pa.list_(pa.string()))

#: What a row that stands for many records carries: the half-open range they lie in.
AGGREGATE_LINEAGE = pa.schema(
    [
        pa.field("_topic", pa.string(), nullable=False),
        pa.field("_partition", pa.int32(), nullable=False),
        pa.field("_offset_first", pa.int64(), nullable=False),
        pa.field("_offset_next", pa.int64(), nullable=False),
    ]
)

#: Pydantic's errors whose words have nothing of the value that they are about.
_WITHOUT_VALUES = frozenset(get_args(ErrorType)) - {
    *("value_error", "assertion_error", "union_tag_invalid", "no_such_attribute"),
    *("get_attribute_error", "iteration_error", "mapping_type", "uuid_parsing"),
    *("datetime_object_invalid", "url_parsing", "url_syntax_violation", "url_scheme"),
}

_PLAIN: dict[Any, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    Decimal: DECIMAL,
    dt.date: pa.date32(),
    AwareDatetime: TIMESTAMP,
}


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why one value is not a record of the contract; `field` is empty for the whole value.
    `says_no_value` is known of words that pydantic has itself.
    """

    index: int
    reason: str
    field: str
    message: str
    says_no_value: bool = False


#: What Arrow fails with where a value fits no column.
_NOT_STORED = (pa.ArrowException, ValueError, TypeError, OverflowError)

Parsed = tuple[list[dict[str, Any]], list[int], list[Invalid]]


@dataclass(frozen=True)
class Decoding:
    """Accepted values as columns, the place of each among the values, and the refused ones."""

    batch: pa.RecordBatch
    places: list[int]
    refused: list[Invalid]


class Contract:
    """A pydantic model as the contract of a topic's values.

    Attributes:
        model: The pydantic model.
        schema: Its fields as Arrow columns, in the model's order.
        json_names: Under which name values have each field: its alias, where it has one.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self.schema = arrow_schema(model)
        self.model = model
        self.json_names = {name: _json_name(name, f) for name, f in model.model_fields.items()}
        self._validate = _validator(model)
        self._plain = plain_reader(model, self.schema) if can_be_typed(model) else None
        self._unsure = unsure(self.schema)

    @property
    def is_plain(self) -> bool:
        """Do values of JSON's own types stand in columns just as they came?"""
        return self._plain is not None

    @property
    def json_types(self) -> dict[str, pa.DataType]:
        """The column type of each field, under every name by which the model takes it."""
        config = self.model.model_config
        by_name = config.get("populate_by_name") or config.get("validate_by_name")
        found = dict(zip(self.schema.names, self.schema.types, strict=True)) if by_name else {}
        for name, info in self.model.model_fields.items():
            given = info.validation_alias
            choices = given.choices if isinstance(given, AliasChoices) else []
            for alias in (*choices, self.json_names[name]):
                if isinstance(alias, str):
                    found[alias] = self.schema.field(name).type
        return found

    def decode(self, values: Sequence[bytes | None]) -> Decoding:
        """Values to columns: the short way where it surely agrees with pydantic, else through it.

        A value is accepted exactly when the model accepts it and it fits its columns.
        """
        batch = self._plain.read(values) if self._plain is not None else None
        if batch is not None:
            return self._fitting(Decoding(batch, list(range(len(values))), []))
        rows, kept, refused = self.parse(values)
        batch, stored, unstorable = self._store(rows)
        refused += [Invalid(kept[i], "unstorable", "", message) for i, message in unstorable]
        return self._fitting(Decoding(batch, [kept[i] for i in stored], refused))

    def _fitting(self, found: Decoding) -> Decoding:
        """Without rows that have what only Arrow could hold."""
        bad = unfits(self._unsure, found.batch)
        if not bad:
            return found
        keep = [row for row in range(len(found.places)) if row not in bad]
        refused = [Invalid(found.places[row], "unstorable", "", why) for row, why in bad.items()]
        batch = found.batch.take(pa.array(keep, pa.int64()))
        return Decoding(batch, [found.places[row] for row in keep], [*found.refused, *refused])

    def parse(self, values: Sequence[bytes | None]) -> Parsed:
        """Validate each value alone.

        Returns the accepted rows, the index of each among `values`, and the refused ones. A value
        is accepted exactly when the model accepts it and its integers fit 64 bits.
        """
        validate = self._validate
        rows: list[dict[str, Any]] = []
        kept: list[int] = []
        refused: list[Invalid] = []
        for index, value in enumerate(values):
            if value is None:
                refused.append(Invalid(index, "no-value", "", "the record has no value"))
                continue
            try:
                rows.append(validate(value))
                kept.append(index)
            except ValidationError as error:
                refused.append(_invalid(index, error))
            except MemoryError:  # which is not the record's fault
                raise
            except Exception as error:  # of the model's own validators and defaults
                refused.append(Invalid(index, "invalid", "", words_of(error)))
        return rows, kept, refused

    def columns(self, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        """The accepted rows as columns. Raises an Arrow error when a value fits no column.

        Rows are turned by one `zip`: a quarter less time than `RecordBatch.from_pylist`.
        """
        names = self.schema.names
        if not rows or len(names) == 1:
            return pa.RecordBatch.from_pylist(rows, schema=self.schema)
        columns = zip(*map(itemgetter(*names), rows), strict=True)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _store(
        self, rows: list[dict[str, Any]]
    ) -> tuple[pa.RecordBatch, list[int], list[tuple[int, str]]]:
        """The rows as columns, which of them these are, and those that fit no column."""
        try:
            return self.columns(rows), list(range(len(rows))), []
        except MemoryError:  # which is not the record's fault
            raise
        except _NOT_STORED:
            return self._store_each(rows)

    def _store_each(
        self, rows: list[dict[str, Any]]
    ) -> tuple[pa.RecordBatch, list[int], list[tuple[int, str]]]:
        """As `_store`, each row tried alone to find those that fit no column."""
        stored: list[int] = []
        refused: list[tuple[int, str]] = []
        for index, row in enumerate(rows):
            try:
                self.columns([row])
                stored.append(index)
            except MemoryError:
                raise
            except _NOT_STORED as error:
                refused.append((index, str(error)))
        return self.columns([rows[i] for i in stored]), stored, refused


def schema_id(schema: pa.Schema) -> str:
    """A short hash of a schema's columns: their names, types and whether they may be null."""
    columns = "\n".join(f"{field.name}: {field.type} {field.nullable}" for field in schema)
    return blake2b(columns.encode(), digest_size=6).hexdigest()


def arrow_schema(model: type[BaseModel]) -> pa.Schema:
    """The model's fields as Arrow fields; a field's description travels as its metadata.

    Raises:
        TopologyError: it is no model, or a field has a type that no column can hold exactly.
    """
    is_model("rows", model)
    if not model.model_fields:
        raise TopologyError(f"{model.__name__} has no fields, and so no columns")
    fields = _fields(model, model.__name__, ())
    columns = [stored_name(field) for field in fields]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise TopologyError(
            f"{model.__name__}: two fields would be the column {twice!r} of tables; formerly(...)"
            " is for a name that no field has any more"
        )
    return pa.schema(fields)


def _fields(
    model: type[BaseModel], where: str, within: tuple[type[BaseModel], ...]
) -> list[pa.Field]:
    """The fields of a model, which may be nested in others."""
    fields: list[pa.Field] = []
    for name, info in model.model_fields.items():
        here = f"{where}.{name}"
        if name.startswith("_"):
            raise TopologyError(f"{here}: names with _ are streamflow's own columns")
        kind, nullable = _arrow_type(info.annotation, here, info.metadata, (*within, model))
        optional = nullable or (not info.is_required() and info.get_default() is None)
        metadata = column_metadata(here, info, name)
        mark = mark_of(info.annotation, info.metadata, kind, optional, here)
        if within and (mark or len(others(info.metadata)) < len(info.metadata)):
            raise TopologyError(
                f"{here}: formerly(...) and marks of sensitive fields are for fields of the record"
                " itself; of a model in it the whole field can be marked withheld()"
            )
        metadata |= mark
        fields.append(pa.field(name, kind, nullable=optional, metadata=metadata))
    return fields


def _arrow_type(
    annotation: Any, where: str, metadata: Sequence[Any], within: tuple[type[BaseModel], ...]
) -> tuple[pa.DataType, bool]:
    """The column type of a field, and whether it may be null. `within` are the models around it."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        extra = [one for each in args[1:] for one in getattr(each, "metadata", [each])]
        if any(isinstance(one, Formerly) for one in extra):
            raise TopologyError(
                f"{where}: formerly(...) is said of a part of the field's type; put it around all"
                " of it, as in Annotated[str | None, formerly(...)]"
            )
        return _arrow_type(args[0], where, extra, within)
    if origin in (Union, types.UnionType):
        options = [option for option in args if option is not type(None)]
        if len(options) == 1:
            return _arrow_type(options[0], where, metadata, within)[0], True
    if origin is Literal and all(isinstance(value, str) for value in args):
        return pa.string(), False
    if origin is list and args:
        kind, nullable = _arrow_type(args[0], where, (), within)
        return pa.list_(pa.field("item", kind, nullable=nullable)), False
    if origin is dict and args[:1] == (str,):
        # Arrow's types do not tell whether values of a map may be null, so all may.
        return pa.map_(pa.string(), _arrow_type(args[1], where, (), within)[0]), False
    if is_nested_model(annotation):
        return _struct(annotation, where, within), False
    return _value_type(annotation, where, metadata), False


def _value_type(annotation: Any, where: str, metadata: Sequence[Any]) -> pa.DataType:
    if annotation is Decimal:
        places = next((m.decimal_places for m in metadata if hasattr(m, "decimal_places")), None)
        if places is not None and not 0 <= places <= MOST_PLACES:
            raise TopologyError(
                f"{where}: decimal_places={places}; a column has 0 to {MOST_PLACES}"
            )
        return DECIMAL if places is None else pa.decimal128(MOST_PLACES, places)
    if annotation is dt.datetime:
        raise TopologyError(
            f"{where}: a datetime without a zone is no point in time; use AwareDatetime"
        )
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    raise TopologyError(
        f"{where}: no column type for {annotation!r}; use bool, int, float, str, bytes, Decimal, "
        "date, AwareDatetime, Literal of strings, a model, list of these, dict from str to these, "
        "or one of these | None"
    )


def _struct(model: type[BaseModel], where: str, within: tuple[type[BaseModel], ...]) -> pa.DataType:
    if model in within:
        raise TopologyError(
            f"{where}: {model.__name__} holds itself, and columns have a depth; declare as many"
            " models as there are levels"
        )
    if not model.model_fields:
        raise TopologyError(f"{where}: {model.__name__} has no fields, which Parquet cannot have")
    return pa.struct(_fields(model, where, within))


def _json_name(name: str, info: FieldInfo) -> str:
    given = info.validation_alias
    given = next(iter(given.choices)) if isinstance(given, AliasChoices) else given
    return given if isinstance(given, str) else info.alias or name


def _validator(model: type[BaseModel]) -> Callable[[bytes], dict[str, Any]]:
    models = models_of(model)
    if all(map(can_be_typed, models)):
        return TypeAdapter(typed_dict(model)).validator.validate_json  # type: ignore[return-value]
    if len(models) == 1:
        return lambda value: dict(model.model_validate_json(value))
    return lambda value: taken_apart(model.model_validate_json(value))


def _invalid(index: int, error: ValidationError) -> Invalid:
    problem: Mapping[str, Any] = error.errors(
        include_url=False, include_context=False, include_input=False
    )[0]
    field = ".".join(str(part) for part in problem["loc"])
    reason = "not-json" if problem["type"] == "json_invalid" else "invalid"
    more = error.error_count() - 1
    message = problem["msg"] + (f" (and {more} more)" if more else "")
    return Invalid(index, reason, field, message, problem["type"] in _WITHOUT_VALUES)
