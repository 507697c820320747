"""Workers of one app as processes, each with a log file, which can be killed, stopped and woken."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What a task that was lost says of the step that failed.
LOST = re.compile(r": (begin|produce|flush|offsets|commit|fence) failed:")
FENCED = re.compile(r"another owner has taken this task over \((\w+)\)")


@dataclass
class Worker:
    """One process. It may have ended by itself."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    stopped: bool = False
    told: int = 0
    born: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.born

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def frozen(self) -> bool:
        """Is it stopped, as the kernel sees it?"""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        """A signal; one that has ended gets none."""
        if self.alive:
            self.process.send_signal(number)
            self.told += number is signal.SIGTERM
            self.stopped = number is signal.SIGSTOP or (
                self.stopped and number is not signal.SIGCONT
            )

    def kill(self) -> None:
        """Kill -9, also where it is stopped."""
        self.send(signal.SIGKILL)
        self.process.wait()

    @property
    def began(self) -> bool:
        """Has it ever been given partitions?"""
        return "Setting newly assigned partitions {Topic" in self.log.read_text(errors="replace")

    @property
    def left_at_once(self) -> bool:
        """Has it ended as it is bound to when it is told twice, or cannot stop well in time?"""
        log = self.log.read_text(errors="replace")
        return self.process.poll() == 1 and (self.told > 1 or "leaving as it is" in log)

    def words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-6000:]


@dataclass
class Fleet:
    """Starts workers of one app; whoever holds it calls `close`."""

    bootstrap: str
    app: str
    folder: Path
    module: str = "tests.chaos.topology"
    workers: list[Worker] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        return f"{self.app}."

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def start(self, name: str, *options: str, **environment: str) -> Worker:
        """Start a worker; the name is its id, so no two that live may have the same."""
        log = self.folder / f"{len(self.workers):03}-{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "streamflow", "worker", self.module, "--json"),
                    *("--log-level", "info", "--worker-id", name),
                    *("--broker", self.bootstrap, "--app-id", self.app),
                    *("--topic-prefix", self.prefix, "--lake", str(self.lake)),
                    *("--state-dir", str(self.folder / "state"), "--commit-interval", "0.2"),
                    *options,
                ],
                cwd=ROOT,
                stdout=out,
                stderr=out,
                env={**os.environ, "STREAMFLOW_SESSION_TIMEOUT": "6", **environment},
            )
        self.workers.append(Worker(name, process, log))
        return self.workers[-1]

    @property
    def alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.alive]

    def lost(self) -> Counter[str]:
        """How often tasks were lost, by the step at which they were; fenced ones are `fenced`."""
        steps: Counter[str] = Counter()
        for worker in self.workers:
            words = worker.log.read_text(errors="replace")
            steps.update(LOST.findall(words))
            steps["fenced"] += len(FENCED.findall(words))
        return steps

    def close(self) -> None:
        """Leave no worker behind, whatever happened."""
        for worker in self.alive:
            worker.kill()
