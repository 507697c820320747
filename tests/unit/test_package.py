"""What the package offers, and that asking it for help does not wait for what it does not need."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import AwareDatetime

import streamflow
from streamflow.edge import Edge, Exit
from streamflow.results import Results, Windowed
from streamflow.stream import Stream
from streamflow.testing import TopologyDriver


def test_everything_offered_is_there() -> None:
    annotations = {"LeapDatetime"}
    for name in set(streamflow.__all__) - annotations:
        assert getattr(streamflow, name).__name__.lower() == name.lower()
    assert get_args(streamflow.LeapDatetime)[0] is AwareDatetime
    assert set(streamflow.__all__) <= set(dir(streamflow))


def test_what_is_not_offered_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Hopping7'"):
        _ = streamflow.Hopping7


def test_help_needs_neither_arrow_nor_faust() -> None:
    code = (
        "import sys; from streamflow.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted({'pyarrow', 'faust', 'aiokafka', 'pydantic'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"
    assert "produce" in said.stdout


def public() -> Iterator[tuple[str, object]]:
    """What a topology and its tests are written with: names, their methods and properties."""
    named = {name: getattr(streamflow, name) for name in streamflow.__all__}
    named |= {one.__name__: one for one in (Stream, Windowed, Results, Exit, Edge, TopologyDriver)}
    for name, one in named.items():
        yield name, one
        for member in vars(one) if isinstance(one, type) else ():
            if not member.startswith("_") and callable(getattr(one, member)):
                yield f"{name}.{member}", getattr(one, member)


@pytest.mark.parametrize(("name", "one"), list(public()))
def test_every_public_name_says_what_it_is(name: str, one: object) -> None:
    words = (inspect.getdoc(one) or "").strip()
    assert len(words) > 10, name
    # A dataclass without a docstring is given its signature as one.
    assert not words.startswith(f"{name}("), name
