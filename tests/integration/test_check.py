"""`streamflow check` on a real broker."""

import asyncio
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from streamflow import cli
from streamflow.broker import Broker
from streamflow.edges.kafka_admin import KafkaAdmin, TopicSpec
from streamflow.edges.local_files import LocalFiles
from streamflow.engine.sink_chain import OWNER


class Checking:
    """Runs the command under names of its own."""

    def __init__(self, kafka: Broker, fresh: str, folder: Path) -> None:
        self._connection = {"bootstrap_servers": kafka.bootstrap}
        self._words = ["check", "topologies.flights", "--broker", kafka.bootstrap, "--json"]
        self._words += ["--app-id", fresh, "--topic-prefix", f"{fresh}."]
        self.lake = folder / "lake"
        self._words += ["--lake", str(self.lake), "--state-dir", str(folder / "state")]

    def found(self, *more: str, exit_code: int) -> dict[str, list[str]]:
        """What was found, by level."""
        done = CliRunner().invoke(cli.main, [*self._words, *more])
        assert done.exit_code == exit_code, done.output
        levels: dict[str, list[str]] = {"ok": [], "warning": [], "problem": []}
        for finding in orjson.loads(done.stdout)["findings"]:
            levels[finding["level"]].append(finding["what"])
        return levels

    def make(self, name: str, partitions: int, **config: str) -> None:
        async def make() -> None:
            async with KafkaAdmin(self._connection) as admin:
                await admin.create([TopicSpec(name, partitions, config)])

        asyncio.run(make())


@pytest.fixture
def checking(kafka: Broker, fresh: str, tmp_path: Path) -> Checking:
    return Checking(kafka, fresh, tmp_path)


def test_a_missing_source_is_a_problem_and_is_not_made(checking: Checking, fresh: str) -> None:
    first, again = checking.found(exit_code=1), checking.found(exit_code=1)
    assert first["problem"] == [f"source topic '{fresh}.flights' does not exist"]
    assert again == first
    assert "the broker takes transactions" in first["ok"]


def test_a_worker_names_what_makes_a_missing_source_and_says_it_once(
    kafka: Broker, fresh: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "streamflow", "worker", "topologies.flights"]
    command += ["--broker", kafka.bootstrap, "--app-id", fresh, "--topic-prefix", f"{fresh}."]
    command += ["--lake", str(tmp_path / "lake"), "--state-dir", str(tmp_path / "state")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: source topic '{fresh}.flights' does not exist; make it: `streamflow produce "
        f"{fresh}.flights FILE --create`, or `streamflow check` with --create-topics\n"
    )


def test_everything_is_ok_after_the_topics_were_created(checking: Checking, fresh: str) -> None:
    made = checking.found("--create-topics", "--partitions", "3", exit_code=0)
    assert f"source topic '{fresh}.flights' has 3 partitions, just made" in made["ok"]

    found = checking.found(exit_code=0)
    assert found["problem"] == found["warning"] == []
    topics = [what for what in found["ok"] if "topic '" in what]
    assert len(topics) == 9
    one = [what for what in topics if "has 1 partition" in what]
    assert [what.split("'")[1] for what in one] == [f"{fresh}-control", f"{fresh}-journal"]
    assert all("has 3 partitions" in what for what in topics if what not in one)
    tables = [what for what in found["ok"] if what.startswith("table '")]
    assert [what.split(" in ")[0] for what in tables] == [
        "table 'flights' does not stand yet",
        "table 'hourly' does not stand yet",
    ]

    LocalFiles(checking.lake, "flights").create(OWNER, b'{"app": "another"}', private=True)
    [refused] = checking.found(exit_code=1)["problem"]
    assert refused.startswith("table 'flights' of sink 'flights' is written by app 'another'")


def test_topics_of_another_shape_are_all_named(checking: Checking, fresh: str) -> None:
    checking.make(f"{fresh}.flights", 2)
    checking.make(f"{fresh}.flights.dlq", 5, **{"retention.ms": "-1"})
    checking.make(
        f"{fresh}-flights-rows", 2, **{"max.message.bytes": "8000000", "retention.ms": "604800000"}
    )
    found = checking.found(exit_code=1)
    dlq = f"output topic '{fresh}.flights.dlq'"
    rows = f"internal topic '{fresh}-flights-rows'"
    assert found["problem"] == [
        f"{dlq} has 5 partitions, its source 2",
        f"{dlq} takes 1,048,588 bytes, and a source record can make 1,114,124",
        f"{rows} keeps its records for 7 days, not for ever, and would lose some",
    ]
