"""Numbers of things, in words that agree with them: 1 row, 2,000 rows."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """So many things: a single one is called `one`, and others `many`, or else `one` with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
