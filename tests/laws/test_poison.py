"""What a topic does not take is a dead letter of stage `sink`, and everything else goes on.

Where the topic's settings tell, it never gets to the broker; where they do not, the broker refuses
the batch, and the record is found. Neither shows in anything but the record's way out.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streamflow import Topology, topic
from streamflow.batch import Record
from streamflow.core.poison import batch_bytes, identity
from streamflow.testing import CRASH_POINTS, TopologyDriver
from tests.examples import law
from tests.laws.orders import order, orders, records, topology
from tests.laws.test_laws import NOW, TOPICS, in_order

SENT = ("orders.clean", "per-minute", "orders.late")
#: Beside these two go the letters; below the first nothing of them would be left.
LETTER_LIMITS = st.integers(1_700, 6_000)

long_orders = st.builds(
    lambda seconds, country, length: order(seconds, country, product="p" * length, weight=0.5),
    st.integers(-200, 900),
    st.sampled_from(["FR", "DE"]),
    st.integers(0, 3_000),
)
broken_orders = st.builds(
    lambda seconds, length: order(seconds, product="p" * length, cents=-1, weight=0.5),
    st.integers(-200, 900),
    st.integers(0, 70_000),
)
# Means of one half are that, in whatever order they are summed: texts of results must not differ.
any_orders = records().map(
    lambda r: r._replace(value=r.value and re.sub(rb'"weight":[^,]+', b'"weight":0.5', r.value))
)
streams = st.lists(st.one_of(any_orders, long_orders, broken_orders), max_size=20)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=4)
limits = st.fixed_dictionaries(
    {}, optional={name: st.integers(150, 2_500) for name in SENT} | {"orders.dlq": LETTER_LIMITS}
)
#: One in how many records is refused though no setting says so; 0 for none.
odds = st.sampled_from([0, 4, 10])


def run(
    stream: Sequence[Record],
    limited: Mapping[str, int],
    one_in: int,
    batches: Sequence[int] = (1_000,),
    commit_records: int = 1_000,
    crash_at: str | None = None,
) -> TopologyDriver:
    """Send everything, perhaps crash on the way, and end the input."""
    driver = TopologyDriver(
        topology, NOW, partitions=2, batches=batches, commit_records=commit_records
    )
    driver.broker.limits |= limited

    def refuses(topic: str, record: Record) -> bool:
        return topic in SENT and one_in > 0 and identity(topic, record)[0] % one_in == 0

    driver.broker.refuses = refuses
    half = len(stream) // 2
    driver.send("orders", *stream[:half])
    if crash_at is None:
        driver.send("orders", *stream[half:])
    else:
        with driver.crash(at=crash_at):
            driver.send("orders", *stream[half:])
            driver.end_of_input()
        driver.process()
    driver.end_of_input()
    return driver


def undelivered(driver: TopologyDriver) -> list[tuple[str, bytes | None, bytes | None]]:
    """Topic, key and value of what could not be sent."""
    letters = [(dict(letter.headers), letter) for letter in driver.records("orders.dlq")]
    return [
        ((headers["streamflow.topic"] or b"").decode(), letter.key, letter.value)
        for headers, letter in letters
        if headers["streamflow.stage"] == b"sink"
    ]


def outcome(driver: TopologyDriver) -> dict[str, Any]:
    whole = {name: in_order(driver, name) for name in TOPICS}
    letters = [letter for partition in whole.pop("orders.dlq") for letter in partition]
    of_records = [
        letter for letter in letters if ("streamflow.topic", b"per-minute") not in letter[3]
    ]
    return {
        **whole,
        # Results come when commits do; what is made of records keeps its order.
        "letters of records": [letter[:2] for letter in of_records],
        "letters": Counter(map(str, (letter[:2] for letter in letters))),
        "results": Counter((r.key, r.value) for r in driver.records("per-minute")),
        "rows": Counter(map(str, driver.files("orders"))),
        "tables": Counter(map(str, driver.files("per-minute"))),
        "totals": dict(+driver.totals),
    }


@law()
@given(streams, limits, odds, cuts, st.integers(1, 15))
def test_where_batches_and_commits_are_cut_does_not_show_in_what_cannot_be_sent(
    stream: list[Record], limited: dict[str, int], one_in: int, batches: list[int], size: int
) -> None:
    whole = run(stream, limited, one_in)
    cut = run(stream, limited, one_in, batches, size)
    assert outcome(cut) == outcome(whole)


@law()
@given(streams, limits, odds, st.integers(1, 15), st.sampled_from(CRASH_POINTS))
def test_a_crash_while_a_record_is_searched_for_changes_nothing(
    stream: list[Record], limited: dict[str, int], one_in: int, size: int, point: str
) -> None:
    whole = run(stream, limited, one_in, commit_records=size)
    crashed = run(stream, limited, one_in, commit_records=size, crash_at=point)
    assert outcome(crashed) == outcome(whole)


@law()
@given(streams, limits, odds, st.integers(1, 15))
def test_everything_is_where_it_was_to_go_or_a_dead_letter(
    stream: list[Record], limited: dict[str, int], one_in: int, size: int
) -> None:
    limited.pop("orders.dlq", None)
    free, tight = (
        run(stream, {}, 0, commit_records=size),
        run(stream, limited, one_in, (1_000,), size),
    )
    missing = undelivered(tight)
    for name in SENT:
        left = Counter((r.key, r.value) for r in tight.records(name))
        left += Counter((key, value) for to, key, value in missing if to == name)
        assert left == Counter((r.key, r.value) for r in free.records(name))
    for table in ("orders", "per-minute"):
        assert Counter(map(str, tight.files(table))) == Counter(map(str, free.files(table)))
    totals = tight.totals
    assert totals["undelivered"] == len(missing)
    assert totals["rejected"] + totals["undelivered"] == len(tight.records("orders.dlq"))
    assert totals["in"] == totals["passed"] + totals["rejected"]
    said = {name: tight.rules[f"{name}:undelivered"] for name in SENT}
    assert said == {name: sum(to == name for to, _, _ in missing) for name in SENT}


@law()
@given(st.lists(st.one_of(long_orders, broken_orders), max_size=15), LETTER_LIMITS)
def test_a_dead_letter_that_does_not_fit_keeps_what_fits_and_says_so(
    stream: list[Record], limit: int
) -> None:
    whole = run(stream, {"orders.clean": 600}, 0)
    cut = run(stream, {"orders.clean": 600, "orders.dlq": limit}, 0)
    letters = cut.records("orders.dlq")
    assert len(letters) == len(whole.records("orders.dlq"))
    for letter, complete in zip(letters, whole.records("orders.dlq"), strict=True):
        headers, value = dict(letter.headers), complete.value or b""
        if "streamflow.truncated" not in headers:
            assert (letter.key, letter.value) == (complete.key, complete.value)
            continue
        assert headers["streamflow.truncated"] == b"value"
        assert value.startswith(letter.value or b"")
        assert len(letter.value or b"") < len(value)
        assert headers["streamflow.value.bytes"] == b"%d" % len(value)
        assert headers["streamflow.value.sha256"] == sha256(value).hexdigest().encode()
        assert letter.key == complete.key
        kept = [h for h in letter.headers if h[0] not in headers or h in complete.headers]
        assert [h for h in kept if h in complete.headers] == list(complete.headers)


def test_dropped_rejects_drop_what_cannot_be_sent_too_and_count_it() -> None:
    lone = Topology("lone", orders.to(topic("clean")), orders.rejected.drop())
    driver = TopologyDriver(lone, NOW)
    driver.broker.limits["clean"] = 500
    driver.send("orders", order(0), order(1, product="p" * 500), order(2))
    assert len(driver.records("clean")) == 2
    assert driver.totals["undelivered"] == 1
    assert driver.totals["passed"] == 3


@pytest.mark.parametrize("length", [1, 63, 64, 8_191, 8_192, 1_048_000])
def test_a_record_is_as_large_as_the_client_makes_it(length: int) -> None:
    headers = (("a", b"1"), ("ä", None), ("", b""))
    for record in (
        Record(None, b"v" * length, 5, headers),
        Record(b"k" * length, None, -1, ()),
        Record(b"", b"", 0, (("h" * length, b"v" * length),)),
    ):
        batch = BatchBuilder(1, 0, is_transactional=True)
        batch.append(
            timestamp=record.timestamp,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
        )
        assert batch_bytes(record) == batch.size()
