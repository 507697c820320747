"""Where a table in an object store lies, what is refused of its address, what its errors say."""

from datetime import timedelta
from pathlib import Path

import obstore.exceptions as told
import pytest
from obstore.store import AzureStore, MemoryStore, S3Store

from streamflow import parquet
from streamflow.check import check_folders
from streamflow.destinations import Parquet
from streamflow.edges.local_files import LocalFiles
from streamflow.edges.object_files import ObjectFiles
from streamflow.edges.object_store import StoreOptions, in_words, open_store
from streamflow.engine.failures import classify
from streamflow.engine.settings import Settings
from streamflow.errors import SettingsError, SinkRefused, SinkUnavailable, TopologyError
from streamflow.retry import ErrorClass
from streamflow.table_files import table_files
from tests.unit.sink_log import Log, drain, ids, partition
from topologies.flights import topology

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "sink"),
    [
        ("s3://my-bucket/lake/flights", "s3-my-bucket-lake-flights"),
        ("gs://my_bucket.example/flights", "gs-my_bucket.example-flights"),
        (
            "abfs://a-b@mine.dfs.core.windows.net/c/d",
            "abfs-a-b-mine.dfs.core.windows.net-c-d",
        ),
        ("abfss://lake/flights", "abfss-lake-flights"),
    ],
)
def test_a_table_can_lie_in_a_store(url: str, sink: str) -> None:
    table = parquet(url)
    assert (table.path, table.name) == (url, sink)
    assert table.folder == url.split("://")[1]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory://lake/flights", "memory:// is no store that is known; it is one of s3, gs, abfs"),
        ("http://server/flights", "http:// is no store that is known"),
        ("s3://lake", "a table is a folder of its own below"),
        ("s3://lake/", "a table is a folder of its own below"),
        ("s3://Lake/flights", "'Lake' is no name of a bucket"),
        ("s3:///flights", "s3:// is followed by no name of a bucket: say s3://bucket/folder"),
        ("s3://", "s3:// is followed by no name of a bucket"),
        ("abfs://", "say abfs://container/folder"),
        ("s3://lake/../flights", "no plain folder"),
        ("s3://lake/a//b", "no plain folder"),
        ("s3://lake/a b", "no plain folder"),
        ("s3://lake/flights.streamflow", r"hold what belongs to a table"),
        ("abfs://la_ke/flights", "'la_ke' is no name of a container"),
        (f"s3://key:{SECRET}@lake/flights", "credentials come from the environment"),
        (f"s3://{SECRET}@lake/flights", "credentials come from the environment"),
        (f"s3://lake/flights?key={SECRET}", "credentials come from the environment"),
        (f"abfs://lake@account:{SECRET}/flights", "credentials come from the environment"),
    ],
)
def test_an_address_that_names_no_table_is_refused_and_not_repeated(url: str, words: str) -> None:
    with pytest.raises(TopologyError, match=words) as refused:
        parquet(url)
    assert SECRET not in str(refused.value)


def test_a_lake_can_be_a_store(tmp_path: Path) -> None:
    inside = Settings.load(lake="s3://my-bucket/lake/")
    assert (inside.lake, inside.lake_folder) == ("s3://my-bucket/lake", None)
    files = table_files(inside, "flights")
    assert isinstance(files, ObjectFiles)
    assert files._url(files._key("a.parquet", private=False)) == (
        "s3://my-bucket/lake/flights/a.parquet"
    )
    on_disk = Settings.load(lake=str(tmp_path))
    assert on_disk.lake_folder == tmp_path
    assert isinstance(table_files(on_disk, "flights"), LocalFiles)
    assert isinstance(table_files(on_disk, "s3://my-bucket/flights"), ObjectFiles)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("lake", f"s3://key:{SECRET}@lake", "credentials come from the environment"),
        ("lake", "ftp://lake", "ftp:// is no store that is known"),
        (
            "store_endpoint",
            f"http://key:{SECRET}@127.0.0.1:9000",
            "an endpoint is http://HOST:PORT",
        ),
        (
            "store_endpoint",
            f"http://127.0.0.1:9000?key={SECRET}",
            "an endpoint is http://HOST:PORT",
        ),
        ("store_endpoint", "127.0.0.1:9000", "an endpoint is http://HOST:PORT"),
    ],
)
def test_a_setting_that_names_no_store_is_refused_and_no_secret_is_shown(
    setting: str, value: str, words: str
) -> None:
    with pytest.raises(SettingsError, match=words) as refused:
        Settings.load(**{setting: value})
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9000", "https://s3.example.com", "http://[::1]:9"]
)
def test_an_endpoint_is_an_address_of_a_server(endpoint: str) -> None:
    made = Settings.load(store_endpoint=endpoint, store_allow_http=True)
    assert made.store_endpoint == endpoint


def test_an_endpoint_is_for_s3_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may write tables in an S3 server of its own and in Azure at once."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    options = StoreOptions("https://store:9000")
    mine, theirs = open_store("s3://lake", options), open_store("abfs://lake", options)
    assert isinstance(mine, S3Store)
    assert mine.config.get("endpoint") == options.endpoint
    assert isinstance(theirs, AzureStore)
    assert "endpoint" not in theirs.config


