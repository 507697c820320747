"""The `streamflow` command.

Each subcommand lives in a module of its own, which is imported only when it is called for: the
help comes from the table below, so that it needs neither pyarrow nor faust. Each of these modules
exposes its click command under the name `command`.
"""

import importlib
import io
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any, NoReturn

import click

COMMANDS = {
    "demo": "Send real flights through Kafka into Parquet, and look at the result.",
    "broker": "Run a real single-node Kafka on this machine, without Docker.",
    "check": "Check a topology, and create the topics it needs.",
    "worker": "Run a topology against Kafka.",
    "runs": "List what workers have done: runs, how they ended, and how far they came.",
    "pause": "Let partitions stand, whatever worker has them.",
    "resume": "Let partitions go on that an operator, or a gate, has paused.",
    "run": "Run a topology over files, in one process, without Kafka.",
    "produce": "Send records from files to a topic.",
    "sink": "Make files of what is committed for a table.",
    "compact": "Make few large files of the many small ones of a plain table.",
    "storage": "Look at how tables are stored, and how other data could be.",
    "state": "Look at the state of a topology's tasks, and settle where they go on.",
}


class LazyGroup(click.Group):
    """A group that knows its commands by name, and says known errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"streamflow.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run the command line.

        An error that carries a `streamflow_exit_code` is one that the person at the terminal can
        act on: its message is printed without a traceback. Every other error is a bug and keeps
        its traceback.
        """
        try:
            return super().main(args, *more, **options)
        except KeyboardInterrupt:
            _leave(130)
        except Exception as error:
            if isinstance(error, OSError) and _came_from_printing(error):
                _put_output_aside()
                click.echo(f"error: the output cannot be written: {error.strerror}", err=True)
                sys.exit(2)
            exit_code = getattr(error, "streamflow_exit_code", None)
            if exit_code is None:
                raise
            click.echo(f"error: {error}", err=True)
            _leave(exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        # click would print "Aborted!" and exit 1.
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            _leave(130)


def _leave(exit_code: int) -> NoReturn:
    """End the process, at once where a thread still reads input that nobody waits for.

    Such a thread is a daemon, but what it waits in may be Arrow, whose own threads read ahead: the
    ordinary end would wait for these, and they for the interpreter that is gone. All else has been
    closed by now.
    """
    if not any(thread.name == "produce-input" for thread in threading.enumerate()):
        sys.exit(exit_code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(exit_code)


def _came_from_printing(error: OSError) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is click.echo.__code__


def _put_output_aside() -> None:
    """Or Python would try to write what is left when it exits, and say so in its own way."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = sys.__stdout__ = io.StringIO()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("streamflow"), prog_name="streamflow")
def main() -> None:
    """Kafka topics in, trustworthy Parquet and topics out, at columnar speed."""
