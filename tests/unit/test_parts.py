"""What takes a night can be done in parts."""

from itertools import chain

import pytest

from tests.parts import part_of


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 12])
def test_each_test_is_in_one_part(parts: int) -> None:
    tests = list(range(10))
    found = [part_of(tests, f"{part}/{parts}") for part in range(1, parts + 1)]
    assert sorted(chain.from_iterable(found)) == tests


def test_neighbours_are_in_different_parts() -> None:
    assert part_of("abcdef", "2/3") == ["b", "e"]


@pytest.mark.parametrize("said", ["", "3", "0/4", "5/4", "-1/4", "a/b", "1/2/3"])
def test_what_is_no_part_is_refused(said: str) -> None:
    with pytest.raises(pytest.UsageError, match="say which of how many parts"):
        part_of([], said)
