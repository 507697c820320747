"""Tables that a topology has no more, while rows of them lie in their rows topics only.

Nobody would make files of these: the sink stage reads the topics of the tables there are. So a task
whose state was last committed for such a table starts only when all of it is rolled; and where the
source has left together with its table, no task does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from streamflow.batch import TopicPartition
from streamflow.core.keys import META, number_in, tables_in
from streamflow.core.names import Names
from streamflow.core.plan import SinkPlan
from streamflow.engine.chain import chain_of
from streamflow.engine.log_end import last_in
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
        await _refuse(rows, sink, path, task.state.commit, world)


async def refuse_sources_left(
    names: Names, sources: Collection[str], tables: Collection[str], world: World
) -> None:
    """The same for the tasks of topics that the group has read, and that are none of the `sources`
    any more. The group forgets these after a while (`offsets.retention.minutes`), and then nobody
    is told.

    Raises:
        StateRefused: rows of a table that left together with its source are in no file yet.
    """
    gone = [tp for tp in await world.group_partitions() if tp.topic not in sources]
    logs = {topic: names.changelog_of(topic) for topic in {tp.topic for tp in gone}}
    known = {topic: log for topic, log in logs.items() if log and await world.exists(log)}
    for tp in sorted(tp for tp in gone if tp.topic in known):
        meta = await last_in(world.log(TopicPartition(known[tp.topic], tp.partition)), _meta)
        for sink, path in ((meta and tables_in(meta)) or {}).items():
            rows = TopicPartition(names.rows(sink), tp.partition)
            if rows.topic not in tables:
                await _refuse(rows, sink, path, number_in(meta, "commit") or 0, world)


async def _refuse(rows: TopicPartition, sink: str, path: str, commit: int, world: World) -> None:
    rolled = await asyncio.to_thread(chain_of(world.files(path)).rolled_to, rows)
    if (rolled or 0) < commit and await world.exists(rows.topic):
        raise table_left_behind(rows, sink, path, commit)


def _meta(key: bytes, value: bytes | None) -> bytes | None:
    return value if key == META else None
