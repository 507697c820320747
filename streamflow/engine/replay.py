"""Applies again what a clock has decided in an earlier run over the same records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamflow.batch import MicroBatch
from streamflow.core.step import Decision
from streamflow.engine.task import Task


@dataclass(frozen=True)
class Replay:
    """One partition's decisions, in the order of their offsets (`core.keys.recorded`). Without any,
    the partition is judged by event time alone.

    Caller: whoever feeds the task; `cut` each batch, and `apply` before it and after the last.
    """

    decisions: Sequence[Decision]

    def cut(self, batch: MicroBatch) -> MicroBatch:
        """The batch as far as the next decision after its start."""
        stops = [d.offset for d in self.decisions if batch.start < d.offset < batch.stop]
        return batch.cut(batch.start, min(stops)) if stops else batch

    def apply(self, task: Task) -> None:
        """Apply those at the task's position. One that a commit holds already is left out."""
        for decision in self.decisions:
            known = task.watermark
            here = decision.offset == task.state.position
            if here and (known is None or decision.watermark > known):
                task.decide(decision)
