"""The storage plan of a table: how each column is written, and the numbers that say why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
import pyarrow as pa
from pydantic import ConfigDict, TypeAdapter, ValidationError

from streamflow.clock import Timer
from streamflow.core.parquet import encode_parquet, leaf_columns
from streamflow.errors import SettingsError, TopologyError
from streamflow.storage.profile import ColumnProfile, profile
from streamflow.storage.score import choose
from streamflow.storage.trial import Trial, chunk_bytes, try_column
from streamflow.writer_settings import Aim, WriterSettings, known_to

FORMAT: Final = 1

#: What pyarrow writes when it is told "zstd", or nothing but its own defaults.
ZSTD: Final = WriterSettings("pyarrow-2", "zstd", None, 1 << 20, page_index=False)
SNAPPY: Final = WriterSettings("pyarrow-2", "snappy", None, 1 << 20, page_index=False)


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """One column: what its values are like, the way that was chosen, and all that were tried.

    `zstd_bytes` and `snappy_bytes` are what pyarrow's defaults make of it.
    """

    profile: ColumnProfile
    chosen: Trial
    zstd_bytes: int
    snappy_bytes: int
    trials: tuple[Trial, ...]

    @property
    def path(self) -> str:
        return self.profile.path


@dataclass(frozen=True, slots=True)
class Plan:
    """How the files of a table are written.

    Attributes:
        schema_id: Of the rows it is for.
        aim: What it was chosen for.
        number: Of the plans for this schema and aim, from 0.
        reason: Why it was made.
        rows: How many the sample had.
        settings: What the files are written with.
        bytes: What the sample takes as a file; with `zstd_bytes` and `snappy_bytes` for pyarrow's
            defaults.
        seconds: What it took to make it, of a processor.
    """

    schema_id: str
    aim: Aim
    number: int
    reason: str
    rows: int
    settings: WriterSettings
    bytes: int
    zstd_bytes: int
    snappy_bytes: int
    seconds: float
    columns: tuple[ColumnPlan, ...]

    # What a newer version adds has a meaning that this one would miss.
    __pydantic_config__ = ConfigDict(extra="forbid")

    @property
    def name(self) -> str:
        """Its private name beside the table."""
        return plan_name(self.schema_id, self.aim, self.number)

    @property
    def profile(self) -> list[ColumnProfile]:
        """What the sample was like."""
        return [column.profile for column in self.columns]


_PLAN = TypeAdapter(Plan)


def make_plan(
    sample: pa.Table, aim: Aim, timer: Timer, schema_id: str = "", reason: str = "first rows"
) -> Plan:
    """Measure the best way to write rows like these.

    On the sample its file is never larger than pyarrow's with zstd: where the choice of each column
    does not come out smaller, it is pyarrow's defaults.
    """
    started = timer()
    zstd, snappy = (encode_parquet(sample, settings, {}) for settings in (ZSTD, SNAPPY))
    zstd_sizes, snappy_sizes = chunk_bytes(zstd), chunk_bytes(snappy)
    unnamed = {leaf.path for leaf in leaf_columns(sample.schema) if not leaf.named}
    columns: list[ColumnPlan] = []
    for name, leaves in _by_column(profile(sample), unnamed):
        trials = try_column(sample.select([name]), leaves, aim, timer)
        for leaf in leaves:
            tried = tuple(trials[leaf.path])
            sizes = zstd_sizes[leaf.path], snappy_sizes[leaf.path]
            columns.append(ColumnPlan(leaf, choose(tried, aim), *sizes, tried))
    chosen = tuple(column.chosen.settings(column.path) for column in columns)
    settings, size = ZSTD, zstd.size
    for planned in (
        WriterSettings(columns=chosen),
        WriterSettings(page_index=False, columns=chosen),
    ):
        planned_size = encode_parquet(sample, planned, {}).size
        if planned_size < zstd.size:
            settings, size = planned, planned_size
            break
    return Plan(
        schema_id=schema_id,
        aim=aim,
        number=0,
        reason=reason,
        rows=sample.num_rows,
        settings=settings,
        bytes=size,
        zstd_bytes=zstd.size,
        snappy_bytes=snappy.size,
        seconds=round(timer() - started, 6),
        columns=tuple(columns),
    )


def _by_column(
    leaves: Sequence[ColumnProfile], unnamed: set[str]
) -> Iterable[tuple[str, list[ColumnProfile]]]:
    """The leaves of each column, without columns of which a leaf cannot be named."""
    columns: dict[str, list[ColumnProfile]] = {}
    for leaf in leaves:
        columns.setdefault(leaf.column, []).append(leaf)
    return [
        (name, some)
        for name, some in columns.items()
        if not any(leaf.path in unnamed for leaf in some)
    ]


def plan_name(schema_id: str, aim: Aim, number: int) -> str:
    """The private name of a plan."""
    return f"plan-{schema_id}-{aim}-{number:05d}.json"


_NAME = re.compile(r"plan-([0-9a-f]*)-([a-z-]+)-(\d{5,})\.json")


def plan_names(
    names: Iterable[str], schema_id: str | None = None, aim: Aim | None = None
) -> list[str]:
    """The plans among `names`, of one schema and aim where they are given, oldest first."""
    found = [match for match in map(_NAME.fullmatch, names) if match]
    wanted = [m for m in found if schema_id in (None, m[1]) and aim in (None, m[2])]
    return [match[0] for match in sorted(wanted, key=lambda m: (m[1], m[2], int(m[3])))]


def encode_plan(plan: Plan) -> bytes:
    """Its JSON."""
    document = _PLAN.dump_python(plan, mode="json")
    return orjson.dumps({"format": FORMAT, **document, "settings": known_to(document["settings"])})


def decode_plan(data: bytes, name: str) -> Plan:
    """The plan that the file `name` holds. Raises `SettingsError` when it cannot be read."""
    try:
        document: dict[str, Any] = orjson.loads(data)
        found = document.pop("format", None)
        if found != FORMAT:
            raise SettingsError(
                f"storage plan {name}: its format is {found!r}, this version knows {FORMAT}"
            )
        return _PLAN.validate_json(orjson.dumps(document), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"storage plan {name}: {where}: {first['msg']}") from None
    except (orjson.JSONDecodeError, AttributeError, TypeError, TopologyError) as error:
        raise SettingsError(f"storage plan {name} is damaged: {error}") from None


def numbered(plan: Plan, number: int) -> Plan:
    """The plan under another number."""
    return replace(plan, number=number)
