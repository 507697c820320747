"""The changelog's position is the one that counts; the consumer group's must not contradict it."""

from __future__ import annotations

import asyncio

from streamflow.clock import Clock
from streamflow.core.names import Names
from streamflow.engine.refusals import changelog_empty, group_disagrees
from streamflow.engine.task import Task
from streamflow.engine.world import World

#: A group offset that disagrees with the changelog is read again for this long: the transaction
#: that wrote both may still be settling.
GROUP_OFFSET_SECONDS = 10.0


async def see_that_they_agree(task: Task, names: Names, world: World, clock: Clock) -> None:
    """Look at the group's offset of a task that was opened. Without transactions it comes later,
    and is for monitors only.

    Raises:
        StateRefused: it still disagrees after `GROUP_OFFSET_SECONDS`.
    """
    tp, position, source = task.tp, task.state.position, task.plan.source.topic
    begun = task.state.commit > 0
    # Owners without transactions leave a state that has no commit yet where there was no record.
    known = begun or task.restored
    started = clock.monotonic()
    while True:
        group = await world.group_offset(tp)
        loose = begun and world.delivery == "at_least_once"
        if group is None or loose or (known and group == position):
            return
        if clock.monotonic() - started > GROUP_OFFSET_SECONDS:
            if begun:
                raise group_disagrees(tp, position, group, names.app, source)
            raise changelog_empty(tp, task.changelog, group, names.app, source)
        await asyncio.sleep(0.2)
