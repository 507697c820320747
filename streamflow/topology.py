"""Topologies are values: building one opens, registers and starts nothing.

`source(...)` gives a `Stream` (`stream.py`), whose windows give `Results` (`results.py`); `to(...)`
gives an `Edge` (`edge.py`). A `Topology` is a name and its edges, which are the complete list of
where a record can go; an exit that leads nowhere is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamflow.arguments import matches
from streamflow.edge import Edge
from streamflow.errors import TopologyError

if TYPE_CHECKING:
    import faust

    from streamflow.core.plan import SinkPlan, TaskPlan

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, eq=False, init=False)
class Topology:
    """A name and the complete list of ways out.

    Attributes:
        tasks: One compiled plan per source; a task runs it on one partition.
        archives: The tables of topics that no task reads, with their topics.
        version: A hash of everything that decides what comes out.
    """

    name: str
    edges: tuple[Edge, ...]
    tasks: tuple[TaskPlan, ...]
    archives: tuple[SinkPlan, ...]
    version: str

    def __init__(self, name: str, *edges: Edge) -> None:
        from streamflow.core.archives import compile_archives, is_archive
        from streamflow.core.compile import compile_tasks  # values below, plans above
        from streamflow.core.names import Names, check_outputs
        from streamflow.core.plan import version_of
        from streamflow.engine.table_spec import table_spec

        if not matches(_NAME, name):
            given = repr(name) if _is_text(name) else f"a {type(name).__name__}"
            raise TopologyError(f"Topology({given}): a name has letters, digits and . _ - only")
        _check_edges(name, edges)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "edges", edges)
        kept = [edge for edge in edges if is_archive(edge)]
        others = [edge for edge in edges if not is_archive(edge)]
        tasks = compile_tasks(name, others) if others or not kept else ()
        object.__setattr__(self, "tasks", tasks)
        object.__setattr__(self, "archives", compile_archives(name, kept, tasks))
        object.__setattr__(self, "version", version_of(tasks, self.archives))
        check_outputs(Names(name), tasks, self.archives)
        for sink in self.tables:
            table_spec(self, Names(name), sink)

    @property
    def tables(self) -> list[SinkPlan]:
        """Every table that it writes."""
        return [*(sink for task in self.tasks for sink in task.all_sinks), *self.archives]

    def faust_app(self, **settings: Any) -> faust.App:
        """The Faust app that hosts this topology; opens nothing until a worker starts it."""
        from streamflow.engine.settings import Settings
        from streamflow.service import topology_app

        return topology_app(self, Settings.load(**settings))


def _is_text(given: object) -> bool:
    return isinstance(given, str)


def _check_edges(name: str, edges: Iterable[object]) -> None:
    for edge in edges:
        if not isinstance(edge, Edge):
            raise TopologyError(
                f"topology {name!r}: a {type(edge).__name__} is no way out; give it what "
                ".to(...) and .drop() give, each as an argument of its own"
            )
