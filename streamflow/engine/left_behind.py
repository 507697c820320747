"""Tables that a topology has no more, while rows of them lie in their rows topics only.

Nobody would make files of these: the sink stage reads the topics of the tables there are. So a task
whose state was last committed for such a table starts only when all of it is rolled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from streamflow.batch import TopicPartition
from streamflow.core.names import Names
from streamflow.core.plan import SinkPlan
from streamflow.engine.chain import chain_of
from streamflow.engine.refusals import table_left_behind, table_moved
from streamflow.engine.task import Task
from streamflow.engine.world import World


async def refuse_left_behind(
    task: Task, names: Names, tables: Mapping[str, SinkPlan], world: World
) -> None:
    """Look at the tables that a task's state was committed for, and that have no rows topic any
    more; `tables` are those by the topics that there are. Where the topic was deleted too, somebody
    has given the rows up.

    Raises:
        StateRefused: rows of one are in no file yet, or its topic is another table's by now.
    """
    for sink, path in task.tables.items():
        rows = TopicPartition(names.rows(sink), task.tp.partition)
        if rows.topic in tables:
            now = names.table(tables[rows.topic].table.location)
            if now != path:
                raise table_moved(rows, path, now)
            continue
        rolled = await asyncio.to_thread(chain_of(world.files(path)).rolled_to, rows)
        committed = task.state.commit
        if (rolled or 0) < committed and await world.exists(rows.topic):
            raise table_left_behind(rows, sink, path, committed)
