"""Compares what came out with what had to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.log import Logged, Rows, found, read
from tests.chaos.oracle import expected


@dataclass(frozen=True)
class Verdict:
    """Rows by name that are missing, and that are there too often or should not be there at all."""

    records: int
    rows: dict[str, int]
    commits: int
    missing: dict[str, list[Any]]
    surplus: dict[str, list[Any]]

    @property
    def lost(self) -> int:
        return sum(len(rows) for rows in self.missing.values())

    @property
    def twice(self) -> int:
        return sum(len(rows) for rows in self.surplus.values())

    def examples(self, most: int = 5) -> list[str]:
        """Some of the rows that are wrong."""
        lines: list[str] = []
        for word, by_name in (("missing", self.missing), ("surplus", self.surplus)):
            for name, rows in by_name.items():
                lines += [f"{word} in {name}: {row!r}" for row in rows[:most]]
        return lines


async def judge(bootstrap: str, prefix: str, lake: Path) -> Verdict:
    """Read the source and everything that was made of it. Call it when the input has ended."""
    log = await read(bootstrap, f"{prefix}readings")
    got, commits = await found(bootstrap, prefix, lake)
    return compare(log, got, commits)


def compare(log: Sequence[Logged], got: Mapping[str, Rows], commits: int) -> Verdict:
    """What came out of a log against what had to."""
    wanted = expected(log)
    assert wanted.keys() == got.keys()
    return Verdict(
        len(log),
        {name: rows.total() for name, rows in wanted.items()},
        commits,
        {name: list((rows - got[name]).elements()) for name, rows in wanted.items()},
        {name: list((got[name] - rows).elements()) for name, rows in wanted.items()},
    )
