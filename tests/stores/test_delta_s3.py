"""Delta tables in a real S3 server: the contract, crashes, rivals, and answers that are lost."""

from collections.abc import Callable
from datetime import timedelta

import polars as pl
import pytest
from deltalake import DeltaTable

from streamflow.edges.delta_log import DeltaLog, storage_options
from streamflow.edges.object_files import ObjectFiles
from streamflow.edges.object_store import StoreOptions
from streamflow.engine.chain import chain_of
from streamflow.engine.failures import classify
from streamflow.engine.sink import CRASH_POINTS
from streamflow.errors import SinkUnavailable
from streamflow.ports import LoggedTable, TableLog
from streamflow.retry import ErrorClass
from streamflow.testing.contracts_table_log import LAWS
from tests.stores.exactly_once import (
    delta_crashes_leave_every_row_once,
    log_of,
    of_delta_owners_one_commits_each_row,
)
from tests.stores.proxy import Proxy, Trouble
from tests.stores.server import CREDENTIALS, WHERE, S3Server
from tests.unit.sink_log import partition, spec


def at(s3: S3Server, folder: str, endpoint: str | None = None) -> LoggedTable:
    options = StoreOptions(endpoint or s3.endpoint, True, timedelta(seconds=30))
    log = DeltaLog(f"{WHERE}/{folder}", options, lambda: 1_700_000_000_000)
    return LoggedTable(ObjectFiles(s3.store(endpoint), WHERE, folder), log)


def made(s3: S3Server, folder: str) -> None:
    chain_of(at(s3, folder)).agree(spec())


def read(s3: S3Server, folder: str) -> DeltaTable:
    options = storage_options(StoreOptions(s3.endpoint, True))
    return DeltaTable(f"{WHERE}/{folder}", storage_options=options)


def seen(s3: S3Server, folder: str) -> list[int]:
    return sorted(read(s3, folder).to_pyarrow_table()["id"].to_pylist())


#: The last one is about the log being cut short, which takes many commits and is the library's own.
@pytest.mark.parametrize("law", LAWS[:-1], ids=lambda law: law.__name__)
def test_the_contract_is_kept(law: Callable[[TableLog], None], s3: S3Server, fresh: str) -> None:
    law(at(s3, fresh).log)


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_at_any_step_leaves_every_row_once(s3: S3Server, fresh: str, point: str) -> None:
    delta_crashes_leave_every_row_once(lambda: at(s3, fresh), lambda: seen(s3, fresh), point)
    options = {"aws_endpoint_url": s3.endpoint, "aws_allow_http": "true"}
    frame = pl.scan_delta(f"{WHERE}/{fresh}", storage_options=options)
    assert frame.select(pl.len()).collect().item() == 17


def test_of_owners_at_once_one_commits_each_row(s3: S3Server, fresh: str) -> None:
    of_delta_owners_one_commits_each_row(lambda: at(s3, fresh), lambda: seen(s3, fresh))


@pytest.mark.parametrize("times", [1, 20])
def test_a_commit_whose_answer_is_lost_is_made_once(
    s3: S3Server, fresh: str, proxy: Proxy, times: int
) -> None:
    """Once: the client asks again by itself. For good: the log is loaded again, and has it."""
    log = log_of(4, 4, 1)
    made(s3, fresh)
    sink = partition(at(s3, fresh, proxy.endpoint))
    sink.open(0, log.end)
    trouble = Trouble(lambda method, path: method == "PUT" and "/_delta_log/" in path, times)
    proxy.troubles.append(trouble)
    sink.receive(log.fetch(0, log.end))
    assert (sink.done, trouble.times < times) == (True, True)
    assert seen(s3, fresh) == list(range(9))
    assert read(s3, fresh).version() == 3


def test_a_store_that_is_away_is_looked_at_again(s3: S3Server, fresh: str, proxy: Proxy) -> None:
    log = log_of(4, 4, 1)
    made(s3, fresh)
    sink = partition(at(s3, fresh, proxy.endpoint))
    sink.open(0, log.end)
    outage = Trouble(lambda method, path: "/_delta_log/" in path, 1000, status=503)
    proxy.troubles.append(outage)
    with pytest.raises(SinkUnavailable, match="answers 503") as told:
        sink.receive(log.fetch(0, log.end))
    assert classify(told.value) is ErrorClass.RESOURCE_EXHAUSTION
    outage.times = 0
    sink.receive(log.fetch(0, log.end))
    assert seen(s3, fresh) == list(range(9))


def test_wrong_credentials_are_said_and_never_shown(
    s3: S3Server, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(s3, fresh)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(SinkUnavailable, match="does not let us") as told:
        at(s3, fresh).log.load()
    words = f"{told.value!r} {told.value.__cause__!r}"
    assert "secret" not in words
    assert CREDENTIALS["AWS_ACCESS_KEY_ID"] not in words
    assert classify(told.value) is ErrorClass.PERMISSION
