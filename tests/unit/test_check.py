"""What `streamflow check` says, without a broker."""

import errno
import fcntl
import os
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from streamflow import cli
from streamflow.check import Finding
from streamflow.check.broker import standing_by
from streamflow.check.folders import check_lake, check_state
from streamflow.check.replicas import IN_SYNC, check_replicas
from streamflow.check.topics import check_source, check_topic
from streamflow.cli.check import listing
from streamflow.core.names import Names
from streamflow.edges.kafka_admin import TopicSpec
from streamflow.service import LAG, journal_spec

ROWS = TopicSpec("app-flights-rows", 4, {"retention.ms": "-1", "max.message.bytes": "1000"})
CHANGELOG = TopicSpec("app-flights-changelog", 4, {"cleanup.policy": "compact", **ROWS.config})
CONFIG = {"retention.ms": "-1", "max.message.bytes": "1000", "cleanup.policy": "delete"}


def internal(spec: TopicSpec, count: int | None = 4, **changes: str) -> list[Finding]:
    config = CONFIG | {name.replace("_", "."): value for name, value in changes.items()}
    return check_topic(spec, count, config, internal=True, made=False)


def output(count: int | None = 4, **changes: str) -> list[Finding]:
    config = CONFIG | {name.replace("_", "."): value for name, value in changes.items()}
    return check_topic(ROWS, count, config, internal=False, made=False)


def test_a_source_has_to_be_there() -> None:
    missing = check_source("flights", None, [])
    assert (missing.level, missing.what) == ("problem", "source topic 'flights' does not exist")
    assert "--create-topics" in missing.fix
    assert check_source("flights", 3, []).level == "ok"


def test_a_topic_that_is_as_it_should_be_or_will_be_made_is_no_problem() -> None:
    assert [f.level for f in internal(ROWS)] == ["ok"]
    assert [f.level for f in internal(CHANGELOG, cleanup_policy="compact")] == ["ok"]
    [later] = internal(ROWS, None)
    assert (later.level, later.what) == (
        "ok",
        "internal topic 'app-flights-rows' will be made, with 4 partitions",
    )


@pytest.mark.parametrize(
    ("replicas", "workers", "level"),
    [(1, 0, "ok"), (1, 1, "warning"), (1, 2, "ok"), (2, 2, "warning")],
)
def test_standbys_take_more_workers_than_there_are_of_each(
    replicas: int, workers: int, level: str
) -> None:
    found = standing_by(replicas, workers)
    assert found.level == level
    assert f"{replicas + 1} workers" in found.what


def test_every_fault_of_a_topic_is_found_at_once() -> None:
    found = internal(CHANGELOG, 3, max_message_bytes="10", retention_ms="604800000")
    assert [f.level for f in found] == ["problem"] * 4
    assert [f.what.removeprefix("internal topic 'app-flights-changelog' ") for f in found] == [
        "has 3 partitions, its source 4",
        "takes 10 bytes, and a source record can make 1,000",
        "has cleanup.policy=delete, not compact, and would lose state",
        "keeps its records for 7 days, not for ever, and would lose some",
    ]
    assert all(f.fix for f in found)


def test_a_changelog_of_an_earlier_version_may_be_compacted_too_early() -> None:
    spec = TopicSpec(CHANGELOG.name, 4, {**CHANGELOG.config, LAG: "3600000"})
    config = CONFIG | {"cleanup.policy": "compact"}
    [found] = check_topic(spec, 4, config | {LAG: "60000"}, internal=True, made=False)
    assert found.level == "warning"
    assert found.what.startswith(f"internal topic '{CHANGELOG.name}' may be compacted after 60 sec")
    assert found.fix.startswith(f"set {LAG}=3600000 on topic {CHANGELOG.name}")
    for enough in ("3600000", "7200000"):
        [well] = check_topic(spec, 4, config | {LAG: enough}, internal=True, made=False)
        assert well.level == "ok"


