"""A stage that asks the outside for answers by key, and adds them to rows, as a value."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, create_model

from streamflow.arguments import in_words, is_some_duration, is_some_whole
from streamflow.errors import TopologyError
from streamflow.nested import taken_apart
from streamflow.on_error import DEAD_LETTER, OnError, is_on_error
from streamflow.retry import CircuitBreaker, RetryPolicy
from streamflow.schema import arrow_schema

if TYPE_CHECKING:
    from streamflow.stream import Stream

#: From distinct keys to the answers by key; a key that is left out, or has None, has no answer.
#: Where there are several key fields a key is a tuple.
Lookup = Callable[[list[Any]], Awaitable[Mapping[Any, Any]]]
OnLookupError = OnError | Literal["null"]


@dataclass(frozen=True)
class PerKey:
    """A lookup of one key at a time; see `per_key`."""

    function: Callable[[Any], Awaitable[Any]]


def per_key(function: Callable[[Any], Awaitable[Any]]) -> PerKey:
    """A lookup by an `async def` function that is given one key, and gives its answer or None.

    A lookup of many keys at once costs less wherever what is asked can answer that.
    """
    return PerKey(function)


@dataclass(frozen=True)
class Cache:
    """Keeps a lookup's answers over micro-batches, in the memory of a worker; failures never.

    Attributes:
        ttl: For how long an answer is taken for true, by the worker's clock; also that there is
            none.
        max_keys: How many are kept; of more, those that were not asked for the longest time go.
    """

    ttl: timedelta
    max_keys: int = 100_000

    def __post_init__(self) -> None:
        is_some_duration("Cache", "ttl", self.ttl)
        is_some_whole("Cache", "max_keys", self.max_keys)
        ttl: Any = self.ttl
        if ttl <= timedelta(0) or self.max_keys < 1:
            raise TopologyError("Cache: ttl is a time above zero, and max_keys at least 1")


@dataclass(frozen=True)
class Limits:
    """How a lookup is called: how long a call may take, how many may be under way at once in a
    worker, of how many keys one is at the most, when it is made again, and when none is made.
    """

    timeout: timedelta
    concurrency: int
    batch: int
    retry: RetryPolicy | None
    breaker: CircuitBreaker | None


@dataclass(frozen=True, eq=False)
class Enrich:
    """Makes rows of another model: `columns` are answers of a lookup, other fields taken over."""

    model: type[BaseModel]
    schema: pa.Schema
    columns: frozenset[str]
    keys: tuple[str, ...]
    lookup: Lookup | PerKey
    limits: Limits
    cache: Cache | None
    on_error: OnLookupError
    answer: type[BaseModel]

    @property
    def name(self) -> str:
        """The stage that its dead letters name; `<name>:missing` are rows without an answer."""
        return f"enrich {self.model.__name__}"

    @property
    def function(self) -> Callable[..., Any]:
        """The user's function."""
        return self.lookup.function if isinstance(self.lookup, PerKey) else self.lookup

    @cached_property
    def answered(self) -> pa.StructType:
        """The fields that are answers. Whether they may be null is looked at in rows."""
        fields = [field for field in self.schema if field.name in self.columns]
        return pa.struct([field.with_nullable(True) for field in fields])

    def checked(self, answer: Any) -> dict[str, Any]:
        """An answer as columns hold it.

        Raises:
            Exception: it is no mapping or model, or the model's fields do not take it.
        """
        given = answer if isinstance(answer, Mapping) else dict(answer)
        made = self.answer.model_validate({str(name): given[name] for name in given})
        values = {name: taken_apart(getattr(made, name)) for name in self.answer.model_fields}
        pa.scalar(values, self.answered)
        return values


def enrich_on(
    stream: Stream,
    model: type[BaseModel],
    lookup: Lookup | PerKey,
    key: str | tuple[str, ...],
    limits: Limits,
    cache: Cache | None,
    on_error: OnLookupError,
) -> Enrich:
    """Raises `TopologyError` when the lookup is none, keys cannot be asked for, or a field has no
    origin or one of another type.
    """
    where, schema = f"enrich on {stream}", stream.schema
    given: Any = (key,) if isinstance(key, str) else key
    if not isinstance(given, tuple | list):
        raise TopologyError(f"{where}: key={key!r}; name the field to ask by, or several")
    keys: tuple[str, ...] = (*given,)
    _check_lookup(lookup, limits, cache, where)
    is_on_error(where, on_error, (*DEAD_LETTER, "null"))
    for name in keys:
        stream.need("enrich", name)
        kind = schema.field(name).type
        if pa.types.is_nested(kind) or pa.types.is_floating(kind):
            raise TopologyError(f"{where}: cannot ask by {name!r}, which is {kind}")
    wanted = arrow_schema(model)
    answered = [field for field in wanted if field.name not in schema.names]
    if not keys or not answered:
        raise TopologyError(
            f"{where}: name a key, and a model with a field that the stream does not have: those "
            "are what is looked up"
        )
    for field in wanted:
        kind = schema.field(field.name).type if field.name in schema.names else field.type
        if kind != field.type:
            raise TopologyError(
                f"{where}: {model.__name__}.{field.name} is {field.type}, but the stream has "
                f"{kind}; map it before"
            )
    strict = [field.name for field in answered if not field.nullable]
    if on_error == "null" and strict:
        raise TopologyError(
            f"{where}: {strict[0]!r} cannot be null, so a lookup that fails cannot make it so; "
            "declare it | None"
        )
    columns = frozenset(field.name for field in answered)
    answer = _answer_model(model, columns)
    return Enrich(model, wanted, columns, keys, lookup, limits, cache, on_error, answer)


def _check_lookup(lookup: Any, limits: Limits, cache: Any, where: str) -> None:
    function = lookup.function if isinstance(lookup, PerKey) else lookup
    called = getattr(function, "__call__", None)  # noqa: B004 - of an object with an async one
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(called):
        raise TopologyError(f"{where}: {function!r} is no async function: write async def")
    is_some_duration(where, "timeout", limits.timeout)
    is_some_whole(where, "concurrency", limits.concurrency)
    is_some_whole(where, "batch", limits.batch)
    timeout: Any = limits.timeout
    if timeout <= timedelta(0):
        raise TopologyError(f"{where}: timeout is a time above zero, not {in_words(timeout)}")
    if limits.concurrency < 1 or limits.batch < 1:
        raise TopologyError(f"{where}: concurrency and batch are at least 1")
    given: Any = ((limits.retry, RetryPolicy), (limits.breaker, CircuitBreaker))
    for value, kind in given:
        if value is not None and not isinstance(value, kind):
            raise TopologyError(f"{where}: {value!r} is no {kind.__name__}, and not None")
    if cache is not None and not isinstance(cache, Cache):
        raise TopologyError(f"{where}: {cache!r} is no cache; say Cache(ttl=timedelta(minutes=10))")


def _answer_model(model: type[BaseModel], names: frozenset[str]) -> type[BaseModel]:
    """The fields of these names. An answer may leave out what has a default."""
    fields: dict[str, Any] = {
        name: Annotated[info.annotation, info]
        for name, info in model.model_fields.items()
        if name in names
    }
    # A model that is given as an answer has its fields by their names.
    config = ConfigDict({**model.model_config, "populate_by_name": True})
    made: Any = create_model(model.__name__, __config__=config, **fields)
    return made