def test_an_endpoint_without_encryption_has_to_be_meant() -> None:
    """Else every request fails as if nobody were there."""
    with pytest.raises(SettingsError, match=r"is not encrypted; .* STREAMFLOW_STORE_ALLOW_HTTP"):
        Settings.load(store_endpoint="http://store:9000")
    assert Settings.load(store_endpoint="https://store:9000").store_allow_http is False


def test_a_store_whose_account_nobody_names_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(SettingsError, match=r"no account is named.*AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("abfs://lake", StoreOptions())


def said(error: Exception) -> SinkUnavailable | SinkRefused:
    with pytest.raises((SinkUnavailable, SinkRefused)) as raised, in_words("s3://lake/flights"):
        raise error
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    return raised.value


BODY = f"<Error><Code>SlowDown</Code><AWSAccessKeyId>{SECRET}</AWSAccessKeyId></Error>"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (f"status code: 503 Slow: {BODY}", ErrorClass.RESOURCE_EXHAUSTION, "answers 503 SlowDown"),
        (f"status code: 400 Bad: {BODY}", ErrorClass.LOGIC, "answers 400 SlowDown"),
        (f"status code: 404 Not Found: {BODY}", ErrorClass.PERMISSION, "does not let us (404"),
        (f"status code: 502 Bad: sig={SECRET}", ErrorClass.NETWORK, "answers 502"),
        (f"error sending {SECRET} kind: Timeout", ErrorClass.TIMEOUT, "did not answer in time"),
        (f"error sending {SECRET} kind: Connect", ErrorClass.NETWORK, "cannot be reached"),
        ("Received redirect without LOCATION", ErrorClass.LOGIC, "set AWS_REGION"),
        ("PUT http://169.254.169.254/latest", ErrorClass.PERMISSION, "there are no credentials"),
    ],
)
def test_an_error_of_a_store_has_a_kind_and_passes_nothing_on(
    answer: str, kind: ErrorClass, words: str
) -> None:
    error = said(told.GenericError(answer))
    assert isinstance(error, SinkUnavailable)
    assert words in str(error)
    assert SECRET not in str(error)
    assert classify(error) is kind


@pytest.mark.parametrize(
    "error", [told.NotSupportedError("no"), told.GenericError("status code: 501 Not Implemented")]
)
def test_a_store_without_conditional_puts_is_refused(error: Exception) -> None:
    assert isinstance(said(error), SinkRefused)


def test_a_key_longer_than_a_store_takes_is_refused() -> None:
    files = ObjectFiles(MemoryStore(), "memory://", "flights")
    name = "/".join(["month=" + "x" * 200] * 5) + "/a.parquet"
    with pytest.raises(SinkRefused, match="more than 1024 bytes"):
        files.create(name, b"")
    assert files.names() == []


def test_a_worker_checks_the_store_of_each_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    settings = Settings.load(
        lake="s3://my-bucket/lake",
        store_endpoint="http://127.0.0.1:1",
        store_allow_http=True,
        store_timeout=timedelta(seconds=2),
        state_dir=tmp_path,
    )
    found = [f for f in check_folders(topology, settings) if f.check == "lake"]
    assert [f.level for f in found] == ["problem", "problem"]
    for finding, table in zip(found, ("flights", "hourly"), strict=True):
        assert finding.what.startswith(f"table 's3://my-bucket/lake/{table}' cannot be written: ")
        assert finding.what.endswith(
            "the store cannot be reached; is it there, and is its address right?"
        )


def test_a_file_that_is_there_and_is_not_the_cuts_stops_the_sink() -> None:
    """Nothing is written over it, and its rows are not taken for those of the cut."""
    log = Log()
    log.commit(6, end_of_input=True)
    whole = ObjectFiles(MemoryStore(), "memory://", "whole")
    drain(partition(whole), log)
    names = whole.names()
    other = Log()
    other.commit(9, end_of_input=True)
    larger = ObjectFiles(MemoryStore(), "memory://", "larger")
    drain(partition(larger), other)
    for data, words in [
        (b"", "is no Parquet file"),
        (b"PAR1 half of a file", "is no Parquet file"),
        (b"\0\0\0\0\xff\xff\xff\x00PAR1", "is no Parquet file"),
        (larger.read(names[0]), "has 3 rows, and cut 1"),
    ]:
        log.first = 0
        files = ObjectFiles(MemoryStore(), "memory://", "flights")
        files.create(names[0], data)
        with pytest.raises(SinkRefused, match=words):
            drain(partition(files), log)
        assert files.read(names[0]) == data
    log.first = 0
    files = ObjectFiles(MemoryStore(), "memory://", "flights")
    files.create(names[0], whole.read(names[0]))
    drain(partition(files), log)
    assert ids(files) == list(range(6))


def test_a_run_on_this_machine_writes_the_tables_of_stores_into_its_folder() -> None:
    assert Parquet("s3://my-bucket/lake/flights").folder == "my-bucket/lake/flights"
    assert Parquet("lake/flights").folder == "lake/flights"


def test_a_file_that_somebody_else_puts_at_the_same_moment_is_looked_at() -> None:
    log, files = Log(), ObjectFiles(MemoryStore(), "memory://", "flights")
    log.commit(6, end_of_input=True)
    name = "origin=EWR/app-flights-rows-00003-00000001-00000.parquet"

    def at_once(point: str) -> None:
        if point == "files-written" and not files.exists(name):
            files.create(name, b"something else")

    with pytest.raises(SinkRefused, match="is no Parquet file"):
        drain(partition(files, faults=at_once), log)