@pytest.mark.parametrize(("kept", "level"), [(89, "problem"), (90, "ok"), (91, "ok"), (None, "ok")])
def test_the_run_journal_is_kept_for_three_months(kept: int | None, level: str) -> None:
    spec = journal_spec(Names("app"))
    config = {"cleanup.policy": "compact,delete", "retention.ms": "-1"}
    if kept is not None:
        config["retention.ms"] = str(kept * 86_400_000)
    [found] = check_topic(spec, 1, config, internal=True, made=False)
    assert found.level == level


def test_what_has_one_replica_or_counts_as_written_on_one_broker_is_warned_of() -> None:
    replicas = {"alone": 1, "unsafe": 3, "safe": 3, "two": 2, "__transaction_state": 1, "else": 1}
    configs = {
        name: {IN_SYNC: "2" if name == "safe" else "1"}
        for name in ("alone", "unsafe", "safe", "two", "__transaction_state", "missing")
    }
    found = check_replicas(3, replicas, configs)
    assert {one.level for one in found} == {"warning"}
    told = [(one.what.split("'")[1], one.what.split(" has ")[1][:18], one.fix) for one in found]
    assert [name for name, _, _ in told] == ["alone", "unsafe", "__transaction_state"]
    assert [what for _, what, _ in told] == [
        "one replica on a c",
        "3 replicas and min",
        "one replica on a c",
    ]
    assert "STREAMFLOW_REPLICATION_FACTOR" in told[0][2]
    assert f"set {IN_SYNC}=2 on topic unsafe" in told[1][2]
    assert "transaction.state.log.replication.factor" in told[2][2]
    assert check_replicas(1, replicas, configs) == []


def test_rows_may_not_be_compacted_but_outputs_may() -> None:
    assert [f.level for f in internal(ROWS, cleanup_policy="compact")] == ["problem"]
    assert [f.level for f in output(cleanup_policy="compact")] == ["ok"]


def test_an_output_topic_may_forget_on_purpose() -> None:
    assert [f.level for f in output(retention_ms="3600000")] == ["warning"]
    assert [f.level for f in output(9)] == ["problem"]


def test_a_lake_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    assert check_lake(tmp_path / "a" / "lake").level == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_lake_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = check_lake(tmp_path / "file" / "lake")
    assert found.level == "problem"
    assert "cannot be written: Not a directory" in found.what
    assert "--lake" in found.fix


def test_a_lake_needs_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_paths: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", no_link)
    found = check_lake(tmp_path)
    assert found.level == "problem"
    assert "has no hard links" in found.what
    assert list(tmp_path.iterdir()) == []


def test_a_state_folder_that_a_worker_has_is_not_free(tmp_path: Path) -> None:
    assert check_state(tmp_path / "state").level == "ok"
    with (tmp_path / "LOCK").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = check_state(tmp_path)
    assert (found.level, "in use by another worker" in found.what) == ("problem", True)
    assert check_state(tmp_path).level == "ok"


def test_what_to_do_stands_below_what_is_wrong() -> None:
    found = [Finding.ok("broker", "it answers"), Finding.problem("topic", "it is gone", "make it")]
    assert listing(found) == [
        "ok       it answers",
        "problem  it is gone",
        "         -> make it",
        "1 problem",
    ]


def test_all_is_looked_at_although_neither_broker_nor_topology_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMFLOW_BROKER_WAIT", "0")
    folders = ["--lake", str(tmp_path / "lake"), "--state-dir", str(tmp_path / "state")]
    words = ["check", "nothing.here", "--broker", "127.0.0.1:1", "--json", *folders]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 1
    document = orjson.loads(done.stdout)
    assert document["ok"] is False
    assert [(f["check"], f["level"]) for f in document["findings"]] == [
        ("topology", "problem"),
        ("broker", "problem"),
        ("lake", "ok"),
        ("state", "ok"),
    ]
