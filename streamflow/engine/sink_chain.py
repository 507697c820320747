"""The chain of cuts of one rows partition, as files beside the table.

A name is taken once. So whoever creates cut `k` decides what it rolls, and everybody else, a worker
that was thought dead included, finds it there and follows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from streamflow.batch import TopicPartition
from streamflow.core.cut import Cut, decode_cut, encode_cut, last_cut_name, origin
from streamflow.core.sink_spec import SinkSpec
from streamflow.core.table_schema import (
    changes,
    decode_schema,
    encode_schema,
    schema_name,
    schema_names,
    schema_of,
)
from streamflow.errors import SinkRefused
from streamflow.ports import TableFiles

OWNER = "owner.json"


def claim(files: TableFiles, spec: SinkSpec, owner: str) -> None:
    """Make `owner` the one app that writes this table. Raises `SinkRefused` when another is."""
    mine = orjson.dumps({"format": 1, "app": owner})
    if files.create(OWNER, mine, private=True):
        return
    try:
        found: Any = orjson.loads(files.read(OWNER, private=True))["app"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        found = "unknown: the record of its owner is damaged"
    if found != owner:
        raise SinkRefused(
            f"table {spec.path!r} of sink {spec.name!r} is written by app {found!r}, and this is"
            f" app {owner!r}; a plain table has one writing app: give the sink another path, or"
            f" start as {found!r}"
        )


def agree(files: TableFiles, spec: SinkSpec) -> None:
    """Write down what the topology will write into this table from now on.

    Called before anything is committed for it: later the rows would be in the topic already.

    Raises:
        SinkRefused: the table could not be read as one any more; in words, by column.
    """
    mine = schema_of(spec)
    while True:
        names = schema_names(files.names(private=True))
        known = [decode_schema(files.read(name, private=True), name) for name in names]
        for old in known:
            problems = changes(old, mine)
            if problems:
                raise SinkRefused(
                    f"table {spec.path!r} of sink {spec.name!r} would not be one table any more:"
                    f" {'; '.join(problems)} (in version {old.topology_version} of the topology)."
                    " Change the topology back, or write another table under a new app id, which"
                    " reads its sources from the start"
                )
        if known and known[-1].same_as(mine):
            return
        if files.create(schema_name(len(known)), encode_schema(mine), private=True):
            return


def start(files: TableFiles, tp: TopicPartition, spec: SinkSpec, first_offset: int) -> Cut:
    """The last cut of the chain; a new chain starts at offset 0.

    Raises:
        SinkRefused: there is no chain, but the topic was trimmed, which only a chain's roll does:
            this is not the table that the topic's earlier rows went to.
    """
    name = last_cut_name(files.names(private=True), tp)
    if name is None:
        if first_offset > 0:
            raise SinkRefused(
                f"table {spec.path!r} of sink {spec.name!r} has no chain of cuts for {tp}, but that"
                f" topic starts at offset {first_offset}: its earlier rows were rolled into another"
                " folder; is the right disk mounted? A new table needs a new app id"
            )
        return settle(files, origin(tp, first_offset, spec))
    return decode_cut(files.read(name, private=True), name)


def rolled_to(files: TableFiles, tp: TopicPartition) -> int | None:
    """The last commit of which all rows are in visible files; None for none."""
    name = last_cut_name(files.names(private=True), tp)
    if name is None:
        return None
    cut = decode_cut(files.read(name, private=True), name)
    return cut.trailer if finished(files, cut) else cut.after


def epoch_before(files: TableFiles, cut: Cut) -> int:
    """The epoch of the owner at the start of a cut: that at the end of the one before."""
    before = replace(cut, k=cut.k - 1)
    if not cut.k or not files.exists(before.name, private=True):
        return 0
    return decode_cut(files.read(before.name, private=True), before.name).epoch


def settle(files: TableFiles, cut: Cut) -> Cut:
    """Append `cut`, or find what stands in its place. Raises `SinkRefused` when that does not fit.

    After a lost answer the cut that stands may well be this one: to follow it is right all the
    same, so the two need not be told apart.
    """
    if files.create(cut.name, encode_cut(cut), private=True):
        return cut
    found = decode_cut(files.read(cut.name, private=True), cut.name)
    if cut.k and (found.first, found.after) != (cut.first, cut.after):
        raise SinkRefused(
            f"{found} follows commit {found.after}, but the chain ends at {cut.first} after commit"
            f" {cut.after}: the folder of cuts does not belong to this topic, or was edited"
        )
    return found


def finished(files: TableFiles, cut: Cut) -> bool:
    """Are all files of the cut visible?"""
    return all(files.exists(file.name) for file in cut.files)
