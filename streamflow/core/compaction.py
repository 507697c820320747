"""The plan of a compaction: which small files of a plain table become which larger ones, written
down before any file is touched.

Plans are numbered, each under a name that can be taken once, and an earlier one is finished before
a later one is made. So whoever carries a plan out, and however often, makes the same of the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from streamflow.errors import SinkRefused

FORMAT: Final = 1
#: In the footer of a file whose rows are in another one now, that one's name.
MOVED_TO: Final = "compacted_into"
_PLAN_NAME = re.compile(r"compaction-(\d{8})(\.done)?\.json")
_CUT_NAME = re.compile(r"(.+-\d{5,})-(\d{8,})\.json")
_DATA_NAME = re.compile(r"(.+-\d{5,})-(\d{8,})-\d{5,}\.parquet")


@dataclass(frozen=True, slots=True)
class Source:
    """A file whose rows are moved."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Pack:
    """A file that is made of others."""

    name: str
    of: tuple[Source, ...]

    @property
    def rows(self) -> int:
        return sum(source.rows for source in self.of)


@dataclass(frozen=True, slots=True)
class Compaction:
    """Compaction `number` of a table."""

    number: int
    packs: tuple[Pack, ...]

    __pydantic_config__ = ConfigDict(extra="forbid")

    @property
    def name(self) -> str:
        """Its private name beside the table."""
        return f"compaction-{self.number:08d}.json"

    @property
    def done_name(self) -> str:
        """The private name that says that it is done."""
        return f"compaction-{self.number:08d}.done.json"


_COMPACTION = TypeAdapter(Compaction)


def new_name(folder: str, number: int, i: int) -> str:
    """The name of file `i` of a compaction, of which there is one by that name."""
    return f"{folder}compacted-{number:08d}-{i:05d}.parquet"


def encode_compaction(plan: Compaction) -> bytes:
    """Its JSON."""
    document = {"format": FORMAT, **_COMPACTION.dump_python(plan, mode="json")}
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def decode_compaction(data: bytes, name: str) -> Compaction:
    """The plan that the file `name` holds. Raises `SinkRefused` when it cannot be read."""
    try:
        document: dict[str, Any] = orjson.loads(data)
        if document.pop("format", None) != FORMAT:
            raise SinkRefused(f"{name}: its format is not {FORMAT}; use the version that wrote it")
        return _COMPACTION.validate_json(orjson.dumps(document), strict=True)
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValidationError) as error:
        raise SinkRefused(f"{name} cannot be read: {error}; restore it from a backup") from None


def plans_in(names: Iterable[str]) -> tuple[list[int], list[int]]:
    """The numbers of the compactions among private names, and of those that are done."""
    found = [match for match in map(_PLAN_NAME.fullmatch, names) if match]
    planned = sorted(int(match[1]) for match in found if not match[2])
    return planned, sorted(int(match[1]) for match in found if match[2])


def last_cuts(names: Iterable[str]) -> dict[str, int]:
    """The number of the last cut of each chain, among the private names of a table."""
    last: dict[str, int] = {}
    for match in map(_CUT_NAME.fullmatch, names):
        if match:
            last[match[1]] = max(last.get(match[1], 0), int(match[2]))
    return last


def is_settled(name: str, last: dict[str, int]) -> bool:
    """Is it a data file that no chain will look at again? Its last two cuts may be finished once
    more; whatever has another name than those of cuts is in none.
    """
    match = _DATA_NAME.fullmatch(name.rpartition("/")[2])
    if match is None:
        return True
    return match[1] in last and int(match[2]) < last[match[1]] - 1
