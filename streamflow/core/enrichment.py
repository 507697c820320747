"""Answers from the outside, added to rows by key. The core asks, whoever drives it answers.

rows -> distinct keys -> Ask ... Answers -> columns, in the order of the rows
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamflow.batch import MicroBatch
from streamflow.core.chain import Chained, without
from streamflow.core.expansion import carried_of
from streamflow.enrich import Enrich
from streamflow.storable import unfits, unsure

Rows = pa.RecordBatch


@dataclass(frozen=True)
class Ask:
    """Distinct keys that a stage has to have answers for before anything goes on."""

    stage: Enrich
    keys: list[Any]


@dataclass(frozen=True)
class Answers:
    """For each key that was asked what is known of it, None for nothing; or why that failed."""

    found: Mapping[Any, dict[str, Any] | None]
    failed: Mapping[Any, str]

    def missing(self, keys: list[Any]) -> list[Any]:
        """Which of these it says nothing of."""
        return [key for key in keys if key not in self.found and key not in self.failed]

    def more(self, others: Answers) -> Answers:
        """With those of another ask."""
        return Answers({**self.found, **others.found}, {**self.failed, **others.failed})


NO_ANSWERS = Answers({}, {})


@dataclass(frozen=True)
class Keyed:
    """The distinct keys of rows, by their first row; and for each row the place of its own. A row
    with a null among its key fields has none: nothing is equal to null.
    """

    keys: list[Any]
    places: pa.Array

    @staticmethod
    def of(stage: Enrich, rows: Rows) -> Keyed:
        """Those that a stage asks by."""
        parts = [rows.column(name).dictionary_encode() for name in stage.keys]
        places = reduce(_paired, (part.indices for part in parts))
        whole = places.dictionary_encode()
        first = pc.index_in(whole.dictionary, places)
        columns = [rows.column(name).take(first).to_pylist() for name in stage.keys]
        keys = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        return Keyed(keys, whole.indices)


def enriched(
    stage: Enrich, batch: MicroBatch, came: Chained, keyed: Keyed, answers: Answers
) -> Chained:
    """The rows with their answers in columns, without those of which that failed."""
    found = [answers.found.get(key) for key in keyed.keys]
    made = pa.array(found, stage.answered).take(keyed.places)
    failed = {} if stage.on_error == "null" else _failed(keyed, answers)
    kept = came.rows.select(carried_of(came.rows))
    given = dict(zip((f.name for f in stage.answered), made.flatten(), strict=True))
    names = stage.schema.names
    columns = [given[n] if n in given else came.rows.column(n) for n in names]
    schema = pa.schema([*stage.schema, *kept.schema])
    for name, column in zip(names, columns, strict=True):
        if not stage.schema.field(name).nullable:
            failed = {**_null(stage, name, column), **failed}
    rows = pa.RecordBatch.from_arrays([*columns, *kept.columns], schema=schema)
    failed = unfits(unsure(stage.schema), rows) | failed
    bad = len(_failed(keyed, answers))
    counts = Counter({f"{stage.name}:missing": made.null_count - bad})
    if stage.on_error == "null":
        counts[f"{stage.name}:failed"] = bad
    on_error = "dead_letter" if stage.on_error == "null" else stage.on_error
    after = replace(came, rows=rows, rules=+counts)
    return without(after, batch, stage.name, failed, on_error=on_error)


def _paired(one: pa.Array, other: pa.Array) -> pa.Array:
    """One number for each pair of two, null where one is; dense again, so none grows too large."""
    many = (pc.max(other).as_py() or 0) + 1
    both = pc.add(pc.multiply(pc.cast(one, pa.int64()), many), pc.cast(other, pa.int64()))
    return both.dictionary_encode().indices


def _failed(keyed: Keyed, answers: Answers) -> dict[int, str]:
    """The rows whose keys have failed, and why."""
    if not answers.failed:
        return {}
    why = {i: answers.failed[key] for i, key in enumerate(keyed.keys) if key in answers.failed}
    bad = pc.is_in(keyed.places, value_set=pa.array(list(why), keyed.places.type))
    rows = pc.indices_nonzero(bad).to_pylist()
    return {row: why[keyed.places[row].as_py()] for row in rows}


def _null(stage: Enrich, name: str, column: pa.Array) -> dict[int, str]:
    """The rows in which a field is null that the model says cannot be."""
    why = f"{name} is null, but {stage.model.__name__} says that it cannot be"
    if name in stage.columns:
        why += ": there is no answer"
    return dict.fromkeys(pc.indices_nonzero(pc.is_null(column)).to_pylist(), why)
