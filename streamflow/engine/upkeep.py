"""What runs beside the lanes from assignment to revocation: tables must not fall too far behind,
disks not fill up, states are copied, and Delta tables seen to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from streamflow.batch import TopicPartition
from streamflow.clock import Clock
from streamflow.engine.backups import Backups
from streamflow.engine.disk_watch import DiskWatch, percent_used
from streamflow.engine.pauses import Pauses
from streamflow.engine.settings import Settings
from streamflow.engine.sink_lane import SinkLane
from streamflow.engine.sink_pressure import SinkPressure
from streamflow.engine.table_upkeep import Kept, TableUpkeep
from streamflow.engine.task_lane import TaskLane
from streamflow.engine.world import World
from streamflow.store_url import is_url

Sources = Mapping[TopicPartition, Collection[TopicPartition]]


def upkeep(
    settings: Settings,
    tasks: Mapping[TopicPartition, TaskLane],
    sinks: Mapping[TopicPartition, SinkLane],
    sources: Sources,
    kept: Sequence[Kept],
    pauses: Pauses,
    world: World,
    clock: Clock,
) -> list[asyncio.Task[None]]:
    """Begin with it; `sources` are the source partitions that fill each rows partition, and `kept`
    the tables that this worker sees to.
    """
    folders: dict[Path, Callable[[], Iterable[TopicPartition]]] = {
        settings.state_dir: lambda: tasks
    }
    if settings.lake_folder is not None:
        folders[settings.lake_folder] = lambda: on_disk(sinks)
    disks = DiskWatch(
        folders,
        pauses,
        warn=settings.disk_warn_percent,
        pause=settings.disk_pause_percent,
        used=percent_used,
    )
    running = [asyncio.create_task(disks.run(), name="disks")]
    if sinks:
        pressure = SinkPressure(settings.max_sink_lag, sinks, sources, pauses, world.bounds)
        running.append(asyncio.create_task(pressure.run(), name="sink pressure"))
    if settings.backup_dir is not None:
        backups = Backups(world.states(), settings.backup_interval, tasks, clock)
        running.append(asyncio.create_task(backups.run(), name="backups"))
    if kept:
        seen_to = TableUpkeep(kept, clock)
        running.append(asyncio.create_task(seen_to.run(), name="upkeep of tables"))
    return running


def on_disk(sinks: Mapping[TopicPartition, SinkLane]) -> list[TopicPartition]:
    """Those that are open and whose table lies below the lake, not in an object store."""
    opened = {tp: lane.sink.spec for tp, lane in sinks.items() if lane.sink is not None}
    return [tp for tp, spec in opened.items() if not is_url(spec.path)]
