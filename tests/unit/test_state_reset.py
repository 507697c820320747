"""What `streamflow state reset` refuses, and what it says it will do."""

import re
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from streamflow import Topology, parquet, topic
from streamflow.batch import TopicPartition
from streamflow.cli import main
from streamflow.core.keys import META
from streamflow.edges.local_state import local_state
from streamflow.edges.memory import Partition
from streamflow.edges.rocksdb import StateFolder
from streamflow.engine.commit import APPLIED
from streamflow.errors import SettingsError, StateRefused
from streamflow.testing import TopologyDriver
from tests.laws.orders import MINUTE, NOON, order, orders, topology
from tests.laws.settling import Settling

TP = TopicPartition("orders", 0)
CHANGELOG = TopicPartition("orders-orders-changelog", 0)


PASSED_OVER = (
    "  from 5 on 1 offset is passed over: nothing comes of what is there, as if it had never been"
    " in the topic"
)


@pytest.fixture
def driver() -> TopologyDriver:
    made = TopologyDriver(topology, NOON, batches=(1,))
    made.send("orders", *(order(second) for second in range(5)))
    return made


@pytest.fixture
def settling(driver: TopologyDriver) -> Settling:
    return Settling(driver, topology)


def test_a_look_tells_where_a_task_stands_and_what_it_holds(settling: Settling) -> None:
    found = settling.look()
    assert (found.commit, found.position, found.group, found.first, found.stop) == (5, 5, 5, 0, 5)
    assert found.entries == {"meta": 1, "windows": 5}
    assert found.sizes["windows"] > 5 * len(b"w")
    assert found.problem is None
    assert found.watermark == int(NOON.timestamp() + 4 - 30) * 1_000_000


def test_what_cannot_be_exact_is_refused_with_the_command_that_can(settling: Settling) -> None:
    command = "`streamflow state reset TOPOLOGY --source orders --partition 0 --to 3 --discard`"
    with pytest.raises(StateRefused, match=r"from 3 on they would be counted twice") as refused:
        settling.plan("3")
    assert str(refused.value).endswith(f"without it: {command}")
    with pytest.raises(SettingsError, match=r"orders\[0\]: there is no offset 6; say one from 0"):
        settling.plan("6", discard=True)
    del settling.driver.broker.offsets[TP]
    with pytest.raises(SettingsError, match="no position --to group; say an offset"):
        settling.plan("group")


def test_after_the_end_of_its_input_a_task_only_begins_anew(settling: Settling) -> None:
    settling.driver.end_of_input()
    settling.driver.broker.append(TP, order(9))
    command = "`streamflow state reset TOPOLOGY --source orders --to latest --discard`"
    with pytest.raises(StateRefused, match="was declared at offset 5") as refused:
        settling.plan("latest")
    assert str(refused.value).endswith(f"To begin anew: {command}")
    with pytest.raises(StateRefused, match="--source orders --partition 0 --to 6 --discard"):
        settling.plan("6")
    settling.reset("changelog", discard=True)
    settling.driver.restart()
    settling.driver.send("orders", order(10))
    assert settling.driver.totals["in"] == 2
    assert settling.driver.totals["late"] == 0


def test_a_reset_says_what_it_does(settling: Settling) -> None:
    assert settling.plan("changelog").words() == [
        "orders[0]: changelog and group both say 5; nothing to do"
    ]
    settling.driver.broker.append(TP, order(9))
    settling.driver.broker.offsets[TP] = 4
    assert settling.plan("latest").words() == [
        "orders[0]: goes on at 6 instead of 5",
        PASSED_OVER,
        "  the group's offset, which was 4, becomes 6",
    ]
    lines = settling.plan("1", discard=True).words()
    assert lines[1].startswith("  from 1 on 4 offsets are processed again")
    assert re.match(r"  the state is forgotten: 6 entries, [\d,]+ bytes", lines[2])
    assert "those that began before offset 1 are computed from the records after it" in lines[3]


def test_a_worker_that_has_committed_meanwhile_stops_a_reset(settling: Settling) -> None:
    reset = settling.plan("0", discard=True)
    settling.driver.send("orders", order(9))
    with pytest.raises(StateRefused, match="a worker has committed since this was looked at"):
        settling.carry_out(reset)
    settling.driver.restart()
    settling.driver.send("orders", order(10))
    assert settling.driver.totals["in"] == 7


