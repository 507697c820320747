"""What the orders topology means, one record at a time in plain Python, without the engine."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from streamflow.batch import Record
from tests.laws.orders import GRACE, LAG, MINUTE, NOON, Order


@dataclass
class Expected:
    """Records by exit, in order, and the rows of every window."""

    clean: list[bytes | None] = field(default_factory=list)
    rejected: list[bytes | None] = field(default_factory=list)
    late: list[bytes | None] = field(default_factory=list)
    windows: dict[tuple[str, datetime], list[Order]] = field(
        default_factory=lambda: defaultdict(list)
    )


def reference(partition: Sequence[Record]) -> Expected:
    """Take one partition's records in order."""
    expected = Expected()
    watermark: datetime | None = None
    for record in partition:
        order = _accepted(record)
        if order is None:
            expected.rejected.append(record.value)
            continue
        expected.clean.append(record.value)
        start = order.at - (order.at - NOON) % MINUTE
        if watermark is not None and watermark >= start + MINUTE + GRACE:
            expected.late.append(record.value)
        else:
            expected.windows[order.country, start].append(order)
        if watermark is None or order.at - LAG > watermark:
            watermark = order.at - LAG
    return expected


def rows(expected: Expected) -> list[tuple[Any, ...]]:
    """The final rows of all windows, sorted; the mean is left to `approx`."""
    made: list[tuple[Any, ...]] = []
    for (country, start), orders in expected.windows.items():
        cents = [order.cents for order in orders]
        made.append(
            (
                start,
                country,
                len(orders),
                sum(cents),
                sum(order.price for order in orders),
                min(cents),
                max(cents),
                len({order.product for order in orders} - {None}),
                sum(order.weight for order in orders) / len(orders),
            )
        )
    return sorted(made, key=lambda row: row[:2])


def _accepted(record: Record) -> Order | None:
    try:
        order = Order.model_validate_json(record.value or b"")
    except ValidationError:
        return None
    if record.key != order.country.encode() or order.cents >= 1000:
        return None
    return order
