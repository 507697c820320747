"""The versions of a table's columns that there are, and their numbers."""

from __future__ import annotations

from streamflow.core.table_schema import TableSchema, decode_schema, schema_names
from streamflow.ports import TableFiles


def versions(files: TableFiles) -> list[TableSchema]:
    """All there are, oldest first. Raises `SinkRefused` where one is damaged."""
    names = schema_names(files.names(private=True))
    return [decode_schema(files.read(name, private=True), name) for name in names]


class Numbers:
    """The numbers of the versions of one table, by their ids."""

    def __init__(self, files: TableFiles) -> None:
        self._files = files
        self._known: dict[str, int] = {}

    def of(self, schema_id: str) -> int | None:
        """The version of rows with this schema; None where the table never agreed to it.

        A version is never changed, so it is looked for once.
        """
        if schema_id not in self._known:
            self._known = {version.id: version.number for version in versions(self._files)}
        return self._known.get(schema_id)
