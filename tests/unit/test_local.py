"""A local run: its folder appears when it is done, and nothing stays when it is not."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import Topology, parquet, source, topic
from streamflow.batch import Record
from streamflow.edges.rocksdb import StateFolder
from streamflow.errors import SettingsError
from streamflow.local import CHUNK_RECORDS, LocalRun


class Sale(BaseModel):
    shop: str
    at: AwareDatetime


sales = source(topic("sales"), Sale, key="shop", event_time="at")
TOPOLOGY = Topology("sales", sales.to(parquet("sales")), sales.rejected.to(topic("dlq")))
SALE = Record(b"a", orjson.dumps({"shop": "a", "at": datetime(2024, 5, 1, 12, tzinfo=UTC)}))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SettingsError])
def test_a_run_that_is_interrupted_leaves_nothing(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    seen: list[str] = []

    def records() -> Iterator[Record]:
        yield from [SALE] * (CHUNK_RECORDS + 1)
        seen.extend(path.name for path in tmp_path.iterdir())
        raise interruption

    with pytest.raises(interruption):
        LocalRun(TOPOLOGY, tmp_path / "out").run({"sales": records()})
    assert seen == [".out.unfinished"]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_cleared_away_but_not_the_folder_of_a_living_one(
    tmp_path: Path,
) -> None:
    left = tmp_path / ".out.unfinished"
    living = StateFolder(left / "state")
    run = LocalRun(TOPOLOGY, tmp_path / "out")
    with pytest.raises(SettingsError, match="out is being written by another run"):
        run.run({"sales": [SALE]})
    assert (left / "state" / "LOCK").exists()

    living.close()  # as the kernel does it for a killed one
    assert LocalRun(TOPOLOGY, tmp_path / "out").run({"sales": [SALE]}).rows == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, reason in (
        (Path("/proc/x"), "No such file or directory"),
        (tmp_path / "file" / "x", "Not a directory"),
        (tmp_path / ("x" * 500), "File name too long"),
    ):
        with pytest.raises(SettingsError, match=f"{folder} cannot be made: {reason}; let this"):
            LocalRun(TOPOLOGY, folder).run({"sales": [SALE]})
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208
