"""What the package offers, and that asking it for help does not wait for what it does not need."""

import subprocess
import sys
from typing import get_args

import pytest
from pydantic import AwareDatetime

import streamflow


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
