"""The command line: fast help, errors in one line."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from streamflow import cli


def test_help_needs_neither_the_engine_nor_a_client() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from streamflow.cli import main\n"
        "assert 'broker' in CliRunner().invoke(main, ['--help']).output\n"
        "heavy = {'faust', 'aiokafka', 'rocksdict', 'streamflow.engine'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_error_the_person_can_act_on_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    done = CliRunner().invoke(cli.main, ["broker"])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: Kafka needs Java 17 or newer")
    assert done.stderr.count("\n") == 1


class Known(Exception):
    streamflow_exit_code = 7


@pytest.mark.parametrize(
    ("raised", "exit_code", "said"),
    [
        (Known("disk is full"), 7, "error: disk is full\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
    ],
)
def test_how_a_command_ends(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, exit_code: int, said: str
) -> None:
    @click.command()
    def failing() -> None:
        raise raised

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: failing)
    done = CliRunner().invoke(cli.main, ["broker"])
    assert (done.exit_code, done.stderr) == (exit_code, said)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def failing() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: failing)
    assert isinstance(CliRunner().invoke(cli.main, ["broker"]).exception, ZeroDivisionError)


def test_every_command_that_is_there_is_a_click_command() -> None:
    folder = Path(cli.__file__).parent
    context = click.Context(cli.main)
    for name in cli.COMMANDS:
        if (folder / f"{name}.py").exists():
            assert cli.main.get_command(context, name) is not None
