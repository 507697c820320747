"""Old cuts become one summary, and nobody is misled by what lies there meanwhile."""

import orjson
import pytest

from streamflow.core.summary import decode_summary, links, summary_name
from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine.sink_chain import standing_links
from streamflow.errors import SinkRefused

from .sink_log import TP, Crash, Log, drain, ids, partition
from .test_sink_laws import crash_at, log_of, told

NAME = "app-flights-rows-00003"


def cuts(files: MemoryFiles) -> list[str]:
    return [name for name in files.names(private=True) if name.startswith(NAME)]


def test_all_cuts_but_the_last_two_are_one_file_that_tells_the_same() -> None:
    files, log = MemoryFiles(), log_of([3, 0, 2, 4, 1])
    drain(partition(files, fold_after=4), log)
    kept = [f"{NAME}-{k:08d}.json" for k in (3, 4)]
    assert cuts(files) == [f"{NAME}-00000002.summary.json", *kept]
    summary = orjson.loads(files.read(f"{NAME}-00000002.summary.json", private=True))
    assert summary["sources"] == {"in": [[3, 0, 5]]}
    assert summary["counts"] == {"passed": 5, "rejected": 3}
    assert (summary["rows"], summary["files"], summary["commits"]) == (5, 5, 3)
    assert told(files) == (10, 5)
    assert ids(files) == list(range(10))


def test_what_a_crash_leaves_of_a_fold_is_not_counted_twice() -> None:
    files, log = MemoryFiles(), log_of([1, 2, 3, 4, 5, 6])
    with pytest.raises(Crash):
        drain(partition(files, faults=crash_at("folded", 1), fold_after=1), log)
    there = standing_links(files, TP)
    assert set(there.cuts) - set(there.standing), "it has left cuts that are folded"
    drain(partition(files, fold_after=1), log)
    assert told(files) == (21, 6)
    assert len(cuts(files)) == 3


def test_who_folds_late_leaves_the_cut_that_a_cut_without_files_begins_after() -> None:
    """An owner wakes up and folds, while that of a later cut has died before it made its files."""
    files, log = MemoryFiles(), log_of([1, 2, 3, 4])

    def sleep(point: str) -> None:
        if point == "files-linked" and standing_links(files, TP).standing[-1] == 2:
            trimmed = log.first
            with pytest.raises(Crash):
                drain(partition(files, faults=crash_at("cut", 0)), log)
            log.first = trimmed

    sleeper = partition(files, faults=sleep, fold_after=2)
    place = sleeper.open(log.first, log.end)
    sleeper.receive(log.fetch(place, 6))
    assert standing_links(files, TP).standing == (2, 3)
    assert standing_links(files, TP).folded == 1
    drain(partition(files), log)
    assert ids(files) == list(range(10))


def test_a_cut_whose_number_was_folded_is_none() -> None:
    """Whoever made it died before it could look; the chain ends elsewhere."""
    files, log = MemoryFiles(), log_of([1, 2, 3, 4, 5])
    drain(partition(files, fold_after=1), log)
    last = standing_links(files, TP).standing
    files.create(f"{NAME}-00000001.json", b"made by an owner that had slept", private=True)
    assert standing_links(files, TP).standing == last
    again = partition(files, fold_after=1)
    drain(again, log)
    assert again.done


def test_a_name_is_that_of_its_own_partition_alone() -> None:
    names = ["a-00001-00000007.json", "a-00001-00000003.summary.json", "a-00010-00000009.json"]
    found = links([*names, "b-a-00001-00000011.json", "schema-00000.json"], TP._replace(topic="a"))
    assert (found.cuts, found.summaries) == ((), ())
    found = links(names, TP._replace(topic="a", partition=1))
    assert (found.cuts, found.summaries) == ((7,), (3,))


@pytest.mark.parametrize("data", [b"no json", b"[]", b'{"format": 2}', b'{"format": 1, "k": 2}'])
def test_a_damaged_summary_is_named_and_stops_nothing(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SinkRefused, match="summary"):
        decode_summary(data, "x.summary.json")
    files, log = MemoryFiles(), Log()
    for size in (1, 2):
        log.commit(size)
    drain(partition(files), log)
    files.create(summary_name(TP, 0), data, private=True)
    for size in (3, 4):
        log.commit(size)
    drain(partition(files, fold_after=2), log)
    assert ids(files) == list(range(10))
    assert "its old cuts are not folded" in caplog.text
