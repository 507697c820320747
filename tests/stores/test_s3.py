"""A table in a real S3 server: the contract, the exactly-once laws, and answers that are lost."""

import threading
from collections.abc import Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pyarrow.fs
import pytest

from streamflow import delta, parquet
from streamflow.check.folders import check_store
from streamflow.check.tables import check_tables
from streamflow.edges.object_files import ObjectFiles
from streamflow.edges.object_store import StoreOptions, open_store
from streamflow.engine.failures import classify
from streamflow.engine.settings import Settings
from streamflow.engine.sink import CRASH_POINTS
from streamflow.errors import SinkRefused, SinkUnavailable
from streamflow.ports import TableFiles
from streamflow.retry import ErrorClass
from streamflow.testing.contracts_files import LAWS
from tests.stores.exactly_once import crashes_leave_no_trace, log_of, one_owner_wins_each_cut
from tests.stores.proxy import Proxy, Trouble
from tests.stores.server import BUCKET, CREDENTIALS, LOOPBACK, WHERE, S3Server
from tests.unit.sink_log import drain, ids, partition
from tests.unit.test_check_tables import Noted, Sale, Text, of, start


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_contract_is_kept(law: Callable[[TableFiles], None], files: ObjectFiles) -> None:
    law(files)


@pytest.mark.parametrize("point", [*CRASH_POINTS, "temp", "linked"])
def test_a_crash_at_any_step_leaves_what_none_would_have_left(
    s3: S3Server, fresh: str, point: str
) -> None:
    crashes_leave_no_trace(
        lambda name, faults: ObjectFiles(s3.store(), WHERE, f"{fresh}/{name}", faults=faults),
        point,
    )


def test_two_owners_race_for_each_cut_and_one_wins(s3: S3Server, fresh: str) -> None:
    one_owner_wins_each_cut(lambda: ObjectFiles(s3.store(), WHERE, fresh))


def puts(part: str) -> Callable[[str, str], bool]:
    return lambda method, path: method == "PUT" and part in path


def test_a_put_whose_answer_is_lost_is_known_as_ones_own(
    s3: S3Server, fresh: str, proxy: Proxy
) -> None:
    files = ObjectFiles(s3.store(proxy.endpoint), WHERE, fresh)
    files.create("before.parquet", b"")
    proxy.troubles.append(Trouble(puts("/a.parquet")))
    assert files.create("a.parquet", b"abc")
    assert [path for method, path in proxy.passed if method == "PUT" and "a.par" in path] == [
        f"/{BUCKET}/{fresh}/a.parquet"
    ] * 2
    assert not files.create("a.parquet", b"abc")


@pytest.mark.parametrize("lost", [puts("00000001.json"), puts("-00000001-00000.parquet")])
def test_a_sink_that_never_hears_of_its_put_goes_on_where_it_was(
    s3: S3Server, fresh: str, proxy: Proxy, lost: Callable[[str, str], bool]
) -> None:
    """All tries of the client are lost: the sink is told, and tries again later."""
    log = log_of(4, 4, 1)
    sink = partition(ObjectFiles(s3.store(proxy.endpoint), WHERE, fresh))
    sink.open(0, log.end)
    proxy.troubles.append(Trouble(lost, times=2))
    with pytest.raises(SinkUnavailable) as told:
        sink.receive(log.fetch(0, log.end))
    assert classify(told.value) is ErrorClass.NETWORK
    sink.receive(log.fetch(0, log.end))
    assert sink.done
    assert ids(ObjectFiles(s3.store(), WHERE, fresh)) == list(range(9))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, ErrorClass.NETWORK),
        (503, ErrorClass.RESOURCE_EXHAUSTION),
        (403, ErrorClass.PERMISSION),
        (504, ErrorClass.TIMEOUT),
    ],
)
def test_a_store_that_answers_errors_is_tried_again_and_nothing_is_lost(
    s3: S3Server, fresh: str, proxy: Proxy, status: int, kind: ErrorClass
) -> None:
    log = log_of(4, 4, 1)
    sink = partition(ObjectFiles(s3.store(proxy.endpoint), WHERE, fresh))
    sink.open(0, log.end)
    proxy.troubles.append(Trouble(puts(""), times=2, status=status))
    with pytest.raises(SinkUnavailable) as told:
        sink.receive(log.fetch(0, log.end))
    assert classify(told.value) is kind
    while not sink.done:
        try:
            sink.receive(log.fetch(0, log.end))
        except SinkUnavailable:  # the second refusal, where the client does not repeat it itself
            continue
    assert ids(ObjectFiles(s3.store(), WHERE, fresh)) == list(range(9))


