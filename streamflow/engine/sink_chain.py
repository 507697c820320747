"""The chain of cuts of one rows partition, as files beside the table.

A name is taken once. So whoever creates cut `k` decides what it rolls, and everybody else, a worker
that was thought dead included, finds it there and follows. Folding old cuts (`sink_fold.py`) frees
names; so whoever has created a cut looks whether its number was folded, and then it is none.
"""

from __future__ import annotations

from typing import Any

import orjson

from streamflow.batch import TopicPartition
from streamflow.core.cut import Cut, decode_cut, encode_cut, origin, stem
from streamflow.core.sink_spec import SinkSpec
from streamflow.core.summary import Links, links
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import TableFiles

OWNER = "owner.json"
#: What each Delta table has once it is made; its first commits may be gone.
DELTA_LOG = "_delta_log/00000000000000000000.json"


def claim(files: TableFiles, spec: SinkSpec, owner: str) -> None:
    """Make `owner` the one app that writes this table. Raises `SinkRefused` when another is, or
    when it is a Delta table, whose log would not know of the files.
    """
    _refuse_delta(files, spec)
    mine = orjson.dumps({"format": 1, "app": owner})
    if not files.create(OWNER, mine, private=True):
        _refuse_others(files, spec, owner)


def is_claimed(files: TableFiles, spec: SinkSpec, owner: str) -> bool:
    """Is the table there, and is it this app's? Nothing is written. Raises as `claim` would."""
    _refuse_delta(files, spec)
    try:
        _refuse_others(files, spec, owner)
    except FileNotFoundError:
        return False
    return True


def _refuse_delta(files: TableFiles, spec: SinkSpec) -> None:
    if files.exists(DELTA_LOG):
        raise SinkRefused(
            f"table {spec.path!r} of sink {spec.name!r} is a Delta table: write it with delta(...),"
            " or give the sink another path"
        )


def _refuse_others(files: TableFiles, spec: SinkSpec, owner: str) -> None:
    """Raises `FileNotFoundError` where nobody has claimed the table."""
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


def start(files: TableFiles, tp: TopicPartition, spec: SinkSpec, first_offset: int) -> Cut:
    """The last cut of the chain; a new chain starts where the topic does.

    Raises:
        SinkRefused: there is no chain, but the rows topic was trimmed, which only a chain's roll
            does: this is not the table that the topic's earlier rows went to.
    """
    cut = last(files, tp)
    if cut is None:
        if first_offset > 0 and spec.source is None:
            raise SinkRefused(
                f"table {spec.path!r} of sink {spec.name!r} has no chain of cuts for {tp}, but that"
                f" topic starts at offset {first_offset}: its earlier rows were rolled into another"
                " folder; is the right disk mounted? A new table needs a new app id"
            )
        return settle(files, origin(tp, first_offset, spec))
    return cut


def last(files: TableFiles, tp: TopicPartition) -> Cut | None:
    """The last cut of the chain, finished or not; None where no chain has begun."""
    while True:
        standing = standing_links(files, tp).standing
        if not standing:
            return None
        try:
            return read_cut(files, tp, standing[-1])
        except FileNotFoundError:  # it was folded since: the chain has gone on
            continue


def last_visible(files: TableFiles, tp: TopicPartition) -> Cut | None:
    """The last cut of the chain whose files are all visible; None where there is none yet."""
    while True:
        cut = last(files, tp)
        if cut is None or finished(files, cut):
            return cut
        if not cut.k:
            return None
        try:
            return read_cut(files, tp, cut.k - 1)
        except FileNotFoundError:
            if standing_links(files, tp).folded < cut.k - 1:
                return None  # somebody has deleted it


def read_cut(files: TableFiles, tp: TopicPartition, k: int) -> Cut:
    """Cut `k`. Raises `SinkRefused` where it is damaged, and `FileNotFoundError`."""
    name = f"{stem(tp, k)}.json"
    return decode_cut(files.read(name, private=True), name)


def standing_links(files: TableFiles, tp: TopicPartition) -> Links:
    """What there is of the chain of a rows partition."""
    return links(files.names(private=True), tp)


def rolled_to(files: TableFiles, tp: TopicPartition) -> int | None:
    """The last commit of which all rows are in visible files; None for none."""
    cut = last(files, tp)
    if cut is None:
        return None
    return cut.trailer if finished(files, cut) else cut.after


def epoch_before(files: TableFiles, cut: Cut) -> int:
    """The epoch of the owner at the start of a cut: that at the end of the one before.

    Raises:
        SinkUnavailable: that one was folded this moment, so others have rolled on.
    """
    if not cut.k:
        return 0
    try:
        return read_cut(files, cut.tp, cut.k - 1).epoch
    except FileNotFoundError:
        if standing_links(files, cut.tp).folded >= cut.k - 1:
            raise SinkUnavailable(f"{cut} is not the last one any more; looked again") from None
        return 0


def settle(files: TableFiles, cut: Cut) -> Cut:
    """Append `cut`, or find what stands in its place; where that was folded, the chain's last cut.

    After a lost answer the cut that stands may well be this one: to follow it is right all the
    same, so the two need not be told apart.

    Raises:
        SinkRefused: what stands does not fit.
    """
    if files.create(cut.name, encode_cut(cut), private=True):
        if cut.k > standing_links(files, cut.tp).folded:
            return cut
        files.delete_private([cut.name])
        return _later(files, cut)
    try:
        found = read_cut(files, cut.tp, cut.k)
    except FileNotFoundError:
        return _later(files, cut)
    if cut.k and (found.first, found.after) != (cut.first, cut.after):
        raise SinkRefused(
            f"{found} follows commit {found.after}, but the chain ends at {cut.first} after commit"
            f" {cut.after}: the folder of cuts does not belong to this topic, or was edited"
        )
    return found


def _later(files: TableFiles, cut: Cut) -> Cut:
    """The chain's last cut, whose owners have folded that of the number of `cut`."""
    found = last(files, cut.tp)
    if found is None or found.k <= cut.k:
        raise SinkRefused(
            f"{cut} was folded into a summary, but no later cut is there: was the folder of cuts"
            " edited?"
        )
    return found


def finished(files: TableFiles, cut: Cut) -> bool:
    """Are all files of the cut visible?"""
    return all(files.exists(file.name) for file in cut.files)
