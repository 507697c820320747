"""Random trees of stages keep the laws and give what plain Python computes."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from streamflow import Topology
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law

from .trees import (
    NOW,
    Reference,
    Row,
    Spec,
    built,
    cuts,
    found,
    joined,
    joined_reference,
    made,
    numbered,
    offsets_and_numbers,
    rows,
    trees,
)


def run(
    tree: Spec,
    stream: Sequence[Row],
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
    keep_disk: bool = True,
) -> TopologyDriver:
    return run_of(built(tree), stream, batches, commit_records, crash_at, keep_disk)


def run_of(
    topology: Topology,
    stream: Sequence[Row],
    batches: Sequence[int],
    commit_records: int,
    crash_at: str | None,
    keep_disk: bool,
) -> TopologyDriver:
    driver = TopologyDriver(
        topology, NOW, batches=batches, commit_records=commit_records, keep_disk=keep_disk
    )
    sent = made(stream)
    driver.send("items", *sent[: len(sent) // 2])
    with driver.crash(at=crash_at or "never"):
        driver.send("items", *sent[len(sent) // 2 :])
        driver.end_of_input()
    driver.process()
    driver.end_of_input()
    return driver


@law()
@given(trees, rows, cuts, st.integers(1, 20))
def test_what_comes_out_is_what_plain_python_computes(
    tree: Spec, stream: list[Row], batches: list[int], commit_records: int
) -> None:
    driver = run(tree, stream, batches, commit_records)
    assert found(tree, driver) == Reference(tree).run(stream)


@law()
@given(trees, rows, cuts, st.integers(1, 20), st.sampled_from(CRASH_POINTS), st.booleans())
def test_cuts_commits_and_crashes_are_unobservable(
    tree: Spec,
    stream: list[Row],
    batches: list[int],
    commit_records: int,
    point: str,
    keep_disk: bool,
) -> None:
    crashed = run(tree, stream, batches, commit_records, point, keep_disk)
    assert found(tree, crashed) == Reference(tree).run(stream)


@law()
@given(trees, rows, cuts)
def test_every_row_is_in_one_exit_of_each_way_and_every_drop_has_a_name(
    tree: Spec, stream: list[Row], batches: list[int]
) -> None:
    driver = run(tree, stream, batches)
    totals: Counter[str] = driver.totals
    exits = totals["passed"] + totals["rejected"] + totals["dropped"]
    assert totals["in"] + totals["forked"] + totals["expanded"] == exits
    (task,) = driver._tasks.values()
    names = [name for name in task.state.rules if name.startswith(("filter", "dedup"))]
    names.append("expand Item")
    names += [f"r{spec.number}" for spec in numbered(tree) if spec.kind == "drop"]
    assert totals["dropped"] == sum(task.state.rules.get(name, 0) for name in names)


@law()
@given(rows, cuts, st.integers(1, 20), st.sampled_from(CRASH_POINTS), st.booleans())
def test_a_topic_that_several_arms_lead_to_has_its_records_in_order(
    stream: list[Row], batches: list[int], commit_records: int, point: str, keep_disk: bool
) -> None:
    driver = run_of(joined(), stream, batches, commit_records, point, keep_disk)
    assert offsets_and_numbers(driver, "all") == joined_reference(stream)
