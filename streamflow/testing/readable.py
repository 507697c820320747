"""Records of topics as tests like to look at them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import orjson

from streamflow.batch import Record


def readable(record: Record) -> dict[str, Any]:
    """Its value's fields, and its context beside them."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    try:
        value = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        value = None
    row: dict[str, Any] = dict(_with_times(value)) if isinstance(value, dict) else {}
    if "streamflow.reason" in headers:
        row["offset"] = int(headers["__connect.errors.offset"])
        row["reason"] = headers["streamflow.reason"]
        row["rule"] = headers["streamflow.rule"]
        row["field"] = headers["streamflow.field"]
    if "streamflow.late.lateness_us" in headers:
        row["lateness"] = timedelta(microseconds=int(headers["streamflow.late.lateness_us"]))
    return row


def _with_times(value: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, str) and len(item) >= 20 and item[10] == "T" and item.endswith("Z"):
            # A dead letter may hold text that only looks like a time.
            with suppress(ValueError):
                item = datetime.fromisoformat(item)  # noqa: PLW2901
        yield name, item
