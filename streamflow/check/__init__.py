"""Looks for everything that would stop a worker before one is started, and finds it all at once.

Nothing is changed, except that missing topics are made where that is asked for.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from streamflow.check.broker import check_broker
from streamflow.check.finding import Finding
from streamflow.check.folders import check_delta, check_lake, check_state, check_store
from streamflow.check.tables import check_tables
from streamflow.check.topics import check_topics
from streamflow.core.masking import sensitive_field
from streamflow.engine.settings import Settings
from streamflow.errors import StreamflowError
from streamflow.service import connection
from streamflow.store_url import DELTA, located
from streamflow.table_files import table_files
from streamflow.topology import Topology

__all__ = ["Finding", "check", "check_folders", "check_key"]


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
    findings += [] if loaded is None else check_key(loaded, settings)
    app = settings.app_id or (loaded.name if loaded is not None else None)
    client = connection(settings)
    answers = await check_broker(client, app or "streamflow", settings)
    findings += answers
    if loaded is not None and answers[0].level == "ok":
        names = settings.names(loaded.name)
        findings += await check_topics(
            client, loaded, names, create_partitions, settings.replication_factor
        )
    # Read before it is tried to write: where a store does not answer, that is said once.
    tables = [] if loaded is None else check_tables(loaded, settings)
    away = [table.path for table in tables if table.is_away]
    findings += check_folders(loaded, settings, away)
    return findings + [table.finding for table in tables]


def check_folders(
    topology: Topology | None, settings: Settings, away: Collection[str] = ()
) -> list[Finding]:
    """Where tables lie, if there are any, and the state folder of the worker. Stores of tables that
    are `away` are not asked.
    """
    findings: list[Finding] = []
    paths: list[str] = []
    if topology is not None:
        names = settings.names(topology.name)
        tables = [sink.table.location for sink in topology.tables]
        paths = [names.table(path) for path in tables]
    urls = {path: located(settings.lake, path) for path in map(_path, paths)}
    if any(path.startswith(DELTA) for path in paths):
        findings.append(check_delta())
    folder = settings.lake_folder
    if folder is not None and (topology is None or None in urls.values()):
        findings.append(check_lake(folder))
    for path, url in sorted(urls.items()):
        if url is not None and path not in away:
            findings.append(check_store(url, partial(table_files, settings, path)))
    app = settings.app_id or (topology.name if topology is not None else None)
    state = settings.state_dir / app / settings.worker_id if app else settings.state_dir
    return [*findings, check_state(state)]


def _path(location: str) -> str:
    return location.removeprefix(DELTA)


def check_key(topology: Topology, settings: Settings) -> list[Finding]:
    """Whether there is a key to mask sensitive fields with, where there are some."""
    marked = [field for field in map(sensitive_field, topology.tasks) if field is not None]
    if not marked:
        return []
    if settings.masks is None:
        return [
            Finding.problem(
                "topology",
                f"field {marked[0]!r} is sensitive, and there is no key to mask it with",
                "set STREAMFLOW_MASKING_KEY to a secret of 16 to 64 bytes",
            )
        ]
    return [Finding.ok("topology", "there is a key to mask its sensitive fields with")]


def _topology(topology: Topology | StreamflowError) -> Finding:
    if isinstance(topology, StreamflowError):
        return Finding.problem("topology", str(topology), "fix the topology or name another one")
    sources = ", ".join(repr(plan.source.topic) for plan in topology.tasks)
    archived = ", ".join(repr(sink.source) for sink in topology.archives)
    both = {"reads": sources, "archives": archived}
    does = " and ".join(f"{what} {topics}" for what, topics in both.items() if topics)
    return Finding.ok(
        "topology", f"topology {topology.name!r} of version {topology.version} {does}"
    )
