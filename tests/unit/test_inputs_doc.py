"""The examples in docs/inputs.md do what the text beside them says."""

import re
from contextlib import ExitStack
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from streamflow.cli import main
from streamflow.produce.formats import open_input
from streamflow.schema import Contract

INPUTS = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text()


def example(kind: str) -> str:
    (found,) = re.findall(rf"```{kind}\n(.*?)```", INPUTS, re.DOTALL)
    return found


def test_the_rows_become_the_documents(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(example("csv"))
    names = {"BaseModel": BaseModel}
    exec(example("python"), names)
    contract = Contract(names["Order"])
    types = dict(zip(contract.schema.names, contract.schema.types, strict=True))
    with ExitStack() as stack:
        chunks = open_input(path, stack, types=types).chunks()
        values = [value for chunk in chunks for value in chunk.values]
    assert values == example("json").encode().splitlines()
    rows = contract.decode(values).batch.to_pylist()
    assert [row["cents"] for row in rows] == [1250, None]
    assert [row["paid"] for row in rows] == [True, True]


@pytest.mark.parametrize("line", example("sh").splitlines())
def test_the_commands_are_understood(line: str) -> None:
    program, name, *words = line.split()
    assert program == "streamflow"
    command = main.get_command(click.Context(main), name)
    assert command is not None
    context = command.make_context(name, list(words))
    assert context.params["topic" if name == "produce" else "topology"] == words[0]