def test_the_state_of_another_topology_is_refused_and_can_be_discarded(
    driver: TopologyDriver,
) -> None:
    hourly = Topology(
        "orders",
        orders.to(topic("orders.clean")),
        orders.to(parquet("orders", partition_by="country", target_bytes=3_000)),
        orders.rejected.to(topic("orders.dlq")),
    )
    with pytest.raises(StateRefused, match="--partition 0 --to changelog --discard`"):
        driver.deploy(hourly)
    settling = Settling(driver, hourly)
    with pytest.raises(StateRefused, match="written by other windows than this topology has"):
        settling.plan("changelog")
    settling.reset("changelog", discard=True)
    driver.deploy(hourly)
    driver.send("orders", order(9))
    assert driver.totals["in"] == 1
    with pytest.raises(StateRefused, match="in this group, this one is out of date"):
        driver.deploy(topology)
    driver.deploy(hourly)
    driver.end_of_input()
    assert len(driver.files("orders")) == 6


def test_records_that_are_gone_can_be_passed_over_by_the_command_named(
    settling: Settling,
) -> None:
    driver = settling.driver
    for second in (9, 10, 11):
        driver.broker.append(TP, order(second))
    driver.broker.partition(TP).trim(7)
    with pytest.raises(StateRefused, match=r"To go on without them: .* --partition 0 --to 7`"):
        driver.restart()
    settling.reset("7")
    driver.restart()
    driver.process()
    assert driver.totals["in"] == 6


def test_a_changelog_that_was_deleted_stops_a_task_that_has_its_state(
    settling: Settling,
) -> None:
    driver = settling.driver
    driver.broker.topics[CHANGELOG.topic] = [Partition()]
    for _ in range(2):  # and the local state stays as it is, for whoever brings the topic back
        with pytest.raises(StateRefused, match=r"ends at 0, but the local state .* up to \d+ of"):
            driver.restart()
    assert driver._stores[TP].get([META])[0] is not None
    with pytest.raises(StateRefused, match="has no state, so there is nothing to go on from"):
        settling.plan("group")
    driver.advance(MINUTE)
    settling.reset("group", discard=True)
    assert settling.look().commit == 6, "the tables' chain of commits would break"
    driver.restart()
    driver.send("orders", order(9))
    driver.end_of_input()
    assert len(driver.files("orders")) == 6


def test_a_local_state_of_what_was_discarded_elsewhere_is_rebuilt(settling: Settling) -> None:
    """Though the changelog made anew has by now more than what it had applied of the old one."""
    driver = settling.driver
    old = driver._stores.pop(TP)
    driver.broker.topics[CHANGELOG.topic] = [Partition()]
    driver.advance(MINUTE)
    settling.reset("group", discard=True)
    driver.restart()
    driver.send("orders", *(order(second, "DE") for second in range(6, 20)))
    good = driver._stores[TP]
    assert int(old.get([APPLIED])[0] or 0) < driver.broker.partition(CHANGELOG).next_offset
    driver._stores[TP] = old
    driver.restart()
    assert old.scan(b"", b"~") == good.scan(b"", b"~")


def test_a_changelog_that_has_lost_its_end_is_no_state_to_go_on_from(settling: Settling) -> None:
    driver = settling.driver
    log = driver.broker.partition(CHANGELOG)
    keep = next(i for i, (_, r) in enumerate(log.records) if r.key == META) + 1
    del log.records[keep:]
    log.next_offset = keep
    with pytest.raises(StateRefused, match=r"the changelog orders-orders-changelog.* ends at 2"):
        driver.restart()
    with pytest.raises(StateRefused, match=r"its tables have commit 5, but the state .* commit 1"):
        settling.plan("changelog")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "soon"], "--to 'soon': say changelog, group, earliest, latest, or an offset"),
        (["--to", "12"], "an offset is one of a partition; name it with --partition"),
        (["--to", "-1"], "--to '-1': say changelog"),
    ],
)
def test_a_position_that_is_none_is_refused_before_anything_is_asked(
    words: list[str], said: str
) -> None:
    done = CliRunner().invoke(main, ["state", "reset", "topologies.flights", *words])
    assert done.exit_code == 2
    assert f"error: {said}" in done.stderr


def test_a_local_state_is_looked_at_while_a_worker_has_it(tmp_path: Path) -> None:
    assert local_state(tmp_path / "none", "a-0").words().startswith("none in ")
    folder = StateFolder(tmp_path)
    store = folder.store("a-0")
    store.apply([(APPLIED, b"17"), (b"k", b"v")])
    found = local_state(tmp_path, "a-0")
    assert (found.there, found.in_use, found.applied, found.problem) == (True, True, 17, None)
    assert orjson.loads(orjson.dumps(found.as_json()))["bytes"] == found.bytes > 0
    store.close()
    folder.close()
    assert not local_state(tmp_path, "a-0").in_use
    (tmp_path / "a-0" / "CURRENT").write_bytes(b"garbage")
    assert "cannot be read" in local_state(tmp_path, "a-0").words()
