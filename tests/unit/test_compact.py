"""Small files of a plain table become larger ones: each row is there once at the end, and no row is
ever missing, wherever it is broken off.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from streamflow.cli import main
from streamflow.clock import SimulatedClock
from streamflow.compacting import compactor, owner_of, plain_table
from streamflow.core.compaction import Compaction, is_settled, last_cuts
from streamflow.core.origins import read_footer
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.compact import CRASH_POINTS, Compactor
from streamflow.engine.lease import LONGEST, lease
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError, SinkRefused, StateRefused
from tests.examples import examples
from tests.unit.sink_log import Crash, Log, drain, ids, partition, spec
from tests.unit.test_sink_laws import crash_at

MIB = 1024 * 1024
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000


def log_of(sizes: Sequence[int]) -> Log:
    log = Log()
    for size in sizes:
        log.commit(size)
    return log


def work(files: Any, faults: Callable[[str], None] = lambda _: None, days: int = 0) -> Compactor:
    return Compactor(files, "none", SimulatedClock(START + timedelta(days=days)), faults)


def filled(files: Any, sizes: Sequence[int]) -> Log:
    log = log_of(sizes)
    drain(partition(files), log)
    return log


def with_rows(files: Any) -> list[str]:
    names = [name for name in files.names() if name.endswith(".parquet")]
    return [n for n in names if pq.read_metadata(pa.BufferReader(files.read(n))).num_rows]


def test_many_small_files_become_one_in_each_folder(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path, "t")
    log = filled(files, [5, 9, 4, 6, 3, 3])
    before = files.names()
    [plan] = work(files).run(MIB)
    assert len(plan.packs) == 3
    assert [len(pack.of) for pack in plan.packs] == [4, 4, 4], "the last two cuts are left"
    assert set(before) < set(files.names()), "no name is free"
    assert len(with_rows(files)) == 3 + 6
    assert ids(files) == list(range(30))
    glob = f"{tmp_path}/t/**/*.parquet"
    with duckdb.connect() as connection:
        sql = f"select count(*), sum(id), count(distinct origin) from read_parquet('{glob}')"
        assert connection.sql(sql).fetchall() == [(30, sum(range(30)), 2)]
    assert pl.scan_parquet(glob).select(pl.len()).collect().item() == 30
    assert work(files).run(MIB) == []
    log.commit(5)
    drain(partition(files), log)
    assert ids(files) == list(range(35)), "the chain goes on as if nothing had been"


def test_the_larger_file_has_the_origin_of_its_rows_and_the_smaller_say_where_they_are() -> None:
    files = MemoryFiles()
    filled(files, [5, 9, 4, 6, 3])
    [plan] = work(files).run(MIB)
    for pack in plan.packs:
        footer = read_footer(pa.py_buffer(files.read(pack.name)))
        assert footer is not None
        assert orjson.loads(footer["sources"]) == {"in": [[3, 0, 18]]}
        assert orjson.loads(footer["origins"])[0]["rows_ranges"] == [[0, 8]]
        for source in pack.of:
            emptied = read_footer(pa.py_buffer(files.read(source.name)))
            assert emptied is not None
            assert emptied["compacted_into"] == pack.name
            assert orjson.loads(emptied["origins"])[0]["rows_topic"] == "app-flights-rows"


def test_what_is_compacted_can_be_compacted_again() -> None:
    files = MemoryFiles()
    log = filled(files, [5, 9, 4, 6])
    work(files).run(MIB)
    for _ in range(4):
        log.commit(5)
    drain(partition(files), log)
    plans = work(files).run(MIB)
    assert [plan.number for plan in plans] == [1]
    assert any("compacted-00000000" in s.name for pack in plans[0].packs for s in pack.of)
    assert ids(files) == list(range(44))


@pytest.mark.parametrize("point", [*CRASH_POINTS, "temp", "linked"])
@pytest.mark.parametrize("time", [0, 1, 5])
def test_a_crash_at_each_step_ends_with_the_same_rows(
    tmp_path: Path, point: str, time: int
) -> None:
    filled(LocalFiles(tmp_path, "t"), [5, 9, 4, 6])
    faults = crash_at(point, time)
    shaken = LocalFiles(tmp_path, "t", faults=faults)
    try:
        work(shaken, faults).run(MIB)
    except Crash:
        shaken.close()
        assert set(ids(LocalFiles(tmp_path, "t"))) == set(range(24)), "a row is missing"
    again = LocalFiles(tmp_path, "t")
    work(again).run(MIB)
    assert ids(again) == list(range(24))
    assert not work(again).unfinished()


@pytest.mark.slow
@examples(40)
@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=9),
    st.lists(st.tuples(st.sampled_from([*CRASH_POINTS, None]), st.integers(0, 6)), max_size=4),
    st.lists(st.sampled_from([4_000, 8_000, 20_000, MIB]), min_size=1),
    st.lists(st.integers(1, 4), max_size=3),
)
def test_crashes_rolls_and_vacuums_lose_and_repeat_nothing(
    sizes: list[int],
    crashes: list[tuple[str | None, int]],
    targets: list[int],
    more: list[int],
) -> None:
    files, log = MemoryFiles(), log_of(sizes)
    drain(partition(files), log)
    for i, (point, time) in enumerate(crashes):
        target = targets[i % len(targets)]
        try:
            work(files, crash_at(point or "none", time), days=i * 5).run(target)
        except Crash:
            assert set(ids(files)) == set(range(log.rows))
            continue
        assert ids(files) == list(range(log.rows))
        if more:
            log.commit(more.pop())
            drain(partition(files), log)
        work(files, days=i * 5).vacuum(7 * DAY_MS)
    work(files, days=100).run(targets[-1])
    work(files, days=200).vacuum(7 * DAY_MS)
    assert ids(files) == list(range(log.rows))


@pytest.mark.slow
@examples(30)
@given(st.data(), st.lists(st.integers(1, 7), min_size=4, max_size=6))
def test_two_at_once_and_a_sink_make_one_table(data: st.DataObject, sizes: list[int]) -> None:
    """There is a lease, and nothing depends on it."""
    files, log = MemoryFiles(), log_of(sizes)
    drain(partition(files), log)
    left = [4]

    def another(_: str) -> None:
        if left[0] and data.draw(st.integers(0, 3)) == 0:
            left[0] -= 1
            if data.draw(st.booleans()):
                work(files, another).run(data.draw(st.sampled_from([6_000, 20_000, MIB])))
            else:
                log.commit(data.draw(st.integers(1, 5)))
                drain(partition(files), log)
            assert set(ids(files)) == set(range(log.rows))

    work(files, another).run(MIB)
    work(files).run(MIB)
    assert ids(files) == list(range(log.rows))


@pytest.mark.parametrize("point", ["cut", "files-written"])
def test_a_sink_that_wakes_up_in_an_old_roll_makes_nothing_anew(point: str) -> None:
    files, log, slept = MemoryFiles(), log_of([4, 4, 4, 4, 4]), [False]

    def faults(name: str) -> None:
        if name == point and not slept[0]:
            slept[0] = True
            drain(partition(files), log)
            log.first = 0
            work(files).run(MIB)

    sleeper = partition(files, spec(target_bytes=1), faults=faults)
    drain(sleeper, log)
    assert ids(files) == list(range(20))


def test_files_are_deleted_only_when_they_have_been_without_rows_for_long() -> None:
    files = MemoryFiles()
    filled(files, [5, 9, 4, 6])
    [plan] = work(files).run(MIB)
    assert work(files, days=6).vacuum(7 * DAY_MS) == []
    gone = work(files, days=7).vacuum(7 * DAY_MS)
    assert sorted(gone) == sorted(source.name for pack in plan.packs for source in pack.of)
    assert not set(gone) & set(files.names())
    assert ids(files) == list(range(24))
    assert work(files, days=8).vacuum(7 * DAY_MS) == []


def test_what_is_not_ours_or_was_changed_is_left_or_named() -> None:
    files = MemoryFiles()
    filled(files, [5, 9, 4, 6])
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [99]}), stream)
    other = stream.getvalue().to_pybytes()
    for i in range(3):
        files.create(f"origin=EWR/other-{i}.parquet", other)
    plan = work(files).next(MIB)
    assert not any("other" in source.name for pack in plan.packs for source in pack.of)
    with pytest.raises(Crash):
        work(files, crash_at("planned", 0)).run(MIB)
    files.replace(plan.packs[0].of[0].name, other)
    with pytest.raises(SinkRefused, match="was it changed by hand"):
        work(files).run(MIB)


def test_files_of_the_last_two_cuts_are_not_settled() -> None:
    private = ["t-00003-00000004.json", "t-00003-00000005.json", "t-00003-00000001.summary.json"]
    last = last_cuts([*private, "owner.json", "compaction-00000000.json"])
    assert last == {"t-00003": 5}
    assert is_settled("a=b/t-00003-00000003-00000.parquet", last)
    assert not is_settled("a=b/t-00003-00000004-00000.parquet", last)
    assert not is_settled("t-00004-00000000-00000.parquet", last), "its chain is not here"
    assert is_settled("a=b/compacted-00000000-00000.parquet", last)


def test_what_is_to_be_done_is_told_before_a_file_is_changed() -> None:
    files = MemoryFiles()
    filled(files, [5, 9, 4, 6])
    there = set(files.names())
    told: list[int] = []

    def before(plan: Compaction) -> None:
        assert plan.packs
        assert set(files.names()) == there
        assert len(with_rows(files)) == len(there)
        told.append(plan.number)

    assert [plan.number for plan in work(files).run(MIB, before)] == told == [0]
    assert work(files).run(MIB, before) == []
    assert told == [0]


def test_a_lease_is_held_by_one_and_runs_out() -> None:
    files, clock = MemoryFiles(), SimulatedClock(START)
    with lease(files, "a", clock):
        with (
            pytest.raises(StateRefused, match="a is rewriting this table"),
            lease(files, "b", clock),
        ):
            pass
        clock.advance(LONGEST)
        with lease(files, "b", clock), pytest.raises(StateRefused), lease(files, "d", clock):
            pass
    assert files.names(private=True) == []
    with lease(files, "c", clock):
        pass
    with ExitStack() as slow:
        slow.enter_context(lease(files, "a", clock))
        clock.advance(LONGEST)
        with lease(files, "b", clock):
            slow.close()
            with pytest.raises(StateRefused, match="b is"), lease(files, "c", clock):
                pass
    assert files.names(private=True) == []


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    files = LocalFiles(tmp_path, "flights")
    filled(files, [5, 9, 4, 6, 3])
    files.close()
    return tmp_path


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["compact", *words])


def test_the_command_says_what_it_does(lake: Path) -> None:
    options = ("flights", "--lake", str(lake), "--no-broker")
    shown = run(*options, "--dry-run")
    assert "9 files would become 3, with 18 rows" in shown.output
    assert len(LocalFiles(lake, "flights").names()) == 15
    done = run(*options, "--json")
    assert "readers may see rows twice until this has ended" in done.stderr
    assert "rows of 3 files; 0 to go" in done.stderr
    found = orjson.loads(done.stdout)
    assert (found["rows"], len(found["joined"]), found["dry_run"]) == (18, 3, False)
    assert ids(LocalFiles(lake, "flights")) == list(range(27))
    again = run(*options)
    assert again.stdout == "flights: there is nothing to join\n"
    assert again.stderr == "", "nobody is warned of what is not done"
    assert "0 files without rows deleted" in run(*options, "--vacuum").output
    for more, words in (
        (("--vacuum", "--dry-run"), "leave --dry-run or --vacuum out"),
        (("--vacuum", "--target-mib", "9"), "leave --target-mib or --vacuum out"),
        (("--older-than-days", "9"), "--older-than-days is of --vacuum: give that too"),
        (("--broker", "h:1"), "leave --broker or --no-broker out"),
    ):
        refused = run(*options, *more)
        assert refused.exit_code == 2
        assert words in refused.output
    assert len(with_rows(LocalFiles(lake, "flights"))) == 9


def test_the_command_asks_whether_workers_run(lake: Path) -> None:
    """And where no broker answers nobody knows."""
    options = ("flights", "--lake", str(lake), "--broker", "127.0.0.1:1")
    refused = CliRunner(env={"STREAMFLOW_BROKER_WAIT": "0"}).invoke(main, ["compact", *options])
    assert refused.exit_code == 2
    assert "127.0.0.1:1" in refused.output
    assert len(with_rows(LocalFiles(lake, "flights"))) == 15


def test_what_cannot_be_compacted_is_refused(lake: Path) -> None:
    settings = Settings.load(lake=str(lake))
    for path, words in (
        ("delta:flights", "its workers join its small files"),
        ("ftp://bucket/flights", "ftp:// is no store that is known"),
        ("other", "is no table of streamflow"),
    ):
        with pytest.raises(SettingsError, match=words):
            plain_table(settings, path)
    known = f"it is a table's path below the lake '{lake}'; its tables are flights$"
    for path, words in (
        ("", f"^TABLE '' names no table: {known}"),
        (".", f"^TABLE '.' names no table: {known}"),
        ("/", f"^TABLE '/' is no path below the lake: {known}"),
        ("../x", f"^TABLE '../x' is no path below the lake: {known}"),
        ("a/../flights", "is no path below the lake"),
        (str(lake / "flights"), f"; say 'flights' with --lake {lake}$"),
        (str(lake / "other"), known),
        ("flights.streamflow", "private folder of a table: say 'flights'$"),
        ("other", f"^{lake}/other is no table of .* beside it; its tables are flights$"),
    ):
        with pytest.raises(SettingsError, match=words):
            plain_table(settings, path)
    with pytest.raises(SettingsError, match="there is no table in that lake; is --lake right"):
        plain_table(Settings.load(lake=str(lake / "none")), "flights")
    assert plain_table(settings, "./flights/").names() == LocalFiles(lake, "flights").names()
    for i in range(6):
        (lake / "sub" / f"t{i}.streamflow").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"are flights, sub/t0, .*, sub/t3 and 2 more$"):
        plain_table(settings, "other")
    (lake / "flights" / "_delta_log").mkdir()
    with pytest.raises(SettingsError, match="is a Delta table"):
        plain_table(settings, "flights")
    assert owner_of(LocalFiles(lake, "flights")) == "app"
    with pytest.raises(SettingsError, match="nobody knows whose table"):
        owner_of(MemoryFiles())


def test_larger_files_are_written_as_the_last_roll_was() -> None:
    files = MemoryFiles()
    filled(files, [5, 9, 4, 6])
    compactor(files, clock=SimulatedClock(START)).run(MIB)
    written = [name for name in files.names() if "compacted" in name]
    column = pq.read_metadata(pa.BufferReader(files.read(written[0]))).row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert ids(files) == list(range(24))
