"""A long run in parts: together they have every test, each in one of them."""

import re
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")


def part_of(tests: Sequence[T], said: str) -> list[T]:
    """What part `said` (`K/N`) has: every N-th from the K-th on, so that the dear tests of a file
    are not all in one part.
    """
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", said)
    part, parts = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= part <= parts:
        raise pytest.UsageError(f"--part {said}: say which of how many parts, like 1/12")
    return list(tests[part - 1 :: parts])
