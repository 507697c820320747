"""What `make chaos` judges by: its oracle, its comparison, and what it reads in logs."""

import base64
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamflow.batch import Record
from streamflow.edges.partitioner import default_partition
from streamflow.local import LocalRun
from tests.chaos.fleet import Fleet, Worker
from tests.chaos.log import TOPICS, Logged, Rows, outcome
from tests.chaos.oracle import expected
from tests.chaos.readings import readings
from tests.chaos.topology import topology
from tests.chaos.verdict import compare

PARTITIONS, READINGS = 3, 6_000


def logged(line: bytes) -> Logged:
    row = orjson.loads(line)
    headers = {name: _bytes(value) for name, value in row["headers"]}
    return Logged(0, 0, row["key"].encode(), row["value"].encode(), headers)


def _bytes(value: Any) -> bytes:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()


@pytest.fixture(scope="module")
def log() -> list[Logged]:
    """The source as a topic holds it."""
    made: list[Logged] = []
    ends: defaultdict[int, int] = defaultdict(int)
    for key, value in islice(readings(7), READINGS):
        partition = default_partition(key, PARTITIONS)
        made.append(Logged(partition, ends[partition], key, value, {}))
        ends[partition] += 1
    return made


@pytest.fixture(scope="module")
def got(log: list[Logged], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    """What a run in memory makes of it."""
    run = LocalRun(topology, tmp_path_factory.mktemp("chaos") / "lake", partitions=PARTITIONS)
    made = run.run({"readings": [Record(record.key, record.value) for record in log]})
    topics = {
        name: [logged(line) for line in made.topics[name].read_bytes().splitlines()]
        for name in TOPICS
    }
    return dict(outcome(topics, "readings", made.folder)[0])


def test_the_oracle_and_a_run_in_memory_agree(log: list[Logged], got: dict[str, Rows]) -> None:
    assert expected(log) == got
    assert min(rows.total() for rows in got.values()) > 20, "too little to prove anything"


def test_every_row_that_is_missing_or_there_twice_is_counted(
    log: list[Logged], got: dict[str, Rows]
) -> None:
    good = compare(log, got, 3)
    assert (good.records, good.commits, good.lost, good.twice) == (READINGS, 3, 0, 0)
    for name, rows in got.items():
        row = next(iter(rows))
        less = compare(log, got | {name: rows - Counter([row])}, 3)
        assert (less.lost, less.twice) == (1, 0), name
        assert less.examples() == [f"missing in {name}: {row!r}"]
        more = compare(log, got | {name: rows + Counter([row])}, 3)
        assert (more.lost, more.twice) == (0, 1), name
        assert more.examples() == [f"surplus in {name}: {row!r}"]


def test_readings_are_the_same_for_a_seed_and_of_every_kind() -> None:
    first, second, other = (list(islice(readings(seed), 1000)) for seed in (1, 1, 2))
    assert first == second != other
    values = [value for _, value in first]
    assert len(set(values)) < len(values), "some come again"
    assert any(orjson.loads(value)["value"] is None for value in values)


def test_lost_tasks_are_counted_by_the_step_at_which_they_were(tmp_path: Path) -> None:
    words = (
        "WARNING readings[0]: task lost, taking it up again: app-0: commit failed: Timeout()\n"
        "WARNING readings[1]: task lost, taking it up again: app-1: produce failed: Error()\n"
        "WARNING readings[2]: task lost: app-2: another owner has taken this task over (begin)\n"
    )
    log = tmp_path / "one.log"
    log.write_text(words)
    process: Any = None
    fleet = Fleet("nowhere", "app", tmp_path, workers=[Worker("one", process, log)])
    assert fleet.lost() == Counter(commit=1, produce=1, fenced=1)
