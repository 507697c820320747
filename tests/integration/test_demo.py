"""`make demo` as a newcomer runs it: it ends with its summary, and leaves nothing running."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def start(folder: Path, **environment: str) -> "subprocess.Popen[str]":
    """The demo in a process group of its own, as a terminal has it."""
    return subprocess.Popen(
        [sys.executable, "-m", "streamflow", "demo", "--folder", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
    )


def left_running(marker: str) -> list[str]:
    """Command lines of processes that belong to a run: its folder or its broker's is in them."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if marker in line:
            found.append(line)
    return found


def test_it_prints_what_the_readme_shows_and_leaves_nothing_running(tmp_path: Path) -> None:
    output, _ = start(tmp_path).communicate(timeout=180)
    shown = re.findall(r"```text\n(.*?)```", README, re.DOTALL)[0]
    for line in shown.splitlines():
        # A table's plan is measured on the partition that rolls first, so sizes differ a little.
        said = re.sub(r"[\d.]+ MB$", "", line)
        if "..." not in line:
            assert said in output, line
    assert re.search(r"336,776 records in [\d.]+ s: [\d,]+ records/s", output)
    assert left_running(str(tmp_path)) == []

    query = output[output.index("query it:") :].splitlines()[1].strip()
    words = query.replace(".venv/bin/python", sys.executable)
    answer = subprocess.run(words, shell=True, capture_output=True, text=True, check=True)
    assert "EWR" in answer.stdout


@pytest.mark.parametrize("seconds", [1.0, 6.0, 10.0])
def test_ctrl_c_leaves_no_process_and_no_lock(tmp_path: Path, seconds: float) -> None:
    """Ctrl-C reaches every process of the terminal's group, at any moment."""
    demo = start(tmp_path, STREAMFLOW_MARKER=str(tmp_path))
    with pytest.raises(subprocess.TimeoutExpired):
        demo.wait(seconds)
    brokers = _descendants(demo.pid)
    os.killpg(demo.pid, signal.SIGINT)
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode != 0
    assert "Traceback" not in output
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in brokers) and time.monotonic() < deadline:
        os.sched_yield()
    assert not [pid for pid in brokers if Path(f"/proc/{pid}").exists()]
    assert left_running(str(tmp_path)) == []


def _descendants(pid: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_descendants(child)]
    return found