def test_a_conflict_with_nothing_under_the_name_is_tried_again(
    s3: S3Server, fresh: str, proxy: Proxy
) -> None:
    """S3 answers 409 to a put that meets another request; the name may still be free."""
    files = ObjectFiles(s3.store(proxy.endpoint), WHERE, fresh)
    files.create("before.parquet", b"")
    proxy.troubles.append(Trouble(puts("/a.parquet"), status=409))
    with pytest.raises(SinkUnavailable, match="is in the way"):
        files.create("a.parquet", b"abc")
    assert files.create("a.parquet", b"abc")


def test_wrong_credentials_are_said_and_never_shown(
    s3: S3Server, fresh: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    files = ObjectFiles(s3.store(), WHERE, fresh)
    with pytest.raises(SinkUnavailable, match="does not let us") as told:
        files.create("a.parquet", b"abc")
    assert classify(told.value) is ErrorClass.PERMISSION
    words = f"{told.value!r} {told.value.__cause__!r}"
    assert "secret" not in words
    assert CREDENTIALS["AWS_ACCESS_KEY_ID"] not in words
    with pytest.raises(SinkUnavailable, match="does not let us"):
        files.names()
    with pytest.raises(SinkUnavailable, match="does not let us"):
        files.exists("a.parquet")


def test_the_check_leaves_nothing_that_a_table_would_have(files: ObjectFiles, fresh: str) -> None:
    found = check_store(f"{WHERE}/{fresh}/flights", lambda: files)
    assert (found.level, found.what) == (
        "ok",
        f"table '{WHERE}/{fresh}/flights' is writable and its store takes a name once",
    )
    assert files.names() == files.names(private=True) == []


@pytest.mark.parametrize("table", [parquet, delta], ids=["plain", "delta"])
def test_the_check_reads_a_table_and_writes_nothing(
    s3: S3Server, fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Any
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load(lake=f"{WHERE}/{fresh}", state_dir=tmp_path)
    beside = ObjectFiles(s3.store(), WHERE, f"{fresh}/sales")
    new, words = [], list[str]()
    for model in (Sale, Sale, Noted, Text):
        made = of(model, table("sales"))
        if words:
            start(of(Sale, table("sales")), settings)
        before = beside.names(private=True)
        [found] = check_tables(made, settings)
        new.append(found.finding.level)
        words.append(found.finding.what.splitlines()[0])
        assert beside.names(private=True) == before
    assert new == ["ok", "ok", "ok", "problem"]
    assert words[:3] == [
        "table 'sales' does not stand yet: a worker makes it",
        "table 'sales' has these columns as version 0",
        "table 'sales' gets these columns as version 1: 'note' is added, string",
    ]


class _Forgetful(BaseHTTPRequestHandler):
    """Takes every put, as stores do that are older than the condition."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response_only(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.mark.usefixtures("s3")
def test_a_store_that_ignores_the_condition_is_refused() -> None:
    server = ThreadingHTTPServer((LOOPBACK, 0), _Forgetful)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        endpoint = f"http://{LOOPBACK}:{server.server_address[1]}"
        store = open_store(WHERE, StoreOptions(endpoint, True, timedelta(seconds=5)))
        with pytest.raises(SinkRefused, match="takes a second put under one name"):
            ObjectFiles(store, WHERE, "flights").create("a.parquet", b"abc")
        found = check_store(f"{WHERE}/flights", lambda: ObjectFiles(store, WHERE, "flights"))
        assert (found.level, "If-None-Match" in found.what) == ("problem", True)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_engines_read_what_is_there(s3: S3Server, fresh: str, files: ObjectFiles) -> None:
    log = log_of(5, 9, 1)
    drain(partition(files), log)
    folder = f"{BUCKET}/{fresh}/flights"
    keys = CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    system = pyarrow.fs.S3FileSystem(
        access_key=keys[0], secret_key=keys[1], endpoint_override=s3.endpoint, region="us-east-1"
    )
    dataset = ds.dataset(folder, filesystem=system, partitioning="hive")
    assert dataset.count_rows() == 15
    with duckdb.connect() as connection:
        connection.register("flights", dataset)
        sql = "select origin, count(*) from flights group by 1 order by 1 nulls last"
        assert connection.sql(sql).fetchall() == [("EWR", 5), ("JFK", 5), (None, 5)]
    options = {
        "aws_access_key_id": keys[0],
        "aws_secret_access_key": keys[1],
        "aws_endpoint_url": s3.endpoint,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    frame = pl.scan_parquet(f"s3://{folder}/**/*.parquet", storage_options=options)
    assert frame.select(pl.len()).collect().item() == 15
