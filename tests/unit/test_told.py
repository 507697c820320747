"""What tells functions and values from others: the same in each process, and not for others."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow.compute as pc
import pytest

from streamflow.told import UNTOLD, told_function, told_settings

#: Functions whose repr, or that of what they are made of, is another one in each process.
SOURCE = '''
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

Colour = Enum("Colour", {"RED": object()})


def makes(limit, *, names=frozenset({"a", "b", "c"}), then=print):
    def made(rows, more=(1, None, b"x")):
        return [one for one in rows if one.name in {"x", "y", "z"} and one.size > limit]
    return made


def calls_itself():
    def down(n):
        return n and down(n - 1)
    return down


class Scaled:
    def __init__(self, by):
        self.by, self.cache, self.how = by, {}, makes(by)

    def __call__(self, rows):
        return [sorted(row) for row in rows]

    def scale(self, rows):
        return rows * self.by


LIMIT, OTHERS = 3, {}


def helps(n):
    """Words."""
    return n > LIMIT


def uses(rows):
    return [helps(n) for n in rows]


def looks(rows):
    return [OTHERS.get(n) for n in rows]


@dataclass(frozen=True)
class Kept:
    names: frozenset = frozenset({"a", "b", "c"})
    kind: type = Scaled
    how: object = makes
    colour: Colour = Colour.RED
    more: dict = field(default_factory=lambda: {"x": {"u", "v", "w"}})

    def __call__(self, rows):
        return rows


class Slotted:
    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by

    def __call__(self, rows):
        return rows


BOUND = partial(makes(4), more=(2,))
ALL = [makes, makes(3), calls_itself(), Scaled(2), Scaled(2).scale, BOUND, len]
ALL += [uses, looks, Kept(), Slotted(2)]
'''


def functions(source: str = SOURCE) -> list[Callable[..., Any]]:
    names: dict[str, Any] = {}
    exec(compile(source, "made", "exec"), names)
    return names["ALL"]


def test_the_same_code_is_told_the_same_in_each_process() -> None:
    code = f"from streamflow.told import told_function\n{SOURCE}\nprint([*map(told_function, ALL)])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    assert list(map(told_function, functions())) == list(map(told_function, functions()))


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("one.name", "one.title", [0, 1, 5]),
        ('"z"', '"w"', [0, 1, 5]),
        ("limit, *", "limit=5, *", [0]),
        ("(1, None,", "(1, 2,", [0, 1, 5]),
        ("n - 1", "n - 2", [2]),
        ("sorted(row)", "list(row)", [3]),
        ("Scaled(2)", "Scaled(5)", [3, 4]),
        ("makes(3)", "makes(9)", [1]),
        ("more=(2,)", "more=(3,)", [5]),
        ("LIMIT, OTHERS = 3", "LIMIT, OTHERS = 4", [7]),
        ("n > LIMIT", "n < LIMIT", [7]),
        ('"""Words."""', '"""Other words."""', []),
        ('{"a", "b", "c"})\n    kind', '{"a", "b", "d"})\n    kind', [9]),
        ('{"u", "v", "w"}', '{"u", "v", "z"}', [9]),
        ("Slotted(2)", "Slotted(3)", [10]),
    ],
)
def test_other_code_is_told_otherwise(old: str, new: str, changed: list[int]) -> None:
    before, after = functions(), functions(SOURCE.replace(old, new))
    pairs = enumerate(zip(before, after, strict=True))
    found = [n for n, (one, other) in pairs if told_function(one) != told_function(other)]
    assert found == changed


def test_settings_have_no_code_and_nothing_that_changes() -> None:
    (scaled,) = (one for one in functions() if type(one).__name__ == "Scaled")
    assert told_settings(scaled) == "Scaled(by=2)"
    assert told_settings(partial(len)) == "functools.partial(<built-in function len>)"
    assert " at 0x" not in told_settings(pc.add) + told_function(object)


def test_what_may_change_is_said_to_be_untold() -> None:
    made = functions()
    untold = [place for place, one in enumerate(made) if UNTOLD in told_function(one)]
    assert untold == [3, 8, 9], "a cache, a dict of the module, a field that can change"
    assert UNTOLD in told_function({}.get)
