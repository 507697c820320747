"""Words agree with the numbers before them."""

import pytest

from streamflow.counted import counted


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (2, ("row",), "2 rows"),
        (1_234_567, ("row",), "1,234,567 rows"),
        (1, ("entry", "entries"), "1 entry"),
        (3, ("offset is", "offsets are"), "3 offsets are"),
    ],
)
def test_a_number_of_things_is_said_as_people_do(
    count: int, words: tuple[str, ...], said: str
) -> None:
    assert counted(count, *words) == said
