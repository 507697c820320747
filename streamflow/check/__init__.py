"""Looks for everything that would stop a worker before one is started, and finds it all at once.

Nothing is changed, except that missing topics are made where that is asked for.
"""

from __future__ import annotations

from streamflow.check.broker import check_broker
from streamflow.check.finding import Finding
from streamflow.check.folders import check_lake, check_state
from streamflow.check.topics import check_topics
from streamflow.engine.settings import Settings
from streamflow.errors import StreamflowError
from streamflow.service import connection
from streamflow.topology import Topology

__all__ = ["Finding", "check", "check_folders"]


async def check(
    topology: Topology | StreamflowError, settings: Settings, create_partitions: int | None = None
) -> list[Finding]:
    """Everything that was looked at, in the order in which a worker would meet it.

    Args:
        topology: The topology, or why there is none: then its topics are not looked at.
        settings: Those of the worker.
        create_partitions: Make missing topics, and the sources among them with this many
            partitions.
    """
    findings = [_topology(topology)]
    loaded = None if isinstance(topology, StreamflowError) else topology
    app = settings.app_id or (loaded.name if loaded is not None else None)
    client = connection(settings)
    answers = await check_broker(client, app or "streamflow", settings)
    findings += answers
    if loaded is not None and answers[0].level == "ok":
        names = settings.names(loaded.name)
        findings += await check_topics(client, loaded, names, create_partitions)
    return findings + check_folders(loaded, settings)


def check_folders(topology: Topology | None, settings: Settings) -> list[Finding]:
    """The lake, if anything goes there, and the state folder of the worker."""
    findings: list[Finding] = []
    if topology is None or any(plan.all_sinks for plan in topology.tasks):
        findings.append(check_lake(settings.lake))
    app = settings.app_id or (topology.name if topology is not None else None)
    folder = settings.state_dir / app / settings.worker_id if app else settings.state_dir
    return [*findings, check_state(folder)]


def _topology(topology: Topology | StreamflowError) -> Finding:
    if isinstance(topology, StreamflowError):
        return Finding.problem("topology", str(topology), "fix the topology or name another one")
    sources = ", ".join(repr(plan.source.topic) for plan in topology.tasks)
    return Finding.ok(
        "topology", f"topology {topology.name!r} of version {topology.version} reads {sources}"
    )
