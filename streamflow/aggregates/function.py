"""A user's own aggregate: four functions over Arrow, called for each group.

    rows of a group in a micro-batch -> accumulate(init(), rows) -> merge ... merge -> result

What a function must not do (raise, give something of another type) is refused when the topology is
built, where it shows on no rows. Where it shows on rows, the task stops: a result without some of
its rows would be a wrong number that looks like a right one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.part import Part
from streamflow.aggregates.reductions import flat
from streamflow.errors import StateRefused, TopologyError
from streamflow.sensitive import WITHHELD

#: Where a row comes from, for the words of a failure.
_PLACE = ("_topic", "_partition", "_offset")


class AggregateFunction(ABC):
    """An aggregate of your own. `aggregate(Model, field=MyFunction())` takes an instance.

    States are kept, merged and restored as Arrow values of the type `state`; the functions get them
    as Python values and return Python values or Arrow scalars: of a struct a `dict` with all of its
    names. A state may be changed in place.

    How rows fall into micro-batches and commits must not be seen in the result: `merge` has to be
    associative and commutative, `merge(s, init())` has to mean `s`, and `accumulate` over all rows
    at once what merging the states of any parts of them means. `streamflow.testing.check_aggregate`
    tries that on rows of yours. Keep states small, well below a megabyte: they lie in one record of
    the state's topic. The functions must depend on nothing else: no clock, no random numbers.

    Each is called for each group and window, not for each row: 10,000 small groups in a micro-batch
    are 10,000 calls, and a sliding window calls them for each row.

    Attributes:
        fields: Names of the columns that `accumulate` gets; `_event_time` and `_offset` are such
            columns too.
        state: Arrow's type of a state.
        type: Arrow's type of a result; the model's field is of that type too.

    Raises:
        TopologyError: when the topology is built, where a function fails on no rows or returns what
            is not of its type.
        StateRefused: from the worker, which stops before anything of the batch is committed, where
            a function fails on rows, returns what is not of its type, or None as the result where
            the model has no `| None`.
    """

    fields: tuple[str, ...]
    state: pa.DataType
    type: pa.DataType

    @abstractmethod
    def init(self) -> Any:
        """The state of no rows."""

    @abstractmethod
    def accumulate(self, state: Any, rows: pa.RecordBatch) -> Any:
        """The state with these rows of one group, which has nulls where the records have them."""

    @abstractmethod
    def merge(self, state: Any, other: Any) -> Any:
        """The state of the rows of both."""

    @abstractmethod
    def result(self, state: Any) -> Any:
        """The result, also of the state of no rows."""


@dataclass(frozen=True)
class UserDefined:
    """An `AggregateFunction` as the partials and results of groups. `discreet` is one whose fields
    are sensitive: words that may have values of them are not said.
    """

    function: AggregateFunction
    discreet: bool = field(default=False, repr=False)
    field: ClassVar[None] = None
    null_of_nulls: ClassVar[bool] = False
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The name of the user's class."""
        return type(self.function).__name__

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns it is computed on."""
        fields: Any = getattr(self.function, "fields", ())
        if not isinstance(fields, tuple) or not fields or not _texts(fields):
            raise TopologyError(
                f"{self.name}.fields is {fields!r}; it must be a tuple of names of fields"
            )
        return fields

    def parts(self, *kinds: pa.DataType) -> list[Part]:
        """The columns of its partial, for input columns of these types."""
        for name in ("state", "type"):
            if not isinstance(getattr(self.function, name, None), pa.DataType):
                raise TopologyError(f"{self.name}.{name} must be one of Arrow's types")
        self._try_on_no_rows(kinds)
        columns = (*self.fields, *_PLACE)
        return [Part("state", self._first, self._merge, self.function.state, _rows, columns)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial."""
        results = [self.call("result", state) for state in flat(parts["state"]).to_pylist()]
        return pa.array(results, self.function.type)

    def _try_on_no_rows(self, kinds: tuple[pa.DataType, ...]) -> None:
        empty = [pa.array([], kind) for kind in kinds]
        try:
            rows = pa.RecordBatch.from_arrays(empty, names=list(self.fields))
            state = self.call("accumulate", self.call("init"), rows)
            self.call("result", self.call("merge", state, self.call("init")))
        except StateRefused as error:
            raise TopologyError(f"{error}, tried on no rows; change the function") from error

    def _first(self, groups: pa.Array, items: pa.Array, n: int) -> pa.Array:
        columns = items.flatten()
        count = len(self.fields)
        rows = pa.RecordBatch.from_arrays(columns[:count], names=list(self.fields))
        places = pa.RecordBatch.from_arrays(columns[count:], names=list(_PLACE))
        states: list[Any] = []
        for run in _runs(groups, n):
            try:
                state = self.call("accumulate", self.call("init"), rows.slice(*run))
            except StateRefused as error:
                raise StateRefused(f"{_where(places.slice(*run))}: {error}") from error
            states.append(state)
        return pa.array(states, self.function.state)

    def _merge(self, groups: pa.Array, items: pa.Array, n: int) -> pa.Array:
        if len(groups) == n:
            return items
        states: list[Any] = []
        for start, count in _runs(groups, n):
            state, *others = items.slice(start, count).to_pylist()
            for other in others:
                state = self.call("merge", state, other)
            states.append(state)
        return pa.array(states, self.function.state)

    def call(self, method: str, *given: Any) -> Any:
        """What one of the four returns, as Arrow keeps it. Raises `StateRefused`."""
        try:
            made = getattr(self.function, method)(*given)
        except Exception as error:
            if self.discreet:
                words = f"{self.name}.{method}() raised {type(error).__name__} {WITHHELD}"
                raise StateRefused(words) from None
            raise StateRefused(f"{self.name}.{method}() raised {error!r}") from error
        kind = self.function.type if method == "result" else self.function.state
        try:
            return _value(made, kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            if self.discreet:
                words = f"{self.name}.{method}() gave a {type(made).__name__}, not {kind}"
                raise StateRefused(words) from None
            raise StateRefused(
                f"{self.name}.{method}() gave {made!r}, which is no {kind}: {error}"
            ) from error


def _rows(*columns: pa.Array) -> pa.Array:
    """One item for each row: its fields and its place."""
    names = [str(place) for place in range(len(columns))]
    return pa.StructArray.from_arrays([flat(column) for column in columns], names)


def _runs(groups: pa.Array, n: int) -> Iterator[tuple[int, int]]:
    """Where the items of each of `n` groups begin, and how many they are; groups lie together."""
    counts = pc.value_counts(groups).field("counts").to_pylist()
    assert len(counts) == n
    start = 0
    for count in counts:
        yield start, count
        start += count


def _where(places: pa.RecordBatch) -> str:
    """Between which records the rows of a group lie."""
    topic, partition = (places.column(name)[0] for name in _PLACE[:2])
    span = pc.min_max(places.column(_PLACE[2])).as_py()
    return f"{topic}[{partition}]@{span['min']}..{span['max']}"


def _value(made: Any, kind: pa.DataType) -> Any:
    """A value as it comes back from a column of the type."""
    given = _plain(made)
    if pa.types.is_struct(kind) and given is not None:
        names = {field.name for field in kind}
        if not isinstance(given, dict) or given.keys() != names:
            raise ValueError(f"a dict with the names {sorted(names)} is wanted")
        given = {name: _plain(value) for name, value in given.items()}
    _no_fraction(given, kind)
    return pa.scalar(given, kind).as_py()


def _no_fraction(value: Any, kind: pa.DataType) -> None:
    """Raises where an integer is wanted and another number given: Arrow cuts the fraction off."""
    if pa.types.is_integer(kind) and isinstance(_plain(value), float | Decimal):
        raise TypeError(f"{value!r} is no integer")
    if pa.types.is_struct(kind) and isinstance(value, dict):
        for field in kind:
            _no_fraction(value.get(field.name), field.type)
    if pa.types.is_list(kind) and isinstance(value, list | tuple):
        inside: Any = kind.value_type
        suspect = pa.types.is_integer(inside) or pa.types.is_nested(inside)
        for one in value if suspect else ():
            _no_fraction(one, inside)


def _plain(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value


def _texts(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, str) for value in values)
