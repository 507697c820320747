"""What the commands refuse in one line, before anything is started."""

import logging
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from streamflow import cli
from streamflow.cli.display import LINE_SECONDS, Display
from streamflow.cli.log import NotTheLastWord
from streamflow.cli.produce import interrupted
from streamflow.cli.worker import summary_lines
from streamflow.clock import SimulatedClock
from streamflow.engine.status import Status
from streamflow.errors import SettingsError
from streamflow.produce.send import Tally


def refused(*words: str) -> str:
    """The one line that the command ends with."""
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    return done.stderr.splitlines()[-1]


WORKER = ("worker", "topologies.flights")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*WORKER, "--broker", "127.0.0.1:99999"], "error: --broker '127.0.0.1:99999': a port"),
        ([*WORKER, "--web-port", "99999"], "error: --web-port 99999: input should be less than"),
        ([*WORKER, "--commit-interval", "soon"], "error: --commit-interval 'soon': input should"),
        ([*WORKER, "--log-level", "bogus"], "Error: Invalid value for '--log-level': 'bogus' is"),
        (["check", "x", "--broker", "a:0"], "error: --broker 'a:0': a port is a number from 1"),
        (["produce", "x", "--broker", "a:x"], "error: --broker 'a:x': it is not HOST:PORT"),
        (["broker", "--port", "80000"], "Error: Invalid value for '--port': 80000 is not in"),
        (
            ["run", "topologies.flights", "--local", "--input", "/dev/null", "--output", "/proc/x"],
            "error: /proc/x cannot be made: No such file or directory; let this user write there",
        ),
        (
            ["run", "topologies.flights", "--local", "--output", "s3://lake/x"],
            "error: --output s3://lake/x: a local run makes a folder on this machine",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line(words: list[str], said: str) -> None:
    assert refused(*words).startswith(said)


@pytest.mark.parametrize("level", ["critical", "INFO"])
def test_a_level_of_the_log_is_known_in_either_case(level: str) -> None:
    said = refused(*WORKER, "--log-level", level, "--broker", "none")
    assert said == "error: --broker 'none': it is not HOST:PORT, as 127.0.0.1:9092 is"


@pytest.mark.parametrize(
    ("option", "folder", "what"),
    [
        ("--lake", "/proc/lake", "lake folder '/proc/lake' cannot be written: "),
        ("--state-dir", "/proc/st", "state folder '/proc/st/flights/worker' cannot be written: "),
    ],
)
def test_a_worker_does_not_start_on_a_folder_that_check_finds_unwritable(
    tmp_path: Path, option: str, folder: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMFLOW_BROKER_WAIT", "0")
    folders = {"--lake": str(tmp_path / "lake"), "--state-dir": str(tmp_path / "state")}
    words = [word for pair in (folders | {option: folder}).items() for word in pair]
    said = refused(*WORKER, "--broker", "127.0.0.1:1", *words)
    assert said.startswith(f"error: {what}")
    assert said.endswith(f"name another folder with {option}")
    checked = CliRunner().invoke(
        cli.main, ["check", *WORKER[1:], "--broker", "127.0.0.1:1", *words]
    )
    assert f"problem  {what}" in checked.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_web_address_that_cannot_be_had_is_refused(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = ["--lake", str(tmp_path / "lake"), "--state-dir", str(tmp_path / "state")]
    words = [*WORKER, "--broker", "127.0.0.1:1", *folders, "--web-port", str(taken)]
    assert refused(*words) == (
        f"error: cannot listen on 127.0.0.1:{taken}: Address already in use; set another "
        "--web-port, or STREAMFLOW_WEB_BIND"
    )
    monkeypatch.setenv("STREAMFLOW_WEB_BIND", "192.0.2.1")
    assert "cannot listen on 192.0.2.1:" in refused(*words)


@pytest.mark.parametrize(
    "command",
    [
        ["worker", "x.y"],
        ["check", "x.y", "--broker", "a:1"],
        ["run", "x.y", "--local"],
        ["produce", "x", "--types", "x.y"],
    ],
)
def test_a_misspelt_variable_is_told_once(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMFLOW_BROKR", "127.0.0.1:1")
    monkeypatch.setenv("STREAMFLOW_BROKER_WAIT", "0")
    done = CliRunner().invoke(cli.main, command)
    warning = (
        "warning: STREAMFLOW_BROKR is no setting and does nothing; is STREAMFLOW_BROKER meant?"
    )
    assert done.stderr.splitlines().count(warning) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words", [["--help"], ["check", "x.y", "--json", "--broker", "127.0.0.1:1"]]
)
def test_a_full_disk_behind_standard_output_is_one_line(words: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "streamflow", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            env={"PYTHONUNBUFFERED": unbuffered, "STREAMFLOW_BROKER_WAIT": "0"},
            check=False,
        )
    assert done.stderr == b"error: the output cannot be written: No space left on device\n"
    assert done.returncode == 2


def test_the_failure_that_a_worker_ends_with_is_not_logged_as_well() -> None:
    def shown(level: int, *words: object) -> bool:
        record = logging.LogRecord("host", level, "", 0, "%s", words, None)
        return last.filter(record)

    last, failure = NotTheLastWord(), SettingsError("a person has to look at this")
    assert shown(logging.WARNING, failure)
    assert shown(logging.ERROR, "text")
    assert not shown(logging.ERROR, failure)
    assert shown(logging.ERROR, SettingsError("another one"))


@pytest.mark.parametrize(
    ("tally", "said"),
    [
        (Tally(), "interrupted: 0 records are in t, acknowledged"),
        (Tally(5_000, 5_000), "interrupted: 5,000 records are in t, acknowledged"),
        (
            Tally(5_000, 3_000),
            "interrupted: 3,000 records are in t, acknowledged; of 2,000 more that is not known",
        ),
    ],
)
def test_an_interrupted_produce_says_what_is_in_the_topic(tally: Tally, said: str) -> None:
    assert interrupted("t", tally) == said


def status(records: int, opened: int = 2, **changes: int) -> Status:
    totals = Counter({"in": records, "passed": records})
    numbers = {
        "tasks": 2,
        "ended": 0,
        "idle": 0,
        "lag": 0,
        "files": 0,
        "rows": 0,
        "bytes": 0,
    } | changes
    lists: Any = {"gates": {}, "paused": {}, "delivery": "exactly_once"}
    return Status(totals, Counter(), None, opened=opened, **numbers, **lists)


def test_a_summary_says_what_is_of_the_app_and_what_of_this_run() -> None:
    assert summary_lines(status(5_040), 1.25) == [
        "since the app began, in the partitions of this worker:",
        "  5,040 in = 5,040 passed + 0 rejected",
        "in this run: 0 files, 0 rows, 1.2 s",
    ]


@pytest.mark.parametrize("dropped", [0, 1_234])
def test_what_was_dropped_is_shown_where_something_was(tmp_path: Path, dropped: int) -> None:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    came = status(5_000)
    came.totals["dropped"] = dropped
    with (tmp_path / "out").open("w+") as out:
        display = Display(Console(file=out, width=300), "flights", clock)
        clock.advance(timedelta(seconds=LINE_SECONDS))
        display.show(came)
        out.seek(0)
        line = out.read()
    assert ("dropped 1,234" in line) == bool(dropped)
    assert "dead letters 0" in line


def test_a_rate_counts_what_was_done_not_what_came_or_went_with_partitions(tmp_path: Path) -> None:
    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    with (tmp_path / "out").open("w+") as out:
        display = Display(Console(file=out, width=300), "flights", clock)
        steps = [
            status(100_000, 4),
            status(105_000, 4),
            status(50_000, 2),  # a rebalance took two
            status(50_500, 2),
            status(200_500, 4),  # and gave them back with what the other one did
            status(201_000, 4),
            status(200_000, 4),  # one for another
        ]
        for step in steps:
            clock.advance(timedelta(seconds=LINE_SECONDS))
            display.show(step)
        out.seek(0)
        rates = [line.split("records/s ")[1].split(", lag")[0] for line in out]
    assert rates == ["0", "1,000", "0", "100", "0", "100", "0"]
