"""What names the folders of a table where its topology leaves that to the rows.

Goals: all rows of a table lie in folders of the same columns, whoever rolls them; the choice is
measured once, and then it stands, also where the topology says something else one day.

Plan: the choice is a file beside the table, under a name that can be taken once. The first roll
that has rows makes it; whoever comes second reads it. A table that has versions of its columns has
folders already, or none, and keeps them; and whoever declares columns after a version that left it
open takes the choice with them, so that a worker of the version before follows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from streamflow.core.folder_candidates import is_text
from streamflow.core.rows import Layout
from streamflow.core.sink_spec import SinkSpec
from streamflow.core.table_schema import TableSchema
from streamflow.engine.sink_buffer import Commits
from streamflow.engine.table_numbers import versions
from streamflow.errors import SinkRefused
from streamflow.ports import TableFiles
from streamflow.storage.folders import NAME, Folders, choose_folders, decode_folders, encode_folders

log = logging.getLogger(__name__)


class TableFolders:
    """Says what names the folders of the rolls of one rows partition."""

    def __init__(self, files: TableFiles, spec: SinkSpec) -> None:
        self._files = files
        self._spec = spec
        self._settled: Folders | None = None

    def of(self, layout: Layout, commits: Commits) -> tuple[str, ...]:
        """The columns by which the rows of a roll are divided.

        Raises `SinkUnavailable` where the table does not take the choice; call it again later.
        """
        if layout.partition_by or not commits.chunks:
            return layout.partition_by
        if self._settled is None:
            self._settled = self._settle(layout, commits)
        by = self._settled.partition_by
        absent = [name for name in by if name not in commits.columns]
        if absent:
            log.warning(
                "rows up to commit %d were committed by a version of the topology without %s, which"
                " names folders of the table: they lie where it is null",
                next(reversed(commits.trailers.values())).commit,
                " and ".join(absent),
            )
        return by

    def _settle(self, layout: Layout, commits: Commits) -> Folders:
        found = known_folders(self._files)
        if found is not None:
            return found
        names = self._candidates(layout)
        if names is None:
            return Folders((), "declared")
        names = [name for name in names if name in commits.columns]
        rows = commits.table(names)
        chosen = choose_folders(rows, commits.payload_bytes, self._spec.target_bytes)
        return take(self._files, chosen)

    def _candidates(self, layout: Layout) -> list[str] | None:
        """The columns of these rows that may be chosen; None where nothing was left to the rows.

        Rows of every version may still come, and whoever drains a table knows of it what the
        versions say.
        """
        left = [one for one in versions(self._files) if one.partition_by is None]
        mine = self._spec.folders
        if mine is None:
            mine = next((one.folders for one in left if one.id == layout.schema_id), None)
        if mine is None:
            return None
        never = {name for one in left for name in one.never}
        return [name for name in mine if name not in never]


def known_folders(files: TableFiles) -> Folders | None:
    """What was chosen, if it was. Raises `SinkRefused` where it is damaged."""
    if not files.exists(NAME, private=True):
        return None
    return decode_folders(files.read(NAME, private=True))


def take(files: TableFiles, folders: Folders) -> Folders:
    """Make it the choice, or find the one that stands."""
    if files.create(NAME, encode_folders(folders), private=True):
        log.info(
            "the table's files lie in %s: %s",
            f"folders by {', '.join(folders.partition_by)}"
            if folders.partition_by
            else "no folders",
            folders.reason,
        )
        return folders
    return decode_folders(files.read(NAME, private=True))


def to_take(spec: SinkSpec, known: Sequence[TableSchema]) -> Folders | None:
    """What is to be chosen before there are rows, where the versions of the table say it."""
    declared = [one.partition_by for one in known if one.partition_by is not None]
    if spec.folders is not None and declared:
        return Folders(declared[-1], "the table had these before it was left to the rows")
    if spec.folders is None and len(declared) < len(known):
        return Folders(spec.partition_by, "declared")
    return None


def settled(
    spec: SinkSpec, known: Sequence[TableSchema], chosen: Folders | None
) -> tuple[SinkSpec, list[TableSchema]]:
    """The sink and the versions with what was chosen in the place of what was left open.

    Raises:
        SinkRefused: the rows do not have what names the folders, or may have values that do not.
    """
    never = {name for one in known if one.partition_by is None for name in one.never}
    if spec.folders is None and never & set(spec.partition_by):
        raise SinkRefused(
            f"the folders of table {spec.path!r} of sink {spec.name!r} would be named by"
            f" {min(never & set(spec.partition_by))!r}, and rows of an earlier version of the"
            " topology may be on their way with values that name none: leave the folders to the"
            ' rows as before, partition_by="auto", or write another table under a new app id'
        )
    by = () if chosen is None else chosen.partition_by
    missing = set(by) - set(spec.schema.names)
    texts = {name for name in set(by) - missing if is_text(spec.schema.field(name).type)}
    if spec.folders is not None and texts - set(spec.folders):
        raise SinkRefused(
            f"the folders of table {spec.path!r} of sink {spec.name!r} are named by"
            f" {min(texts - set(spec.folders))!r}, and not every text names one: declare"
            f" partition_by={list(by)}, so that its values are looked at"
        )
    if spec.folders is not None and missing:
        raise SinkRefused(
            f"the folders of table {spec.path!r} of sink {spec.name!r} are named by"
            f" {min(missing)!r}, as was chosen from its first rows, and rows do not have it any"
            " more: keep the column, or write another table under a new app id"
        )
    versions = [v if v.partition_by is not None else replace(v, partition_by=by) for v in known]
    return (replace(spec, partition_by=by) if spec.folders is not None else spec), versions
