"""A user's own aggregate: four functions over Arrow, called for each group.

    rows of a group in a micro-batch -> accumulate(init(), rows) -> merge ... merge -> result

What a function must not do (raise, give something of another type) is refused when the topology is
built, where it shows on no rows. Where it shows on rows, the task stops: a result without some of
its rows would be a wrong number that looks like a right one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.aggregates.part import Part
from streamflow.aggregates.reductions import flat
from streamflow.aggregates.returned import as_kept
from streamflow.errors import FunctionFailed, TopologyError
from streamflow.failed_words import cut, shown
from streamflow.sensitive import WITHHELD
from streamflow.told import told_settings

#: What a user writes.
METHODS = ("init", "accumulate", "merge", "result")


class AggregateFunction(ABC):
    """An aggregate of your own. `aggregate(Model, field=MyFunction())` takes an instance.

    States are kept, merged and restored as Arrow values of the type `state`; the functions get them
    as Python values and return Python values or Arrow scalars: of a struct a `dict` with all of its
    names. A state may be changed in place. It can be read after a restart by a class of the same
    name with the same `fields`, `state` and `type` and equal settings, numbers and texts that are
    set in the instance, or an equal repr, if it has one; its code may be another.

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

    Its repr says on what a state depends, and none of the code: a function that was mended goes on
    with what there is.
    """

    function: AggregateFunction
    discreet: bool = False
    field: ClassVar[None] = None
    null_of_nulls: ClassVar[bool] = False
    null_of_few: ClassVar[bool] = False
    null_where: ClassVar[str] = ""

    def __repr__(self) -> str:
        state, made = (self._given(name) for name in ("state", "type"))
        return f"{told_settings(self.function)} of {self.fields}: {state} gives {made}"

    @property
    def name(self) -> str:
        """The name of the user's class."""
        return type(self.function).__name__

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns it is computed on."""
        fields: Any = self._given("fields")
        if not isinstance(fields, tuple) or not fields or not _texts(fields):
            raise TopologyError(
                f"{self.name}.fields is {shown(fields)}; it must be a tuple of names of fields"
            )
        return fields

    def parts(self, *kinds: pa.DataType) -> list[Part]:
        """The columns of its partial, for input columns of these types."""
        for name in ("state", "type"):
            if not isinstance(self._given(name), pa.DataType):
                raise TopologyError(f"{self.name}.{name} must be one of Arrow's types")
        self._try_on_no_rows(kinds)
        return [Part("state", self._first, self._merge, self.function.state, _rows, self.fields)]

    def result(self, parts: dict[str, Any]) -> Any:
        """The final column, from the merged columns of its partial. Raises `FunctionFailed`."""
        results = [self.call("result", state) for state in flat(parts["state"]).to_pylist()]
        return pa.array(results, self.function.type)

    def _try_on_no_rows(self, kinds: tuple[pa.DataType, ...]) -> None:
        empty = [pa.array([], kind) for kind in kinds]
        try:
            rows = pa.RecordBatch.from_arrays(empty, names=list(self.fields))
            state = self.call("accumulate", self.call("init"), rows)
            state = self.call("merge", state, self.call("init"))
            self.call("result", state)
        except FunctionFailed as error:
            raise TopologyError(f"{error}, tried on no rows; change the function") from error
        kind = self.function.state
        try:
            pa.array([state], kind).take(pa.array([0])).filter(pa.array([True]))
        except pa.ArrowException as error:
            raise TopologyError(
                f"{self.name}.state is {kind}, a type that Arrow does not take rows of: {error}"
            ) from error

    def _given(self, name: str) -> Any:
        try:
            return getattr(self.function, name, None)
        except Exception as error:
            raise TopologyError(f"{self.name}.{name} raised {shown(error)}") from error

    def _first(self, groups: pa.Array, items: pa.Array, n: int) -> pa.Array:
        rows = pa.RecordBatch.from_arrays(items.flatten(), names=list(self.fields))
        made = [
            self.call("accumulate", self.call("init"), rows.slice(*run)) for run in _runs(groups, n)
        ]
        return pa.array(made, self.function.state)

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
        """What one of the four returns, as Arrow keeps it. Raises `FunctionFailed`."""
        called = f"{self.name}.{method}()"
        try:
            made = getattr(self.function, method)(*given)
        except MemoryError:  # which is not the function's fault
            raise
        except Exception as error:
            if self.discreet:
                raise FunctionFailed(f"{called} raised {type(error).__name__} {WITHHELD}") from None
            raise FunctionFailed(f"{called} raised {shown(error)}") from error
        kind = self.function.type if method == "result" else self.function.state
        try:
            return as_kept(made, kind)
        except MemoryError:
            raise
        except Exception as error:  # of a value that is no plain one anything may fail
            if self.discreet:
                words = f"{called} gave a {type(made).__name__}, not {kind}"
                raise FunctionFailed(words) from None
            words = cut(str(error))
            raise FunctionFailed(
                f"{called} gave {shown(made)}, which is no {kind}: {words}"
            ) from error


def _rows(*columns: pa.Array) -> pa.Array:
    """One item for each row, of its fields."""
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


def _texts(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, str) for value in values)
