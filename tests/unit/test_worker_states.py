"""The states of a worker that has no task: all that it does is to archive topics."""

from pathlib import Path

from streamflow.clock import SystemClock
from streamflow.engine.settings import Settings
from streamflow.states import WorkerStates


def test_a_worker_without_tasks_has_no_databases_and_starts(tmp_path: Path) -> None:
    settings = Settings.load(state_dir=tmp_path)
    states = WorkerStates(settings, "app", {}, "cluster", SystemClock(), {})
    states.close()
    assert (tmp_path / "app" / "worker").is_dir()
