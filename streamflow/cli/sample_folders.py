"""The columns that Hive-style folders of a data set name, `column=value/`, and their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from streamflow.core.folder_name import DEFAULT_PARTITION


def folder_values(files: Sequence[tuple[Path, Path]]) -> Mapping[str, Sequence[str | None]]:
    """The different values of each column that folders name, of files below roots."""
    found: dict[str, dict[str | None, None]] = {}
    for root, file in files:
        for part in file.relative_to(root).parts[:-1]:
            name, equals, value = part.partition("=")
            if name and equals:
                known = None if value == DEFAULT_PARTITION else unquote(value)
                found.setdefault(unquote(name), {})[known] = None
    return {name: list(values) for name, values in found.items()}
