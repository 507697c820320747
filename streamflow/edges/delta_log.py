"""The log of a Delta Lake table, through the library `deltalake`.

Marks are the log's own transaction numbers: they are kept in its checkpoints, and two commits that
set the same one conflict. The library does not compare their values, so whoever sets one has looked
at it in the very version that the commit is made on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
    DeltaProtocolError,
    TableNotFoundError,
)
from deltalake.transaction import AddAction, RemoveAction

from streamflow.edges.object_store import TRIES, StoreOptions, in_words_of
from streamflow.errors import Overtaken, SinkRefused, SinkUnavailable
from streamflow.ports import AddedFile, ListedFile
from streamflow.store_url import is_url

#: Some writers cut the times of a file's statistics to milliseconds, the largest one too.
ROUNDED = timedelta(milliseconds=1)


class DeltaLog:
    """`TableLog` of the table at a path or an address, `s3://bucket/folder/table`.

    Args:
        uri: Where it is.
        options: How its store is spoken to, which has its credentials from the environment; None
            for a folder.
        now_ms: The clock, for the times that the log keeps of files.
    """

    def __init__(self, uri: str, options: StoreOptions | None, now_ms: Callable[[], int]) -> None:
        self._uri = uri
        self._options = None if options is None else storage_options(options)
        self._now_ms = now_ms

    def load(self) -> DeltaVersion | None:
        """See `TableLog.load`."""
        try:
            return DeltaVersion(DeltaTable(self._uri, storage_options=self._options), self)
        except TableNotFoundError:
            return None
        except Exception as error:
            raise self.words(error) from None

    def create(self, schema: pa.Schema, partition_by: Sequence[str]) -> None:
        """See `TableLog.create`."""
        try:
            DeltaTable.create(
                self._uri,
                Schema.from_arrow(schema),
                mode="error",
                partition_by=list(partition_by),
                storage_options=self._options,
            )
        except Exception as error:
            if self.load() is None:
                raise self.words(error) from None

    def form(self, schema: pa.Schema) -> pa.Schema:
        """See `TableLog.form`."""
        return pa.schema(Schema.from_arrow(schema))

    def vacuum(self, retention: timedelta) -> None:
        """See `TableLog.vacuum`; a table keeps files for a week, if its property
        `delta.deletedFileRetentionDuration` says nothing else.
        """
        hours = math.ceil(retention / timedelta(hours=1))
        try:
            table = DeltaTable(self._uri, storage_options=self._options)
            table.vacuum(hours, dry_run=False, full=True)
        except Exception as error:
            if "retention" in str(error):  # a number of hours is all that is wrong with it
                raise SinkRefused(
                    f"{self._uri}: files are not to be deleted after {hours} hours: the table keeps"
                    " them longer; ask for no less, or set its property"
                    " delta.deletedFileRetentionDuration once no reader needs that long"
                ) from None
            raise self.words(error) from None

    def now_ms(self) -> int:
        """The time in milliseconds."""
        return self._now_ms()

    def words(self, error: Exception) -> SinkUnavailable | SinkRefused:
        """What the library says, in our words: of a store nothing is passed on."""
        if isinstance(error, DeltaProtocolError):
            return SinkRefused(
                f"{self._uri}: its log cannot be read or needs a feature that this version has not:"
                " update deltalake, or restore the table"
            )
        if isinstance(error, CommitFailedError):
            return Overtaken(f"{self._uri}: somebody else has committed; it is looked again")
        if is_url(self._uri):
            return in_words_of(self._uri, error)
        if not isinstance(error, DeltaError | OSError):
            raise error
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        return SinkUnavailable(f"{self._uri}: {reason}")


class DeltaVersion:
    """`LoadedTable`: holds one snapshot, on which its commit is made."""

    def __init__(self, table: DeltaTable, log: DeltaLog) -> None:
        self._table = table
        self._log = log

    @property
    def schema(self) -> pa.Schema:
        """See `LoadedTable.schema`."""
        return pa.schema(self._table.schema())

    @property
    def partition_by(self) -> tuple[str, ...]:
        """See `LoadedTable.partition_by`."""
        return tuple(self._table.metadata().partition_columns)

    def mark(self, name: str) -> int | None:
        """See `LoadedTable.mark`."""
        return self._table.transaction_version(name)

    def widen(self, columns: pa.Schema) -> None:
        """See `LoadedTable.widen`."""
        try:
            self._table.alter.add_columns(list(Schema.from_arrow(columns).fields))
        except Exception as error:
            raise self._log.words(error) from None

    def commit(self, files: Sequence[AddedFile], marks: Mapping[str, int]) -> None:
        """See `LoadedTable.commit`."""
        self._commit(self._added(files, True), marks, None)

    def files(self) -> Sequence[ListedFile]:
        """See `LoadedTable.files`."""
        if "deletionVectors" in (self._table.protocol().reader_features or ()):
            raise SinkRefused(
                "the table may have deletion vectors, which say of rows in files that they are no"
                " more: its files cannot be written anew by streamflow; switch the feature off"
            )
        rows = pa.table(self._table.get_add_actions(flatten=False)).to_pylist()
        return sorted((_listed(row) for row in rows), key=lambda file: file.name)

    def replace(
        self,
        added: Sequence[AddedFile],
        removed: Sequence[ListedFile],
        marks: Mapping[str, int],
        *,
        same_rows: bool,
    ) -> None:
        """See `LoadedTable.replace`. The library lets commits go on over others that it takes not
        to touch them, and does not look at what they remove: so it may try one version only.
        """
        now, changed = self._log.now_ms(), not same_rows
        gone = [RemoveAction(f.name, changed, now, f.nbytes, dict(f.values)) for f in removed]
        self._commit([*self._added(added, changed), *gone], marks, 0)

    def _added(self, files: Sequence[AddedFile], changed: bool) -> list[Any]:
        now = self._log.now_ms()
        return [AddAction(f.name, f.nbytes, f.values, now, changed, f.stats) for f in files]

    def _commit(self, actions: list[Any], marks: Mapping[str, int], retries: int | None) -> None:
        set_marks = [Transaction(name, number) for name, number in marks.items()]
        try:
            self._table.create_write_transaction(
                actions,
                "append",
                self._table.schema(),
                partition_by=list(self.partition_by),
                commit_properties=CommitProperties(
                    max_commit_retries=retries, app_transactions=set_marks
                ),
            )
        except Exception as error:
            raise self._log.words(error) from None


def _listed(row: Mapping[str, Any]) -> ListedFile:
    low, high = row.get("min") or {}, row.get("max") or {}
    times = {
        name: (value, _up(high[name]))
        for name, value in low.items()
        if isinstance(value, datetime) and isinstance(high.get(name), datetime)
    }
    values = {name: _text(value) for name, value in (row.get("partition") or {}).items()}
    return ListedFile(unquote(row["path"]), row["size_bytes"], values, times)


def _up(high: datetime) -> datetime:
    """The last time that this one, rounded down, may stand for."""
    return min(high, datetime.max.replace(tzinfo=high.tzinfo) - ROUNDED) + ROUNDED


def _text(value: Any) -> str | None:
    """A partition value as it stands in the log."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else str(value)


def storage_options(options: StoreOptions) -> dict[str, str]:
    """The same for the library's own client."""
    found = {"timeout": f"{_seconds(options.timeout)}s", "max_retries": str(TRIES - 1)}
    if options.endpoint is not None:
        found["aws_endpoint_url"] = options.endpoint
    if options.allow_http:
        found["allow_http"] = "true"
    return found


def _seconds(duration: timedelta) -> int:
    return max(round(duration.total_seconds()), 1)
