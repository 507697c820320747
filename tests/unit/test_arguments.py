"""What a topology is declared with, of the wrong type: told by name, before anything runs."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel

from streamflow import (
    Hopping,
    Quantile,
    Session,
    Sliding,
    Threshold,
    Topology,
    TopologyError,
    Tumbling,
    every,
    source,
    topic,
    update,
)
from streamflow.batch import Record
from streamflow.testing import TopologyDriver

HOUR = timedelta(hours=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Sale(BaseModel):
    shop: str
    cents: int
    at: AwareDatetime


def sales(**options: Any) -> Any:
    return source(topic("sales"), Sale, key="shop", event_time="at", **options)


def window(window: Any = None, **options: Any) -> Any:
    return sales().window(window or Tumbling(HOUR), by="shop", **options)


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: Tumbling("1h"), "Tumbling: size is '1h', which is no timedelta; say timedelta(ho"),  # type: ignore[arg-type]
    (lambda: Tumbling(HOUR, offset=5), "Tumbling: offset is 5, which is no timedelta"),  # type: ignore[arg-type]
    (lambda: Hopping(HOUR, 60), "Hopping: every is 60, which is no timedelta"),  # type: ignore[arg-type]
    (lambda: Hopping(HOUR, HOUR, "0"), "Hopping: offset is '0', which is no timedelta"),  # type: ignore[arg-type]
    (lambda: Session("30m"), "Session: gap is '30m', which is no timedelta"),  # type: ignore[arg-type]
    (lambda: Sliding(30), "Sliding: size is 30, which is no timedelta"),  # type: ignore[arg-type]
    (lambda: sales(max_future="1h"), "source('sales'): max_future is '1h', which is no time"),
    (lambda: sales(out_of_orderness=3), "source('sales'): out_of_orderness is 3, which is no"),
    (lambda: sales(idle_after="1m"), "source('sales'): idle_after is '1m', which is no time"),
    (lambda: sales().dedup("shop", within="1d"), "dedup on 'sales': within is '1d', which"),
    (lambda: sales().changed("shop", forget_after=1), "forget_after is 1, which is no timed"),
    (lambda: window(grace="6h"), "window on 'sales': grace is '6h', which is no timedelta"),
    (lambda: window(early=every("15m")), "every(...) is '15m', which is no timedelta"),  # type: ignore[arg-type]
    (lambda: window(late=update(keep=2)), "update(keep=...) is 2, which is no timedelta"),  # type: ignore[arg-type]
    (lambda: Quantile("cents", "0.5"), "quantile: q is '0.5', which is no number"),  # type: ignore[arg-type]
    (lambda: Quantile("cents", 0.5, error=True), "quantile: error is True, which is no number"),
    (lambda: Threshold(max_count="3", last=9), "threshold: max_count is '3', which is no whole"),  # type: ignore[arg-type]
    (lambda: Threshold(max_count=3, last=9.5), "threshold: last is 9.5, which is no whole num"),  # type: ignore[arg-type]
    (lambda: Threshold(max_fraction="1%", last=9), "threshold: max_fraction is '1%', which is"),  # type: ignore[arg-type]
    (lambda: Threshold(max_count=3, within="1h"), "threshold: within is '1h', which is no tim"),  # type: ignore[arg-type]
    (
        lambda: Threshold(max_count=3, last=9, action="route", resume_after="1h"),  # type: ignore[arg-type]
        "threshold: resume_after is '1h', which is no timedelta",
    ),
    (lambda: sales().gate("cents > 0"), "gate on 'sales': 'cents > 0' is no rule; say Rule("),
    (lambda: sales().filter(5), "filter on 'sales': 5 is neither SQL nor a function"),
]


@pytest.mark.parametrize(("mistake", "words"), MISTAKES)
def test_a_value_of_another_type_is_refused_by_name(mistake: Callable[[], Any], words: str) -> None:
    with pytest.raises(TopologyError) as refused:
        mistake()
    assert words in str(refused.value)


def test_the_driver_says_what_it_can_be_sent() -> None:
    stream = sales()
    edges = [stream.to(topic("copy")), stream.rejected.to(topic("dlq"))]
    driver = TopologyDriver(Topology("sales", *edges), NOW)
    with pytest.raises(ValueError, match=r"does not read 'sale'; it reads \['sales'\]"):
        driver.send("sale", b"{}")
    for wrong in (None, 5, "text"):
        with pytest.raises(TypeError, match="a record is a mapping, bytes or a Record"):
            driver.send("sales", wrong)
    driver.send("sales", Record(b"a", None))
    assert [row["reason"] for row in driver.read("dlq")] == ["no-value"]
