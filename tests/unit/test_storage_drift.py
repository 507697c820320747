"""When data is another than that which a plan was made of."""

from typing import Any

import pyarrow as pa
import pytest

from streamflow.storage.drift import drift
from streamflow.storage.profile import profile


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (list(range(100)), list(range(500, 600)), []),
        ([1] * 9, [2] * 9, []),
        ([1] * 9, [1, 2] * 4, ["v: one value no more"]),
        ([1, 2] * 4, [1] * 9, ["v: one value only"]),
        ([1, 2] * 4, [1, 2, None, None] * 4, ["v: 50% null, it was 0%"]),
        (list(range(100)), list(range(50)) * 2, ["v: 50% seen before, it was 0%"]),
        (list(range(100)), list(range(100, 0, -1)), ["v: 0% ascending, it was 100%"]),
        ([1] * 50 + [2] * 50, [1, 2] * 50, ["v: 51% ascending, it was 100%"]),
        ([1, 1, 2, 2] * 25, [1] * 50 + [2] * 50, ["v: runs of 50, it was 2"]),
        ([1, 2] * 50, [0, 2**40] * 50, ["v: spread over 41 bits, it was 1"]),
        (["ab", "cd"], ["ab" * 9, "cd" * 9], ["v: bytes each: 18, it was 2"]),
        ([1, 1, 0, 0] * 99, [2] * 9 + [1] * 9, ["v: runs of 9, it was 2"]),
        ([], [1, 2], ["v: values where there were none, or none"]),
        ([None], [None, None], []),
    ],
)
def test_the_bounds(old: list[Any], new: list[Any], words: list[str]) -> None:
    kind = pa.string() if isinstance((old or [0])[0], str) else pa.int64()
    before, now = (profile(pa.table({"v": pa.array(some, kind)})) for some in (old, new))
    found = drift(before, now)
    assert found == words


def test_columns_are_compared_by_their_path() -> None:
    before = profile(pa.table({"a": [1, 2], "b": [1, 1]}))
    now = profile(pa.table({"b": [1, 2], "c": [1, 2]}))
    assert drift(before, now) == ["b: one value no more"]
