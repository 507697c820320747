"""Whatever lives a table has, all of it lies in folders of one choice, each row once."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streamflow.edges.memory_files import MemoryFiles
from streamflow.engine import table_versions
from streamflow.engine.sink import CRASH_POINTS
from streamflow.engine.table_folders import known_folders
from streamflow.errors import SinkRefused
from tests.examples import law
from tests.unit.sink_log import LAYOUT, Crash, Log, drain, ids, partition, spec
from tests.unit.test_sink_laws import crash_at

SIZES = st.lists(st.sampled_from([0, 3, 1200]), min_size=1, max_size=5)
#: What a life declares: what names folders, and None for what is left to the rows.
DECLARED: Sequence[tuple[str, ...] | None] = (None, None, (), ("origin",))
LIVES = st.lists(
    st.tuples(
        st.sampled_from(DECLARED),
        st.sampled_from([1, 3_000, 10**6]),
        st.sampled_from(CRASH_POINTS),
        st.integers(0, 2),
    ),
    max_size=4,
)


@law()
@given(LIVES, SIZES)
def test_a_table_has_one_kind_of_folders_whoever_wrote_it_and_whatever_was_declared(
    lives: list[tuple[tuple[str, ...] | None, int, str, int]], sizes: list[int]
) -> None:
    files, log = MemoryFiles(), Log(replace(LAYOUT, partition_by=()))
    first: object = None
    for declared, target, point, time in [*lives, (None, 1, "none", 0)]:
        made = spec(partition_by=declared or (), target_bytes=target)
        sink = made if declared is not None else replace(made, folders=("origin", "_partition"))
        try:
            table_versions.agree(files, sink)
        except SinkRefused:
            assert declared is not None  # who leaves it to the rows is never refused
            continue
        # What names the folders travels with the rows, as the topology says when they are made.
        log.layout = replace(log.layout, partition_by=sink.partition_by)
        for size in sizes:
            log.commit(size)
        with suppress(Crash):
            drain(partition(files, sink, faults=crash_at(point, time)), log)
        chosen = known_folders(files)
        assert first is None or chosen == first
        first = first or chosen
    last = replace(spec(partition_by=(), target_bytes=1), folders=("origin",))
    log.layout = replace(log.layout, partition_by=())
    log.commit(1, end_of_input=True)
    drain(partition(files, last), log)
    assert ids(files) == list(range(log.rows))
    folders = {tuple(p.partition("=")[0] for p in n.split("/")[:-1]) for n in files.names()}
    assert len(folders) == 1
    chosen = known_folders(files)
    assert chosen is not None
    assert folders == {chosen.partition_by}
