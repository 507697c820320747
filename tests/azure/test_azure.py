"""Tables in Azure's emulator: what holds in a real S3 server holds there."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from deltalake import DeltaTable

from streamflow.check.folders import check_store
from streamflow.edges.delta_log import DeltaLog, storage_options
from streamflow.edges.object_files import ObjectFiles
from streamflow.edges.object_store import StoreOptions, open_store
from streamflow.engine.failures import classify
from streamflow.engine.sink import CRASH_POINTS
from streamflow.errors import SinkUnavailable
from streamflow.ports import LoggedTable, TableFiles, TableLog
from streamflow.retry import ErrorClass
from streamflow.testing import contracts_files, contracts_table_log
from tests.azure.server import BINARY, CONTAINER, KEY, running_emulator
from tests.stores.exactly_once import (
    Faults,
    crashes_leave_no_trace,
    delta_crashes_leave_every_row_once,
    no_faults,
    of_delta_owners_one_commits_each_row,
    one_owner_wins_each_cut,
)

WHERE = f"abfs://{CONTAINER}"
#: The endpoint is that of an S3 server that other tables of the same worker lie in.
OPTIONS = StoreOptions("http://127.0.0.1:9", True, timedelta(seconds=30))

pytestmark = pytest.mark.usefixtures("azure")


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if not BINARY.exists():
        pytest.skip("Azure's emulator is not there: run `make azure`")
    with (
        pytest.MonkeyPatch.context() as patch,
        running_emulator(tmp_path_factory.mktemp("azure")) as environment,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


def opened(folder: str, faults: Faults = no_faults) -> ObjectFiles:
    return ObjectFiles(open_store(WHERE, OPTIONS), WHERE, folder, faults=faults)


def at(folder: str) -> LoggedTable:
    log = DeltaLog(f"{WHERE}/{folder}", OPTIONS, lambda: 1_700_000_000_000)
    return LoggedTable(opened(folder), log)


def seen(folder: str) -> list[int]:
    table = DeltaTable(f"{WHERE}/{folder}", storage_options=storage_options(OPTIONS))
    return sorted(table.to_pyarrow_table()["id"].to_pylist())


@pytest.mark.parametrize("law", contracts_files.LAWS, ids=lambda law: law.__name__)
def test_the_contract_is_kept(law: Callable[[TableFiles], None], fresh: str) -> None:
    law(opened(f"{fresh}/flights"))


@pytest.mark.parametrize("point", [*CRASH_POINTS, "temp", "linked"])
def test_a_crash_at_any_step_leaves_what_none_would_have_left(fresh: str, point: str) -> None:
    crashes_leave_no_trace(lambda name, faults: opened(f"{fresh}/{name}", faults), point)


def test_two_owners_race_for_each_cut_and_one_wins(fresh: str) -> None:
    one_owner_wins_each_cut(lambda: opened(fresh))


#: The last one takes many commits and is the library's own.
@pytest.mark.parametrize("law", contracts_table_log.LAWS[:-1], ids=lambda law: law.__name__)
def test_the_contract_of_logs_is_kept(law: Callable[[TableLog], None], fresh: str) -> None:
    law(at(fresh).log)


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_at_any_step_leaves_every_row_of_a_delta_table_once(fresh: str, point: str) -> None:
    delta_crashes_leave_every_row_once(lambda: at(fresh), lambda: seen(fresh), point)


def test_of_owners_at_once_one_commits_each_row(fresh: str) -> None:
    of_delta_owners_one_commits_each_row(lambda: at(fresh), lambda: seen(fresh))


def test_a_wrong_key_is_said_and_never_shown(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = KEY.replace("E", "F")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", wrong)
    with pytest.raises(SinkUnavailable, match="does not let us") as told:
        opened(fresh).create("a.parquet", b"abc")
    assert classify(told.value) is ErrorClass.PERMISSION
    words = f"{told.value!r} {told.value.__cause__!r}"
    assert wrong not in words


def test_the_check_finds_that_a_name_is_taken_once(fresh: str) -> None:
    found = check_store(f"{WHERE}/{fresh}/flights", lambda: opened(f"{fresh}/flights"))
    assert found.level == "ok", found.what


def test_a_container_that_is_not_there_is_said(fresh: str) -> None:
    store = open_store("abfs://no-such-container", OPTIONS)
    files = ObjectFiles(store, "abfs://no-such-container", fresh)
    with pytest.raises(SinkUnavailable, match="abfs://no-such-container is not there; make it"):
        files.create("a.parquet", b"abc")
